"""Looking the server and the records over changes nothing and misses nothing."""

import pytest

from taskflow._protocol import consistency
from taskflow._protocol.consistency import RecordScan, ServerFacts
from taskflow._protocol.invariants import Broken, Letter, Snapshot
from taskflow._protocol.invariants import broken as broken_of
from taskflow._protocol.keys import Keys
from taskflow._protocol.states import TaskState
from tests.support.invariants import broken, sightings
from tests.support.keyspace import LEASE, NOW, Stage, record

TOKEN = "1:w:1-1"  # noqa: S105
LETTER = {
    "cause": "permanent",
    "error": "{}",
    "died_ms": str(NOW),
    "fingerprint": "f1",
}
FITS = {
    "task:a": record("ACTIVE", token=TOKEN, attempts=2, history="1 {}\n2 {}"),
    "tasks:active": {"a": NOW},
    "task:s": record("SCHEDULED"),
    "tasks:scheduled": {"s": NOW},
    "task:c": record("COMPLETED", finished_ms=NOW),
    "tasks:completed": {"c": NOW},
    "task:f": record("FAILED", finished_ms=NOW),
    "tasks:failed": {"f": NOW},
    "task:x": record("CANCELLED", finished_ms=NOW),
    "tasks:cancelled": {"x": NOW},
    "task:d": record("DLQ", "retry", finished_ms=NOW),
    "dlq:tasks": {"d": NOW},
    "dlq:task:d": LETTER,
    "dlq:group:f1": {"d": NOW},
    "dlq:groups": {"f1": NOW},
    "task:p": record(key="5 digest n:k"),
    "tasks:key:n:k": "p digest",
    "task:r": record(lane="retry"),
    "task:k": record(parked=f"{NOW} api", upstream="1 api"),
    "tasks:parked:api:primary": ["k"],
    "tasks:pending:primary": ["p", "x"],
    "tasks:tombstones:primary": {"x"},
    "tasks:pending:retry": ["r"],
    "task:p:events": ["not a record"],
}
WRONG = {
    "homeless": (
        {"task:1": record("ACTIVE")},
        Snapshot("1", "ACTIVE", "primary"),
        ["I1"],
    ),
    "elsewhere": (
        {"task:1": record("FAILED", finished_ms=NOW), "tasks:cancelled": {"1": NOW}},
        Snapshot("1", "FAILED", "primary", is_finished=True, homes=("CANCELLED",)),
        ["I1"],
    ),
    "letter without text": (
        {"task:1": record("DLQ", finished_ms=NOW), "dlq:tasks": {"1": NOW}},
        Snapshot("1", "DLQ", "primary", is_finished=True, homes=("DLQ",)),
        ["I15"],
    ),
    "without a state": (
        {"task:1": {"payload": "{}", "spec": "[]"}},
        Snapshot("1", "nothing", missing=("lane", "created_ms")),
        ["I1", "I18", "I18"],
    ),
    "twice": (
        {
            "task:1": record("DLQ", finished_ms=NOW),
            "dlq:task:1": LETTER,
            "dlq:tasks": {"1": NOW},
            "dlq:group:f1": {"1": NOW},
            "tasks:failed": {"1": NOW},
        },
        Snapshot(
            *("1", "DLQ", "primary"),
            is_finished=True,
            letter=Letter("permanent", "f1", "", ""),
            groups=("f1",),
            homes=("DLQ", "FAILED"),
        ),
        ["I1"],
    ),
    "waiting and running": (
        {"task:1": record(), "tasks:active": {"1": NOW}},
        Snapshot("1", "PENDING", "primary", lease_ends_ms=NOW, homes=("ACTIVE",)),
        ["I1", "I4"],
    ),
    "state unknown": (
        {"task:1": record("LOST")},
        Snapshot("1", "LOST", "primary"),
        ["I1"],
    ),
    "torn": (
        {
            "task:1": record(
                *("ACTIVE", "retry"),
                token="1::",  # noqa: S106
                crashes="x",
                parked=f"{NOW} api",
                history="\n".join(["1 {}"] * 21),
            ),
            "tasks:active": {"1": NOW + LEASE + 1},
        },
        Snapshot(
            *("1", "ACTIVE", "retry", "api", "1::", ("", "x", "")),
            lines=21,
            lease_ends_ms=NOW + LEASE + 1,
            homes=("ACTIVE",),
        ),
        ["I1", "I3", "I19", "I4", "I4"],
    ),
    "a key that stays": (
        {
            "task:1": record("COMPLETED", finished_ms=NOW, key="5 digest n:j"),
            "tasks:completed": {"1": NOW},
            "tasks:key:n:j": "1 digest",
        },
        Snapshot(
            *("1", "COMPLETED", "primary"),
            is_finished=True,
            key="stays",
            homes=("COMPLETED",),
        ),
        ["I9"],
    ),
    "another group": (
        {
            "task:1": record("DLQ", finished_ms=NOW, attempts=2),
            "dlq:task:1": {"fingerprint": "f2", "attempts": "1"},
            "dlq:tasks": {"1": NOW},
            "dlq:group:f1": {"1": NOW},
        },
        Snapshot(
            *("1", "DLQ", "primary", "", "", ("2", "", "")),
            is_finished=True,
            letter=Letter("", "f2", "1", "", ("cause", "error", "died_ms")),
            groups=("f1",),
            homes=("DLQ",),
        ),
        ["I15", "I15", "I15"],
    ),
}


