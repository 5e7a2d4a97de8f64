"""A worker in somebody else's program: it returns, and the program lives on."""

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator

import pytest
from attrs import evolve

from taskflow import Registry, RetryPolicy, TaskFlow, TaskRecord, TaskState, Worker
from taskflow._client.tasks import TaskFilter
from taskflow._events import WorkerStopped
from tests.support.processes import wait_until

ONCE = RetryPolicy(max_retries=0)


@pytest.fixture
async def flow(redis_url: str) -> AsyncIterator[TaskFlow]:
    """Give a flow of its own on a real server."""
    prefix = f"hosted-{time.monotonic_ns()}:"
    async with TaskFlow(redis_url, prefix=prefix, registry=Registry()) as made:
        yield made


def short(flow: TaskFlow, grace: float = 1.0) -> Worker:
    """Make a worker with a short grace period."""
    settings = flow.connection.settings.worker
    return Worker(flow, settings=evolve(settings, stop_grace_period=grace))


async def dead(flow: TaskFlow, task_id: str) -> TaskRecord:
    """Wait until the task is a dead letter; returns its record."""
    async with asyncio.timeout(20):
        while (  # noqa: ASYNC110 - the server tells nobody
            await flow.tasks.aget(task_id)
        ).state is not TaskState.DLQ:
            await asyncio.sleep(0.02)
    return await flow.tasks.aget(task_id)


async def test_a_worker_returns_and_says_what_still_runs(flow: TaskFlow) -> None:
    """Even if task functions keep every thread of the loop's default executor."""
    go, leave, began = threading.Event(), asyncio.Event(), asyncio.Event()
    kept: list[asyncio.Task[None]] = []

    async def lingers() -> None:
        while not leave.is_set():
            try:
                await leave.wait()
            except asyncio.CancelledError:
                continue

    @flow.registry.task(name="leaves")
    async def leaves() -> None:
        kept.append(asyncio.create_task(lingers()))
        kept.extend(
            asyncio.create_task(asyncio.to_thread(go.wait, 60)) for _ in range(40)
        )

    loop = asyncio.get_running_loop()

    @flow.registry.task(name="stuck")
    def stuck() -> None:
        loop.call_soon_threadsafe(began.set)
        go.wait(60)

    worker, stopped = short(flow), list[WorkerStopped]()
    worker.events.subscribe(stopped.append, WorkerStopped)  # type: ignore[arg-type]
    before = worker.still_running
    working = asyncio.create_task(worker.arun())
    await (await flow.aenqueue(leaves.call())).aresult(timeout=20)
    handle = await flow.aenqueue(stuck.call())
    await asyncio.wait_for(began.wait(), 20)
    worker.stop()
    await asyncio.wait_for(working, 20)
    record = await flow.tasks.aget(handle.id)
    told = "\n".join(worker.still_running)

    assert () == before
    assert f"thread: function of task 'stuck' ({handle.id})" in told
    assert "lingers of task 'leaves'" in told
    assert [worker.still_running] == [each.still_running for each in stopped]
    assert (TaskState.PENDING, 0, 0) == (record.state, record.attempts, record.crashes)
    assert not kept[0].done()
    go.set()
    leave.set()
    await asyncio.gather(*kept)
    # The thread of `stuck` ends soon.
    await asyncio.to_thread(wait_until, lambda: not worker.still_running)


async def test_an_exit_in_a_task_function_does_not_end_the_program(
    flow: TaskFlow,
) -> None:
    """It is the task's end; the loop is the program's."""

    async def leave() -> None:
        sys.exit("config missing")

    @flow.registry.task(name="exits", retry=ONCE)
    async def exits() -> None:
        await asyncio.gather(leave())

    worker = short(flow)
    working = asyncio.create_task(worker.arun())
    handle = await flow.aenqueue(exits.call())
    record = await dead(flow, handle.id)
    worker.stop()
    await asyncio.wait_for(working, 20)

    assert ("SystemExit", "config missing") == (record.error_type, record.error_message)


async def test_a_task_function_that_cancels_everything_does_not_stop_the_worker(
    flow: TaskFlow,
) -> None:
    """Nor does what awaits the worker notice."""

    @flow.registry.task(name="cancels", retry=ONCE)
    async def cancels() -> None:
        for each in asyncio.all_tasks():
            if each is not waits_for_me:
                each.cancel()

    @flow.registry.task(name="add")
    async def add(x: int, y: int) -> int:
        return x + y

    waits_for_me = asyncio.current_task()
    worker = short(flow)
    working = asyncio.create_task(worker.arun())
    handle = await flow.aenqueue(cancels.call())
    record = await dead(flow, handle.id)
    result = await (await flow.aenqueue(add.call(2, 3))).aresult(timeout=20)
    is_working = not working.done()
    worker.stop()
    await asyncio.wait_for(working, 20)

    assert (5, True) == (result, is_working)
    assert "CancelledError" == record.error_type


