"""A real worker that fails while a function runs that never ends."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from taskflow import Registry, TaskState
from tests.support.processes import Deployment, wait_until

APP = """
import asyncio, os, time
from taskflow import Registry
from taskflow._worker.scheduler import Scheduler

registry = Registry()

@registry.task(name="stays")
def stays() -> None:
    with open(os.environ["RUN_LOG"], "a", encoding="utf-8") as file:
        file.write("start stays 1 0\\n")
    while True:
        time.sleep(1)

async def fail(timekeeper):
    while not os.path.getsize(os.environ["RUN_LOG"]):
        await asyncio.sleep(0.02)
    raise ArithmeticError("a fault of ours")

Scheduler.run = fail
"""

pytestmark = pytest.mark.timeout(120)
registry = Registry()


@registry.task(name="stays")
def stays() -> None:
    """Stand for the worker's task of this name."""


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    """Give a server and nobody who works yet."""
    made = Deployment(tmp_path, APP, registry)
    yield made
    made.close()


def test_a_worker_that_fails_ends_whatever_its_functions_do(
    deployment: Deployment,
) -> None:
    """With a code that tells its supervisor, after the task was handed back."""
    worker = deployment.worker("-c", "2")
    wait_until(lambda: deployment.alive() == 1)
    task = deployment.flow.enqueue(stays.call())
    wait_until(lambda: worker.poll() is not None)
    record = deployment.flow.tasks.get(task.id)

    assert 1 == worker.returncode
    assert "ArithmeticError: a fault of ours" in deployment.said(worker)
    assert (TaskState.PENDING, 0, 0) == (record.state, record.attempts, record.crashes)
    assert 0 == deployment.alive()
