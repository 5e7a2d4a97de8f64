"""settle: one move per run, only with the token that holds."""

import pytest

from taskflow._protocol import settle as verbs
from taskflow._protocol.actions import cancel, delete
from taskflow._protocol.dead_letters import requeue
from taskflow._protocol.record import ErrorFacts, Outcome
from taskflow._protocol.settle import settle
from taskflow.errors import ScriptError
from tests.support.keyspace import NOW, WHY, Expiring, record

ENTRY = {"attempt": 1}
ERROR = WHY.to_json()
HOW = "its process ended: signal 9 (SIGKILL)"
CRASHED = ErrorFacts("Crashed", HOW).to_json()
MOVES = {
    "complete": lambda claim: verbs.complete(claim, b"1"),
    "retry": lambda claim: verbs.retry(
        claim, WHY, delay=2, uses_attempt=True, entry=ENTRY, ran=0.5
    ),
    "snooze": lambda claim: verbs.snooze(claim, delay=2, entry=ENTRY),
    "dead": lambda claim: verbs.dead_letter(
        claim, WHY, cause="permanent", uses_attempt=True, entry=ENTRY
    ),
    "fail": lambda claim: verbs.fail(claim, WHY, uses_attempt=True, entry=ENTRY),
    "cancel": lambda claim: verbs.cancel(claim, WHY, entry=ENTRY),
    "release": verbs.release,
    "crash": lambda claim: verbs.crash(claim, HOW, max_crashes=3, entry=ENTRY),
}


def line(outcome: str) -> str:
    """Give the history's one line."""
    return f'{NOW} {{"outcome":"{outcome}","attempt":1}}'


def after(state: str, lane: str = "primary", **fields) -> dict[str, str]:
    """Give the record of the task that was settled."""
    held = {"token": "1:w:1-1", "started_ms": NOW}
    return record(state, lane, **held, **fields)


ENDED = {"finished_ms": NOW, "error": ERROR}
EXPECTED = {
    "complete": {
        "task:t1": after("COMPLETED", finished_ms=NOW, result=1),
        "tasks:completed": {"t1": NOW},
    },
    "retry": {
        "task:t1": after(
            "SCHEDULED",
            "retry",
            attempts=1,
            age_ms=2500,
            error=ERROR,
            history=line("retry"),
        ),
        "tasks:scheduled": {"t1": NOW + 2000},
        "tasks:marker": {"due": NOW + 2000},
    },
    "snooze": {
        "task:t1": after("SCHEDULED", history=line("snooze")),
        "tasks:scheduled": {"t1": NOW + 2000},
        "tasks:marker": {"due": NOW + 2000},
    },
    "dead": {
        "task:t1": after("DLQ", attempts=1, history=line("dead"), **ENDED),
        "dlq:tasks": {"t1": NOW},
        "dlq:groups": {"f" * 12: NOW},
        "dlq:group:" + "f" * 12: {"t1": NOW},
        "dlq:task:t1": {
            "died_ms": str(NOW),
            "cause": "permanent",
            "fingerprint": "f" * 12,
            "error": ERROR,
            "traceback": "Traceback",
            "attempts": "1",
            "crashes": "0",
            "worker": "w",
        },
        "tasks:events": [
            {
                "event": "dead_letter",
                "id": "t1",
                "cause": "permanent",
                "at_ms": str(NOW),
            }
        ],
    },
    "fail": {
        "task:t1": after("FAILED", attempts=1, history=line("fail"), **ENDED),
        "tasks:failed": {"t1": NOW},
    },
    "cancel": {
        "task:t1": after("CANCELLED", history=line("cancel"), **ENDED),
        "tasks:cancelled": {"t1": NOW},
    },
    "crash": {
        "task:t1": after(
            "PENDING",
            "retry",
            crashes=1,
            error=CRASHED,
            history=line("crash"),
            since_ms=NOW,
        ),
        "tasks:pending:retry": ["t1"],
        "tasks:marker": {"work": 0},
        "tasks:events": [
            {
                "event": "crashed",
                "id": "t1",
                "worker": "w",
                "crashes": "1",
                "how": HOW,
                "at_ms": str(NOW),
            }
        ],
    },
    "release": {
        "task:t1": after("PENDING", since_ms=NOW),
        "tasks:pending:primary": ["t1"],
        "tasks:marker": {"work": 0},
    },
}


