"""The channels of the dispatcher: they end last in a worker, whatever else fails.

Only they can release what the worker holds. So they aren't in the task group of the
other loops, which one failure ends; a channel that fails tells that group and continues.
"""

import asyncio
from types import TracebackType
from typing import Final, Self

from taskflow._worker.dispatcher import Dispatcher

CHANNELS: Final = 2
"""Trips that may be underway at once."""

_PAUSE: Final = 0.1
"""Seconds after a failure; by then nothing more is claimed."""


class Channels:
    """Runs the channels of *dispatcher* while the context lasts."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._failure: asyncio.Future[None] = asyncio.Future()

    async def __aenter__(self) -> Self:
        """Start them."""
        numbers = range(CHANNELS)
        self._tasks = [asyncio.create_task(self._keep(each)) for each in numbers]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop them."""
        for each in self._tasks:
            each.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._failure.cancel()

    async def failure(self) -> None:
        """Wait until a channel has failed, and raise what it raised."""
        await self._failure

    async def _keep(self, number: int) -> None:
        while True:
            try:
                await self._dispatcher.run(number)
            except Exception as error:  # noqa: BLE001 - raised by `failure`
                if not self._failure.done():
                    self._failure.set_exception(error)
                await asyncio.sleep(_PAUSE)
