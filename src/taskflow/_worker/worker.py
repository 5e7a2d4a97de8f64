"""The worker: one executor, the pump that feeds it, and the loops around.

The loops stand in modules of their own and do not know each other; here they
are wired together, started and stopped.
"""

import asyncio
import contextlib
import logging
import os
import random
import socket
from collections.abc import AsyncGenerator, Sequence
from importlib.metadata import version
from platform import python_version
from typing import Any

from attrs import evolve

from taskflow._client.admission import AdmissionControl, recovery_ms
from taskflow._client.flow import TaskFlow
from taskflow._codec import to_json
from taskflow._declare.registry import Registry
from taskflow._events import (
    DataLost,
    Events,
    LeaseLost,
    LoopBlocked,
    WorkerStarted,
    WorkerStopped,
    WorkerStopping,
)
from taskflow._protocol.record import Claim, Outcome
from taskflow._protocol.settle import ExtendWord, ProgressReport, SettleWord
from taskflow._settings import WorkerSettings
from taskflow._worker import containment, event_loop, upkeep
from taskflow._worker.channels import Channels
from taskflow._worker.consumer import ConsumerSettings
from taskflow._worker.dispatcher import Dispatcher, DispatcherSettings
from taskflow._worker.executor import Engine, Executor, Limits
from taskflow._worker.executors.local import LocalEngine
from taskflow._worker.heartbeat import Heartbeat, HeartbeatSettings
from taskflow._worker.identity import checked_worker_id, new_worker_id
from taskflow._worker.leases import Leases
from taskflow._worker.liveness import LivenessFile, folder_of
from taskflow._worker.outage import Outage
from taskflow._worker.pubsub import listen_to
from taskflow._worker.reap_gate import ReapGate
from taskflow._worker.scheduler import Scheduler
from taskflow._worker.standby import Standby
from taskflow._worker.stopping import Shutdown
from taskflow._worker.upstream_listener import UpstreamListener
from taskflow.errors import ServerUnavailableError

_logger = logging.getLogger("taskflow.worker")


