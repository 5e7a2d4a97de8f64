"""Dramatiq at its defaults, with results: always acknowledged after the run.

What is made short is ``heartbeat_timeout``, a minute by default; and as a dead
worker's messages are put back by one command in a thousand, by chance
(``maintenance_chance``), every command does it then. Both are in the reference of
``RedisBroker``.
"""

import contextlib

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from peers import SHORT, URL, Connected, body

short = {"heartbeat_timeout": SHORT * 1000, "maintenance_chance": 1_000_000}
broker = RedisBroker(url=URL, **(short if SHORT else {}))
broker.add_middleware(Results(backend=RedisBackend(url=URL), store_results=True))
dramatiq.set_broker(broker)
nap = dramatiq.actor(actor_name="nap")(body.nap)


def worker(slots: int) -> list[str]:
    """Return the command of one worker process, and of the one that watches it."""
    return [
        *("dramatiq", "peers.dramatiq:broker"),
        *("--processes", "1", "--threads", str(slots)),
    ]


class _Producer:
    async def enqueue(self, number: int) -> str:
        return str(nap.send(number).message_id)

    async def result(self, name: str) -> str:
        stored: str = nap.message(0).copy(message_id=name).get_result()
        return stored


@contextlib.asynccontextmanager
async def producer() -> Connected:
    """Connect with the first call."""
    yield _Producer()
