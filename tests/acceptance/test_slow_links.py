"""A worker at a thin line, with more to carry than passes in the time of one reply."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from taskflow import Registry, TaskState
from tests.support.processes import Deployment, wait_until
from tests.support.proxy import Proxy

RATE = 400_000  # bytes in a second
SIZE = 200_000
COUNT = 20

pytestmark = [pytest.mark.deep, pytest.mark.timeout(180)]

APP = """
import os, time
from taskflow import Context, Registry

registry = Registry()

def log(*words):
    line = " ".join(map(str, words)) + f" {time.monotonic():.3f}\\n"
    file = os.open(os.environ["RUN_LOG"], os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    os.write(file, line.encode())
    os.close(file)

@registry.task(name="fetch")
async def fetch(ctx: Context, number: int, size: int) -> str:
    log("start", number, ctx.deliveries)
    return "x" * size

@registry.task(name="store")
async def store(ctx: Context, number: int, load: str) -> int:
    log("start", number, ctx.deliveries)
    return len(load)
"""

registry = Registry()


@registry.task(name="fetch")
def fetch(number: int, size: int) -> str:
    """Stand for the worker's task of this name."""
    raise NotImplementedError(number, size)


@registry.task(name="store")
def store(number: int, load: str) -> int:
    """Stand for the worker's task of this name."""
    raise NotImplementedError(number, load)


class Line:
    """A server, and the thin line to it.

    Args:
        folder: For the app and the logs.
    """

    def __init__(self, folder: Path) -> None:
        self._deployment = Deployment(folder, APP, registry)
        self._proxy = Proxy(self._deployment.data / "s")
        self._proxy.rate = RATE

    def runs_once(self, calls: list[Any]) -> None:
        """Let a worker at the other end run the tasks: each once, and unharmed."""
        flow = self._deployment.flow
        handles = flow.enqueue_many(calls)
        # Both are shorter than by default, only for the time that the test takes.
        url = f"{self._proxy.url}?socket_timeout=2"
        self._deployment.worker("--url", url, "-c", str(COUNT), TASKFLOW_LEASE="6")
        wait_until(
            lambda: self._deployment.count(TaskState.COMPLETED) == COUNT, patience=120
        )

        begun = Counter(name for name, _, _ in self._deployment.lines("start"))
        assert [1] * COUNT == list(begun.values())
        crashes = [flow.tasks.get(each.id).crashes for each in handles]
        assert [0] * COUNT == crashes

    def close(self) -> None:
        """End everything."""
        self._deployment.close()
        self._proxy.close()


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    """Give a server at the end of a thin line, and nobody who works yet."""
    made = Line(tmp_path)
    yield made
    made.close()


def test_results_that_do_not_pass_at_once_are_settled_in_smaller_batches(
    line: Line,
) -> None:
    """Else the same batch would be sent again and again, and cut each time."""
    line.runs_once([fetch.call(n, SIZE) for n in range(COUNT)])


def test_tasks_that_do_not_pass_at_once_are_claimed_a_few_at_a_time(line: Line) -> None:
    """Else the same reply would be asked for again and again, and cut each time."""
    line.runs_once([store.call(n, "x" * SIZE) for n in range(COUNT)])
