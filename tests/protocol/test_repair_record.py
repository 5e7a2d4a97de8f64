"""repair_record: what stands in its home is made to say what can be."""

from typing import Any

import pytest

from taskflow._protocol.consistency import repair_record
from taskflow.errors import ScriptError
from tests.support.invariants import broken
from tests.support.keyspace import LEASE, NOW, Expiring, Stage, record

TOKEN = "2:w:1-1"  # noqa: S105
LETTER = {
    "cause": "permanent",
    "error": "{}",
    "died_ms": str(NOW - 5),
    "fingerprint": "f1",
    "attempts": "2",
    "crashes": "0",
}
DEAD = {
    "task:t1": record("DLQ", "retry", attempts=2, finished_ms=NOW - 5),
    "dlq:tasks": {"t1": NOW - 5},
    "dlq:task:t1": LETTER,
    "dlq:group:f1": {"t1": NOW - 5},
    "dlq:groups": {"f1": NOW - 5},
}


def put_right(stage: Stage, *fingerprints: str) -> list[str]:
    """Look at t1, and put right what is wrong."""
    return stage.send(
        repair_record(
            stage.keys, "t1", ["api"], fingerprints, lease_ms=LEASE, now_ms=NOW
        )
    )


CASES: dict[str, tuple[dict[str, Any], list[str], dict[str, Any]]] = {
    "counters": (
        {
            "task:t1": record(attempts="x", crashes="-1", age_ms=3),
            "tasks:pending:primary": ["t1"],
        },
        ["counters", "counters"],
        {"task:t1": record(age_ms=3), "tasks:pending:primary": ["t1"]},
    ),
    "born and ended": (
        {
            "task:t1": {"state": "FAILED", "payload": "{}", "spec": record()["spec"]},
            "tasks:failed": {"t1": NOW - 9},
        },
        ["fields"],
        {
            "task:t1": record("FAILED", "retry")
            | {"created_ms": str(NOW - 9), "finished_ms": str(NOW - 9)},
            "tasks:failed": {"t1": NOW - 9},
        },
    ),
    "runs and is parked": (
        {
            "task:t1": record("ACTIVE", token=TOKEN, parked=f"{NOW} api"),
            "tasks:active": {"t1": NOW},
        },
        ["fields"],
        {"task:t1": record("ACTIVE", token=TOKEN), "tasks:active": {"t1": NOW}},
    ),
    "history": (
        {
            "task:t1": record(history="\n".join(f"{each} {{}}" for each in range(25))),
            "tasks:pending:primary": ["t1"],
        },
        ["history"],
        {
            "task:t1": record(
                history="\n".join(f"{each} {{}}" for each in range(5, 25))
            ),
            "tasks:pending:primary": ["t1"],
        },
    ),
    "token": (
        {
            "task:t1": record("ACTIVE", token="2::", upstream="1 api"),  # noqa: S106
            "tasks:active": {"t1": NOW},
            "upstream:api:permits": {"t1": NOW, "t2": NOW},
        },
        ["token"],
        {
            "task:t1": record(
                *("PENDING", "retry"),
                token="2::",  # noqa: S106
                upstream="1 api",
                since_ms=NOW,
            ),
            "tasks:pending:retry": ["t1"],
            "tasks:marker": {"work": 0},
            "upstream:api:permits": {"t2": NOW},
        },
    ),
    "lease": (
        {
            "task:t1": record("ACTIVE", token=TOKEN),
            "tasks:active": {"t1": NOW + LEASE + 1},
        },
        ["lease"],
        {"task:t1": record("ACTIVE", token=TOKEN), "tasks:active": {"t1": NOW + LEASE}},
    ),
    "key that stays": (
        {
            "task:t1": record("COMPLETED", finished_ms=NOW, key="5000 d n:k"),
            "tasks:completed": {"t1": NOW},
            "tasks:key:n:k": "t1 d",
        },
        ["key"],
        {
            "task:t1": record("COMPLETED", finished_ms=NOW, key="5000 d n:k"),
            "tasks:completed": {"t1": NOW},
            "tasks:key:n:k": Expiring("t1 d"),
        },
    ),
    "key of a failed task": (
        {
            "task:t1": record("FAILED", finished_ms=NOW, key="5000 d n:k"),
            "tasks:failed": {"t1": NOW},
            "tasks:key:n:k": "t1 d",
        },
        ["key"],
        {
            "task:t1": record("FAILED", finished_ms=NOW, key="5000 d n:k"),
            "tasks:failed": {"t1": NOW},
        },
    ),
    "key of a cancelled task": (
        {
            "task:t1": record("CANCELLED", finished_ms=NOW, key="5000 d n:k"),
            "tasks:cancelled": {"t1": NOW},
            "tasks:key:n:k": "t1 d",
        },
        ["key"],
        {
            "task:t1": record("CANCELLED", finished_ms=NOW, key="5000 d n:k"),
            "tasks:cancelled": {"t1": NOW},
        },
    ),
    "letter without words": (
        DEAD | {"dlq:task:t1": {"fingerprint": "f1"}},
        ["letter"],
        DEAD
        | {
            "dlq:task:t1": LETTER
            | {
                "cause": "corrupt",
                "error": '{"type":"CorruptRecord","message":"the dead letter was torn"}',
            }
        },
    ),
    "letter with other counts": (
        DEAD | {"dlq:task:t1": LETTER | {"attempts": "9"}},
        ["letter"],
        DEAD,
    ),
    "letter with other crashes": (
        DEAD | {"dlq:task:t1": LETTER | {"crashes": "3"}},
        ["letter"],
        DEAD,
    ),
    "scheduled for no lane": (
        {
            "task:t1": {
                name: value
                for name, value in record("SCHEDULED").items()
                if name != "lane"
            },
            "tasks:scheduled": {"t1": NOW},
        },
        ["fields"],
        {"task:t1": record("SCHEDULED", "retry"), "tasks:scheduled": {"t1": NOW}},
    ),
    "letter without its group": (
        {
            key: value
            for key, value in DEAD.items()
            if key not in {"dlq:group:f1", "dlq:groups"}
        },
        ["letter"],
        DEAD,
    ),
    "another group": (
        DEAD
        | {
            "dlq:group:f2": {"t1": NOW, "t2": NOW - 1},
            "dlq:groups": {"f1": NOW - 5, "f2": NOW},
        },
        ["group"],
        DEAD
        | {
            "dlq:group:f2": {"t2": NOW - 1},
            "dlq:groups": {"f1": NOW - 5, "f2": NOW},
        },
    ),
    "an empty group": (
        {"dlq:groups": {"f2": NOW}},
        ["group"],
        {},
    ),
    "a group that is not listed": (
        {"dlq:group:f2": {"t2": NOW - 1}},
        ["group"],
        {"dlq:group:f2": {"t2": NOW - 1}, "dlq:groups": {"f2": NOW - 1}},
    ),
    "ticket": (
        {
            "task:t1": record(),
            "tasks:pending:primary": ["t1"],
            "upstream:api:probes": {"t1": NOW},
            "tasks:parked": {"api": NOW + 5},
        },
        ["ticket"],
        {
            "task:t1": record(),
            "tasks:pending:primary": ["t1"],
            "tasks:parked": {"api": NOW},
            "tasks:marker": {"work": 0},
        },
    ),
}


