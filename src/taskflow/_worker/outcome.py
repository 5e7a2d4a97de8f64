"""What a finished run comes to: a value or an exception becomes one outcome.

Pure: the same run gives the same outcome, whichever executor ran it. The
randomness of a retry's delay is an argument.
"""

import logging
import re
import traceback
from hashlib import blake2b
from random import Random
from typing import Any

from attrs import frozen

from taskflow._codec import Spec, class_name, continued, text_of, traceback_of
from taskflow._declare.classification import CallOutcome
from taskflow._declare.error_groups import is_group, leaves_of, parts_of
from taskflow._declare.retry_policy import (
    Failure,
    GiveUp,
    RetryIn,
    RetryPolicy,
    decide,
    full_jitter_delay,
)
from taskflow._declare.task import Task
from taskflow._events import (
    Event,
    TaskCancelled,
    TaskCrashed,
    TaskDeadLettered,
    TaskFailed,
    TaskParked,
    TaskRetried,
    TaskSnoozed,
)
from taskflow._protocol import settle
from taskflow._protocol.record import (
    LONGEST_ERROR_BYTES,
    Claim,
    ErrorFacts,
    Outcome,
)
from taskflow._worker.executor import Limits
from taskflow.errors import (
    Cancel,
    CircuitBreakerError,
    DeadLetter,
    PayloadError,
    Retry,
    Snooze,
)

_logger = logging.getLogger("taskflow.worker")

UNKNOWN_WAIT = 2.0
"""Most seconds that a task waits after a worker that does not know its name.

Drawn at random, so that the workers of two groups do not keep claiming each other's
tasks in step. Longer waits would delay the start after a deploy; shorter ones would
cost more claims: a waiting task costs about one a second."""

_DEFAULT_POLICY = RetryPolicy()
_SHORTEST_WAIT = 1.0
_STOPPED = "cancelled while it ran"
_HEX = re.compile(r"\b(?:0x)?[0-9a-fA-F]{8,}(?:-[0-9a-fA-F]{4,}){0,4}\b")
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


@frozen
class Run:
    """One run of a claim, over.

    Attributes:
        claim: What was run.
        name: Of the task.
        task: The declared function; None when this worker has none.
        spec: The packed part of the record; None when it is unreadable.
        seconds: The body ran.
        cancelled: Whether somebody asked the task to stop.
        call: What the run says of its upstream; None = it needs none.
    """

    claim: Claim
    name: str
    task: Task[..., Any, Any] | None
    spec: Spec | None
    seconds: float
    cancelled: bool = False
    call: CallOutcome | None = None

    @property
    def attempt(self) -> int:
        """Failed attempts before this run, + 1."""
        return self.claim.attempts + 1

    @property
    def age(self) -> float:
        """Seconds of run time and retry waits, this run included."""
        return self.claim.age_ms / 1000 + self.seconds


Judgement = tuple[Outcome, Event]


def describe_error(
    name: str, error: BaseException, raised: BaseException | None = None
) -> ErrorFacts:
    """Reduce an exception to bounded text; whatever it does when asked.

    Args:
        name: Of the task; part of the fingerprint.
        error: The exception that decided; of a group, its first leaf is described.
        raised: What the function raised. If it is a group, the traceback shows it
            whole.

    Returns:
        Type, message, traceback and fingerprint.
    """
    leaf = parts_of(error)[0]
    kind = class_name(leaf)
    message = _text_of(leaf)
    whole = error if raised is None or not is_group(raised) else raised
    return ErrorFacts(
        type=kind,
        message=message,
        traceback=traceback_of(whole, LONGEST_ERROR_BYTES),
        fingerprint=fingerprint(name, kind, message, _place(leaf)),
    )


def fingerprint(name: str, kind: str, message: str, place: str) -> str:
    """Name a kind of error: what varies from one to the next is left out.

    Digits, hexadecimal ids and quoted text are replaced before hashing, so
    that "timeout after 31 s for 'a'" and "timeout after 7 s for 'b'" share a
    group.

    Returns:
        Twelve hexadecimal digits.
    """
    first = message.strip().splitlines()[0] if message.strip() else ""
    shape = _NUMBER.sub("#", _HEX.sub("#", _QUOTED.sub("'…'", first[:500])))
    text = f"{name}\n{kind}\n{shape}\n{place}"
    return blake2b(text.encode(errors="replace"), digest_size=6).hexdigest()


def _place(error: BaseException) -> str:
    try:
        frames = traceback.extract_tb(error.__traceback__, limit=-1)
    except BaseException:  # noqa: BLE001 - a class may have its own __traceback__
        return ""
    return f"{frames[0].filename.rpartition('/')[2]}:{frames[0].name}" if frames else ""


def _text_of(given: object) -> str:
    return text_of(given, LONGEST_ERROR_BYTES)


