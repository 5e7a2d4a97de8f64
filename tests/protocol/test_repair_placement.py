"""repair_placement: one step puts a task back where it belongs, or leaves it alone."""

from typing import Any

import pytest

from taskflow._protocol.consistency import (
    RepairedPlacement,
    list_tombstones,
    repair_placement,
)
from taskflow._protocol.settle import dead_letter, settle
from taskflow.errors import ScriptError
from tests.support.invariants import broken
from tests.support.keyspace import LEASE, NOW, WHY, Stage, record

TOKEN = "2:w:1-1"  # noqa: S105
LETTER = {
    "tasks:events": [
        {"event": "dead_letter", "id": "t1", "cause": "corrupt", "at_ms": str(NOW)}
    ],
    "dlq:groups": {"corrupt": NOW},
    "dlq:group:corrupt": {"t1": NOW},
    "dlq:tasks": {"t1": NOW},
}
AGAIN = {
    "task:t1": record("PENDING", "retry", token="2::", since_ms=NOW),  # noqa: S106
    "tasks:pending:retry": ["t1"],
    "tasks:marker": {"work": 0},
}


def look(stage: Stage, *upstreams: str) -> RepairedPlacement:
    """Look at t1, and repair it."""
    return stage.send(repair_placement(stage.keys, "t1", upstreams, now_ms=NOW))


@pytest.mark.parametrize("state", ["PENDING", "ACTIVE", "SCHEDULED"])
def test_a_task_without_a_home_waits_in_the_retry_lane(
    stage: Stage, state: str
) -> None:
    """Its old token is void; a second look finds nothing wrong."""
    stage.fill({"task:t1": record(state, token=TOKEN)})

    assert RepairedPlacement("REQUEUED", state, ()) == look(stage)
    assert "FINE" == look(stage).word
    assert stage.dump() == AGAIN


HEALTHY: dict[str, dict[str, Any]] = {
    "waiting": {"task:t1": record(), "tasks:pending:primary": ["t1"]},
    "suspect": {"task:t1": record(lane="suspects"), "tasks:suspects": ["t1"]},
    "parked": {
        "task:t1": record(parked=f"{NOW} api"),
        "tasks:parked:api:primary": ["t1"],
        "tasks:parked": {"api": NOW},
    },
    "struck": {
        "task:t1": record("CANCELLED", finished_ms=NOW),
        "tasks:cancelled": {"t1": NOW},
        "tasks:pending:primary": ["t1"],
        "tasks:tombstones:primary": {"t1"},
    },
    "used again": {
        "task:t1": record(),
        "tasks:pending:primary": ["t1", "t1"],
        "tasks:tombstones:primary": {"t1"},
    },
    "active": {"task:t1": record("ACTIVE", token=TOKEN), "tasks:active": {"t1": NOW}},
    "scheduled": {"task:t1": record("SCHEDULED"), "tasks:scheduled": {"t1": NOW}},
    "completed": {"task:t1": record("COMPLETED"), "tasks:completed": {"t1": NOW}},
    "deleted": {"tasks:pending:retry": ["t1"], "tasks:tombstones:retry": {"t1"}},
    "missing": {},
}


@pytest.mark.parametrize("case", HEALTHY)
def test_a_task_in_its_one_home_is_left_alone(stage: Stage, case: str) -> None:
    """Nothing is written."""
    stage.fill(HEALTHY[case])
    found = look(stage, "api")

    assert "FINE" == found.word
    assert HEALTHY[case] == stage.dump()


def test_a_dead_letter_in_its_home_is_left_alone(stage: Stage) -> None:
    """It has a text, a group and a place."""
    (held,) = stage.claimed("t1")
    outcome = dead_letter(held, WHY, cause="permanent", uses_attempt=True, entry={})
    stage.send(settle(stage.keys, [outcome], now_ms=NOW))
    before = stage.dump()

    assert RepairedPlacement("FINE", "DLQ", ("DLQ",)) == look(stage)
    assert before == stage.dump()


