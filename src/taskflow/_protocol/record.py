"""The values that are handed along a task's way."""

from datetime import datetime
from typing import Any, Literal, NamedTuple

from attrs import field, frozen

from taskflow._codec import Spec, to_json
from taskflow._protocol.states import TaskState

Verb = Literal[
    "complete",
    "retry",
    "snooze",
    "dead",
    "fail",
    "cancel",
    "release",
    "park",
    "crash",
]

LONGEST_ERROR_BYTES = 8192


class Claim(NamedTuple):
    """One task handed to a worker under a lease.

    A named tuple, because a worker makes tens of thousands of them a second.

    Attributes:
        id: Of the task.
        lane: ``primary``, ``retry`` or ``suspects``.
        delivery: How often the task was handed out, this time included.
        token: Proves the hand-out to every script that touches the task.
        payload: Arguments by name, JSON.
        spec: The packed part that never changes.
        attempts: Attempts that failed so far.
        crashes: Leases lost so far.
        age_ms: Run time of the failed attempts and the waits before their
            retries, in ms, since the task was stored or last requeued.
        checkpoint: JSON text that the body saved last, empty if none.
        upstream: Name of the upstream that let it run; empty = it needs none.
        epoch: Of the upstream then.
        is_probe: Whether it tries an upstream that was shut.
        weight: Tokens of the upstream's rate limit that were charged.
    """

    id: str
    lane: str
    delivery: int
    token: str
    payload: bytes
    spec: bytes
    attempts: int
    crashes: int
    age_ms: int
    checkpoint: bytes
    upstream: str = ""
    epoch: int = 0
    is_probe: bool = False
    weight: float = 0.0


class CallReport(NamedTuple):
    """What a run says of its upstream.

    Attributes:
        upstream: Name.
        epoch: Of the upstream when it let the task run.
        outcome: ``success``, ``failure``, ``tap`` or ``refused``.
        reason: For people.
        wait_ms: For which the upstream shall not be called.
    """

    upstream: str
    epoch: int
    outcome: str
    reason: str = ""
    wait_ms: int = 0


class Outcome(NamedTuple):
    """What one run of a claim came to: exactly one move.

    Attributes:
        id: Of the task.
        token: Of the claim.
        verb: The move.
        detail: The result as JSON for ``complete`` (empty for null), a JSON
            object for the other verbs, empty for ``release``.
        report: What the run says of its upstream, or None.
    """

    id: str
    token: str
    verb: Verb
    detail: bytes
    report: CallReport | None = None


@frozen
class ErrorFacts:
    """An exception, bounded and in text; never rebuilt into a class.

    Attributes:
        type: Name of the class.
        message: Its text, at most 8 KB.
        traceback: Head of the formatted traceback, at most 8 KB.
        fingerprint: Twelve hexadecimal digits that errors of one kind share.
    """

    type: str
    message: str
    traceback: str = ""
    fingerprint: str = ""

    def to_json(self) -> str:
        """Return type and message as a JSON object."""
        return to_json({"type": self.type, "message": self.message}).decode()


@frozen
class AttemptEntry:
    """One line of a task's history.

    Attributes:
        at: When it was written.
        outcome: ``retry``, ``snooze``, ``dead``, ``fail``, ``cancel`` or
            ``crash``.
        facts: What else the worker or the reaper wrote: error, attempt,
            worker, seconds.
    """

    at: datetime
    outcome: str
    facts: dict[str, Any] = field(factory=dict[str, Any])


@frozen
class DeadLetterRecord:
    """Why a task is in the dead-letter queue.

    Attributes:
        cause: ``exhausted``, ``permanent``, ``max_age``, ``poison``,
            ``corrupt``, ``payload`` or ``requested``.
        fingerprint: Shared by dead letters of one kind.
        error_type: Name of the exception's class.
        error_message: Its text.
        traceback: Its head; empty where there was none.
        died_at: When.
        worker: Id of the last worker; empty where unknown.
    """

    cause: str
    fingerprint: str
    error_type: str
    error_message: str
    traceback: str
    died_at: datetime | None
    worker: str


