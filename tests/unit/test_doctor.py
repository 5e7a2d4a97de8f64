"""What each check makes of the facts."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from attrs import evolve

from taskflow import QueueStatus, TaskState, UpstreamStatus, WorkerStatus
from taskflow._client import doctor, record_findings
from taskflow._client.consistency import Misplaced, Proof, Repair, RepairedRecord
from taskflow._protocol.consistency import ServerFacts
from taskflow._protocol.invariants import Broken, Snapshot
from taskflow._protocol.schedules import ScheduleList, ScheduleStatus

GIB = 1_073_741_824
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def facts(**told: object) -> ServerFacts:
    """Give facts as a server tells them."""
    return ServerFacts(0, {name: str(value) for name, value in told.items()})


@pytest.mark.parametrize(
    ("told", "severity", "what"),
    [
        ({}, "warning", "found at h:1; no replica is connected"),
        ({"connected_slaves": 1}, "note", "with 1 replica; cut off from them"),
        (
            {"connected_slaves": 2, "min_slaves_good_slaves": 2},
            "ok",
            "found at h:1, with 2 replicas",
        ),
    ],
)
def test_what_fails_over_needs_somebody_to_fail_over_to(told, severity, what):
    """The doctor says where it found the primary, and what is behind it."""
    finding = doctor._role(facts(role="master", **told), "h:1")

    assert severity == finding.severity
    assert what in finding.what


@pytest.mark.parametrize(
    ("check", "told", "severity", "what"),
    [
        ("_version", {"redis_version": "7.2.4"}, "ok", "Redis 7.2.4"),
        ("_version", {"redis_version": "6.2.0"}, "ok", "Redis 6.2.0"),
        ("_version", {"redis_version": "6.0.16"}, "error", "Redis 6.0.16 is too old"),
        (
            "_version",
            {
                "redis_version": "7.2.4",
                "server_name": "valkey",
                "valkey_version": "9.1",
            },
            "ok",
            "Valkey 9.1",
        ),
        ("_version", {}, "unknown", "cannot be told"),
        ("_role", {"role": "master"}, "ok", "primary"),
        ("_role", {"role": "slave"}, "error", "replica (slave)"),
        ("_role", {}, "unknown", "cannot be told"),
        ("_eviction", {"maxmemory_policy": "noeviction"}, "ok", "evicts nothing"),
        (
            "_eviction",
            {"maxmemory_policy": "allkeys-lru", "maxmemory": 0},
            "warning",
            "it would drop tasks",
        ),
        (
            "_eviction",
            {"maxmemory_policy": "volatile-ttl", "maxmemory": GIB},
            "error",
            "a full server drops tasks",
        ),
        ("_eviction", {}, "unknown", "cannot be told"),
        ("_persistence", {"aof_enabled": 1}, "ok", "is on"),
        ("_persistence", {"aof_enabled": 0}, "warning", "is off"),
        (
            "_persistence",
            {"aof_enabled": 1, "aof_last_write_status": "err"},
            "error",
            "could not write to its disk (aof_last_write_status)",
        ),
        ("_persistence", {}, "unknown", "cannot be told"),
        ("_memory", {"used_memory": GIB, "maxmemory": 0}, "ok", "no limit is set"),
        (
            "_memory",
            {"used_memory": GIB, "maxmemory": 4 * GIB},
            "ok",
            "1024.0 MiB used, 25% of its limit",
        ),
        (
            "_memory",
            {"used_memory": 8 * GIB, "maxmemory": 10 * GIB},
            "warning",
            "80% of its limit",
        ),
        (
            "_memory",
            {"used_memory": 95, "maxmemory": 0, "total_system_memory": 100},
            "error",
            "95% of the machine's memory",
        ),
        ("_memory", {"used_memory": 95}, "unknown", "cannot be told"),
    ],
)
def test_a_fact_makes_a_finding(
    check: str, told: dict[str, object], severity: str, what: str
) -> None:
    """Of the severity that fits; what is wrong comes with what to do."""
    finding = getattr(doctor, check)(facts(**told))

    assert severity == finding.severity
    assert what in finding.what
    assert (severity in {"warning", "error"}) == bool(finding.do)


@pytest.mark.parametrize(
    ("ahead", "trip", "severity", "what"),
    [
        (1.9, 0.0, "ok", "within 2 s"),
        (3.0, 2.0, "ok", "within 2 s"),
        (7.5, 0.1, "warning", "7.5 s behind the server's"),
        (-7.5, 0.1, "warning", "7.5 s ahead of the server's"),
    ],
)
def test_clocks_may_differ_a_little(
    ahead: float, trip: float, severity: str, what: str
) -> None:
    """And a slow answer proves no difference."""
    finding = doctor._clock(ahead, trip)

    assert severity == finding.severity
    assert what in finding.what


def status(**states: int) -> QueueStatus:
    """Give counts."""
    every = {state: states.get(state.value, 0) for state in TaskState}
    empty: Any = (None, None, 0.3, 0, 0, (), None)
    return QueueStatus(NOW, 0, 0, 0, 0, 0, 0, every, *empty)


def worker(*, alive: bool, kind: str = "worker", polled: float = 1.0) -> WorkerStatus:
    """Give a worker."""
    return WorkerStatus(
        "w", alive, NOW, draining=False, info={"kind": kind, "polled": polled}
    )


@pytest.mark.parametrize(
    ("days", "severity"), [(None, "ok"), (0, "warning"), (6.9, "warning"), (7.1, "ok")]
)
def test_a_loss_of_data_is_reported_for_a_week(
    days: float | None, severity: str
) -> None:
    """What operators had set is lost with it, and nothing else says so."""
    lost_at = None if days is None else NOW - timedelta(days=days)
    finding = doctor._data(evolve(status(), data_lost_at=lost_at))

    assert ("data", severity) == (finding.check, finding.severity)


@pytest.mark.parametrize(
    ("workers", "states", "severity", "what"),
    [
        ([worker(alive=True)], {"PENDING": 3}, "ok", "1 alive"),
        (
            [worker(alive=True), worker(alive=True, polled=60)],
            {},
            "warning",
            "beat and ask for no work: w",
        ),
        ([worker(alive=True, polled=60)], {}, "error", "beat and ask for no work"),
        ([worker(alive=False)], {"COMPLETED": 3}, "warning", "no worker is alive"),
        (
            [worker(alive=True, kind="scheduler")],
            {"PENDING": 3, "ACTIVE": 1, "DLQ": 2},
            "error",
            "there is work: 3 PENDING, 1 ACTIVE",
        ),
    ],
    ids=["alive", "one stuck", "all stuck", "gone", "scheduler only"],
)
def test_work_without_a_worker_is_an_error(
    workers: list[WorkerStatus], states: dict[str, int], severity: str, what: str
) -> None:
    """No work and no worker may be meant so."""
    finding = doctor._workers(status(**states), workers)

    assert severity == finding.severity
    assert what in finding.what


def schedule(name: str, late: float, *, paused: bool = False) -> ScheduleStatus:
    """Give a schedule whose tick nobody has made for *late* seconds."""
    at = NOW - timedelta(seconds=late)
    held = NOW if paused else None
    return ScheduleStatus(name, "f", "hourly", "run", "d", at, None, "", held)


@pytest.mark.parametrize(
    ("known", "severity", "what"),
    [
        ([], "ok", "0 known"),
        ([schedule("a", 59), schedule("b", -60)], "ok", "2 known, none is late"),
        ([schedule("a", 3600, paused=True)], "ok", "none is late"),
        ([schedule("a", 61), schedule("b", 9)], "error", "the ticks of: a"),
        ([schedule(str(each), 99) for each in range(7)], "error", "4 and 2 more"),
    ],
    ids=["none", "served", "paused", "late", "many"],
)
def test_a_schedule_that_nobody_serves_is_an_error(
    known: list[ScheduleStatus], severity: str, what: str
) -> None:
    """A little late is no error, and a paused one is meant so."""
    finding = doctor._schedules(ScheduleList(NOW, tuple(known)))

    assert severity == finding.severity
    assert what in finding.what


def upstream(
    name: str, state: str, hours: float, parked: int = 0, tapped: float = 0
) -> UpstreamStatus:
    """Give an upstream that has been in *state* for *hours*."""
    until = NOW + timedelta(seconds=tapped) if tapped else None
    by = "failures" if state != "closed" else ""
    since = NOW - timedelta(hours=hours)
    return UpstreamStatus(
        *(name, state, by, "", since, None, until, "status 429" if tapped else ""),
        *(0, 0, 0, 0),
        parked={"primary": parked},
    )


@pytest.mark.parametrize(
    ("known", "severity", "what"),
    [
        ([], "ok", "0 known"),
        ([upstream("a", "closed", 5, parked=9)], "ok", "1 known, all may be called"),
        ([upstream("a", "closed", 5, 9, tapped=30)], "warning", "a (status 429), 9"),
        ([upstream("a", "open", 5)], "warning", "a for 5.0 h (failures), 0 parked"),
        ([upstream("a", "half-open", 1, 9)], "warning", "a for 1.0 h"),
        (
            [upstream("a", "open", 9), upstream("b", "open", 3, 4000)],
            "error",
            "b for 3.0 h (failures), 4,000 parked; a for 9.0 h",
        ),
        ([upstream(str(each), "open", 0) for each in range(7)], "warning", "2 more"),
    ],
    ids=["none", "saturated", "tapped", "unused", "trying", "old", "many"],
)
def test_an_upstream_that_holds_up_tasks_for_long_is_an_error(
    known: list[UpstreamStatus], severity: str, what: str
) -> None:
    """Shut is a warning; an error once tasks are parked for longer than they live."""
    finding = doctor._upstreams(known, NOW, 7200.0)

    assert severity == finding.severity
    assert what in finding.what


def misfit(
    task_id: str, state: str, homes: tuple[str, ...], what: str = ""
) -> Misplaced:
    """Give a task of which something does not hold."""
    seen = Snapshot(task_id, state, "primary" if state else "", homes=homes)
    return Misplaced(seen, (Broken("I3", task_id, what),))


LOST = misfit("t1", "PENDING", ())
GHOST = misfit("t2", "", ("COMPLETED",))
TORN = misfit("t3", "ACTIVE", ("ACTIVE",), "has 'x' crashes")
EMPTY = Broken("I15", "f" * 12, "a group of 0 letters is listed and empty")


@pytest.mark.parametrize(
    ("proof", "severity", "what", "do"),
    [
        (Proof(1200), "ok", "each of 1,200 records", ""),
        (Proof(9, (TORN,)), "ok", "each of 9 records", ""),
        (Proof(1200, unproven=7), "unknown", "7 records could not be proven", ""),
        (
            Proof(9, (LOST, GHOST)),
            "error",
            "t1 (PENDING in none); t2 (no record in COMPLETED)",
            "taskflow doctor --repair, or taskflow requeue-orphaned for the lost alone",
        ),
        (
            Proof(9, (GHOST,) * 8, 4),
            "error",
            "and up to 7 more",
            "taskflow doctor --repair",
        ),
    ],
    ids=["proven", "torn", "unproven", "lost", "ghosts"],
)
def test_a_record_out_of_its_home_is_an_error(
    proof: Proof, severity: str, what: str, do: str
) -> None:
    """Named, with where it stands and what brings it back."""
    finding = record_findings._homes(proof)

    assert (severity, do) == (finding.severity, finding.do)
    assert what in finding.what


@pytest.mark.parametrize(
    ("proof", "severity", "what", "do"),
    [
        (Proof(1200, (LOST,)), "ok", "each of 1,200 records is whole", ""),
        (Proof(1200, unproven=7), "unknown", "7 records could not be proven", ""),
        (
            Proof(9, (TORN,), groups=(EMPTY,)),
            "error",
            f"t3 has 'x' crashes (I3); {'f' * 12}: a group of 0",
            "taskflow doctor --repair",
        ),
        (Proof(9, (TORN,) * 8), "error", "and 3 more", "taskflow doctor --repair"),
    ],
    ids=["whole", "unproven", "torn", "many"],
)
def test_a_record_that_is_torn_is_an_error(
    proof: Proof, severity: str, what: str, do: str
) -> None:
    """Named, with what does not hold and the number of its rule."""
    finding = record_findings._records(proof)

    assert (severity, do) == (finding.severity, finding.do)
    assert what in finding.what


@pytest.mark.parametrize(
    ("done", "severity", "what"),
    [
        ((), "ok", "each of 9 records is whole"),
        (
            (RepairedRecord("t1", ("key", "letter")),),
            "note",
            "1 put right: t1 (key, letter)",
        ),
        (
            (RepairedRecord("t1", ()), RepairedRecord("t2", (), (EMPTY,))),
            "error",
            "1 could not be put right: t2 (a group of 0 letters",
        ),
    ],
    ids=["nothing", "all", "less"],
)
def test_a_repair_says_what_it_put_right(
    done: tuple[RepairedRecord, ...], severity: str, what: str
) -> None:
    """And what it could not."""
    finding = record_findings._amended(Repair(9, amended=done))

    assert severity == finding.severity
    assert what in finding.what


def test_the_clash_of_names_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the commands that end it."""
    monkeypatch.setattr(doctor, "version", lambda name: "6.5.0")
    finding = next(doctor._installation())

    assert ("installation", "error") == (finding.check, finding.severity)
    assert finding.do.startswith("uninstall both")


def test_a_missing_extra_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    """It costs speed, and nothing else."""
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    *_, finding = doctor._installation()

    assert ("extras", "note") == (finding.check, finding.severity)
    assert "hiredis and uvloop" in finding.what
