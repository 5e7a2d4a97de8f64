"""Look the server and the records over, in bounded steps, and mend what is wrong."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, cast

from attrs import frozen

from taskflow._protocol import scripts
from taskflow._protocol.invariants import Letter, Snapshot
from taskflow._protocol.keys import Keys
from taskflow._protocol.lenient import text
from taskflow._protocol.operation import Operation
from taskflow._protocol.states import TaskState

_LARGEST = 2**53  # that a float and a sorted set can count to

SECTIONS = ("server", "memory", "persistence", "replication", "keyspace")


@frozen
class ServerFacts:
    """What the server says of itself.

    Attributes:
        now_ms: Its time, in ms.
        told: Facts by their names in ``INFO``; empty where it may not tell.
    """

    now_ms: int
    told: dict[str, str]

    def number(self, name: str) -> int | None:
        """Return a whole number it told, or None."""
        text = self.told.get(name, "")
        return int(text) if text.isdecimal() else None


def server_facts(keys: Keys, *, now_ms: int = 0) -> Operation[ServerFacts]:
    """Describe asking the server about itself.

    Returns:
        An operation whose reply holds what it may tell.

    Source:
        ``_protocol/lua/server_info.lua``; O(1).
    """

    def decode(reply: list[Any]) -> ServerFacts:
        lines = b"\n".join(reply[1:]).decode(errors="replace").splitlines()
        pairs = (line.partition(":") for line in lines if not line.startswith("#"))
        return ServerFacts(
            int(reply[0]),
            {name: value.strip() for name, colon, value in pairs if colon},
        )

    return Operation(scripts.load("server_info"), (), (now_ms, keys.prefix), decode)


@frozen
class RecordScan:
    """What one step over the records found.

    Attributes:
        cursor: For the next step; ``"0"`` at the end.
        now_ms: The server's time.
        strays: Ids that have a dead letter and no record.
        unlisted: Groups of dead letters that are not listed: members by fingerprint.
        sightings: One for each record; the lists are not among its homes.
    """

    cursor: str
    now_ms: int
    strays: list[str]
    unlisted: dict[str, int]
    sightings: list[Snapshot]


def _texts(items: list[bytes]) -> list[str]:
    return [text(item) for item in items]


def _homes(keys: Keys) -> tuple[str, ...]:
    return (
        keys.active,
        keys.scheduled,
        keys.completed,
        keys.failed,
        keys.cancelled,
        keys.dlq,
    )


def scan_records(
    keys: Keys, cursor: str, *, count: int = 100, now_ms: int = 0
) -> Operation[RecordScan]:
    """Describe looking over about *count* keys for records.

    Returns:
        An operation whose reply is one step.

    Source:
        ``_protocol/lua/scan_records.lua``; O(count).
    """

    def decode(reply: list[Any]) -> RecordScan:
        cursor, now, strays, groups, *rows = reply
        unlisted = dict(zip(_texts(groups[::2]), groups[1::2], strict=True))
        sightings = [_sighting(row) for row in rows]
        return RecordScan(
            cursor.decode(), int(now), _texts(strays), unlisted, sightings
        )

    return Operation(
        scripts.load("scan_records"),
        _homes(keys),
        (now_ms, keys.prefix, cursor, count),
        decode,
    )


def _sighting(row: list[Any]) -> Snapshot:
    task_id, state, lane, parked, token, *counters = _texts(row[:8])
    return Snapshot(
        task_id,
        state,
        lane,
        parked,
        token,
        (counters[0], counters[1], counters[2]),
        missing=tuple(_texts(row[8])),
        lines=int(row[9]),
        is_finished=row[10] != b"",
        lease_ends_ms=clamped(float(row[11])) if row[11] else None,
        key=row[12].decode(),
        letter=_letter(row[13]),
        groups=tuple(_texts(row[14])),
        homes=tuple(_texts(row[15])),
    )


def clamped(score: float) -> int:
    """Give a score as a whole number, one without end as the largest there is."""
    return int(min(max(score, -_LARGEST), _LARGEST))


def _letter(row: list[Any]) -> Letter | None:
    if not row:
        return None
    *told, missing = row
    cause, fingerprint, attempts, crashes = _texts(told)
    return Letter(cause, fingerprint, attempts, crashes, tuple(_texts(missing)))


@frozen
class IndexPage:
    """What one step over a home found.

    Attributes:
        ids: Those that were looked at; none at the end.
        misfits: Those without a record that belongs there.
    """

    ids: list[str]
    misfits: list[str]


def verify_index(
    keys: Keys,
    home: str,
    *,
    state: TaskState,
    lane: str = "",
    upstream: str = "",
    fingerprint: str = "",
    first: int,
    count: int = 250,
    now_ms: int = 0,
) -> Operation[IndexPage]:
    """Describe looking over a stretch of a home.

    Args:
        keys: Of the prefix in use.
        home: Key of the list or sorted set.
        state: Of the tasks whose home it is.
        lane: Whose list it is; empty for a sorted set.
        upstream: For which the list parks; empty for the lane's own.
        fingerprint: Of the group of dead letters that it is; empty for none.
        first: Entries to skip.
        count: Most entries to look at.
        now_ms: Time to use instead of the server's, in ms; 0 = the server's.

    Returns:
        An operation whose reply is one step.

    Source:
        ``_protocol/lua/verify_index.lua``; O(first + count) for a list.
    """

    def decode(reply: list[Any]) -> IndexPage:
        return IndexPage(_texts(reply[0]), _texts(reply[1]))

    return Operation(
        scripts.load("verify_index"),
        (home,),
        (
            *(now_ms, keys.prefix, state.value, lane, first, count),
            *(upstream, fingerprint),
        ),
        decode,
    )


class TaskInspection(NamedTuple):
    """All that the server held of a task in one moment.

    Attributes:
        now_ms: When, in ms of the server's clock.
        seen: What it held, lists and tickets included.
        groups: Of the fingerprints that were named, members and whether it is listed.
    """

    now_ms: int
    seen: Snapshot
    groups: dict[str, tuple[int, bool]]


def inspect_task(
    keys: Keys,
    task_id: str,
    upstreams: Sequence[str] = (),
    fingerprints: Sequence[str] = (),
    *,
    now_ms: int = 0,
) -> Operation[TaskInspection]:
    """Describe looking at all that the server holds of a task, in one step.

    Args:
        keys: Of the prefix in use.
        task_id: Of a task, or of an entry without one.
        upstreams: Names of those that may have parked it or let it run, beside its
            own.
        fingerprints: Of groups of dead letters in which it may stand, beside its own.
        now_ms: Time to use instead of the server's, in ms; 0 = the server's.

    Returns:
        An operation whose reply is proof.

    Source:
        ``_protocol/lua/inspect_task.lua``; O(length of the waiting lists).
    """

    def decode(reply: list[Any]) -> TaskInspection:
        now, row, tickets, counts = reply
        seen = _sighting(row)._replace(tickets=tuple(_texts(tickets)))
        pairs = zip(counts[::2], counts[1::2], strict=True)
        groups = {
            name: (int(members), bool(is_listed))
            for name, (members, is_listed) in zip(fingerprints, pairs, strict=True)
        }
        return TaskInspection(int(now), seen, groups)

    return Operation(
        scripts.load("inspect_task"),
        _homes(keys),
        (now_ms, keys.prefix, task_id, len(upstreams), *upstreams, *fingerprints),
        decode,
    )


@frozen
class Tombstones:
    """What one step over the tombstones of a list found.

    Attributes:
        cursor: For the next step; ``"0"`` at the end.
        ids: Whose entries are struck out.
    """

    cursor: str
    ids: list[str]


def list_tombstones(
    keys: Keys, tombstones: str, cursor: str, *, count: int = 500, now_ms: int = 0
) -> Operation[Tombstones]:
    """Describe listing about *count* of the ids that are struck out in a list.

    Returns:
        An operation whose reply is one step.

    Source:
        ``_protocol/lua/list_tombstones.lua``; O(count).
    """

    def decode(reply: list[Any]) -> Tombstones:
        return Tombstones(reply[0].decode(), _texts(reply[1]))

    return Operation(
        scripts.load("list_tombstones"),
        (tombstones,),
        (now_ms, keys.prefix, cursor, count),
        decode,
    )


MendWord = Literal["FINE", "REQUEUED", "PLACED", "REMOVED", "QUARANTINED", "FOREIGN"]


@frozen
class RepairedPlacement:
    """What became of a task that was looked at to be mended.

    Attributes:
        word: ``FINE``: nothing was wrong; ``REQUEUED``: it had no home and waits in
            the retry lane; ``PLACED``: it stands in the home of its state alone;
            ``REMOVED``: entries without a record are gone; ``QUARANTINED``: its
            state is none, and it is a dead letter now; ``FOREIGN``: its key is no
            record, and was left as it is.
        state: As its record had it; for ``FOREIGN`` the type of the key.
        homes: Those it stood in: a state, ``PENDING:`` and a lane, or
            ``tombstone:`` and a lane for one that strikes out nothing.
    """

    word: MendWord
    state: str
    homes: tuple[str, ...]


def repair_placement(
    keys: Keys, task_id: str, upstreams: Sequence[str] = (), *, now_ms: int = 0
) -> Operation[RepairedPlacement]:
    """Describe putting a task into its one home, if it does not stand there.

    Args:
        keys: Of the prefix in use.
        task_id: Of a task, or of an entry without one.
        upstreams: Names of those that may have parked it, beside its own.
        now_ms: Time to use instead of the server's, in ms; 0 = the server's.

    Returns:
        An operation whose reply says what was wrong; sent again, nothing is.

    Source:
        ``_protocol/lua/repair_placement.lua``; O(length of the waiting lists).
    """

    def decode(reply: list[Any]) -> RepairedPlacement:
        word, state, *homes = _texts(reply)
        return RepairedPlacement(cast("MendWord", word), state, tuple(homes))

    return Operation(
        scripts.load("repair_placement"),
        (*_homes(keys), keys.retry, keys.marker),
        (now_ms, keys.prefix, task_id, len(upstreams), *upstreams),
        decode,
    )


def repair_record(
    keys: Keys,
    task_id: str,
    upstreams: Sequence[str] = (),
    fingerprints: Sequence[str] = (),
    *,
    lease_ms: int,
    now_ms: int = 0,
) -> Operation[list[str]]:
    """Describe putting right what the record of a task says, where it stands.

    Args:
        keys: Of the prefix in use.
        task_id: Of a task, or of an entry without one; empty for the groups alone.
        upstreams: Names of those that may have given it a ticket, beside its own.
        fingerprints: Of groups of dead letters in which it may stand, beside its own;
            those in which nobody does are listed no more, the others are.
        lease_ms: The longest lease that is given, in ms.
        now_ms: Time to use instead of the server's, in ms; 0 = the server's.

    Returns:
        An operation whose reply says what was put right: ``counters``, ``fields``,
        ``history``, ``token``, ``lease``, ``key``, ``letter``, ``group``, ``ticket``;
        empty when nothing was wrong.

    Source:
        ``_protocol/lua/repair_record.lua``; O(lines of its history).
    """
    return Operation(
        scripts.load("repair_record"),
        (*_homes(keys), keys.retry, keys.marker),
        (
            *(now_ms, keys.prefix, task_id, lease_ms, len(upstreams)),
            *upstreams,
            *fingerprints,
        ),
        _texts,
    )
