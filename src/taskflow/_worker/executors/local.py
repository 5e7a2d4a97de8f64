"""Run bodies in this process: coroutines on the loop, functions in threads."""

import asyncio
import contextvars
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from random import Random
from typing import Any

from taskflow._client.flow import TaskFlow
from taskflow._declare import ports
from taskflow._declare.error_groups import is_cancellation
from taskflow._declare.ports import Scope
from taskflow._declare.registry import Registry
from taskflow._events import TaskCompleted, TaskReleased, TaskStarted
from taskflow._protocol import settle
from taskflow._protocol.record import Claim
from taskflow._worker import containment
from taskflow._worker.containment import WorkerOwner
from taskflow._worker.executor import Host, Limits
from taskflow._worker.executors.execution import Executions
from taskflow._worker.executors.job import (
    Ending,
    Execution,
    call_body,
    timed_out,
)
from taskflow._worker.executors.threads import ThreadLimit, Threads
from taskflow._worker.outcome import Judgement
from taskflow._worker.progress import ProgressReporter

BRISK = 0.1
"""Seconds; claiming ahead pays only where bodies run shorter than this."""

_LARGE = 1 << 16
"""Bytes of a payload above which it is worth forgetting."""

WATCH_EVERY = 0.05
"""Seconds between two looks at the limits of all running bodies; one look for
all spares a timer, made and cancelled, for each."""

FAULT_GRACE = 5.0
"""Seconds that a body has to clean up after something it started tried to exit."""

LONGEST_AHEAD = 0.5
"""Seconds that a claim may wait for a slot; then others shall have it."""


class LocalEngine:
    """Runs bodies in the process of the worker; see the contract."""

    name = "asyncio"

    def in_hand(self, slots: int) -> int:
        """Hold what runs; a little more is claimed where bodies are short."""
        return slots

    def executor(self, host: Host, rng: Random) -> "LocalExecutor":
        """Make the executor of *host*."""
        return LocalExecutor(host, rng)

    def kill(self) -> None:
        """Bodies have no processes of their own."""

    def facts(self) -> dict[str, Any]:
        """Nothing but the name has to be said."""
        return {}

    def run(
        self,
        flow: TaskFlow,
        registry: Registry,
        limits: Limits,
        main: Callable[[], None],
    ) -> None:
        """Call *main*."""
        del flow, registry, limits
        main()


