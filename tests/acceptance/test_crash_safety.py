"""Real worker processes, killed, frozen and cut off: nothing lost or doubled.

The bodies append a line to a file when they start and when they end; that file,
and not the server, is the truth about what ran.
"""

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskflow import Registry, TaskState
from tests.support.processes import LEASE, Deployment, wait_until

pytestmark = pytest.mark.timeout(240)

APP = """
import asyncio, os, signal, time
from taskflow import Context, Registry

registry = Registry()

def log(*words):
    line = " ".join(map(str, words)) + f" {time.monotonic():.3f}\\n"
    file = os.open(os.environ["RUN_LOG"], os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    os.write(file, line.encode())
    os.close(file)

@registry.task(name="nap")
async def nap(ctx: Context, number: int, seconds: float) -> int:
    log("start", number, ctx.deliveries)
    await asyncio.sleep(seconds)
    log("end", number, ctx.deliveries)
    return number

@registry.task(name="hold")
async def hold(ctx: Context, number: int) -> int:
    log("start", number, ctx.deliveries)
    if ctx.deliveries == 1:
        await asyncio.sleep(3600)
    log("end", number, ctx.deliveries)
    return number

@registry.task(name="block")
async def block(ctx: Context, seconds: float) -> int:
    log("start", "block", ctx.deliveries)
    time.sleep(seconds)
    log("end", "block", ctx.deliveries)
    return 1

@registry.task(name="watch")
def watch(ctx: Context) -> None:
    log("start", "watch", ctx.deliveries)
    until = time.monotonic() + 60
    while not ctx.cancelled and time.monotonic() < until:
        time.sleep(0.02)
    log("end", "watch", ctx.deliveries)
    raise InterruptedError

@registry.task(name="pill")
async def pill(ctx: Context) -> None:
    log("start", "pill", ctx.deliveries)
    await asyncio.sleep(0.05)
    os.kill(os.getpid(), signal.SIGKILL)
"""

registry = Registry()


@registry.task(name="nap")
def nap(number: int, seconds: float) -> int:
    """Stand for the worker's task of this name."""
    raise NotImplementedError(number, seconds)


@registry.task(name="hold")
def hold(number: int) -> int:
    """Stand for the worker's task of this name, which ends at its second delivery."""
    raise NotImplementedError(number)


@registry.task(name="block")
def block(seconds: float) -> int:
    """Stand for the worker's task of this name."""
    raise NotImplementedError(seconds)


@registry.task(name="watch")
def watch() -> None:
    """Stand for the worker's task of this name."""


@registry.task(name="pill")
def pill() -> None:
    """Stand for the worker's task of this name."""


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    """Give a server and nobody who works yet."""
    made = Deployment(tmp_path, APP, registry)
    yield made
    made.close()


def test_the_tasks_of_a_killed_worker_start_again_on_another(
    deployment: Deployment,
) -> None:
    """All 20, on another worker, on a queue that is otherwise idle; each once."""
    first = deployment.worker("-c", "20")
    wait_until(lambda: deployment.alive() == 1)
    handles = deployment.flow.enqueue_many([hold.call(n) for n in range(20)])
    wait_until(lambda: len(deployment.lines("start")) == 20)
    deployment.worker("-c", "20")
    wait_until(lambda: deployment.alive() == 2)
    time.sleep(2.0)  # two beats: from then on the other may reap

    first.kill()
    results = [handle.result(timeout=90) for handle in handles]

    again = [name for name, delivery, _ in deployment.lines("start") if delivery == 2]
    assert list(range(20)) == results
    assert 20 == len(set(again)) == len(again)
    assert [1] * 20 == list(
        Counter(name for name, _, _ in deployment.lines("end")).values()
    )


