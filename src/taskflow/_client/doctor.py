"""What can be known of an installation before it loses anything.

Every check gives one finding, whether something is wrong or not. A server that
may not tell about itself (an ACL, a managed host) is no failure: the finding
says that it cannot be told. Nothing is written, unless a repair is asked for.
"""

import time
from collections.abc import Generator, Iterator
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any, Final, TypeAlias

from taskflow._client.finding import Finding, Severity
from taskflow._client.flow_context import FlowContext
from taskflow._client.record_findings import findings_of_proof, findings_of_repair
from taskflow._client.sansio import Plan
from taskflow._protocol import consistency, queue_status, schedules
from taskflow._protocol import upstreams as services
from taskflow._protocol.consistency import ServerFacts
from taskflow._protocol.queue_status import QueueStatus, WorkerStatus
from taskflow._protocol.schedules import ScheduleList
from taskflow._protocol.upstreams import UpstreamStatus
from taskflow.errors import ServerError, ServerRefusedError, ServerUnavailableError

OLDEST_SERVER: Final = (6, 2)
CLOCK_TOLERANCE: Final = 2.0
"""Seconds by which clocks may differ; NTP keeps them within a hundredth of it."""

LOSS_IS_NEWS: Final = 7 * 86_400.0
"""Seconds for which a loss of data is reported."""

UNSERVED_AFTER: Final = 60.0
"""Seconds after its time at which a tick that nobody made is no delay any more."""

_TIGHT: Final = 0.75
_FULL: Final = 0.9
_SHOWN: Final = 5
_LONG_HOURS: Final = 0.1


def name_clash() -> str | None:
    """Say that OpenStack's library of the same import name is installed, if it is."""
    try:
        found = version("taskflow")
    except PackageNotFoundError:
        return None
    return (
        f"the distribution 'taskflow' {found} (OpenStack's) is installed beside "
        "'asynctaskflow', and both own the import package 'taskflow': uninstall "
        "both and install asynctaskflow alone (pip uninstall taskflow "
        "asynctaskflow; pip install asynctaskflow)"
    )


_Findings: TypeAlias = Generator[Any, Any, list[Finding]]


def diagnose(
    connection: FlowContext, *, repair: bool = False
) -> Plan[tuple[Finding, ...]]:
    """Carry out every check.

    Args:
        connection: To the server.
        repair: Whether to mend what does not stand in its one home, or is torn.

    Yields:
        What to ask the server.

    Returns:
        One finding for each check, in a fixed order.
    """
    findings = [*_installation()]
    records = findings_of_repair if repair else findings_of_proof
    parts = {"server": _of_server, "workers": _of_fleet, "homes": records}
    for name, part in parts.items():
        try:
            findings += yield from part(connection)
        except (ServerUnavailableError, ServerRefusedError) as error:
            what = f"{connection.display}: {error}"
            do = "start it, let this user in, or name another: --url, REDIS_URL"
            findings.append(Finding("server", "error", what, do))
            break
        except ServerError as error:
            do = "look for other writers to these keys"
            findings.append(Finding(name, "error", str(error), do))
    return tuple(findings)


def _installation() -> Iterator[Finding]:
    clash = name_clash()
    if clash:
        what, _, do = clash.rpartition(": ")
        yield Finding("installation", "error", what, do)
    else:
        yield Finding("installation", "ok", "no other library owns the name taskflow")
    missing = [name for name in ("hiredis", "uvloop") if find_spec(name) is None]
    if missing:
        what = f"{' and '.join(missing)} not installed: a worker does less per second"
        yield Finding("extras", "note", what, "pip install 'asynctaskflow[fast]'")
    else:
        yield Finding("extras", "ok", "hiredis and uvloop are installed")


def _of_server(connection: FlowContext) -> _Findings:
    before = time.time()
    facts: ServerFacts = yield consistency.server_facts(connection.keys)
    trip = time.time() - before
    return [
        _version(facts),
        _role(facts, connection.server.place),
        _eviction(facts),
        _persistence(facts),
        _memory(facts),
        _clock(facts.now_ms / 1000 - (before + trip / 2), trip),
    ]


def _unknown(check: str) -> Finding:
    return Finding(
        check, "unknown", "cannot be told: the server does not tell about itself"
    )


