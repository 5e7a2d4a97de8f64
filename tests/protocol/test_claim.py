"""claim: a lease for each task handed out; what must not run goes elsewhere."""

from collections.abc import Iterable

import pytest

from taskflow import CircuitBreaker, Upstream
from taskflow._protocol import upstreams
from taskflow._protocol.actions import cancel, delete, pause
from taskflow._protocol.claim import ClaimReply, claim
from taskflow._protocol.dead_letters import requeue
from taskflow._protocol.record import Claim
from taskflow._protocol.settle import release, retry, settle
from taskflow._protocol.upkeep import reap
from taskflow._protocol.upstreams import BreakerDefaults
from tests.support.keyspace import LEASE, NOW, SHARE, SPEC, WHY, Expiring, record

BURIED = ["task:bad", "dlq:tasks", "dlq:groups", "dlq:group:corrupt", "dlq:task:bad"]


def handed(task_id: str, lane: str = "primary", nonce: str = "1-1", **changes) -> Claim:
    """Give the claim of a fresh task."""
    fresh = Claim(task_id, lane, 1, f"1:w:{nonce}", b"{}", SPEC, 0, 0, 0, b"")
    return fresh._replace(**changes)


def active(nonce: str = "1-1", delivery: int = 1, **fields) -> dict[str, str]:
    """Give the record of a task that the worker w holds."""
    token = f"{delivery}:w:{nonce}"
    return record("ACTIVE", token=token, started_ms=NOW, **fields)


def test_an_empty_queue_gives_nothing_and_writes_nothing(stage):
    """No task, no due time, no key."""
    assert ClaimReply(NOW, 0, []) == stage.claim(10)
    assert {} == stage.dump()


def test_a_claimed_task_is_leased(stage):
    """The task moves from its list to a lease; the rest wakes another worker."""
    stage.enqueue("t1", "t2")
    stage.client.delete("tasks:marker")

    assert ClaimReply(NOW, 0, [handed("t1")]) == stage.claim()
    assert {
        "task:t1": active(),
        "task:t2": record(),
        "tasks:active": {"t1": NOW + LEASE},
        "tasks:pending:primary": ["t2"],
        "tasks:marker": {"work": 0},
        "worker:w": Expiring({"claim1": "1-1 t1"}),
        "tasks:lanes": {
            "credit": "0",
            f"served{NOW // 5000 % 12}": f"{NOW // 5000} 1 0",
        },
    } == stage.dump()


def test_a_claim_sent_again_answers_the_same_tasks(stage):
    """A lost reply strands nothing: the nonce names the tasks of the first call."""
    stage.enqueue("t1", "t2", "t3")
    first = stage.claim(2, nonce="7-1")
    before = stage.dump()
    again = stage.claim(2, nonce="7-1")

    assert first.claims == again.claims
    assert before == stage.dump()


def test_a_claim_sent_again_leaves_out_what_was_settled_or_deleted(stage):
    """Only what the caller still holds is answered."""
    stage.enqueue("t1", "t2")
    first = stage.claim(2, nonce="7-1")
    stage.send(delete(stage.keys, "t1", force=True, now_ms=NOW))

    assert first.claims[1:] == stage.claim(2, nonce="7-1").claims


def test_channels_do_not_forget_each_others_claims(stage):
    """Each channel of a worker has a last claim of its own."""
    stage.enqueue("t1", "t2")
    first = stage.claim(nonce="1-1")
    stage.claim(nonce="2-1")

    assert first.claims == stage.claim(nonce="1-1").claims


def test_another_worker_cannot_ask_for_the_same_claim(stage):
    """The nonce counts within one worker."""
    stage.enqueue("t1", "t2")
    stage.claim(nonce="1-1", worker="a.b-c")

    assert ["t2"] == [
        each.id for each in stage.claim(nonce="1-1", worker="aXb-c").claims
    ]


def test_the_claim_tells_all_that_the_worker_needs(stage):
    """Counts, the age and the checkpoint come with the task."""
    counts = {"attempts": 2, "crashes": 1, "age_ms": 3}
    fields = {"token": "4::"} | counts
    told = {"delivery": 5, "token": "5:w:1-1"} | counts
    stage.fill(
        {
            "task:t1": record(lane="retry", checkpoint='"c"', **fields),
            "tasks:pending:retry": ["t1"],
        }
    )

    assert [handed("t1", "retry", checkpoint=b'"c"', **told)] == stage.claim().claims


