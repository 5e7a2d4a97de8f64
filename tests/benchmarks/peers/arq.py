"""arq as it comes, twenty jobs at a time."""

import contextlib
import os
from collections.abc import AsyncIterator
from typing import Any, ClassVar

from arq import create_pool
from arq.connections import RedisSettings
from arq.jobs import Job

from peers import body, command

REDIS = RedisSettings.from_dsn(os.environ["FAULT_URL"])


async def run(ctx: dict[str, Any], number: int, seconds: float) -> str:
    """Do what every task does."""
    del ctx
    return await body.arun(number, seconds)


class WorkerSettings:
    """Of the worker."""

    functions: ClassVar = [run]
    redis_settings = REDIS
    max_jobs = 20
    job_timeout = 5 if os.environ.get("FAULT_SHORT") else 300


class _Client:
    def __init__(self, pool: Any) -> None:
        self._pool = pool

    async def enqueue(self, number: int, seconds: float) -> str:
        job = await self._pool.enqueue_job("run", number, seconds)
        return str(job.job_id)

    async def result(self, task_id: str) -> str | None:
        found = await Job(task_id, self._pool).result_info()
        return None if found is None or not found.success else str(found.result)


@contextlib.asynccontextmanager
async def connect() -> AsyncIterator[_Client]:
    """Connect a producer."""
    pool = await create_pool(REDIS)
    try:
        yield _Client(pool)
    finally:
        await pool.aclose()


if __name__ == "__main__":
    command.main(connect())
