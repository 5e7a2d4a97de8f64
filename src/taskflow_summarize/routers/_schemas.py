"""What comes out over HTTP: tasks, lists, counts, problems."""

import json
from datetime import datetime
from typing import Any, Self

from attrs import fields
from pydantic import BaseModel, ConfigDict

from taskflow import (
    AuditEntry,
    DeadLetterGroup,
    Page,
    QueueStatus,
    TaskRecord,
    TaskState,
    TaskSummary,
)

_ID = "019ab3f0-7c1e-7d32-b7a5-0f6a1c2d3e4f"


class Problem(BaseModel):
    """An error, as RFC 9457 has it; further members say the facts."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "example": {
                "type": "about:blank",
                "title": "Not Found",
                "status": 404,
                "detail": f"there is no task {_ID!r}",
                "code": "task_not_found",
                "task_id": _ID,
            }
        },
    )

    type: str
    title: str
    status: int
    detail: str
    code: str


class CreatedBody(BaseModel):
    """A stored task."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"task_id": _ID, "state": "PENDING", "created": True}
        }
    )

    task_id: str
    state: TaskState
    created: bool


class MovedBody(BaseModel):
    """A task, and where it stands now."""

    task_id: str
    state: TaskState


class CancelledBody(MovedBody):
    """A task that was stopped, or asked to stop."""

    requested: bool


class DeletedBody(BaseModel):
    """A task that is gone."""

    task_id: str
    deleted: bool


class OrphansBody(BaseModel):
    """What looking for orphans found."""

    found: int
    requeued: int
    errors: list[str]
    message: str


class SummaryBody(BaseModel):
    """A task as lists show it."""

    task_id: str
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
    fingerprint: str
    cause: str

    @classmethod
    def of(cls, task: TaskSummary) -> Self:
        """Show *task*."""
        facts = {each.name: getattr(task, each.name) for each in fields(TaskSummary)}
        return cls.model_validate(facts | {"task_id": task.id})


class PageBody(BaseModel):
    """One page of a list; ``examined`` entries were looked at for it."""

    items: list[SummaryBody]
    next_cursor: str | None
    examined: int

    @classmethod
    def of(cls, page: Page, **more: Any) -> Self:
        """Show *page*."""
        return cls(
            items=[SummaryBody.of(item) for item in page.items],
            next_cursor=page.next_cursor or None,
            examined=page.examined,
            **more,
        )


class LettersBody(PageBody):
    """One page of dead letters, and how many there are."""

    total: int


class TimelineEntry(BaseModel):
    """One thing that happened to a task."""

    at: datetime
    event: str
    facts: dict[str, Any]


class LetterBody(BaseModel):
    """Why a task is in the dead-letter queue."""

    model_config = ConfigDict(from_attributes=True)

    cause: str
    fingerprint: str
    error_type: str
    error_message: str
    traceback: str
    died_at: datetime | None
    worker: str


class TaskBody(SummaryBody):
    """A task whole."""

    arguments: dict[str, Any] | None
    max_retries: int | None
    timeout: float | None
    deliveries: int
    started_at: datetime | None
    lease_until: datetime | None
    expires_at: datetime | None
    worker: str
    cancel_requested: bool
    upstream: str
    parked_for: str
    result: Any
    progress: dict[str, Any] | None
    usage: dict[str, float]
    annotations: dict[str, Any]
    key: str
    timeline: list[TimelineEntry]
    dead_letter: LetterBody | None

    @classmethod
    def of_record(cls, record: TaskRecord) -> Self:
        """Show *record*."""
        letter, spec = record.dead_letter, record.spec
        same = {each.name for each in fields(TaskRecord)} & set(cls.model_fields)
        facts: dict[str, Any] = {name: getattr(record, name) for name in same}
        facts |= {
            "task_id": record.id,
            "arguments": _value(record.payload),
            "max_retries": spec.max_retries if spec else None,
            "timeout": spec.timeout if spec else None,
            "result": _value(record.result),
            "timeline": [
                TimelineEntry(at=each.at, event=each.outcome, facts=each.facts)
                for each in record.timeline
            ],
            "fingerprint": letter.fingerprint if letter else "",
            "cause": letter.cause if letter else "",
            "dead_letter": letter,
        }
        return cls.model_validate(facts)


def _value(text: bytes | None) -> Any:
    """Read stored JSON; what a foreign hand broke is shown as nothing."""
    try:
        return json.loads(text) if text else None
    except ValueError:
        return None


class LaneCounts(BaseModel):
    """A number for each of the two lanes."""

    primary: int
    retry: int


class LaneAges(BaseModel):
    """Seconds for each of the two lanes; null where nothing waits."""

    primary: float | None
    retry: float | None


class QueueCounts(LaneCounts):
    """What waits, and where."""

    scheduled: int
    dlq: int
    parked: int


class QueueStatusBody(BaseModel):
    """How the whole stands."""

    queues: QueueCounts
    states: dict[TaskState, int]
    retry_ratio: float
    served_ratio: float | None
    served: LaneCounts
    oldest_age: LaneAges
    suspects: int
    paused: list[str]
    now: datetime

    @classmethod
    def of(cls, status: QueueStatus) -> Self:
        """Show *status*."""
        return cls(
            queues=QueueCounts(
                primary=status.primary,
                retry=status.retry,
                scheduled=status.scheduled,
                dlq=status.dlq,
                parked=status.parked,
            ),
            states=status.states,
            retry_ratio=status.retry_ratio,
            served_ratio=status.served_ratio,
            served=LaneCounts(primary=status.served_primary, retry=status.served_retry),
            oldest_age=LaneAges(
                primary=status.oldest_primary_age, retry=status.oldest_retry_age
            ),
            suspects=status.suspects,
            paused=list(status.paused),
            now=status.now,
        )


class PausedBody(BaseModel):
    """The lanes that are held back."""

    paused: list[str]


class GroupBody(BaseModel):
    """Dead letters that share an error."""

    model_config = ConfigDict(from_attributes=True)

    fingerprint: str
    count: int
    first_died_at: datetime
    last_died_at: datetime
    cause: str
    error_type: str
    error_message: str
    task_name: str
    newest_id: str


class GroupsBody(BaseModel):
    """Groups of dead letters, the latest death first."""

    groups: list[GroupBody]

    @classmethod
    def of(cls, groups: list[DeadLetterGroup]) -> Self:
        """Show *groups*."""
        return cls(groups=[GroupBody.model_validate(each) for each in groups])


class RequeuedBody(BaseModel):
    """How many dead letters were meant, and how many are back already.

    `held` are those that stay because another task has taken their idempotency key,
    each with the id of that task.
    """

    matched: int
    requeued: int
    held: dict[str, str] = {}


class DiscardedBody(BaseModel):
    """How many dead letters were meant, and how many were dropped."""

    matched: int
    discarded: int


class AuditItem(BaseModel):
    """A rare event."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    at: datetime
    event: str
    actor: str
    facts: dict[str, Any]


class AuditBody(BaseModel):
    """Rare events, the newest first."""

    items: list[AuditItem]
    next_cursor: str | None

    @classmethod
    def of(cls, entries: list[AuditEntry], limit: int) -> Self:
        """Show *entries*, of which *limit* were asked for."""
        more = entries[-1].id if len(entries) == limit else None
        items = [AuditItem.model_validate(each) for each in entries]
        return cls(items=items, next_cursor=more)
