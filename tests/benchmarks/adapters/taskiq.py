"""taskiq on a Redis stream: acknowledged after the run, no results kept."""

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bodies
from taskiq_redis import RedisStreamBroker

from adapters import Body, Connected

broker = RedisStreamBroker(os.environ["BENCH_URL"])
TASKS = {
    name: broker.task(task_name=name)(getattr(bodies, name))
    for name in ("noop", "late", "nap")
}


def worker(slots: int) -> list[str]:
    """Return the command of one worker process."""
    program = str(Path(sys.executable).parent / "taskiq")
    return [
        *(program, "worker", "adapters.taskiq:broker", "--workers", "1"),
        *("--max-async-tasks", str(slots), "--log-level", "WARNING"),
    ]


class _Producer:
    async def one(self, body: Body, argument: Any) -> None:
        await TASKS[body].kiq(argument)

    async def many(self, body: Body, arguments: Sequence[Any]) -> bool:
        return False


@contextlib.asynccontextmanager
async def producer() -> Connected:
    """Connect, and make the consumer group: it sees only what comes later."""
    await broker.startup()
    try:
        yield _Producer()
    finally:
        await broker.shutdown()


def one_by_one(argument: Any, number: int) -> None:
    """There is no blocking call: `producer` is the way."""
