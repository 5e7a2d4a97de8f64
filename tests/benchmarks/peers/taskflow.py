"""taskflow, as it comes."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

from peers import body, command
from taskflow import Registry, TaskFlow
from taskflow.errors import TaskflowError

if os.environ.get("FAULT_SHORT"):
    os.environ["TASKFLOW_LEASE"] = "5"
registry = Registry()
flow = TaskFlow(os.environ["FAULT_URL"], registry=registry)
run = registry.task(name="run")(body.arun)


class _Client:
    async def enqueue(self, number: int, seconds: float) -> str:
        return (await flow.aenqueue(run.call(number, seconds))).id

    async def result(self, task_id: str) -> str | None:
        with contextlib.suppress(TaskflowError):
            async with asyncio.timeout(1.0):
                return str((await flow.tasks.aget(task_id)).result)
        return None


@contextlib.asynccontextmanager
async def connect() -> AsyncIterator[_Client]:
    """Connect a producer."""
    async with flow:
        yield _Client()


if __name__ == "__main__":
    command.main(connect())