def test_a_worker_frozen_past_its_lease_cannot_settle_and_says_so(
    deployment: Deployment,
) -> None:
    """The second run's result stands, and the record has one crash."""
    first = deployment.worker("-c", "1")
    handle = deployment.flow.enqueue(nap.call(7, 1.5))
    wait_until(lambda: deployment.lines("start"))
    first.send_signal(signal.SIGSTOP)
    second = deployment.worker("-c", "1")

    assert 7 == handle.result(timeout=90)

    second.terminate()
    second.wait()
    first.send_signal(signal.SIGCONT)
    wait_until(lambda: "lease lost" in deployment.said(first))
    assert "lease lost" not in deployment.said(second)
    record = deployment.flow.tasks.get(handle.id)
    assert (TaskState.COMPLETED, 2, 1, 0) == (
        record.state,
        record.deliveries,
        record.crashes,
        record.attempts,
    )


@pytest.mark.deep
def test_one_poison_pill_among_a_hundred_is_found(deployment: Deployment) -> None:
    """Exactly it is dead-lettered, after three crashes; the 99 complete."""
    calls = [nap.call(n, 0.1) for n in range(99)]
    deployment.flow.enqueue_many(calls[:50])
    deployment.flow.enqueue(pill.call())
    deployment.flow.enqueue_many(calls[50:])
    supervisor = deployment.worker("-c", "10", "--processes", "2")

    wait_until(lambda: deployment.count(TaskState.COMPLETED) == 99, patience=90)
    wait_until(lambda: deployment.count(TaskState.DLQ) == 1)

    (letter,) = deployment.flow.dlq.list().items
    assert ("pill", "poison", 3) == (letter.name, letter.cause, letter.crashes)
    starts = Counter(name for name, _, _ in deployment.lines("start"))
    assert 3 == starts.pop("pill")
    assert {str(n) for n in range(99)} == {
        name for name, _, _ in deployment.lines("end")
    }
    # Three crashes, each of at most ten bodies, the pill among them.
    assert starts.total() <= 99 + 3 * 9
    assert max(starts.values()) <= 3
    supervisor.terminate()
    assert 0 == supervisor.wait(60)


@pytest.mark.deep
def test_a_coroutine_that_blocks_the_loop_for_three_leases_runs_once(
    deployment: Deployment,
) -> None:
    """Leases are kept from a thread, and somebody is told of the block."""
    first = deployment.worker()
    second = deployment.worker()
    wait_until(lambda: deployment.alive() == 2)

    handle = deployment.flow.enqueue(block.call(3 * LEASE))

    assert 1 == handle.result(timeout=90)
    assert 1 == len(deployment.lines("start"))
    wait_until(
        lambda: "loop blocked" in deployment.said(first) + deployment.said(second)
    )


def test_a_worker_that_is_asked_to_stop_finishes_what_it_runs(
    deployment: Deployment,
) -> None:
    """Short tasks end, the rest waits for another; nothing is counted."""
    worker = deployment.worker("-c", "5")
    deployment.flow.enqueue_many([nap.call(n, 3.0) for n in range(8)])
    wait_until(lambda: len(deployment.lines("start")) >= 5)

    worker.send_signal(signal.SIGTERM)

    assert 0 == worker.wait(60)
    states = deployment.flow.queues.status().states
    assert (5, 3, 0) == (
        states[TaskState.COMPLETED],
        states[TaskState.PENDING],
        states[TaskState.ACTIVE],
    )


def test_what_cannot_be_finished_in_time_is_handed_back_unharmed(
    deployment: Deployment,
) -> None:
    """After the grace at once on another worker; no attempt, no crash."""
    worker = deployment.worker("-c", "5", WORKER_STOP_GRACE_PERIOD="1s")
    handles = deployment.flow.enqueue_many([hold.call(n) for n in range(5)])
    wait_until(lambda: len(deployment.lines("start")) == 5)

    worker.send_signal(signal.SIGTERM)

    assert 0 == worker.wait(60)
    assert 5 == deployment.count(TaskState.PENDING)
    deployment.worker("-c", "5")
    assert list(range(5)) == [handle.result(timeout=90) for handle in handles]
    records = [deployment.flow.tasks.get(handle.id) for handle in handles]
    assert [(0, 0, 2)] * 5 == [
        (each.attempts, each.crashes, each.deliveries) for each in records
    ]


