"""Read tasks without moving them: one whole, how it ended, a page of many."""

import re
from datetime import datetime
from typing import Any, Literal

from attrs import frozen

from taskflow._codec import Spec, decode_spec
from taskflow._protocol import scripts
from taskflow._protocol.keys import Keys
from taskflow._protocol.lenient import (
    error_of,
    fact,
    facts_in,
    moment,
    state_of,
    text,
    whole,
)
from taskflow._protocol.operation import Operation
from taskflow._protocol.record import (
    AttemptEntry,
    DeadLetterRecord,
    TaskRecord,
    TaskSummary,
)
from taskflow._protocol.states import TaskState
from taskflow.errors import PayloadError, TaskNotFoundError

MOST_PER_PAGE = 200


def name_of(spec: bytes) -> str:
    """Return the task's name in a packed spec, empty when it is unreadable."""
    known = _spec(spec)
    return known.name if known else ""


def _spec(spec: bytes) -> Spec | None:
    try:
        return decode_spec(spec)
    except PayloadError:
        return None


@frozen
class Ending:
    """How far a watched task is.

    Attributes:
        state: Where it stands.
        result: JSON text; empty when there is none, or when it is null.
        error_type: Of the last error; empty if none.
        error_message: Of the last error; empty if none.
        attempts: Attempts that failed.
    """

    state: TaskState
    result: bytes
    error_type: str
    error_message: str
    attempts: int


def watch(keys: Keys, task_id: str, *, now_ms: int = 0) -> Operation[Ending]:
    """Describe reading how a task ended, or asking to be told when it does.

    Returns:
        An operation whose decoding raises ``TaskNotFoundError``.

    Source:
        ``_protocol/lua/watch.lua``; O(1).
    """

    def decode(reply: list[Any]) -> Ending:
        if not reply:
            raise TaskNotFoundError(task_id)
        state, result, error, attempts = reply
        return Ending(
            TaskState(text(state)), result, *error_of(error), attempts=whole(attempts)
        )

    return Operation(
        scripts.load("watch"), (keys.task(task_id),), (now_ms, keys.prefix), decode
    )


def get(keys: Keys, task_id: str, *, now_ms: int = 0) -> Operation[TaskRecord]:
    """Describe reading one task whole.

    Returns:
        An operation whose decoding raises ``TaskNotFoundError``.

    Source:
        ``_protocol/lua/get.lua``; O(fields of one record).
    """

    def decode(reply: list[Any]) -> TaskRecord:
        fields, letter, lease, due = reply
        record, dead = _mapping(fields), _mapping(letter)
        if not record and not dead:
            raise TaskNotFoundError(task_id)
        return _record(task_id, record, dead, lease=lease, due=due)

    return Operation(
        scripts.load("get"),
        (keys.task(task_id), keys.letter(task_id), keys.active, keys.scheduled),
        (now_ms, keys.prefix, task_id),
        decode,
    )


def _mapping(flat: list[bytes]) -> dict[str, bytes]:
    return {
        text(name): value for name, value in zip(flat[::2], flat[1::2], strict=True)
    }


def _moment_or_none(value: bytes | None) -> datetime | None:
    return moment(value) if value else None


def _parked_for(record: dict[str, bytes], state: TaskState) -> str:
    if state is not TaskState.PENDING:
        return ""
    return text(record.get("parked", b"")).partition(" ")[2]


def _record(
    task_id: str,
    record: dict[str, bytes],
    letter: dict[str, bytes],
    *,
    lease: bytes,
    due: bytes,
) -> TaskRecord:
    spec = _spec(record.get("spec", b""))
    state = state_of(record.get("state"))
    lane = text(record.get("lane", b"retry"))
    delivery, _, owner = text(record.get("token", b"")).partition(":")
    error_type, error_message = error_of(record.get("error", b""))
    result = record.get("result")
    if result is None and state is TaskState.COMPLETED:
        result = b"null"
    return TaskRecord(
        id=task_id,
        name=spec.name if spec else "",
        state=state,
        lane="retry" if lane == "suspects" else lane,
        suspect=lane == "suspects",
        payload=record.get("payload", b""),
        spec=spec,
        attempts=whole(record.get("attempts", 0)),
        crashes=whole(record.get("crashes", 0)),
        deliveries=whole(delivery or 0),
        created_at=moment(record.get("created_ms", b"0")),
        started_at=_moment_or_none(record.get("started_ms")),
        finished_at=_moment_or_none(record.get("finished_ms")),
        due_at=_moment_or_none(due),
        lease_until=_moment_or_none(lease),
        expires_at=_moment_or_none(record.get("expires_ms")),
        worker=owner.rpartition(":")[0] if state is TaskState.ACTIVE else "",
        cancel_requested=state is TaskState.ACTIVE and "cancel" in record,
        upstream=text(record.get("upstream", b"")).partition(" ")[2],
        parked_for=_parked_for(record, state),
        result=result,
        error_type=error_type,
        error_message=error_message,
        progress=facts_in(record.get("progress", b"")),
        usage=facts_in(record.get("usage", b"")) or {},
        annotations={
            name.removeprefix("note:"): fact(value)
            for name, value in record.items()
            if name.startswith("note:")
        },
        key=" ".join(text(record.get("key", b"")).split(" ")[2:]),
        history=_history(record.get("history", b"")),
        dead_letter=_letter(letter) if letter else None,
    )


