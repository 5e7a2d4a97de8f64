"""prune, survey, roll, beat, workers: what keeps the queues in order."""

import pytest

from taskflow._protocol.inspect import find_ids
from taskflow._protocol.lenient import moment
from taskflow._protocol.queue_status import status, workers
from taskflow._protocol.settle import complete, settle
from taskflow._protocol.task_events import audit_read
from taskflow._protocol.upkeep import (
    BeatReply,
    heartbeat,
    list_ids,
    prune,
    scan_homeless,
)
from tests.support.keyspace import NOW, SHARE, Expiring, record


def test_a_finished_task_is_forgotten_with_everything_of_its_own(stage):
    """Record, stream and home go together; a younger one stays."""
    stage.fill(
        {
            "task:old": record("COMPLETED"),
            "task:new": record("COMPLETED"),
            "tasks:completed": {"old": NOW - 100, "new": NOW - 99},
            "tasks:workers": {"gone": NOW - 3_600_000, "here": NOW},
        }
    )
    stage.client.xadd("task:old:events", {"chunk": "x"})
    step = prune(stage.keys, stage.keys.completed, keep_ms=100, now_ms=NOW)

    assert (1, 0) == (stage.send(step), stage.send(step))
    assert {
        "task:new": record("COMPLETED"),
        "tasks:completed": {"new": NOW - 99},
        "tasks:workers": {"here": NOW},
    } == stage.dump()


def test_pruning_goes_in_bounded_steps(stage):
    """A call forgets at most *limit* tasks, the oldest first."""
    stage.fill({"tasks:failed": {f"t{n}": NOW - n for n in range(5)}})
    step = prune(stage.keys, stage.keys.failed, keep_ms=0, limit=3, now_ms=NOW)

    assert 3 == stage.send(step)
    assert {"t0": NOW, "t1": NOW - 1} == stage.dump()["tasks:failed"]
    assert 2 == stage.send(step)
    assert {} == stage.dump()


def test_the_survey_finds_tasks_without_a_home(stage):
    """Side keys and records of another type are passed over; nothing is written."""
    stage.fill(
        {
            "task:a": record("ACTIVE"),
            "task:b": record("SCHEDULED"),
            "task:c": record(),
            "task:d": record("ACTIVE"),
            "tasks:active": {"d": NOW},
            "task:bad": "a string",
            "task:a:events": ["side key"],
        }
    )
    before = stage.dump()
    cursor, homeless, waiting = "0", [], []
    while True:
        step = stage.send(scan_homeless(stage.keys, cursor, count=2, now_ms=NOW))
        cursor = step.cursor
        homeless += step.homeless
        waiting += step.waiting
        if cursor == "0":
            break

    assert ({"a", "b"}, {"c"}) == (set(homeless), set(waiting))
    assert before == stage.dump()


@pytest.mark.parametrize(
    ("part", "ids"),
    [("ab", {"abc", "abz"}), ("c", {"abc"}), ("b", set()), ("*", set())],
)
def test_ids_are_found_by_their_beginning_or_their_end(stage, part, ids):
    """In steps; side keys are passed over, and nothing is written."""
    stage.fill({f"task:{each}": record() for each in ("abc", "abz", "x")})
    stage.fill({"task:x:ab": ["side key"], "tasks:pending:retry": ["abe"]})
    before, cursor, found = stage.dump(), "0", []
    while True:
        cursor, some = stage.send(
            find_ids(stage.keys, part, cursor, count=1, now_ms=NOW)
        )
        found += some
        if cursor == "0":
            break

    assert ids == set(found)
    assert before == stage.dump()


def test_a_list_is_read_in_stretches(stage):
    """First and count bound the answer, which is empty at the end."""
    stage.fill({"tasks:pending:retry": [f"t{n}" for n in range(5)]})

    def read(first):
        return stage.send(
            list_ids(stage.keys, stage.keys.retry, first=first, count=3, now_ms=NOW)
        )

    assert (["t0", "t1", "t2"], ["t3", "t4"], []) == (read(0), read(3), read(6))


