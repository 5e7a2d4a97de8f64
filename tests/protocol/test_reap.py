"""reap: a lost lease is a crash, and the task goes on without its worker."""

import pytest

from taskflow._protocol.actions import cancel
from taskflow._protocol.settle import complete, dead_letter, settle
from taskflow._protocol.upkeep import Reaped, reap
from tests.support.keyspace import LEASE, NOW, WHY, record

LATE = NOW + LEASE


def take_back(stage, now_ms=LATE, **changes):
    """Reap."""
    return stage.send(reap(stage.keys, **({"max_crashes": 3} | changes), now_ms=now_ms))


def crash(number: int) -> str:
    """Give the line of one crash."""
    return f'{LATE} {{"outcome":"crash","crashes":{number},"worker":"w","started_ms":{NOW}}}'


def test_a_lease_that_holds_is_left_alone(stage):
    """Nothing is written before the lease has ended."""
    stage.claimed("t1")
    before = stage.dump()

    assert [] == take_back(stage, LATE - 1)
    assert before == stage.dump()


def test_a_lost_lease_counts_as_a_crash_and_not_as_an_attempt(stage):
    """The task waits at the head of the retry lane, its token voided."""
    stage.claimed("t1")
    stage.client.delete("worker:w", "tasks:lanes", "tasks:marker")

    assert [Reaped("t1", "retry", "w")] == take_back(stage)
    fields = {"token": "1::", "started_ms": NOW, "since_ms": LATE, "crashes": 1}
    assert {
        "task:t1": record("PENDING", "retry", history=crash(1), **fields),
        "tasks:pending:retry": ["t1"],
        "tasks:marker": {"work": 0},
        "tasks:events": [
            {
                "event": "lease_lost",
                "id": "t1",
                "worker": "w",
                "crashes": "1",
                "at_ms": str(LATE),
            }
        ],
    } == stage.dump()


def test_a_repeat_takes_nothing_back(stage):
    """The lease is gone with the first call."""
    stage.claimed("t1")
    take_back(stage)
    before = stage.dump()

    assert [] == take_back(stage)
    assert before == stage.dump()


def test_the_late_worker_is_refused(stage):
    """A settle after the reap writes nothing."""
    (held,) = stage.claimed("t1")
    take_back(stage)
    before = stage.dump()

    assert ["STALE"] == stage.send(
        settle(stage.keys, [complete(held, b"1")], now_ms=LATE)
    )
    assert before == stage.dump()


def test_tasks_keep_their_order(stage):
    """Taken back together they stand at the head as they were handed out."""
    stage.claimed("a", "b", "c")
    take_back(stage)

    assert ["a", "b", "c"] == stage.dump()["tasks:pending:retry"]


def test_a_call_is_bounded(stage):
    """At most *limit* leases are taken back."""
    stage.claimed("a", "b", "c")

    assert 2 == len(take_back(stage, limit=2))
    assert 1 == len(take_back(stage, limit=2))


def test_the_second_crash_makes_a_suspect_and_the_third_is_poison(stage):
    """Crashes are counted over hand-outs; the dead letter says what happened."""
    stage.enqueue("t1")
    where = []
    for round_number in range(3):
        now = NOW + round_number * LEASE
        stage.claim(now_ms=now)
        where += [each.where for each in take_back(stage, now + LEASE)]

    died = NOW + 3 * LEASE
    found = stage.dump()
    assert ["retry", "suspects", "poison"] == where
    assert {"t1": died} == found["dlq:tasks"] == found["dlq:group:poison"]
    assert "tasks:suspects" not in found
    letter = found["dlq:task:t1"]
    assert ("poison", "3", "0") == (
        letter["cause"],
        letter["crashes"],
        letter["attempts"],
    )
    assert "DLQ" == found["task:t1"]["state"]


def test_a_flagged_task_whose_worker_died_is_cancelled(stage):
    """The wish to cancel is fulfilled."""
    stage.claimed("t1")
    stage.send(cancel(stage.keys, "t1", now_ms=NOW))

    assert [Reaped("t1", "cancelled", "w")] == take_back(stage)
    assert {"t1": LATE} == stage.dump()["tasks:cancelled"]
    assert "tasks:pending:retry" not in stage.dump()


@pytest.mark.parametrize("max_crashes", [1, 2])
def test_the_limit_of_crashes_is_the_callers(stage, max_crashes):
    """With a limit of 1 the first crash is the last."""
    stage.fill({"task:t1": record("ACTIVE", token="1:w:1-1", crashes=max_crashes - 1)})  # noqa: S106
    stage.fill({"tasks:active": {"t1": NOW}})

    assert [Reaped("t1", "poison", "w")] == take_back(stage, max_crashes=max_crashes)


@pytest.mark.parametrize(
    ("bad", "where", "dead"),
    [
        (["a list"], "ghost", True),
        ({"lane": "primary"}, "ghost", True),
        (record("ACTIVE", token="nonsense"), "retry", False),  # noqa: S106
        (record("ACTIVE"), "retry", False),
        (record("ACTIVE", token="1:w:1-1", crashes="many"), "ghost", True),  # noqa: S106
        (record("ACTIVE", token="1:w:1-1", started_ms='"'), "retry", False),  # noqa: S106
        (None, "ghost", False),
    ],
    ids=[
        "wrong type",
        "no state",
        "bad token",
        "no token",
        "bad count",
        "bad time",
        "missing",
    ],
)
def test_a_corrupt_record_does_not_strand_its_neighbours(stage, bad, where, dead):
    """Every other lease of the call is taken back."""
    stage.claimed("t1", "t2")
    stage.fill({"tasks:active": {"bad": NOW + LEASE}})
    if bad is not None:
        stage.fill({"task:bad": bad})

    told = {each.id: each.where for each in take_back(stage)}
    assert {"t1": "retry", "t2": "retry", "bad": where} == told
    assert ("bad" in stage.dump().get("dlq:tasks", {})) is dead
    assert "tasks:active" not in stage.dump()


def test_a_dead_letter_that_died_again_stands_in_its_new_group_only(stage):
    """A record whose letter was left behind has no ghost in an old group."""
    (held,) = stage.claimed("t1")
    dead = dead_letter(held, WHY, cause="permanent", uses_attempt=True, entry={})
    stage.send(settle(stage.keys, [dead], now_ms=NOW))

    assert ["dlq:group:" + "f" * 12, "dlq:groups"] == [
        key for key in stage.dump() if key.startswith("dlq:group")
    ]


def test_a_reap_may_run_until_its_time_and_not_after(stage):
    """One that stood still on its way takes nothing back."""
    stage.claimed("t1")

    assert [] == take_back(stage, latest_ms=LATE - 1)
    assert ["t1"] == [each.id for each in take_back(stage, latest_ms=LATE)]


def test_who_waits_for_a_task_hears_that_it_was_cancelled(stage):
    """The message says CANCELLED, as the record does."""
    stage.claimed("t1")
    stage.client.hset("task:t1", "watched", 1)
    stage.send(cancel(stage.keys, "t1", now_ms=NOW))
    subscriber = stage.client.pubsub(ignore_subscribe_messages=True)
    subscriber.subscribe(stage.keys.done_channel("t1"))
    subscriber.get_message(timeout=1)
    take_back(stage)
    heard = (subscriber.get_message(timeout=1) for _ in range(5))

    assert b"CANCELLED" == next(each["data"] for each in heard if each)
    subscriber.close()