def _history(lines: bytes) -> tuple[AttemptEntry, ...]:
    entries: list[AttemptEntry] = []
    for line in lines.splitlines():
        at, _, facts = line.partition(b" ")
        known = facts_in(facts)
        if known is not None and "outcome" in known:
            entries.append(AttemptEntry(moment(at), known.pop("outcome"), known))
    return tuple(entries)


def _letter(letter: dict[str, bytes]) -> DeadLetterRecord:
    error_type, error_message = error_of(letter.get("error", b""))
    return DeadLetterRecord(
        cause=text(letter.get("cause", b"")),
        fingerprint=text(letter.get("fingerprint", b"")),
        error_type=error_type,
        error_message=error_message,
        traceback=text(letter.get("traceback", b"")),
        died_at=_moment_or_none(letter.get("died_ms")),
        worker=text(letter.get("worker", b"")),
    )


@frozen
class Page:
    """One page of a list.

    Attributes:
        items: In the order of the list; may be fewer than asked for.
        positions: Cursor that continues after each item, in the same order.
        next_cursor: Give it back for the next page; empty at the end.
        examined: Entries that were looked at.
    """

    items: tuple[TaskSummary, ...]
    positions: tuple[str, ...]
    next_cursor: str
    examined: int


_PAGE_FIELDS = 12
# Of a sorted set: score and id of the last entry seen; of a list: entries to skip.
_CURSORS = (
    re.compile(
        r"-?\d{1,20}(?:\.\d{1,20})?(?:e[+-]?\d{1,3})? [^\s\ud800-\udfff]{1,200}",
        re.ASCII,
    ),
    re.compile(r"\d{1,12}", re.ASCII),
)


def page(
    keys: Keys,
    home: str,
    *,
    kind: Literal["list", "newest", "oldest"],
    after: str = "",
    limit: int = 50,
    now_ms: int = 0,
) -> Operation[Page]:
    """Describe listing one page of a home, without payloads.

    Args:
        keys: Of the prefix in use.
        home: Key of the list or sorted set.
        kind: ``list``, or the end of the sorted set to begin with.
        after: Cursor of the page before; empty = the first page.
        limit: Most entries to examine, 1 to 200.
        now_ms: Time to use instead of the server's, in ms; 0 = the server's.

    Returns:
        An operation whose reply is a page. An entry whose record is gone or
        waits elsewhere (a tombstone) is left out but counts as examined.

    Raises:
        ValueError: *limit* is outside 1..200, or *after* is no cursor of this kind
            of list.

    Source:
        ``_protocol/lua/page.lua``; O(log m + limit), for a list O(skipped +
        limit).
    """
    if not 1 <= limit <= MOST_PER_PAGE:
        message = f"limit must be 1..{MOST_PER_PAGE}, got {limit}"
        raise ValueError(message)
    if after and not _CURSORS[kind == "list"].fullmatch(after):
        message = f"cursor {after!r} does not belong to this list"
        raise ValueError(message)

    def decode(reply: list[Any]) -> Page:
        rows = [
            reply[at : at + _PAGE_FIELDS] for at in range(1, len(reply), _PAGE_FIELDS)
        ]
        wanted = _WAITING if kind == "list" else _ANY
        skipped = int(after or 0) if kind == "list" else 0
        items: list[TaskSummary] = []
        positions: list[str] = []
        for number, row in enumerate(rows, skipped + 1):
            if text(row[2]) in wanted:
                items.append(_summary(row))
                here = f"{text(row[1])} {items[-1].id}"
                positions.append(str(number) if kind == "list" else here)
        return Page(tuple(items), tuple(positions), text(reply[0]), len(rows))

    return Operation(
        scripts.load("page"), (home,), (now_ms, keys.prefix, kind, after, limit), decode
    )


_WAITING = frozenset({TaskState.PENDING.value})
_ANY = frozenset(state.value for state in TaskState)


def _summary(row: list[Any]) -> TaskSummary:
    state, lane = TaskState(text(row[2])), text(row[3])
    error_type, error_message = error_of(row[9])
    return TaskSummary(
        id=text(row[0]),
        name=name_of(row[4]),
        state=state,
        lane="retry" if lane == "suspects" else lane,
        suspect=lane == "suspects",
        attempts=whole(row[5]),
        crashes=whole(row[6]),
        created_at=moment(row[7] or 0),
        finished_at=_moment_or_none(row[8]),
        due_at=_moment_or_none(row[1]) if state is TaskState.SCHEDULED else None,
        error_type=error_type,
        error_message=error_message,
        fingerprint=text(row[10]),
        cause=text(row[11]),
    )


def find_ids(
    keys: Keys, part: str, cursor: str, *, count: int = 1000, now_ms: int = 0
) -> Operation[tuple[str, list[str]]]:
    """Describe looking over about *count* keys for ids that begin or end with *part*.

    Returns:
        An operation whose reply is the next cursor, ``0`` at the end, and the ids.

    Source:
        ``_protocol/lua/find_ids.lua``; O(count).
    """

    def decode(reply: list[Any]) -> tuple[str, list[str]]:
        return text(reply[0]), [text(item) for item in reply[1]]

    return Operation(
        scripts.load("find_ids"),
        (),
        (now_ms, keys.prefix, cursor, count, part),
        decode,
    )
