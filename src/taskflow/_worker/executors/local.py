"""Run bodies in this process: coroutines on the loop, functions in threads."""

import asyncio
import contextvars
import time
from collections import deque
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from random import Random
from typing import Any

from attrs import evolve

from taskflow._codec import Spec, check_size, decode_spec, from_json
from taskflow._declare import ports
from taskflow._declare.classification import SUCCESS, CallVerdict, classify
from taskflow._declare.context import Context
from taskflow._declare.ports import Scope
from taskflow._declare.task import Task
from taskflow._events import TaskCompleted, TaskStarted
from taskflow._protocol import settle
from taskflow._protocol.inspect import moment
from taskflow._protocol.record import Claim, Outcome
from taskflow._worker import verdict
from taskflow._worker.executor import Host
from taskflow._worker.executors.job import (
    Job,
    admission_of,
    call_body,
    reporting,
    timed_out,
)
from taskflow._worker.reports import Reports
from taskflow._worker.verdict import Run, Verdict
from taskflow.errors import PayloadError, UnknownTaskError

BRISK = 0.1
"""Seconds; claiming ahead pays only where bodies run shorter than this."""

WATCH_EVERY = 0.05
"""Seconds between two looks at the limits of all running bodies; one look for
all spares a timer, made and cancelled, for each."""

LONGEST_AHEAD = 0.5
"""Seconds that a claim may wait for a slot; then others shall have it."""

_MOST_THREADS = 10_000
_MOST_DECLARED = 10_000

_Declared = tuple[Task[..., Any, Any] | None, Spec]


