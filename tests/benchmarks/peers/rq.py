"""RQ with three retries, a pool of four workers that fork for each job.

The same module is the configuration of the pool (``-c peers.rq``).
"""

import contextlib
import os
from collections.abc import AsyncIterator
from typing import Any

from redis import Redis
from rq import Queue, Retry, Worker
from rq.job import Job

from peers import body, command

REDIS_URL = os.environ["FAULT_URL"]
QUEUES = ["default"]


class Sweeper(Worker):
    """A worker that may look for abandoned jobs sooner."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if os.environ.get("FAULT_SHORT"):
            kwargs["maintenance_interval"] = 2
        super().__init__(*args, **kwargs)


class _Client:
    def __init__(self, connection: Redis) -> None:
        self._connection = connection
        self._queue = Queue(connection=connection)

    async def enqueue(self, number: int, seconds: float) -> str:
        job = self._queue.enqueue(body.run, number, seconds, retry=Retry(max=3))
        return str(job.id)

    async def result(self, task_id: str) -> str | None:
        found = Job.fetch(task_id, connection=self._connection).return_value()
        return None if found is None else str(found)


@contextlib.asynccontextmanager
async def connect() -> AsyncIterator[_Client]:
    """Connect a producer."""
    yield _Client(Redis.from_url(REDIS_URL))


if __name__ == "__main__":
    command.main(connect())
