"""What comes before a body and after it, the same whichever executor runs it.

A claim is opened: its task is found, its limits and its context are made. A run
is closed: what it returned or raised becomes one outcome, and what it says of its
upstream goes with it.
"""

import asyncio
import logging
import time
from datetime import UTC, datetime
from random import Random
from typing import Any

from attrs import evolve

from taskflow._codec import (
    Spec,
    check_size,
    continued,
    decode_spec,
    from_json,
    traceback_of,
)
from taskflow._declare.classification import SUCCESS, CallOutcome, classify
from taskflow._declare.context import Context
from taskflow._declare.ports import ContextPort
from taskflow._declare.registry import Registry
from taskflow._declare.task import Task
from taskflow._protocol import settle
from taskflow._protocol.lenient import moment
from taskflow._protocol.record import LONGEST_ERROR_BYTES, Claim, Outcome
from taskflow._worker.executor import Limits
from taskflow._worker.executors.job import (
    Ending,
    Execution,
    admission_of,
    reporting,
    timed_out,
)
from taskflow._worker.outcome import Judgement, Run, corrupt, crashed, judge, unknown
from taskflow.errors import PayloadError, UnknownTaskError

_logger = logging.getLogger("taskflow.worker")

_MOST_DECLARED = 10_000

_Declared = tuple[Task[..., Any, Any] | None, Spec]


class Executions:
    """Opens claims and closes runs.

    Args:
        registry: The tasks that may run.
        limits: Where a task says nothing itself.
        rng: Source of the jitter of retries.
    """

    def __init__(self, registry: Registry, limits: Limits, rng: Random) -> None:
        self._registry = registry
        self._limits = limits
        self._rng = rng
        self._declared: dict[bytes, _Declared] = {}

    def open(self, claim: Claim) -> Execution | Judgement:
        """Find what *claim* asks for.

        Returns:
            A job, or the verdict where it cannot be run.
        """
        try:
            task, spec = self._declaration(claim.spec)
        except PayloadError as error:
            return corrupt(_run_of(claim, "", None, None), error)
        if task is None:
            return unknown(_run_of(claim, spec.name, None, spec), self._rng)
        return Execution(claim, task, spec)

    def _declaration(self, packed: bytes) -> _Declared:
        known = self._declared.get(packed)
        if known is None:
            spec = decode_spec(packed)
            try:
                task = self._registry.get(spec.name)
            except UnknownTaskError:
                return None, spec
            known = task, spec
            if spec.tick_ms is None and len(self._declared) < _MOST_DECLARED:
                self._declared[packed] = known
        return known

    def start(self, job: Execution) -> bool:
        """Let the clock of *job* run from now, and set its limits.

        Returns:
            Whether its hard limit is another than the usual one.
        """
        job.started = time.monotonic()
        task, spec, limits = job.task, job.spec, self._limits
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
        if job.claim.upstream:
            job.admission = admission_of(job.claim)
        return hard != limits.time_limit

    def context(self, job: Execution, port: ContextPort) -> Context:
        """Make what the body of *job* knows of itself; it reports to *port*."""
        claim = job.claim
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
            port=port,
        )
        return job.context

    def _max_retries(self, job: Execution) -> int:
        if job.spec.max_retries is not None:
            return job.spec.max_retries
        policy = job.task.retry
        if policy is not None and policy.max_retries is not None:
            return policy.max_retries
        return self._limits.max_retries

    def close(
        self, job: Execution, value: Any, error: BaseException | None, seconds: float
    ) -> Ending:
        """Decide what a run came to.

        Args:
            job: The run, over.
            value: What its body returned.
            error: What its body raised, or what stopped it; None = nothing did.
            seconds: The body ran.

        Returns:
            The outcome, the event that tells of it, and *seconds*.
        """
        if error is None:
            try:
                result = job.task.result.encode(value)
                check_size(result, self._limits.max_result_bytes, job.name)
                outcome = settle.complete(job.claim, result)
                return self._reported(job, outcome, SUCCESS), None, seconds
            except BaseException as misfit:  # noqa: BLE001 - encoding calls its code
                error = misfit
        return *self.judge(job, error, seconds), seconds

    def judge(self, job: Execution, error: BaseException, seconds: float) -> Judgement:
        """Decide what becomes of a run that ended with *error*.

        Where what the task declares fails while it is asked, that is the end of the
        run, and the usual rules are asked: without an outcome its lease would be
        renewed for ever.

        Returns:
            The outcome, and the event that tells of it.
        """
        run = self._run_of(job, seconds)
        try:
            return self._judged(job, run, error)
        except BaseException as failure:  # noqa: BLE001 - the error's own code may run
            told = continued(traceback_of(failure, LONGEST_ERROR_BYTES))
            _logger.error("the end of task %s can't be judged\n%s", job.claim.id, told)  # noqa: TRY400 - formatting may run its code
            run = evolve(run, task=None)
            return judge(run, failure, self._limits, self._rng)

    def _judged(self, job: Execution, run: Run, error: BaseException) -> Judgement:
        call = None
        if job.admission is not None:
            call = classify(self._registry.upstream(job.claim.upstream), error)
        run = evolve(run, call=call)
        outcome, event = judge(run, error, self._limits, self._rng)
        if call is not None:
            outcome = self._reported(job, outcome, call, error)
        return outcome, event

    def died(self, job: Execution, how: str) -> Judgement:
        """Decide what becomes of a run whose process has died, or was killed.

        Args:
            job: The run.
            how: The process ended, for people; empty where nobody knows.

        Returns:
            The outcome, and the event that tells of it.
        """
        seconds = time.monotonic() - job.started
        if job.stop == "cancel":
            return self.judge(job, asyncio.CancelledError(), seconds)
        if job.stop == "hard":
            return self.judge(job, timed_out(job, "hard"), seconds)
        run = self._run_of(job, seconds)
        how = how or "its process ended, nobody knows how"
        return crashed(run, how, self._limits.max_crashes)

    def _run_of(self, job: Execution, seconds: float) -> Run:
        is_cancelled = job.stop == "cancel"
        return _run_of(job.claim, job.name, job.task, job.spec, seconds, is_cancelled)

    def _reported(
        self,
        job: Execution,
        outcome: Outcome,
        call: CallOutcome,
        error: BaseException | None = None,
    ) -> Outcome:
        if job.admission is None or job.admission.has_reported:
            return outcome
        upstream = self._registry.upstream(job.claim.upstream)
        return reporting(upstream, job.admission, outcome, call, error)


def _run_of(
    claim: Claim,
    name: str,
    task: Task[..., Any, Any] | None,
    spec: Spec | None,
    seconds: float = 0.0,
    cancelled: bool = False,  # noqa: FBT001, FBT002 - private
) -> Run:
    return Run(claim, name, task, spec, seconds, cancelled)