@pytest.mark.parametrize("how", ["returns", "fails", "timeout"])
async def test_a_program_that_ends_releases_what_its_worker_holds(
    flow: TaskFlow, redis_url: str, how: str
) -> None:
    """`asyncio.run` cancels everything then: the worker, and what it runs."""
    began = threading.Event()

    async def child() -> None:
        began.set()
        await asyncio.sleep(60)

    @flow.registry.task(name="long", retry=ONCE)
    async def long() -> None:
        await asyncio.create_task(child())

    async def main() -> None:
        async with TaskFlow(
            redis_url, prefix=flow.connection.keys.prefix, registry=flow.registry
        ) as mine:
            worker = Worker(mine, concurrency=3)
            if how == "timeout":
                async with asyncio.timeout(1.5):
                    await worker.arun()
            working = asyncio.create_task(worker.arun())
            while not began.is_set():  # noqa: ASYNC110 - it is set in any loop
                await asyncio.sleep(0.02)
            if how == "fails":
                raise ArithmeticError
            del working

    handles = await flow.aenqueue_many([long.call() for _ in range(3)])
    error: type[Exception] | None = {
        "fails": ArithmeticError,
        "timeout": TimeoutError,
    }.get(how)
    running = asyncio.to_thread(lambda: asyncio.run(main()))
    if error is None:
        await running
    else:
        with pytest.raises(error):
            await running

    records = [await flow.tasks.aget(each.id) for each in handles]
    assert [(TaskState.PENDING, 0, 0)] * 3 == [
        (each.state, each.attempts, each.crashes) for each in records
    ]


PROGRAM = """
import asyncio, sys, threading, time
import taskflow

flow = taskflow.TaskFlow(sys.argv[1], prefix=sys.argv[2])

async def lingers():
    while True:
        try:
            await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            pass

@taskflow.task(name="leaves")
async def leaves() -> None:
    asyncio.create_task(lingers())
    for _ in range(40):
        asyncio.create_task(asyncio.to_thread(time.sleep, 3600))

@taskflow.task(name="naps")
async def naps() -> None:
    print("began", flush=True)
    await asyncio.sleep(3600)

@taskflow.task(name="computes")
async def computes() -> None:
    print("began", flush=True)
    until = time.monotonic() + 3
    while time.monotonic() < until:
        pass
    await asyncio.sleep(3600)

worker = taskflow.Worker(flow)
if sys.argv[3] == "stop":
    flow.enqueue(leaves.call())
flow.enqueue((computes if sys.argv[3] == "busy" else naps).call())
threading.Thread(target=lambda: sys.stdin.read(1) and worker.stop(), daemon=True).start()
try:
    if sys.argv[3] == "busy":
        asyncio.run(worker.arun())
    else:
        worker.run()
except KeyboardInterrupt:
    print("interrupted", flush=True)
print("returned", worker.still_running, flush=True)
import os
os._exit(0)  # the program's own business: its threads
"""


@pytest.mark.parametrize("how", ["stop", "interrupt", "busy"])
def test_run_returns_within_the_grace_period(redis_url: str, how: str) -> None:
    """Whatever is left on its loop; Ctrl-C is raised when all is released.

    Also if Ctrl-C interrupts a task function: it isn't the one that cancels.
    """
    prefix = f"hosted-{time.monotonic_ns()}:"
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, redis_url, prefix, how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"WORKER_STOP_GRACE_PERIOD": "2s"},
    ) as program:
        try:
            assert program.stdout is not None
            assert "began\n" == program.stdout.readline()
            if how == "stop":
                told, _ = program.communicate("x", timeout=30)
            else:
                program.send_signal(signal.SIGINT)
                told, _ = program.communicate(timeout=30)
        finally:
            program.kill()
    with TaskFlow(redis_url, prefix=prefix) as flow:
        states = flow.queues.status().states
        waiting = flow.tasks.list(TaskFilter(state=TaskState.PENDING)).items
        records = [flow.tasks.get(each.id) for each in waiting]

    assert "returned" in told
    assert ("interrupted" in told) == (how != "stop")
    assert ("coroutine lingers of task 'leaves'" in told) == (how == "stop")
    assert (1, 0) == (states[TaskState.PENDING], states[TaskState.ACTIVE])
    assert [(0, 0)] == [(each.attempts, each.crashes) for each in records]


async def test_run_refuses_a_thread_whose_loop_runs(flow: TaskFlow) -> None:
    """And names the way that it has."""
    with pytest.raises(RuntimeError, match=r"await Worker.arun\(\)"):
        Worker(flow).run()