def test_due_tasks_are_claimed_in_the_same_call(stage):
    """Claim promotes what is due and says when the next is."""
    stage.enqueue("t1", delay_ms=10)
    stage.enqueue("t2", delay_ms=50)
    reply = stage.claim(5, now_ms=NOW + 10)

    assert ["t1"] == [each.id for each in reply.claims]
    assert NOW + 50 == reply.next_due_ms


def test_an_expired_task_fails_and_its_neighbour_is_served(stage):
    """Expiry is checked at the hand-out; the slot is not lost."""
    stage.enqueue("t1", expires_ms=10)
    stage.enqueue("t2", expires_ms=11)
    reply = stage.claim(now_ms=NOW + 10)

    assert ["t2"] == [each.id for each in reply.claims]
    assert {"t1": NOW + 10} == stage.dump()["tasks:failed"]
    assert (
        record(
            "FAILED",
            expires_ms=NOW + 10,
            finished_ms=NOW + 10,
            error='{"type":"Expired","message":"expired before it was claimed"}',
        )
        == stage.dump()["task:t1"]
    )


@pytest.mark.parametrize(
    "verb",
    [cancel, lambda keys, each, **now: delete(keys, each, force=False, **now)],
    ids=["cancel", "delete"],
)
def test_a_tombstone_is_dropped_when_it_is_met(stage, verb):
    """A cancelled or deleted task does not run, and its tombstone goes with its id."""
    stage.enqueue("t1", "t2")
    stage.send(verb(stage.keys, "t1", now_ms=NOW))

    assert ["t2"] == [each.id for each in stage.claim().claims]
    assert "tasks:tombstones:primary" not in stage.dump()
    assert "tasks:pending:primary" not in stage.dump()


@pytest.mark.parametrize("times", [1, 2, 5])
def test_an_id_that_is_used_again_runs_once(stage, times):
    """Its former entry stands for it, and nothing is left that could hide it later."""
    for _ in range(times):
        stage.enqueue("t1")
        stage.send(delete(stage.keys, "t1", force=False, now_ms=NOW))
    stage.enqueue("t2", "t1")

    assert [["t1"], ["t2"], []] == [
        [each.id for each in stage.claim().claims] for _ in range(3)
    ]
    assert "tasks:tombstones:primary" not in stage.dump()


def test_an_old_entry_does_not_stand_for_a_task_that_waits_elsewhere(stage):
    """It was deleted in the retry lane and is stored again in one that is paused."""
    (held,) = stage.claimed("t1")
    stage.send(reap(stage.keys, max_crashes=3, now_ms=NOW + LEASE))
    stage.send(delete(stage.keys, held.id, force=False, now_ms=NOW + LEASE))
    stage.send(pause(stage.keys, "primary", paused=True, now_ms=NOW + LEASE))
    stage.enqueue("t1", now_ms=NOW + LEASE)

    assert [] == stage.claim(5, now_ms=NOW + LEASE).claims
    assert ["t1"] == stage.dump()["tasks:pending:primary"]


def test_who_waits_for_a_task_hears_that_it_expired(stage):
    """The message says FAILED, as the record does."""
    stage.enqueue("t1", expires_ms=5)
    stage.client.hset("task:t1", "watched", 1)
    subscriber = stage.client.pubsub(ignore_subscribe_messages=True)
    subscriber.subscribe(stage.keys.done_channel("t1"))
    subscriber.get_message(timeout=1)
    stage.claim(now_ms=NOW + 5)
    heard = (subscriber.get_message(timeout=1) for _ in range(5))

    assert b"FAILED" == next(each["data"] for each in heard if each)
    subscriber.close()


