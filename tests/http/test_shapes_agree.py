"""``--json`` at a prompt and the HTTP API tell the same in the same shape."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel

import taskflow
from taskflow import TaskFlow, WorkerStatus
from taskflow.cli import serializers
from taskflow.testing import run_until_idle
from taskflow_summarize.routers import _schemas, health

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)

registry = taskflow.Registry()


@registry.task(name="work", retry=taskflow.RetryPolicy(max_retries=1, wait=0))
def work(x: float, ctx: taskflow.Context) -> dict[str, float]:
    """Report, and divide."""
    ctx.progress(1, 2, "half")
    ctx.usage(tokens=3)
    ctx.annotate(colour="ümläut")
    return {"answer": 1 / x}


def told(body: BaseModel) -> Any:
    """Give what a client of the HTTP API reads."""
    return json.loads(body.model_dump_json())


@pytest.fixture
def flow() -> Any:
    """Give a flow with tasks in several states."""
    with TaskFlow("memory://", registry=registry) as made:
        for call in (work.call(2.0), work.call(0.0), work.call(0.0)):
            made.enqueue(call)
        for _ in range(3):
            run_until_idle(made)
        made.enqueue(work.options(delay=60, key="k", timeout=9).call(3.0))
        made.enqueue(work.options(expires=60).call(4.0))
        made.audit_log.record("x", actor="y", number=1)
        yield made


def test_tasks_have_one_shape(flow: TaskFlow) -> None:
    """In lists and whole, in every state."""
    page = flow.tasks.list(limit=3)
    records = [flow.tasks.get(item.id) for item in flow.tasks.list().items]

    assert told(_schemas.PageBody.of(page)) == serializers.page(page)
    assert 5 == len(records)
    for record in records:
        assert told(_schemas.TaskBody.of_record(record)) == serializers.detail(record)


def test_counts_groups_and_audit_log_have_one_shape(flow: TaskFlow) -> None:
    """Whatever is counted, grouped or told."""
    status, groups, entries = (
        flow.queues.status(),
        flow.dlq.groups(),
        flow.audit_log.list(limit=2),
    )

    assert told(_schemas.QueueStatusBody.of(status)) == serializers.status(status)
    assert told(_schemas.GroupsBody.of(groups)) == serializers.groups(groups)
    assert groups
    for limit in (2, 50):
        body = _schemas.AuditBody.of(entries, limit)
        assert told(body) == serializers.audit_log(entries, limit)


INFO: dict[str, Any] = {
    "host": "h",
    "pid": 7,
    "version": "1",
    "executor": "asyncio",
    "concurrency": 4,
    "lease": 15.0,
    "polled": 1.0,
    "done": 2,
    "failed": 1,
    "running": [{"id": "1", "name": "work", "attempt": 1, "seconds": 0.5}],
}


def worker(
    *, alive: bool = True, beat_ago: float = 0, draining: bool = False, **info: object
) -> WorkerStatus:
    """Give a worker that beat *beat_ago* seconds before now."""
    at = NOW - timedelta(seconds=beat_ago)
    return WorkerStatus("w", alive=alive, last_beat_at=at, draining=draining, info=info)


WORKERS = {
    "well": worker(**INFO),
    "draining": worker(draining=True, **INFO),
    "gone": worker(alive=False, beat_ago=3600, **INFO),
    "silent": worker(beat_ago=20, **INFO),
    "stuck": worker(**INFO | {"polled": 60.0}),
    "scheduler": worker(kind="scheduler"),
    "unknown": worker(),
}


@pytest.mark.parametrize("case", WORKERS)
def test_workers_have_one_shape(case: str) -> None:
    """And one word for how they are; a prompt also shows what each runs."""
    known = WORKERS[case]
    body = health.WorkerBody(**health.facts_of(known, NOW))
    (shown,) = serializers.workers([known], NOW)["workers"]

    running = shown.pop("running_tasks")
    assert told(body) == shown
    assert known.info.get("running", []) == running
