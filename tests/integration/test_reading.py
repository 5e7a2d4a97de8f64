"""Who only looks changes nothing: every call that reads, on something of every kind."""

import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from taskflow import TaskFlow, TaskState
from taskflow.errors import TaskFlowError
from tests.support.fuzz_strings import foreign_keys, is_same
from tests.support.keyspace import dump
from tests.support.population import WORKER, populate, registry

PREFIX = "reads:"
WRITES = {
    *("cancel", "close", "enqueue"),
    *("enqueue_many", "edit", "discard", "requeue", "delete", "retry", "drain"),
    *("requeue_orphaned", "pause", "resume", "reset", "run", "remove"),
    *("force_open", "force_close", "record"),
    *("task", "cron", "every"),
}
"""Verbs that change something; all others only look. `close` leaves the server."""

PARTS = ("", "tasks", "dlq", "queues", "upstreams", "workers", "schedules", "audit_log")


@pytest_asyncio.fixture
async def ids(flow: TaskFlow) -> dict[str, str]:
    """Give the ids of a task of every kind."""
    return await populate(flow)


@pytest_asyncio.fixture
async def flow(server_url: str) -> AsyncIterator[TaskFlow]:
    """Give a flow on each kind of server."""
    with TaskFlow(server_url, prefix=PREFIX, registry=registry) as made:
        yield made
        await made.connection.aclose()


def looks(flow: TaskFlow) -> list[tuple[str, Callable[..., Any]]]:
    """Find every verb that only looks, those for coroutines too."""
    found = []
    for part in PARTS:
        surface = getattr(flow, part) if part else flow
        for verb in (name for name in dir(surface) if not name.startswith("_")):
            call = getattr(surface, verb)
            if inspect.isroutine(call) and not {verb, verb[1:]} & WRITES:
                found.append((f"{part}.{verb}", call))
    return found


def ways_to_call(call: Callable[..., Any], ids: dict[str, str]) -> list[dict[str, Any]]:
    """Give arguments: each task there is, or whatever else is needed."""
    needed = {
        name: parameter
        for name, parameter in inspect.signature(call).parameters.items()
        if parameter.default is parameter.empty
    }
    # A result is not waited for: its record would be marked (`watched`).
    given = {"name": "api", "decode": bytes.decode, "timeout": 0}
    base = {name: given[name] for name in needed if name != "task_id"}
    if "task_id" not in needed:
        return [base]
    ended = ("completed", "failed", "cancelled") if "decode" in needed else ids
    return [base | {"task_id": ids[each]} for each in ended]


async def look(call: Callable[..., Any], arguments: dict[str, Any]) -> None:
    """Call it, wait where it must be waited for, and read to the end."""
    try:
        answer = call(**arguments)
        if inspect.isawaitable(answer):
            answer = await answer
        if inspect.isasyncgen(answer):
            assert [each async for each in answer]
        elif inspect.isgenerator(answer):
            assert list(answer)
    except TaskFlowError:
        # It has no result, or is no dead letter: looked at all the same.
        return


async def test_reading_writes_nothing(flow: TaskFlow, ids: dict[str, str]) -> None:
    """Of every public call: not a field, not a time to live, no key of its own."""
    client = flow.connection.server.sync_client()
    assert {*TaskState} == {flow.tasks.get(each).state for each in ids.values()} | {
        flow.dlq.list().items[0].state
    }
    found = looks(flow)
    before = dump(client)
    for name, call in found:
        for arguments in ways_to_call(call, ids):
            await look(call, arguments)
            assert is_same(before, dump(client)), name
    client.close()

    names = {name for name, _ in found}
    assert {".adoctor", ".result", "dlq.aexport", "dlq.groups", "tasks.list"} <= names
    assert {
        "audit_log.alist",
        "queues.status",
        "upstreams.get",
        "workers.list",
    } <= names
    assert [] == foreign_keys(before, PREFIX)
    assert any(WORKER in key for key in before)


async def test_waiting_marks_the_record_and_nothing_else(
    flow: TaskFlow, ids: dict[str, str]
) -> None:
    """The one reading that leaves a trace, so that its waiter can be told."""
    client = flow.connection.server.sync_client()
    before = dump(client)
    with pytest.raises(TimeoutError):
        flow.result(ids["waiting"], bytes.decode, 0)
    after = dump(client)
    client.close()
    record = after[flow.connection.keys.task(ids["waiting"])]

    assert record.pop("watched").isdecimal()
    assert is_same(before, after)
