"""The command that each peer's producer is: enqueue, or look up results.

``enqueue FIRST COUNT SECONDS`` prints a line ``NUMBER ID`` for each call whose enqueue
returned, and a line ``NUMBER !ERROR`` for each that raised; ``results`` reads such lines
and prints ``NUMBER RESULT``, with ``-`` where there is none.
"""

import asyncio
import sys
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol


class Client(Protocol):
    """What enqueues and reads results."""

    async def enqueue(self, number: int, seconds: float) -> Any:
        """Enqueue one call; return what finds its result again."""

    async def result(self, task_id: str) -> Any:
        """Return its result, or None."""


def main(connected: AbstractAsyncContextManager[Client]) -> None:
    """Carry out the command."""
    asyncio.run(_main(connected, sys.argv[1:]))


async def _main(
    connected: AbstractAsyncContextManager[Client], words: list[str]
) -> None:
    async with connected as client:
        if words[0] == "enqueue":
            first, count = int(words[1]), int(words[2])
            for number in range(first, first + count):
                print(number, await _enqueued(client, number, float(words[3])))
        else:
            for line in sys.stdin:
                number, task_id = line.split()
                result = await client.result(task_id)
                print(number, "-" if result is None else result)


async def _enqueued(client: Client, number: int, seconds: float) -> str:
    try:
        return str(await client.enqueue(number, seconds))
    except Exception as error:  # noqa: BLE001 - each peer raises its own
        return f"!{type(error).__name__}"
