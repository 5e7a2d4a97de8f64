"""requeue, discard, edit, groups: what people decide about dead letters."""

import pytest

from taskflow._protocol.actions import cancel
from taskflow._protocol.dead_letters import discard, edit, groups, key_conflict, requeue
from taskflow._protocol.lenient import moment
from taskflow._protocol.settle import complete, dead_letter, retry, settle
from taskflow.errors import IllegalMoveError, ScriptError, TaskNotFoundError
from tests.support.keyspace import NOW, WHY, Expiring, record

PRINT = "f" * 12


def bury(stage, *task_ids, now_ms=NOW, **options):
    """Enqueue, claim and dead-letter tasks of these ids; then tidy up."""
    stage.enqueue(*task_ids, **options)
    held = stage.claim(len(task_ids)).claims
    outcomes = [
        dead_letter(each, WHY, cause="permanent", uses_attempt=True, entry={})
        for each in held
    ]
    stage.send(settle(stage.keys, outcomes, now_ms=now_ms))
    stage.client.delete("tasks:marker", "tasks:lanes", "worker:w", "tasks:events")
    return held


def bring_back(stage, *task_ids, nonce="n", **changes):
    """Requeue."""
    return stage.send(
        requeue(stage.keys, task_ids, nonce=nonce, now_ms=NOW + 1, **changes)
    )


def audit_log(stage):
    """Read what people have done."""
    return stage.dump()["tasks:events"]


def drop(stage, *task_ids):
    """Discard."""
    return stage.send(discard(stage.keys, task_ids, now_ms=NOW + 1))


def test_a_dead_letter_brought_back_leaves_no_ghost(stage):
    """Letter, group and groups go; counts begin anew; the retry lane has it."""
    (held,) = bury(stage, "t1")

    assert ["OK"] == bring_back(stage, "t1")
    found = stage.dump()
    error, history = (found["task:t1"].pop(name) for name in ("error", "history"))
    assert (True, True) == (error == WHY.to_json(), "dead" in history)
    times = {"started_ms": NOW, "since_ms": NOW + 1}
    assert {
        "task:t1": record("PENDING", "retry", token=held.token, requeued="n", **times),
        "tasks:pending:retry": ["t1"],
        "tasks:marker": {"work": 0},
        "tasks:events": [
            {"event": "requeued", "id": "t1", "from": "DLQ", "at_ms": str(NOW + 1)}
        ],
    } == found


def test_a_neighbour_in_the_group_stays(stage):
    """The group goes with its last letter only."""
    bury(stage, "t1", "t2")
    bring_back(stage, "t1")

    assert {"t2": NOW} == stage.dump()[f"dlq:group:{PRINT}"]
    assert {PRINT: NOW} == stage.dump()["dlq:groups"]


def test_a_requeue_sent_again_answers_the_same(stage):
    """Nothing moves twice, and a run that began meanwhile is left alone."""
    bury(stage, "t1")
    bring_back(stage, "t1")
    stage.claim()
    before = stage.dump()

    assert ["OK"] == bring_back(stage, "t1")
    assert before == stage.dump()


def test_a_task_named_twice_is_brought_back_once(stage):
    """One id twice in a call is queued once."""
    bury(stage, "t1")

    assert ["OK", "OK"] == bring_back(stage, "t1", "t1")
    assert ["t1"] == stage.dump()["tasks:pending:retry"]


def test_a_task_brought_back_can_die_again(stage):
    """The settle of the new run counts from the start; a replay of the old is stale."""
    (old,) = bury(stage, "t1")
    bring_back(stage, "t1")
    (new,) = stage.claim().claims
    late = settle(stage.keys, [complete(old, b"1")], now_ms=NOW)

    assert (0, 2) == (new.attempts, new.delivery)
    assert ["STALE"] == stage.send(late)


def test_each_task_gets_its_word(stage):
    """Missing, running, completed and waiting tasks are not moved."""
    bury(stage, "dead")
    running, done = stage.claimed("run", "done")
    stage.send(settle(stage.keys, [complete(done, b"1")], now_ms=NOW))
    stage.enqueue("wait")
    before = stage.dump()

    assert ["GONE", "ACTIVE", "COMPLETED", "PENDING"] == bring_back(
        stage, "no", running.id, "done", "wait"
    )
    assert ["DLQ"] == bring_back(stage, "dead", only="FAILED")
    assert before == stage.dump()