def test_tombstones_dropped_per_call_are_bounded(stage):
    """A call examines at most slots + 100 ids; the next goes on."""
    ids = [f"d{n}" for n in range(150)]
    stage.fill(
        {
            "tasks:pending:primary": [*ids, "t1"],
            "tasks:tombstones:primary": set(ids),
            "task:t1": record(),
        }
    )

    assert [] == stage.claim().claims
    assert 50 == stage.client.llen("tasks:pending:primary")
    assert 49 == stage.client.scard("tasks:tombstones:primary")
    assert {"work": 0} == stage.dump()["tasks:marker"]
    assert ["t1"] == [each.id for each in stage.claim().claims]


@pytest.mark.parametrize(
    "bad",
    [
        ["not", "a", "hash"],
        {"state": "PENDING", "lane": "primary", "payload": "{}"},
        {"state": "PENDING", "lane": "primary", "spec": "[]"},
        {"lane": "primary", "payload": "{}", "spec": "[]"},
    ],
    ids=["wrong type", "no spec", "no payload", "no state"],
)
def test_a_corrupt_record_is_quarantined_and_its_neighbours_are_served(stage, bad):
    """One bad record stops nobody, and it is shown among the dead letters."""
    stage.fill(
        {
            "task:bad": bad,
            "task:t1": record(),
            "task:t2": record(),
            "tasks:pending:primary": ["t1", "bad", "t2"],
        }
    )

    assert ["t1", "t2"] == [each.id for each in stage.claim(5).claims]
    found = stage.dump()
    assert {"bad": NOW} == found["dlq:tasks"] == found["dlq:group:corrupt"]
    assert {"corrupt": NOW} == found["dlq:groups"]
    assert "corrupt" == found["dlq:task:bad"]["cause"]
    assert "tasks:pending:primary" not in found


def test_a_missing_record_is_a_ghost_and_dropped(stage):
    """An id without a record is no task; its neighbour is served."""
    stage.fill({"task:t1": record(), "tasks:pending:primary": ["gone", "t1"]})

    assert ["t1"] == [each.id for each in stage.claim(5).claims]
    assert "task:gone" not in stage.dump()


def test_one_suspect_at_a_time(stage):
    """A caller that may have a suspect gets one, and one only."""
    stage.fill(
        {
            "task:s1": record(lane="suspects", crashes=2),
            "task:s2": record(lane="suspects", crashes=2),
            "tasks:suspects": ["s1", "s2"],
        }
    )

    assert [] == stage.claim(5, suspect=False).claims
    assert [("s1", "suspects")] == [
        (each.id, each.lane) for each in stage.claim(5).claims
    ]
    assert ["s2"] == stage.dump()["tasks:suspects"]


@pytest.mark.parametrize(("lane", "left"), [("primary", "r1"), ("retry", "t1")])
def test_a_paused_lane_is_not_served(stage, lane, left):
    """The other lane goes on; resumed, the lane is served again."""
    stage.enqueue("t1")
    stage.fill({"task:r1": record(lane="retry"), "tasks:pending:retry": ["r1"]})
    stage.send(pause(stage.keys, lane, paused=True, now_ms=NOW))

    assert [left] == [each.id for each in stage.claim(5).claims]
    assert [] == stage.claim(5).claims
    stage.send(pause(stage.keys, lane, paused=False, now_ms=NOW))
    assert 1 == len(stage.claim(5).claims)


@pytest.mark.parametrize("slots", [-1, 101])
def test_slots_are_bounded(keys, slots):
    """A call delivers at most 100 tasks."""
    with pytest.raises(ValueError, match=f"got {slots}"):
        claim(
            keys,
            worker="w",
            nonce="1-1",
            slots=slots,
            lease_ms=1,
            share=SHARE,
            suspect=False,
            most_bytes=1,
        )


@pytest.mark.parametrize(
    "name", ["attempts", "crashes", "age_ms", "created_ms", "expires_ms"]
)
def test_a_number_beyond_reading_does_not_strand_the_claim(stage, name):
    """The task is handed out all the same, and so is its neighbour."""
    stage.fill(
        {
            "task:bad": record(**{name: "many"}),
            "task:t1": record(),
            "tasks:pending:primary": ["bad", "t1"],
        }
    )

    assert ["bad", "t1"] == [each.id for each in stage.claim(5).claims]


