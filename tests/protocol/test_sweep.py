"""A reset deletes what is ours by name and by type, and nothing else."""

import pytest

from taskflow._client.flow_context import FlowContext
from taskflow._client.reset import Inventory, pass_over
from taskflow._protocol.keys import KINDS
from taskflow._protocol.reset import delete_keys
from tests.support.keyspace import NOW, SPEC, Stage, record

OURS = {
    "task:1": record(),
    "task:corrupt": {"payload": "?"},
    "tasks:pending:primary": ["1"],
    "tasks:tombstones:primary": {"2"},
    "tasks:completed": {"3": NOW},
    "dlq:tasks": {"4": NOW},
    "dlq:groups": {"poison": NOW},
    "dlq:group:poison": {"4": NOW},
    "dlq:task:4": {"cause": "poison"},
    "tasks:key:mail:k 1": "1 0",
    "tasks:lanes": {"credit": "0.3"},
    "tasks:marker": {"work": 0},
    "tasks:schedules": {"nightly": NOW},
    "schedule:nightly": {"digest": "0"},
    "tasks:workers": {"w": NOW},
    "worker:w": {"info": "{}"},
    "worker:heartbeat:w": str(NOW),
}
OTHERS = {
    "session:9": "alice",
    "schedule:weekly": {"crontab": "x"},
    "task:list:7": {"title": "buy bread"},
    "task:77": {"title": "buy bread"},
    "task:78": "a string",
    "tasks": ["a", "b"],
    "tasks:pending": ["a"],
    "tasks:failed": "a string where a sorted set of ours would be",
    "worker:pool": {"size": "4"},
    "dlq:task:": {"cause": "x"},
    "myapp:task:1": record(),
    "xtask:1": record(),
    "x": SPEC.decode(),
}


def swept(stage: Stage, prefix: str = "", *, delete: bool) -> Inventory:
    """Pass over every key of *prefix*, a few at a time."""
    whole = stage.keys.prefix + prefix
    plan = pass_over(FlowContext(None, whole, None, lambda: NOW), delete=delete)
    answer = None
    try:
        while True:
            answer = stage.send(plan.send(answer))
    except StopIteration as stop:
        found: Inventory = stop.value
        return found


@pytest.fixture
def shared(stage: Stage) -> Stage:
    """Give a server that several applications share, on each kind of server."""
    stage.fill(OURS | OTHERS)
    stage.client.xadd("tasks:events", {"event": "x"})
    stage.client.xadd("task:1:events", {"chunk": "x"})
    return stage


def test_ours_are_deleted_and_nothing_else(shared: Stage):
    """With no prefix at all, on a server that is shared."""
    found = swept(shared, delete=True)
    left = swept(shared, delete=False)

    assert OTHERS == shared.dump()
    assert (len(OURS) + 2, len(OTHERS)) == (found.total, found.others)
    assert (0, len(OTHERS)) == (left.total, left.others)


def test_counting_deletes_nothing(shared: Stage):
    """Each key counted under what it is."""
    before = shared.dump()
    found = swept(shared, delete=False)

    assert before == shared.dump()
    assert {
        "records of tasks": 2,
        "output of tasks": 1,
        "waiting lists": 1,
        "tombstones": 1,
        "parked tasks": 0,
        "upstreams": 0,
        "homes": 1,
        "dead-letter queue": 4,
        "idempotency keys": 1,
        "state of the lanes": 2,
        "audit log": 1,
        "schedules": 2,
        "workers": 3,
    } == found.counts


@pytest.mark.parametrize("prefix", ["myapp:", "{my.app}:"])
def test_only_the_keys_of_the_prefix_are_deleted(stage: Stage, prefix: str):
    """Not those of another application, nor those without a prefix."""
    mine = {prefix + key: value for key, value in OURS.items()}
    near = {f"{prefix}x:task:1": record(), f"{prefix[:-1]}x:task:1": record()}
    stage.fill(OURS | mine | near)
    found = swept(stage, prefix, delete=True)

    assert OURS | near == stage.dump()
    assert (len(OURS), 1) == (found.total, found.others)


def test_many_keys_are_deleted_in_steps(stage: Stage):
    """Each step looks at about as many keys as it was told to."""
    stage.fill({f"task:{each}": record() for each in range(1000)})
    cursor, steps, found = "0", 0, 0
    while True:
        step = stage.send(delete_keys(stage.keys, cursor, delete=True, count=100))
        found += step.counts["records of tasks"]
        cursor, steps = step.cursor, steps + 1
        if cursor == "0":
            break

    assert (1000, {}) == (found, stage.dump())
    assert steps >= 5


def test_every_kind_is_counted_under_a_name(stage: Stage):
    """Also where there is none of it."""
    found = stage.send(delete_keys(stage.keys, "0", delete=False))

    assert dict.fromkeys([kind.name for kind in KINDS], 0) == found.counts
