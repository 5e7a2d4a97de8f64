"""taskiq on a Redis stream, acknowledged once the result is saved (its default)."""

import contextlib
import os
from collections.abc import AsyncIterator

from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker
from taskiq_redis.exceptions import ResultIsMissingError

from peers import body, command

URL = os.environ["FAULT_URL"]
backend = RedisAsyncResultBackend(URL)
broker = RedisStreamBroker(
    URL, **({"idle_timeout": 5000} if os.environ.get("FAULT_SHORT") else {})
).with_result_backend(backend)
run = broker.task(task_name="run")(body.arun)


class _Client:
    async def enqueue(self, number: int, seconds: float) -> str:
        return (await run.kiq(number, seconds)).task_id

    async def result(self, task_id: str) -> str | None:
        with contextlib.suppress(ResultIsMissingError):
            return str((await backend.get_result(task_id)).return_value)
        return None


@contextlib.asynccontextmanager
async def connect() -> AsyncIterator[_Client]:
    """Connect a producer."""
    await broker.startup()
    try:
        yield _Client()
    finally:
        await broker.shutdown()


if __name__ == "__main__":
    command.main(connect())
