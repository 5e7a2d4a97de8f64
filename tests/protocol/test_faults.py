"""A full server and a server that forgot the scripts: the queue still drains."""

import pytest

from taskflow._protocol import upstreams
from taskflow._protocol.actions import cancel, drain, pause
from taskflow._protocol.consistency import repair_placement, repair_record
from taskflow._protocol.enqueue import enqueue
from taskflow._protocol.settle import complete, extend, retry, settle
from taskflow._protocol.task_events import audit_append
from taskflow._protocol.upkeep import heartbeat, promote, prune, reap
from taskflow.errors import ServerFullError
from tests.support.keyspace import LEASE, NOW, WHY, Stage, record, submission
from tests.support.script_calls import CASES, RULES
from tests.support.writing_scripts import FOLDER


def fill_up(stage):
    """Leave no memory for another write."""
    stage.client.config_set("maxmemory-policy", "noeviction")
    stage.client.config_set("maxmemory", 1)


def test_a_full_server_refuses_an_enqueue_whole(real_stage):
    """Nothing of the batch is stored, with or without options."""
    keyed = {"key": "f:k", "key_ttl_ms": 5, "digest": "d"}
    fill_up(real_stage)
    try:
        for options in ({}, {"delay_ms": 5}, keyed):
            with pytest.raises(ServerFullError):
                real_stage.enqueue("n1", "n2", **options)
    finally:
        real_stage.client.config_set("maxmemory", 0)

    assert {} == real_stage.dump()


def test_a_full_server_still_drains(real_stage):
    """Claim, settle, extend, promote, reap, cancel, prune, beat, pause, drain pass."""
    stage, keys = real_stage, real_stage.keys
    done, again, held, _ = stage.claimed("done", "again", "held", "lost")
    stage.enqueue("wait", "cancel")
    stage.enqueue("due", delay_ms=1)
    fill_up(stage)
    try:
        outcomes = [
            complete(done, b"1"),
            retry(again, WHY, delay=0, uses_attempt=True, entry={}),
        ]
        assert ["OK", "OK"] == stage.send(settle(keys, outcomes, now_ms=NOW))
        lease = [(held.id, held.token)]
        renew = extend(keys, lease, lease_ms=2 * LEASE, now_ms=NOW)
        assert ["OK"] == stage.send(renew)
        assert 2 == stage.send(promote(keys, now_ms=NOW + 1)).moved
        late = reap(keys, max_crashes=3, now_ms=NOW + LEASE)
        assert ["lost"] == [each.id for each in stage.send(late)]
        assert stage.send(cancel(keys, "cancel", now_ms=NOW)) is True
        assert {"wait", "due", "again", "lost"} == {
            each.id for each in stage.claim(10, now_ms=NOW + 9).claims
        }
        forget = prune(keys, keys.completed, keep_ms=0, now_ms=NOW)
        assert 1 == stage.send(forget)
        hello = heartbeat(
            keys, worker="w", info=b"{}", ttl_ms=9000, known="", new="d1", now_ms=NOW
        )
        assert stage.send(hello).drain is False
        stage.send(pause(keys, "retry", paused=True, now_ms=NOW))
        stage.send(pause(keys, "retry", paused=False, now_ms=NOW))
        assert stage.send(drain(keys, "w", now_ms=NOW)) is True
    finally:
        stage.client.config_set("maxmemory", 0)

    assert [] == [key for key in stage.dump() if "scratch" in key]


DRAINS = {
    name.partition(":")[0]
    for name in CASES
    if "-- @include roomy" in (FOLDER / f"{name.partition(':')[0]}.lua").read_text()
}