def judge(run: Run, error: BaseException, limits: Limits, rng: Random) -> Judgement:
    """Decide what becomes of a run that ended with *error*.

    An error whose own code fails while it is looked at counts as that failure: a
    run without an outcome would hold its lease for ever.

    Args:
        run: The run.
        error: What the body raised, or what stopped it.
        limits: Where the task says nothing itself.
        rng: Source of the jitter.

    Returns:
        The outcome, and the event that tells of it.
    """
    try:
        return _judged(run, error, limits, rng)
    except BaseException as failure:  # noqa: BLE001 - the error's own code may run
        told = continued(traceback_of(failure, LONGEST_ERROR_BYTES))
        _logger.error("an error of %r could not be judged\n%s", run.name, told)  # noqa: TRY400 - formatting may run its code
        return _judge_failure(run, failure, limits, rng)


def _judged(run: Run, error: BaseException, limits: Limits, rng: Random) -> Judgement:
    steered = _steered(run, error)
    return steered or _judge_failure(run, error, limits, rng)


def _steered(run: Run, error: BaseException) -> Judgement | None:
    """Decide where *error* is no failed attempt; None = it is one."""
    leaves = leaves_of(error)
    told = _signalled(run, error, leaves)
    if told or any(isinstance(leaf, Retry) for leaf in leaves):
        return told
    return _excused(run, error, leaves)


def _signalled(
    run: Run, error: BaseException, leaves: list[BaseException]
) -> Judgement | None:
    """Do what the signals in *error* ask for, except for a `Retry`."""
    cancels = [leaf for leaf in leaves if isinstance(leaf, Cancel)]
    if cancels or run.cancelled:
        return _cancelled(run, cancels[0].reason if cancels else _STOPPED)
    for leaf in leaves:
        if isinstance(leaf, DeadLetter):
            return _dead_for(run, leaf, error, "requested")
    snoozes = [leaf for leaf in leaves if isinstance(leaf, Snooze)]
    if snoozes:
        return _snoozed(run, max(snoozes, key=lambda each: each.seconds))
    return None


def _excused(
    run: Run, error: BaseException, leaves: list[BaseException]
) -> Judgement | None:
    """Decide where *error* is not the fault of this attempt, or of any other."""
    for leaf in leaves:
        if isinstance(leaf, PayloadError):
            return _dead_for(run, leaf, error, "payload")
    call = run.call
    if call is not None and (
        call.parks or (call.kind == "failure" and run.claim.is_probe)
    ):
        return _parked(run, error, call)
    refusals = [leaf for leaf in leaves if isinstance(leaf, CircuitBreakerError)]
    if len(refusals) == len(leaves):
        # Of another upstream than its own: no fault of the task's either.
        last = max(refusals, key=lambda each: each.retry_after)
        delay = max(_SHORTEST_WAIT, last.retry_after)
        return _snoozed(run, Snooze(delay, _text_of(last)))
    return None


def unknown(run: Run, rng: Random) -> Judgement:
    """Decide what becomes of a task whose name this worker does not know.

    It waits for a worker that does, for as long as it takes, and uses no attempt.

    Args:
        run: The run, which has not begun.
        rng: Source of the jitter.

    Returns:
        The outcome, and the event that tells of it.
    """
    delay = full_jitter_delay(
        run.claim.delivery, base=UNKNOWN_WAIT / 4, cap=UNKNOWN_WAIT, rng=rng
    )
    reason = f"a worker does not know {run.name!r}"
    # Without the worker, so that the lines of all workers are equal: see `once`.
    entry = {"attempt": run.attempt, "reason": reason}
    outcome = settle.snooze(run.claim, delay=delay, entry=entry, once=True)
    event = TaskSnoozed(run.claim.id, run.name, delay, reason, is_unknown=True)
    return outcome, event


def corrupt(run: Run, error: Exception) -> Judgement:
    """Decide what becomes of a record that cannot be read."""
    facts = describe_error(run.name, error)
    return _dead(run, facts, "corrupt", error, uses_attempt=False)


def crashed(run: Run, how: str, max_crashes: int) -> Judgement:
    """Decide what becomes of a task that its process died of.

    A crash is no attempt: nobody knows whether the body failed, or was killed.

    Args:
        run: The run.
        how: The process ended, for people.
        max_crashes: At which a task is poison.

    Returns:
        The outcome, and the event that tells of it.
    """
    crashes = run.claim.crashes + 1
    entry = _entry(run, crashes=crashes, how=how)
    outcome = settle.crash(run.claim, how, max_crashes=max_crashes, entry=entry)
    is_poison = crashes >= max_crashes and not run.cancelled
    event = TaskCrashed(run.claim.id, run.name, crashes, how, is_poison, run.seconds)
    return outcome, event