def fill(stage: Stage, keyspace: dict) -> None:
    """Write *keyspace* into the one in which all is well."""
    merged = {
        key: FITS[key] | value if key in FITS and isinstance(value, dict) else value
        for key, value in keyspace.items()
    }
    stage.fill(FITS | merged)


def judged(seen: Snapshot) -> list[Broken]:
    """Judge what was seen."""
    return broken_of(seen, now_ms=NOW, lease_ms=LEASE)


def census(stage: Stage) -> RecordScan:
    """Look over every record at once."""
    return stage.send(consistency.scan_records(stage.keys, "0", count=1000, now_ms=NOW))


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_seen_and_judged(stage: Stage, case: str):
    """Among many that are well; by one look, and of the whole keyspace alike."""
    keyspace, seen, rules = WRONG[case]
    fill(stage, keyspace)
    before = stage.dump()
    step = census(stage)
    where = stage.send(
        consistency.inspect_task(stage.keys, "1", (), ("f1",), now_ms=NOW)
    ).seen
    whole = {each.id: each for each in sightings(Keys(), before, before)}

    assert ("0", 10, []) == (step.cursor, len(step.sightings), step.strays)
    assert seen == where == whole["1"]
    assert [(rule, "1") for rule in rules] == [each[:2] for each in judged(where)]
    assert rules == [each.rule for each in broken(before, now_ms=NOW, lease_ms=LEASE)]
    assert before == stage.dump()
    for each in step.sightings:
        # Those that wait are compared with the lists by the caller.
        homes = each.homes or ((each.home,) if each.state == "PENDING" else ())
        assert each.id == "1" or [] == judged(each._replace(homes=homes))


def test_nobody_is_found_where_all_is_well(stage: Stage):
    """No misfit in any home, and each at home by itself."""
    stage.fill(FITS)
    homes = [
        stage.send(
            consistency.verify_index(
                stage.keys, stage.keys.home(state), state=state, first=0
            )
        )
        for state in TaskState
        if state is not TaskState.PENDING
    ]
    lists = [
        stage.send(
            consistency.verify_index(
                stage.keys,
                stage.keys.waiting(lane),
                state=TaskState.PENDING,
                lane=lane,
                first=0,
            )
        )
        for lane in ("primary", "retry", "suspects")
    ]
    proofs = [
        stage.send(consistency.inspect_task(stage.keys, each, now_ms=NOW)).seen
        for each in "ascfxdprk"
    ]

    assert [[]] * 9 == [step.misfits for step in (*homes, *lists)]
    assert ["a", "s", "c", "d", "f", "x"] == sorted(
        (step.ids[0] for step in homes), key="ascdfx".index
    )
    assert [["p", "x"], ["r"], []] == [step.ids for step in lists]
    assert [] == [each for proof in proofs for each in judged(proof)]
    assert ["stays", "PENDING:api:primary"] == [proofs[6].key, proofs[8].home]


def test_a_letter_without_a_record_is_found(stage: Stage):
    """It stands in no home, so nothing else would lead to it."""
    stage.fill(FITS | {"dlq:task:gone": LETTER})

    assert ["gone"] == census(stage).strays
    (fault,) = judged(stage.send(consistency.inspect_task(stage.keys, "gone")).seen)[:1]
    assert "I15" == fault.rule


def test_who_stands_in_another_group_is_found(stage: Stage):
    """By the fingerprint of the letter, which is not that of the group."""
    stage.fill(FITS | {"dlq:group:f2": {"d": NOW, "gone": NOW}})
    step = stage.send(
        consistency.verify_index(
            stage.keys,
            stage.keys.group("f2"),
            state=TaskState.DLQ,
            fingerprint="f2",
            first=0,
        )
    )

    assert ["d", "gone"] == sorted(step.misfits)


