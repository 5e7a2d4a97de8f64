"""note, watch, get, page, status: reports are stored; looks write nothing."""

import pytest

from taskflow._protocol.actions import cancel, delete, pause
from taskflow._protocol.inspect import get, moment, page, watch
from taskflow._protocol.queue_status import status
from taskflow._protocol.settle import (
    ProgressReport,
    complete,
    dead_letter,
    report_progress,
    settle,
)
from taskflow._protocol.states import TaskState
from taskflow.errors import TaskNotFoundError
from tests.support.keyspace import LEASE, NOW, SHARE, WHY, record

REPORT = ProgressReport(
    1, b'{"done":1}', {"tokens": 2.0}, {"a": "[1]"}, b'"c"', ("x", "y")
)


def report(stage, held, what=REPORT):
    """Store what the run reports."""
    return stage.send(
        report_progress(stage.keys, held.id, held.token, what, now_ms=NOW)
    )


def test_a_report_is_stored_and_a_repeat_is_dropped(stage):
    """Progress, sums, facts, checkpoint and chunks; once."""
    (held,) = stage.claimed("t1")
    before = stage.dump()
    before["task:t1"] |= {
        "noted": f"1 {held.token}",
        "progress": '{"done":1}',
        "usage": '{"tokens":2}',
        "note:a": "[1]",
        "checkpoint": '"c"',
    }
    before["task:t1:events"] = [{"chunk": each, "token": held.token} for each in "xy"]

    for _ in range(2):
        assert "OK" == report(stage, held)
        assert before == stage.dump()


def test_amounts_are_added_up(stage):
    """Over reports, and over runs."""
    (held,) = stage.claimed("t1")
    report(stage, held)
    report(stage, held, ProgressReport(2, usage={"tokens": 0.5, "calls": 1}))
    found = stage.send(get(stage.keys, "t1", now_ms=NOW))

    assert {"tokens": 2.5, "calls": 1} == found.usage


def test_a_report_of_a_lost_run_writes_nothing(stage):
    """A stale token, an ended and a deleted task are told apart."""
    (held,) = stage.claimed("t1")
    before = stage.dump()
    assert "STALE" == report(stage, held._replace(token="9:w:1-1"))  # noqa: S106
    assert before == stage.dump()
    stage.send(settle(stage.keys, [complete(held, b"1")], now_ms=NOW))
    before = stage.dump()
    assert "STALE" == report(stage, held)
    assert before == stage.dump()
    stage.send(delete(stage.keys, "t1", force=False, now_ms=NOW))
    before = stage.dump()
    assert "GONE" == report(stage, held)
    assert before == stage.dump()


def test_a_watched_task_is_announced_when_it_ends(stage):
    """The flag is written once, and the end is published."""
    (held,) = stage.claimed("t1")
    look = watch(stage.keys, "t1", now_ms=NOW)
    first = stage.send(look)
    before = stage.dump()
    stage.send(watch(stage.keys, "t1", now_ms=NOW + 5))
    assert before == stage.dump()
    assert str(NOW) == before["task:t1"]["watched"]
    with stage.runner.subscribe(stage.keys.done_channel("t1")) as channel:
        stage.send(settle(stage.keys, [complete(held, b"1")], now_ms=NOW))
        told = channel.next(5)

    assert (TaskState.ACTIVE, b"COMPLETED") == (first.state, told)
    ending = stage.send(look)
    assert (TaskState.COMPLETED, b"1") == (ending.state, ending.result)


@pytest.mark.parametrize("state", list(TaskState))
def test_only_a_task_that_has_not_ended_is_marked_as_watched(stage, state):
    """Of one that has ended there is nothing to announce: a look writes nothing."""
    stage.fill({"task:t1": record(state.value)})
    before = stage.dump()
    ending = stage.send(watch(stage.keys, "t1", now_ms=NOW))
    if not state.is_final:
        before["task:t1"]["watched"] = str(NOW)

    assert state is ending.state
    assert before == stage.dump()


def test_a_missing_task_cannot_be_watched_or_read(stage):
    """Nothing is written."""
    for look in (watch, get):
        with pytest.raises(TaskNotFoundError):
            stage.send(look(stage.keys, "no", now_ms=NOW))

    assert {} == stage.dump()


def test_a_running_task_is_read_whole(stage):
    """Lease, worker and counts come with the record; nothing is written."""
    stage.claimed("t1")
    before = stage.dump()
    found = stage.send(get(stage.keys, "t1", now_ms=NOW))

    assert (TaskState.ACTIVE, "f", "w", 1, 0, moment(NOW + LEASE)) == (
        found.state,
        found.name,
        found.worker,
        found.deliveries,
        found.attempts,
        found.lease_until,
    )
    assert before == stage.dump()


def test_a_dead_letter_is_read_with_its_cause(stage):
    """The letter stands beside the record."""
    (held,) = stage.claimed("t1")
    dead = dead_letter(held, WHY, cause="permanent", uses_attempt=True, entry={"n": 1})
    stage.send(settle(stage.keys, [dead], now_ms=NOW))
    found = stage.send(get(stage.keys, "t1", now_ms=NOW))

    assert ("permanent", "Traceback", "w") == (
        found.dead_letter.cause,
        found.dead_letter.traceback,
        found.dead_letter.worker,
    )
    assert [("dead", {"n": 1})] == [
        (each.outcome, each.facts) for each in found.history
    ]