class Worker:
    """Runs the tasks of one registry, kept by one flow.

    Args:
        flow: Where tasks are kept.
        registry: What this worker serves. Left out: the flow's.
        settings: Left out: those of the flow.
        concurrency: Bodies at a time, from 1. Left out: as the settings say.
        events: To observe what happens. Left out: a new fan-out.
        worker_id: Left out: host, process id and chance.
        claims: False for a scheduler: it runs no body, and does what every worker
            does for the whole fleet: due tasks, ended leases, schedules.
        engine: Where bodies run. Left out: in this process, on the event loop and
            in threads.

    Attributes:
        id: Of this worker.
        registry: What it serves.
        slots: Bodies at a time; 0 for a scheduler.
        limits: Where a task says nothing itself.
        events: Subscribe here.
        guards: What guards in bodies ask.

    Raises:
        ConfigurationError: The id does not fit into a key, or *concurrency*
            is below 1.
    """

    def __init__(
        self,
        flow: TaskFlow,
        *,
        registry: Registry | None = None,
        settings: WorkerSettings | None = None,
        concurrency: int | None = None,
        events: Events | None = None,
        worker_id: str | None = None,
        claims: bool = True,
        engine: Engine | None = None,
    ) -> None:
        self._connection = flow.connection
        known = settings or self._connection.settings.worker
        if concurrency is not None:
            known = evolve(known, concurrency=concurrency)
        self._settings = known
        self.id: str = checked_worker_id(worker_id or new_worker_id())
        self.registry: Registry = flow.registry if registry is None else registry
        self.slots: int = known.concurrency if claims else 0
        self.events: Events = events or Events()
        self.limits: Limits = Limits.of(self._connection.settings, known)
        self._engine: Engine = engine or LocalEngine()
        self._version = version("asynctaskflow")
        self.guards: AdmissionControl = flow.guards
        self._leases = Leases()
        self._liveness = LivenessFile(folder_of(known.health_dir), self.id, known.lease)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop_early = False
        self._owns_loop = False

    def run(self, *, loop_factory: event_loop.LoopFactory | None = None) -> None:
        """Work until stopped; blocks. Signals are the caller's business.

        Returns within the grace period after `stop`, whatever task functions have
        left running: see `still_running`.

        Args:
            loop_factory: Makes the event loop. Left out: asyncio's default.

        Raises:
            ConfigurationError: A task cannot be served.
            ServerRefusedError: Wrong password, missing permission, or no
                scripts.
            RuntimeError: An event loop runs in this thread; use `arun`.
        """
        self._owns_loop = True
        event_loop.run(
            self.arun,
            # Looked up then: every run has its own.
            wait_for=lambda tasks: self._stopping.wait_for(tasks),  # noqa: PLW0108
            loop_factory=loop_factory,
        )

    async def arun(self) -> None:
        """Work until `stop`, then settle or release all that is held; see `run`.

        Asyncio tasks that task functions have left on the loop are not cancelled:
        they may be part of what the program around the worker uses.
        """
        await containment.run_owned(self._work())

    @property
    def still_running(self) -> tuple[str, ...]:
        """Descriptions of functions and asyncio tasks that task functions left running."""
        loop = self._loop
        if loop is None or not hasattr(self, "_executor"):
            return ()
        left = containment.left_on(loop, everything=self._owns_loop)
        return *self._executor.unstopped, *left

    async def _work(self) -> None:
        async with self._assembled():
            try:
                await event_loop.in_thread(self._liveness.open)
                with contextlib.suppress(ServerUnavailableError):  # then later
                    await self._watch.declare()
                await self._start_standby()
                await event_loop.in_thread(self._heartbeat.register)
                self._heartbeat.start()
                self.events.emit(WorkerStarted(self.id, self.facts()))
                async with (
                    Channels(self._dispatcher) as channels,
                    asyncio.TaskGroup() as loops,
                ):
                    self._start_loops(loops, channels)
                    await self._until_stopped()
                    for loop in self._endless:
                        loop.cancel()
            finally:
                self._standby.leave()
                self._leases.show(None)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._stopping.time_left()):
                        await event_loop.in_thread(self._heartbeat.stop)
                        await event_loop.in_thread(self._standby.close)
                await event_loop.in_thread(self._liveness.close)
                stopped = (self.id, self._dispatcher.released, self.still_running)
                self.events.emit(WorkerStopped(*stopped))

    async def run_until_idle(self) -> None:
        """Claim and run until nothing waits, then return; for tests.

        Takes no part in upkeep and renews no leases. What is scheduled for
        later stays scheduled.
        """
        await containment.run_owned(self._run_dry())

    async def _run_dry(self) -> None:
        async with self._assembled():
            await self._watch.declare(is_first=True)
            await self._dispatcher.run_dry()

    def stop(self, *, now: bool = False) -> None:
        """Stop claiming and finish; safe in any thread and signal handler.

        Args:
            now: Hand back at once what still runs.
        """
        self._stop_early = True
        self._on_loop(lambda: self._stopping.request(now))

    def release_from_thread(self) -> None:
        """Settle and release what is held, for a loop that a task function blocks."""
        if len(self._leases):
            self._dispatcher.settle_from_thread(self._connection.server.runner())

    def facts(self) -> dict[str, Any]:
        """Say what this worker is and serves, for banners and beats."""
        return {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "version": self._version,
            "python": python_version(),
            "kind": "worker" if self.slots else "scheduler",
            "executor": self._engine.name,
            "server": self._connection.server.display,
            "prefix": self._connection.keys.prefix,
            "concurrency": self.slots,
            **self._engine.facts(),
            "lease": self._settings.lease,
            "tasks": sorted(self.registry.names()) if self.slots else [],
            "schedules": [each.name for each in self.registry.schedules()],
        }

    @contextlib.asynccontextmanager
    async def _assembled(self) -> AsyncGenerator[None]:
        self._stopping = Shutdown(self._settings.stop_grace_period)
        for task in self.registry:
            task.check()
            for problem in self.limits.age_problem(task.retry) if self.slots else ():
                _logger.warning("task %r: %s", task.name, problem)
        self._loop = asyncio.get_running_loop()
        if self._stop_early:
            self._stopping.request(now=False)
        self._outage = Outage(self.events)
        self._gate = ReapGate(self._settings.lease / 3)
        connection, known = self._connection, self._settings
        keys, share = connection.keys, connection.share
        in_hand = self._engine.in_hand(self.slots)
        rng = random.Random()  # noqa: S311 - spreads retries and workers
        self._standby = Standby(keys, self.id, known.lease, known.time_limit)
        self._runner = connection.server.async_runner()
        self._watch = UpstreamListener(
            self._runner,
            connection,
            self.registry if self.slots else Registry(),
            self.guards,
            self.events,
            recovery_ms(known.lease),
        )
        self._scheduler = Scheduler(
            self._runner,
            keys,
            self.registry.schedules(),
            connection.clock,
            rng,
        )
        self._heartbeat = Heartbeat(
            HeartbeatSettings(keys, self.id, known.lease, connection.clock),
            connection.server.runner(),
            self._leases,
            self,
            self._describe,
        )
        consumer = ConsumerSettings(keys, self.id, known.lease, share)
        self._dispatcher = Dispatcher(
            DispatcherSettings(
                consumer, in_hand, connection.clock, self._declare_again
            ),
            self._runner,
            self._leases,
            self._outage,
            self.events,
        )
        self._executor: Executor = self._engine.executor(self, rng)
        self._dispatcher.serve(self._executor)
        try:
            yield
        finally:
            await self._executor.aclose()
            await self._runner.aclose()

    async def _start_standby(self) -> None:
        # A scheduler holds no leases, and those in this process's memory nobody takes.
        if self.slots and self._connection.server.shared:
            await event_loop.in_thread(self._standby.start)
            self._leases.show(self._standby.table)

    async def _declare_again(self, names: Sequence[str]) -> None:
        await self._watch.declare_again(names)
        self._heartbeat.beat_now()  # the beat finds out whether data was lost

    def _start_loops(self, loops: asyncio.TaskGroup, channels: Channels) -> None:
        context = upkeep.UpkeepContext(
            runner=self._runner,
            keys=self._connection.keys,
            events=self.events,
            max_crashes=self._settings.max_crashes,
            keep=self._connection.settings.queue.result_ttl,
            clock=self._connection.clock,
            gate=self._gate,
            rng=random.Random(),  # noqa: S311 - spreads workers
        )
        self._endless = [
            loops.create_task(channels.failure()),
            loops.create_task(self._scheduler.run()),
            loops.create_task(self._watch.keep_declared(self._executor.underway)),
            loops.create_task(self._watch.listen()),
            loops.create_task(self._hear_cancels()),
            *(loops.create_task(upkeep.repeat(each, context)) for each in upkeep.ALL),
            loops.create_task(self._dispatcher.wait_for_work()),
            loops.create_task(
                event_loop.LagWatch(self._dispatcher.pulse, self._loop_blocked).run()
            ),
        ]

    async def _hear_cancels(self) -> None:
        def take(lease: dict[str, Any]) -> None:
            self._executor.cancel(str(lease["id"]), str(lease["token"]))

        channel = self._connection.keys.worker_channel(self.id)
        # Who was cancelled before we listened is told by the next beat.
        await listen_to(self._runner, channel, take, look=self._heartbeat.beat_now)

    async def _until_stopped(self) -> None:
        """Wait for the request to stop, then drain; cancelled, release at once."""
        try:
            await self._stopping.requested()
            await self._drain()
        except asyncio.CancelledError:
            self._stopping.request(now=True)
            await self._drain()
            raise

    async def _drain(self) -> None:
        self._dispatcher.stop_claiming()
        seconds, running = self._stopping.seconds_to_finish, self._executor.running
        self.events.emit(WorkerStopping(self.id, running, seconds))
        await self._stopping.drain(self._dispatcher, self._executor, self._leases)

    def _loop_blocked(self, seconds: float, culprit: str, place: str) -> None:
        names = self._executor.names
        self.events.emit(LoopBlocked(seconds, names, culprit, place))

    def _describe(self) -> bytes:
        return to_json(
            {
                **self.facts(),
                "held": len(self._leases),
                "polled": round(self._dispatcher.polled_ago(), 1),
                "done": self._dispatcher.completed,
                "failed": self._dispatcher.failed,
                "running": self._executor.describe(),
            }
        )

    # What the executor asks of its host.

    def limited(self, claim: Claim, hard_at: float) -> None:
        """Note that the task function of *claim* runs until *hard_at* at most."""
        self._leases.limit((claim.id, claim.token), hard_at)

    def done(self, claim: Claim, outcome: Outcome) -> None:
        """Take the outcome of *claim*."""
        self._dispatcher.done(claim, outcome)

    def give_back(self, claims: list[Claim]) -> None:
        """Hand back claims that have waited too long, or that cannot be run now."""
        self._dispatcher.release(claims, started=False)

    def narrow(self, slots: int) -> None:
        """Hold no more than *slots* tasks from now on."""
        self._dispatcher.narrow(slots)

    async def note(self, claim: Claim, report: ProgressReport) -> SettleWord:
        """Store what a body reports."""
        return await self._dispatcher.note(claim, report)

    # What the heartbeat says, in its thread.

    def lease_statuses(self, words: list[tuple[str, str, ExtendWord]]) -> None:
        """Take what became of leases that were not simply renewed."""
        self._on_loop(self._hear_statuses, words)

    def server_lost(self, message: str) -> None:
        """The server does not answer."""
        self._gate.hold()
        self._on_loop(self._outage.begin, message)

    def server_back(self) -> None:
        """The server answers again: let living workers renew before reaping."""
        self._gate.hold()
        self._on_loop(self._outage.end)
        self._on_loop(self._dispatcher.poll_now)

    def answered(self, sent_at: float) -> None:
        """The server took a whole beat: a probe may see it, and reaping may go on."""
        self._gate.answered()
        self._liveness.refresh(self._dispatcher.polled_ago())
        self._standby.beat(sent_at, self._connection.server.route())

    def is_over(self) -> bool:
        """Whether the event loop was closed, which ends this worker in mid-run."""
        if self._loop is None or not self._loop.is_closed():
            return False
        self._standby.leave()
        return True

    def server_time(self, now_ms: int, *, jumped: bool) -> None:
        """Take note of the server's time; if it was set, the living renew first."""
        self._gate.heard(now_ms, jumped=jumped)

    def data_lost(self) -> None:
        """The server has lost its data: declare again what is declared here."""
        self._on_loop(self._recover)

    def _recover(self) -> None:
        held = {*self._leases.snapshot()}
        self.events.emit(DataLost(self._watch.opened))
        self._watch.recover(
            each
            for each in self._executor.underway()
            if each.upstream and (each.id, each.token) in held
        )
        self._scheduler.poll_now()

    def drain_asked(self) -> None:
        """Somebody asked this worker to finish and stop."""
        self.stop()

    def _on_loop(self, function: Any, *args: Any) -> None:
        loop = self._loop
        with contextlib.suppress(RuntimeError):  # it is closed
            if loop is not None:
                loop.call_soon_threadsafe(function, *args)

    def _hear_statuses(self, words: list[tuple[str, str, ExtendWord]]) -> None:
        for task_id, token, word in words:
            if word == "CANCEL":
                self._executor.cancel(task_id, token)
            elif self._executor.abandon(task_id, token):
                self._dispatcher.forget(task_id, token)
                self.events.emit(LeaseLost(task_id, word, "extend"))
