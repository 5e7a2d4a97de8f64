"""What a foreign hand wrote into one key stops no script that serves all others."""

import pytest

from taskflow import CircuitBreaker, TaskState, Upstream
from taskflow._protocol import (
    consistency,
    inspect,
    queue_status,
    schedules,
    task_events,
    upstreams,
)
from taskflow._protocol.actions import cancel, delete
from taskflow._protocol.dead_letters import discard, groups, requeue
from taskflow._protocol.record import CallReport
from taskflow._protocol.settle import complete, dead_letter, release, retry, settle
from taskflow._protocol.upkeep import promote, reap
from taskflow._protocol.upstreams import BreakerDefaults
from taskflow.errors import ServerError, TaskFlowError
from tests.support.fuzz_strings import foreign_keys
from tests.support.invariants import broken
from tests.support.keyspace import LEASE, NOW, WHY, Stage, record
from tests.support.script_calls import CASES


@pytest.mark.parametrize("credit", ["", "bad", "nan", "inf", "-1e300"])
def test_a_credit_that_is_none_is_counted_anew(stage, credit):
    """Otherwise no worker of the fleet would be given anything, or one lane alone."""
    stage.enqueue("p1", "p2")
    stage.fill({"task:r1": record(lane="retry"), "tasks:pending:retry": ["r1"]})
    stage.client.hset("tasks:lanes", "credit", credit)
    claimed = {each.id for each in stage.claim(3).claims}

    assert {"p1", "p2", "r1"} == claimed
    assert 0 <= float(stage.client.hget("tasks:lanes", "credit")) < 1


@pytest.mark.parametrize(
    "need", ["nan api", "0x10 api", "inf api", "bad", "1 a b", "*"]
)
def test_a_need_that_is_none_is_not_told_to_the_worker(stage, need):
    """It could not read the answer, and would lose all that were handed out with it."""
    stage.enqueue("t1", "t2")
    stage.client.hset("task:t1", "upstream", need)
    claims = stage.claim(2).claims

    assert [("t1", ""), ("t2", "")] == [(each.id, each.upstream) for each in claims]
    assert [] == foreign_keys(stage.dump())


@pytest.mark.parametrize("lane", ["bad", "", "retry:x", "*"])
def test_no_key_is_made_of_a_lane_that_there_is_not(stage, lane):
    """The task goes on in a lane that is served."""
    stage.enqueue("due", "again", delay_ms=1)
    stage.enqueue("held", "struck", "gone")
    (held,) = stage.claim(1).claims
    for task_id in ("due", "again", "held", "struck", "gone"):
        stage.client.hset(f"task:{task_id}", "lane", lane)
    stage.send(requeue(stage.keys, ["again"], nonce="n", now_ms=NOW))
    stage.send(promote(stage.keys, now_ms=NOW + 1))
    stage.send(settle(stage.keys, [release(held)], now_ms=NOW))
    stage.send(cancel(stage.keys, "struck", now_ms=NOW))
    stage.send(delete(stage.keys, "gone", force=False, now_ms=NOW))

    assert [] == foreign_keys(stage.dump())
    claimed = {each.id for each in stage.claim(10, now_ms=NOW + 1).claims}
    assert {"due", "again", "held"} == claimed


@pytest.mark.parametrize("key", ["dlq:group:ffffffffffff", "dlq:task:t1"])
def test_a_dead_letter_takes_the_place_of_a_foreign_key(stage, key):
    """Or a batch of outcomes, settled in part, would be refused for ever."""
    first, second = stage.claimed("t1", "t2")
    stage.client.set(key, "theirs")
    dead = dead_letter(first, WHY, cause="permanent", uses_attempt=True, entry={})
    words = stage.send(settle(stage.keys, [dead, complete(second, b"1")], now_ms=NOW))

    assert ["OK", "OK"] == words
    assert {"t1": NOW} == stage.dump()["dlq:group:ffffffffffff"]
    assert "permanent" == stage.dump()["dlq:task:t1"]["cause"]


@pytest.mark.parametrize("key", ["dlq:group:ffffffffffff", "dlq:task:t1"])
def test_dead_letters_with_a_foreign_key_are_listed_and_brought_back(stage, key):
    """They are dead letters by their home."""
    first, second = stage.claimed("t1", "t2")
    outcomes = [
        dead_letter(each, WHY, cause="permanent", uses_attempt=True, entry={})
        for each in (first, second)
    ]
    stage.send(settle(stage.keys, outcomes, now_ms=NOW))
    stage.client.delete(key)
    stage.client.set(key, "theirs")
    page = stage.send(inspect.page(stage.keys, stage.keys.dlq, kind="newest"))
    stage.send(groups(stage.keys, skip=0, limit=10))
    letters = {stage.send(inspect.get(stage.keys, each)).state for each in ("t1", "t2")}
    mended = stage.send(consistency.repair_placement(stage.keys, "t1"))
    words = stage.send(requeue(stage.keys, ["t1"], nonce="n", now_ms=NOW))

    assert {"t1", "t2"} == {each.id for each in page.items}
    assert {TaskState.DLQ} == letters
    assert "PLACED" == mended.word
    assert (["OK"], 1) == (words, stage.send(discard(stage.keys, ["t2"], now_ms=NOW)))


