"""The worker: one executor, the dispatcher that feeds it, and the loops around them.

Each loop has a module of its own and knows no other loop; the worker connects,
starts and stops them.
"""

import asyncio
import contextlib
import logging
import os
import random
import re
import secrets
import socket
from collections.abc import AsyncGenerator, Sequence
from importlib.metadata import version
from platform import python_version
from typing import Any

from attrs import evolve

from taskflow._client.admission import recovery_ms
from taskflow._client.flow import TaskFlow
from taskflow._codec import to_json
from taskflow._declare.registry import Registry
from taskflow._events import (
    Events,
    LoopBlocked,
    WorkerStarted,
    WorkerStopped,
    WorkerStopping,
)
from taskflow._protocol.keys import WORKER_PATTERN
from taskflow._settings import WorkerSettings
from taskflow._worker import containment, event_loop, upkeep
from taskflow._worker.batches import ClaimSettings
from taskflow._worker.channels import Channels
from taskflow._worker.dispatcher import Dispatcher, DispatcherSettings
from taskflow._worker.executor import Engine, Executor, Limits
from taskflow._worker.executors.local import LocalEngine
from taskflow._worker.heartbeat import Heartbeat, HeartbeatSettings
from taskflow._worker.heartbeat_listener import HeartbeatListener
from taskflow._worker.host import WorkerHost
from taskflow._worker.leases import Leases
from taskflow._worker.liveness import LivenessFile, folder_of
from taskflow._worker.outage import Outage
from taskflow._worker.pubsub import listen_to
from taskflow._worker.reap_gate import ReapGate
from taskflow._worker.scheduler import Scheduler
from taskflow._worker.shutdown import Shutdown
from taskflow._worker.standby import Standby
from taskflow._worker.upstream_listener import UpstreamListener
from taskflow.errors import ConfigurationError, ServerUnavailableError

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
        self._guards = flow.guards
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

    def run_until_idle(self) -> None:
        """Claim and run until nothing waits; see `arun_until_idle`. Blocks."""
        asyncio.run(self.arun_until_idle())

    async def arun_until_idle(self) -> None:
        """Claim and run until nothing waits, then return; for tests.

        Takes no part in upkeep and renews no leases. Tasks that are scheduled for
        later stay scheduled.
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
            self._guards,
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
        requests = ClaimSettings(keys, self.id, known.lease, share)
        self._dispatcher = Dispatcher(
            DispatcherSettings(
                requests, in_hand, connection.clock, self._declare_again
            ),
            self._runner,
            self._leases,
            self._outage,
            self.events,
        )
        host = WorkerHost(
            *(self.registry, self.limits, self.events, self.slots, self._guards),
            *(self._dispatcher, self._leases),
        )
        self._executor: Executor = self._engine.executor(host, rng)
        self._dispatcher.serve(self._executor)
        self._heartbeat = self._new_heartbeat(self._loop)
        try:
            yield
        finally:
            await self._executor.aclose()
            await self._runner.aclose()

    def _new_heartbeat(self, loop: asyncio.AbstractEventLoop) -> Heartbeat:
        connection, lease = self._connection, self._settings.lease
        listener = HeartbeatListener(
            *(loop, self.events, self._leases, self._dispatcher, self._executor),
            *(self._outage, self._gate, self._liveness, self._standby),
            *(self._watch, self._scheduler, connection.server.route, self.stop),
        )
        settings = HeartbeatSettings(connection.keys, self.id, lease, connection.clock)
        runner = connection.server.runner()
        return Heartbeat(settings, runner, self._leases, listener, self._describe)

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

    def _on_loop(self, function: Any, *args: Any) -> None:
        loop = self._loop
        with contextlib.suppress(RuntimeError):  # it is closed
            if loop is not None:
                loop.call_soon_threadsafe(function, *args)


def new_worker_id() -> str:
    """Make an id from host, process and chance, in the grammar of keys."""
    host = re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname())[:64] or "host"
    return f"{host}-{os.getpid()}-{secrets.token_hex(4)}"


def checked_worker_id(worker_id: str) -> str:
    """Return *worker_id*.

    Raises:
        ConfigurationError: It does not fit into a key.
    """
    if not WORKER_PATTERN.fullmatch(worker_id):
        problem = f"worker id {worker_id!r} may hold letters, digits, '_', '.', '-'"
        raise ConfigurationError(problem)
    return worker_id