@pytest.mark.parametrize("name", CASES)
def test_a_call_on_a_full_server_does_all_or_nothing(name, real_stage):
    """What drains it or is a person's deed passes; what would fill it is refused."""
    stage, case = real_stage, CASES[name]
    expected = stage.send(case.make(stage)), stage.dump()
    stage.client.flushdb()
    operation = case.make(Stage(stage.client, stage.runner, stage.keys))
    before = stage.dump()
    fill_up(stage)
    try:
        found = stage.send(operation), stage.dump()
    except ServerFullError:
        assert name.partition(":")[0] not in DRAINS
        assert before == stage.dump()
    else:
        assert expected == found
    finally:
        stage.client.config_set("maxmemory", 0)


def test_a_full_server_hears_how_calls_without_a_permit_ended(real_stage):
    """An upstream that fails is shut then too."""
    stage, keys = real_stage, real_stage.keys
    stage.send(upstreams.declare(keys, "api", RULES, now_ms=NOW))
    left = upstreams.release_permit(
        keys, "api", ticket="", epoch=0, outcome="failure", now_ms=NOW
    )
    fill_up(stage)
    try:
        assert "open" == stage.send(left).state
    finally:
        stage.client.config_set("maxmemory", 0)


def test_a_full_server_keeps_the_audit_log(real_stage):
    """What operators do to empty it is written down too."""
    stage = real_stage
    line = audit_append(stage.keys, "discard", actor="ada", facts={}, now_ms=NOW)
    fill_up(stage)
    try:
        assert stage.send(line)
    finally:
        stage.client.config_set("maxmemory", 0)

    assert ["discard"] == [each["event"] for each in stage.dump()["tasks:events"]]


def test_a_full_server_hands_out_what_was_parked(real_stage):
    """Its upstream is tried again in the same step, which is written first."""
    stage, keys = real_stage, real_stage.keys
    stage.send(upstreams.declare(keys, "api", RULES, now_ms=NOW))
    stage.enqueue("t1", "t2", upstream="1 api")
    stage.send(upstreams.set_upstream(keys, "api", "open", expires_ms=5, now_ms=NOW))
    assert () == tuple(stage.claim().claims)
    fill_up(stage)
    try:
        (tried,) = stage.claim(10, now_ms=NOW + 10).claims
    finally:
        stage.client.config_set("maxmemory", 0)

    assert ("t1", True) == (tried.id, tried.is_probe)


def test_a_full_server_can_be_repaired(real_stage):
    """What has no home, or is torn, is put right when people act: at 3 a.m."""
    stage, keys = real_stage, real_stage.keys
    stage.fill(
        {
            "task:lost": record("ACTIVE"),
            "task:torn": record("FAILED"),
            "task:ended": record("COMPLETED"),
            "tasks:failed": {"torn": NOW},
        }
    )
    fill_up(stage)
    try:
        assert "PLACED" == stage.send(repair_placement(keys, "ended", now_ms=NOW)).word
        assert "REQUEUED" == stage.send(repair_placement(keys, "lost", now_ms=NOW)).word
        right = stage.send(repair_record(keys, "torn", lease_ms=LEASE, now_ms=NOW))
    finally:
        stage.client.config_set("maxmemory", 0)

    assert ["fields"] == right


def test_forgotten_scripts_are_loaded_again(stage):
    """A flush of the scripts is no error for the caller."""
    stage.enqueue("t1")
    stage.client.script_flush()
    stage.enqueue("t2")

    assert ["t1", "t2"] == stage.dump()["tasks:pending:primary"]


def test_forgotten_scripts_are_loaded_again_within_a_round_trip(stage):
    """Operations sent together arrive once each, whatever was forgotten."""
    stage.enqueue("t0")
    stage.client.script_flush()
    operations = [
        enqueue(stage.keys, [submission("t1")], now_ms=NOW),
        promote(stage.keys, now_ms=NOW),
        enqueue(stage.keys, [submission("t2")], now_ms=NOW),
    ]
    first, moved, second = stage.runner.send_all(operations)

    assert ("t1", 0, "t2") == (first[0].id, moved.moved, second[0].id)
    assert ["t0", "t1", "t2"] == stage.dump()["tasks:pending:primary"]
