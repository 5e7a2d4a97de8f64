"""Repair mends whatever a hand broke, and harms nothing that is well."""

import asyncio
import os
import random
import threading
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

import taskflow
from taskflow import Finding, RetryPolicy, TaskFlow, TaskState
from taskflow._client.consistency import prove
from taskflow._client.sansio import run
from taskflow._protocol import settle as verbs
from taskflow._protocol.actions import cancel, delete
from taskflow._protocol.settle import settle
from taskflow.errors import TaskNotFoundError
from taskflow.testing import arun_until_idle
from tests.support import population
from tests.support.corruption import corrupt
from tests.support.fuzz_strings import foreign_keys
from tests.support.invariants import Broken, broken
from tests.support.keyspace import LEASE, NOW, WHY, Stage, dump
from tests.support.population import populate

DEPTH = int(os.environ.get("TASKFLOW_DEPTH", "1"))
ROUNDS = DEPTH * 12
DEEDS = 10
WAITING = ("tasks:pending:primary", "tasks:pending:retry", "tasks:suspects")
SORTED = (
    "tasks:active",
    "tasks:scheduled",
    "tasks:completed",
    "tasks:failed",
    "tasks:cancelled",
    "dlq:tasks",
)
FIELDS = (
    *("state", "lane", "token", "finished_ms", "attempts", "crashes", "created_ms"),
    *("payload", "spec", "history", "parked"),
)
VALUES = (
    *("", "PENDING", "ACTIVE", "COMPLETED", "DLQ", "bad", "retry", "1 api"),
    "\n".join(["1 {}"] * 30),
)
registry = taskflow.Registry()


@registry.task(name="add")
def add(x: int, y: int) -> int:
    """Add."""
    return x + y


@registry.task(name="dies", retry=RetryPolicy(max_retries=0))
def dies(kind: int) -> None:
    """Become a dead letter, one of a few kinds."""
    raise [ValueError, KeyError, OSError, TypeError, IndexError][kind]


def healthy(stage: Stage) -> None:
    """Bring tasks into every state, by the protocol."""
    stage.enqueue(*[f"p{each}" for each in range(6)])
    stage.enqueue("s1", "s2", delay_ms=60_000)
    stage.enqueue("x1", "x2")
    for each in ("x1", "x2"):
        stage.send(cancel(stage.keys, each, now_ms=NOW))
    stage.enqueue("d1")
    stage.send(delete(stage.keys, "d1", force=False, now_ms=NOW))
    for each in ("k1", "k2"):
        stage.enqueue(each, key=f"n:{each}", key_ttl_ms=10**9, digest="d")
    stage.send(cancel(stage.keys, "k2", now_ms=NOW))
    held = stage.claim(5).claims
    outcomes = [
        verbs.complete(held[0], b"1"),
        verbs.dead_letter(held[1], WHY, cause="permanent", uses_attempt=True, entry={}),
        verbs.retry(held[2], WHY, delay=2, uses_attempt=True, entry={}),
        verbs.fail(held[3], WHY, uses_attempt=True, entry={}),
    ]
    stage.send(settle(stage.keys, outcomes, now_ms=NOW))


def damages(client: Any, rng: random.Random) -> list[Callable[[], Any]]:
    """Give what a careless hand may do to one task, or to one entry."""
    task_id = rng.choice(
        [key.decode()[5:] for key in client.keys("task:*")] + ["ghost"]
    )
    list_key, zset = rng.choice(WAITING), rng.choice(SORTED)
    field = rng.choice(FIELDS)
    value = rng.choice(VALUES)
    letters = [each.decode() for each in client.keys("dlq:task:*")] or ["dlq:task:d"]
    letter = rng.choice(letters)
    group = rng.choice(["ffffffffffff", "corrupt", "other"])
    return [
        lambda: client.rpush(list_key, task_id),
        lambda: client.lpush(list_key, task_id, task_id),
        lambda: client.lrem(list_key, 0, task_id),
        lambda: client.zadd(zset, {task_id: NOW}),
        lambda: client.zrem(zset, task_id),
        lambda: client.delete(f"task:{task_id}"),
        lambda: client.delete(f"dlq:task:{task_id}"),
        lambda: client.sadd("tasks:tombstones:primary", task_id),
        lambda: client.srem("tasks:tombstones:primary", task_id),
        lambda: task_id == "ghost" or client.hset(f"task:{task_id}", field, value),
        lambda: client.hdel(f"task:{task_id}", field),
        lambda: client.delete(zset),
        lambda: client.delete(list_key),
        lambda: client.hdel(letter, rng.choice(["cause", "error", "fingerprint"])),
        lambda: client.hset(letter, "attempts", "7"),
        lambda: client.zadd(f"dlq:group:{group}", {task_id: NOW}),
        lambda: client.zadd("dlq:groups", {group: NOW}),
        lambda: client.zrem("dlq:groups", group),
        lambda: client.hset(f"dlq:task:{task_id}", "fingerprint", group),
        lambda: client.persist("tasks:key:n:k2"),
        lambda: client.pexpire("tasks:key:n:k1", 10**9),
        lambda: client.zadd("tasks:active", {task_id: NOW + 10**7}, xx=True),
    ]


