"""Schedules in a worker: ticks are made, once, also when workers come late."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest

import taskflow
from taskflow import Registry, TaskFlow, Worker
from taskflow._worker.scheduler import Scheduler
from taskflow.errors import PayloadError, ScheduleNotFoundError
from taskflow.testing import ManualClock, arun_until_idle

START = 1_767_225_600_000  # 2026-01-01 00:00 UTC


@pytest.fixture
def clock() -> ManualClock:
    """Give the time of every script."""
    return ManualClock(START)


@pytest.fixture
def flow(server_url: str, clock: ManualClock) -> Iterator[TaskFlow]:
    """Give a flow on each kind of server."""
    with TaskFlow(server_url, clock=clock) as made:
        yield made


def registry_of(missed: str = "last", period: float = 10) -> Registry:
    """Give a registry with one schedule."""
    registry = Registry()

    @registry.every(period, name="ten", missed=missed, arguments={"who": "Ada"})
    @registry.task(name="greet")
    def greet(ctx: taskflow.Context, who: str) -> str:
        assert ctx.tick is not None
        return f"{who} {ctx.tick:%H:%M:%S}"

    return registry


@pytest.fixture
def keeper(flow: TaskFlow) -> Callable[..., Scheduler]:
    """Give timekeepers of the same server."""

    def made(registry: Registry) -> Scheduler:
        connection = flow.connection
        return Scheduler(
            connection.async_runner,
            connection.keys,
            registry.schedules(),
            connection.clock,
            Random(1),
        )

    return made


async def results(flow: TaskFlow, registry: Registry) -> list[str]:
    """Run what waits; give the results of all that has completed, sorted."""
    await arun_until_idle(flow, registry=registry)
    found = []
    for item in (await flow.tasks.alist()).items:
        record: Any = await flow.tasks.aget(item.id)
        found.append(record.result.decode().strip('"'))
    return sorted(found)


async def test_a_tick_is_enqueued_when_it_is_due_and_knows_its_time(
    flow, clock, keeper
):
    """Not before; with the arguments of the schedule."""
    registry = registry_of()
    one = keeper(registry)
    await one.poll()
    before = (await flow.queues.astatus()).primary
    clock.advance(10.1)
    wait = await one.poll()
    clock.advance(9.8)
    after = await one.poll()

    assert 0 == before
    assert ["Ada 00:00:10"] == await results(flow, registry)
    assert 0.0 == wait
    assert 0.1 == pytest.approx(after)


async def test_a_tick_that_is_skipped_is_let_go_and_the_next_one_is_made(
    flow, clock, keeper
):
    """It is more than a minute late, and nobody wants it any more."""
    registry = registry_of("skip", period=600)
    one = keeper(registry)
    await one.poll()
    clock.advance(700)
    await one.poll()
    let_go = (await flow.queues.astatus()).primary
    clock.advance(500)
    await one.poll()

    assert 0 == let_go
    assert ["Ada 00:20:00"] == await results(flow, registry)


MANY = 2_500
"""Schedules, more than one call holds."""


class Counted:
    """Counts the scripts that a runner sends."""

    def __init__(self, runner: Any) -> None:
        self._runner = runner
        self.sent: list[str] = []

    async def send(self, operation: Any) -> Any:
        """Send *operation*."""
        self.sent.append(operation.script.name)
        return await self._runner.send(operation)

    def taken(self) -> Counter[str]:
        """Give what was sent since the last time."""
        sent, self.sent = Counter(self.sent), []
        return sent


@pytest.fixture
async def many(flow: TaskFlow) -> tuple[Scheduler, Counted]:
    """Give a timekeeper of many schedules that are due at once, and its scripts."""
    registry = Registry()

    @registry.task(name="greet")
    def greet() -> None: ...

    for number in range(MANY):
        registry.every(3600, name=f"s{number}")(greet)
    connection = flow.connection
    counted = Counted(connection.async_runner)
    runner: Any = counted
    served, clock = registry.schedules(), connection.clock
    return Scheduler(runner, connection.keys, served, clock, Random(1)), counted


async def test_many_schedules_cost_an_idle_worker_one_script_a_look(many):
    """They are announced once, a hundred at a time, and never again."""
    keeper, counted = many
    await keeper.poll()
    first = counted.taken()
    waits = [await keeper.poll() for _ in range(3 * MANY // 100)]

    assert {"poll_schedules": 1, "upsert_schedule": MANY // 100} == first
    assert {1.0} == set(waits)
    assert {"poll_schedules": len(waits)} == counted.taken()


async def test_many_ticks_at_once_are_made_a_hundred_at_a_time(flow, clock, many):
    """In as many scripts as there are hundreds, whatever is due."""
    one, counted = many
    await one.poll()
    clock.advance(3600)
    counted.taken()
    await one.poll()
    made = counted.taken()
    await one.poll()

    assert MANY == (await flow.queues.astatus()).primary
    assert {"poll_schedules": 1, "tick": MANY // 100} == made
    assert {"poll_schedules": 1} == counted.taken()


async def test_schedules_that_were_lost_are_announced_again_with_their_next_ticks(
    flow, clock, many
):
    """A tick that was due meanwhile is made: an empty server forgets none of them."""
    keeper, counted = many
    await keeper.poll()
    flow.connection.server.sync_client().flushdb()
    clock.advance(3605)
    counted.taken()
    await keeper.poll()
    sent = counted.taken()

    assert MANY // 100 == sent["upsert_schedule"]
    assert MANY == (await flow.queues.astatus()).primary


async def test_one_schedule_of_many_that_is_removed_is_found_by_the_next_look(
    flow, many
):
    """By the number of those that are left."""
    keeper, counted = many
    await keeper.poll()
    await keeper.poll()
    await flow.schedules.aremove(f"s{MANY - 1}")
    counted.taken()
    await keeper.poll()
    sent = counted.taken()

    assert (1 + MANY // 100, 1) == (sent["poll_schedules"], sent["upsert_schedule"])
    await keeper.poll()
    assert {"poll_schedules": 1} == counted.taken()


async def test_many_timekeepers_make_each_tick_once(flow, clock, keeper):
    """They all look at the same moment."""
    registry = registry_of()
    crowd = [keeper(registry) for _ in range(20)]
    await asyncio.gather(*(each.poll() for each in crowd))
    for _ in range(5):
        clock.advance(10)
        await asyncio.gather(*(each.poll() for each in crowd))

    assert [f"Ada 00:00:{second}0" for second in range(1, 6)] == await results(
        flow, registry
    )


@pytest.mark.parametrize(
    ("missed", "made"),
    [
        ("last", ["Ada 00:05:00"]),
        ("all", [f"Ada 00:0{n // 6}:{n % 6}0" for n in range(1, 31)]),
        ("skip", ["Ada 00:05:00"]),
    ],
)
async def test_ticks_that_nobody_made_are_made_up_for(
    flow, clock, keeper, missed, made
):
    """As the policy says, by whoever comes first."""
    registry = registry_of(missed)
    await keeper(registry).poll()
    clock.advance(300)
    await asyncio.gather(*(keeper(registry).poll() for _ in range(3)))

    assert made == await results(flow, registry)


async def test_a_paused_schedule_makes_no_tick_and_goes_on(flow, clock, keeper):
    """By a client that has none of its code."""
    registry = registry_of()
    one = keeper(registry)
    await one.poll()
    await flow.schedules.apause("ten")
    clock.advance(30)
    await one.poll()
    paused = (await flow.schedules.alist())[0].paused_at
    await flow.schedules.aresume("ten")
    clock.advance(10)
    await one.poll()

    assert paused == datetime(2026, 1, 1, tzinfo=UTC)
    assert ["Ada 00:00:40"] == await results(flow, registry)


async def test_a_schedule_is_run_now_and_its_ticks_stay(flow, clock, keeper):
    """By a client that has none of its code; such a run is for no tick."""
    registry = Registry()

    @registry.cron("@hourly", arguments={"who": "Ada"}, name="hourly")
    @registry.task(name="greet")
    def greet(ctx: taskflow.Context, who: str) -> str:
        return f"{who} {ctx.tick}"

    await keeper(registry).poll()
    before = await flow.schedules.alist()
    task_id = await flow.schedules.arun("hourly")

    assert ["Ada None"] == await results(flow, registry)
    assert before == await flow.schedules.alist()
    assert "COMPLETED" == (await flow.tasks.aget(task_id)).state


async def test_a_definition_whose_workers_are_gone_is_taken_over(flow, clock, keeper):
    """During a deploy the old and the new one do not take turns."""
    old, new = registry_of(period=10), registry_of(period=7)
    first, second = keeper(old), keeper(new)
    await first.poll()
    await second.poll()
    clock.advance(10)
    await first.poll()
    during = (await flow.schedules.alist())[0].when
    clock.advance(100)
    await first.poll()
    after = (await flow.schedules.alist())[0].when

    assert ("every 0:00:07", "every 0:00:10") == (during, after)


async def test_a_removed_schedule_is_forgotten(flow, keeper):
    """A worker that still serves it makes it known again."""
    one = keeper(registry_of())
    await one.poll()
    await flow.schedules.aremove("ten")
    gone = await flow.schedules.alist()
    await one.poll()

    assert [] == gone
    assert ["ten"] == [each.name for each in await flow.schedules.alist()]


def test_the_blocking_twins_do_the_same(flow):
    """List, pause, resume, run, remove."""

    async def announce() -> None:
        connection = flow.connection
        keeper = Scheduler(
            connection.async_runner,
            connection.keys,
            registry_of().schedules(),
            connection.clock,
            Random(1),
        )
        await keeper.poll()
        await connection.aclose()

    asyncio.run(announce())
    flow.schedules.pause("ten")
    paused = flow.schedules.list()[0].paused_at
    flow.schedules.resume("ten")
    task_id = flow.schedules.run("ten")
    flow.schedules.remove("ten")

    assert paused is not None
    assert "greet" == flow.tasks.get(task_id).name
    assert [] == flow.schedules.list()
    for act in (flow.schedules.pause, flow.schedules.resume, flow.schedules.run):
        with pytest.raises(ScheduleNotFoundError):
            act("ten")


async def test_a_worker_that_cannot_call_its_schedules_does_not_start(flow):
    """It says which argument is wrong, before it claims anything."""
    registry = Registry()

    @registry.every(1, arguments={"number": "one"})
    @registry.task(name="count")
    def count(number: int) -> None:
        """Do nothing."""

    with pytest.raises(PayloadError, match=r"\$\.number"):
        await Worker(flow, registry=registry).arun()


async def test_a_scheduler_ticks_and_claims_nothing(server_url):
    """It beats, and says what it is; the tasks wait for a worker."""
    registry = registry_of(period=0.1)
    with TaskFlow(server_url) as flow:
        scheduler = Worker(flow, registry=registry, claims=False)
        running = asyncio.create_task(scheduler.arun())
        async with asyncio.timeout(10):
            while (await flow.queues.astatus()).primary < 3:  # noqa: ASYNC110 - told by nobody
                await asyncio.sleep(0.02)
        (seen,) = await flow.workers.alist()
        scheduler.stop()
        await running
        status = await flow.queues.astatus()
        await flow.connection.aclose()

    assert ("scheduler", 0, []) == (
        seen.info["kind"],
        seen.info["concurrency"],
        seen.info["running"],
    )
    assert 0 == status.states[taskflow.TaskState.ACTIVE]
    assert 0 == status.served_primary
