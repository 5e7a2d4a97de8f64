"""Texts of somebody who means no good, and how to see what they left behind."""

import os
import re
from collections.abc import Iterable
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st

from taskflow._protocol.keys import KINDS

T = TypeVar("T")
DEPTH = int(os.environ.get("TASKFLOW_DEPTH", "1"))

NASTY = (
    "",
    " ",
    "x" * 10_000,
    "*",
    "?",
    "[a-z",
    "{x}",
    ":",
    "x:events",
    "heartbeat:x",
    "x\n",
    "x\ny",
    "\r",
    "x\0y",
    "\x1b[2J",
    "\ud800",
    "1 \udfff",
    "\u202eadd",
    "../../etc/passwd",
    "%00",
    "🦉",
    "é",
    "٣-٣",
    f"{2**64}-0",
    "99999999999999999999-1",
    "COMPLETED|9e999 x",
    "COMPLETED|1 \udfff",
    "PENDING-primary|٣",
    "PENDING-primary|999999999999",
    "task:",
    "__proto__",
)
"""What was once a hole somewhere, or is a word of ours in the wrong place."""

ODD = (
    *(float("nan"), float("inf"), 1e300, -1, 0, 0.5, 2**63, 2**64, 10**400),
    *(True, None, [], {}, [[]], {"a": {"b": None}}, "1", ["\ud800"], {"\ud800": 1}),
)
"""Values that are no text, as a body in JSON may hold them."""


def texts() -> st.SearchStrategy[str]:
    """Make up any text at all, lone surrogates included."""
    return st.text(st.characters(codec=None, categories=None), max_size=300)


def examples(number: int) -> settings:
    """Give settings for *number* examples, and for more where that is asked for."""
    return settings(max_examples=number * DEPTH, deadline=None, derandomize=True)


def some(values: Iterable[T]) -> list[T]:
    """Take every value in a deep run, and every fourth one otherwise."""
    return list(values)[:: 1 if DEPTH > 1 else 4]


def as_regex(pattern: str) -> str:
    """Write a Lua pattern as Python has it; for the few signs that are in use."""
    plain = pattern.replace("%w", "A-Za-z0-9").replace("%a", "[a-z]")
    plain = plain.replace("%-", "-")
    return re.sub(r"\$$", r"\\Z", plain)


_OURS = [re.compile(as_regex(kind.pattern)) for kind in KINDS]


def foreign_keys(found: Iterable[str], prefix: str = "") -> list[str]:
    """Give the keys that are of no declared kind, or not under the prefix."""
    return [
        key
        for key in found
        if not key.startswith(prefix)
        or not any(ours.search(key.removeprefix(prefix)) for ours in _OURS)
    ]


def is_printable(error: BaseException) -> bool:
    """Tell whether the message of an error can be written anywhere."""
    try:
        str(error).encode()
    except UnicodeEncodeError:
        return False
    return "\n" not in str(error)


def is_same(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Compare two keyspaces; where they differ, say where."""
    for key in before.keys() | after.keys():
        if before.get(key) != after.get(key):
            print(f"{key}: {before.get(key)!r} became {after.get(key)!r}")  # noqa: T201
    return before == after