@pytest.mark.parametrize(
    ("sick", "word", "well"),
    [
        pytest.param(
            {
                "task:t1": record(),
                "tasks:pending:primary": ["t1", "t2", "t1", "t1"],
                "tasks:pending:retry": ["t1"],
                "tasks:completed": {"t1": NOW},
            },
            "PLACED",
            {"task:t1": record(), "tasks:pending:primary": ["t1", "t2"]},
            id="in many",
        ),
        pytest.param(
            {
                "task:t1": record("ACTIVE", token=TOKEN),
                "tasks:active": {"t1": NOW},
                "tasks:pending:primary": ["t1"],
                "tasks:parked:api:retry": ["t1"],
            },
            "PLACED",
            {
                "task:t1": record("ACTIVE", token=TOKEN),
                "tasks:active": {"t1": NOW},
            },
            id="runs and waits",
        ),
        pytest.param(
            {"task:t1": record("FAILED", finished_ms=NOW - 5)},
            "PLACED",
            {
                "task:t1": record("FAILED", finished_ms=NOW - 5),
                "tasks:failed": {"t1": NOW - 5},
            },
            id="ended",
        ),
        pytest.param(
            {
                "tasks:scheduled": {"t1": NOW},
                "tasks:failed": {"t1": NOW},
                "tasks:suspects": ["t1"],
                "dlq:task:t1": {"fingerprint": "f"},
                "dlq:group:f": {"t1": NOW},
                "dlq:groups": {"f": NOW},
            },
            "REMOVED",
            {},
            id="no record",
        ),
        pytest.param(
            {"tasks:tombstones:primary": {"t1"}, "tasks:tombstones:api:retry": {"t1"}},
            "REMOVED",
            {},
            id="tombstone of nothing",
        ),
        pytest.param(
            {
                "task:t1": record("CANCELLED", finished_ms=NOW),
                "tasks:cancelled": {"t1": NOW},
                "tasks:pending:primary": ["t1", "t1", "t1"],
                "tasks:tombstones:primary": {"t1"},
            },
            "PLACED",
            {
                "task:t1": record("CANCELLED", finished_ms=NOW),
                "tasks:cancelled": {"t1": NOW},
                "tasks:pending:primary": ["t1"],
                "tasks:tombstones:primary": {"t1"},
            },
            id="more than struck",
        ),
        pytest.param(
            {
                "task:t1": record("PENDING", token=TOKEN),
                "tasks:pending:primary": ["t1"],
                "tasks:tombstones:primary": {"t1"},
            },
            "REQUEUED",
            AGAIN
            | {
                "tasks:pending:primary": ["t1"],
                "tasks:tombstones:primary": {"t1"},
            },
            id="struck though it waits",
        ),
        pytest.param(
            {"task:t1": record("BROKEN"), "tasks:active": {"t1": NOW}},
            "PLACED",
            {},
            id="unknown state",
        ),
        pytest.param(
            {
                "task:t1": record("DLQ", error="{}", finished_ms=NOW),
                "dlq:tasks": {"t1": NOW},
            },
            "PLACED",
            LETTER
            | {
                "task:t1": record("DLQ", error="{}", finished_ms=NOW),
                "dlq:task:t1": {
                    "died_ms": str(NOW),
                    "cause": "corrupt",
                    "fingerprint": "corrupt",
                    "error": "{}",
                },
            },
            id="letter without text",
        ),
    ],
)
def test_what_stands_elsewhere_is_put_right(
    stage: Stage, sick: dict[str, Any], word: str, well: dict[str, Any]
) -> None:
    """The state of the record wins; a second look writes nothing."""
    stage.fill(sick)
    first = look(stage, "api")
    after = stage.dump()

    if sick.get("task:t1", {}).get("state") == "BROKEN":
        assert ("QUARANTINED", ("ACTIVE",)) == (first.word, first.homes)
        assert "DLQ" == after["task:t1"]["state"]
        assert LETTER.items() <= after.items()
        assert "tasks:active" not in after
    else:
        assert word == first.word
        assert after == well
    assert "FINE" == look(stage, "api").word
    assert after == stage.dump()
    assert [] == [
        each for each in broken(after, now_ms=NOW, lease_ms=LEASE) if each.where != "t2"
    ]


@pytest.mark.parametrize("foreign", ["a string", {"field": "of somebody"}])
def test_a_key_that_is_no_record_is_left_as_it_is(stage: Stage, foreign: Any) -> None:
    """It may belong to somebody else."""
    stage.fill({"task:t1": foreign, "tasks:completed": {"t1": NOW}})
    before = stage.dump()

    assert "FOREIGN" == look(stage).word
    assert before == stage.dump()


def test_tombstones_are_listed_in_steps(stage: Stage) -> None:
    """All of them, and nothing where there are none."""
    ids = {f"t{each}" for each in range(700)}
    stage.fill({"tasks:tombstones:retry": ids})
    found, cursor = set[str](), "0"
    while True:
        step = stage.send(
            list_tombstones(
                stage.keys, stage.keys.tombstones("retry"), cursor, now_ms=NOW
            )
        )
        found |= set(step.ids)
        cursor = step.cursor
        if cursor == "0":
            break

    assert ids == found
    assert (
        []
        == stage.send(
            list_tombstones(stage.keys, stage.keys.tombstones("none"), "0", now_ms=NOW)
        ).ids
    )


HALVES: dict[str, tuple[dict[str, Any], str]] = {
    "waiting": ({"tasks:pending:primary": ["t1"]}, "QUARANTINED"),
    "scheduled": ({"tasks:scheduled": {"t1": NOW}}, "QUARANTINED"),
    "active": ({"tasks:active": {"t1": NOW}}, "QUARANTINED"),
    "running": ({"tasks:active": {"t1": NOW}}, "FINE"),
    "completed": ({"tasks:completed": {"t1": NOW}}, "FINE"),
    "failed": ({"tasks:failed": {"t1": NOW}}, "FINE"),
}
_STATES = {"waiting": "PENDING", "running": "ACTIVE"}


