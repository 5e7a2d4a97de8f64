"""What a foreign hand may have written, read as far as it can be.

One broken record must not hide the others of its list, nor what is sound in itself:
so a value that makes no sense reads as the least there is of its kind.
"""

from datetime import UTC, datetime
from typing import Any, cast

from taskflow._codec import from_json
from taskflow._protocol.states import TaskState
from taskflow.errors import PayloadError

_EPOCH = datetime.fromtimestamp(0, UTC)


def moment(value: bytes | str | float) -> datetime:
    """Return *value* (ms since the epoch) as an aware UTC time; else the epoch."""
    try:
        return datetime.fromtimestamp(float(value) / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return _EPOCH


def whole(value: bytes | str | float) -> int:
    """Return *value* as a whole number; else 0."""
    try:
        return int(value)
    except (ValueError, OverflowError):
        return 0


def score(value: bytes | str | float) -> int:
    """Return *value*, a score of a sorted set in ms, as a whole number; else 0."""
    try:
        return int(float(value))
    except (ValueError, OverflowError):
        return 0


def text(value: bytes) -> str:
    """Return *value* as text, with a sign in place of what is none."""
    return value.decode(errors="replace")


def fact(value: bytes) -> Any:
    """Return what *value*, JSON, says; else None."""
    try:
        return from_json(value)
    except PayloadError:
        return None


def facts_in(value: bytes) -> dict[str, Any] | None:
    """Return *value*, a JSON object, as a dict; else None."""
    known = fact(value)
    return cast("dict[str, Any]", known) if isinstance(known, dict) else None


def state_of(value: bytes | None) -> TaskState:
    """Return the state called *value*; a record without one is a dead letter."""
    try:
        return TaskState(text(value or b""))
    except ValueError:
        return TaskState.DLQ


def error_of(value: bytes) -> tuple[str, str]:
    """Return type and message of a stored error, empty when there is none."""
    if not value:
        return "", ""
    facts = facts_in(value)
    if facts is None:
        return "", text(value)
    return str(facts.get("type", "")), str(facts.get("message", ""))
