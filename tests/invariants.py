"""What must hold of every keyspace, whoever wrote it and whenever it is read.

The numbers are those of the invariants in the design: I1 placement, I3 counters,
I4 leases, I9 keys, I15 dead letters, I19 bounds. One checker: the model, the explorer and
the chaos tests use it.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from keyspace import Expiring
from taskflow._protocol.keys import Keys
from taskflow._protocol.states import TaskState

_TOKEN = re.compile(r"(\d+):([A-Za-z0-9_.-]*):(\S*)")
_LANES = ("primary", "retry", "suspects")
_HOMES = [state for state in TaskState if state is not TaskState.PENDING]
_HISTORY = 20


class Broken(NamedTuple):
    """An invariant that does not hold.

    Attributes:
        rule: Its number.
        where: Id of a task, or a key.
        what: Is wrong.
    """

    rule: str
    where: str
    what: str


def broken(
    found: Mapping[str, Any], *, now_ms: int, lease_ms: int, prefix: str = ""
) -> list[Broken]:
    """Check a whole keyspace.

    Args:
        found: Values by key, as ``keyspace.dump`` reads them.
        now_ms: The server's time.
        lease_ms: The longest lease that is given.
        prefix: Of every key.

    Returns:
        All that is broken; empty when nothing is.
    """
    keys = Keys(prefix)
    plain = {key: getattr(value, "value", value) for key, value in found.items()}
    records = {
        key.removeprefix(keys.task("")): value
        for key, value in plain.items()
        if key.startswith(keys.task("")) and isinstance(value, dict)
    }
    records = {each: value for each, value in records.items() if ":" not in each}
    return [
        *_placement(keys, plain, records),
        *_leases(keys, plain, records, now_ms + lease_ms),
        *_records(records),
        *_letters(keys, plain, records),
        *_permits(plain, records),
        *_idempotency(keys, found, records),
    ]


def _lists(found: Mapping[str, Any], keys: Keys) -> Iterator[tuple[str, str, str]]:
    """Give key, home and tombstones of every list of waiting tasks."""
    for lane in _LANES:
        yield keys.waiting(lane), f"PENDING:{lane}", keys.tombstones(lane)
    start = keys.parked_list("", "").removesuffix(":")
    for key in found:
        if key.startswith(start):
            name, _, lane = key.removeprefix(start).rpartition(":")
            yield key, f"PENDING:{name}:{lane}", keys.parked_tombstones(name, lane)


def _placement(
    keys: Keys, found: Mapping[str, Any], records: Mapping[str, Any]
) -> Iterator[Broken]:
    homes: dict[str, list[str]] = {task_id: [] for task_id in records}
    for state in _HOMES:
        for task_id in found.get(keys.home(state), ()):
            homes.setdefault(task_id, []).append(state.value)
    for key, home, tombstones in _lists(found, keys):
        listed, buried = found.get(key, []), found.get(tombstones, set())
        for task_id, times in Counter(listed).items():
            # One entry is buried; another may be of a later task of the same id.
            live = times - (task_id in buried)
            if live:
                homes.setdefault(task_id, []).extend([home] * live)
        for task_id in buried - set(listed):
            yield Broken("I1", task_id, f"has a tombstone and no entry in {key}")
    for task_id, stands in homes.items():
        record = records.get(task_id)
        if record is None:
            yield Broken("I1", task_id, f"stands in {stands} without a record")
        elif stands != [expected := _home(record)]:
            yield Broken("I1", task_id, f"is {expected} and stands in {stands}")


def _home(record: Mapping[str, str]) -> str:
    state = record.get("state", "nothing")
    if state != TaskState.PENDING.value:
        return state
    name = record.get("parked", "").partition(" ")[2]
    return ":".join(filter(None, (state, name, record.get("lane", ""))))


def _leases(
    keys: Keys, found: Mapping[str, Any], records: Mapping[str, Any], latest: int
) -> Iterator[Broken]:
    for task_id, ends in found.get(keys.active, {}).items():
        match = _TOKEN.fullmatch(records.get(task_id, {}).get("token", ""))
        if match is None or not match[2] or not match[3]:
            yield Broken("I4", task_id, "is leased and has no token")
        if ends > latest:
            yield Broken("I4", task_id, f"is leased until {ends:.0f}, after {latest}")


def _records(records: Mapping[str, Any]) -> Iterator[Broken]:
    for task_id, record in records.items():
        for name in ("attempts", "crashes", "misses"):
            if not record.get(name, "0").isdecimal():
                yield Broken("I3", task_id, f"has {record[name]!r} {name}")
        for name in ("payload", "spec", "lane", "created_ms"):
            if name not in record:
                yield Broken("I18", task_id, f"has no {name}: its record is half one")
        if len(record.get("history", "").splitlines()) > _HISTORY:
            yield Broken("I19", task_id, f"has a history of over {_HISTORY} lines")
        if record["state"] == TaskState.ACTIVE.value and "parked" in record:
            yield Broken("I1", task_id, "runs and is parked")
        is_final = TaskState(record["state"]).is_final
        if is_final and "finished_ms" not in record:
            yield Broken("I18", task_id, "has ended and does not say when")


def _letters(
    keys: Keys, found: Mapping[str, Any], records: Mapping[str, Any]
) -> Iterator[Broken]:
    dead = set(found.get(keys.dlq, ()))
    letters = {
        key.removeprefix(keys.letter("")): value
        for key, value in found.items()
        if key.startswith(keys.letter(""))
    }
    for task_id in dead ^ letters.keys():
        yield Broken("I15", task_id, "is a dead letter without a text, or the reverse")
    grouped = {
        task_id: key.removeprefix(keys.group(""))
        for key, members in found.items()
        if key.startswith(keys.group(""))
        for task_id in members
    }
    named = {each: letter.get("fingerprint") for each, letter in letters.items()}
    if grouped != named:
        yield Broken("I15", keys.groups, f"{grouped} is not what letters say: {named}")
    if set(grouped.values()) != set(found.get(keys.groups, ())):
        yield Broken("I15", keys.groups, "names other groups than there are")
    for task_id, letter in letters.items():
        missing = {"cause", "error", "died_ms"} - letter.keys()
        counts = ("attempts", "crashes")
        record = records.get(task_id, {})
        if missing:
            yield Broken("I15", task_id, f"its dead letter has no {sorted(missing)}")
        for name in counts:
            if letter.get("cause") != "corrupt" and letter.get(name, "0") != record.get(
                name, "0"
            ):
                yield Broken("I15", task_id, f"its dead letter has other {name}")


def _permits(found: Mapping[str, Any], records: Mapping[str, Any]) -> Iterator[Broken]:
    for key, tickets in found.items():
        if key.endswith((":permits", ":probes")):
            for ticket in tickets:
                state = records.get(ticket, {}).get("state")
                if not ticket.startswith("guard:") and state != "ACTIVE":
                    yield Broken("I1", ticket, f"is {state} and holds a ticket: {key}")


def _idempotency(
    keys: Keys, found: Mapping[str, Any], records: Mapping[str, Any]
) -> Iterator[Broken]:
    start = keys.idempotency("", "").removesuffix(":")
    for key, value in found.items():
        if not key.startswith(start):
            continue
        holder = str(getattr(value, "value", value)).partition(" ")[0]
        record = records.get(holder)
        if record is None or not record.get("key", "").endswith(key[len(start) :]):
            continue  # of a task that is gone, or is stored again without it
        ends = isinstance(value, Expiring)
        state = TaskState(record["state"])
        if ends is not (state.is_final and state is not TaskState.DLQ):
            word = "ends" if ends else "never ends"
            yield Broken("I9", holder, f"is {state.value} and its key {word}")
