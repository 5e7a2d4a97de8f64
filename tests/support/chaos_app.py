"""Tasks that write when they begin and when they end."""

import asyncio
import ctypes
import itertools
import os
import resource
import signal
import sys
import threading
import time
from pathlib import Path

from taskflow import Context, Registry

registry = Registry()


def note(word: str, ctx: Context) -> None:
    """Append a line, in one write."""
    line = f"{word} {ctx.id} {ctx.deliveries} {time.time()} {os.getpid()}\n"
    with Path(os.environ["RUN_LOG"]).open("a", encoding="utf-8") as log:
        log.write(line)


@registry.task(name="works")
def works(seconds: float, ctx: Context) -> int:
    """Work for a while."""
    note("start", ctx)
    time.sleep(seconds)
    note("end", ctx)
    return ctx.deliveries


@registry.task(name="aworks")
async def aworks(seconds: float, ctx: Context) -> int:
    """Work for a while on the loop."""
    note("start", ctx)
    await asyncio.sleep(seconds)
    note("end", ctx)
    return ctx.deliveries


@registry.task(name="blocks")
async def blocks(seconds: float, ctx: Context) -> int:
    """Let nothing else run on the loop for a while."""
    note("start", ctx)
    time.sleep(seconds)  # noqa: ASYNC251 - that is what it is for
    note("end", ctx)
    return ctx.deliveries


@registry.task(name="seizes")
def seizes(seconds: int, ctx: Context) -> int:
    """Let no other thread of the process run for a while, the first time.

    As a regular expression or a large power may, but for as long on any machine: the
    interpreter's lock is kept in one call of C.
    """
    note("start", ctx)
    if ctx.deliveries == 1:
        ctypes.PyDLL(None).sleep(seconds)
    note("end", ctx)
    return ctx.deliveries


@registry.task(name="burns")
def burns(seconds: float, ctx: Context) -> int:
    """Compute in Python for a while; a hundred of these share one interpreter lock."""
    note("start", ctx)
    until, numbers = time.monotonic() + seconds, itertools.count()
    while time.monotonic() < until:
        for _ in range(1000):
            next(numbers)
    note("end", ctx)
    return ctx.deliveries


@registry.task(name="dies")
async def dies(seconds: float, ctx: Context) -> int:
    """Take the process along, the first time."""
    note("start", ctx)
    await asyncio.sleep(seconds)
    if ctx.deliveries == 1:
        os._exit(9)
    note("end", ctx)
    return ctx.deliveries


@registry.task(name="pill")
def pill(seconds: float, ctx: Context) -> int:
    """Take the process along, every time."""
    note("start", ctx)
    time.sleep(seconds)
    os._exit(9)


def _exit() -> None:
    os._exit(9)


def _segfault() -> None:
    ctypes.string_at(0)


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _exhaust() -> None:
    """Ask for more memory than there may be, as a library in C++ does.

    In Python that is a `MemoryError`, which any body may raise; an exception that
    comes out of ``operator new`` and that nobody catches ends the process.
    """
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, resource.RLIM_INFINITY))
    ctypes.CDLL("libstdc++.so.6")._Znwm(ctypes.c_size_t(1 << 31))


def _overflow() -> None:
    """Recurse in C until the stack ends."""
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    sys.setrecursionlimit(10**9)
    threading.stack_size(1 << 16)
    thread = threading.Thread(target=repr, args=(nested,))
    thread.start()
    thread.join()


POISONS = {
    "exit": _exit,
    "segfault": _segfault,
    "kill": _kill,
    "memory": _exhaust,
    "overflow": _overflow,
    "abort": os.abort,
}


@registry.task(name="poison")
def poison(way: str, ctx: Context) -> int:
    """Take the process along, every time, in one of the ways that there are."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    note("start", ctx)
    time.sleep(0.1)
    POISONS[way]()
    note("end", ctx)
    return ctx.deliveries
