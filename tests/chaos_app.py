"""Tasks that write when they begin and when they end."""

import asyncio
import os
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
