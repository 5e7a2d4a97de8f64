"""Ours: the asyncio engine at its defaults, a lease of 15 s.

What is made short is the lease (``TASKFLOW_LEASE``, docs/reference/settings.md).
"""

import contextlib
import os

from peers import SHORT, URL, Connected, body
from taskflow import Registry, TaskFlow

if SHORT:
    os.environ["TASKFLOW_LEASE"] = str(SHORT)
registry = Registry()
nap = registry.task(name="nap")(body.anap)
flow = TaskFlow(URL, registry=registry)


def worker(slots: int) -> list[str]:
    """Return the command of one worker process."""
    return ["taskflow-worker", "--app", "peers.taskflow:flow", "-c", str(slots)]


class _Producer:
    async def enqueue(self, number: int) -> str:
        return (await flow.aenqueue(nap.call(number))).id

    async def result(self, name: str) -> str:
        return await flow.handle(name).aresult(timeout=0.0)


@contextlib.asynccontextmanager
async def producer() -> Connected:
    """Connect, and close at the end."""
    async with flow:
        yield _Producer()
