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
from taskflow._events import TaskCompleted, TaskStarted
from taskflow._protocol.record import Claim
from taskflow._worker.executor import Host, Limits
from taskflow._worker.executors.desk import Desk
from taskflow._worker.executors.job import Ending, Job, call_body, timed_out
from taskflow._worker.executors.threads import Room, Threads
from taskflow._worker.reports import Reports
from taskflow._worker.verdict import Verdict

BRISK = 0.1
"""Seconds; claiming ahead pays only where bodies run shorter than this."""

_LARGE = 1 << 16
"""Bytes of a payload above which it is worth forgetting."""

WATCH_EVERY = 0.05
"""Seconds between two looks at the limits of all running bodies; one look for
all spares a timer, made and cancelled, for each."""

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
        self._desk = Desk(host.registry, host.limits, rng)
        self._scope = Scope(host.guards)
        self._loop = asyncio.get_running_loop()
        self._jobs: dict[tuple[str, str], Job] = {}
        self._finishing: set[asyncio.Task[None]] = set()
        self._ready: deque[Claim] = deque()
        self._threads = Threads(self._loop)
        self._room = Room(host.slots)
        self._stuck = 0
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
    def is_brisk(self) -> bool:
        """Whether bodies have been short lately."""
        return self._typical < BRISK

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tasks that run now."""
        return tuple(sorted({job.name for job in list(self._jobs.values())}))

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
        job = self._desk.open(claim)
        if not isinstance(job, Job):
            self._refuse(claim, job)
            return
        try:
            arguments = job.task.arguments.decode(claim.payload)
        except Exception as error:  # noqa: BLE001 - decoding calls the task's types
            self._refuse(claim, self._desk.judge(job, error, 0.0))
            return
        if len(claim.payload) > _LARGE:
            # The arguments are decoded: keep them once while the task runs, not twice.
            job.claim = claim._replace(payload=b"")
        self._begin(job, arguments)

    def _begin(self, job: Job, arguments: dict[str, Any]) -> None:
        task, claim = job.task, job.claim
        self._desk.start(job)
        self._host.started(claim, job.hard_at)
        wanted = task.arguments.context_parameter
        if wanted is not None:
            job.reports = Reports(claim, self._host.note, self._loop)
            arguments[wanted] = self._desk.context(job, job.reports)
        if not task.is_async and not self._start_thread(job, arguments):
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
            job.future = self._loop.create_task(self._run_coroutine(job, arguments))

    def _scope_of(self, job: Job) -> Scope:
        if job.admission is None:
            return self._scope
        return Scope(self._host.guards, job.admission)

    async def _run_coroutine(self, job: Job, arguments: dict[str, Any]) -> None:
        job.begun = True
        ports.scope.set(self._scope_of(job))
        try:
            value = await job.task.function(**arguments)
        except BaseException as error:  # noqa: BLE001 - every end is an outcome
            self._ended(job, None, error)
        else:
            self._ended(job, value, None)

    def _start_thread(self, job: Job, arguments: dict[str, Any]) -> bool:
        context = contextvars.copy_context()
        context.run(ports.scope.set, self._scope_of(job))
        body = partial(call_body, job.task.function, arguments)
        return self._threads.start(
            partial(context.run, body), partial(self._thread_ended, job)
        )

    def _fall_short(self, claim: Claim) -> None:
        """Give back what no thread could be started for, and claim less for a while."""
        self._room.shrink(len(self._jobs))
        self._host.narrow(self._room.slots)
        self._host.give_back([claim, *self.release_ready()])

    def _thread_ended(self, job: Job, end: tuple[Any, BaseException | None]) -> None:
        if job.abandoned:
            self._stuck -= 1
        self._ended(job, *end)

    def _ended(self, job: Job, value: Any, error: BaseException | None) -> None:
        if job.abandoned:
            return
        if job.stop == "soft" and is_cancellation(error):
            error = timed_out(job, "soft")
        seconds = time.monotonic() - job.started
        ending = self._desk.close(job, value, error, seconds)
        reports = job.reports
        if reports is not None and reports.pending:
            # The server may be away; limits are for the body, which is over.
            job.soft_at = job.hard_at = float("inf")
            job.ending = ending
            finishing = self._loop.create_task(self._finish_after(reports, job, ending))
            self._finishing.add(finishing)
            finishing.add_done_callback(self._finishing.discard)
        else:
            self._finish(job, ending)

    async def _finish_after(self, reports: Reports, job: Job, ending: Ending) -> None:
        await reports.store()
        if not job.abandoned:
            self._finish(job, ending)

    def _finish(self, job: Job, ending: Ending) -> None:
        del self._jobs[job.claim.id, job.claim.token]
        self._tell(job, ending)
        self._fill()

    def _tell(self, job: Job, ending: Ending) -> None:
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

    def _refuse(self, claim: Claim, decided: Verdict) -> None:
        outcome, event = decided
        self._host.events.emit(event)
        self._host.done(claim, outcome)

    def cancel(self, task_id: str, token: str) -> None:
        """Ask a body to stop: a coroutine is cancelled, a function is told."""
        job = self._jobs.get((task_id, token))
        if job is not None and not job.stop:
            self._interrupt(job, "cancel")

    def _interrupt(self, job: Job, why: str) -> None:
        job.stop = why
        if job.context is not None:
            job.context.mark_cancelled()
        if job.task.is_async and job.future is not None:
            job.future.cancel()
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

    def _let_go(self, job: Job) -> None:
        job.abandoned = True
        if not job.task.is_async and job.ending is None:
            self._stuck += 1
        self._interrupt(job, job.stop or "abandoned")

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

    def _time_out(self, job: Job) -> None:
        del self._jobs[job.claim.id, job.claim.token]
        self._let_go(job)
        seconds = time.monotonic() - job.started
        self._refuse(job.claim, self._desk.judge(job, timed_out(job, "hard"), seconds))
        self._fill()

    async def aclose(self) -> bool:
        """Free threads and the watcher; False if a function is still running."""
        self._watcher.cancel()
        await asyncio.gather(self._watcher, return_exceptions=True)
        self._threads.close(wait=self._stuck == 0)
        return self._stuck == 0