@pytest.mark.parametrize("key", ["upstream:api", "upstream:api:permits"])
def test_an_upstream_of_a_foreign_type_holds_nobody_up(stage, key):
    """Its declaration makes it anew, and what needs it is claimed and settled."""
    rules = upstreams.pack_rules(
        Upstream("api", breaker=CircuitBreaker(consecutive=1), concurrency=2),
        BreakerDefaults(),
    )
    stage.send(upstreams.declare(stage.keys, "api", rules, now_ms=NOW))
    stage.enqueue("t1", "t2", upstream="1 api")
    stage.client.delete(key)
    stage.client.set(key, "theirs")
    (status,) = stage.send(upstreams.status(stage.keys, now_ms=NOW))
    if stage.claim(1, nonce="3-1").undeclared:
        stage.send(upstreams.declare(stage.keys, "api", rules, now_ms=NOW))
    claims = stage.claim(1, nonce="3-1").claims
    again = retry(claims[0], WHY, delay=1, uses_attempt=True, entry={})
    words = stage.send(settle(stage.keys, [again], now_ms=NOW))
    stage.send(upstreams.declare(stage.keys, "api", rules, now_ms=NOW))
    stage.send(
        upstreams.set_upstream(stage.keys, "api", "open", reason="stop", now_ms=NOW)
    )

    assert ("closed", ["t1"], ["OK"]) == (
        status.state,
        [each.id for each in claims],
        words,
    )
    assert [] == stage.claim(1).claims
    assert [] == foreign_keys(stage.dump())


def test_a_leased_record_of_a_foreign_type_is_reaped_with_the_others(stage):
    """One of them is quarantined, the other is begun again."""
    stage.claimed("t1", "t2")
    stage.client.delete("task:t1")
    stage.client.set("task:t1", "theirs")
    stage.client.zadd("tasks:active", {b"\xff": NOW})
    reaped = stage.send(reap(stage.keys, max_crashes=3, now_ms=NOW + LEASE))

    assert {("t1", "ghost"), ("t2", "retry"), ("\ufffd", "ghost")} == {
        (each.id, each.where) for each in reaped
    }


BROKEN = {
    "attempts": "many",
    "crashes": "1.5",
    "created_ms": "1e300",
    "started_ms": "nan",
    "finished_ms": "soon",
    "expires_ms": "inf",
    "error": "[1",
    "history": "PENDING\n1 {}\n2 [",
    "progress": "[]",
    "usage": "null",
    "note:page": "{",
    "token": b"\xff:w:n",
    "key": b"5 \xff",
}


def test_a_broken_record_is_read_as_far_as_it_can_be(stage):
    """And hides none of the others in its list."""
    stage.enqueue("t1", "t2")
    stage.client.hset("task:t1", mapping=BROKEN)
    page = stage.send(inspect.page(stage.keys, stage.keys.primary, kind="list"))
    read = stage.send(inspect.get(stage.keys, "t1"))
    told = stage.send(task_events.task_events(stage.keys, "t1"))

    assert ["t1", "t2"] == [each.id for each in page.items]
    assert (0, 0, "f", b"{}") == (read.attempts, read.crashes, read.name, read.payload)
    assert ((), {}, None) == (read.history, read.usage, read.progress)
    assert ("", "[1") == (read.error_type, read.error_message)
    assert (TaskState.PENDING, 0, None) == (told.state, told.attempts, told.progress)


def test_lists_of_the_fleet_leave_nothing_out_for_what_is_broken(stage):
    """Workers, schedules and the audit log, each with an entry of a foreign hand."""
    stage.fill(
        {
            "tasks:workers": {"w1": 1e300, "w2": NOW},
            "worker:w1": "theirs",
            "worker:w2": {"info": "[]"},
            "tasks:schedules": {"s1": -1e300, "s2": NOW},
            "schedule:s1": "theirs",
            "schedule:s2": {"about": "{", "last_ms": "soon"},
        }
    )
    stage.client.xadd("tasks:events", {b"\xff": b"\xff"})
    workers = stage.send(queue_status.workers(stage.keys, now_ms=NOW))
    table = stage.send(schedules.list_schedules(stage.keys, now_ms=NOW))
    (entry,) = stage.send(task_events.audit_read(stage.keys))

    assert [("w1", {}), ("w2", {})] == [(each.id, each.info) for each in workers]
    assert ["s1", "s2"] == [each.name for each in table.schedules]
    assert ("", {"\ufffd": "\ufffd"}) == (entry.event, entry.facts)


