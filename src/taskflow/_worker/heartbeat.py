"""Keep leases alive from a thread, whatever the event loop does.

A body that blocks the loop must not lose its lease (measured: a 3 s block
makes a 0.2 s heartbeat on the loop 3.2 s late, one in a thread 0.05 s). So
this thread has a connection of its own, and shares with the loop only the
table of leases and a way to call back. Where it cannot have the interpreter either,
the standby process renews them (``standby.py``).

It also hands back what the server has leased to us and the loop has not heard of:
strays. The reply of their claim was lost, or lies unread while a body blocks the loop.
A lease that the loop holds is renewed every third of a lease, and a reply is trusted
for half of one; so what has less than half left is a stray.
"""

import logging
import random
import secrets
import threading
import time
from collections.abc import Callable
from typing import Protocol

from attrs import frozen

from taskflow._protocol import settle, upkeep
from taskflow._protocol.keys import Keys
from taskflow._protocol.operation import Operation
from taskflow._protocol.record import Outcome
from taskflow._protocol.settle import ExtendWord, SettleWord
from taskflow._protocol.upkeep import BeatReply
from taskflow._servers.runner import SyncRunner
from taskflow._worker.batches import settles
from taskflow._worker.leases import Leases
from taskflow.errors import ServerError, ServerUnavailableError, TaskFlowError

_logger = logging.getLogger("taskflow.worker")

_LOOK_EVERY = 0.5
"""Seconds between two checks whether the worker is over."""


class Listener(Protocol):
    """Whom the heartbeat tells; every method is called in its thread."""

    def lease_statuses(self, words: list[tuple[str, str, ExtendWord]]) -> None:
        """Take what became of leases that were not simply renewed."""

    def server_lost(self, message: str) -> None:
        """The server does not answer."""

    def server_back(self) -> None:
        """The server answers again."""

    def answered(self, sent_at: float) -> None:
        """The server took a whole beat.

        Args:
            sent_at: When it was sent (monotonic clock): its leases count from there,
                however late this thread could read the answer.
        """

    def server_time(self, now_ms: int, *, jumped: bool) -> None:
        """Take the server's time, and whether it was set since the last beat."""

    def data_lost(self) -> None:
        """The server no longer has the data that it had at the last beat."""

    def drain_asked(self) -> None:
        """Somebody asked this worker to finish and stop."""

    def is_over(self) -> bool:
        """Whether the worker has ended without stopping the heartbeat."""
        ...


@frozen
class HeartbeatSettings:
    """What a heartbeat needs to know.

    Attributes:
        keys: Of the prefix in use.
        worker: Id of the worker.
        lease: Seconds; it beats three times as often.
        clock: Gives the time that operations carry, in ms.
    """

    keys: Keys
    worker: str
    lease: float
    clock: Callable[[], int]

    @property
    def period(self) -> float:
        """Seconds between two beats."""
        return self.lease / 3


