"""Compare our runners with redis-py's own clients, script by script.

Run it with the URL of a server: ``python tests/benchmarks/runners.py URL``.
Prints microseconds for each call, the best of some rounds: time on the wall, and
time of this process. Never a gate.
"""

import asyncio
import hashlib
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from redis import BlockingConnectionPool, Redis
from redis.asyncio import BlockingConnectionPool as AsyncBlockingConnectionPool
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from taskflow._protocol.operation import Operation, Script
from taskflow._servers.redis import RedisServer

ROUNDS = 5
SMALL = ("v",)
BIG = tuple(
    value
    for number in range(500)
    for value in (f"0190-{number:032}", number, b"x" * 130, 0.5)
)
SOURCE = "return ARGV[1]"
ECHO = Script(
    "echo", SOURCE, hashlib.sha1(SOURCE.encode(), usedforsecurity=False).hexdigest()
)
KEYS = ("k",)


def _operation(arguments: tuple[Any, ...]) -> Operation[Any]:
    return Operation(ECHO, KEYS, arguments, lambda reply: reply)


class _Watch:
    """Takes the time of several calls in turns, so that all see the same weather."""

    def __init__(self) -> None:
        self._best: dict[str, tuple[float, float]] = {}

    @contextmanager
    def timed(self, name: str, calls: int) -> Generator[range]:
        """Take the time of a round of *calls*; gives what to loop over."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield range(calls)
        took = time.perf_counter() - wall, time.process_time() - cpu
        each = took[0] / calls * 1e6, took[1] / calls * 1e6
        self._best[name] = min(each, self._best.get(name, each))

    def tell(self) -> None:
        """Print the best round of each."""
        for name, (wall, cpu) in self._best.items():
            print(f"{name:34} {wall:8.1f} {cpu:8.1f}")


def blocking(url: str) -> None:
    """Measure the blocking runner."""
    runner = RedisServer(url).runner()
    pool = BlockingConnectionPool.from_url(
        url, protocol=2, retry=Retry(NoBackoff(), 0), health_check_interval=25
    )
    client: Any = Redis.from_pool(pool)
    runner.send(_operation(SMALL))
    watch = _Watch()
    for _ in range(ROUNDS):
        with watch.timed("redis-py, one small", 2000) as calls:
            for _ in calls:
                client.evalsha(ECHO.sha, 1, *KEYS, *SMALL)
        with watch.timed("ours, one small", 2000) as calls:
            for _ in calls:
                runner.send(_operation(SMALL))
    watch.tell()
    runner.close()
    client.close()


async def by_loop(url: str) -> None:
    """Measure the asynchronous runner, with one small script and with two big."""
    runner = RedisServer(url).async_runner()
    pool: Any = AsyncBlockingConnectionPool.from_url(
        url, protocol=2, retry=AsyncRetry(NoBackoff(), 0), health_check_interval=25
    )
    client: Any = AsyncRedis.from_pool(pool)

    await runner.send(_operation(SMALL))
    watch = _Watch()
    for _ in range(ROUNDS):
        with watch.timed("redis-py, asyncio, one small", 2000) as calls:
            for _ in calls:
                await client.evalsha(ECHO.sha, 1, *KEYS, *SMALL)
        with watch.timed("ours, asyncio, one small", 2000) as calls:
            for _ in calls:
                await runner.send(_operation(SMALL))
        with watch.timed("redis-py, asyncio, two of 2,000", 100) as calls:
            for _ in calls:
                pipeline = client.pipeline(transaction=False)
                pipeline.evalsha(ECHO.sha, 1, *KEYS, *BIG)
                pipeline.evalsha(ECHO.sha, 1, *KEYS, *BIG)
                await pipeline.execute()
        with watch.timed("ours, asyncio, two of 2,000", 100) as calls:
            for _ in calls:
                await runner.send_all([_operation(BIG), _operation(BIG)])
    watch.tell()
    await runner.aclose()
    await client.aclose()


if __name__ == "__main__":
    print(f"{'us for each call':34} {'wall':>8} {'cpu':>8}")
    blocking(sys.argv[1])
    asyncio.run(by_loop(sys.argv[1]))
