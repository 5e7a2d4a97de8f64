"""Parts of JSON that may be anything: read as what they should be, or as nothing."""

import json
import math
from typing import Any, TypeAlias, cast

Json: TypeAlias = dict[str, Any]

_LONGEST_WORD = 200


def parse_object(text: bytes | str) -> Json | None:
    """Read an object; None = it is none."""
    try:
        data: object = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return cast("Json", data) if isinstance(data, dict) else None


def as_object(value: object) -> Json:
    """Return an object, empty where *value* is none."""
    return cast("Json", value) if isinstance(value, dict) else {}


def as_list(value: object) -> list[object]:
    """Return a list, empty where *value* is none."""
    return cast("list[object]", value) if isinstance(value, list) else []


def as_number(value: object) -> float | None:
    """Return a finite number that is not negative, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def as_count(value: object) -> int:
    """Return a whole number that is not negative, 0 where *value* is none."""
    return int(as_number(value) or 0)


def as_word(value: object) -> str | None:
    """Return the beginning of a printable text, or None."""
    if not isinstance(value, str) or not value.isprintable():
        return None
    return value[:_LONGEST_WORD]