@pytest.fixture
def held(stage):
    """Give the claim of t1, with nothing in the keyspace but what it needs."""
    (claimed,) = stage.claimed("t1")
    stage.client.delete("tasks:marker", "tasks:lanes", "worker:w")
    return claimed


def give(stage, *outcomes, now_ms=NOW):
    """Settle *outcomes*."""
    return stage.send(settle(stage.keys, outcomes, now_ms=now_ms))


@pytest.mark.parametrize("verb", MOVES)
def test_a_settled_task_has_one_new_home(stage, held, verb):
    """The lease goes, the record says what came of it."""
    assert ["OK"] == give(stage, MOVES[verb](held))
    assert EXPECTED[verb] == stage.dump()


@pytest.mark.parametrize("verb", MOVES)
def test_a_settle_sent_again_answers_ok_and_writes_nothing(stage, held, verb):
    """The same token after the move is a repeat."""
    give(stage, MOVES[verb](held))

    assert ["OK"] == give(stage, MOVES[verb](held), now_ms=NOW + 5)
    assert EXPECTED[verb] == stage.dump()


@pytest.mark.parametrize("verb", MOVES)
def test_an_outcome_named_twice_in_one_call_moves_once(stage, held, verb):
    """A batch that repeats an outcome counts and queues it once."""
    assert ["OK", "OK"] == give(stage, MOVES[verb](held), MOVES[verb](held))
    assert EXPECTED[verb] == stage.dump()


@pytest.mark.parametrize("verb", MOVES)
@pytest.mark.parametrize("token", ["2:w:1-1", "1:x:1-1", "1:w:1-2", "", "1::"])
def test_a_stale_token_writes_nothing(stage, held, verb, token):
    """Another delivery, worker or nonce settles nothing."""
    before = stage.dump()

    assert ["STALE"] == give(stage, MOVES[verb](held)._replace(token=token))
    assert before == stage.dump()


@pytest.mark.parametrize("verb", MOVES)
def test_a_late_settle_of_a_deleted_task_writes_nothing(stage, held, verb):
    """No half record comes to life."""
    stage.send(delete(stage.keys, "t1", force=True, now_ms=NOW))
    stage.client.delete("tasks:events")

    assert ["GONE"] == give(stage, MOVES[verb](held))
    assert {} == stage.dump()


@pytest.mark.parametrize("verb", MOVES)
def test_a_full_history_forgets_its_oldest_lines(stage, held, verb):
    """Twenty lines are kept, whatever comes."""
    stage.client.hset(
        "task:t1", "history", "\n".join(f'{n} {{"outcome":"retry"}}' for n in range(40))
    )
    give(stage, MOVES[verb](held))
    lines = stage.dump()["task:t1"]["history"].splitlines()

    assert len(lines) == (40 if verb in {"complete", "release"} else 20)


@pytest.mark.parametrize(
    ("once", "other", "lines"), [(True, False, 2), (True, True, 4), (False, False, 4)]
)
def test_a_line_that_may_stand_once_replaces_its_equal(stage, once, other, lines):
    """If it is the last; else each run has its own."""
    stage.enqueue("t1")
    for at in range(4):
        (held,) = stage.claim(nonce=f"1-{at}", now_ms=NOW + at).claims
        entry = ENTRY | ({"reason": at} if other or not at else {"reason": "x"})
        verb = verbs.snooze(held, delay=0, entry=entry, once=once)
        stage.send(settle(stage.keys, [verb], now_ms=NOW + at))
    found = stage.dump()["task:t1"]["history"].splitlines()

    assert lines == len(found)
    assert found[-1].startswith(f"{NOW + 3} ")