def doctor(stage: Stage, *, repair: bool = False) -> tuple[Finding, ...]:
    """Ask the doctor about homes and records, by a flow on the server of *stage*."""
    with TaskFlow("memory://", prefix=stage.keys.prefix, clock=lambda: NOW) as flow:
        flow.connection._runner = stage.runner
        findings = flow.doctor(repair=repair)
        flow.connection._runner = None
    return findings[-2:]


def repair(stage: Stage) -> Finding:
    """Repair; give what was found of the homes."""
    return doctor(stage, repair=True)[0]


def is_for_a_person(each: Broken) -> bool:
    """Tell what no repair can know: the payload of a task that has ended."""
    return "has no payload" in each.what or "has no spec" in each.what


@pytest.mark.timeout(60 + ROUNDS)
def test_whatever_a_hand_broke_is_mended(stage: Stage) -> None:
    """No record is lost, nothing stays broken, and a second repair does nothing."""
    for seed in range(ROUNDS):
        rng = random.Random(seed)
        stage.client.flushdb()
        healthy(stage)
        for _ in range(rng.randint(1, 6)):
            rng.choice(damages(stage.client, rng))()
        sick = stage.dump()
        found = doctor(stage, repair=True)
        well = stage.dump()

        assert found[0].severity in {"ok", "note"}, (seed, found)
        wrong = [
            each
            for each in broken(well, now_ms=NOW, lease_ms=LEASE)
            if not is_for_a_person(each)
        ]
        assert [] == wrong, (seed, found)
        for key, fields in sick.items():
            if key.startswith("task:") and "payload" in fields:
                assert fields["payload"] == well[key]["payload"], seed
        again = repair(stage)
        assert "ok" == again.severity, (seed, again)
        assert well == stage.dump(), seed


@pytest.mark.timeout(60 + ROUNDS)
def test_the_doctor_finds_what_the_tests_find(stage: Stage) -> None:
    """Looking in steps at a server, and judging the whole keyspace, name the same."""
    for seed in range(ROUNDS):
        rng = random.Random(seed)
        stage.client.flushdb()
        healthy(stage)
        for _ in range(rng.randint(0, 4)):
            rng.choice(damages(stage.client, rng))()
        sick = stage.dump()
        with TaskFlow("memory://", prefix=stage.keys.prefix, clock=lambda: NOW) as flow:
            proof = run(prove(flow.connection), stage.runner)
        found = [each for misfit in proof.misfits for each in misfit.broken]
        found += proof.groups

        assert sorted(broken(sick, now_ms=NOW, lease_ms=LEASE)) == sorted(found), seed
        assert sick == stage.dump(), seed


def test_what_is_well_is_not_touched(stage: Stage) -> None:
    """A repair of a healthy keyspace writes nothing."""
    healthy(stage)
    before = stage.dump()

    assert "ok" == repair(stage).severity
    assert before == stage.dump()


def test_the_repair_says_what_it_did(stage: Stage) -> None:
    """Id, state, where it stood and where it is now."""
    healthy(stage)
    stage.client.zrem("tasks:scheduled", "s1")
    stage.client.rpush("tasks:pending:retry", "ghost")
    found = repair(stage)

    assert "note" == found.severity
    assert "s1 (SCHEDULED in none): back in the retry lane" in found.what
    assert "ghost (no record in PENDING:retry): entries without a record" in found.what
    assert "1 back in the retry lane, 1 entries without" in found.what


async def test_a_repair_under_load_harms_nothing(server_url: str) -> None:
    """Tasks come and go while it looks, over and over: each runs once."""
    ended = threading.Event()
    words: list[Finding] = []
    with TaskFlow(server_url, registry=registry) as flow:

        def look() -> None:
            while not ended.is_set():
                words.extend(flow.doctor(repair=True)[-2:])

        looking = threading.Thread(target=look)
        looking.start()
        handles = []
        for _ in range(15):
            calls = [add.call(each, 1) for each in range(40)]
            handles += await flow.aenqueue_many(calls)
            dying = [dies.options(key=str(uuid4())).call(each) for each in range(5)]
            await flow.aenqueue_many(dying)
            await arun_until_idle(flow, concurrency=20)
            await flow.dlq.arequeue(everything=True)
            await arun_until_idle(flow, concurrency=20)
            await flow.dlq.adiscard(everything=True)
        ended.set()
        looking.join()
        records = [flow.tasks.get(handle.id) for handle in handles]
        await flow.aclose()

    assert {"ok"} == {each.severity for each in words}, words
    assert {(TaskState.COMPLETED, 1)} == {(r.state, r.deliveries) for r in records}


