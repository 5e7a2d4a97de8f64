"""Threads for bodies, where the system may refuse to start another.

A container (``pids.max``), a user (``ulimit -u``) or memory sets a bound to them that
nobody can ask for; it shows when a thread cannot be started.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

_logger = logging.getLogger("taskflow.worker")

PAUSE: Final = 5.0
"""Seconds from a thread that could not be started to the next try."""

NAME: Final = "taskflow-body"
"""With which the names of the threads begin."""

_R = TypeVar("_R")


class Threads:
    """Runs bodies in threads: in one that is idle, else in a new one.

    Each thread is a pool of its own. A larger pool queues what it is given before it
    starts a thread for it: where that fails, the caller is told that it failed, and
    the next thread that gets free runs it all the same.

    Args:
        loop: On which every method is called.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._all: set[ThreadPoolExecutor] = set()
        self._idle: list[ThreadPoolExecutor] = []

    def start(self, body: Callable[[], _R]) -> "asyncio.Future[_R] | None":
        """Run *body* in a thread.

        Args:
            body: What to run.

        Returns:
            Its result, to come; None where no thread could be started: then it does
            not run, and never will.
        """
        thread = self._idle.pop() if self._idle else ThreadPoolExecutor(1, NAME)
        try:
            future = self._loop.run_in_executor(thread, body)
        except RuntimeError:
            return None  # what the pool has queued goes with it
        self._all.add(thread)
        future.add_done_callback(lambda _: self._idle.append(thread))
        return future

    def close(self, *, wait: bool) -> None:
        """Let the threads end; with *wait*, return when they have."""
        for thread in self._all:
            thread.shutdown(wait=wait, cancel_futures=True)


class Room:
    """How many bodies at a time are worth claiming for, while threads are short.

    Args:
        most: Slots of the worker.

    Attributes:
        slots: Those that are worth it now.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.slots = most
        self._grows_at = float("inf")

    def shrink(self, running: int) -> None:
        """No thread could be started beside *running* bodies."""
        if self.slots == self._most:
            _logger.warning(
                "no thread could be started for a function beside %s bodies that run: "
                "its task is handed back, and fewer than %s slots are used until there "
                "is room; raise the limit of processes (pids of the container, "
                "ulimit -u) or of memory, or lower the concurrency",
                *(running, self._most),
            )
        self.slots = running
        self._grows_at = time.monotonic() + PAUSE

    def grow(self, now: float) -> bool:
        """Make room for some more, if it is time to try.

        Returns:
            Whether it was.
        """
        if now < self._grows_at:
            return False
        self.slots = min(self._most, self.slots + max(1, self.slots // 2))
        self._grows_at = float("inf") if self.slots == self._most else now + PAUSE
        return True
