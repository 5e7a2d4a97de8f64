"""streaQ as it comes, twenty tasks at a time."""

import contextlib
import os
from collections.abc import AsyncIterator

from streaq import StreaqError, Worker

from peers import body, command

worker = Worker(
    redis_url=os.environ["FAULT_URL"],
    concurrency=20,
    **({"idle_timeout": 5} if os.environ.get("FAULT_SHORT") else {}),
)


@worker.task()
async def run(number: int, seconds: float) -> str:
    """Do what every task does."""
    return await body.arun(number, seconds)


class _Client:
    async def enqueue(self, number: int, seconds: float) -> str:
        return str((await run.enqueue(number, seconds)).id)

    async def result(self, task_id: str) -> str | None:
        with contextlib.suppress(StreaqError, TimeoutError):
            found = await worker.result_by_id(task_id, timeout=1)
            return str(found.result) if found.success else None
        return None


@contextlib.asynccontextmanager
async def connect() -> AsyncIterator[_Client]:
    """Connect a producer."""
    async with worker:
        yield _Client()


if __name__ == "__main__":
    command.main(connect())