def _judge_failure(
    run: Run, error: BaseException, limits: Limits, rng: Random
) -> Judgement:
    task, spec = run.task, run.spec
    policy = (task.retry if task is not None else None) or _DEFAULT_POLICY
    most = spec.max_retries if spec is not None else None
    if most is None:
        most = policy.max_retries
    _, decider = policy.match(error)
    shown = decider
    if isinstance(decider, Retry):
        most = most if decider.max_retries is None else decider.max_retries
        # What a person wants to read, and errors are grouped by.
        cause = decider.__cause__
        shown = decider if cause is None else cause
    facts = describe_error(run.name, shown, error)
    decision = decide(
        policy,
        Failure(error),
        attempts=run.attempt,
        age=run.age,
        max_retries=limits.max_retries if most is None else most,
        max_age=limits.max_age if policy.max_age is None else policy.max_age,
        rng=rng,
    )
    if isinstance(decision, RetryIn):
        if isinstance(decider, Retry) and decider.delay is not None:
            decision = RetryIn(decider.delay, uses_attempt=decision.uses_attempt)
        most_attempts = (limits.max_retries if most is None else most) + 1
        return _retried(run, facts, decision, error, most_attempts)
    return _given_up(run, facts, decision, error)


def _retried(
    run: Run,
    facts: ErrorFacts,
    decision: RetryIn,
    error: BaseException,
    attempts: int,
) -> Judgement:
    outcome = settle.retry(
        run.claim,
        facts,
        delay=decision.delay,
        uses_attempt=decision.uses_attempt,
        entry=_entry(run, error=facts, delay=round(decision.delay, 3)),
        ran=run.seconds,
    )
    event = TaskRetried(
        run.claim.id,
        run.name,
        run.attempt,
        decision.delay,
        decision.uses_attempt,
        attempts,
        facts.type,
        facts.message,
        facts.traceback,
        error,
    )
    return outcome, event


def _given_up(
    run: Run, facts: ErrorFacts, decision: GiveUp, error: BaseException
) -> Judgement:
    if run.task is None or run.task.dead_letter:
        return _dead(run, facts, decision.cause, error, uses_attempt=True)
    outcome = settle.fail(
        run.claim, facts, uses_attempt=True, entry=_entry(run, error=facts)
    )
    event = TaskFailed(
        run.claim.id,
        run.name,
        run.attempt,
        facts.type,
        facts.message,
        facts.traceback,
        error,
    )
    return outcome, event


def _dead_for(
    run: Run, leaf: BaseException, error: BaseException, cause: str
) -> Judgement:
    facts = describe_error(run.name, leaf, error)
    return _dead(run, facts, cause, error, uses_attempt=True)


def _dead(
    run: Run, facts: ErrorFacts, cause: str, error: BaseException, *, uses_attempt: bool
) -> Judgement:
    outcome = settle.dead_letter(
        run.claim,
        facts,
        cause=cause,
        uses_attempt=uses_attempt,
        entry=_entry(run, error=facts, cause=cause),
    )
    event = TaskDeadLettered(
        run.claim.id,
        run.name,
        run.attempt,
        cause,
        facts.fingerprint,
        facts.type,
        facts.message,
        facts.traceback,
        error,
    )
    return outcome, event


def _parked(run: Run, error: BaseException, call: CallOutcome) -> Judgement:
    policy = (run.task.retry if run.task is not None else None) or _DEFAULT_POLICY
    rule, decider = policy.match(error)
    if rule is not None and rule.dead_letter:
        facts = describe_error(run.name, decider, error)
        return _given_up(run, facts, GiveUp("permanent"), error)
    facts = describe_error(run.name, call.error or error, error)
    reason = call.reason or facts.message
    entry = _entry(run, error=facts, upstream=run.claim.upstream)
    outcome = settle.park(run.claim, facts, entry=entry)
    return outcome, TaskParked(run.claim.id, run.name, run.claim.upstream, reason)


def _snoozed(run: Run, signal: Snooze) -> Judgement:
    reason = _text_of(signal.reason)
    outcome = settle.snooze(
        run.claim, delay=signal.seconds, entry=_entry(run, reason=reason)
    )
    return outcome, TaskSnoozed(run.claim.id, run.name, signal.seconds, reason)


def _cancelled(run: Run, reason: str) -> Judgement:
    facts = ErrorFacts("Cancelled", _text_of(reason or "cancelled by its body"))
    outcome = settle.cancel(run.claim, facts, entry=_entry(run, reason=facts.message))
    return outcome, TaskCancelled(run.claim.id, run.name, facts.message)


def _entry(
    run: Run, *, error: ErrorFacts | None = None, **facts: Any
) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "attempt": run.attempt,
        "worker": run.claim.token.split(":")[1],
        "seconds": round(run.seconds, 3),
        **facts,
    }
    if error is not None:
        entry["error_type"] = error.type
        entry["error_message"] = error.message[:300]
    return entry
