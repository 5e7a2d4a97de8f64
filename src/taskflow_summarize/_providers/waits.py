"""How long an answer asks to wait: in its head or its body, however it is written."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from taskflow_summarize._providers._json import Json, as_number, as_object

LONGEST_WAIT: Final = 86_400.0
"""Seconds; a longer one is cut to it."""

_MOST_SECONDS: Final = 1e11  # since 1970, in the year 5138; above are milliseconds
_LEAST_MOMENT: Final = 1e8  # seconds since 1970, in 1973; below are seconds from now


def find_wait(
    headers: Mapping[str, str], error: Json, *, now: datetime
) -> float | None:
    """Find the wait that an answer asks for.

    Args:
        headers: Of the answer, with names in small letters.
        error: The member ``error`` of its body.
        now: The time, aware.

    Returns:
        Seconds above 0, at most a day, or None where nothing is asked.
    """
    metadata = as_object(error.get("metadata"))
    inner = {
        str(name).lower(): value
        for name, value in as_object(metadata.get("headers")).items()
    }
    told = (
        as_number(as_object(error.get("availability")).get("retry_after"))
        or _milliseconds(headers.get("retry-after-ms"))
        or _seconds(headers.get("retry-after"), now)
        or _seconds(inner.get("retry-after"), now)
        or _until(headers.get("x-ratelimit-reset"), now)
        or _until(inner.get("x-ratelimit-reset"), now)
        or _until(metadata.get("resets_at"), now)
        or _until(error.get("resets_at"), now)
    )
    return min(told, LONGEST_WAIT) if told else None


def _milliseconds(value: object) -> float | None:
    number = _number(value)
    return None if number is None else number / 1000


def _seconds(value: object, now: datetime) -> float | None:
    """Read a Retry-After: seconds, or a date of HTTP."""
    number = _number(value)
    if number is not None or not isinstance(value, str):
        return number
    try:
        moment = parsedate_to_datetime(value.strip())
    except (TypeError, ValueError):
        return None
    return _seconds_to(moment, now)


def _until(value: object, now: datetime) -> float | None:
    """Read a moment: milliseconds or seconds since 1970, or an ISO date."""
    number = _number(value)
    if number is not None and number < _LEAST_MOMENT:
        return number
    if number is not None:
        seconds = number / 1000 if number > _MOST_SECONDS else number
        return max(0.0, seconds - now.timestamp())
    try:
        return _seconds_to(datetime.fromisoformat(str(value)), now)
    except ValueError:
        return None


def _number(value: object) -> float | None:
    """Read a number that is not negative, in figures or as a text."""
    try:
        number = float(value) if isinstance(value, str) else as_number(value)
    except ValueError:
        return None
    if number is None or not math.isfinite(number) or number < 0:
        return None
    return number


def _seconds_to(moment: datetime, now: datetime) -> float:
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (aware - now).total_seconds())
