"""Dramatiq on Redis with its results middleware, one process of eight threads."""

import contextlib
import os
from collections.abc import AsyncIterator

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend
from dramatiq.results.errors import ResultMissing

from peers import body, command

URL = os.environ["FAULT_URL"]
IS_SHORT = bool(os.environ.get("FAULT_SHORT"))
broker = RedisBroker(
    url=URL,
    **({"heartbeat_timeout": 5000, "maintenance_chance": 10**6} if IS_SHORT else {}),
)
backend = RedisBackend(url=URL)
broker.add_middleware(Results(backend=backend, store_results=True))
dramatiq.set_broker(broker)
run = dramatiq.actor(body.run)


class _Client:
    async def enqueue(self, number: int, seconds: float) -> str:
        return str(run.send(number, seconds).message_id)

    async def result(self, task_id: str) -> str | None:
        message = run.message().copy(message_id=task_id)
        with contextlib.suppress(ResultMissing):
            return str(backend.get_result(message))
        return None


@contextlib.asynccontextmanager
async def connect() -> AsyncIterator[_Client]:
    """Connect a producer."""
    yield _Client()


if __name__ == "__main__":
    command.main(connect())
