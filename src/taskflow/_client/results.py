"""Wait for a task to end, and read what became of it."""

import logging
import math
import time
from collections.abc import Callable
from typing import TypeVar

from taskflow._client.flow_context import FlowContext, warn_on_a_loop
from taskflow._client.ids import checked
from taskflow._declare import ports
from taskflow._protocol.inspect import Ending
from taskflow._protocol.states import TaskState
from taskflow.errors import ResultTimeoutError, TaskFailedError, TaskFlowError

R = TypeVar("R")

_logger = logging.getLogger("taskflow.worker")


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


def _deadline(timeout: float | None) -> float:
    return math.inf if timeout is None else time.monotonic() + timeout


def _outcome(
    task_id: str,
    answer: Ending | TaskFlowError | None,
    decode: Callable[[bytes], R],
    timeout: float | None,
) -> R:
    if isinstance(answer, TaskFlowError):
        raise answer
    if answer is None or not answer.state.is_final:
        raise ResultTimeoutError(task_id, timeout or 0)
    return _unwrap(task_id, answer, decode)


def _warn_within_a_task(task_id: str) -> None:
    if ports.scope.get() is not None:
        _logger.warning(
            "a task function waits for task %s and keeps its slot meanwhile: if all "
            "slots wait like this, nothing is left to run what they wait for; enqueue "
            "the next step at its end, or raise taskflow.Snooze until it has ended",
            task_id,
        )


def result(
    connection: FlowContext,
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
    deadline = _deadline(timeout)
    watch = connection.watch(checked(task_id))
    runner, waiters = connection.runner, connection.waiters
    # In a crowd, most wait at once: the records are read for them, in batches.
    if timeout == 0 or waiters.looks.acquire(blocking=False):
        try:
            ending = runner.send(watch)
        finally:
            if timeout != 0:
                waiters.looks.release()
        if ending.state.is_final or timeout == 0:
            return _outcome(task_id, ending, decode, timeout)
    _warn_within_a_task(task_id)
    answer = waiters.wait(runner, task_id, deadline)
    return _outcome(task_id, answer, decode, timeout)


async def aresult(
    connection: FlowContext,
    task_id: str,
    decode: Callable[[bytes], R],
    timeout: float | None,  # noqa: ASYNC109 - the blocking twin has it too
) -> R:
    """Wait until *task_id* has ended and return its result; see `result`."""
    deadline = _deadline(timeout)
    watch = connection.watch(checked(task_id))
    runner, waiters = connection.async_runner, connection.async_waiters
    if timeout == 0 or waiters.looks > 0:
        waiters.looks -= 1
        try:
            ending = await runner.send(watch)
        finally:
            waiters.looks += 1
        if ending.state.is_final or timeout == 0:
            return _outcome(task_id, ending, decode, timeout)
    _warn_within_a_task(task_id)
    answer = await waiters.wait(runner, task_id, deadline)
    return _outcome(task_id, answer, decode, timeout)
