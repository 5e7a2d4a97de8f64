"""Run tasks in a test, check what was enqueued, and a clock that stands still."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

from taskflow._client.flow import TaskFlow
from taskflow._client.tasks import TaskFilter
from taskflow._codec import from_json
from taskflow._declare.registry import Registry
from taskflow._declare.task import Task
from taskflow._protocol.record import TaskRecord
from taskflow._protocol.states import TaskState
from taskflow._worker.worker import Worker
from taskflow.errors import TaskNotFoundError


class ManualClock:
    """A clock that stands still until it is told to go on.

    Args:
        start_ms: Milliseconds since the epoch; left out: the time now.

    Example:
        >>> clock = ManualClock(start_ms=1_000)
        >>> clock.advance(2.5)
        >>> clock()
        3500
    """

    def __init__(self, start_ms: int | None = None) -> None:
        self._now_ms = round(time.time() * 1000) if start_ms is None else start_ms

    def __call__(self) -> int:
        """Return the time in milliseconds since the epoch."""
        return self._now_ms

    def advance(self, seconds: float) -> None:
        """Let *seconds* pass, at least 0.

        Raises:
            ValueError: *seconds* is negative.
        """
        if seconds < 0:
            message = f"time goes forward: got {seconds} s"
            raise ValueError(message)
        self._now_ms += round(seconds * 1000)


def run_until_idle(
    flow: TaskFlow, *, registry: Registry | None = None, concurrency: int = 10
) -> None:
    """Run every task that is due, and those they enqueue, then return.

    The same claims, limits, retries and settles as in a worker. What is
    scheduled for later stays scheduled: advance the clock and call again.

    Args:
        flow: Where the tasks are.
        registry: What to serve; left out: the flow's.
        concurrency: Bodies at a time.
    """
    asyncio.run(arun_until_idle(flow, registry=registry, concurrency=concurrency))


async def arun_until_idle(
    flow: TaskFlow, *, registry: Registry | None = None, concurrency: int = 10
) -> None:
    """Run every task that is due; see `run_until_idle`."""
    worker = Worker(flow, registry=registry, concurrency=concurrency)
    await worker.arun_until_idle()


def assert_enqueued(
    flow: TaskFlow,
    task: Task[..., Any, Any],
    *,
    times: int = 1,
    delayed: bool = False,
    **arguments: Any,
) -> list[TaskRecord]:
    """Check that *task* waits, called with *arguments*.

    Args:
        flow: Where to look.
        task: The declared task.
        times: How many such calls there must be.
        delayed: Look among the scheduled tasks instead of the waiting ones.
        **arguments: By name, as JSON has them; those not named do not matter.

    Returns:
        The matching records.

    Raises:
        AssertionError: There are more or fewer; the message lists what waits.
    """
    state = TaskState.SCHEDULED if delayed else TaskState.PENDING
    found = [
        record
        for record in records(flow, TaskFilter(state=state))
        if record.name == task.name
    ]
    calls = [from_json(record.payload) for record in found]
    matching = [
        record
        for record, call in zip(found, calls, strict=True)
        if all(name in call and call[name] == arguments[name] for name in arguments)
    ]
    if len(matching) != times:
        message = (
            f"expected {times} of {task.name!r} with {arguments!r} {state}, "
            f"found {len(matching)}; its {state} calls: {calls!r}"
        )
        raise AssertionError(message)
    return matching


def records(flow: TaskFlow, wanted: TaskFilter) -> Iterator[TaskRecord]:
    cursor = ""
    while True:
        page = flow.tasks.list(wanted, cursor=cursor, limit=200)
        for item in page.items:
            try:
                yield flow.tasks.get(item.id)
            except TaskNotFoundError:
                continue
        cursor = page.next_cursor
        if not cursor:
            return