def test_words_stand_in_the_order_of_the_outcomes(stage):
    """One refused outcome does not hold back its neighbours."""
    one, two, three = stage.claimed("t1", "t2", "t3")
    stage.send(delete(stage.keys, "t2", force=True, now_ms=NOW))
    outcomes = [verbs.complete(each, b"1") for each in (one, two, three)]
    stale = outcomes[0]._replace(token=two.token + "x")

    assert ["STALE", "GONE", "OK"] == give(stage, stale, *outcomes[1:])
    assert {"t3": NOW} == stage.dump()["tasks:completed"]


def test_a_null_result_takes_no_room(stage, held):
    """A task that returns None has no result field."""
    give(stage, verbs.complete(held, b"null"))

    assert after("COMPLETED", finished_ms=NOW) == stage.dump()["task:t1"]


def test_a_result_wins_over_a_cancel(stage, held):
    """A task asked to stop that returned all the same is COMPLETED."""
    stage.send(cancel(stage.keys, "t1", now_ms=NOW))
    give(stage, verbs.complete(held, b"1"))

    assert {"t1": NOW} == stage.dump()["tasks:completed"]


def test_a_released_task_is_handed_out_next(stage):
    """A hand-back goes to the head of its lane and used no attempt."""
    stage.enqueue("t1", "t2")
    give(stage, verbs.release(stage.claim().claims[0]))
    (again,) = stage.claim().claims

    assert ("t1", 2, 0) == (again.id, again.delivery, again.attempts)


def test_a_suspect_that_is_retried_stays_a_suspect(stage):
    """Its next run is alone as well."""
    stage.fill({"task:s": record(lane="suspects", crashes=2), "tasks:suspects": ["s"]})
    give(stage, MOVES["retry"](stage.claim().claims[0]))

    assert "suspects" == stage.dump()["task:s"]["lane"]


@pytest.mark.parametrize("verb", ["complete", "dead", "fail", "cancel"])
def test_the_end_starts_the_time_of_the_key_or_frees_it(stage, verb):
    """A repeat finds what completed or died; what failed may be done again."""
    stage.enqueue("t1", key="f:k", key_ttl_ms=60_000, digest="d")
    give(stage, MOVES[verb](stage.claim().claims[0]))

    expected = Expiring("t1 d") if verb in {"complete", "dead"} else None
    assert expected == stage.dump().get("tasks:key:f:k")


@pytest.mark.parametrize("verb", ["complete", "dead"])
def test_a_key_without_a_time_is_free_at_the_end(stage, verb):
    """As ``key_ttl=0`` says."""
    stage.enqueue("t1", key="f:k", key_ttl_ms=0, digest="d")
    give(stage, MOVES[verb](stage.claim().claims[0]))

    assert "tasks:key:f:k" not in stage.dump()


@pytest.mark.parametrize(
    "broken",
    [{"attempts": "many"}, {"key": "nonsense"}, {"lane": None}],
    ids=["attempts", "key", "lane"],
)
@pytest.mark.parametrize("verb", MOVES)
def test_a_corrupt_field_does_not_strand_its_neighbours(stage, verb, broken):
    """What cannot be counted is left; every task of the batch gets a home."""
    claims = stage.claimed("t1", "t2", "t3")
    for name, value in broken.items():
        if value is None:
            stage.client.hdel("task:t2", name)
        else:
            stage.client.hset("task:t2", name, value)

    assert ["OK"] * 3 == give(stage, *[MOVES[verb](each) for each in claims])
    states = {stage.client.hget(f"task:t{n}", "state") for n in (1, 2, 3)}
    assert 1 == len(states - {b"ACTIVE"}) == len(states)


@pytest.mark.parametrize("count", [0, 101])
def test_a_batch_is_bounded(keys, count):
    """A call carries 1 to 100 outcomes."""
    outcome = verbs.Outcome("t", "1:w:1-1", "release", b"")
    with pytest.raises(ValueError, match=f"got {count}"):
        settle(keys, [outcome] * count)


def test_a_detail_beyond_reading_moves_nothing(real_stage):
    """The script reads all before its first write: Lua has no rollback."""
    stage = real_stage
    stage.enqueue("t1", "t2")
    first, second = stage.claimed("t1", "t2")
    before = stage.dump()
    outcomes = [
        MOVES["complete"](first),
        Outcome(second.id, second.token, "fail", b"{"),
    ]

    with pytest.raises(ScriptError):
        stage.send(settle(stage.keys, outcomes, now_ms=NOW))

    assert before == stage.dump()