def _version(facts: ServerFacts) -> Finding:
    told = facts.told.get("redis_version", "")
    name = facts.told.get("server_name", "redis").capitalize()
    shown = f"{name} {facts.told.get('valkey_version', told)}"
    parts = tuple(int(part) for part in told.split(".")[:2] if part.isdecimal())
    if not parts:
        return _unknown("server")
    if parts < OLDEST_SERVER:
        return Finding("server", "error", f"{shown} is too old", "use 6.2 or later")
    return Finding("server", "ok", shown)


def _role(facts: ServerFacts, place: str = "") -> Finding:
    """Say which role the server has.

    Args:
        facts: What it told.
        place: Where it was found, if it fails over; else empty.

    Returns:
        The finding.
    """
    role = facts.told.get("role")
    if role is None:
        return _unknown("role")
    if role != "master":
        primary = facts.told.get("master_host", "its primary")
        what = f"the server is a replica ({role}) and refuses every write"
        return Finding("role", "error", what, f"point REDIS_URL to {primary}")
    count = facts.number("connected_slaves") or 0
    what = "the server is a primary" + (f", found at {place}" if place else "")
    if count:
        what += f", with {count} {'replica' if count == 1 else 'replicas'}"
    elif place:
        what += "; no replica is connected, so nothing can take its place"
        return Finding("role", "warning", what, "start one, or look at its log")
    if place and "min_slaves_good_slaves" not in facts.told:
        what += "; cut off from them, it goes on taking what will be lost"
        do = "CONFIG SET min-replicas-to-write 1, and in its configuration file"
        return Finding("role", "note", what, do)
    return Finding("role", "ok", what)


def _eviction(facts: ServerFacts) -> Finding:
    policy = facts.told.get("maxmemory_policy")
    if policy is None:
        return _unknown("eviction")
    if policy == "noeviction":
        return Finding("eviction", "ok", "the server evicts nothing")
    limited = bool(facts.number("maxmemory"))
    return Finding(
        "eviction",
        "error" if limited else "warning",
        f"maxmemory-policy is {policy}: "
        + ("a full server drops" if limited else "with a memory limit it would drop")
        + " tasks",
        "CONFIG SET maxmemory-policy noeviction",
    )


def _persistence(facts: ServerFacts) -> Finding:
    told = facts.told
    if "aof_enabled" not in told:
        return _unknown("persistence")
    failing = [
        name
        for name in (
            "aof_last_write_status",
            "aof_last_bgrewrite_status",
            "rdb_last_bgsave_status",
        )
        if told.get(name, "ok") != "ok"
    ]
    if failing:
        what = f"the server could not write to its disk ({', '.join(failing)})"
        return Finding("persistence", "error", what, "free space there; see its log")
    if told["aof_enabled"] == "0":
        return Finding(
            "persistence",
            "warning",
            "the append-only file is off: what was stored since the last snapshot, "
            "if there is one, is lost when the server stops",
            "CONFIG SET appendonly yes, and in its configuration file",
        )
    return Finding("persistence", "ok", "the append-only file is on")


def _memory(facts: ServerFacts) -> Finding:
    used, limit = facts.number("used_memory"), facts.number("maxmemory")
    total = facts.number("total_system_memory")
    if used is None or limit is None:
        return _unknown("memory")
    bound, whose = (limit, "its limit") if limit else (total, "the machine's memory")
    if not bound:
        return Finding("memory", "ok", f"{_mebibytes(used)} used; no limit is set")
    share = used / bound
    what = f"{_mebibytes(used)} used, {share:.0%} of {whose}"
    do = "let workers drain, shorten RESULT_TTL, or give it more memory"
    if share >= _FULL:
        return Finding("memory", "error", what, do)
    if share >= _TIGHT:
        return Finding("memory", "warning", what, do)
    return Finding("memory", "ok", what)


def _mebibytes(size: int) -> str:
    return f"{size / 1_048_576:.1f} MiB"


def _clock(ahead: float, trip: float) -> Finding:
    if abs(ahead) <= CLOCK_TOLERANCE + trip:
        what = f"within {CLOCK_TOLERANCE:g} s of the server's"
        return Finding("clock", "ok", f"this machine's clock is {what}")
    word = "behind" if ahead > 0 else "ahead of"
    return Finding(
        "clock",
        "warning",
        f"this machine's clock is {abs(ahead):.1f} s {word} the server's; tasks go by "
        "the server's, but times from both cannot be compared",
        "let NTP set both clocks",
    )


