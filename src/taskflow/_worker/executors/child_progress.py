"""What a body in a child process reports: stored by the child itself.

A body must not wait for the server, so a thread stores what has gathered, a few
times a second; and always before the outcome goes to the worker. It all goes over
the one connection that the child opens when it first needs it.
"""

import asyncio
import logging
import random
import threading
import time

from taskflow._client.flow_context import FlowContext
from taskflow._protocol import settle
from taskflow._protocol.operation import Operation
from taskflow._protocol.record import Claim
from taskflow._protocol.settle import SettleWord
from taskflow._worker.progress import FLUSH_EVERY, SAVE_ON_LOOP, ProgressBuffer
from taskflow.errors import LeaseLostError, ServerUnavailableError

_logger = logging.getLogger("taskflow.worker")


class ChildProgress(ProgressBuffer):
    """The reports of one claim that runs in a child; safe in any thread.

    Attributes:
        has_any: Whether something was ever reported.
    """

    def __init__(self, claim: Claim, connection: FlowContext) -> None:
        super().__init__()
        self._claim = claim
        self._connection = connection
        self._one_at_a_time = threading.Lock()
        self._timer: threading.Timer | None = None
        self.has_any = False

    def _ask(self) -> None:
        self.has_any = True
        with self._guard:
            if self._timer is None:
                self._timer = threading.Timer(FLUSH_EVERY, self._on_time)
                self._timer.daemon = True
                self._timer.start()

    def _on_time(self) -> None:
        with self._guard:
            self._timer = None
        self.store()

    def store(self) -> None:
        """Store what was reported; what cannot be stored harms no body."""
        try:
            self._flush(b"")
        except LeaseLostError:
            pass  # it shows when the task is settled
        except Exception:
            _logger.exception("reports of task %s could not be stored", self._claim.id)

    def save(self, checkpoint: bytes) -> None:
        """Store *checkpoint* from a function; returns when the server has it.

        Raises:
            RuntimeError: Called in a coroutine, whose loop it would block.
            LeaseLostError: The task is another's now; nothing was stored.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            self._flush(checkpoint)
        else:
            raise RuntimeError(SAVE_ON_LOOP)

    async def flush(self, checkpoint: bytes = b"") -> None:
        """Store what was reported; returns when the server has it.

        Args:
            checkpoint: JSON text to store with it, or empty.

        Raises:
            LeaseLostError: The task is another's now; nothing was stored.
        """
        await asyncio.to_thread(self._flush, checkpoint)

    def _flush(self, checkpoint: bytes) -> None:
        with self._one_at_a_time:
            for note in self.take(checkpoint):
                operation = settle.report_progress(
                    self._connection.keys,
                    self._claim.id,
                    self._claim.token,
                    note,
                    now_ms=self._connection.clock(),
                )
                if self._send(operation) != "OK":
                    raise LeaseLostError(self._claim.id)

    def _send(self, operation: Operation[SettleWord]) -> SettleWord:
        while True:
            try:
                return self._connection.runner.send(operation)
            except ServerUnavailableError:
                time.sleep(random.uniform(0.2, 1.0))  # noqa: S311 - spreads
