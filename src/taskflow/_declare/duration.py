"""Durations as people give them: seconds, or a timedelta."""

from datetime import datetime, timedelta
from typing import TypeAlias

Seconds: TypeAlias = float | timedelta

LONGEST = 10 * 365 * 86_400.0
"""Seconds; ten years. What is longer is a mistake in the unit."""


def to_seconds(value: Seconds | None) -> float | None:
    """Return seconds; None, and what is no duration, as it is.

    A wrong value is kept for `problem_of`, so that all mistakes are told at once.
    """
    return value.total_seconds() if isinstance(value, timedelta) else value


def problem_of(name: str, seconds: object, *, zero: bool = False) -> tuple[str, ...]:
    """Say what is wrong with a duration.

    Args:
        name: What it is for.
        seconds: The duration; None is always fine.
        zero: Whether 0 is.

    Returns:
        One sentence, or none.
    """
    if seconds is None:
        return ()
    # Not a number fails every comparison, and is refused by it.
    if isinstance(seconds, int | float) and (
        0 < seconds <= LONGEST or (zero and seconds == 0)
    ):
        return ()
    bound = "0 to" if zero else "above 0, at most"
    told = f"{name} must be seconds or a timedelta, {bound} {LONGEST:.0f}"
    if isinstance(seconds, datetime):
        told += " (counted from now: when - datetime.now(UTC))"
    return (f"{told}, got {seconds!r}",)