@pytest.mark.parametrize("kind", ["permits", "probes"])
def test_a_ticket_of_who_runs_no_more_is_found(stage: Stage, kind: str):
    """It would be missing to others until it lapses."""
    stage.fill(FITS | {f"upstream:api:{kind}": {"s": NOW}})
    seen = stage.send(
        consistency.inspect_task(stage.keys, "s", ["api"], now_ms=NOW)
    ).seen

    assert (f"upstream:api:{kind}",) == seen.tickets
    assert ["I1"] == [each.rule for each in judged(seen)]


def test_an_entry_without_its_record_is_found(stage: Stage):
    """In a sorted set and in a list; a tombstone excuses what was deleted."""
    stage.fill(
        {
            "tasks:completed": {"gone": NOW},
            "tasks:pending:primary": ["gone", "deleted", "done", "moved", "dropped"],
            "tasks:tombstones:primary": {"deleted", "dropped"},
            "task:done": record("COMPLETED"),
            "task:moved": record(lane="retry"),
            "task:dropped": record(),
        }
    )
    ended = consistency.verify_index(
        stage.keys, stage.keys.completed, state=TaskState.COMPLETED, first=0
    )
    waiting = consistency.verify_index(
        stage.keys,
        stage.keys.primary,
        state=TaskState.PENDING,
        lane="primary",
        first=0,
    )

    assert ["gone"] == stage.send(ended).misfits
    assert ["gone", "done", "moved", "dropped"] == stage.send(waiting).misfits


def test_a_home_is_looked_over_in_steps(stage: Stage):
    """From the entry named, as many as were asked for, none at the end."""
    stage.fill({"tasks:failed": {str(each): each for each in range(1, 6)}})

    def step(first: int) -> list[str]:
        operation = consistency.verify_index(
            stage.keys,
            stage.keys.failed,
            state=TaskState.FAILED,
            first=first,
            count=2,
        )
        return stage.send(operation).ids

    assert [["1", "2"], ["3", "4"], ["5"], []] == [
        step(first) for first in (0, 2, 4, 5)
    ]


def test_who_waits_twice_is_not_at_home(stage: Stage):
    """It would run twice."""
    stage.fill({"task:1": record(), "tasks:pending:primary": ["1", "2", "1"]})
    proof = stage.send(consistency.inspect_task(stage.keys, "1")).seen

    assert ("PENDING:primary",) * 2 == proof.homes
    assert not proof.is_home


@pytest.mark.parametrize(
    ("homes", "is_home"), [((), True), (("COMPLETED",), False)], ids=["gone", "ghost"]
)
def test_no_record_belongs_in_no_home(homes: tuple[str, ...], is_home: bool):
    """A deleted task leaves nothing behind."""
    assert is_home == Snapshot("1", homes=homes).is_home


def test_records_of_another_prefix_are_not_looked_at(stage: Stage):
    """Each application has its own."""
    stage.fill({"a:task:1": record("ACTIVE"), "task:2": record("ACTIVE")})

    def seen(prefix: str) -> list[str]:
        keys = Keys(stage.keys.prefix + prefix)
        step = stage.send(consistency.scan_records(keys, "0", count=1000))
        return [each.id for each in step.sightings]

    assert [["1"], ["2"]] == [seen(prefix) for prefix in ("a:", "")]


def test_the_server_tells_about_itself(real_stage: Stage):
    """What the checks need is there on a real server."""
    facts = real_stage.send(consistency.server_facts(real_stage.keys))

    needed = {
        "redis_version",
        "role",
        "maxmemory",
        "maxmemory_policy",
        "used_memory",
        "aof_enabled",
    }
    assert needed <= set(facts.told)
    assert facts.number("used_memory")
    assert facts.now_ms > NOW


def test_what_the_server_may_not_tell_is_left_out(real_stage: Stage):
    """A user without INFO gets the time and nothing else."""
    client = real_stage.client
    client.acl_setuser(
        "guest", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-info"]
    )
    try:
        client.execute_command("AUTH", "guest", "x")
        facts = real_stage.send(consistency.server_facts(real_stage.keys))
        script = consistency.server_facts(real_stage.keys).script.source
        reply = client.eval(script, 0, 0, "")
    finally:
        client.execute_command("AUTH", "default", "")
        client.acl_deluser("guest")

    assert facts.told
    assert [b""] * 5 == reply[1:]


def test_a_fact_that_is_no_number_is_none():
    """And so is one that was not told."""
    facts = ServerFacts(0, {"a": "12", "b": "1.5"})

    assert [12, None, None] == [facts.number(name) for name in "abc"]
