"""The one body, as a function and as a coroutine; both write the run log.

A line of the log is ``start`` or ``end``, the task's number, a name for this run,
the process and the time, and is written in one append, so the lines of many
processes never mix. The result of a run is its name: from a stored result it can be
told whose it is.
"""

import asyncio
import os
import secrets
import time

EXTRA = 100_000
"""Numbers from here on end at once: other work, and the question who is alive."""


def _write(word: str, number: int, run: str) -> None:
    line = f"{word} {number} {run} {os.getpid()} {time.monotonic():.3f}\n"
    log = os.open(os.environ["FAULTS_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(log, line.encode())
    os.close(log)


def _seconds(number: int) -> float:
    return 0.0 if number >= EXTRA else float(os.environ["FAULTS_SECONDS"])


def nap(number: int) -> str:
    """Sleep in this thread; give the name of this run."""
    run = secrets.token_hex(6)
    _write("start", number, run)
    time.sleep(_seconds(number))
    _write("end", number, run)
    return run


async def anap(number: int) -> str:
    """Sleep on the event loop; give the name of this run."""
    run = secrets.token_hex(6)
    _write("start", number, run)
    await asyncio.sleep(_seconds(number))
    _write("end", number, run)
    return run