def test_a_corrupt_record_is_read_as_a_dead_letter(stage):
    """What is beyond reading can still be looked at."""
    stage.fill({"task:bad": "a string", "tasks:pending:primary": ["bad"]})
    stage.claim()
    found = stage.send(get(stage.keys, "bad", now_ms=NOW))

    assert (TaskState.DLQ, "", "corrupt") == (
        found.state,
        found.name,
        found.dead_letter.cause,
    )


@pytest.mark.parametrize(
    ("kind", "expected"), [("newest", ["c", "b", "a"]), ("oldest", ["a", "b", "c"])]
)
def test_a_sorted_home_is_paged_from_either_end(stage, kind, expected):
    """The cursor goes on behind the last entry seen, even when that is gone."""
    for number, each in enumerate("abc"):
        stage.fill(
            {f"task:{each}": record("FAILED"), "tasks:failed": {each: NOW + number}}
        )

    def read(after, limit):
        return stage.send(
            page(stage.keys, stage.keys.failed, kind=kind, after=after, limit=limit)
        )

    first = read("", 2)
    stage.client.zrem("tasks:failed", expected[1])
    second = read(first.next_cursor, 2)

    assert expected == [each.id for each in first.items + second.items]
    assert "" == second.next_cursor


def test_a_list_is_paged_without_its_tombstones(stage):
    """What was cancelled while it waited is examined, and left out."""
    stage.enqueue("a", "b", "c")
    stage.send(cancel(stage.keys, "b", now_ms=NOW))
    before = stage.dump()
    found = stage.send(page(stage.keys, stage.keys.primary, kind="list", limit=10))

    assert (["a", "c"], 3) == ([each.id for each in found.items], found.examined)
    assert before == stage.dump()


@pytest.mark.parametrize("limit", [0, 201])
def test_a_page_is_bounded(keys, limit):
    """A call examines 1 to 200 entries."""
    with pytest.raises(ValueError, match=f"got {limit}"):
        page(keys, keys.primary, kind="list", limit=limit)


def test_the_status_counts_every_home(stage):
    """Tombstones are taken off, suspects are part of retry; nothing is written."""
    stage.enqueue("run", "done", "dead")
    _, done, dead = stage.claim(3).claims
    outcomes = [
        complete(done, b"1"),
        dead_letter(dead, WHY, cause="x", uses_attempt=True, entry={}),
    ]
    stage.send(settle(stage.keys, outcomes, now_ms=NOW))
    stage.enqueue("a", "b", "c")
    stage.send(cancel(stage.keys, "b", now_ms=NOW))
    stage.enqueue("later", delay_ms=5)
    stage.fill(
        {
            "task:r": record(lane="retry", since_ms=NOW),
            "tasks:pending:retry": ["r"],
            "task:s": record(lane="suspects"),
            "tasks:suspects": ["s"],
        }
    )
    stage.send(pause(stage.keys, "retry", paused=True, now_ms=NOW))
    before = stage.dump()
    found = stage.send(status(stage.keys, SHARE, now_ms=NOW + 2000))

    expected = {
        "PENDING": 4,
        "ACTIVE": 1,
        "SCHEDULED": 1,
        "COMPLETED": 1,
        "FAILED": 0,
        "DLQ": 1,
        "CANCELLED": 1,
    }
    assert expected == dict(found.states)
    assert (2, 2, 1, 1, 1) == (
        found.primary,
        found.retry,
        found.suspects,
        found.scheduled,
        found.dlq,
    )
    assert (2.0, 2.0, 0.3) == (
        found.oldest_primary_age,
        found.oldest_retry_age,
        found.retry_ratio,
    )
    assert (3, 0, ("retry",)) == (
        found.served_primary,
        found.served_retry,
        found.paused,
    )
    assert before == stage.dump()


def test_an_empty_server_has_no_ages(stage):
    """Everything is zero, and nothing is written."""
    found = stage.send(status(stage.keys, SHARE, now_ms=NOW))

    assert (0, None, None, None) == (
        sum(found.states.values()),
        found.oldest_primary_age,
        found.oldest_retry_age,
        found.served_ratio,
    )
    assert {} == stage.dump()


@pytest.mark.parametrize(
    ("kind", "cursor"),
    [
        ("newest", "is wrong"),
        ("newest", "1"),
        ("oldest", "nan t1"),
        ("oldest", "1 t1 t2"),
        ("list", "x"),
        ("list", "-1"),
        ("list", "1 t1"),
    ],
)
def test_a_cursor_of_another_kind_never_reaches_the_server(stage, kind, cursor):
    """There it would be an error of the script, and nobody's mistake."""
    with pytest.raises(ValueError, match="does not belong to this list"):
        page(stage.keys, stage.keys.dlq, kind=kind, after=cursor)
