"""arq at its defaults: "pessimistic execution", a job stays queued until it ended.

What is made short is ``job_timeout``, five minutes by default: the key that says a
job is being worked on lives for the longest of these and ten seconds more ("Retrying
jobs and cancellation" in its documentation).
"""

import contextlib
from typing import Any, ClassVar

from arq import create_pool
from arq.connections import ArqRedis, RedisSettings
from arq.jobs import Job
from arq.worker import func

from peers import SHORT, URL, Connected, body

settings = RedisSettings.from_dsn(URL)


async def nap(context: dict[str, Any], number: int) -> str:
    """Run the body."""
    return await body.anap(number)


class WorkerSettings:
    """What ``arq`` reads."""

    functions: ClassVar = [func(nap, timeout=SHORT or None)]
    redis_settings = settings
    job_timeout = SHORT or 300
    max_jobs = 20


def worker(slots: int) -> list[str]:
    """Return the command of one worker process."""
    assert slots == WorkerSettings.max_jobs
    return ["arq", "peers.arq.WorkerSettings"]


class _Producer:
    def __init__(self, pool: ArqRedis) -> None:
        self._pool = pool

    async def enqueue(self, number: int) -> str:
        job = await self._pool.enqueue_job("nap", number)
        return str(job and job.job_id)

    async def result(self, name: str) -> str | None:
        info = await Job(name, self._pool).result_info()
        return info and info.result


@contextlib.asynccontextmanager
async def producer() -> Connected:
    """Connect, and close at the end."""
    pool = await create_pool(settings)
    try:
        yield _Producer(pool)
    finally:
        await pool.aclose()
