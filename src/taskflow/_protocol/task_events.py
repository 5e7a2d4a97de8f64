"""Read what happens: to one task as it runs, and the fleet's audit log of rare events."""

import re
from datetime import datetime
from typing import Any

from attrs import field, frozen

from taskflow._codec import encode
from taskflow._protocol import scripts
from taskflow._protocol.batch import MOST_BYTES
from taskflow._protocol.keys import Keys
from taskflow._protocol.lenient import facts_in, moment, state_of, text, whole
from taskflow._protocol.operation import Operation
from taskflow._protocol.states import TaskState
from taskflow.errors import TaskNotFoundError

MOST_CHUNKS = 500
MOST_EVENTS = 200
_STREAM_ID = re.compile(r"(\d{1,20})-(\d{1,20})", re.ASCII)
_MOST_OF_ID = 2**64 - 1


@frozen
class Chunk:
    """A piece of output that a body emitted.

    Attributes:
        id: Give it back to continue after it.
        delivery: Which hand-out of the task emitted it.
        text: As the body gave it.
    """

    id: str
    delivery: int
    text: str


@frozen
class TaskNews:
    """How a task stands, and what it emitted since the last look.

    Attributes:
        state: Where it stands.
        attempts: Attempts that failed.
        progress: What the body reported last, or None.
        chunks: Pieces of output, the oldest first.
        has_more: Whether there may be more output after them now.
    """

    state: TaskState
    attempts: int
    progress: dict[str, Any] | None
    chunks: tuple[Chunk, ...]
    has_more: bool = False


@frozen
class AuditEntry:
    """A rare event: a dead letter, a lost lease, something a person did.

    Attributes:
        id: Give it back to continue after it.
        at: When.
        event: What, one word.
        actor: Who did it; empty where nobody said.
        facts: What else is known.
    """

    id: str
    at: datetime
    event: str
    actor: str = ""
    facts: dict[str, Any] = field(factory=dict[str, Any])


def _position(cursor: str) -> str:
    found = _STREAM_ID.fullmatch(cursor)
    if cursor and (found is None or max(map(int, found.groups())) > _MOST_OF_ID):
        message = f"cursor {cursor!r} does not belong to this list"
        raise ValueError(message)
    return cursor


def task_events(
    keys: Keys, task_id: str, *, after: str = "", limit: int = 100, now_ms: int = 0
) -> Operation[TaskNews]:
    """Describe reading how a task stands and what it emitted after a point.

    The reply ends early when its chunks reach 1 MiB.

    Returns:
        An operation whose decoding raises ``TaskNotFoundError``.

    Raises:
        ValueError: *after* is no chunk's id, or *limit* is outside 1..500.

    Source:
        ``_protocol/lua/task_events.lua``; O(limit).
    """
    if not 1 <= limit <= MOST_CHUNKS:
        message = f"limit must be 1..{MOST_CHUNKS}, got {limit}"
        raise ValueError(message)

    def decode(reply: list[Any]) -> TaskNews:
        if not reply:
            raise TaskNotFoundError(task_id)
        state, attempts, progress, has_more, *rest = reply
        return TaskNews(
            state_of(state),
            whole(attempts),
            facts_in(progress),
            tuple(
                Chunk(text(at), whole(token.partition(b":")[0]), text(chunk))
                for at, chunk, token in zip(
                    rest[::3], rest[1::3], rest[2::3], strict=True
                )
            ),
            bool(has_more),
        )

    return Operation(
        scripts.load("task_events"),
        (keys.task(task_id), keys.emitted(task_id)),
        (now_ms, keys.prefix, _position(after), limit, MOST_BYTES),
        decode,
    )


def audit_read(
    keys: Keys, *, before: str = "", limit: int = 50, now_ms: int = 0
) -> Operation[list[AuditEntry]]:
    """Describe listing rare events, the newest first.

    Returns:
        An operation whose reply is a list of at most *limit* entries.

    Raises:
        ValueError: *before* is no entry's id, or *limit* is outside 1..200.

    Source:
        ``_protocol/lua/audit_read.lua``; O(limit).
    """
    if not 1 <= limit <= MOST_EVENTS:
        message = f"limit must be 1..{MOST_EVENTS}, got {limit}"
        raise ValueError(message)

    def decode(reply: list[Any]) -> list[AuditEntry]:
        return [
            _entry(at.decode(), fields)
            for at, fields in zip(reply[::2], reply[1::2], strict=True)
        ]

    return Operation(
        scripts.load("audit_read"),
        (keys.events,),
        (now_ms, keys.prefix, _position(before), limit),
        decode,
    )


def _entry(entry_id: str, flat: list[bytes]) -> AuditEntry:
    known: dict[str, Any] = {
        text(name): text(value)
        for name, value in zip(flat[::2], flat[1::2], strict=True)
    }
    # The time is in the id of an entry, too, which the server made.
    at = moment(known.pop("at_ms", entry_id.partition("-")[0]))
    event = known.pop("event", "")
    actor = known.pop("actor", "")
    facts = known
    if "facts" in known:
        facts = facts_in(known["facts"].encode()) or {}
    return AuditEntry(entry_id, at, event, actor, facts)


def audit_append(
    keys: Keys, event: str, *, actor: str, facts: dict[str, Any], now_ms: int = 0
) -> Operation[bool]:
    """Describe writing a line of the audit log.

    Returns:
        An operation whose reply is True.

    Raises:
        PayloadError: *facts* cannot be written as JSON.

    Source:
        ``_protocol/lua/audit_append.lua``; O(1).
    """
    return Operation(
        scripts.load("audit_append"),
        (keys.events,),
        (now_ms, keys.prefix, event, actor, encode(facts)),
        bool,
    )
