"""Wait for a task to end, and read what became of it."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TypeVar

from taskflow._client.connection import Connection, warn_on_a_loop
from taskflow._client.ids import checked
from taskflow._declare import ports
from taskflow._protocol import inspect
from taskflow._protocol.inspect import Ending
from taskflow._protocol.states import TaskState
from taskflow.errors import ResultTimeoutError, TaskFailedError

R = TypeVar("R")

_logger = logging.getLogger("taskflow.worker")

READ_AGAIN = 1.0
"""Seconds after which a waiter reads the record again, told or not: a message
on a channel may be lost, a record is not."""


def _unwrap(task_id: str, ending: Ending, decode: Callable[[bytes], R]) -> R:
    if ending.state is TaskState.COMPLETED:
        return decode(ending.result or b"null")
    raise TaskFailedError(
        task_id,
        ending.state.value,
        ending.error_type,
        ending.error_message,
        ending.attempts,
    )


def _left(task_id: str, timeout: float | None, deadline: float) -> float:
    if timeout is None:
        return READ_AGAIN
    left = deadline - time.monotonic()
    if left <= 0:
        raise ResultTimeoutError(task_id, timeout)
    return min(READ_AGAIN, left)


def _warn_within_a_task(task_id: str) -> None:
    if ports.scope.get() is not None:
        _logger.warning(
            "a task function waits for task %s and keeps its slot meanwhile: if all "
            "slots wait like this, nothing is left to run what they wait for; enqueue "
            "the next step at its end, or raise taskflow.Snooze until it has ended",
            task_id,
        )


def result(
    connection: Connection,
    task_id: str,
    decode: Callable[[bytes], R],
    timeout: float | None,
) -> R:
    """Block until *task_id* has ended and return its result.

    Args:
        connection: To the server that holds the task.
        task_id: Of the task.
        decode: Turns the stored JSON into the result.
        timeout: Seconds to wait at most; None = for ever, 0 = look once.

    Returns:
        The result.

    Raises:
        TaskFailedError: It ended without a result.
        ResultTimeoutError: It has not ended yet; it goes on all the same.
        TaskNotFoundError: There is no such task.

    Warns:
        RuntimeWarning: An event loop runs in this thread, and is blocked meanwhile.
    """
    if timeout != 0:
        warn_on_a_loop()
    deadline = time.monotonic() + (timeout or 0)
    watch = inspect.watch(connection.keys, checked(task_id), now_ms=connection.clock())
    ending = connection.runner.send(watch)
    if ending.state.is_final:
        return _unwrap(task_id, ending, decode)
    _left(task_id, timeout, deadline)
    _warn_within_a_task(task_id)
    with connection.runner.subscribe(connection.keys.done_channel(task_id)) as news:
        while True:
            ending = connection.runner.send(watch)
            if ending.state.is_final:
                return _unwrap(task_id, ending, decode)
            news.next(_left(task_id, timeout, deadline))


async def aresult(
    connection: Connection,
    task_id: str,
    decode: Callable[[bytes], R],
    timeout: float | None,  # noqa: ASYNC109 - the blocking twin has it too
) -> R:
    """Wait until *task_id* has ended and return its result; see `result`."""
    deadline = time.monotonic() + (timeout or 0)
    watch = inspect.watch(connection.keys, checked(task_id), now_ms=connection.clock())
    runner = connection.async_runner
    ending = await runner.send(watch)
    if ending.state.is_final:
        return _unwrap(task_id, ending, decode)
    _left(task_id, timeout, deadline)
    _warn_within_a_task(task_id)
    async with runner.subscribe(connection.keys.done_channel(task_id)) as news:
        while True:
            ending = await runner.send(watch)
            if ending.state.is_final:
                return _unwrap(task_id, ending, decode)
            await news.next(_left(task_id, timeout, deadline))
            await asyncio.sleep(0)