@pytest.mark.parametrize("state", ["COMPLETED", "FAILED", "CANCELLED", "DLQ"])
def test_what_has_ended_says_when(stage: Stage, state: str) -> None:
    """At the time at which it came to its home; it was born no later."""
    home = "dlq:tasks" if state == "DLQ" else f"tasks:{state.lower()}"
    dead = DEAD if state == "DLQ" else {}
    fields = record(state, "retry", attempts=2)
    del fields["created_ms"]
    stage.fill(dead | {"task:t1": fields, home: {"t1": NOW - 5}})

    assert ["fields"] == put_right(stage)
    times = {"created_ms": str(NOW - 5), "finished_ms": str(NOW - 5)}
    assert fields | times == stage.dump()["task:t1"]


def test_a_letter_beside_a_task_that_lives_is_not_its_business(stage: Stage) -> None:
    """Where a task stands is seen to by another script, before this one."""
    alive = {"task:t1": record(), "tasks:pending:primary": ["t1"]}
    stage.fill(alive | {"dlq:task:t1": {"fingerprint": "f1"}})
    before = stage.dump()

    assert [] == put_right(stage)
    assert before == stage.dump()


def test_a_lane_of_a_foreign_type_is_met_before_anything_is_written(
    stage: Stage,
) -> None:
    """Nothing is half put right."""
    stage.fill({"task:t1": record("ACTIVE", crashes="x"), "tasks:active": {"t1": NOW}})
    stage.client.set("tasks:pending:retry", "foreign")
    before = stage.dump()
    with pytest.raises(ScriptError):
        put_right(stage)

    assert before == stage.dump()


