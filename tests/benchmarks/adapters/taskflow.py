"""Ours: a coroutine worker, every guarantee on, results kept."""

import contextlib
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bodies

from adapters import Body, Connected
from taskflow import Registry, TaskFlow

registry = Registry()
TASKS = {
    name: registry.task(name=name)(getattr(bodies, name))
    for name in ("noop", "late", "nap")
}
flow = TaskFlow(os.environ["BENCH_URL"], registry=registry)


def worker(slots: int) -> list[str]:
    """Return the command of one worker process."""
    program = str(Path(sys.executable).parent / "taskflow-worker")
    return [program, "--app", "adapters.taskflow:flow", "-c", str(slots)]


class _Producer:
    async def one(self, body: Body, argument: Any) -> None:
        await flow.aenqueue(TASKS[body].call(argument))

    async def many(self, body: Body, arguments: Sequence[Any]) -> bool:
        task = TASKS[body]
        await flow.aenqueue_many([task.call(argument) for argument in arguments])
        return True


@contextlib.asynccontextmanager
async def producer() -> Connected:
    """Connect; the flow keeps its connections for the next time."""
    yield _Producer()


def one_by_one(argument: Any, number: int) -> float:
    """Enqueue from a thread that blocks, which is how a web handler does."""
    task = TASKS["noop"]
    flow.enqueue(task.call(argument))
    begun = time.perf_counter()
    for _ in range(number):
        flow.enqueue(task.call(argument))
    return time.perf_counter() - begun