@pytest.mark.parametrize("lost", ["payload", "spec"])
@pytest.mark.parametrize("case", HALVES)
def test_half_a_record_cannot_run(stage: Stage, case: str, lost: str) -> None:
    """It is a dead letter where it waits; what runs or has ended is left alone."""
    home, word = HALVES[case]
    fields = record(
        _STATES.get(case, case.upper()),
        token=TOKEN if case == "running" else "",
        finished_ms=NOW,
    )
    del fields[lost]
    stage.fill({"task:t1": fields} | home)
    before = stage.dump()
    found = look(stage)
    after = stage.dump()

    assert word == found.word
    if word == "FINE":
        assert before == after
        return
    assert "DLQ" == after["task:t1"]["state"]
    assert "no payload or no spec" in after["dlq:task:t1"]["error"]
    assert LETTER.items() <= after.items()
    assert not home.keys() & after.keys()
    assert "FINE" == look(stage).word


def test_a_dead_letter_that_lost_its_place_keeps_its_text(stage: Stage) -> None:
    """Its cause and its group are what they were."""
    (held,) = stage.claimed("t1")
    outcome = dead_letter(held, WHY, cause="permanent", uses_attempt=True, entry={})
    stage.send(settle(stage.keys, [outcome], now_ms=NOW - 5))
    before = stage.dump()
    for key in ("dlq:tasks", f"dlq:group:{WHY.fingerprint}", "dlq:groups"):
        stage.client.delete(key)
        assert "PLACED" == look(stage).word
        assert before == stage.dump()


def test_a_letter_of_who_is_alive_is_taken_away(stage: Stage) -> None:
    """It is named as the place in which the task must not be."""
    alive = {"task:t1": record(), "tasks:pending:primary": ["t1"]}
    stage.fill(alive | {"dlq:task:t1": {"cause": "permanent"}})
    found = look(stage)

    assert RepairedPlacement("PLACED", "PENDING", ("PENDING:primary", "DLQ")) == found
    assert alive == stage.dump()


def test_a_record_without_a_state_is_no_gap(stage: Stage) -> None:
    """It stands nowhere, and that is not fine."""
    stage.fill({"task:t1": {"payload": "{}", "spec": "[]"}})

    assert "QUARANTINED" == look(stage).word


def test_a_lane_of_a_foreign_type_is_met_before_anything_is_written(
    stage: Stage,
) -> None:
    """Nothing is half mended."""
    stage.fill({"task:t1": record("ACTIVE"), "tasks:completed": {"t1": NOW}})
    stage.client.set("tasks:pending:retry", "foreign")
    before = stage.dump()
    with pytest.raises(ScriptError):
        look(stage)

    assert before == stage.dump()


@pytest.mark.parametrize("when", ["nan", "inf", "soon", "1e300"])
@pytest.mark.parametrize("state", ["COMPLETED", "DLQ"])
def test_a_time_that_is_none_is_now(stage: Stage, state: str, when: str) -> None:
    """Nothing is half mended for it."""
    letter = {"cause": "permanent", "fingerprint": "f1", "died_ms": NOW, "error": "{}"}
    stage.fill({"task:t1": record(state, finished_ms=when)})
    stage.client.hset("dlq:task:t1", mapping=letter) if state == "DLQ" else None

    assert "PLACED" == look(stage).word
    home = "dlq:tasks" if state == "DLQ" else "tasks:completed"
    assert {"t1": NOW} == stage.dump()[home]


@pytest.mark.parametrize("state", ["COMPLETED", "FAILED", "CANCELLED"])
def test_what_has_ended_comes_home_and_says_when(stage: Stage, state: str) -> None:
    """Now, where nobody knows better."""
    stage.fill({"task:t1": record(state)})

    assert "PLACED" == look(stage).word
    assert stage.dump() == {
        "task:t1": record(state, finished_ms=NOW),
        f"tasks:{state.lower()}": {"t1": NOW},
    }


def test_a_parked_task_without_a_place_is_parked_no_more(stage: Stage) -> None:
    """It waits in the retry lane, and its upstream is asked there."""
    stage.fill({"task:t1": record(token=TOKEN, parked=f"{NOW} api")})

    assert "REQUEUED" == look(stage).word
    assert stage.dump() == AGAIN


def test_a_task_is_looked_for_where_its_own_upstream_parks(stage: Stage) -> None:
    """Though its record doesn't say that it is parked, and the caller names none."""
    stage.fill(
        {
            "task:t1": record("COMPLETED", upstream="1 api", finished_ms=NOW),
            "tasks:completed": {"t1": NOW},
            "tasks:parked:api:primary": ["t1"],
        }
    )
    found = look(stage)

    assert ("PLACED", ("COMPLETED", "PENDING:api:primary")) == (found.word, found.homes)
    assert "tasks:parked:api:primary" not in stage.dump()
