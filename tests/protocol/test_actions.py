"""cancel, delete, pause, drain: what people ask of a task, a lane or a worker."""

import pytest

from taskflow._protocol.actions import cancel, delete, drain, pause
from taskflow._protocol.dead_letters import requeue
from taskflow._protocol.inspect import watch
from taskflow._protocol.settle import complete, dead_letter, settle
from taskflow._protocol.states import TaskState
from taskflow._protocol.upkeep import heartbeat
from taskflow.errors import IllegalMoveError, TaskNotFoundError
from tests.support.keyspace import NOW, WHY, Expiring, record

WAITED = '{"type":"Cancelled","message":"cancelled while it waited"}'


def stop(stage, task_id="t1"):
    """Cancel."""
    return stage.send(cancel(stage.keys, task_id, now_ms=NOW))


def remove(stage, task_id="t1", *, force=False):
    """Delete."""
    return stage.send(delete(stage.keys, task_id, force=force, now_ms=NOW))


def test_a_waiting_task_is_cancelled_at_once(stage):
    """Its id stays in the list under a tombstone."""
    stage.enqueue("t1")

    assert stop(stage) is True
    assert {
        "task:t1": record("CANCELLED", finished_ms=NOW, error=WAITED),
        "tasks:cancelled": {"t1": NOW},
        "tasks:pending:primary": ["t1"],
        "tasks:tombstones:primary": {"t1"},
        "tasks:marker": {"work": 0},
    } == stage.dump()


def test_who_waits_for_a_waiting_task_hears_that_it_was_cancelled(stage):
    """The message says CANCELLED, as the record does."""
    stage.enqueue("t1")
    stage.send(watch(stage.keys, "t1", now_ms=NOW))
    with stage.runner.subscribe(stage.keys.done_channel("t1")) as channel:
        stop(stage)
        told = channel.next(5)

    assert b"CANCELLED" == told


def test_a_scheduled_task_is_cancelled_at_once(stage):
    """It leaves the schedule; no tombstone is needed."""
    stage.enqueue("t1", delay_ms=5)
    stage.client.delete("tasks:marker")

    assert stop(stage) is True
    assert {
        "task:t1": record("CANCELLED", finished_ms=NOW, error=WAITED),
        "tasks:cancelled": {"t1": NOW},
    } == stage.dump()


def test_a_running_task_is_asked_to_stop(stage):
    """Only the flag is written."""
    stage.claimed("t1")
    before = stage.dump()

    assert stop(stage) is False
    before["task:t1"]["cancel"] = "1"
    assert before == stage.dump()


def test_a_cancel_sent_again_answers_the_same(stage):
    """Nothing is written twice."""
    stage.enqueue("t1")
    stop(stage)
    before = stage.dump()

    assert stop(stage) is True
    assert before == stage.dump()


def test_a_task_that_has_ended_cannot_be_cancelled(stage):
    """The refusal says the state; nothing is written."""
    (held,) = stage.claimed("t1")
    stage.send(settle(stage.keys, [complete(held, b"1")], now_ms=NOW))
    before = stage.dump()

    with pytest.raises(IllegalMoveError, match="COMPLETED"):
        stop(stage)
    assert before == stage.dump()


def test_a_missing_task_cannot_be_cancelled(stage):
    """Nothing is written."""
    with pytest.raises(TaskNotFoundError):
        stop(stage)

    assert {} == stage.dump()


def test_a_cancelled_task_without_a_lane_gets_its_tombstone(stage):
    """A damaged record can be cancelled."""
    bare = record()
    del bare["lane"]
    stage.fill({"task:t1": bare, "tasks:pending:primary": ["t1"]})

    assert stop(stage) is True
    assert {"t1"} == stage.dump()["tasks:tombstones:primary"]


def test_a_task_cancelled_while_it_waited_and_brought_back_runs_once(stage):
    """Its tombstone is taken away instead of its id being queued twice."""
    stage.enqueue("t1", "t2")
    stop(stage)
    words = stage.send(requeue(stage.keys, ["t1"], nonce="n", now_ms=NOW))

    assert ["OK"] == words
    assert ["t1", "t2"] == [each.id for each in stage.claim(5).claims]
    assert [] == stage.claim(5).claims
    assert "tasks:tombstones:primary" not in stage.dump()


def test_a_cancelled_task_frees_its_key(stage):
    """The call can be made again at once."""
    stage.enqueue("t1", key="f:k", key_ttl_ms=5000, digest="d")
    stop(stage)

    assert "tasks:key:f:k" not in stage.dump()