def hello(stage, *, worker="w", info=b'{"pid":1}', known="", new="d1", now_ms=NOW):
    """Beat; give the reply."""
    return stage.send(
        heartbeat(
            stage.keys,
            worker=worker,
            info=info,
            ttl_ms=9000,
            known=known,
            new=new,
            now_ms=now_ms,
        )
    )


def test_a_beat_says_that_a_worker_lives(stage):
    """Heartbeat and worker expire; a repeat writes the same."""
    alive = {
        "worker:heartbeat:w": Expiring(str(NOW)),
        "worker:w": Expiring({"info": '{"pid":1}'}),
        "tasks:workers": {"w": NOW},
        "tasks:lanes": {"data_id": "d1"},
    }
    for _ in range(2):
        assert BeatReply(NOW, drain=False, data_id="d1") == hello(stage)
        assert alive == stage.dump()
    assert 8000 < stage.client.pttl("worker:w") <= 9000


def test_a_beat_finds_out_that_the_server_has_lost_its_data(stage):
    """The first of all workers notes it for people; each is told the new id."""
    first = [hello(stage, new="d1").data_id, hello(stage, worker="v", new="d2").data_id]
    stage.client.flushdb()
    later = NOW + 5
    second = [
        hello(stage, known="d1", new="d3", now_ms=later).data_id,
        hello(stage, known="d1", new="d3", now_ms=later).data_id,
        hello(stage, worker="v", known="d1", new="d4", now_ms=later).data_id,
        hello(stage, worker="x", new="d5", now_ms=later).data_id,
    ]
    lost_at = stage.send(status(stage.keys, SHARE, now_ms=NOW)).data_lost_at
    (entry,) = stage.send(audit_read(stage.keys))

    assert (["d1", "d1"], ["d3"] * 4) == (first, second)
    assert {"data_id": "d3", "lost_ms": str(later)} == stage.dump()["tasks:lanes"]
    assert moment(later) == lost_at
    assert ("data_lost", {"worker": "w"}) == (entry.event, entry.facts)


def test_a_server_that_is_new_has_lost_nothing(stage):
    """A worker that just started tells that to nobody."""
    hello(stage)

    assert None is stage.send(status(stage.keys, SHARE, now_ms=NOW)).data_lost_at
    assert "tasks:events" not in stage.dump()


def test_a_foreign_key_in_place_of_the_lanes_stops_no_beat(stage):
    """Or every worker would look dead."""
    stage.client.set("tasks:lanes", "theirs")

    assert "d1" == hello(stage, known="d1", new="d2").data_id
    assert {"w": NOW} == stage.dump()["tasks:workers"]


def test_a_goodbye_leaves_nothing(stage):
    """A worker that stops is gone at once."""
    for info in (b"{}", b"", b""):
        hello(stage, info=info)

    assert {"tasks:lanes": {"data_id": "d1"}} == stage.dump()


def test_workers_are_listed_the_latest_beat_first(stage):
    """A worker whose heartbeat has expired is shown as dead."""
    for number, worker in enumerate("ab"):
        stage.send(
            heartbeat(
                stage.keys,
                worker=worker,
                info=b'{"pid":7}',
                ttl_ms=9000,
                known="",
                new="d1",
                now_ms=NOW + number,
            )
        )
    stage.client.delete("worker:heartbeat:a", "worker:a")
    listed = stage.send(workers(stage.keys, now_ms=NOW))

    assert [("b", True, {"pid": 7}), ("a", False, {})] == [
        (each.id, each.alive, each.info) for each in listed
    ]
    assert ["b"] == [each.id for each in stage.send(workers(stage.keys, limit=1))]


@pytest.mark.parametrize("keep", [0, 1])
def test_a_completed_task_is_kept_for_its_time(stage, keep):
    """The end and not the beginning counts."""
    (held,) = stage.claimed("t1")
    stage.send(settle(stage.keys, [complete(held, b"1")], now_ms=NOW + 50))

    step = prune(stage.keys, stage.keys.completed, keep_ms=keep, now_ms=NOW + 50)
    assert 1 - keep == stage.send(step)