def test_a_suspect_behind_a_tombstone_is_looked_for_at_once(stage):
    """A cancelled suspect costs those behind it no wait."""
    stage.fill(
        {
            "task:s1": record("CANCELLED", "suspects", crashes=2),
            "task:s2": record(lane="suspects", crashes=2),
            "tasks:suspects": ["s1", "s2"],
            "tasks:tombstones:suspects": {"s1"},
        }
    )

    assert [] == stage.claim(1).claims
    assert {"work": 0} == stage.dump()["tasks:marker"]
    assert ["s2"] == [claim.id for claim in stage.claim(1).claims]


def test_a_claim_sent_again_says_which_delivery_it_was(stage):
    """The token is the same as in the answer that was lost."""
    stage.enqueue("t1")
    stage.claim()
    later = NOW + LEASE + 1
    stage.send(reap(stage.keys, max_crashes=3, now_ms=later))
    first = stage.claim(nonce="1-again", now_ms=later).claims
    second = stage.claim(nonce="1-again", now_ms=later).claims

    assert [2] == [each.delivery for each in first]
    assert first == second


@pytest.mark.parametrize("slots", [1, 5])
@pytest.mark.parametrize("end", ["runs", "cancelled", "brought back", "deleted"])
def test_an_old_entry_of_a_task_that_was_stored_again_runs_nothing(stage, end, slots):
    """A late enqueue revives a deleted task whose entry stands in the retry lane."""
    (held,) = stage.claimed("t1")
    failed = retry(held, WHY, delay=9_000, uses_attempt=True, entry={})
    stage.send(settle(stage.keys, [failed], now_ms=NOW))
    stage.send(requeue(stage.keys, ["t1"], nonce="n", now_ms=NOW))
    stage.send(delete(stage.keys, "t1", force=False, now_ms=NOW))
    stage.claimed("t1")
    stage.send(reap(stage.keys, max_crashes=3, now_ms=NOW + LEASE))
    assert ["t1", "t1"] == stage.dump()["tasks:pending:retry"]
    if end == "deleted":
        stage.send(delete(stage.keys, "t1", force=False, now_ms=NOW + LEASE))
    elif end != "runs":
        stage.send(cancel(stage.keys, "t1", now_ms=NOW + LEASE))
    if end == "brought back":
        stage.send(requeue(stage.keys, ["t1"], nonce="m", now_ms=NOW + LEASE))
    claims = [
        each for _ in range(3) for each in stage.claim(slots, now_ms=NOW + LEASE).claims
    ]

    assert (["t1"] if end in {"runs", "brought back"} else []) == [
        each.id for each in claims
    ]
    assert not stage.dump().keys() & {"tasks:pending:retry", "tasks:tombstones:retry"}


def ids_of(claims: Iterable[Claim]) -> list[str]:
    """Give the ids of *claims*."""
    return [each.id for each in claims]


def heavy(stage, *task_ids: str, lane: str = "primary", size: int = 10) -> None:
    """Store tasks with payloads of *size* bytes."""
    text = '{"x":"' + "x" * (size - 8) + '"}'
    tasks = {f"task:{each}": record(lane=lane, payload=text) for each in task_ids}
    stage.fill(tasks | {f"tasks:pending:{lane}": list(task_ids)})


def test_a_claim_stops_when_the_payloads_fill_its_bytes(stage):
    """The tasks that did not fit wait where they were, and a worker is woken."""
    heavy(stage, "t1", "t2", "t3", "t4")
    reply = stage.claim(4, most_bytes=20)
    found = stage.dump()

    assert ("waiting", ["t1", "t2"]) == (reply.left_out, ids_of(reply.claims))
    assert ["t3", "t4"] == found["tasks:pending:primary"]
    assert record(payload=reply.claims[0].payload.decode()) == found["task:t3"]
    assert {"t1": NOW + LEASE, "t2": NOW + LEASE} == found["tasks:active"]
    assert {"work": 0} == found["tasks:marker"]


def test_a_task_larger_than_the_bytes_is_claimed_alone(stage):
    """Otherwise it would never run."""
    heavy(stage, "t1", "t2", size=500)

    assert [["t1"], ["t2"], []] == [
        ids_of(stage.claim(5, most_bytes=1).claims) for _ in range(3)
    ]


