"""What a task body may raise to steer what becomes of it; public in `errors`."""

import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any

_LONGEST_DELAY = 10 * 365 * 86_400.0


def restore(
    cls: type[Exception], args: tuple[object, ...], facts: dict[str, object]
) -> Exception:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(facts)
    return error


Reduced = tuple[Callable[..., Exception], tuple[Any, ...]]


class TaskSignal(Exception):  # noqa: N818 - a request, not an error
    """Base of what a task body may raise to steer what becomes of it."""

    def __reduce__(self) -> Reduced:
        return restore, (type(self), self.args, self.__dict__)


def _seconds(what: str, value: float | timedelta) -> float:
    """Return *value* as seconds, or refuse it where it is raised.

    Raises:
        ValueError: *value* is negative, no number, or above 10 years.
    """
    seconds = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if math.isnan(seconds) or not 0 <= seconds <= _LONGEST_DELAY:
        message = f"{what} must be seconds, 0 to {_LONGEST_DELAY:.0f}, got {value!r}"
        raise ValueError(message)
    return seconds


class Retry(TaskSignal):
    """Run again; counts as a failed attempt.

    Raised ``from`` an error, it is that error that the record shows.

    Args:
        delay: Seconds or a timedelta, 0 to 10 years.
        reason: For people.
        max_retries: A whole number from 0.

    Attributes:
        delay: Seconds until then; None = as the task's policy says.
        reason: For people.
        max_retries: Retries at most; None = as the call and the policy say.

    Raises:
        ValueError: *delay* or *max_retries* is out of bounds.
    """

    def __init__(
        self,
        delay: float | timedelta | None = None,
        reason: str = "",
        *,
        max_retries: int | None = None,
    ) -> None:
        self.delay: float | None = None if delay is None else _seconds("delay", delay)
        self.reason = reason
        self.max_retries: int | None = max_retries
        is_count = type(max_retries) is int and max_retries >= 0
        if max_retries is not None and not is_count:
            message = f"max_retries must be a whole number from 0, got {max_retries!r}"
            raise ValueError(message)
        super().__init__(reason or "the task asked to be retried")


class Snooze(TaskSignal):
    """Run again later; uses no attempt.

    Args:
        seconds: A number or a timedelta, 0 to 10 years.
        reason: For people.

    Attributes:
        seconds: Until then.
        reason: For people.

    Raises:
        ValueError: *seconds* is out of bounds.
    """

    def __init__(self, seconds: float | timedelta, reason: str = "") -> None:
        self.seconds: float = _seconds("seconds", seconds)
        self.reason = reason
        super().__init__(reason or "the task asked to be run later")


class DeadLetter(TaskSignal):
    """No more attempts: wait for a person.

    Attributes:
        reason: For people.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class Cancel(TaskSignal):
    """Stop, and call the task CANCELLED.

    Attributes:
        reason: For people.
    """

    def __init__(self, reason: str = "") -> None:
        self.reason = reason
        super().__init__(reason or "the task cancelled itself")
