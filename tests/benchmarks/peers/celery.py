"""Celery with late acknowledgement and results, in its prefork pool.

``task_acks_late``, ``task_reject_on_worker_lost`` and a prefetch of 1 are what its
documentation asks for where a task must not be lost.
"""

import contextlib
import os
from collections.abc import AsyncIterator

from celery import Celery
from celery.result import AsyncResult

from peers import body, command

URL = os.environ["FAULT_URL"]
app = Celery("peers", broker=URL, backend=URL)
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
)
if os.environ.get("FAULT_SHORT"):
    app.conf.broker_transport_options = {"visibility_timeout": 5}
run = app.task(name="run")(body.run)


class _Client:
    async def enqueue(self, number: int, seconds: float) -> str:
        return str(run.delay(number, seconds).id)

    async def result(self, task_id: str) -> str | None:
        found = AsyncResult(task_id, app=app)
        return str(found.result) if found.successful() else None


@contextlib.asynccontextmanager
async def connect() -> AsyncIterator[_Client]:
    """Connect a producer."""
    yield _Client()


if __name__ == "__main__":
    command.main(connect())
