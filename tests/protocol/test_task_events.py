"""news, audit log, jot: what happened is told in order, from any point on."""

import pytest

from taskflow._protocol.actions import pause
from taskflow._protocol.lenient import moment
from taskflow._protocol.settle import ProgressReport, complete, report_progress, settle
from taskflow._protocol.states import TaskState
from taskflow._protocol.task_events import (
    AuditEntry,
    TaskNews,
    audit_append,
    audit_read,
    task_events,
)
from taskflow.errors import TaskNotFoundError
from tests.support.keyspace import NOW


def emit(stage, held, number, *chunks):
    """Store that the run emitted *chunks*."""
    what = ProgressReport(number, b'{"done":1}', {}, {}, b"", chunks)
    stage.send(report_progress(stage.keys, held.id, held.token, what, now_ms=NOW))


def test_chunks_are_told_in_order_from_any_point_on(stage):
    """A reader that was cut off goes on after the last chunk it saw."""
    (held,) = stage.claimed("t1")
    emit(stage, held, 1, "a", "b")
    first = stage.send(task_events(stage.keys, "t1", limit=1))
    emit(stage, held, 2, "c")
    rest = stage.send(task_events(stage.keys, "t1", after=first.chunks[0].id))

    assert (["a"], True) == ([chunk.text for chunk in first.chunks], first.has_more)
    assert not rest.has_more
    assert ["b", "c"] == [chunk.text for chunk in rest.chunks]
    assert {1} == {chunk.delivery for chunk in (*first.chunks, *rest.chunks)}
    assert (TaskState.ACTIVE, 0, {"done": 1}) == (
        rest.state,
        rest.attempts,
        rest.progress,
    )


def test_output_that_is_too_large_for_one_reply_comes_in_parts(stage):
    """Each reply holds about 1 MiB; together they hold all chunks, once."""
    (held,) = stage.claimed("t1")
    texts = [f"{n:02}" + "x" * 60_000 for n in range(40)]
    for first in range(0, 40, 10):
        emit(stage, held, 1 + first, *texts[first : first + 10])
    parts = [stage.send(task_events(stage.keys, "t1"))]
    while parts[-1].has_more:
        after = parts[-1].chunks[-1].id
        parts.append(stage.send(task_events(stage.keys, "t1", after=after)))

    assert [32, 8] == [len(each.chunks) for each in parts]
    assert texts == [chunk.text for each in parts for chunk in each.chunks]


def test_a_look_writes_nothing(stage):
    """Reading news leaves the keyspace as it was."""
    (held,) = stage.claimed("t1")
    emit(stage, held, 1, "a")
    before = stage.dump()
    stage.send(task_events(stage.keys, "t1"))
    stage.send(audit_read(stage.keys))

    assert before == stage.dump()


def test_the_end_comes_with_all_that_was_emitted(stage):
    """Who sees a final state has seen the rest of the output."""
    (held,) = stage.claimed("t1")
    emit(stage, held, 1, "a")
    stage.send(settle(stage.keys, [complete(held, b"1")], now_ms=NOW))
    last = stage.send(task_events(stage.keys, "t1"))

    assert last.state.is_final
    assert ["a"] == [chunk.text for chunk in last.chunks]


def test_a_task_that_waits_has_no_chunks(stage):
    """Nothing was emitted, nothing is told."""
    stage.enqueue("t1")

    assert TaskNews(TaskState.PENDING, 0, None, ()) == stage.send(
        task_events(stage.keys, "t1")
    )


def test_a_missing_task_has_no_news(stage):
    """It is said so, and not an empty answer."""
    with pytest.raises(TaskNotFoundError):
        stage.send(task_events(stage.keys, "t1"))


@pytest.mark.parametrize("limit", [0, 501])
def test_the_number_of_chunks_is_bounded(stage, limit):
    """A look costs what it says."""
    with pytest.raises(ValueError, match=f"1..500, got {limit}"):
        task_events(stage.keys, "t1", limit=limit)


@pytest.mark.parametrize("cursor", ["x", "-", "+", "1", "1-1\n"])
def test_a_foreign_cursor_is_refused(stage, cursor):
    """It never reaches the server, where it could mean something else."""
    with pytest.raises(ValueError, match="does not belong"):
        task_events(stage.keys, "t1", after=cursor)
    with pytest.raises(ValueError, match="does not belong"):
        audit_read(stage.keys, before=cursor)


def test_the_audit_log_tells_the_newest_first_and_goes_on(stage):
    """What a script wrote and what a person did stand in one list."""
    stage.send(pause(stage.keys, "retry", paused=True, now_ms=NOW))
    stage.send(
        audit_append(stage.keys, "discard", actor="ada", facts={"count": 3}, now_ms=NOW)
    )
    newest, oldest = stage.send(audit_read(stage.keys))
    (after,) = stage.send(audit_read(stage.keys, before=newest.id))

    assert AuditEntry(newest.id, moment(NOW), "discard", "ada", {"count": 3}) == newest
    assert AuditEntry(oldest.id, moment(NOW), "paused", "", {"lane": "retry"}) == after
    assert [] == stage.send(audit_read(stage.keys, before=oldest.id))


@pytest.mark.parametrize("limit", [0, 201])
def test_the_number_of_entries_is_bounded(stage, limit):
    """A look costs what it says."""
    with pytest.raises(ValueError, match=f"1..200, got {limit}"):
        audit_read(stage.keys, limit=limit)
