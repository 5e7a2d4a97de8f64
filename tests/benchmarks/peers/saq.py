"""SAQ with four tries a job, twenty jobs at a time."""

import contextlib
import os
from collections.abc import AsyncIterator
from typing import Any

from saq import Queue

from peers import body, command

IS_SHORT = bool(os.environ.get("FAULT_SHORT"))
queue = Queue.from_url(os.environ["FAULT_URL"])


async def run(ctx: dict[str, Any], *, number: int, seconds: float) -> str:
    """Do what every task does."""
    del ctx
    return await body.arun(number, seconds)


settings = {
    "queue": queue,
    "functions": [run],
    "concurrency": 20,
    **({"timers": {"sweep": 2}} if IS_SHORT else {}),
}


class _Client:
    async def enqueue(self, number: int, seconds: float) -> str:
        job = await queue.enqueue(
            *("run",),
            number=number,
            seconds=seconds,
            retries=4,
            timeout=5 if IS_SHORT else 10,
        )
        return "" if job is None else job.key

    async def result(self, task_id: str) -> str | None:
        job = await queue.job(task_id)
        return None if job is None or job.result is None else str(job.result)


@contextlib.asynccontextmanager
async def connect() -> AsyncIterator[_Client]:
    """Connect a producer."""
    await queue.connect()
    try:
        yield _Client()
    finally:
        await queue.disconnect()


if __name__ == "__main__":
    command.main(connect())
