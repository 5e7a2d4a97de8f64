"""What a worker does with what its heartbeat learns."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from attrs import frozen

from taskflow._events import DataLost, Events, LeaseLost
from taskflow._protocol.settle import ExtendWord
from taskflow._servers.route import Route
from taskflow._worker.dispatcher import Dispatcher
from taskflow._worker.executor import Executor
from taskflow._worker.leases import Leases
from taskflow._worker.liveness import LivenessFile
from taskflow._worker.outage import Outage
from taskflow._worker.reap_gate import ReapGate
from taskflow._worker.scheduler import Scheduler
from taskflow._worker.standby import Standby
from taskflow._worker.upstream_listener import UpstreamListener


@frozen
class HeartbeatListener:
    """The `Listener` of a worker; the heartbeat calls it in its own thread.

    Whatever belongs to the event loop is called there.
    """

    _loop: asyncio.AbstractEventLoop
    _events: Events
    _leases: Leases
    _dispatcher: Dispatcher
    _executor: Executor
    _outage: Outage
    _gate: ReapGate
    _liveness: LivenessFile
    _standby: Standby
    _upstreams: UpstreamListener
    _scheduler: Scheduler
    _route: Callable[[], Route | None]
    _stop: Callable[[], None]

    def lease_statuses(self, words: list[tuple[str, str, ExtendWord]]) -> None:
        """Cancel tasks on request, and abandon those whose lease is lost."""
        self._on_loop(self._hear_statuses, words)

    def server_lost(self, message: str) -> None:
        """Report an outage; reap nothing until the server is back."""
        self._gate.hold()
        self._on_loop(self._outage.begin, message)

    def server_back(self) -> None:
        """End the outage; living workers renew their leases before any is reaped."""
        self._gate.hold()
        self._on_loop(self._outage.end)
        self._on_loop(self._dispatcher.poll_now)

    def answered(self, sent_at: float) -> None:
        """Refresh the liveness file and the standby; reaping may continue."""
        self._gate.answered()
        self._liveness.refresh(self._dispatcher.polled_ago())
        self._standby.beat(sent_at, self._route())

    def is_over(self) -> bool:
        """Whether the event loop was closed while the worker ran, which ends it."""
        if not self._loop.is_closed():
            return False
        self._standby.leave()
        return True

    def server_time(self, now_ms: int, *, jumped: bool) -> None:
        """Note the server's time; if it was set, living workers renew before a reap."""
        self._gate.heard(now_ms, jumped=jumped)

    def data_lost(self) -> None:
        """Declare upstreams and schedules again."""
        self._on_loop(self._recover)

    def drain_asked(self) -> None:
        """Stop the worker, as an operator asked."""
        self._stop()

    def _recover(self) -> None:
        held = {*self._leases.snapshot()}
        self._events.emit(DataLost(self._upstreams.opened))
        self._upstreams.recover(
            each
            for each in self._executor.underway()
            if each.upstream and (each.id, each.token) in held
        )
        self._scheduler.poll_now()

    def _on_loop(self, function: Any, *args: Any) -> None:
        with contextlib.suppress(RuntimeError):  # it is closed
            self._loop.call_soon_threadsafe(function, *args)

    def _hear_statuses(self, words: list[tuple[str, str, ExtendWord]]) -> None:
        for task_id, token, word in words:
            if word == "CANCEL":
                self._executor.cancel(task_id, token)
            elif self._executor.abandon(task_id, token):
                self._dispatcher.forget(task_id, token)
                self._events.emit(LeaseLost(task_id, word, "extend"))
