"""A keyspace in which something of every kind stands, made by the protocol."""

import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

from taskflow import Context, Registry, RetryPolicy, TaskFlow, Upstream
from taskflow._codec import to_json
from taskflow._protocol.claim import LaneShare, claim
from taskflow._protocol.schedules import ScheduleUpsert, upsert_schedules
from taskflow._protocol.settle import crash, settle
from taskflow._protocol.upkeep import heartbeat
from taskflow.testing import arun_until_idle

WORKER = "host.example-1.2_3"
LEASE_MS = 3_600_000
registry = Registry()


@registry.task(name="add")
def add(x: int, y: int = 0) -> int:
    """Add two numbers."""
    return x + y


@registry.task(name="anything")
def anything(**values: object) -> int:
    """Take what there is, and count it."""
    return len(values)


@registry.task(name="dies", retry=RetryPolicy(max_retries=0))
async def dies(number: int) -> None:
    """Become a dead letter."""
    message = f"row {number} is empty"
    raise ValueError(message)


@registry.task(name="fails", retry=RetryPolicy(max_retries=0), dead_letter=False)
async def fails() -> None:
    """Fail for good."""
    message = "no"
    raise ValueError(message)


@registry.task(name="returns", retry=RetryPolicy(max_retries=3, wait=[3600]))
async def returns() -> None:
    """Wait for another attempt."""
    message = "not yet"
    raise ValueError(message)


@registry.task(name="tells")
async def tells(ctx: Context) -> None:
    """Emit, report and note."""
    ctx.progress(1, total=2)
    ctx.emit("a word")
    ctx.usage(tokens=3)
    ctx.annotate(page=1)


@registry.task(name="fetch", upstream=Upstream("api", concurrency=3))
async def fetch() -> None:
    """Need an upstream."""


@registry.every(3600.0, name="hourly", arguments={"x": 1})
@registry.task(name="ticks")
def ticks(x: int) -> int:
    """Run by itself."""
    return x


def _hold(flow: TaskFlow) -> list[Any]:
    """Claim all that waits, as a worker whose lease is long."""
    call = claim(
        flow.connection.keys,
        worker=WORKER,
        nonce=f"1-{secrets.randbits(40)}",
        slots=100,
        lease_ms=LEASE_MS,
        share=LaneShare(),
        suspect=True,
    )
    return list(flow.connection.runner.send(call).claims)


def _forget_workers(flow: TaskFlow) -> None:
    """Delete what would expire while a test looks."""
    with flow.connection.server.sync_client() as client:
        gone = client.keys("*worker:*")
        client.delete(*(each for each in gone if WORKER not in each.decode()))


async def populate(flow: TaskFlow) -> dict[str, str]:
    """Empty a server and fill it; give the id of a task of each kind."""
    keys, send = flow.connection.keys, flow.connection.runner.send
    with flow.connection.server.sync_client() as client:
        client.flushdb()
    ids = {
        "completed": flow.enqueue(add.options(key="order 7").call(1)).id,
        "told": flow.enqueue(tells.call()).id,
        "failed": flow.enqueue(fails.call()).id,
        "dead": flow.enqueue_many([dies.call(each) for each in range(3)])[0].id,
        "retried": flow.enqueue(returns.call()).id,
    }
    await arun_until_idle(flow, registry=registry)
    flow.upstreams.force_open("api", reason="they asked us")
    flow.upstreams.force_open("task:dies", reason="look at this first")
    ids["parked"] = flow.enqueue(fetch.call()).id
    await arun_until_idle(flow, registry=registry)
    ids["suspect"] = flow.enqueue(add.call(3)).id
    for _ in range(2):
        held = [
            crash(each, "was killed", max_crashes=3, entry={}) for each in _hold(flow)
        ]
        send(settle(keys, held))
    ids["active"] = flow.enqueue(add.call(4)).id
    flow.queues.pause("retry")
    _hold(flow)
    (schedule,) = registry.schedules()
    first = datetime.now(UTC) + timedelta(hours=1)
    template = ticks.call(1)
    told = ScheduleUpsert(
        schedule, schedule.digest, template.payload, ticks.spec, first
    )
    send(upsert_schedules(keys, [told]))
    info = to_json({"kind": "worker", "concurrency": 10, "tasks": ["add"]})
    send(heartbeat(keys, worker=WORKER, info=info, ttl_ms=LEASE_MS, known="", new="d1"))
    ids["waiting"] = flow.enqueue(add.call(5)).id
    ids["keyed"] = flow.enqueue(add.options(key="order 8").call(5)).id
    ids["scheduled"] = flow.enqueue(add.options(delay=3600).call(6)).id
    ids["cancelled"] = flow.enqueue(add.call(7)).id
    flow.tasks.cancel(ids["cancelled"])
    flow.tasks.retry(ids["dead"])
    flow.audit_log.record("looked", actor="ada", what="everything")
    _forget_workers(flow)
    return ids