@frozen
class TaskSummary:
    """A task as lists show it: without payload and result.

    Attributes:
        id: Of the task.
        name: Of the declared function; empty when the record is corrupt.
        state: Where it stands.
        lane: ``primary`` or ``retry``.
        suspect: Whether it crashed workers twice and is run one at a time.
        attempts: Attempts that failed.
        crashes: Leases that were lost.
        created_at: When it was stored.
        finished_at: When it ended, or None.
        due_at: When a scheduled task is due, or None.
        error_type: Of the last error; empty if none.
        error_message: Of the last error; empty if none.
        fingerprint: Of a dead letter; empty otherwise.
        cause: Of a dead letter; empty otherwise.
    """

    id: str
    name: str
    state: TaskState
    lane: str
    suspect: bool
    attempts: int
    crashes: int
    created_at: datetime
    finished_at: datetime | None
    due_at: datetime | None
    error_type: str
    error_message: str
    fingerprint: str = ""
    cause: str = ""


@frozen
class TaskRecord:
    """One stored task, whole.

    Attributes:
        id: Of the task.
        name: Of the declared function; empty when the record is corrupt.
        state: Where it stands.
        lane: ``primary`` or ``retry``.
        suspect: Whether it crashed workers twice and is run one at a time.
        payload: Arguments by name, JSON; empty when the record is corrupt.
        spec: What never changes; None when the record is corrupt.
        attempts: Attempts that failed since it was stored or brought back.
        crashes: Leases lost since then.
        deliveries: Times it was handed out, ever.
        created_at: When it was stored.
        started_at: When it was handed out last, or None.
        finished_at: When it ended, or None.
        due_at: When a scheduled task is due, or None.
        lease_until: End of the lease of a running task, or None.
        expires_at: When a waiting task expires, or None.
        worker: Id of the worker that runs it; empty when none does.
        cancel_requested: Whether a running task was asked to stop.
        upstream: Name of the upstream that it needs; empty if none.
        parked_for: Name of the upstream that it waits for, parked; ``task:NAME``
            where tasks of its name are held back; empty if it is not parked.
        result: JSON text, None when there is none.
        error_type: Of the last error; empty if none.
        error_message: Of the last error; empty if none.
        progress: What the body reported last, or None.
        usage: Amounts the body reported, summed over attempts.
        annotations: Facts the body attached.
        key: The idempotency key; empty if none.
        history: Up to 20 entries, oldest first.
        dead_letter: Set while the task is in the dead-letter queue.
    """

    id: str
    name: str
    state: TaskState
    lane: str
    suspect: bool
    payload: bytes
    spec: Spec | None
    attempts: int
    crashes: int
    deliveries: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    due_at: datetime | None
    lease_until: datetime | None
    expires_at: datetime | None
    worker: str
    cancel_requested: bool
    upstream: str
    parked_for: str
    result: bytes | None
    error_type: str
    error_message: str
    progress: dict[str, Any] | None
    usage: dict[str, float]
    annotations: dict[str, Any]
    key: str
    history: tuple[AttemptEntry, ...]
    dead_letter: DeadLetterRecord | None

    @property
    def timeline(self) -> tuple[AttemptEntry, ...]:
        """What is known of its life, in order: ``enqueued``, the history, the end."""
        entries = [AttemptEntry(self.created_at, "enqueued"), *self.history]
        if self.started_at is not None:
            facts = {"delivery": self.deliveries}
            entries.append(AttemptEntry(self.started_at, "started", facts))
        if self.finished_at is not None:
            entries.append(AttemptEntry(self.finished_at, self.state.value.lower()))
        return tuple(sorted(entries, key=lambda entry: entry.at))
