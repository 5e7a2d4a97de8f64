"""Durability "replica": an enqueue returns when a replica has the task."""

import asyncio
import signal
import time
from collections.abc import Iterator

import pytest

import taskflow
from taskflow import TaskFlow, TaskState
from taskflow.errors import ConfigurationError, NotReplicatedError
from tests.support.topologies import Node, nodes, start_pair, wait_for

registry = taskflow.Registry()


@registry.task(name="add")
def add(x: int, y: int) -> int:
    """Add."""
    return x + y


@pytest.fixture
def pair() -> Iterator[tuple[Node, Node]]:
    """Give a primary and its replica."""
    with nodes() as start:
        yield start_pair(start)


def flow_of(node: Node, **options: str) -> TaskFlow:
    """Make a flow that waits for a replica."""
    options = {"durability": "replica"} | options
    return TaskFlow(f"redis://{node.address}/0", registry=registry, **options)


def test_what_was_acknowledged_is_on_the_replica(pair: tuple[Node, Node]) -> None:
    """Blocking, on a loop, single and many: each is there when its call returns."""
    primary, replica = pair
    with flow_of(primary) as flow:
        ids = []
        for each in range(50):
            ids.append(flow.enqueue(add.call(each, 1)).id)
            assert replica.client.exists(f"task:{ids[-1]}")
        ids += [each.id for each in flow.enqueue_many([add.call(1, 1)] * 250)]

        async def more() -> None:
            made = await asyncio.gather(*(flow.aenqueue(add.call(1, 2)) for _ in "abc"))
            made += await flow.aenqueue_many([add.call(1, 3)] * 3)
            ids.extend(each.id for each in made)
            await flow.aclose()

        asyncio.run(more())
        primary.kill()
    replica.ask("REPLICAOF", "NO", "ONE")

    assert 306 == len(ids) == replica.client.exists(*[f"task:{each}" for each in ids])


def test_a_replica_that_stands_still_is_an_error_and_the_task_is_stored(
    pair: tuple[Node, Node],
) -> None:
    """Within about a second; a repeat by its key is confirmed once the replica is back."""
    primary, replica = pair
    with flow_of(primary) as flow:
        flow.enqueue(add.call(1, 1))
        replica.process.send_signal(signal.SIGSTOP)
        keyed = add.options(key="k").call(1, 2)
        before = time.monotonic()
        errors = []
        for _ in range(2):  # the repeat writes nothing, and is no less honest
            with pytest.raises(NotReplicatedError) as caught:
                flow.enqueue(keyed)
            errors.append(caught.value)
        took = time.monotonic() - before
        replica.process.send_signal(signal.SIGCONT)
        again = flow.enqueue(keyed)

        assert (0, 1) == (errors[0].confirmed, errors[0].wanted)
        assert (again.id,) == errors[0].task_ids
        assert again.created is False
        assert 1.9 < took
        assert 2 == flow.queues.status().states[TaskState.PENDING]
        assert replica.client.exists(f"task:{again.id}")


def test_a_primary_without_a_replica_says_so(pair: tuple[Node, Node]) -> None:
    """After a second; with the usual durability nothing waits for anybody."""
    primary, replica = pair
    replica.kill()
    wait_for(lambda: not primary.client.info("replication")["connected_slaves"])
    with flow_of(primary) as flow:
        with pytest.raises(NotReplicatedError, match="0 of 1 replicas"):
            flow.enqueue_many([add.call(1, 1)] * 3)
        flow.queues.status()
    with flow_of(primary, durability="server") as flow:
        assert flow.enqueue(add.call(1, 1)).created


def test_forgotten_scripts_cost_no_confirmation(pair: tuple[Node, Node]) -> None:
    """What is loaded and sent again in a second trip is confirmed there."""
    primary, replica = pair
    primary.client.script_flush()
    with flow_of(primary) as flow:
        stored = flow.enqueue(add.call(1, 1))

    assert replica.client.exists(f"task:{stored.id}")


@pytest.mark.parametrize("kind", ["memory", "embedded"])
def test_a_server_without_replicas_is_refused_at_once(
    kind: str, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a sentence that says what to do, and nothing is stored."""
    monkeypatch.setenv("TASKFLOW_DURABILITY", "replica")
    url = "memory://" if kind == "memory" else f"embedded://{tmp_path}"
    with (
        TaskFlow(url, registry=registry) as flow,
        pytest.raises(ConfigurationError, match="durability 'replica' needs"),
    ):
        flow.enqueue(add.call(1, 1))
