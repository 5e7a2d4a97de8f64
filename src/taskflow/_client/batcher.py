"""Calls made at the same time on one event loop share a round trip."""

import asyncio
from typing import Any

from taskflow._protocol import enqueue
from taskflow._protocol.enqueue import Stored, Submission
from taskflow.errors import ServerUnavailableError


class Batcher:
    """Lets concurrent callers on one loop share a round trip.

    The first caller sends at once; those who come while it waits go together
    with the next trip. So a lone caller pays nothing, and a crowd is served in
    batches of 100 calls or 1 MiB. Where the server is away, nobody waits longer than
    two trips take to fail.
    """

    def __init__(self, send: Any) -> None:
        self._send = send
        self._busy = False
        self._waiting: list[tuple[Submission, asyncio.Future[Stored]]] = []
        self._flusher: asyncio.Task[None] | None = None

    async def store(self, submission: Submission) -> Stored:
        if self._busy:
            future: asyncio.Future[Stored] = asyncio.get_running_loop().create_future()
            self._waiting.append((submission, future))
            return await future
        self._busy = True
        try:
            stored: list[Stored] = await self._send([submission])
        finally:
            self._busy = False
            if self._waiting:
                self._busy = True
                self._flusher = asyncio.create_task(self._flush())
        return stored[0]

    async def _flush(self) -> None:
        try:
            while self._waiting:
                count = enqueue.how_many(each for each, _ in self._waiting)
                part = self._waiting[:count]
                del self._waiting[:count]
                try:
                    stored = await self._send([submission for submission, _ in part])
                except Exception as error:  # noqa: BLE001 - each caller gets it
                    if isinstance(error, ServerUnavailableError):
                        # The others have waited for the same server: were each
                        # batch to wait in turn, a crowd would wait for minutes.
                        part += self._waiting
                        self._waiting.clear()
                    for _, future in part:
                        if not future.done():
                            future.set_exception(error)
                else:
                    for (_, future), each in zip(part, stored, strict=True):
                        if not future.done():
                            future.set_result(each)
        finally:
            self._busy = False
            self._flusher = None  # a task would keep its loop, and so this object
