"""Threads for bodies, where the system may refuse to start another.

A container (``pids.max``), a user (``ulimit -u``) or memory sets a bound to them that
nobody can ask for; it shows when a thread cannot be started.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, Final

_logger = logging.getLogger("taskflow.worker")

PAUSE: Final = 5.0
"""Seconds from a thread that could not be started to the next try."""

NAME: Final = "taskflow-body"
"""With which the names of the threads begin."""

_IDLE: Final = 5.0
"""Seconds between two looks of an idle thread whether anybody is left to serve."""

_Work = tuple[Callable[[], Any], Callable[[Any], None]]


class Threads:
    """Runs bodies in threads: in one that is idle, else in a new one.

    A pool of the standard library queues a body before it starts a thread for it:
    where that fails, the caller is told so, and the next thread that gets free runs
    the body all the same. Here a thread is there first.

    Args:
        loop: On which every method is called, and told what bodies return.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._busy = 0

    def start(self, body: Callable[[], Any], ended: Callable[[Any], None]) -> bool:
        """Run *body* in a thread.

        Args:
            body: What to run; raises nothing.
            ended: Called on the loop with what *body* has returned.

        Returns:
            False where no thread could be started: then *body* never runs.
        """
        if self._busy == len(self._threads):
            name = f"{NAME}-{self._busy}"
            thread = threading.Thread(target=self._serve, name=name)
            try:
                thread.start()
            except RuntimeError:
                return False
            self._threads.append(thread)
        self._busy += 1
        self._queue.put((body, ended))
        return True

    def close(self, *, wait: bool) -> None:
        """Let the threads end; with *wait*, return when they have."""
        for _ in self._threads:
            self._queue.put(None)
        if wait:
            for thread in self._threads:
                thread.join()

    def _serve(self) -> None:
        while True:
            try:
                work = self._queue.get(timeout=_IDLE)
            except Empty:
                # Nobody has closed us: the interpreter must not wait for ever.
                if threading.main_thread().is_alive() or self._loop.is_running():
                    continue
                return
            if work is None:
                return
            body, ended = work
            result = body()
            try:
                self._loop.call_soon_threadsafe(self._over, ended, result)
            except RuntimeError:
                return  # the loop is closed
            del work, body, ended, result  # an idle thread keeps nothing alive

    def _over(self, ended: Callable[[Any], None], result: Any) -> None:
        self._busy -= 1
        ended(result)


class ThreadLimit:
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
