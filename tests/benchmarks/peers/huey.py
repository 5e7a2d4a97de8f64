"""Huey on Redis, with threads; there is no setting that acknowledges after the run.

A consumer takes a task off the list (``BRPOP``) before it runs it, and no time-out
brings one back, so nothing is made short (``RedisStorage.dequeue`` of
``huey/storage.py``, read at 3.5.4).
"""

import contextlib

from huey import RedisHuey

from peers import URL, Connected, body

huey = RedisHuey("faults", url=URL)
nap = huey.task(name="nap")(body.nap)


def worker(slots: int) -> list[str]:
    """Return the command of one worker process."""
    return [
        *("huey_consumer", "peers.huey.huey", "--quiet"),
        *("--worker-type", "thread", "--workers", str(slots)),
    ]


class _Producer:
    async def enqueue(self, number: int) -> str:
        return str(nap(number).id)

    async def result(self, name: str) -> str | None:
        stored: str | None = huey.result(name, preserve=True)
        return stored


@contextlib.asynccontextmanager
async def producer() -> Connected:
    """Connect with the first call."""
    yield _Producer()
