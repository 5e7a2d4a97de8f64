"""Looking the server and the records over changes nothing and misses nothing."""

import pytest

from keyspace import NOW, Stage, record
from taskflow._protocol import checkup
from taskflow._protocol.checkup import ServerFacts, Whereabouts
from taskflow._protocol.keys import Keys
from taskflow._protocol.states import TaskState

FITS = {
    "task:a": record("ACTIVE"),
    "tasks:active": {"a": NOW},
    "task:s": record("SCHEDULED"),
    "tasks:scheduled": {"s": NOW},
    "task:c": record("COMPLETED"),
    "tasks:completed": {"c": NOW},
    "task:f": record("FAILED"),
    "tasks:failed": {"f": NOW},
    "task:x": record("CANCELLED"),
    "tasks:cancelled": {"x": NOW},
    "task:d": record("DLQ", "retry"),
    "dlq:tasks": {"d": NOW},
    "dlq:task:d": {"cause": "permanent"},
    "task:p": record(),
    "task:r": record(lane="retry"),
    "tasks:pending:primary": ["p", "x"],
    "tasks:tombstones:primary": {"x"},
    "tasks:pending:retry": ["r"],
    "task:p:events": ["not a record"],
}
WRONG = {
    "homeless": ({"task:1": record("ACTIVE")}, ("ACTIVE", "primary", ())),
    "elsewhere": (
        {"task:1": record("FAILED"), "tasks:cancelled": {"1": NOW}},
        ("FAILED", "primary", ("CANCELLED",)),
    ),
    "letter without text": (
        {"task:1": record("DLQ"), "tasks:failed": {"1": NOW}},
        ("DLQ", "primary", ("FAILED",)),
    ),
    "without a state": (
        {"task:1": {"payload": "{}", "spec": "[]"}},
        ("nothing", "", ()),
    ),
    "twice": (
        {
            "task:1": record("DLQ"),
            "dlq:task:1": {"cause": "permanent"},
            "dlq:tasks": {"1": NOW},
            "tasks:failed": {"1": NOW},
        },
        ("DLQ", "primary", ("FAILED", "DLQ")),
    ),
    "waiting and running": (
        {"task:1": record(), "tasks:active": {"1": NOW}},
        ("PENDING", "primary", ("ACTIVE",)),
    ),
    "state unknown": ({"task:1": record("LOST")}, ("LOST", "primary", ())),
}


@pytest.mark.parametrize("case", WRONG)
def test_the_census_finds_who_is_not_in_one_home(stage: Stage, case: str):
    """Among many who are."""
    keyspace, where = WRONG[case]
    wrong = {key: value for key, value in keyspace.items() if key not in FITS}
    added = {key: FITS[key] | value for key, value in keyspace.items() if key in FITS}
    stage.fill(FITS | wrong | added)
    before = stage.dump()
    found = stage.send(checkup.census(stage.keys, "0", count=1000))
    proof = stage.send(checkup.whereabouts(stage.keys, "1"))

    assert ("0", 9, ["1"], {"p", "r"}) == (
        found.cursor,
        found.records,
        found.misfits,
        set(found.waiting),
    )
    assert Whereabouts(*where) == proof
    assert not proof.is_home
    assert before == stage.dump()


def test_nobody_is_found_where_all_is_well(stage: Stage):
    """No misfit in any home, and each at home by itself."""
    stage.fill(FITS)
    found = stage.send(checkup.census(stage.keys, "0", count=1000))
    homes = [
        stage.send(
            checkup.muster(stage.keys, stage.keys.home(state), state=state, first=0)
        )
        for state in TaskState
        if state is not TaskState.PENDING
    ]
    lists = [
        stage.send(
            checkup.muster(
                stage.keys,
                stage.keys.waiting(lane),
                state=TaskState.PENDING,
                lane=lane,
                first=0,
            )
        )
        for lane in ("primary", "retry", "suspects")
    ]
    proofs = [stage.send(checkup.whereabouts(stage.keys, each)) for each in "ascfxdpr"]

    assert [] == found.misfits
    assert [[]] * 9 == [step.misfits for step in (*homes, *lists)]
    assert ["a", "s", "c", "d", "f", "x"] == sorted(
        (step.ids[0] for step in homes), key="ascdfx".index
    )
    assert [["p", "x"], ["r"], []] == [step.ids for step in lists]
    assert all(proof.is_home for proof in proofs)


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
    ended = checkup.muster(
        stage.keys, stage.keys.completed, state=TaskState.COMPLETED, first=0
    )
    waiting = checkup.muster(
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
        operation = checkup.muster(
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
    proof = stage.send(checkup.whereabouts(stage.keys, "1"))

    assert Whereabouts("PENDING", "primary", ("PENDING:primary",) * 2) == proof
    assert not proof.is_home


@pytest.mark.parametrize(
    ("homes", "is_home"), [((), True), (("COMPLETED",), False)], ids=["gone", "ghost"]
)
def test_no_record_belongs_in_no_home(homes: tuple[str, ...], is_home: bool):
    """A deleted task leaves nothing behind."""
    assert is_home == Whereabouts("", "", homes).is_home


def test_records_of_another_prefix_are_not_looked_at(stage: Stage):
    """Each application has its own."""
    stage.fill({"a:task:1": record("ACTIVE"), "task:2": record("ACTIVE")})

    def misfits(prefix: str) -> list[str]:
        return stage.send(checkup.census(Keys(prefix), "0", count=1000)).misfits

    assert [["1"], ["2"]] == [misfits(prefix) for prefix in ("a:", "")]


def test_the_server_tells_about_itself(real_stage: Stage):
    """What the checks need is there on a real server."""
    facts = real_stage.send(checkup.server_facts(real_stage.keys))

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
        facts = real_stage.send(checkup.server_facts(real_stage.keys))
        script = checkup.server_facts(real_stage.keys).script.source
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
