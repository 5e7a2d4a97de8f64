"""Real workers of both engines, behind proxies, and everything that can go wrong.

``nox -s chaos -- --minutes 60`` is the long run. ``TASKFLOW_SEED`` repeats a run's
choices, ``TASKFLOW_KILLS`` says how many workers are killed, and
``TASKFLOW_SERVER_KILLS`` how often the server is.
"""

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from taskflow import TaskState
from taskflow._protocol import scripts
from taskflow._protocol.settle import complete, settle
from taskflow._protocol.upkeep import reap
from taskflow.errors import ServerFullError, TaskNotFoundError
from tests.support import chaos_app
from tests.support.chaos import ChaosDeployment
from tests.support.invariants import broken
from tests.support.keyspace import LEASE as LONG_LEASE
from tests.support.keyspace import NOW, dump
from tests.support.processes import LEASE, wait_until

MINUTES = float(os.environ.get("TASKFLOW_MINUTES", "0"))
KILLS = int(os.environ.get("TASKFLOW_KILLS", "6"))
SERVER_KILLS = int(os.environ.get("TASKFLOW_SERVER_KILLS", "3"))
CYCLES = int(os.environ.get("TASKFLOW_CYCLES", "1"))
SEED = int(os.environ.get("TASKFLOW_SEED", "0")) or random.randrange(1, 10**6)
ENGINES = {
    "asyncio": ("--executor", "asyncio", "--concurrency", "20"),
    "celery": ("--executor", "celery", "--concurrency", "2"),
}
DEEDS = {
    "kill": 6,
    "kill_child": 3,
    "freeze": 2,
    "stop": 2,
    "trap": 6,
    "cut": 2,
    "hold": 2,
    "hold_replies": 2,
    "lose_replies": 4,
    "slow_down": 1,
    "kill_server": 1,
    "forget_scripts": 2,
    "kill_clients": 2,
    "fill_memory": 1,
    "cancel": 4,
    "pause": 1,
}
SHORT_LEASE = 2.0
BODIES = (chaos_app.works, chaos_app.aworks)