class LocalExecutor:
    """The asyncio executor; see the contract in ``executor.py``."""

    def __init__(self, host: Host, rng: Random) -> None:
        self._host = host
        self._rng = rng
        self._scope = Scope(host.guards)
        self._loop = asyncio.get_running_loop()
        self._jobs: dict[tuple[str, str], Job] = {}
        self._finishing: set[asyncio.Task[None]] = set()
        self._ready: deque[Claim] = deque()
        self._declared: dict[bytes, _Declared] = {}
        self._threads: ThreadPoolExecutor | None = None
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

    def _declaration(self, packed: bytes) -> _Declared:
        known = self._declared.get(packed)
        if known is None:
            spec = decode_spec(packed)
            try:
                task = self._host.registry.get(spec.name)
            except UnknownTaskError:
                return None, spec
            known = task, spec
            if spec.tick_ms is None and len(self._declared) < _MOST_DECLARED:
                self._declared[packed] = known
        return known

    def _launch(self, claim: Claim) -> None:
        try:
            task, spec = self._declaration(claim.spec)
        except PayloadError as error:
            self._refuse(
                claim, verdict.corrupt(self._run_of(claim, "", None, None), error)
            )
            return
        if task is None:
            run = self._run_of(claim, spec.name, None, spec)
            self._refuse(claim, verdict.unknown(run))
            return
        job = Job(claim, task, spec)
        try:
            arguments = task.arguments.decode(claim.payload)
        except PayloadError as error:
            run = self._run_of(claim, task.name, task, spec)
            self._refuse(claim, verdict.judge(run, error, self._host.limits, self._rng))
            return
        self._begin(job, arguments)

    def _begin(self, job: Job, arguments: dict[str, Any]) -> None:
        task, claim = job.task, job.claim
        job.started = time.monotonic()
        self._set_limits(job)
        wanted = task.arguments.context_parameter
        if wanted is not None:
            arguments[wanted] = self._context(job)
        self._jobs[claim.id, claim.token] = job
        if claim.upstream:
            job.admission = admission_of(claim)
        if self._host.events.wants(TaskStarted):
            self._host.events.emit(
                TaskStarted(
                    claim.id, job.name, claim.attempts + 1, claim.lane, claim.delivery
                )
            )
        if task.is_async:
            job.future = self._loop.create_task(self._run_coroutine(job, arguments))
        else:
            self._start_thread(job, arguments)

    def _scope_of(self, job: Job) -> Scope:
        if job.admission is None:
            return self._scope
        return Scope(self._host.guards, job.admission)

    def _set_limits(self, job: Job) -> None:
        task, spec, limits = job.task, job.spec, self._host.limits
        hard = spec.timeout if spec.timeout is not None else task.timeout
        soft = task.soft_timeout
        if hard is None:
            hard = limits.time_limit
        if soft is None and limits.soft_time_limit is not None:
            soft = limits.soft_time_limit
        if hard is not None:
            job.hard_at = job.started + hard
        if soft is not None and (hard is None or soft < hard):
            job.soft_at = job.started + soft

    def _context(self, job: Job) -> Context:
        claim = job.claim
        job.reports = Reports(claim, self._host.note, self._loop)
        deadline = None
        if job.hard_at != float("inf"):
            left = job.hard_at - job.started
            deadline = datetime.fromtimestamp(time.time() + left, UTC)
        job.context = Context(
            id=claim.id,
            name=job.name,
            attempt=claim.attempts + 1,
            max_retries=self._max_retries(job),
            deliveries=claim.delivery,
            deadline=deadline,
            tick=None if (tick := job.spec.tick_ms) is None else moment(tick),
            checkpoint=from_json(claim.checkpoint) if claim.checkpoint else None,
            port=job.reports,
        )
        return job.context

    def _max_retries(self, job: Job) -> int:
        if job.spec.max_retries is not None:
            return job.spec.max_retries
        policy = job.task.retry
        if policy is not None and policy.max_retries is not None:
            return policy.max_retries
        return self._host.limits.max_retries

    async def _run_coroutine(self, job: Job, arguments: dict[str, Any]) -> None:
        job.begun = True
        ports.scope.set(self._scope_of(job))
        try:
            value = await job.task.function(**arguments)
        except BaseException as error:  # noqa: BLE001 - every end is an outcome
            self._ended(job, None, error)
        else:
            self._ended(job, value, None)

    def _start_thread(self, job: Job, arguments: dict[str, Any]) -> None:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_MOST_THREADS, "taskflow-body")
        context = contextvars.copy_context()
        context.run(ports.scope.set, self._scope_of(job))
        body = partial(call_body, job.task.function, arguments)
        job.future = self._loop.run_in_executor(self._threads, context.run, body)
        job.future.add_done_callback(lambda future: self._thread_ended(job, future))

    def _thread_ended(self, job: Job, future: "asyncio.Future[Any]") -> None:
        if job.abandoned:
            self._stuck -= 1
        if future.cancelled():
            return
        value, error = future.result()
        self._ended(job, value, error)

    def _ended(self, job: Job, value: Any, error: BaseException | None) -> None:
        if job.abandoned:
            return
        if job.stop == "soft" and isinstance(error, asyncio.CancelledError):
            error = timed_out(job, "soft")
        reports = job.reports
        if reports is not None and reports.pending:
            finishing = self._loop.create_task(
                self._finish_after(reports, job, value, error)
            )
            self._finishing.add(finishing)
            finishing.add_done_callback(self._finishing.discard)
        else:
            self._finish(job, value, error)

    async def _finish_after(
        self, reports: Reports, job: Job, value: Any, error: BaseException | None
    ) -> None:
        await reports.store()
        if not job.abandoned:
            self._finish(job, value, error)

    def _finish(self, job: Job, value: Any, error: BaseException | None) -> None:
        seconds = time.monotonic() - job.started
        self._typical += 0.05 * (seconds - self._typical)
        del self._jobs[job.claim.id, job.claim.token]
        if error is None:
            try:
                result = job.task.result.encode(value)
                check_size(result, self._host.limits.max_result_bytes, job.name)
                outcome = settle.complete(job.claim, result)
            except PayloadError as misfit:
                error = misfit
            else:
                if self._host.events.wants(TaskCompleted):
                    self._host.events.emit(
                        TaskCompleted(
                            job.claim.id, job.name, job.claim.attempts + 1, seconds
                        )
                    )
                self._host.done(job.claim, self._reported(job, outcome, SUCCESS))
        if error is not None:
            self._judge(job, error, seconds)
        self._fill()

    def _judge(self, job: Job, error: BaseException, seconds: float) -> None:
        call = None
        if job.admission is not None:
            upstream = self._host.registry.upstream(job.claim.upstream)
            call = classify(upstream, error)
        run = self._run_of(
            job.claim, job.name, job.task, job.spec, seconds, job.stop == "cancel"
        )
        run = evolve(run, call=call)
        outcome, event = verdict.judge(run, error, self._host.limits, self._rng)
        if call is not None:
            outcome = self._reported(job, outcome, call, error)
        self._refuse(job.claim, (outcome, event))

    def _reported(
        self,
        job: Job,
        outcome: Outcome,
        call: CallVerdict,
        error: BaseException | None = None,
    ) -> Outcome:
        if job.admission is None or job.admission.has_reported:
            return outcome
        upstream = self._host.registry.upstream(job.claim.upstream)
        return reporting(upstream, job.admission, outcome, call, error)

    def _run_of(
        self,
        claim: Claim,
        name: str,
        task: Task[..., Any, Any] | None,
        spec: Spec | None,
        seconds: float = 0.0,
        cancelled: bool = False,  # noqa: FBT001, FBT002 - private
    ) -> Run:
        age = (claim.claimed_ms - claim.age_base_ms) / 1000 + seconds
        return Run(claim, name, task, spec, seconds, age, cancelled)

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
        if not job.task.is_async:
            self._stuck += 1
        self._interrupt(job, job.stop or "abandoned")

    def release_ready(self) -> list[Claim]:
        """Give up the claims that wait for a slot."""
        claims = list(self._ready)
        self._ready.clear()
        return claims

    def release_running(self) -> list[Claim]:
        """Stop all bodies and give up their claims; they give no outcome."""
        jobs = list(self._jobs.values())
        self._jobs.clear()
        for job in jobs:
            self._let_go(job)
        return [job.claim for job in jobs]

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_EVERY)
            now = time.monotonic()
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
        self._judge(job, timed_out(job, "hard"), time.monotonic() - job.started)
        self._fill()

    async def aclose(self) -> bool:
        """Free threads and the watcher; False if a function is still running."""
        self._watcher.cancel()
        await asyncio.gather(self._watcher, return_exceptions=True)
        if self._threads is not None:
            self._threads.shutdown(wait=self._stuck == 0, cancel_futures=True)
        return self._stuck == 0
