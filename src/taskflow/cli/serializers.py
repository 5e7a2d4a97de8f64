"""What ``--json`` prints: the shapes of the HTTP API, times in UTC."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from attrs import asdict

from taskflow._codec import from_json
from taskflow._protocol.dead_letters import DeadLetterGroup
from taskflow._protocol.inspect import Page
from taskflow._protocol.queue_status import QueueStatus, WorkerStatus
from taskflow._protocol.record import DeadLetterRecord, TaskRecord, TaskSummary
from taskflow._protocol.schedules import ScheduleStatus
from taskflow._protocol.task_events import AuditEntry
from taskflow._protocol.upstreams import UpstreamStatus
from taskflow.errors import PayloadError


def utc(when: datetime | None) -> str | None:
    """Return *when* as RFC 3339 has it, in UTC with a Z."""
    if when is None:
        return None
    return when.astimezone(UTC).isoformat().replace("+00:00", "Z")


def value(text: bytes | None) -> Any:
    """Return what stored JSON says; None where it says nothing, or is broken."""
    try:
        return from_json(text) if text else None
    except PayloadError:
        return None


def summary(task: TaskSummary | TaskRecord) -> dict[str, Any]:
    """Show a task as lists show it."""
    letter = task.dead_letter if isinstance(task, TaskRecord) else task
    return {
        "task_id": task.id,
        "name": task.name,
        "state": task.state.value,
        "lane": task.lane,
        "suspect": task.suspect,
        "attempts": task.attempts,
        "crashes": task.crashes,
        "created_at": utc(task.created_at),
        "finished_at": utc(task.finished_at),
        "due_at": utc(task.due_at),
        "error_type": task.error_type,
        "error_message": task.error_message,
        "fingerprint": letter.fingerprint if letter else "",
        "cause": letter.cause if letter else "",
    }


def page(found: Page) -> dict[str, Any]:
    """Show one page of a list."""
    return {
        "items": [summary(item) for item in found.items],
        "next_cursor": found.next_cursor or None,
        "examined": found.examined,
    }


def detail(record: TaskRecord) -> dict[str, Any]:
    """Show a task whole."""
    spec = record.spec
    return {
        **summary(record),
        "arguments": value(record.payload),
        "max_retries": spec.max_retries if spec else None,
        "timeout": spec.timeout if spec else None,
        "deliveries": record.deliveries,
        "started_at": utc(record.started_at),
        "lease_until": utc(record.lease_until),
        "expires_at": utc(record.expires_at),
        "worker": record.worker,
        "cancel_requested": record.cancel_requested,
        "upstream": record.upstream,
        "parked_for": record.parked_for,
        "result": value(record.result),
        "progress": record.progress,
        "usage": record.usage,
        "annotations": record.annotations,
        "key": record.key,
        "timeline": [
            {"at": utc(entry.at), "event": entry.outcome, "facts": entry.facts}
            for entry in record.timeline
        ],
        "dead_letter": _letter(record.dead_letter),
    }


def _letter(letter: DeadLetterRecord | None) -> dict[str, Any] | None:
    if letter is None:
        return None
    return {
        "cause": letter.cause,
        "fingerprint": letter.fingerprint,
        "error_type": letter.error_type,
        "error_message": letter.error_message,
        "traceback": letter.traceback,
        "died_at": utc(letter.died_at),
        "worker": letter.worker,
    }


def status(found: QueueStatus) -> dict[str, Any]:
    """Show how the whole stands."""
    return {
        "queues": {
            "primary": found.primary,
            "retry": found.retry,
            "scheduled": found.scheduled,
            "dlq": found.dlq,
            "parked": found.parked,
        },
        "states": {state.value: count for state, count in found.states.items()},
        "retry_ratio": found.retry_ratio,
        "served_ratio": found.served_ratio,
        "served": {"primary": found.served_primary, "retry": found.served_retry},
        "oldest_age": {
            "primary": found.oldest_primary_age,
            "retry": found.oldest_retry_age,
        },
        "suspects": found.suspects,
        "paused": list(found.paused),
        "now": utc(found.now),
    }


def groups(found: Sequence[DeadLetterGroup]) -> dict[str, Any]:
    """Show groups of dead letters."""
    return {
        "groups": [
            {
                "fingerprint": group.fingerprint,
                "count": group.count,
                "first_died_at": utc(group.first_died_at),
                "last_died_at": utc(group.last_died_at),
                "cause": group.cause,
                "error_type": group.error_type,
                "error_message": group.error_message,
                "task_name": group.task_name,
                "newest_id": group.newest_id,
            }
            for group in found
        ]
    }


def audit_log(entries: Sequence[AuditEntry], limit: int) -> dict[str, Any]:
    """Show rare events, of which *limit* were asked for."""
    return {
        "items": [
            {
                "id": entry.id,
                "at": utc(entry.at),
                "event": entry.event,
                "actor": entry.actor,
                "facts": entry.facts,
            }
            for entry in entries
        ],
        "next_cursor": entries[-1].id if len(entries) == limit else None,
    }


def _worker(worker: WorkerStatus, now: datetime) -> dict[str, Any]:
    info = worker.info
    return {
        "id": worker.id,
        "status": worker.condition(now),
        "kind": worker.kind,
        "last_beat_at": utc(worker.last_beat_at),
        "polled_ago": worker.polled_ago(now),
        "concurrency": info.get("concurrency", 0),
        "running": len(info.get("running", ())),
        "done": info.get("done", 0),
        "failed": info.get("failed", 0),
        "host": info.get("host", ""),
        "pid": info.get("pid", 0),
        "version": info.get("version", ""),
        "executor": info.get("executor", ""),
        "running_tasks": info.get("running", []),
    }


def workers(found: Sequence[WorkerStatus], now: datetime) -> dict[str, Any]:
    """Show workers, each with what it runs."""
    working = [each.condition(now) for each in found if each.kind == "worker"]
    healthy = working.count("healthy")
    return {
        "status": "healthy" if healthy else "degraded",
        "total": len(working),
        "healthy": healthy,
        "stale": working.count("stale"),
        "workers": [_worker(worker, now) for worker in found],
    }


def schedules(found: Sequence[ScheduleStatus]) -> dict[str, Any]:
    """Shape schedules as the HTTP API does."""
    return {
        "schedules": [
            {
                "name": each.name,
                "task": each.task,
                "when": each.when,
                "missed": each.missed,
                "next_at": utc(each.next_at),
                "last_at": utc(each.last_at),
                "last_task_id": each.last_task_id,
                "paused_at": utc(each.paused_at),
            }
            for each in found
        ]
    }


def upstream(found: UpstreamStatus) -> dict[str, Any]:
    """Shape an upstream as the HTTP API does."""
    facts = asdict(found)
    for name in ("since", "retry_at", "tapped_until"):
        facts[name] = utc(facts[name])
    return facts
