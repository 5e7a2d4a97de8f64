"""What every task does: it says that it begins, takes a while, says that it ends.

The lines are the truth about what ran, and nobody else is asked.
"""

import asyncio
import os
import time


def _note(word: str, number: int) -> None:
    """Append a line, in one write."""
    line = f"{word} {number} {_name()} {time.time()}\n"
    log = os.open(os.environ["RUN_LOG"], os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    try:
        os.write(log, line.encode())
    finally:
        os.close(log)


def _name() -> str:
    return os.environ.get("WORKER_NAME", "?")


def run(number: int, seconds: float) -> str:
    """Take *seconds*, in a thread or a process; return the name of the worker."""
    _note("start", number)
    time.sleep(seconds)
    _note("end", number)
    return _name()


async def arun(number: int, seconds: float) -> str:
    """Take *seconds*, on a loop; return the name of the worker."""
    _note("start", number)
    await asyncio.sleep(seconds)
    _note("end", number)
    return _name()
