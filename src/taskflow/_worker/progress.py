"""What running bodies report: collected without waiting, stored in order.

A body calls ``Context.progress`` from a coroutine or a thread and must not
wait for the server; so its reports gather here and are stored a few times a
second, one at a time for each claim, numbered, and always before the claim is
settled.
"""

import asyncio
import logging
import sys
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import Context
from itertools import islice
from typing import Any

from taskflow._protocol.batch import fitting
from taskflow._protocol.record import Claim
from taskflow._protocol.settle import ProgressReport, SettleWord
from taskflow._protocol.task_events import MOST_CHUNKS
from taskflow.errors import LeaseLostError

_logger = logging.getLogger("taskflow.worker")

FLUSH_EVERY = 0.2
"""Seconds that reports gather: five times a second is live to a person."""

_CHUNKS_PER_NOTE = 100
_LARGEST = sys.float_info.max

SAVE_ON_LOOP = "a coroutine saves with: await ctx.asave(...)"

Send = Callable[[Claim, ProgressReport], Awaitable[SettleWord]]


class ProgressBuffer:
    """What one claim has reported and nobody has stored yet; safe in any thread."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._number = 0
        self._progress: bytes = b""
        self._usage: dict[str, float] = {}
        self._annotations: dict[str, str] = {}
        # The server keeps no more than these, however long it has been away.
        self._chunks = deque[str](maxlen=MOST_CHUNKS)

    def progress(self, text: bytes) -> None:
        """Replace the progress, a JSON object."""
        with self._guard:
            self._progress = text
        self._ask()

    def usage(self, amounts: dict[str, float]) -> None:
        """Add *amounts* to the usage; no sum grows beyond the largest float."""
        with self._guard:
            for name, amount in amounts.items():
                total = self._usage.get(name, 0.0) + amount
                self._usage[name] = max(-_LARGEST, min(_LARGEST, total))
        self._ask()

    def annotate(self, facts: dict[str, str]) -> None:
        """Attach *facts*, JSON texts by name."""
        with self._guard:
            self._annotations.update(facts)
        self._ask()

    def emit(self, chunk: str) -> None:
        """Append *chunk* to the task's output."""
        with self._guard:
            self._chunks.append(chunk)
        self._ask()

    def take(self, checkpoint: bytes = b"") -> list[ProgressReport]:
        """Give out what was reported, in numbered notes.

        Args:
            checkpoint: JSON text to store with it, or empty.

        Returns:
            Notes to be stored in this order, each with at most 100 chunks or 1 MiB of
            them; empty when there is nothing to store.
        """
        with self._guard:
            facts: tuple[Any, ...] = (
                self._progress,
                self._usage,
                self._annotations,
                self._chunks,
            )
            if not any(facts) and not checkpoint:
                return []
            notes = [
                ProgressReport(
                    number=self._number + 1,
                    progress=self._progress,
                    usage=self._usage,
                    annotations=self._annotations,
                    checkpoint=checkpoint,
                    chunks=self._take_chunks(),
                )
            ]
            while self._chunks:
                number = notes[-1].number + 1
                notes.append(ProgressReport(number, chunks=self._take_chunks()))
            self._number = notes[-1].number
            self._progress, self._usage, self._annotations = b"", {}, {}
        return notes

    def _take_chunks(self) -> tuple[str, ...]:
        sizes = (len(each.encode()) for each in islice(self._chunks, _CHUNKS_PER_NOTE))
        return tuple(self._chunks.popleft() for _ in range(fitting(sizes)))

    def _ask(self) -> None:
        """Something was reported: see that it is stored soon."""
        raise NotImplementedError


class ProgressReporter(ProgressBuffer):
    """The reports of one claim, stored from the worker's event loop."""

    def __init__(
        self,
        claim: Claim,
        send: Send,
        loop: asyncio.AbstractEventLoop,
        variables: Context | None = None,
    ) -> None:
        super().__init__()
        self._variables = variables
        self._claim = claim
        self._send = send
        self._loop = loop
        self._loop_thread = threading.get_ident()
        self._one_at_a_time = asyncio.Lock()
        self._flusher: asyncio.Task[None] | None = None
        self._asked = False

    @property
    def pending(self) -> bool:
        """Whether something was reported that is not stored yet."""
        return self._asked or self._flusher is not None

    def _ask(self) -> None:
        if not self._asked:
            self._asked = True
            # With the worker's variables: what a task function starts is its own, and
            # is not there to store the reports of others.
            self._loop.call_soon_threadsafe(self._begin, context=self._variables)

    def _begin(self) -> None:
        if self._flusher is None:
            self._flusher = self._loop.create_task(self._flush_soon())

    async def _flush_soon(self) -> None:
        try:
            await asyncio.sleep(FLUSH_EVERY)
            await self.store()
        finally:
            self._flusher = None
        if self._asked:
            self._begin()

    async def flush(self, checkpoint: bytes = b"") -> None:
        """Store what was reported; returns when the server has it.

        Args:
            checkpoint: JSON text to store with it, or empty.

        Raises:
            LeaseLostError: The task is another's now; nothing was stored.
        """
        async with self._one_at_a_time:
            self._asked = False
            for note in self.take(checkpoint):
                if await self._send(self._claim, note) != "OK":
                    raise LeaseLostError(self._claim.id)

    async def store(self) -> None:
        """Store what was reported; what cannot be stored harms no body."""
        try:
            await self.flush()
        except LeaseLostError:
            pass  # it shows when the task is settled
        except Exception:
            _logger.exception("reports of task %s could not be stored", self._claim.id)

    def save(self, checkpoint: bytes) -> None:
        """Store *checkpoint* from a thread; returns when the server has it.

        Raises:
            RuntimeError: Called on the event loop, which it would block for ever.
        """
        if threading.get_ident() == self._loop_thread:
            raise RuntimeError(SAVE_ON_LOOP)
        future = asyncio.run_coroutine_threadsafe(self.flush(checkpoint), self._loop)
        future.result()
