"""What a person reads: tables, times, and data that cannot harm a terminal."""

import json
import os
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import click

from taskflow import _codec

clean: Final = _codec.clean

LONGEST_CELL: Final = 100
"""Columns of the longest cell of a list; ``show`` prints the whole."""

_MINUTE: Final = 60
_HOUR: Final = 3600
_DAY: Final = 86_400


def block(text: str, indent: str = "  ") -> str:
    """Return *text* line by line, indented, every character printable."""
    lines = text.expandtabs(4).split("\n")
    return "\n".join(f"{indent}{clean(line)}".rstrip() for line in lines)


def moment(when: datetime | None) -> str:
    """Return *when* as this machine's local time with its zone."""
    return "-" if when is None else f"{when.astimezone():%Y-%m-%d %H:%M:%S %Z}"


def span(seconds: float | None) -> str:
    """Return a duration as people say it.

    Args:
        seconds: At least 0; None = not known.

    Returns:
        Its two largest units.

    Example:
        >>> [span(0.25), span(75), span(7322), span(200_000), span(None)]
        ['0.2s', '1m 15s', '2h 2m', '2d 7h', '-']
    """
    if seconds is None:
        return "-"
    if seconds < _MINUTE:
        return f"{seconds:.0f}s" if seconds >= 1 else f"{seconds:.1f}s"
    whole = int(seconds)
    if whole < _HOUR:
        return f"{whole // _MINUTE}m {whole % _MINUTE}s"
    if whole < _DAY:
        return f"{whole // _HOUR}h {whole % _HOUR // _MINUTE}m"
    return f"{whole // _DAY}d {whole % _DAY // _HOUR}h"


def ago(when: datetime | None, now: datetime | None = None) -> str:
    """Return how long ago *when* was."""
    if when is None:
        return "-"
    return f"{span(max(0.0, ((now or datetime.now(UTC)) - when).total_seconds()))} ago"


def many(count: int, noun: str) -> str:
    """Return *count* and the noun in its number."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def width(text: str) -> int:
    """Return the columns that *text* takes on a terminal."""
    return sum(
        0 if unicodedata.combining(char) else 1 + (_is_wide(char)) for char in text
    )


def _is_wide(char: str) -> bool:
    return unicodedata.east_asian_width(char) in {"W", "F"}


def _cut(text: str) -> str:
    if width(text) <= LONGEST_CELL:
        return text
    taken = columns = 0
    for char in text:
        columns += width(char)
        if columns >= LONGEST_CELL:
            break
        taken += 1
    return f"{text[:taken]}…"


def table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table: rich's on a terminal where it is installed, else aligned text.

    Args:
        headers: One for each column.
        rows: As many cells each; shown on one line, cleaned, and cut.
    """
    cells = [[_cut(clean(cell)) for cell in row] for row in rows]
    if sys.stdout.isatty() and _rich_table(headers, cells):
        return
    widths = [
        max(width(row[at]) for row in [list(headers), *cells])
        for at in range(len(headers))
    ]
    for row in [list(headers), *cells]:
        line = "  ".join(
            cell + " " * (widths[at] - width(cell)) for at, cell in enumerate(row)
        )
        click.echo(line.rstrip())


def _rich_table(headers: Sequence[str], cells: list[list[str]]) -> bool:
    try:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        return False
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for at, header in enumerate(headers):
        shown.add_column(header, no_wrap=at == 0, overflow="fold")
    for row in cells:
        shown.add_row(*map(Text, row))
    Console(no_color="NO_COLOR" in os.environ).print(shown)
    return True


def facts(pairs: Iterable[tuple[str, object]]) -> None:
    """Print names and values, aligned; a value of None or no text is left out."""
    shown = [
        (name, value) for name, value in pairs if value is not None and value != ""
    ]
    longest = max((width(name) for name, _ in shown), default=0)
    for name, value in shown:
        click.echo(f"{clean(name):<{longest}}  {clean(value)}")


def as_json(value: Any, *, indent: int | None = 2) -> None:
    """Print *value* as JSON, in ASCII so that nothing in it reaches a terminal raw."""
    click.echo(json.dumps(value, indent=indent))
