"""SAQ with three attempts for each job.

One attempt, its default, is none after a crash: a job that is swept is then aborted
("retries" in the reference of ``Job``). A job is swept when its time-out is over, ten
seconds by default, which is also the longest it may run. What is made short is the
interval of sweeping, a minute by default (``timers`` of ``Worker``).
"""

import contextlib

from saq import Queue
from saq.types import Context

from peers import SHORT, URL, Connected, body

queue = Queue.from_url(URL)


async def nap(context: Context, *, number: int) -> str:
    """Run the body."""
    return await body.anap(number)


settings = {
    "queue": queue,
    "functions": [nap],
    "concurrency": 20,
    "timers": {"sweep": 5} if SHORT else {},
}


def worker(slots: int) -> list[str]:
    """Return the command of one worker process."""
    assert slots == settings["concurrency"]
    return ["saq", "peers.saq.settings", "--quiet"]


class _Producer:
    async def enqueue(self, number: int) -> str:
        job = await queue.enqueue("nap", number=number, retries=3)
        return str(job and job.key)

    async def result(self, name: str) -> str | None:
        job = await queue.job(name)
        return job and job.result


@contextlib.asynccontextmanager
async def producer() -> Connected:
    """Connect, and close at the end."""
    await queue.connect()
    try:
        yield _Producer()
    finally:
        await queue.disconnect()