@pytest.mark.parametrize("seed", range(3))
async def test_no_corrupt_record_stops_a_worker(real_stage: Stage, seed: int) -> None:
    """Records are torn at random, and what comes after them runs."""
    rng = random.Random(seed)
    client = real_stage.client
    socket = client.connection_pool.connection_kwargs["path"]
    with TaskFlow(f"unix://{socket}", registry=registry) as flow:
        flow.enqueue_many([add.call(1, each) for each in range(200)])
        for key in client.keys("task:*"):
            field = rng.choice(list(client.hkeys(key)))
            rng.choice(
                [
                    lambda key=key, field=field: client.hdel(key, field),
                    lambda key=key, field=field: client.hset(key, field, b"\xff{"),
                    lambda key=key: client.delete(key),
                    lambda key=key: (client.delete(key), client.set(key, "foreign")),
                    lambda key=key: (client.delete(key), client.rpush(key, "list")),
                ]
            )()
        last = flow.enqueue(add.call(2, 3))
        await arun_until_idle(flow, concurrency=20)
        assert 5 == await last.aresult(timeout=1)
        homes = [each for each in flow.doctor(repair=True) if each.check == "homes"]
        await flow.aclose()

    assert "records" in homes[0].what, homes

    assert [] == [
        each
        for each in broken(dump(client), now_ms=NOW, lease_ms=10**12)
        if each.rule == "I1" and "without a record" not in each.what
    ]


def everything(flow: TaskFlow, ids: list[str]) -> None:
    """Look at all that can be looked at."""
    flow.queues.status()
    flow.tasks.list(limit=200)
    flow.dlq.list(limit=200)
    flow.dlq.groups()
    flow.upstreams.status()
    flow.schedules.list()
    flow.workers.list()
    flow.audit_log.list(limit=200)
    list(flow.dlq.export())
    for task_id in ids:
        try:
            flow.tasks.get(task_id)
            flow.tasks.news(task_id)
        except TaskNotFoundError:
            continue


def not_mended(found: dict[str, Any]) -> list[str]:
    """Give what a repair should have mended: records that stand nowhere, or twice.

    A key of a foreign type, or without state and payload, is no record and is left
    as it is, with its entries; so is what is written inside of a record.
    """
    records = {
        key: value
        for key, value in found.items()
        if not key.startswith("task:") or (isinstance(value, dict) and "state" in value)
    }
    letters = {
        key: value
        for key, value in records.items()
        if not key.startswith("dlq:task:") or isinstance(value, dict)
    }
    known = {key.removeprefix("task:") for key in letters if key.startswith("task:")}
    return [
        f"{each.where} {each.what}"
        for each in broken(letters, now_ms=NOW, lease_ms=10**12)
        if each.rule == "I1" and each.where in known
        if "runs and is parked" not in each.what
    ]


@pytest.mark.timeout(60 + 20 * DEPTH)
def test_corruption_of_some_tasks_does_not_stop_the_others(real_stage: Stage) -> None:
    """Workers go on, all can still be looked at, and each record gets its one home."""
    client = real_stage.client
    socket = client.connection_pool.connection_kwargs["path"]

    async def attempt(rng: random.Random) -> None:
        with TaskFlow(f"unix://{socket}", registry=population.registry) as flow:
            ids = await populate(flow)
            flow.queues.resume("retry")
            handles = [flow.enqueue(population.add.call(each)) for each in range(3)]
            spared = frozenset(f"task:{each.id}".encode() for each in handles)
            done = [corrupt(client, rng, spared=spared) for _ in range(DEEDS)]
            handles += [flow.enqueue(population.add.call(each)) for each in range(3)]
            async with asyncio.timeout(60):
                await arun_until_idle(flow)
            everything(flow, [*ids.values(), *(each.id for each in handles)])
            flow.tasks.requeue_orphaned()
            flow.doctor(repair=True)
            async with asyncio.timeout(60):
                await arun_until_idle(flow)
            states = {flow.tasks.get(each.id).state for each in handles}
            findings = {each.check: each for each in flow.doctor(repair=True)}
            left = dump(client)
            await flow.connection.aclose()

        assert {TaskState.COMPLETED} == states, done
        assert [] == not_mended(left), (findings["homes"], done)
        assert [] == foreign_keys(left), done
        assert "unknown" not in {each.severity for each in findings.values()}, done

    for seed in range(8 * DEPTH):
        asyncio.run(attempt(random.Random(seed)))


def test_what_has_no_record_is_removed_from_its_groups_at_once(stage: Stage) -> None:
    """Also where it stood in a home as well; a second repair finds nothing."""
    stage.fill(
        {
            "tasks:completed": {"ghost": NOW},
            "dlq:group:f1": {"ghost": NOW},
            "dlq:groups": {"f1": NOW},
        }
    )
    doctor(stage, repair=True)

    assert {} == stage.dump()
