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
