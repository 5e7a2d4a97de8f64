"""The bodies of the benchmarks' tasks, the same for every peer.

A body that ends appends one line of 20 bytes to the file that ``BENCH_MARKS``
names. The time of a run is read from these lines, so no peer is asked when
it believes to have finished; one line costs about 1.5 us.
"""

import asyncio
import os
import time
from functools import cache
from pathlib import Path

LINE = 20
"""Bytes of a mark: 19 digits and a line end."""

SLEEP = 0.05
"""Seconds that one sleeping body sleeps."""


@cache
def _file() -> int:
    return os.open(os.environ["BENCH_MARKS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def _mark(number: int) -> None:
    os.write(_file(), b"%019d\n" % number)


async def noop(pad: str) -> None:
    """Do nothing and say when."""
    _mark(time.time_ns())


async def late(sent: int) -> None:
    """Say how long after *sent* (ns since the epoch) the body began."""
    _mark(time.time_ns() - sent)


async def nap(pad: str) -> None:
    """Sleep, and say when it was over."""
    await asyncio.sleep(SLEEP)
    _mark(time.time_ns())


def count(marks: Path) -> int:
    """Count the marks made so far."""
    return marks.stat().st_size // LINE if marks.exists() else 0


def read(marks: Path) -> list[int]:
    """Read the marks, in the order they were made."""
    return [int(line) for line in marks.read_bytes().split()]