def _of_fleet(connection: FlowContext) -> _Findings:
    keys, now_ms = connection.keys, connection.clock()
    status: QueueStatus = yield queue_status.status(
        keys, connection.share, now_ms=now_ms
    )
    workers: list[WorkerStatus] = yield queue_status.workers(keys, now_ms=now_ms)
    table: ScheduleList = yield schedules.list_schedules(keys, now_ms=now_ms)
    known: list[UpstreamStatus] = yield services.status(keys, now_ms=now_ms)
    longest = connection.settings.queue.max_task_age
    return [
        _data(status),
        _workers(status, workers),
        _lanes(status),
        _upstreams(known, status.now, longest),
        _schedules(table),
    ]


def _data(status: QueueStatus) -> Finding:
    lost_at = status.data_lost_at
    if lost_at is None or (status.now - lost_at).total_seconds() > LOSS_IS_NEWS:
        return Finding("data", "ok", "no worker has seen the server lose its data")
    return Finding(
        "data",
        "warning",
        f"the server lost its data before {lost_at:%Y-%m-%d %H:%M:%S} UTC: tasks and "
        "results are gone, and so are paused lanes and schedules, tasks that were held "
        "back and upstreams that were opened",
        "pause and open again what should be; keep data through restarts: "
        "docs/guide/backup.md",
    )


def _workers(status: QueueStatus, workers: list[WorkerStatus]) -> Finding:
    alive = [each for each in workers if each.alive and each.kind == "worker"]
    stuck = [each.id for each in alive if each.condition(status.now) == "stale"]
    if stuck:
        what = f"beat and ask for no work: {', '.join(stuck[:_SHOWN])}"
        do = "look at their logs; restart them"
        severity: Severity = "warning" if len(stuck) < len(alive) else "error"
        return Finding("workers", severity, what, do)
    if alive:
        return Finding("workers", "ok", f"{len(alive)} alive")
    undone = {
        state.value: count
        for state, count in status.states.items()
        if count and not state.is_final
    }
    if undone:
        what = ", ".join(f"{count} {state}" for state, count in undone.items())
        what = f"no worker is alive, and there is work: {what}"
        return Finding("workers", "error", what, "start taskflow-worker")
    return Finding("workers", "warning", "no worker is alive", "start taskflow-worker")


def _lanes(status: QueueStatus) -> Finding:
    if status.paused:
        what = f"paused: {', '.join(status.paused)}; no worker claims from there"
        do = f"taskflow queues resume {status.paused[0]}"
        return Finding("lanes", "warning", what, do)
    return Finding("lanes", "ok", "no lane is paused")


def _upstreams(known: list[UpstreamStatus], now: datetime, longest: float) -> Finding:
    held = [each for each in known if not each.is_admitting]
    if not held:
        what = f"{len(known)} known, all may be called"
        return Finding("upstreams", "ok", what)
    # The one that has held up tasks for the longest is the one to look at.
    held.sort(key=lambda each: (not any(each.parked.values()), each.since or now))
    shown = "; ".join(_hold_up(each, now) for each in held[:_SHOWN])
    more = f"; and {len(held) - _SHOWN} more" if held[_SHOWN:] else ""
    is_old = any(
        any(each.parked.values())
        and each.state != "closed"
        and each.since is not None
        and (now - each.since).total_seconds() > longest
        for each in held
    )
    first = held[0].name
    return Finding(
        "upstreams",
        "error" if is_old else "warning",
        f"not to be called now: {shown}{more}",
        f"taskflow upstreams show {first}; once it is well, taskflow upstreams close "
        f"{first}",
    )


def _hold_up(upstream: UpstreamStatus, now: datetime) -> str:
    parked = sum(upstream.parked.values())
    reason = upstream.reason or upstream.tap_reason or upstream.shut_by
    since = upstream.since if upstream.state != "closed" else None
    hours = (now - since).total_seconds() / 3600 if since else 0.0
    lasting = f" for {hours:.1f} h" if hours >= _LONG_HOURS else ""
    return f"{upstream.name}{lasting} ({reason}), {parked:,} parked"


def _schedules(table: ScheduleList) -> Finding:
    late = [
        each.name
        for each in table.schedules
        if each.paused_at is None
        and (table.now - each.next_at).total_seconds() > UNSERVED_AFTER
    ]
    if late:
        shown = ", ".join(late[:_SHOWN])
        more = f" and {len(late) - _SHOWN} more" if late[_SHOWN:] else ""
        return Finding(
            "schedules",
            "error",
            f"nobody makes the ticks of: {shown}{more}",
            "start a worker or scheduler that has their code, or, where the code is "
            f"gone, taskflow schedules remove {late[0]}",
        )
    return Finding("schedules", "ok", f"{len(table.schedules)} known, none is late")
