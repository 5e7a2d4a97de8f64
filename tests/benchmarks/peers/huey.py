"""Huey on Redis with three retries, eight threads."""

import contextlib
import os
from collections.abc import AsyncIterator

from huey import RedisHuey

from peers import body, command

huey = RedisHuey("peers", url=os.environ["FAULT_URL"])
run = huey.task(retries=3)(body.run)


class _Client:
    async def enqueue(self, number: int, seconds: float) -> str:
        return str(run(number, seconds).id)

    async def result(self, task_id: str) -> str | None:
        found = huey.result(task_id, preserve=True)
        return None if found is None else str(found)


@contextlib.asynccontextmanager
async def connect() -> AsyncIterator[_Client]:
    """Connect a producer."""
    yield _Client()


if __name__ == "__main__":
    command.main(connect())
