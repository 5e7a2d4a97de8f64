"""The channels of a pump, kept at work until all else has ended.

What a worker holds is handed back through them, also where another of its loops, or one
of them, has failed.
"""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

from taskflow._worker.pump import Pump

CHANNELS: Final = 2
"""While one is on its way to the server, the other brings what came up meanwhile."""


@asynccontextmanager
async def pumping(pump: Pump) -> AsyncGenerator[Coroutine[Any, Any, None]]:
    """Run the channels of *pump* for as long as the block lasts.

    Yields:
        What waits until one has failed, and raises why; to be run beside the others.
    """
    channels = [asyncio.create_task(pump.run(number)) for number in range(CHANNELS)]
    try:
        yield _failure(channels)
    finally:
        for channel in channels:
            channel.cancel()
        await asyncio.gather(*channels, return_exceptions=True)


async def _failure(channels: list[asyncio.Task[None]]) -> None:
    ended, _ = await asyncio.wait(channels, return_when=asyncio.FIRST_COMPLETED)
    for each in ended:
        each.result()
