"""prune, survey, roll, beat, workers: what keeps the queues in order."""

import pytest

from taskflow._protocol.overview import workers
from taskflow._protocol.settle import complete, settle
from taskflow._protocol.upkeep import BeatReply, beat, prune, roll, survey
from tests.support.keyspace import NOW, Expiring, record


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
        step = stage.send(survey(stage.keys, cursor, count=2, now_ms=NOW))
        cursor = step.cursor
        homeless += step.homeless
        waiting += step.waiting
        if cursor == "0":
            break

    assert ({"a", "b"}, {"c"}) == (set(homeless), set(waiting))
    assert before == stage.dump()


def test_a_list_is_read_in_stretches(stage):
    """First and count bound the answer, which is empty at the end."""
    stage.fill({"tasks:pending:retry": [f"t{n}" for n in range(5)]})

    def read(first):
        return stage.send(
            roll(stage.keys, stage.keys.retry, first=first, count=3, now_ms=NOW)
        )

    assert (["t0", "t1", "t2"], ["t3", "t4"], []) == (read(0), read(3), read(6))


def test_a_beat_says_that_a_worker_lives(stage):
    """Heartbeat and worker expire; a repeat writes the same."""
    hello = beat(stage.keys, worker="w", info=b'{"pid":1}', ttl_ms=9000, now_ms=NOW)
    alive = {
        "worker:heartbeat:w": Expiring(str(NOW)),
        "worker:w": Expiring({"info": '{"pid":1}'}),
        "tasks:workers": {"w": NOW},
    }
    for _ in range(2):
        assert BeatReply(NOW, drain=False) == stage.send(hello)
        assert alive == stage.dump()
    assert 8000 < stage.client.pttl("worker:w") <= 9000


def test_a_goodbye_leaves_nothing(stage):
    """A worker that stops is gone at once."""
    for info in (b"{}", b"", b""):
        stage.send(beat(stage.keys, worker="w", info=info, ttl_ms=9000, now_ms=NOW))

    assert {} == stage.dump()


def test_workers_are_listed_the_latest_beat_first(stage):
    """A worker whose heartbeat has expired is shown as dead."""
    for number, worker in enumerate("ab"):
        stage.send(
            beat(
                stage.keys,
                worker=worker,
                info=b'{"pid":7}',
                ttl_ms=9000,
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
