"""A server that has lost its data under workers and guards that live on."""

import asyncio
import threading
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any, Self

import pytest
from attrs import evolve

from taskflow import RateLimit, Registry, TaskFlow, Upstream, Worker
from taskflow._declare import ports
from taskflow._events import DataLost
from taskflow._protocol import upstreams
from taskflow._settings import load_settings

LEASE = 4.0
"""Seconds; a recovery takes half of it."""


@pytest.fixture
async def flow(server_url: str) -> AsyncIterator[TaskFlow]:
    """Give a flow on each kind of server, which guards use too."""
    known = load_settings()
    settings = evolve(known, worker=evolve(known.worker, lease=LEASE))
    async with TaskFlow(server_url, registry=Registry(), settings=settings) as made:
        with ports.using(made):
            yield made


def lose(flow: TaskFlow) -> None:
    """Delete every key of the server."""
    client = flow.connection.server.sync_client()
    client.flushdb()
    client.close()


async def until(condition: Callable[[], Any]) -> None:
    """Look until *condition* holds."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - told by nobody
            await asyncio.sleep(0.01)


class Working:
    """A worker that runs, and what it tells."""

    def __init__(self, flow: TaskFlow) -> None:
        self.told: list[DataLost] = []
        self.worker = Worker(flow, concurrency=5)
        self.worker.events.subscribe(self.told.append, DataLost)

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self.worker.arun())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.worker.stop(now=True)
        await self._task


@pytest.mark.timed
async def test_a_function_that_outlives_the_data_keeps_its_permit(
    flow: TaskFlow,
) -> None:
    """A thread cannot be stopped: no other call begins until it has ended."""
    go, begun = threading.Event(), list[str]()

    @flow.registry.task(name="hold", upstream=Upstream("api", concurrency=1))
    def hold(name: str) -> None:
        begun.append(name)
        go.wait(20)

    async with Working(flow) as working:
        await flow.aenqueue(hold.call("first"))
        await until(lambda: begun == ["first"])
        lose(flow)
        second = await flow.aenqueue(hold.call("second"))
        await until(lambda: working.told)
        await until(lambda: flow.upstreams.get("api").running == 1)
        await until(lambda: flow.upstreams.get("api").tapped_until is None)
        other = await flow.aenqueue(hold.options(upstream=False).call("other"))
        await until(lambda: "other" in begun)

        assert ["first", "other"] == begun
        go.set()
        await asyncio.gather(second.aresult(20), other.aresult(20))

    assert ["first", "other", "second"] == begun
    assert 0 == flow.upstreams.get("api").running


async def test_a_claim_declares_what_the_server_has_lost(flow: TaskFlow) -> None:
    """Before the first task of it runs, and not when the next minute is over."""
    limit = RateLimit(1000, per=1.0, burst=1000)

    @flow.registry.task(name="call", upstream=Upstream("api", rate_limit=limit))
    async def call() -> int:
        found = await flow.upstreams.aget("api")
        return found.limit or 0

    async with Working(flow):
        first = await flow.aenqueue(call.call())
        assert 1000 == await first.aresult(20)
        lose(flow)
        again = await flow.aenqueue(call.call())

        assert 1000 == await again.aresult(20)


async def test_a_worker_says_what_an_operator_had_set(flow: TaskFlow) -> None:
    """As far as it heard; and it declares schedules and upstreams again."""
    flow.registry.add_upstream(Upstream("api", concurrency=7))

    @flow.registry.every(3600, name="hourly")
    @flow.registry.task(name="nothing")
    async def nothing() -> None: ...

    async with Working(flow) as working:
        await until(flow.schedules.list)
        watch = working.worker._watch
        flow.upstreams.force_open("api", reason="maintenance")
        flow.upstreams.force_open("task:nothing")
        await until(lambda: watch.opened == ("api", "task:nothing"))
        flow.upstreams.force_close("task:nothing")
        await until(lambda: watch.opened == ("api",))
        lose(flow)
        await until(lambda: working.told)
        await until(lambda: flow.schedules.list() and flow.upstreams.status())

    assert [DataLost(("api",))] == working.told
    assert ("closed", 7) == (
        flow.upstreams.get("api").state,
        flow.upstreams.get("api").concurrency,
    )
    assert "data_lost" in [each.event for each in flow.audit_log.list()]
    (finding,) = [each for each in flow.doctor() if each.check == "data"]
    assert "warning" == finding.severity


async def test_a_worker_that_only_names_an_upstream_leaves_others_the_time(
    flow: TaskFlow,
) -> None:
    """To declare it: nothing is called by defaults that have no limits."""

    @flow.registry.task(name="call", upstream="api")
    async def call() -> int | None:
        found = await flow.upstreams.aget("api")
        return found.concurrency

    async with Working(flow):
        await (await flow.aenqueue(call.call())).aresult(20)
        lose(flow)
        handle = await flow.aenqueue(call.call())
        await until(lambda: [each.name for each in flow.upstreams.status()] == ["api"])
        rules = upstreams.pack_rules(
            Upstream("api", concurrency=3), flow.guards.defaults
        )
        flow.connection.runner.send(
            upstreams.declare(flow.connection.keys, "api", rules)
        )

        assert 3 == await handle.aresult(20)


async def test_a_guard_that_outlives_the_data_keeps_its_permit(flow: TaskFlow) -> None:
    """Its process renews it; another call waits until it has ended."""
    api = Upstream("api", concurrency=1)
    order: list[str] = []

    async def other() -> None:
        async with api.guard():
            order.append("other begins")

    async with api.guard():
        lose(flow)
        waiting = asyncio.create_task(other())
        await until(flow.upstreams.status)
        await until(lambda: flow.upstreams.get("api").running == 1)
        await until(lambda: flow.upstreams.get("api").tapped_until is None)
        await asyncio.sleep(0)
        order.append("first ends")
    await waiting

    assert ["first ends", "other begins"] == order


async def test_a_guard_believes_the_state_of_a_server_that_has_lost_its_data() -> None:
    """Its turns are counted from the beginning again."""
    heard: list[str] = []

    class Listener:
        def state_change(self, cb: Any, old: Any, new: Any) -> None:
            heard.append(new.name)

    api = Upstream("api", listeners=[Listener()])
    async with TaskFlow(f"memory://{uuid.uuid4().hex}") as flow:
        flow.guards.on_state_change(api, "open", 7, 0.0, "maintenance")
        flow.guards.on_state_change(api, "closed", 1, 0.0, "")
        before = list(heard)
        flow.guards.forget()
        flow.guards.on_state_change(api, "closed", 0, 0.0, "")

    assert (["open"], ["open", "closed"]) == (before, heard)
