"""promote: what is due goes to its lane, once."""

import pytest

from taskflow._protocol.upkeep import PromoteReply, promote
from tests.support.keyspace import NOW, record


def advance(stage, now_ms=NOW, **changes):
    """Promote."""
    return stage.send(promote(stage.keys, now_ms=now_ms, **changes))


def test_an_empty_schedule_is_left_alone(stage):
    """Nothing is written."""
    assert PromoteReply(NOW, 0, 0) == advance(stage)
    assert {} == stage.dump()


def test_due_tasks_go_to_their_lanes_oldest_first(stage):
    """A first run to primary, a retry to retry, a suspect to the suspects."""
    tasks = {
        "a": "primary",
        "b": "retry",
        "c": "suspects",
        "d": "primary",
        "e": "retry",
    }
    stage.fill(
        {f"task:{each}": record("SCHEDULED", lane) for each, lane in tasks.items()}
    )
    due = {"a": NOW, "b": NOW - 2, "c": NOW - 1, "d": NOW - 3, "e": NOW + 1}
    stage.fill({"tasks:scheduled": due})

    assert PromoteReply(NOW, 4, NOW + 1) == advance(stage)
    assert {
        **{
            f"task:{each}": record("PENDING", tasks[each], since_ms=NOW)
            for each in "abcd"
        },
        "task:e": record("SCHEDULED", "retry"),
        "tasks:scheduled": {"e": NOW + 1},
        "tasks:pending:primary": ["d", "a"],
        "tasks:pending:retry": ["b"],
        "tasks:suspects": ["c"],
        "tasks:marker": {"work": 0},
    } == stage.dump()


def test_three_promoters_move_twenty_due_tasks_twenty_times(stage):
    """Any number of promoters move a task once."""
    ids = [f"t{n:02}" for n in range(20)]
    stage.enqueue(*ids, delay_ms=5)
    moved = [advance(stage, NOW + 5, limit=7).moved for _ in range(3)]
    again = advance(stage, NOW + 5).moved

    assert ([7, 7, 6], 0) == (moved, again)
    assert ids == stage.dump()["tasks:pending:primary"]


@pytest.mark.parametrize(
    "bad",
    ["a string", {"lane": "primary", "payload": "{}"}],
    ids=["wrong type", "no state"],
)
def test_a_corrupt_record_is_quarantined_and_its_neighbours_are_moved(stage, bad):
    """One bad record stops nobody."""
    stage.enqueue("t1", "t2", delay_ms=5)
    stage.fill({"task:bad": bad, "tasks:scheduled": {"bad": NOW + 5}})

    assert 3 == advance(stage, NOW + 5).moved
    assert ["t1", "t2"] == stage.dump()["tasks:pending:primary"]
    assert {"bad": NOW + 5} == stage.dump()["dlq:tasks"]
    assert {"corrupt": NOW + 5} == stage.dump()["dlq:groups"]


def test_a_missing_record_leaves_nothing_behind(stage):
    """An id without a record is taken off the schedule."""
    stage.fill({"tasks:scheduled": {"gone": NOW}})
    advance(stage)

    assert {"tasks:marker": {"work": 0}} == stage.dump()