def test_a_scheduled_task_runs_now(stage):
    """Its lane is kept, and it leaves the schedule."""
    stage.enqueue("t1", delay_ms=5)

    assert ["OK"] == bring_back(stage, "t1")
    assert ["t1"] == stage.dump()["tasks:pending:primary"]
    assert "tasks:scheduled" not in stage.dump()
    told = [{"event": "requeued", "id": "t1", "from": "SCHEDULED"}]
    assert [each | {"at_ms": str(NOW + 1)} for each in told] == audit_log(stage)
    assert ["OK"] == bring_back(stage, "t1")
    assert 1 == len(audit_log(stage))


def test_a_retry_that_is_brought_forward_keeps_its_attempts_and_begins_its_age_again(
    stage,
):
    """The wait that it did not take must not count."""
    (held,) = stage.claimed("t1")
    again = retry(held, WHY, delay=9, uses_attempt=True, entry={}, ran=1.5)
    stage.send(settle(stage.keys, [again], now_ms=NOW))
    before = stage.dump()["task:t1"]
    bring_back(stage, "t1")
    after = stage.dump()["task:t1"]

    assert ("10500", None) == (before["age_ms"], after.get("age_ms"))
    assert ("1", "retry") == (after["attempts"], after["lane"])


def test_a_cancelled_schedule_is_brought_back_to_the_retry_lane(stage):
    """It stands in no list, so it is queued."""
    stage.enqueue("t1", delay_ms=5)
    stage.send(cancel(stage.keys, "t1", now_ms=NOW))

    assert ["OK"] == bring_back(stage, "t1")
    assert ["t1"] == stage.dump()["tasks:pending:retry"]
    assert "tasks:cancelled" not in stage.dump()


@pytest.mark.parametrize("ttl", [0, 60_000])
@pytest.mark.parametrize("is_discarded", [False, True])
def test_a_key_is_held_again_while_the_task_is_back(stage, ttl, is_discarded):
    """Its time to live is taken off, and a key that was freed is taken again."""
    bury(stage, "t1", key="f:k", key_ttl_ms=ttl, digest="d")
    if is_discarded:
        drop(stage, "t1")
    before = stage.dump().get("tasks:key:f:k")
    bring_back(stage, "t1")

    assert (Expiring("t1 d") if ttl and not is_discarded else None) == before
    assert "t1 d" == stage.dump()["tasks:key:f:k"]


@pytest.mark.parametrize("state", ["waits", "runs", "has completed"])
def test_a_letter_whose_key_was_taken_stays(stage, state):
    """Both would do the same work; the answer names the other task and the key."""
    bury(stage, "t1", "t9", key="f:a k", key_ttl_ms=0, digest="d")
    stage.enqueue("t2", key="f:a k", key_ttl_ms=60_000, digest="e")
    if state != "waits":
        (held,) = stage.claim().claims
        if state == "has completed":
            stage.send(settle(stage.keys, [complete(held, b"1")], now_ms=NOW))
    before = stage.dump()
    found = stage.send(requeue(stage.keys, ["t1"], nonce="n7", now_ms=NOW))

    assert ["HELD t2 f:a k"] == found
    error = key_conflict("t1", found[0])
    assert error
    assert ("f:a k", "t2", "t1") == (error.key, error.task_id, error.requeued)
    assert before == stage.dump()


def test_a_key_whose_holder_is_lost_is_taken_back(stage):
    """Nothing else would free it."""
    bury(stage, "t1", key="f:k", key_ttl_ms=0, digest="d")
    stage.enqueue("t2", key="f:k", key_ttl_ms=60_000, digest="e")
    stage.client.delete("task:t2")

    assert ["OK"] == bring_back(stage, "t1")
    assert "t1 d" == stage.dump()["tasks:key:f:k"]


def test_a_discarded_letter_is_failed(stage):
    """The record stays until it is pruned; a repeat discards nothing."""
    bury(stage, "t1", "t2")

    assert (2, 0) == (drop(stage, "t1", "t2", "no"), drop(stage, "t1", "t2"))
    found = stage.dump()
    assert {"t1": NOW + 1, "t2": NOW + 1} == found["tasks:failed"]
    assert ["task:t1", "task:t2", "tasks:events", "tasks:failed"] == list(found)
    assert [{"event": "discarded", "count": "2", "at_ms": str(NOW + 1)}] == found[
        "tasks:events"
    ]