def test_a_second_signal_hands_back_now(deployment: Deployment) -> None:
    """Whoever is in a hurry signals twice."""
    worker = deployment.worker("-c", "2")
    deployment.flow.enqueue_many([nap.call(n, 60.0) for n in range(2)])
    wait_until(lambda: len(deployment.lines("start")) == 2)

    worker.send_signal(signal.SIGINT)
    wait_until(lambda: "worker stopping" in deployment.said(worker))
    worker.send_signal(signal.SIGINT)

    assert 0 == worker.wait(60)
    assert 2 == deployment.count(TaskState.PENDING)


def test_a_killed_worker_process_is_replaced_by_its_supervisor(
    deployment: Deployment,
) -> None:
    """What it ran starts again, and the other one goes on."""
    supervisor = deployment.worker("--processes", "2")
    wait_until(lambda: deployment.alive() == 2)
    before = {each.info["pid"] for each in deployment.flow.workers.list() if each.alive}
    victim = before.pop()

    os.kill(victim, signal.SIGKILL)

    def replaced() -> bool:
        there = {
            each.info["pid"] for each in deployment.flow.workers.list() if each.alive
        }
        return bool(there - before - {victim}) and before <= there

    wait_until(replaced)
    assert f"worker process {victim} was ended by SIGKILL" in deployment.said(
        supervisor
    )
    assert 1 == deployment.flow.enqueue(nap.call(1, 0.0)).result(timeout=90)
    supervisor.terminate()
    assert 0 == supervisor.wait(60)


def test_a_function_that_watches_for_a_cancel_is_stopped_by_one(
    deployment: Deployment,
) -> None:
    """Within one renewal of its lease; it is not run again."""
    worker = deployment.worker("-c", "1")
    handle = deployment.flow.enqueue(watch.call())
    wait_until(lambda: deployment.lines("start"))

    handle.cancel()

    wait_until(lambda: handle.info().state is TaskState.CANCELLED)
    assert [("watch", 1)] == [line[:2] for line in deployment.lines("end")]
    assert 1 == deployment.flow.enqueue(nap.call(1, 0.0)).result(timeout=90)
    assert worker.poll() is None


def test_the_workers_of_a_killed_supervisor_stop_by_themselves(
    deployment: Deployment,
) -> None:
    """They finish what they run, and no orphan goes on for ever."""
    supervisor = deployment.worker("--processes", "2")
    wait_until(lambda: deployment.alive() == 2)
    handle = deployment.flow.enqueue(nap.call(1, 1.0))
    wait_until(lambda: deployment.lines("start"))

    supervisor.kill()

    assert 1 == handle.result(timeout=90)
    wait_until(lambda: deployment.alive() == 0)


def test_a_server_that_dies_for_two_leases_loses_and_doubles_nothing(
    deployment: Deployment,
) -> None:
    """Killed under load with AOF: the worker waits, and settles what it ran."""
    worker = deployment.worker("-c", "20")
    handles = deployment.flow.enqueue_many([nap.call(n, 4.0) for n in range(20)])
    handles += deployment.flow.enqueue_many([nap.call(n, 0.1) for n in range(20, 60)])
    wait_until(lambda: len(deployment.lines("start")) == 20)
    time.sleep(1.5)  # the server writes what it acknowledged, every second

    deployment.kill_server()
    time.sleep(2.5 * LEASE)
    deployment.start_server()

    assert list(range(60)) == [handle.result(timeout=60) for handle in handles]
    assert [1] * 60 == list(
        Counter(name for name, _, _ in deployment.lines("start")).values()
    )
    assert worker.poll() is None


def test_a_worker_waits_for_a_server_that_is_not_there_yet(
    deployment: Deployment,
) -> None:
    """A start in the wrong order is no failure."""
    deployment.kill_server()
    worker = deployment.worker()
    wait_until(lambda: "server lost" in deployment.said(worker))

    deployment.start_server()

    assert 3 == deployment.flow.enqueue(nap.call(3, 0.0)).result(timeout=90)
    assert worker.poll() is None