class LocalExecutor:
    """The asyncio executor; see the contract in ``executor.py``."""

    def __init__(self, host: Host, rng: Random) -> None:
        self._host = host
        self._executions = Executions(host.registry, host.limits, rng)
        self._loop = asyncio.get_running_loop()
        self._variables = contextvars.copy_context()
        self._variables.run(ports.scope.set, Scope(host.guards))
        self._on_fault = self._faulted
        self._owner = containment.owner.get()
        self._jobs: dict[tuple[str, str], Execution] = {}
        self._finishing: set[asyncio.Task[None]] = set()
        self._ready: deque[Claim] = deque()
        self._threads = Threads(self._loop)
        self._room = ThreadLimit(host.slots)
        self._abandoned: set[Execution] = set()
        # Slow until shown otherwise: a claim taken ahead of bodies that turn out
        # to be long would wait behind them.
        self._typical = 10 * BRISK
        self._moved_at = 0.0
        self._watcher = self._loop.create_task(self._watch())

    @property
    def running(self) -> int:
        """Bodies that run now."""
        return len(self._jobs)

    @property
    def ready(self) -> int:
        """Claims that wait for a free slot."""
        return len(self._ready)

    @property
    def can_prefetch(self) -> bool:
        """Whether bodies have been short lately."""
        return self._typical < BRISK

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tasks that run now."""
        return tuple(sorted({job.name for job in list(self._jobs.values())}))

    def underway(self) -> list[Claim]:
        """Give the claims whose functions run, those that were abandoned too."""
        jobs = [job for job in self._jobs.values() if job.ending is None]
        return [job.claim for job in (*jobs, *self._abandoned)]

    def describe(self) -> list[dict[str, object]]:
        """Say of each running body what it is and for how long it has run."""
        now = time.monotonic()
        return [
            {
                "id": job.claim.id,
                "name": job.name,
                "attempt": job.claim.attempts + 1,
                "seconds": round(now - job.started, 1),
            }
            for job in list(self._jobs.values())[:100]
        ]

    def start(self, claims: Iterable[Claim]) -> None:
        """Run *claims*, in their order, as slots get free."""
        self._ready.extend(claims)
        self._fill()

    def _fill(self) -> None:
        while self._ready and len(self._jobs) < self._host.slots:
            self._moved_at = time.monotonic()
            self._launch(self._ready.popleft())

    def _launch(self, claim: Claim) -> None:
        job = self._executions.open(claim)
        if not isinstance(job, Execution):
            self._refuse(claim, job)
            return
        try:
            arguments = job.task.arguments.decode(claim.payload)
        except BaseException as error:  # noqa: BLE001 - decoding calls the task's types
            self._refuse(claim, self._executions.judge(job, error, 0.0))
            return
        if len(claim.payload) > _LARGE:
            # The arguments are decoded: keep them once while the task runs, not twice.
            job.claim = claim._replace(payload=b"")
        self._begin(job, arguments)

    def _begin(self, job: Execution, arguments: dict[str, Any]) -> None:
        task, claim = job.task, job.claim
        if self._executions.start(job):
            self._host.limited(claim, job.hard_at)
        wanted = task.arguments.context_parameter
        if wanted is not None:
            job.reports = ProgressReporter(
                claim, self._host.note, self._loop, self._variables
            )
            arguments[wanted] = self._executions.context(job, job.reports)
        job.on_fault = self._on_fault
        job.variables = variables = self._variables.copy()
        if not task.is_async and not self._start_thread(job, variables, arguments):
            self._fall_short(claim)
            return
        self._jobs[claim.id, claim.token] = job
        if self._host.events.wants(TaskStarted):
            self._host.events.emit(
                TaskStarted(
                    claim.id, job.name, claim.attempts + 1, claim.lane, claim.delivery
                )
            )
        if task.is_async:
            coroutine = self._run_coroutine(job, arguments)
            job.future = containment.owned(self._loop, coroutine, job, variables)

    def _enter(self, job: Execution) -> None:
        """Set the variables that a body runs with, but those that all have."""
        containment.owner.set(job)
        if job.admission is not None:
            ports.scope.set(Scope(self._host.guards, job.admission))

    async def _run_coroutine(self, job: Execution, arguments: dict[str, Any]) -> None:
        job.begun = True
        self._enter(job)
        value: Any = None
        error: BaseException | None = None
        try:
            value = await job.task.function(**arguments)
        except BaseException as raised:  # noqa: BLE001 - every end is an outcome
            error = raised
        # Not in the except block: the error would be the context of any that follows,
        # and the log would run its code.
        self._ended(job, value, error)

    def _start_thread(
        self, job: Execution, variables: contextvars.Context, arguments: dict[str, Any]
    ) -> bool:
        variables.run(self._enter, job)
        body = partial(call_body, job.task.function, arguments)
        return self._threads.start(
            partial(variables.run, body), partial(self._thread_ended, job)
        )

    def _fall_short(self, claim: Claim) -> None:
        """Give back what no thread could be started for, and claim less for a while."""
        self._room.shrink(len(self._jobs))
        self._host.narrow(self._room.slots)
        self._host.give_back([claim, *self.release_ready()])

    def _thread_ended(
        self, job: Execution, end: tuple[Any, BaseException | None]
    ) -> None:
        self._ended(job, *end)

    def _ended(self, job: Execution, value: Any, error: BaseException | None) -> None:
        # Both hold the job: a cycle for each would keep the garbage collector busy.
        job.future = job.variables = None
        if job.abandoned:
            self._abandoned.discard(job)
            return
        seconds = time.monotonic() - job.started
        if error is not None and self._is_collateral(job, error):
            released = TaskReleased(job.claim.id, started=True)
            ending: Ending = (settle.release(job.claim), released, seconds)
        else:
            if job.stop == "soft" and is_cancellation(error):
                error = timed_out(job, "soft")
            ending = self._executions.close(
                job, value, error if job.fault is None else job.fault, seconds
            )
        reports = job.reports
        if reports is not None and reports.pending:
            # The server may be away; limits are for the body, which is over.
            job.soft_at = job.hard_at = float("inf")
            job.ending = ending
            # With the worker's variables: this is no asyncio task of the body's.
            finishing = self._variables.copy().run(
                self._loop.create_task, self._finish_after(reports, job, ending)
            )
            self._finishing.add(finishing)
            finishing.add_done_callback(self._finishing.discard)
        else:
            self._finish(job, ending)

    def _is_collateral(self, job: Execution, error: BaseException) -> bool:
        """Whether *job* ended because something else cancelled what it ran."""
        if job.fault is not None or job.stop or not is_cancellation(error):
            return False
        whose = self._owner
        is_worker_cancelled = isinstance(whose, WorkerOwner) and whose.is_cancelled
        return job.is_harmed or is_worker_cancelled

    async def _finish_after(
        self, reports: ProgressReporter, job: Execution, ending: Ending
    ) -> None:
        await reports.store()
        if not job.abandoned:
            self._finish(job, ending)

    def _finish(self, job: Execution, ending: Ending) -> None:
        del self._jobs[job.claim.id, job.claim.token]
        self._tell(job, ending)
        self._fill()

    def _tell(self, job: Execution, ending: Ending) -> None:
        outcome, event, seconds = ending
        self._typical += 0.05 * (seconds - self._typical)
        if event is not None:
            self._host.events.emit(event)
        elif self._host.events.wants(TaskCompleted):
            attempt = job.claim.attempts + 1
            self._host.events.emit(
                TaskCompleted(job.claim.id, job.name, attempt, seconds)
            )
        self._host.done(job.claim, outcome)

    def _refuse(self, claim: Claim, decided: Judgement) -> None:
        outcome, event = decided
        self._host.events.emit(event)
        self._host.done(claim, outcome)

    def cancel(self, task_id: str, token: str) -> None:
        """Ask a body to stop: a coroutine is cancelled, a function is told."""
        job = self._jobs.get((task_id, token))
        if job is not None and not job.stop:
            self._interrupt(job, "cancel")

    def _interrupt(self, job: Execution, why: str) -> None:
        job.stop = why
        if job.context is not None:
            job.context.mark_cancelled()
        if job.future is not None and job.variables is not None:
            # With its own variables, so that what it awaits is cancelled as by itself:
            # it may await asyncio tasks of its worker and of others.
            job.variables.copy().run(job.future.cancel)
            if not job.begun and not job.abandoned:
                # Cancelled before its first step, it never takes one.
                self._ended(job, None, asyncio.CancelledError())

    def abandon(self, task_id: str, token: str) -> bool:
        """Stop a body whose lease is lost; it gives no outcome."""
        job = self._jobs.pop((task_id, token), None)
        if job is not None:
            self._let_go(job)
            self._fill()
            return True
        for claim in self._ready:
            if (claim.id, claim.token) == (task_id, token):
                self._ready.remove(claim)
                return True
        return False

    def _let_go(self, job: Execution) -> None:
        job.abandoned = True
        if job.ending is None and (job.begun or not job.task.is_async):
            self._abandoned.add(job)
        self._interrupt(job, job.stop or "abandoned")

    def _faulted(self, job: Execution) -> bool:
        if (job.claim.id, job.claim.token) not in self._jobs or job.ending is not None:
            return False
        # Not at once: this is called while the body runs.
        self._loop.call_soon(self._end_faulted, job, context=self._variables)
        return True

    def _end_faulted(self, job: Execution) -> None:
        job.hard_at = min(job.hard_at, time.monotonic() + FAULT_GRACE)
        if not job.stop:
            self._interrupt(job, "fault")

    def release_ready(self) -> list[Claim]:
        """Give up the claims that wait for a slot."""
        claims = list(self._ready)
        self._ready.clear()
        return claims

    def release_running(self) -> list[Claim]:
        """Stop all bodies and give up the claims of those that had not ended."""
        jobs = list(self._jobs.values())
        self._jobs.clear()
        for job in jobs:
            self._let_go(job)
            if job.ending is not None:
                self._tell(job, job.ending)
        return [job.claim for job in jobs if job.ending is None]

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_EVERY)
            now = time.monotonic()
            if self._room.grow(now):
                self._host.narrow(self._room.slots)
            if self._ready and now - self._moved_at > LONGEST_AHEAD:
                self._typical = 10 * BRISK
                self._host.give_back(self.release_ready())
            for job in [
                job
                for job in self._jobs.values()
                if now >= min(job.soft_at, job.hard_at)
            ]:
                if now >= job.hard_at:
                    self._time_out(job)
                elif not job.stop:
                    self._interrupt(job, "soft")

    def _time_out(self, job: Execution) -> None:
        del self._jobs[job.claim.id, job.claim.token]
        self._let_go(job)
        seconds = time.monotonic() - job.started
        error = timed_out(job, "hard") if job.fault is None else job.fault
        self._refuse(job.claim, self._executions.judge(job, error, seconds))
        self._fill()

    @property
    def unstopped(self) -> tuple[str, ...]:
        """The functions that were given up and have not returned."""
        return tuple(
            sorted(
                f"thread: function of task {job.label}"
                for job in self._abandoned
                if not job.task.is_async
            )
        )

    async def aclose(self) -> None:
        """Free the watcher, and the threads but those of functions that still run."""
        self._watcher.cancel()
        await asyncio.gather(self._watcher, return_exceptions=True)
        self._threads.close(wait=all(job.task.is_async for job in self._abandoned))