def test_who_waits_for_a_discarded_task_is_told_how_it_ended(stage):
    """Nothing else would wake them; what they hear is the state that is stored."""
    (held,) = stage.claimed("t1")
    dead = dead_letter(held, WHY, cause="permanent", uses_attempt=True, entry={})
    stage.send(settle(stage.keys, [dead], now_ms=NOW))
    stage.client.hset("task:t1", "watched", 1)
    subscriber = stage.client.pubsub(ignore_subscribe_messages=True)
    subscriber.subscribe(stage.keys.done_channel("t1"))
    subscriber.get_message(timeout=1)
    stage.send(discard(stage.keys, ["t1"], now_ms=NOW))

    heard = (subscriber.get_message(timeout=1) for _ in range(5))
    assert [b"FAILED"] == [each["data"] for each in heard if each]
    subscriber.close()


def test_a_corrupt_letter_can_be_discarded(stage):
    """A record beyond reading leaves the dead letters."""
    stage.fill({"task:bad": "a string", "tasks:pending:primary": ["bad"]})
    stage.claim()

    assert 1 == drop(stage, "bad")
    assert [] == [key for key in stage.dump() if key.startswith("dlq")]


@pytest.mark.parametrize("count", [0, 101])
@pytest.mark.parametrize("verb", [requeue, discard])
def test_a_batch_is_bounded(keys, verb, count):
    """A call names 1 to 100 ids."""
    more = {"nonce": "n"} if verb is requeue else {}
    with pytest.raises(ValueError, match=f"got {count}"):
        verb(keys, ["t"] * count, **more)


def test_the_arguments_of_a_dead_letter_can_be_replaced(stage):
    """Only the payload changes."""
    bury(stage, "t1")
    before = stage.dump()
    stage.send(edit(stage.keys, "t1", b'{"n":2}', now_ms=NOW))

    before["task:t1"]["payload"] = '{"n":2}'
    before["tasks:events"] = [{"event": "edited", "id": "t1", "at_ms": str(NOW)}]
    assert before == stage.dump()


def test_the_arguments_of_other_tasks_cannot_be_replaced(stage):
    """A waiting and a missing task are refused; nothing is written."""
    stage.enqueue("t1")
    before = stage.dump()

    with pytest.raises(IllegalMoveError, match="PENDING"):
        stage.send(edit(stage.keys, "t1", b"{}", now_ms=NOW))
    with pytest.raises(TaskNotFoundError):
        stage.send(edit(stage.keys, "no", b"{}", now_ms=NOW))
    assert before == stage.dump()


def test_dead_letters_are_grouped_by_kind(stage):
    """Count, first and last death, the newest letter; nothing is written."""
    bury(stage, "t1")
    bury(stage, "t2", now_ms=NOW + 9)
    before = stage.dump()
    (group,) = stage.send(groups(stage.keys, skip=0, limit=10, now_ms=NOW))

    assert (PRINT, 2, "t2", "f", "permanent", "ValueError", "no") == (
        group.fingerprint,
        group.count,
        group.newest_id,
        group.task_name,
        group.cause,
        group.error_type,
        group.error_message,
    )
    assert (moment(NOW), moment(NOW + 9)) == (group.first_died_at, group.last_died_at)
    assert before == stage.dump()


def test_groups_come_in_pages(stage):
    """Skip and limit bound the answer; an empty queue has no groups."""
    empty = stage.send(groups(stage.keys, skip=0, limit=10, now_ms=NOW))
    bury(stage, "t1")

    assert [] == empty == stage.send(groups(stage.keys, skip=1, limit=10, now_ms=NOW))


def test_a_requeue_into_a_broken_lane_writes_nothing(stage):
    """A key of a foreign type is met before the first write."""
    stage.fill(
        {
            "task:t1": record("FAILED"),
            "tasks:failed": {"t1": NOW},
            "tasks:pending:retry": "foreign",
        }
    )
    before = stage.dump()
    with pytest.raises(ScriptError):
        stage.send(requeue(stage.keys, ["t1"], nonce="n", now_ms=NOW))

    assert before == stage.dump()