class Heartbeat(threading.Thread):
    """Renews leases, says that the worker lives, and hears what it is asked."""

    def __init__(
        self,
        settings: HeartbeatSettings,
        runner: SyncRunner,
        leases: Leases,
        listener: Listener,
        describe: Callable[[], bytes],
    ) -> None:
        super().__init__(name=f"taskflow-heartbeat-{settings.worker}", daemon=True)
        self._settings = settings
        self._runner = runner
        self._leases = leases
        self._listener = listener
        self._describe = describe
        self._stopping = False
        self._roused = threading.Event()
        self._lost = False
        self._strays: set[tuple[str, str]] = set()
        self._offset_ms: float | None = None
        self._data_id = ""

    def register(self) -> None:
        """Beat for the first time, in the caller's thread.

        Raises:
            ServerRefusedError: Wrong password, missing permission, no scripts.
        """
        try:
            self._beat()
        except ServerUnavailableError as error:
            self._lose(error)

    def run(self) -> None:
        """Beat until stopped; a server that is away is asked more often."""
        wait = 0.0
        while self._sleep(wait):
            started = time.monotonic()
            try:
                self._beat()
            except ServerError as error:
                self._lose(error)
                wait = random.uniform(0.1, 0.5)  # noqa: S311 - spreads reconnects
                continue
            except Exception:
                # Without this thread every lease of the worker would be lost.
                _logger.exception("a beat failed")
                wait = random.uniform(0.1, 0.5)  # noqa: S311
                continue
            if self._lost:
                self._lost = False
                self._listener.server_back()
            wait = max(0.05, self._settings.period - (time.monotonic() - started))

    def beat_now(self) -> None:
        """Beat now, not when the next beat is due; any thread may ask."""
        self._roused.set()

    def _sleep(self, seconds: float) -> bool:
        """Wait until the next beat is due or asked for; False = beat no more."""
        due = time.monotonic() + seconds
        while not self._listener.is_over():
            left = due - time.monotonic()
            if self._roused.wait(min(left, _LOOK_EVERY)) or left <= _LOOK_EVERY:
                self._roused.clear()
                return not self._stopping
        return False

    def _lose(self, error: ServerError) -> None:
        if not self._lost:
            self._lost = True
            self._listener.server_lost(str(error))

    def stop(self) -> None:
        """Beat no more; say goodbye if the server answers."""
        self._stopping = True
        self._roused.set()
        if self.is_alive():
            self.join(timeout=5.0)
        settings = self._settings
        goodbye = upkeep.heartbeat(
            settings.keys,
            worker=settings.worker,
            info=b"",
            ttl_ms=1,
            known=self._data_id,
            new="",
            now_ms=settings.clock(),
        )
        self._runner.send_all([*self._returns(), goodbye])
        self._runner.close()

    def _beat(self) -> None:
        settings, sent_at = self._settings, time.monotonic()
        beat = upkeep.heartbeat(
            settings.keys,
            worker=settings.worker,
            info=self._describe(),
            ttl_ms=round(settings.lease * 2000),
            known=self._data_id,
            new=secrets.token_hex(8),
            now_ms=settings.clock(),
        )
        held = self._leases.snapshot()
        size = settle.MOST_PER_CALL
        parts = [held[first : first + size] for first in range(0, len(held), size)]
        lease_ms = round(settings.lease * 1000)
        extends = [
            settle.extend(
                settings.keys, part, lease_ms=lease_ms, now_ms=settings.clock()
            )
            for part in parts
        ]
        look = settle.expiring_leases(
            settings.keys,
            worker=settings.worker,
            horizon_ms=lease_ms // 2,
            now_ms=settings.clock(),
        )
        # The beat comes last: it finds lost data before an extend finds lost leases, so
        # that what runs is counted before it is stopped.
        answers = self._runner.send_all([*extends, look, beat])
        for answer in answers:
            if isinstance(answer, TaskFlowError):
                raise answer
        self._listener.answered(sent_at)
        self._hear(answers[-1])
        told = [
            (task_id, token, word)
            for part, words in zip(parts, answers[:-2], strict=True)
            for (task_id, token), word in zip(part, words, strict=True)
            if word != "OK"
        ]
        if told:
            self._listener.lease_statuses(told)
        self._strays.update(self._leases.disown(answers[-2]))
        if self._strays:
            self._hand_back()

    def _hand_back(self) -> None:
        """Hand back the strays; those that the server does not take stay for a beat."""
        for answer in self._runner.send_all(self._returns()):
            if isinstance(answer, TaskFlowError):
                raise answer
        self._strays.clear()

    def _returns(self) -> list[Operation[list[SettleWord]]]:
        outcomes = [Outcome(*pair, "release", b"") for pair in list(self._strays)]
        return settles(self._settings.keys, outcomes, now_ms=self._settings.clock())

    def _hear(self, beat: BeatReply) -> None:
        offset = beat.now_ms - time.monotonic() * 1000
        known = self._offset_ms
        # A step of less than a beat ends no lease that is renewed: each has two beats
        # left when its renewal is due.
        beat_ms = self._settings.period * 1000
        jumped = known is not None and abs(offset - known) > beat_ms
        self._listener.server_time(beat.now_ms, jumped=jumped)
        self._offset_ms = offset
        if self._data_id not in {"", beat.data_id}:
            self._listener.data_lost()
        self._data_id = beat.data_id
        if beat.drain:
            self._listener.drain_asked()
