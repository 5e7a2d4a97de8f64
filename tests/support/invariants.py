"""What must hold of a whole keyspace, whoever wrote it and whenever it is read.

The rules are those by which the doctor judges (``taskflow._protocol.invariants``); here
what they judge is made of everything at once. The model, the explorer and the chaos
tests use it.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from taskflow._protocol.consistency import clamped
from taskflow._protocol.invariants import (
    NO_RECORD,
    Broken,
    Letter,
    Snapshot,
    broken_group,
)
from taskflow._protocol.invariants import broken as broken_of
from taskflow._protocol.keys import SIDE_LISTS, Keys
from taskflow._protocol.states import TaskState
from tests.support.keyspace import Expiring

_NEEDED = ("payload", "spec", "lane", "created_ms")
_PARKED = re.compile(r"[0-9]+ ([A-Za-z0-9_.:-]+)")
_SAID = ("cause", "error", "died_ms")


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
    return [
        *(
            each
            for seen in sightings(keys, found, plain)
            for each in broken_of(seen, now_ms=now_ms, lease_ms=lease_ms)
        ),
        *_groups(keys, plain),
    ]


def sightings(
    keys: Keys, found: Mapping[str, Any], plain: Mapping[str, Any]
) -> Iterator[Snapshot]:
    """See every task of which there is anything: a record, an entry, a letter."""
    records = _named(plain, keys.task(""))
    letters = _named(plain, keys.letter(""))
    homes, groups = _homes(keys, plain), _members(plain, keys.group(""))
    tickets = _tickets(keys, plain)
    for task_id in {*records, *letters, *homes, *groups, *tickets}:
        record = records.get(task_id, {})
        seen = _sighting(task_id, record) if isinstance(record, dict) else None
        seen = seen or Snapshot(task_id, "foreign")
        ends = plain.get(keys.active, {}).get(task_id)
        yield seen._replace(
            lease_ends_ms=None if ends is None else clamped(ends),
            key=_key(keys, found, task_id, record)
            if seen.state not in NO_RECORD
            else "",
            letter=_letter(letters.get(task_id)),
            groups=tuple(groups[task_id]),
            tickets=tuple(tickets[task_id]),
            homes=tuple(homes[task_id]),
        )


def _named(plain: Mapping[str, Any], start: str) -> dict[str, Any]:
    names = {key: key.removeprefix(start) for key in plain if key.startswith(start)}
    return {name: plain[key] for key, name in names.items() if ":" not in name}


def _sighting(task_id: str, record: Mapping[str, str]) -> Snapshot:
    if not record.keys() & {"state", "payload", "spec"}:
        return Snapshot(task_id, "foreign" if record else "")
    attempts, crashes, age = (
        record.get(name, "") for name in ("attempts", "crashes", "age_ms")
    )
    return Snapshot(
        task_id,
        record.get("state", "nothing"),
        record.get("lane", ""),
        _parked(record),
        record.get("token", ""),
        (attempts, crashes, age),
        missing=tuple(name for name in _NEEDED if name not in record),
        lines=len(record.get("history", "").splitlines()),
        is_finished=record.get("finished_ms", "").isdecimal(),
    )


def _parked(record: Mapping[str, str]) -> str:
    match = _PARKED.fullmatch(record.get("parked", ""))
    return match[1] if match else ""


def _letter(letter: Any) -> Letter | None:
    if letter is None:
        return None
    fields = letter if isinstance(letter, dict) else {}
    told = [fields.get(name, "") for name in Letter._fields[:4]]
    return Letter(*told, tuple(name for name in _SAID if name not in fields))


def _lists(found: Mapping[str, Any], keys: Keys) -> Iterator[tuple[str, str, str]]:
    """Give key, lane and tombstones of every list of waiting tasks."""
    for lane in SIDE_LISTS:
        yield keys.waiting(lane), lane, keys.tombstones(lane)
    start = keys.parked_list("", "").removesuffix(":")
    bury = keys.tombstones("")
    names = {key.removeprefix(start) for key in found if key.startswith(start)}
    struck = {key.removeprefix(bury) for key in found if key.startswith(bury)}
    for each in sorted(names | {name for name in struck if ":" in name}):
        name, _, lane = each.rpartition(":")
        yield keys.parked_list(name, lane), each, keys.parked_tombstones(name, lane)


def _homes(keys: Keys, found: Mapping[str, Any]) -> defaultdict[str, list[str]]:
    homes: defaultdict[str, list[str]] = defaultdict(list)
    for state in TaskState:
        if state is not TaskState.PENDING:
            for task_id in found.get(keys.home(state), ()):
                homes[task_id].append(state.value)
    for key, lane, tombstones in _lists(found, keys):
        entries, buried = Counter(found.get(key, [])), found.get(tombstones, set())
        for task_id in entries.keys() | buried:
            # One entry is buried; another may be of a later task of the same id.
            live = entries[task_id] - (task_id in buried)
            if live:
                word = "PENDING" if live > 0 else "tombstone"
                homes[task_id] += [f"{word}:{lane}"] * abs(live)
    return homes


def _members(found: Mapping[str, Any], start: str) -> defaultdict[str, list[str]]:
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for key, members in found.items():
        if key.startswith(start):
            for task_id in members:
                groups[task_id].append(key.removeprefix(start))
    return groups


def _tickets(keys: Keys, found: Mapping[str, Any]) -> defaultdict[str, list[str]]:
    tickets: defaultdict[str, list[str]] = defaultdict(list)
    for key, members in found.items():
        if key.endswith((":permits", ":probes")):
            for ticket in members:
                if not ticket.startswith("guard:"):
                    tickets[ticket].append(key.removeprefix(keys.prefix))
    return tickets


def _key(keys: Keys, found: Mapping[str, Any], task_id: str, record: Any) -> str:
    name = " ".join(record.get("key", "").split(" ")[2:])
    value = found.get(f"{keys.prefix}tasks:key:{name}") if name else None
    holder = str(getattr(value, "value", value)).partition(" ")[0]
    if holder != task_id:
        return ""  # taken over by another task, or gone
    return "ends" if isinstance(value, Expiring) else "stays"


def _groups(keys: Keys, found: Mapping[str, Any]) -> Iterator[Broken]:
    start, listed = keys.group(""), found.get(keys.groups, ())
    sizes = {
        key.removeprefix(start): len(members)
        for key, members in found.items()
        if key.startswith(start)
    }
    for fingerprint in {*listed, *sizes}:
        yield from broken_group(
            fingerprint,
            members=sizes.get(fingerprint, 0),
            is_listed=fingerprint in listed,
        )
