"""taskiq on a Redis stream, acknowledged when the result is stored, its default.

``unacknowledged_lock_timeout`` is set, as a lock could stay for ever without it
(reference of ``RedisStreamBroker``). What is made short is ``idle_timeout``, ten
minutes by default, after which another worker claims what is not acknowledged.
"""

import contextlib

from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from peers import SHORT, URL, Connected, body

idle = {"idle_timeout": SHORT * 1000} if SHORT else {}
results = RedisAsyncResultBackend(URL)
broker = RedisStreamBroker(
    URL, unacknowledged_lock_timeout=float(SHORT or 60), **idle
).with_result_backend(results)
nap = broker.task(task_name="nap")(body.anap)


def worker(slots: int) -> list[str]:
    """Return the command of one worker process, and of the one that watches it."""
    return [
        *("taskiq", "worker", "peers.taskiq:broker", "--workers", "1"),
        *("--max-async-tasks", str(slots), "--log-level", "WARNING"),
    ]


class _Producer:
    async def enqueue(self, number: int) -> str:
        return (await nap.kiq(number)).task_id

    async def result(self, name: str) -> str:
        stored: str = (await results.get_result(name)).return_value
        return stored


@contextlib.asynccontextmanager
async def producer() -> Connected:
    """Connect, and make the consumer group: it sees only what comes later."""
    await broker.startup()
    try:
        yield _Producer()
    finally:
        await broker.shutdown()