pytestmark = [
    pytest.mark.deep,
    pytest.mark.timeout(300 + 90 * MINUTES + 3 * KILLS + 6 * SERVER_KILLS),
]


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Give the arguments of a worker with each engine."""
    if request.param == "celery":
        pytest.importorskip("celery")
    return ENGINES[request.param]


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[ChaosDeployment]:
    """Give a server, and nobody who works yet."""
    made = ChaosDeployment(tmp_path, SEED)
    print("seed", SEED)  # noqa: T201 - repeats the run
    yield made
    made.close()


@pytest.fixture
def durable(tmp_path: Path) -> Iterator[ChaosDeployment]:
    """Give a server that acknowledges nothing before it is on the disk."""
    made = ChaosDeployment(tmp_path, SEED, options=("--appendfsync", "always"))
    print("seed", SEED)  # noqa: T201 - repeats the run
    yield made
    made.close()


def some(deployment: ChaosDeployment, count: int) -> list[Any]:
    """Give calls that take up to 0.2 s; a few of them harm their worker."""
    bodies = deployment.rng.choices((*BODIES, chaos_app.blocks), (48, 48, 4), k=count)
    return [body.call(deployment.rng.uniform(0.0, 0.2)) for body in bodies]


def test_everything_at_once_loses_and_doubles_nothing(
    deployment: ChaosDeployment, engine: tuple[str, ...]
) -> None:
    """Thirty deeds at random, or for minutes; then every task has its one end.

    One of the asyncio workers is a supervisor with two children: to kill it is to
    leave them alone.
    """
    supervised = () if "celery" in engine else ("--processes", "2")
    for more in ((), supervised):
        deployment.play(*engine, *more, WORKER_STOP_GRACE_PERIOD="1s")
    there = 3 if supervised else 2
    wait_until(lambda: deployment.alive() == there)
    deployment.enqueue([chaos_app.pill.call(0.1), chaos_app.dies.call(0.1)])
    ends = time.monotonic() + 60 * MINUTES
    left = 30
    while left > 0 or time.monotonic() < ends:
        if deployment.backlog() < 200:
            deployment.enqueue(some(deployment, 50))
        names, weights = list(DEEDS), list(DEEDS.values())
        deployment.do(deployment.rng.choices(names, weights)[0])
        left -= 1
        time.sleep(deployment.rng.uniform(0.0, 0.6))
        deployment.tidy()

    deployment.settle_down(120.0)

    figures = deployment.judge()
    print(len(deployment.acknowledged), figures, dict(deployment.done))  # noqa: T201 - a report
    proof = deployment.flow.doctor()[-2:]
    assert ["ok", "ok"] == [each.severity for each in proof], proof
    # The children of supervisors that were killed are gone, and no others came.
    wait_until(lambda: deployment.alive() == there)


def test_tasks_of_killed_workers_start_again_in_time(
    deployment: ChaosDeployment,
) -> None:
    """Within the lease and one second, as long as one worker lives."""
    victims = [deployment.play(*ENGINES["asyncio"]) for _ in range(2)]
    deployment.play("--executor", "asyncio", "--concurrency", "40")
    wait_until(lambda: deployment.alive() == 3)
    time.sleep(LEASE)  # from then on the third may reap
    kills: list[tuple[int, float]] = []

    for number in range(KILLS):
        victim = victims[number % 2]
        pid = victim.pid
        wait_until(lambda pid=pid: has_begun(deployment, pid))
        time.sleep(deployment.rng.uniform(0.0, 0.3))
        victim.kill()
        kills.append((pid, time.time()))
        victim.start()

    deployment.settle_down(120.0)

    judge_restarts(deployment, kills)


def test_tasks_of_killed_children_of_a_supervisor_start_again_in_time(
    deployment: ChaosDeployment,
) -> None:
    """Within the lease and one second too: each child is a worker with leases."""
    supervisor = deployment.play(*ENGINES["asyncio"], "--processes", "2")
    deployment.play("--executor", "asyncio", "--concurrency", "40")
    wait_until(lambda: deployment.alive() == 3)
    time.sleep(LEASE)  # from then on the third may reap
    kills: list[tuple[int, float]] = []

    # Each of them once: what ends soon after its start is started ever later.
    for pid in supervisor.children():
        wait_until(lambda pid=pid: has_begun(deployment, pid))
        time.sleep(deployment.rng.uniform(0.0, 0.3))
        os.kill(pid, signal.SIGKILL)
        kills.append((pid, time.time()))

    deployment.settle_down(120.0)

    judge_restarts(deployment, kills)


def has_begun(deployment: ChaosDeployment, pid: int) -> bool:
    """Tell whether a process has begun a task, and see that there is one for it."""
    if deployment.backlog() < 100:
        deployment.enqueue(some(deployment, 50))
    return deployment.has_begun(pid)


def judge_restarts(deployment: ChaosDeployment, kills: list[tuple[int, float]]) -> None:
    """Hold the waits of the tasks of killed workers against what was promised."""
    figures = deployment.judge()
    waits = sorted(deployment.restarts(kills))
    print(  # noqa: T201 - a report
        *(
            len(deployment.acknowledged),
            figures,
            "kills",
            len(kills),
            "again",
            len(waits),
        ),
        f"p50 {waits[len(waits) // 2]:.2f} s, longest {waits[-1]:.2f} s",
        f"late {sum(each > LEASE + 1.0 for each in waits)}",
    )
    assert waits
    assert waits[len(waits) * 95 // 100] <= LEASE + 1.0
    assert waits[-1] <= LEASE + 3.0  # a busy machine starts a few of them later
    # Three crashes make a poison pill; a body may not have begun when its worker died.
    begun = deployment.lines("start")
    for letter in deployment.flow.dlq.list().items:
        assert 3 == letter.crashes >= sum(row[0] == letter.id for row in begun)


def hold(deployment: ChaosDeployment) -> Callable[[], None]:
    """Let nothing pass between the workers and the server."""
    for player in deployment.players:
        player.proxy.hold()

    def heal() -> None:
        for player in deployment.players:
            player.proxy.heal()

    return heal


def freeze(deployment: ChaosDeployment) -> Callable[[], None]:
    """Let the server stand still."""
    deployment.freeze_server()
    return deployment.thaw_server


def kill(deployment: ChaosDeployment) -> Callable[[], None]:
    """End the server as a crash of its machine would."""
    deployment.kill_server()
    return deployment.start_server


@pytest.mark.parametrize(
    ("deed", "leases"),
    [(hold, 1), (hold, 2), (hold, 4), (freeze, 4), (kill, 4)],
    ids=lambda each: getattr(each, "__name__", each),
)
def test_an_outage_repeats_nothing_of_what_runs(
    durable: ChaosDeployment,
    deed: Callable[[ChaosDeployment], Callable[[], None]],
    leases: int,
) -> None:
    """A hundred tasks run on through it, and are settled after it: none again."""
    deployment = durable
    for _ in range(2):
        deployment.play(
            *("--executor", "asyncio", "--concurrency", "50"),
            TASKFLOW_LEASE=str(SHORT_LEASE),
        )
    wait_until(lambda: deployment.alive() == 2)
    seconds = 1.0 + (leases + 0.5) * SHORT_LEASE
    deployment.enqueue(
        [
            chaos_app.aworks.call(deployment.rng.uniform(1.0, seconds))
            for _ in range(100)
        ]
    )
    wait_until(lambda: len(deployment.lines("start")) == 100)

    undo = deed(deployment)
    time.sleep(leases * SHORT_LEASE)
    undo()

    deployment.settle_down(60.0)
    figures = deployment.judge()
    assert (100, 100, 0) == (
        figures["COMPLETED"],
        figures["runs"],
        figures["crashes"],
    )


def test_a_server_that_writes_always_forgets_nothing_when_it_is_killed(
    durable: ChaosDeployment,
) -> None:
    """What was acknowledged is there and runs once, however often it is killed."""
    deployment = durable
    for _ in range(2):
        deployment.play("--executor", "asyncio", "--concurrency", "20")
    wait_until(lambda: deployment.alive() == 2)
    done, tried = threading.Event(), Counter[str]()

    def load(name: str) -> None:
        while not done.wait(0.005):
            tried[name] += 1
            deployment.enqueue([chaos_app.aworks.call(0.02)])

    threads = [threading.Thread(target=load, args=(each,)) for each in "abcd"]
    for each in threads:
        each.start()
    try:
        for _ in range(SERVER_KILLS):
            heard = len(deployment.acknowledged)
            wait_until(lambda heard=heard: len(deployment.acknowledged) > heard + 20)
            time.sleep(deployment.rng.uniform(0.0, 0.5))
            deployment.kill_server()
            time.sleep(deployment.rng.uniform(0.0, 0.3))
            deployment.start_server()
    finally:
        done.set()
        for each in threads:
            each.join()

    deployment.settle_down(120.0)

    figures, count = deployment.judge(), len(deployment.acknowledged)
    stored = len(deployment.client.keys("task:*"))
    print(  # noqa: T201 - a report
        *(SERVER_KILLS, "kills", count, figures, "stored", stored),
        *("tried", tried.total(), dict(deployment.done)),
    )
    assert (count, count, 0) == (
        figures["COMPLETED"],
        figures["runs"],
        figures["crashes"],
    )
    assert count <= stored <= tried.total()


def test_a_worker_that_is_cut_off_cannot_settle_what_another_ran(
    deployment: ChaosDeployment,
) -> None:
    """The other one takes its tasks over, and its late results are refused."""
    first = deployment.play("--executor", "asyncio", "--concurrency", "20")
    wait_until(lambda: deployment.alive() == 1)
    deployment.enqueue([chaos_app.aworks.call(1.5 * LEASE) for _ in range(20)])
    wait_until(lambda: len(deployment.lines("start")) == 20)
    deployment.play("--executor", "asyncio", "--concurrency", "20")
    wait_until(lambda: deployment.alive() == 2)

    first.proxy.hold()
    wait_until(lambda: len(deployment.lines("start")) == 40, 10 * LEASE)
    first.proxy.heal()

    deployment.settle_down(60.0)
    figures = deployment.judge()
    assert (20, 40, 20) == (figures["COMPLETED"], figures["runs"], figures["crashes"])
    wait_until(lambda: "lease lost" in deployment.said(first.process))


@pytest.mark.parametrize("script", ["claim", "settle", "extend"])
@pytest.mark.parametrize("side", ["before", "after"])
def test_a_worker_that_dies_at_a_call_loses_nothing(
    deployment: ChaosDeployment, side: Any, script: str
) -> None:
    """As its call is on the way, or as the answer is: each task has its one end."""
    doomed = deployment.play(*ENGINES["asyncio"], TASKFLOW_LEASE="1")
    wait_until(lambda: deployment.alive() == 1)
    deployment.enqueue([chaos_app.aworks.call(0.8) for _ in range(3)])
    if script != "claim":
        wait_until(lambda: len(deployment.lines("start")) == 3)

    doomed.trap(script, side)
    deployment.enqueue([chaos_app.aworks.call(0.0) for _ in range(3)])

    wait_until(lambda: not doomed.is_alive)
    doomed.start()
    deployment.settle_down(30.0)
    assert 6 == deployment.judge()["COMPLETED"]


def test_a_full_server_drains_and_renews(deployment: ChaosDeployment) -> None:
    """No lease is lost and no task half stored while there is no memory."""
    deployment.play("--executor", "asyncio", "--concurrency", "20")
    wait_until(lambda: deployment.alive() == 1)
    for _ in range(CYCLES):
        deployment.enqueue([chaos_app.aworks.call(1.2 * LEASE) for _ in range(10)])
        deployment.enqueue([chaos_app.aworks.call(0.05) for _ in range(500)])
        stored = len(deployment.acknowledged)
        deployment.client.config_set("maxmemory", 1)
        refused = 0
        ends = time.monotonic() + 1.5 * LEASE
        while time.monotonic() < ends or deployment.backlog():
            try:
                deployment.flow.enqueue_many(some(deployment, 20))
            except ServerFullError:
                refused += 1
            time.sleep(0.05)
        assert refused >= 10
        deployment.client.config_set("maxmemory", 0)
        assert stored == len(deployment.client.keys("task:*"))

    figures = deployment.judge()
    assert (len(deployment.acknowledged), 0) == (
        figures["COMPLETED"],
        figures["crashes"],
    )
    assert figures["runs"] == figures["COMPLETED"]


def test_a_server_that_comes_back_empty_gets_no_ghosts(
    deployment: ChaosDeployment,
) -> None:
    """What it forgot is gone, settles of it write nothing, new tasks run."""
    player = deployment.play("--executor", "asyncio", "--concurrency", "20")
    wait_until(lambda: deployment.alive() == 1)
    handles = deployment.flow.enqueue_many(
        [chaos_app.aworks.call(2.0) for _ in range(30)]
    )
    wait_until(lambda: len(deployment.lines("start")) == 20)

    deployment.kill_server()
    for each in deployment.data.rglob("*aof*"):
        if each.is_file():
            each.unlink()
    deployment.start_server()

    assert 1 == deployment.flow.enqueue(chaos_app.aworks.call(0.0)).result(timeout=30)
    wait_until(lambda: "lease lost" in deployment.said(player.process))
    for handle in handles:
        with pytest.raises(TaskNotFoundError):
            handle.info()
    deployment.enqueue(some(deployment, 5))
    deployment.settle_down(30.0)
    assert 5 == deployment.judge()["COMPLETED"]
    assert player.is_alive


def test_a_worker_that_is_asked_to_stop_under_load_hands_all_back(
    deployment: ChaosDeployment, engine: tuple[str, ...]
) -> None:
    """It ends by itself, with nothing in its hands, and another goes on."""
    worker = deployment.play(*engine, WORKER_STOP_GRACE_PERIOD="1s")
    wait_until(lambda: deployment.alive() == 1)
    deployment.enqueue([chaos_app.aworks.call(3.0) for _ in range(2)])
    deployment.enqueue(some(deployment, 60))
    wait_until(lambda: len(deployment.lines("end")) >= 10)

    worker.signal(signal.SIGTERM)

    assert 0 == worker.process.wait(30)
    assert 0 == deployment.count(TaskState.ACTIVE)
    worker.start()
    deployment.settle_down(60.0)
    figures = deployment.judge()
    assert (62, 0) == (figures["COMPLETED"], figures["crashes"])


def test_a_worker_that_stops_as_its_claim_is_cut_off_hands_back_what_it_was_given(
    deployment: ChaosDeployment,
) -> None:
    """The server has handed out twenty tasks, and nobody has heard of it."""
    script = scripts.load("claim")
    deployment.client.script_load(script.source)
    deployment.enqueue([chaos_app.aworks.call(0.0) for _ in range(20)])
    worker = deployment.play("--executor", "asyncio", "--concurrency", "20")
    stopped = threading.Event()

    def stop() -> None:
        worker.signal(signal.SIGTERM)
        worker.proxy.cut()
        stopped.set()

    worker.proxy.trap(script.sha, "after", stop)
    assert stopped.wait(30)
    assert 20 == deployment.count(TaskState.ACTIVE)
    time.sleep(1.5)  # longer than a call is sent again by itself
    worker.proxy.heal()

    assert 0 == worker.process.wait(30)
    assert (20, 0) == (
        deployment.count(TaskState.PENDING),
        deployment.count(TaskState.ACTIVE),
    )
    worker.start()
    deployment.settle_down(30.0)
    figures = deployment.judge()
    assert (20, 20, 0) == (figures["COMPLETED"], figures["runs"], figures["crashes"])


def test_a_blocked_loop_costs_no_crash_of_what_it_was_given_and_has_not_seen(
    deployment: ChaosDeployment,
) -> None:
    """The answer to a claim lies unread for three leases; its tasks go to another."""
    for _ in range(2):
        player = deployment.play(*ENGINES["asyncio"], TASKFLOW_LEASE="1")
        player.proxy.delay = 0.02  # so that some answer is nearly always underway
    wait_until(lambda: deployment.alive() == 2)
    for _ in range(3):
        deployment.enqueue([chaos_app.aworks.call(0.01) for _ in range(300)])
        deployment.enqueue([chaos_app.blocks.call(3.0)])
        deployment.enqueue([chaos_app.aworks.call(0.01) for _ in range(300)])
        wait_until(lambda: not deployment.backlog())

    figures = deployment.judge()
    assert (1803, 1803, 0) == (
        figures["COMPLETED"],
        figures["runs"],
        figures["crashes"],
    )


def test_no_late_settle_of_five_hundred_writes_a_key(real_stage: Any) -> None:
    """Each is refused, and the keyspace is the same byte for byte."""
    stage = real_stage
    late = []
    for batch in range(5):
        ids = [f"{batch}-{each}" for each in range(100)]
        late += stage.claimed(*ids)
    now = NOW + LONG_LEASE + 1
    taken = 0
    while taken < 500:
        taken += len(stage.send(reap(stage.keys, max_crashes=3, now_ms=now)))
    again = [each for _ in range(5) for each in stage.claim(100, now_ms=now).claims]
    assert 500 == len(again)
    before = dump(stage.client)
    for first in range(0, 500, 100):
        outcomes = [complete(each, b"1") for each in late[first : first + 100]]
        words = stage.send(settle(stage.keys, outcomes, now_ms=now))
        assert ["STALE"] * 100 == words
    assert before == dump(stage.client)
    assert [] == broken(before, now_ms=now, lease_ms=LONG_LEASE)