def test_a_checkpoint_counts_as_part_of_the_reply(stage):
    """It is sent with its task."""
    stage.enqueue("t1", "t2")
    stage.client.hset("task:t1", "checkpoint", '"' + "c" * 50 + '"')

    assert ["t1"] == ids_of(stage.claim(5, most_bytes=50).claims)


def test_a_claim_that_leaves_nothing_out_says_so(stage):
    """The bytes were filled by the last task that waited."""
    heavy(stage, "t1", "t2")

    assert "" == stage.claim(5, most_bytes=11).left_out


def test_the_lanes_keep_their_shares_where_payloads_are_large(stage):
    """A task that did not fit is not charged to its lane."""
    primary, retry = [f"p{n}" for n in range(70)], [f"r{n}" for n in range(40)]
    heavy(stage, *primary)
    heavy(stage, *retry, lane="retry")
    claims: list[Claim] = []
    while len(claims) < 100:
        claims += stage.claim(20, most_bytes=15).claims

    assert retry[:30] == [each.id for each in claims if each.lane == "retry"]
    assert primary == [each.id for each in claims if each.lane == "primary"]


def test_parked_tasks_that_do_not_fit_stay_parked_in_their_order(stage):
    """Their upstream is not charged, and the next claim continues with them."""
    api = Upstream("api", breaker=CircuitBreaker(), concurrency=5)
    rules = upstreams.pack_rules(api, BreakerDefaults())
    stage.send(upstreams.declare(stage.keys, "api", rules, now_ms=NOW))
    stage.send(upstreams.set_upstream(stage.keys, "api", "open", now_ms=NOW))
    stage.enqueue("t1", "t2", "t3", upstream="1 api")
    assert [] == stage.claim(5).claims
    stage.send(upstreams.set_upstream(stage.keys, "api", "close", now_ms=NOW))
    later = NOW + 20_000  # its slow start is over
    first = stage.claim(5, most_bytes=1, now_ms=later)
    permits = stage.dump()["upstream:api:permits"]
    second = stage.claim(5, most_bytes=3, now_ms=later)

    assert ("waiting", ["t1"]) == (first.left_out, ids_of(first.claims))
    assert {"t1": later + LEASE} == permits
    assert ("", ["t2", "t3"]) == (second.left_out, ids_of(second.claims))
    assert "tasks:parked" not in stage.dump()


def test_a_claim_sent_again_smaller_delivers_its_tasks_part_by_part(stage):
    """A reply that is too large for the link arrives in pieces; nothing is written."""
    heavy(stage, "t1", "t2", "t3", "t4", "t5")
    whole = stage.claim(4, nonce="7-1")
    before = stage.dump()
    replies: list[ClaimReply] = []
    after = ""
    while not replies or replies[-1].left_out:
        replies.append(
            stage.claim(4 if not after else 0, nonce="7-1", most_bytes=11, after=after)
        )
        after = replies[-1].claims[-1].id

    assert [["t1", "t2"], ["t3", "t4"]] == [ids_of(each.claims) for each in replies]
    assert ["claimed", ""] == [each.left_out for each in replies]
    assert whole.claims == [claim for each in replies for claim in each.claims]
    assert before == stage.dump()


def test_what_is_fetched_part_by_part_leaves_out_what_was_handed_back(stage):
    """The heartbeat releases what arrives too late; the rest arrives."""
    heavy(stage, "t1", "t2", "t3")
    held = stage.claim(3, nonce="7-1").claims
    stage.send(settle(stage.keys, [release(held[1])], now_ms=NOW))
    first = stage.claim(3, nonce="7-1", most_bytes=1)
    second = stage.claim(0, nonce="7-1", most_bytes=1, after="t1")

    assert ("claimed", ["t1"]) == (first.left_out, ids_of(first.claims))
    assert ("", ["t3"]) == (second.left_out, ids_of(second.claims))


def test_a_claim_of_no_slots_delivers_nothing_new(stage):
    """A server that has forgotten the call must not deliver its tasks again."""
    stage.enqueue("t1")
    stage.fill(
        {
            "task:s1": record(lane="suspects", crashes=2),
            "tasks:suspects": ["s1"],
        }
    )
    before = stage.dump()

    assert [] == stage.claim(0, suspect=False, after="t0").claims
    assert before == stage.dump()