@pytest.mark.parametrize("case", CASES)
def test_what_cannot_be_is_put_right(stage: Stage, case: str) -> None:
    """And a second look finds nothing to do."""
    sick, words, well = CASES[case]
    stage.fill(sick)
    said = put_right(stage, "f2")
    after = stage.dump()

    assert words == said
    assert well == after
    assert [] == put_right(stage, "f2")
    assert [] == [
        each
        for each in broken(stage.dump(), now_ms=NOW, lease_ms=LEASE)
        if each.where != "t2"
    ]


def test_a_key_that_ends_too_early_stays(stage: Stage) -> None:
    """A repeat while the task waits must find it."""
    stage.fill({"task:t1": record(key="5000 d n:k"), "tasks:pending:primary": ["t1"]})
    stage.client.set("tasks:key:n:k", "t1 d", px=10**9)

    assert ["key"] == put_right(stage)
    assert "t1 d" == stage.dump()["tasks:key:n:k"]


def test_what_is_well_is_not_touched(stage: Stage) -> None:
    """Nothing is written, nor for a key that is no record."""
    stage.fill(DEAD)
    before = stage.dump()
    assert [] == put_right(stage, "f1", "f2")
    assert before == stage.dump()
    stage.client.delete("task:t1")
    stage.client.set("task:t1", "foreign")
    before = stage.dump()

    assert [] == put_right(stage)
    assert before == stage.dump()


def test_a_group_of_a_foreign_type_is_made_anew(stage: Stage) -> None:
    """With the letters that name it; where none does, it is gone."""
    stage.fill({key: value for key, value in DEAD.items() if key != "dlq:group:f1"})
    for fingerprint in ("f1", "f2"):
        stage.client.set(f"dlq:group:{fingerprint}", "foreign")

    assert ["group", "group", "letter"] == put_right(stage, "f1", "f2")
    assert DEAD == stage.dump()


def test_a_task_without_a_token_waits_again_where_no_upstream_is_known(
    stage: Stage,
) -> None:
    """It needed none."""
    stage.fill({"task:t1": record("ACTIVE"), "tasks:active": {"t1": NOW}})
    words = stage.send(repair_record(stage.keys, "t1", lease_ms=LEASE, now_ms=NOW))

    assert ["token"] == words
    assert ["t1"] == stage.dump()["tasks:pending:retry"]


def test_the_lease_of_a_worker_that_beats_is_its_own_affair(stage: Stage) -> None:
    """It may give longer ones than we know of, and renews them."""
    stage.fill(
        {
            "task:t1": record("ACTIVE", token=TOKEN),
            "tasks:active": {"t1": NOW + LEASE + 1},
        }
    )
    stage.client.set("worker:heartbeat:w", NOW)

    assert [] == put_right(stage)


@pytest.mark.parametrize("ttl", ["9" * 25, "9" * 18])
def test_a_key_that_is_to_live_for_ever_is_let_go(stage: Stage, ttl: str) -> None:
    """The server knows no such time."""
    stage.fill(
        {
            "task:t1": record("COMPLETED", finished_ms=NOW, key=f"{ttl} d n:k"),
            "tasks:completed": {"t1": NOW},
            "tasks:key:n:k": "t1 d",
        }
    )

    assert ["key"] == put_right(stage)
    assert [] == broken(stage.dump(), now_ms=NOW, lease_ms=LEASE)


def test_a_ticket_of_each_upstream_is_freed_with_the_lease(stage: Stage) -> None:
    """Whatever its record says."""
    stage.fill(
        {
            "task:t1": record("ACTIVE", upstream="1 other"),
            "tasks:active": {"t1": NOW},
            "upstream:api:permits": {"t1": NOW},
            "upstream:other:permits": {"t1": NOW},
        }
    )

    assert ["token"] == put_right(stage)
    assert [] == [key for key in stage.dump() if "permits" in key]


def test_a_letter_of_a_foreign_type_is_written_anew(stage: Stage) -> None:
    """Nothing is half put right for it."""
    stage.fill(DEAD)
    stage.client.delete("dlq:task:t1")
    stage.client.set("dlq:task:t1", "foreign")

    assert ["letter"] == put_right(stage)
    assert "corrupt" == stage.dump()["dlq:task:t1"]["cause"]
