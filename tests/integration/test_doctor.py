"""The doctor against each kind of server."""

from collections.abc import Iterator

import pytest

import taskflow
from taskflow import Finding, TaskFlow
from taskflow._protocol.keys import Keys
from taskflow._protocol.upkeep import heartbeat
from tests.support.keyspace import NOW, Stage, record

registry = taskflow.Registry()


@registry.task(name="add")
def add(x: int, y: int) -> int:
    """Add."""
    return x + y


@pytest.fixture
def flow(server_url: str, keys: Keys) -> Iterator[TaskFlow]:
    """Give a flow on each kind of server, under the prefix of the stage."""
    with TaskFlow(server_url, prefix=keys.prefix, registry=registry) as made:
        yield made


def by_check(findings: tuple[Finding, ...]) -> dict[str, Finding]:
    """Give findings by what they are about."""
    return {finding.check: finding for finding in findings}


def test_every_check_has_its_finding(flow: TaskFlow) -> None:
    """In the same order, whatever the server."""
    flow.enqueue_many([add.call(each, each) for each in range(700)])
    findings = flow.doctor()

    assert [
        "installation",
        "extras",
        "server",
        "role",
        "eviction",
        "persistence",
        "memory",
        "clock",
        "data",
        "workers",
        "lanes",
        "upstreams",
        "schedules",
        "homes",
        "records",
    ] == [finding.check for finding in findings]
    found = by_check(findings)
    assert ("error", "no worker is alive, and there is work: 700 PENDING") == (
        found["workers"].severity,
        found["workers"].what,
    )
    assert "each of 700 records stands in its one home" == found["homes"].what


async def test_the_doctor_comes_to_a_coroutine_too(flow: TaskFlow) -> None:
    """The same checks, from a loop."""
    connection = flow.connection
    alive = heartbeat(
        connection.keys, worker="w", info=b"{}", ttl_ms=60_000, known="", new="d1"
    )
    await connection.async_runner.send(alive)
    await flow.queues.apause("retry")
    found = by_check(await flow.adoctor())
    await flow.aclose()

    assert ("ok", "1 alive") == (found["workers"].severity, found["workers"].what)
    assert ("warning", "taskflow queues resume retry") == (
        found["lanes"].severity,
        found["lanes"].do,
    )


def test_records_out_of_their_homes_are_found_and_brought_back(
    stage: Stage, server_url: str
) -> None:
    """The doctor names them; the command it names mends what was lost."""
    stage.fill(
        {
            "task:lost": record(),
            "task:running": record("ACTIVE"),
            "task:well": record("COMPLETED"),
            "tasks:completed": {"well": NOW},
        }
    )
    with TaskFlow("memory://", prefix=stage.keys.prefix) as flow:
        flow.connection._runner = stage.runner  # the server that stage has filled
        sick = by_check(flow.doctor())["homes"]
        report = flow.tasks.requeue_orphaned()
        well = by_check(flow.doctor())["homes"]
        flow.connection._runner = None

    assert sick.do.startswith("taskflow doctor --repair, or taskflow requeue-orphaned")
    assert "lost (PENDING in none)" in sick.what
    assert "running (ACTIVE in none)" in sick.what
    assert (2, "ok") == (report.requeued, well.severity)


def test_who_waits_twice_is_found(stage: Stage) -> None:
    """And a foreign entry, and a foreign type, are findings and no traceback."""
    stage.fill({"task:1": record(), "tasks:pending:primary": ["1", "2", "1"]})
    with TaskFlow("memory://", prefix=stage.keys.prefix) as flow:
        flow.connection._runner = stage.runner
        twice = by_check(flow.doctor())["homes"]
        stage.client.set("tasks:failed", "foreign")
        foreign = by_check(flow.doctor())
        flow.connection._runner = None

    assert "1 (PENDING in PENDING:primary, PENDING:primary)" in twice.what
    assert "2 (no record in PENDING:primary)" in twice.what
    assert "taskflow doctor --repair" == twice.do
    assert {"error"} == {foreign[name].severity for name in ("workers", "homes")}


def test_a_server_that_is_away_is_a_finding() -> None:
    """The doctor is asked when something is wrong."""
    with TaskFlow("redis://127.0.0.1:1") as flow:
        findings = flow.doctor()

    assert ["installation", "extras", "server"] == [each.check for each in findings]
    assert "error" == findings[-1].severity
    assert "the server gave no answer" in findings[-1].what
