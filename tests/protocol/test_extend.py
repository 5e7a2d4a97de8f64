"""extend, unrenewed: leases are renewed by those who hold them, and by nobody else."""

import pytest

from taskflow._protocol.actions import cancel, delete
from taskflow._protocol.settle import complete, expiring_leases, extend, settle
from taskflow._protocol.upkeep import reap
from tests.support.keyspace import LEASE, NOW


def renew(stage, *leases, now_ms=NOW + 5000):
    """Renew *leases*, pairs of id and token."""
    return stage.send(extend(stage.keys, leases, lease_ms=LEASE, now_ms=now_ms))


def test_a_held_lease_is_renewed(stage):
    """The lease ends later; nothing else changes."""
    (held,) = stage.claimed("t1")
    before = stage.dump()

    assert ["OK"] == renew(stage, (held.id, held.token))
    assert before | {"tasks:active": {"t1": NOW + 5000 + LEASE}} == stage.dump()


def test_an_expired_lease_that_nobody_took_is_renewed(stage):
    """A worker that was late by a moment keeps its task."""
    (held,) = stage.claimed("t1")

    assert ["OK"] == renew(stage, (held.id, held.token), now_ms=NOW + LEASE + 1)
    assert [] == stage.send(reap(stage.keys, max_crashes=3, now_ms=NOW + LEASE + 2))


@pytest.mark.parametrize("token", ["2:w:1-1", "1:x:1-1", "1::", ""])
def test_a_stale_token_renews_nothing(stage, token):
    """Another delivery or worker writes nothing."""
    stage.claimed("t1")
    before = stage.dump()

    assert ["STALE"] == renew(stage, ("t1", token))
    assert before == stage.dump()


def test_a_reaped_task_cannot_be_taken_back(stage):
    """The token was voided with the lease."""
    (held,) = stage.claimed("t1")
    stage.send(reap(stage.keys, max_crashes=3, now_ms=NOW + LEASE))
    before = stage.dump()

    assert ["STALE"] == renew(stage, (held.id, held.token))
    assert before == stage.dump()


def test_each_lease_gets_its_word(stage):
    """A wish to cancel, a deleted and a settled task are told apart."""
    one, two, three, four = stage.claimed("t1", "t2", "t3", "t4")
    stage.send(cancel(stage.keys, "t2", now_ms=NOW))
    stage.send(delete(stage.keys, "t3", force=True, now_ms=NOW))
    stage.send(settle(stage.keys, [complete(four, b"1")], now_ms=NOW))

    leases = [(each.id, each.token) for each in (one, two, three, four)]
    assert ["OK", "CANCEL", "GONE", "STALE"] == renew(stage, *leases)
    late = NOW + 5000 + LEASE
    assert {"t1": late, "t2": late} == stage.dump()["tasks:active"]


@pytest.mark.parametrize("count", [0, 101])
def test_a_batch_is_bounded(keys, count):
    """A call renews 1 to 100 leases."""
    with pytest.raises(ValueError, match=f"got {count}"):
        extend(keys, [("t", "1:w:1-1")] * count, lease_ms=1)


def test_a_worker_finds_the_leases_it_did_not_renew(stage):
    """Those of others, and those renewed, are left out; nothing is written."""
    one, two = stage.claimed("t1", "t2")
    stage.enqueue("t3")
    stage.claim(worker="other")
    renew(stage, (one.id, one.token))
    before = stage.dump()
    find = expiring_leases(stage.keys, worker="w", horizon_ms=LEASE, now_ms=NOW)

    assert [(two.id, two.token)] == stage.send(find)
    assert before == stage.dump()


def test_the_look_for_unrenewed_leases_is_bounded(stage):
    """Only so many leases are examined."""
    stage.claimed(*[f"t{n}" for n in range(10)])
    find = expiring_leases(
        stage.keys, worker="w", horizon_ms=LEASE, limit=4, now_ms=NOW
    )

    assert 4 == len(stage.send(find))