@pytest.mark.parametrize("verdict", ["tap", "failure", "success", "refused"])
def test_what_a_call_says_of_an_upstream_of_a_foreign_type_loses_no_task(
    stage, verdict
):
    """Each outcome of the batch comes to its home."""
    rules = upstreams.pack_rules(
        Upstream("api", breaker=CircuitBreaker(consecutive=1)), BreakerDefaults()
    )
    stage.send(upstreams.declare(stage.keys, "api", rules, now_ms=NOW))
    stage.enqueue("t1", "t2", upstream="1 api")
    first, second = stage.claim(2).claims
    stage.client.delete("upstream:api")
    stage.client.set("upstream:api", "theirs")
    report = CallReport("api", first.epoch, verdict, "no", 5000)
    outcomes = [complete(first, b"1")._replace(report=report), complete(second, b"1")]

    assert ["OK", "OK"] == stage.send(settle(stage.keys, outcomes, now_ms=NOW))
    found = stage.dump()
    assert {"t1": NOW, "t2": NOW} == found["tasks:completed"]
    assert [] == broken(found, now_ms=NOW, lease_ms=LEASE)


@pytest.mark.parametrize("key", ["upstream:api", "upstream:api:permits"])
def test_a_guard_enters_and_leaves_an_upstream_of_a_foreign_type(stage, key):
    """It is known again by the rules that the guard brings."""
    rules = upstreams.pack_rules(Upstream("api", concurrency=1), BreakerDefaults())
    stage.client.set(key, "theirs")

    def enter(ticket):
        return stage.send(
            upstreams.acquire_permit(
                stage.keys,
                "api",
                ticket=ticket,
                weight=1.0,
                lease_ms=LEASE,
                permit="own",
                rules=rules,
                now_ms=NOW,
            )
        )

    assert ["IN", "WAIT"] == [enter("guard:1").word, enter("guard:2").word]
    assert [] == foreign_keys(stage.dump())


def test_a_claim_sent_again_meets_probes_of_a_foreign_type(stage):
    """It answers the same tasks."""
    rules = upstreams.pack_rules(Upstream("api", concurrency=2), BreakerDefaults())
    stage.send(upstreams.declare(stage.keys, "api", rules, now_ms=NOW))
    stage.enqueue("t1", upstream="1 api")
    first = stage.claim(1, nonce="5-1").claims
    stage.client.set("upstream:api:probes", "theirs")

    assert first == stage.claim(1, nonce="5-1").claims


@pytest.mark.parametrize("key", ["tasks:pending:primary", "tasks:scheduled"])
def test_a_home_of_a_foreign_type_refuses_an_enqueue_whole(stage, key):
    """No record is left without a home."""
    stage.client.set(key, "theirs")
    before = stage.dump()
    with pytest.raises(ServerError, match="WRONGTYPE"):
        stage.enqueue("t1", "t2", delay_ms=5 if key == "tasks:scheduled" else None)

    assert before == stage.dump()


@pytest.mark.parametrize("key", ["tasks:events", "tasks:marker"])
@pytest.mark.parametrize("name", sorted(CASES.keys() - {"audit_append", "delete_keys"}))
def test_a_audit_log_or_a_wake_up_key_of_a_foreign_type_stops_no_call(
    real_stage, name, key
):
    """It does what it does otherwise: half a move would lose a task."""
    stage = real_stage
    operation = CASES[name].make(stage)
    stage.client.delete(key)
    answer, expected = stage.send(operation), stage.dump()
    stage.client.flushdb()
    again = Stage(stage.client, stage.runner, stage.keys)
    operation = CASES[name].make(again)
    stage.client.delete(key)
    stage.client.set(key, "theirs")

    assert answer == stage.send(operation)
    assert expected | {key: "theirs"} == stage.dump()


@pytest.mark.parametrize(
    "value", ["theirs", "9223372036854775807", "1e308", "nan", "[1", "null"]
)
@pytest.mark.parametrize("name", sorted(CASES))
def test_a_record_of_a_foreign_hand_is_written_whole_or_not_at_all(
    real_stage, name, value
):
    """Whichever field it broke: a script that fails has written nothing."""
    stage = real_stage
    CASES[name].make(stage)
    kinds = ("task:", "upstream:", "schedule:", "dlq:task:")
    hashes = {
        key: sorted({*found, "usage", "history", "attempts", "crashes", "key"})
        for key, found in stage.dump().items()
        if isinstance(found, dict)
        and stage.client.type(key) == b"hash"
        and key.startswith(kinds)
    }
    for key, fields in hashes.items():
        for each in fields:
            stage.client.flushdb()
            again = Stage(stage.client, stage.runner, stage.keys)
            operation = CASES[name].make(again)
            stage.client.hset(key, each, value)
            before = stage.dump()
            try:
                stage.send(operation)
            except TaskFlowError:
                assert before == stage.dump(), f"{each} of {key}"
