"""Celery's prefork pool on Redis, acknowledged after the run.

``task_acks_late``, ``task_reject_on_worker_lost`` and a prefetch of one: its
configuration reference, and "Optimizing" in its user guide. What is made short is ``visibility_timeout``, an hour by default ("Using
Redis", Visibility timeout).
"""

import contextlib
import os

from celery import Celery

from peers import SHORT, URL, Connected, body

app = Celery("faults", broker=URL, backend=URL)
app.conf.update(
    broker_connection_retry_on_startup=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
)
if SHORT:
    app.conf.broker_transport_options = {"visibility_timeout": SHORT}
nap = app.task(name="nap")(body.nap)


def worker(slots: int) -> list[str]:
    """Return the command of one worker process; its name is its own."""
    return [
        *("celery", "--app", "peers.celery:app", "worker", "--loglevel", "WARNING"),
        *("--concurrency", str(slots), "--hostname", f"{os.getpid()}@%h"),
    ]


class _Producer:
    async def enqueue(self, number: int) -> str:
        return str(nap.delay(number).id)

    async def result(self, name: str) -> str | None:
        stored: str | None = app.AsyncResult(name).result
        return stored


@contextlib.asynccontextmanager
async def producer() -> Connected:
    """Connect with the first call."""
    yield _Producer()
