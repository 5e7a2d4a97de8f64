"""enqueue: record, home and key in one step, or nothing at all."""

import pytest

from taskflow._protocol.actions import delete
from taskflow._protocol.enqueue import Stored, enqueue
from taskflow._protocol.settle import complete, settle
from taskflow._protocol.upkeep import prune
from tests.support.keyspace import NOW, Expiring, record, submission

WORK = {"tasks:marker": {"work": 0}}
KEY = {"key": "f:k", "key_ttl_ms": 60_000, "digest": "d1"}


def test_a_task_gets_a_record_and_a_place(stage):
    """Without options the task waits at the end of the primary lane."""
    reply = stage.enqueue("t1", "t2")

    assert [Stored("t1", True, False), Stored("t2", True, False)] == reply  # noqa: FBT003
    assert {
        "task:t1": record(),
        "task:t2": record(),
        "tasks:pending:primary": ["t1", "t2"],
    } | WORK == stage.dump()


def test_a_delayed_task_waits_for_its_time(stage):
    """The marker carries the earliest time only."""
    stage.enqueue("t1", delay_ms=500)
    stage.enqueue("t2", delay_ms=900)

    assert {
        "task:t1": record("SCHEDULED"),
        "task:t2": record("SCHEDULED"),
        "tasks:scheduled": {"t1": NOW + 500, "t2": NOW + 900},
        "tasks:marker": {"due": NOW + 500},
    } == stage.dump()


def test_every_key_carries_the_prefix(server):
    """Under a prefix nothing is written outside it."""
    from taskflow._protocol.keys import Keys
    from tests.support.keyspace import Stage

    runner = server.runner()
    stage = Stage(server.sync_client(), runner, Keys("{app}:"))
    stage.enqueue("t1", **KEY)
    stage.enqueue("t2", delay_ms=5)
    runner.close()

    assert all(key.startswith("{app}:") for key in stage.dump())


def test_a_call_sent_again_writes_nothing(stage):
    """The same ids answer the same and are not queued twice."""
    first = stage.enqueue("t1", "t2", now_ms=NOW)
    before = stage.dump()
    again = stage.enqueue("t1", "t2", now_ms=NOW + 999)

    assert first == again
    assert before == stage.dump()


def test_a_call_with_a_key_sent_again_is_told_that_it_created_the_task(stage):
    """The id is recognised before the key."""
    first = stage.enqueue("t1", **KEY)
    before = stage.dump()

    assert first == stage.enqueue("t1", **KEY)
    assert before == stage.dump()


def test_a_key_is_stored_with_its_task(stage):
    """Holder and digest stand at the key, which lives as long as the task."""
    stage.enqueue("t1", expires_ms=70, **KEY)

    assert {
        "task:t1": record(key="60000 d1 f:k", expires_ms=NOW + 70),
        "tasks:key:f:k": "t1 d1",
        "tasks:pending:primary": ["t1"],
    } | WORK == stage.dump()


@pytest.mark.parametrize(("digest", "conflict"), [("d1", False), ("d2", True)])
def test_a_held_key_answers_with_its_holder(stage, digest, conflict):
    """The same payload is a repeat, another payload a conflict; nothing is stored."""
    stage.enqueue("t1", **KEY)
    before = stage.dump()

    reply = stage.enqueue("t2", **(KEY | {"digest": digest}))

    assert [Stored("t1", created=False, conflict=conflict)] == reply
    assert before == stage.dump()


def test_keys_hold_within_one_batch(stage):
    """Of three calls with one key the first is stored."""
    batch = [
        submission("t1", **KEY),
        submission("t2", **KEY),
        submission("t3", **(KEY | {"digest": "d2"})),
    ]
    operation = enqueue(stage.keys, batch, now_ms=NOW)

    expected = [
        Stored("t1", created=True, conflict=False),
        Stored("t1", created=False, conflict=False),
        Stored("t1", created=False, conflict=True),
    ]
    assert expected == stage.send(operation)
    assert expected == stage.send(operation)
    assert ["t1"] == stage.dump()["tasks:pending:primary"]
    assert "task:t2" not in stage.dump()


def test_one_id_twice_in_a_batch_is_one_task(stage):
    """A batch that repeats an id queues it once."""
    stage.enqueue("t1", "t1")

    assert {
        "task:t1": record(),
        "tasks:pending:primary": ["t1"],
    } | WORK == stage.dump()


def test_a_key_lives_on_for_a_while_after_the_end(stage):
    """Once the task has ended, its key expires after its time to live."""
    stage.enqueue("t1", **KEY)
    (claimed,) = stage.claim().claims
    stage.send(settle(stage.keys, [complete(claimed, b"null")], now_ms=NOW))

    assert Expiring("t1 d1") == stage.dump()["tasks:key:f:k"]
    assert 59_000 < stage.client.pttl("tasks:key:f:k") <= 60_000
    assert "t1" == stage.enqueue("t2", **KEY)[0].id


def test_a_deleted_task_frees_its_key(stage):
    """The next call with the key is stored."""
    stage.enqueue("t1", **KEY)
    stage.send(delete(stage.keys, "t1", force=False, now_ms=NOW))

    assert "t2" == stage.enqueue("t2", **KEY)[0].id


@pytest.mark.parametrize(
    ("digest", "conflict"), [("d1", False), ("d2", True)], ids=["same", "other"]
)
def test_a_key_outlives_the_record_of_its_task(stage, digest, conflict):
    """Whoever keeps results for less than the key must not run the task twice."""
    stage.enqueue("t1", **KEY)
    (claimed,) = stage.claim().claims
    stage.send(settle(stage.keys, [complete(claimed, b"null")], now_ms=NOW))
    stage.send(prune(stage.keys, stage.keys.completed, keep_ms=0, now_ms=NOW + 1))

    reply = stage.enqueue("t2", **KEY | {"digest": digest})

    assert [Stored("t1", created=False, conflict=conflict)] == reply
    assert {"tasks:key:f:k"} == stage.dump().keys() & {
        "tasks:key:f:k",
        "task:t1",
        "task:t2",
    }


def test_a_key_that_never_ends_and_whose_holder_is_gone_is_free(stage):
    """The record was lost while the task lived: nothing would ever free the key."""
    stage.fill({"tasks:key:f:k": "gone d1"})

    assert "t2" == stage.enqueue("t2", **KEY)[0].id
    assert "t2 d1" == stage.dump()["tasks:key:f:k"]


@pytest.mark.parametrize("count", [0, 101])
def test_a_batch_is_bounded(keys, count):
    """A call carries 1 to 100 tasks."""
    with pytest.raises(ValueError, match=f"got {count}"):
        enqueue(keys, [submission(f"t{n}") for n in range(count)])


def test_a_whole_batch_fits(stage):
    """A hundred tasks with options are stored in one call, in order."""
    ids = [f"t{n}" for n in range(100)]
    stage.enqueue(*ids, expires_ms=9)

    assert ids == stage.dump()["tasks:pending:primary"]


def test_the_servers_clock_is_used_when_no_time_is_given(stage):
    """A time of 0 stands for the server's own."""
    stage.enqueue("t1", now_ms=0)
    seconds, micros = stage.client.time()
    now = seconds * 1000 + micros / 1000
    created = int(stage.dump()["task:t1"]["created_ms"])

    assert now - 10_000 < created <= now + 1