def into(stage, state: TaskState):
    """Bring t1 to *state*; give what is left in the keyspace without it."""
    stage.enqueue(
        "t1",
        key="f:k",
        key_ttl_ms=60_000,
        digest="d",
        **({"delay_ms": 5} if state == "SCHEDULED" else {}),
    )
    if state in {"ACTIVE", "DLQ", "COMPLETED"}:
        (held,) = stage.claim().claims
    if state == "DLQ":
        outcome = dead_letter(held, WHY, cause="permanent", uses_attempt=True, entry={})
        stage.send(settle(stage.keys, [outcome], now_ms=NOW))
    elif state == "COMPLETED":
        stage.send(settle(stage.keys, [complete(held, b"1")], now_ms=NOW))
    elif state == "CANCELLED":
        stop(stage)
    stage.client.delete("tasks:marker", "tasks:lanes", "worker:w", "tasks:events")


@pytest.mark.parametrize(
    "state", ["PENDING", "SCHEDULED", "COMPLETED", "DLQ", "CANCELLED", "ACTIVE"]
)
def test_a_deleted_task_leaves_nothing_but_its_tombstone(stage, state):
    """Record, home, key and dead letter go in one step."""
    into(stage, state)
    stage.client.xadd("task:t1:events", {"chunk": "x"})

    assert remove(stage, force=state == "ACTIVE") is True
    buried = {"tasks:pending:primary": ["t1"], "tasks:tombstones:primary": {"t1"}}
    assert {
        **(buried if state in {"PENDING", "CANCELLED"} else {}),
        "tasks:events": [
            {"event": "deleted", "id": "t1", "from": state, "at_ms": str(NOW)}
        ],
    } == stage.dump()


def test_a_delete_sent_again_finds_nothing(stage):
    """Nothing is written twice."""
    stage.enqueue("t1")
    remove(stage)
    before = stage.dump()

    assert remove(stage) is False
    assert before == stage.dump()


def test_a_running_task_is_deleted_by_force_only(stage):
    """The refusal writes nothing."""
    stage.claimed("t1")
    before = stage.dump()

    with pytest.raises(IllegalMoveError):
        remove(stage)
    assert before == stage.dump()


def test_a_key_that_another_task_holds_is_left(stage):
    """A deleted task frees its own key only."""
    into(stage, TaskState.PENDING)
    stage.client.set("tasks:key:f:k", "t2 d")
    remove(stage)

    assert "t2 d" == stage.dump()["tasks:key:f:k"]


def test_a_corrupt_record_can_be_deleted(stage):
    """A record of another type goes, its dead letter too."""
    stage.fill({"task:bad": "a string", "tasks:pending:primary": ["bad"]})
    stage.claim()

    assert remove(stage, "bad") is True
    assert ["tasks:events"] == list(stage.dump())


@pytest.mark.parametrize("paused", [True, False])
def test_a_pause_is_a_flag(stage, paused):
    """The marker wakes a worker when the lane goes on."""
    stage.fill({"tasks:lanes": {"credit": "0", "paused:retry": "1"}})
    for _ in range(2):
        stage.send(pause(stage.keys, "retry", paused=paused, now_ms=NOW))
    lanes = {"credit": "0"} | ({"paused:retry": str(NOW)} if paused else {})
    event = {
        "event": "paused" if paused else "resumed",
        "lane": "retry",
        "at_ms": str(NOW),
    }

    expected = {"tasks:lanes": lanes, "tasks:events": [event, event]}
    if not paused:
        expected["tasks:marker"] = {"work": 0}
    assert expected == stage.dump()


def test_a_worker_hears_that_it_shall_drain_with_its_next_beat(stage):
    """The wish expires with the worker."""
    hello = heartbeat(
        stage.keys, worker="w", info=b"{}", ttl_ms=9000, known="", new="d1", now_ms=NOW
    )
    before = stage.send(hello).drain

    assert stage.send(drain(stage.keys, "w", now_ms=NOW)) is True
    assert (False, True) == (before, stage.send(hello).drain)
    assert Expiring({"info": "{}", "drain": str(NOW)}) == stage.dump()["worker:w"]


def test_a_worker_that_does_not_live_cannot_drain(stage):
    """Nothing is written."""
    assert stage.send(drain(stage.keys, "w", now_ms=NOW)) is False
    assert {} == stage.dump()
