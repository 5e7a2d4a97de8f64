"""A worker in which something fails that should not: it harms no task."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from scarcity import Scarcity
from taskflow import Registry, TaskFlow, Worker
from taskflow._worker.executors import threads


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
    scarcity, ran = Scarcity(monkeypatch, 3), Counter[int]()

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