def crash(stage, now_ms):
    """Let the next task take its process with it; returns how it stands then."""
    (claimed,) = stage.claim(now_ms=now_ms).claims
    outcome = verbs.crash(claimed, HOW, max_crashes=3, entry=ENTRY)
    assert ["OK"] == give(stage, outcome, now_ms=now_ms)
    return stage.dump()


def test_a_task_that_killed_three_processes_is_poison(stage):
    """First to the head of retry, then among the suspects, then to the dead letters."""
    stage.enqueue("t1")

    assert ["t1"] == crash(stage, NOW)["tasks:pending:retry"]
    assert ["t1"] == crash(stage, NOW + 1)["tasks:suspects"]
    found = crash(stage, NOW + 2)
    letter = found["dlq:task:t1"]
    assert "DLQ" == found["task:t1"]["state"]
    assert {"t1": NOW + 2} == found["dlq:tasks"] == found["dlq:group:poison"]
    assert ("poison", "3", "0", "w") == (
        letter["cause"],
        letter["crashes"],
        letter["attempts"],
        letter["worker"],
    )
    assert "it killed its process 3 times" in letter["error"]
    assert "SIGKILL" in letter["error"]


def test_a_flagged_task_whose_process_died_is_cancelled(stage, held):
    """The wish to cancel is fulfilled."""
    stage.send(cancel(stage.keys, "t1", now_ms=NOW))

    assert ["OK"] == give(stage, MOVES["crash"](held))
    found = stage.dump()
    assert {"t1": NOW} == found["tasks:cancelled"]
    assert "tasks:pending:retry" not in found


def test_a_crash_wakes_who_waits_for_a_poisoned_result(stage, held):
    """With a limit of 1 the first crash is the last, and is published."""
    stage.client.hset("task:t1", "watched", 1)
    subscriber = stage.client.pubsub(ignore_subscribe_messages=True)
    subscriber.subscribe(stage.keys.done_channel("t1"))
    outcome = verbs.crash(held, HOW, max_crashes=1, entry=ENTRY)

    assert ["OK"] == give(stage, outcome)
    heard = (subscriber.get_message(timeout=1) for _ in range(20))
    assert any(each["data"] == b"DLQ" for each in heard if each)
    subscriber.close()


@pytest.mark.parametrize("verb", ["retry", "snooze", "release", "park"])
def test_what_was_asked_to_stop_does_not_run_again(stage, held, verb):
    """The wish came while the run ended otherwise, and is not forgotten."""
    stage.send(cancel(stage.keys, "t1", now_ms=NOW))
    move = MOVES | {"park": lambda claim: verbs.park(claim, WHY, entry=ENTRY)}

    assert ["OK"] == give(stage, move[verb](held))
    found = stage.dump()
    assert "CANCELLED" == found["task:t1"]["state"]
    assert {"t1": NOW} == found["tasks:cancelled"]
    assert not found.keys() & {"tasks:scheduled", "tasks:pending:primary"}


def test_a_key_that_another_task_has_taken_stays_its_own(stage):
    """However its former holder ends, such as one that ran when its key was lost."""
    keyed = {"key": "f:a", "key_ttl_ms": 3_600_000, "digest": "d"}
    stage.enqueue("t1", **keyed)
    stage.client.delete("tasks:key:f:a")
    stage.enqueue("t2", **keyed)
    first, second = sorted(stage.claim(2).claims)
    give(stage, verbs.fail(first, WHY, uses_attempt=True, entry=ENTRY))

    assert "t2 d" == stage.dump()["tasks:key:f:a"]
    give(stage, verbs.complete(second, b"1"))
    assert ["HELD t2 f:a"] == stage.send(
        requeue(stage.keys, ["t1"], nonce="m", now_ms=NOW)
    )
    assert Expiring("t2 d") == stage.dump()["tasks:key:f:a"]
