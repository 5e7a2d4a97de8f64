"""The request to stop a worker, and what becomes of the tasks that it holds.

Everything is bounded by the grace period, because the platform kills when it is over.
The last part of it, the margin, is kept for releasing what could not finish.
"""

import asyncio
import time
from typing import Any

from taskflow._worker.dispatcher import Dispatcher
from taskflow._worker.executor import Executor
from taskflow._worker.leases import Leases

LEAST = 0.5
"""Seconds that each step of the end may take however short the grace period is."""

WITHOUT_GRACE = 5.0
"""Seconds to the end of a process whose grace period is 0: it only releases."""


def margin_of(grace: float) -> float:
    """Return the seconds at the end of *grace* that are kept for releasing."""
    grace = grace or WITHOUT_GRACE
    return min(3.0, max(grace * 0.2, min(1.0, grace * 0.5)))


class Shutdown:
    """Whether a worker is to stop, and how long it may take.

    Args:
        grace: Seconds from the request to the end of the process.
    """

    def __init__(self, grace: float) -> None:
        self._margin = margin_of(grace)
        self._seconds_to_finish = grace and grace - self._margin
        self._grace = grace or WITHOUT_GRACE
        self._requested = asyncio.Event()
        self._now = asyncio.Event()
        self._ends_at = float("inf")

    @property
    def seconds_to_finish(self) -> float:
        """Seconds that running task functions get."""
        return self._seconds_to_finish

    def request(self, now: bool) -> None:  # noqa: FBT001 - call_soon has no keywords
        """Stop; with *now*, release at once what still runs."""
        if self._ends_at == float("inf"):
            self._ends_at = time.monotonic() + self._grace
        self._requested.set()
        if now:
            self._now.set()

    async def requested(self) -> None:
        """Wait for a request."""
        await self._requested.wait()

    def time_left(self) -> float:
        """Return the seconds until everything has to be over, a few at least."""
        left = min(self._grace, self._ends_at - time.monotonic())
        return max(left, LEAST)

    async def wait_for(self, tasks: set[asyncio.Task[Any]]) -> None:
        """Wait for *tasks* as long as task functions may run; a moment at least."""
        ends_at = min(self._ends_at, time.monotonic() + self._grace) - self._margin
        while True:
            _, tasks = await asyncio.wait(tasks, timeout=0.1)
            if not tasks or self._now.is_set() or time.monotonic() >= ends_at:
                return

    async def drain(
        self, dispatcher: Dispatcher, executor: Executor, leases: Leases
    ) -> None:
        """Finish what runs within the grace period, less the margin; release the rest."""
        finished = asyncio.create_task(dispatcher.emptied(self.seconds_to_finish))
        at_once = asyncio.create_task(self._now.wait())
        try:
            await asyncio.wait({finished, at_once}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            finished.cancel()
            at_once.cancel()
        margin = max(LEAST, self._margin)
        if not dispatcher.is_empty:
            dispatcher.release(executor.release_running(), started=True)
            await dispatcher.emptied(margin)
        if dispatcher.is_empty and len(leases):
            # Held, and in nobody's hands: a loop of ours has failed between the two.
            dispatcher.release_rest()
            await dispatcher.emptied(margin)
