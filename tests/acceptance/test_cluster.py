"""A cluster of three: the slot of the prefix moves, its node dies, all else goes on."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskflow import Registry, TaskFlow, TaskState
from taskflow._servers.cluster import ClusterServer
from taskflow.errors import (
    ServerRefusedError,
    ServerUnavailableError,
)
from tests.support.echo_scripts import echo, incr, publish, put
from tests.support.invariants import broken
from tests.support.keyspace import dump
from tests.support.processes import LEASE, Deployment
from tests.support.topologies import PREFIX, SLOT, Cluster, identity, nodes, wait_for

pytestmark = [pytest.mark.deep, pytest.mark.timeout(60)]

PATIENT = 20.0

APP = """
import asyncio
from taskflow import Registry

registry = Registry()

@registry.task(name="nap")
async def nap(number: int, seconds: float) -> int:
    await asyncio.sleep(seconds)
    return number
"""

registry = Registry()


@registry.task(name="nap")
def nap(number: int, seconds: float) -> int:
    """Stand for the worker's task of this name."""
    raise NotImplementedError(number, seconds)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Give a cluster; each test leaves it whole."""
    with nodes() as start:
        yield Cluster(start)


@pytest.fixture
def empty(cluster: Cluster) -> Cluster:
    """Give the cluster with nothing in it."""
    ClusterServer(cluster.url, PREFIX).erase()
    return cluster


def test_a_worker_goes_on_while_the_slot_moves(empty: Cluster, tmp_path: Path) -> None:
    """Twice, under load; each task completes once and every invariant holds."""
    deployment = Deployment(tmp_path, APP, registry, url=empty.url, prefix=PREFIX)
    try:
        deployment.worker("-c", "5")
        handles = deployment.flow.enqueue_many([nap.call(n, 0.05) for n in range(100)])
        for _ in range(2):
            source, target = empty.owner(), empty.others()[0]
            wait_for(lambda: deployment.count(TaskState.ACTIVE) > 0)
            empty.move_slot(source, target)
            wait_for(lambda at=target: empty.owner() is at)
            handles += deployment.flow.enqueue_many(
                [nap.call(n, 0.05) for n in range(50)]
            )
        wait_for(lambda: deployment.count(TaskState.COMPLETED) == 200)

        owner = empty.owner()
        found = dump(owner.client)
        now_ms = round(time.time() * 1000)
        lease_ms = round(LEASE * 1000)
        records = [handle.info() for handle in handles]
        assert [(1, 0)] * 200 == [(each.deliveries, each.crashes) for each in records]
        assert [] == broken(found, now_ms=now_ms, lease_ms=lease_ms, prefix=PREFIX)
        assert [0, 0] == [each.client.dbsize() for each in empty.others()]
    finally:
        deployment.close()


def test_a_worker_follows_when_the_node_dies(empty: Cluster, tmp_path: Path) -> None:
    """A replica takes its slots; what was replicated completes there."""
    deployment = Deployment(tmp_path, APP, registry, url=empty.url, prefix=PREFIX)
    owner = empty.owner()
    replica = empty.replica_of(owner)
    try:
        deployment.worker("-c", "5")
        handles = deployment.flow.enqueue_many([nap.call(n, 0.5) for n in range(20)])
        wait_for(lambda: deployment.count(TaskState.ACTIVE) == 5)
        assert 1 == owner.ask("WAIT", 1, 5000)

        owner.kill()

        wait_for(lambda: deployment.count(TaskState.COMPLETED) == 20)
        assert list(range(20)) == [handle.result(timeout=1) for handle in handles]
        assert replica.address == deployment.flow.connection.server.place
    finally:
        deployment.close()
        empty.forget(owner)


def test_the_doctor_finds_and_mends_what_is_broken(empty: Cluster) -> None:
    """On the node that holds the slot, whichever it is."""
    with TaskFlow(empty.url, prefix=PREFIX, registry=registry) as flow:
        flow.enqueue_many([nap.call(n, 0.0) for n in range(3)])
        empty.owner().client.lpop(f"{PREFIX}tasks:pending:primary")

        def told(*, repair: bool) -> str:
            found = flow.doctor(repair=repair)
            return next(each.severity for each in found if each.check == "homes")

        assert "error" == told(repair=False)
        told(repair=True)
        assert "ok" == told(repair=False)
        assert 3 == flow.queues.status().states[TaskState.PENDING]
        lanes = ("primary", "retry")
        sizes = [
            empty.owner().client.llen(f"{PREFIX}tasks:pending:{lane}") for lane in lanes
        ]
        assert [2, 1] == sizes


class TestTheSlot:
    """Which node is spoken to, and when it is looked up anew."""

    def test_any_node_of_the_url_leads_to_the_one_that_holds_it(
        self, empty: Cluster
    ) -> None:
        """Also when others that the URL names are dead."""
        for node in empty.nodes:
            url = f"redis+cluster://127.0.0.1:1,{node.address}"
            server = ClusterServer(url, PREFIX)
            server.runner().send(put(f"{PREFIX}{node.port}", "x"))

            assert empty.owner().address == server.place
        assert len(empty.nodes) == empty.owner().client.dbsize()

    def test_every_runner_follows_the_slot(self, empty: Cluster) -> None:
        """With connections that still lead to where it was."""
        server = ClusterServer(empty.url, PREFIX)
        blocking = server.runner(patience=PATIENT)
        key = f"{PREFIX}k"

        async def on_a_loop() -> None:
            runner = server.async_runner(patience=PATIENT)
            await runner.send(incr(key))
            source, target = empty.owner(), empty.others()[0]
            await asyncio.to_thread(empty.move_slot, source, target)
            await asyncio.to_thread(wait_for, lambda: empty.owner() is target)
            await runner.send(incr(key))

        blocking.send(incr(key))
        asyncio.run(on_a_loop())
        blocking.send(incr(key))

        assert b"4" == empty.owner().client.get(key)
        assert empty.owner().address == server.place
        blocking.close()

    def test_nothing_is_written_while_it_is_moved_key_by_key(
        self, empty: Cluster
    ) -> None:
        """Neither here nor there: a record would come to stand on both nodes."""
        source, target = empty.owner(), empty.others()[0]
        with TaskFlow(empty.url, prefix=PREFIX, registry=registry) as flow:
            handle = flow.enqueue(nap.call(1, 0.0))
            target.ask(*setslot("IMPORTING", identity(source)))
            source.ask(*setslot("MIGRATING", identity(target)))
            record = f"{PREFIX}task:{handle.id}"
            source.ask("MIGRATE", "127.0.0.1", target.port, record, 0, 5000)
            before = dump(source.client)

            for call in (handle.info, handle.cancel):
                with pytest.raises(ServerUnavailableError):
                    call()
            with pytest.raises(ServerUnavailableError):
                flow.enqueue(nap.call(2, 0.0))

            assert before == dump(source.client)
            assert 1 == target.client.dbsize()
            left = source.client.keys("*")
            source.ask(
                *("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *left)
            )
            for node in (target, source):
                node.ask(*setslot("NODE", identity(target)))

            assert TaskState.PENDING is handle.info().state
            assert target.address == flow.connection.server.place

    def test_what_is_published_on_any_node_is_heard(self, empty: Cluster) -> None:
        """By who listens on the node of the slot."""
        server = ClusterServer(empty.url, PREFIX)
        runner = server.runner()
        with runner.subscribe(f"{PREFIX}news") as news:
            empty.others()[0].client.publish(f"{PREFIX}news", "a")
            assert b"a" == news.next(PATIENT)
            runner.send(publish(f"{PREFIX}news", "b"))
            assert b"b" == news.next(PATIENT)
        runner.close()

    def test_all_data_of_all_nodes_can_be_erased(self, empty: Cluster) -> None:
        """Whoever it belongs to, as the command says that asks for it."""
        for node in empty.nodes:
            key = next(k for k in map(str, range(1000)) if node.holds(k))
            node.client.set(key, "x")

        ClusterServer(empty.url, PREFIX).erase()

        assert [0] * len(empty.nodes) == [n.client.dbsize() for n in empty.nodes]


class TestWrongAddresses:
    """What is said to who mixes up the kinds of address."""

    def test_a_single_node_by_its_own_url_says_what_it_is(self, empty: Cluster) -> None:
        """Nothing is followed there: the address says one server."""
        url = f"redis://{empty.others()[0].address}"
        with (
            TaskFlow(url, prefix=PREFIX) as flow,
            pytest.raises(ServerRefusedError, match=r"redis\+cluster://"),
        ):
            flow.queues.status()

    def test_a_server_that_is_no_node_is_named(self) -> None:
        """And the address that fits it."""
        with nodes() as start:
            server = ClusterServer(f"redis+cluster://{start().address}", PREFIX)
            with pytest.raises(ServerRefusedError, match="use redis://"):
                server.runner(patience=PATIENT).send(echo("x"))


def setslot(*words: str) -> tuple[str | int, ...]:
    """Give the command that says *words* of the slot of the prefix."""
    return ("CLUSTER", "SETSLOT", SLOT, *words)
