"""streaq at its defaults: acknowledged after the run, three tries.

What is made short is ``idle_timeout``, a minute by default, which a worker renews
for what it runs (reference of ``Worker``).
"""

import contextlib

from streaq import Worker

from peers import SHORT, URL, Connected, body

app: Worker[None] = Worker(redis_url=URL, concurrency=20, idle_timeout=SHORT or 60)
nap = app.task(name="nap")(body.anap)


def worker(slots: int) -> list[str]:
    """Return the command of one worker process."""
    assert slots == app.concurrency
    return ["streaq", "run", "peers.streaq:app"]


class _Producer:
    async def enqueue(self, number: int) -> str:
        return (await nap.enqueue(number)).id

    async def result(self, name: str) -> str:
        stored: str = (await app.result_by_id(name, timeout=1)).result
        return stored


@contextlib.asynccontextmanager
async def producer() -> Connected:
    """Connect, and close at the end."""
    async with app:
        yield _Producer()
