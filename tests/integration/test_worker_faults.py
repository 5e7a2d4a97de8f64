"""A worker in which something fails that should not: it harms no task."""

import asyncio
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from taskflow import Registry, TaskFlow, TaskState, Worker
from taskflow._worker.executors import threads
from taskflow._worker.executors.local import LocalExecutor
from taskflow._worker.lease_table import LeaseReader
from taskflow._worker.scheduler import Scheduler
from tests.support.rlimits import ThreadLimit


@pytest.fixture
async def flow(redis_url: str) -> AsyncIterator[TaskFlow]:
    """Give a flow of its own on a real server."""
    prefix = f"faults-{time.monotonic_ns()}:"
    async with TaskFlow(redis_url, prefix=prefix, registry=Registry()) as made:
        yield made


async def test_a_worker_short_of_threads_runs_every_function_once(
    flow: TaskFlow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It uses those slots that there are threads for, and all once there are."""
    monkeypatch.setattr(threads, "PAUSE", 0.05)
    scarcity, ran = ThreadLimit(monkeypatch, 3), Counter[int]()

    @flow.registry.task(name="nap")
    def nap(x: int) -> int:
        ran[x] += 1
        time.sleep(0.02)
        return x

    worker = Worker(flow, concurrency=16)
    working = asyncio.create_task(worker.arun())
    handles = await flow.aenqueue_many([nap.call(x) for x in range(60)])
    results = [await each.aresult(20) for each in handles]
    records = [await flow.tasks.aget(each.id) for each in handles]

    assert list(range(60)) == results
    assert dict.fromkeys(range(60), 1) == ran
    assert {(0, 0)} == {(each.attempts, each.crashes) for each in records}
    assert (True, 3, False) == (
        scarcity.refused > 0,
        scarcity.alive(),
        working.done(),
    )
    worker.stop()
    await working


class OursError(Exception):
    """A fault in a worker's own code."""


class Fault:
    """Something of a worker's own that fails once, as soon as it is told to."""

    def __init__(self) -> None:
        self.is_due = asyncio.Event()

    async def loop(self, *_: Any) -> None:
        """Fail in the place of a loop."""
        await self.is_due.wait()
        raise OursError

    def before(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """Fail before *method*, which is called then."""

        def failing(*arguments: Any) -> Any:
            if self.is_due.is_set():
                self.is_due.clear()
                raise OursError
            return method(*arguments)

        return failing


@pytest.mark.parametrize("where", ["loop", "stopping", "channel"])
async def test_a_fault_of_its_own_hands_back_all_that_a_worker_holds(
    flow: TaskFlow, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """What runs, what waits, and what was in the hands of the loop that failed."""
    fault, began, go = Fault(), Counter[str](), threading.Event()
    if where == "channel":
        failing = fault.before(LocalExecutor._launch)
        monkeypatch.setattr(LocalExecutor, "_launch", failing)
    else:
        monkeypatch.setattr(Scheduler, "run", fault.loop)

    @flow.registry.task(name="coroutine")
    async def coroutine() -> None:
        began["coroutine"] += 1
        await asyncio.sleep(60)

    @flow.registry.task(name="function")
    def function() -> None:
        began["function"] += 1
        go.wait(30)

    @flow.registry.task(name="last")
    async def last() -> None:
        began["last"] += 1

    worker = Worker(flow, concurrency=8)
    working = asyncio.create_task(worker.arun())
    calls = [coroutine.call(), function.call()] * 2
    handles = await flow.aenqueue_many(calls)
    async with asyncio.timeout(10):
        while began.total() < len(calls):  # noqa: ASYNC110 - threads tell too
            await asyncio.sleep(0.01)
    if where == "stopping":
        worker.stop()
        await asyncio.sleep(0.1)
    fault.is_due.set()
    if where == "channel":
        handles += await flow.aenqueue_many([last.call(), last.call()])
    with pytest.raises(ExceptionGroup) as caught:
        await asyncio.wait_for(working, 20)
    go.set()

    assert caught.group_contains(OursError)
    records = [await flow.tasks.aget(each.id) for each in handles]
    assert {(0, 0)} == {(each.attempts, each.crashes) for each in records}
    assert {TaskState.PENDING} == {each.state for each in records}


@pytest.mark.skipif(sys.platform != "linux", reason="no standby process elsewhere")
@pytest.mark.parametrize("fails", [False, True], ids=["stopped", "failed"])
async def test_a_worker_that_is_over_has_no_standby_process(
    flow: TaskFlow, monkeypatch: pytest.MonkeyPatch, *, fails: bool
) -> None:
    """Its process may last; what it could not hand back begins again elsewhere."""
    fault, began = Fault(), asyncio.Event()
    monkeypatch.setattr(Scheduler, "run", fault.loop)
    worker = Worker(flow, concurrency=1)

    @flow.registry.task(name="long", timeout=30.0)
    async def long() -> None:
        began.set()
        await asyncio.sleep(60)

    working = asyncio.create_task(worker.arun())
    await flow.aenqueue(long.call())
    before = time.monotonic()
    await asyncio.wait_for(began.wait(), 10)
    table, process = worker._standby.table, worker._standby._process
    assert table is not None
    assert process is not None
    ((until, _),) = LeaseReader(table.descriptor).leases()
    assert process.poll() is None
    if fails:
        fault.is_due.set()
    else:
        worker.stop(now=True)
    await asyncio.wait([working], timeout=20)

    assert before + 30.0 <= until <= time.monotonic() + 30.0
    assert fails == (working.exception() is not None)
    assert 0 == process.poll()
