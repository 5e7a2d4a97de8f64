"""Bring tasks back, drop them, edit them, and see them grouped."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from attrs import frozen

from taskflow._protocol import scripts
from taskflow._protocol.inspect import name_of
from taskflow._protocol.keys import Keys
from taskflow._protocol.lenient import error_of, moment, text
from taskflow._protocol.operation import Operation
from taskflow._protocol.states import TaskState
from taskflow.errors import IllegalMoveError, KeyConflictError, TaskNotFoundError

MOST_PER_CALL = 100


@frozen
class DeadLetterGroup:
    """Dead letters that share an error fingerprint.

    Attributes:
        fingerprint: Twelve hexadecimal digits, or ``poison`` or ``corrupt``.
        count: Dead letters in the group now.
        first_died_at: Of those still in the group.
        last_died_at: Of those still in the group.
        cause: Of the newest.
        error_type: Of the newest.
        error_message: Of the newest.
        task_name: Of the newest; empty when its record is corrupt.
        newest_id: Of the newest.
    """

    fingerprint: str
    count: int
    first_died_at: datetime
    last_died_at: datetime
    cause: str
    error_type: str
    error_message: str
    task_name: str
    newest_id: str


def key_conflict(task_id: str, word: str) -> KeyConflictError | None:
    """Read the *word* that `requeue` answers for *task_id*.

    Returns:
        The error if another task has taken the idempotency key.
    """
    if not word.startswith("HELD "):
        return None
    _, holder, key = word.split(" ", 2)
    return KeyConflictError(key, holder, task_id)


def requeue(
    keys: Keys,
    task_ids: Sequence[str],
    *,
    nonce: str,
    only: TaskState | None = None,
    now_ms: int = 0,
) -> Operation[list[str]]:
    """Describe bringing ended or delayed tasks back to work, with fresh counts.

    Args:
        keys: Of the prefix in use.
        task_ids: 1 to 100.
        nonce: Names this call; sent again it answers the same and moves
            nothing twice.
        only: The state they must be in; None = DLQ, FAILED, CANCELLED or
            SCHEDULED.
        now_ms: Time to use instead of the server's, in ms; 0 = the server's.

    Returns:
        An operation whose reply holds one word per id: ``OK``, ``GONE``, the
        state that forbids the move, or ``HELD``, the id of the task that has
        taken the idempotency key, and the key.

    Raises:
        ValueError: *task_ids* is empty or longer than 100.

    Source:
        ``_protocol/lua/requeue.lua``; O(n log m).
    """
    _check_count(task_ids)

    def decode(reply: list[bytes]) -> list[str]:
        return [word.decode() for word in reply]

    return Operation(
        scripts.load("requeue"),
        (
            keys.scheduled,
            keys.failed,
            keys.cancelled,
            keys.retry,
            keys.marker,
            keys.events,
        ),
        (now_ms, keys.prefix, nonce, only or "", len(task_ids), *task_ids),
        decode,
    )


def discard(keys: Keys, task_ids: Sequence[str], *, now_ms: int = 0) -> Operation[int]:
    """Describe dropping dead letters; each becomes FAILED.

    Args:
        keys: Of the prefix in use.
        task_ids: 1 to 100.
        now_ms: Time to use instead of the server's, in ms; 0 = the server's.

    Returns:
        An operation whose reply is how many were discarded.

    Raises:
        ValueError: *task_ids* is empty or longer than 100.

    Source:
        ``_protocol/lua/discard.lua``; O(n log m).
    """
    _check_count(task_ids)
    return Operation(
        scripts.load("discard"),
        (keys.failed, keys.events),
        (now_ms, keys.prefix, len(task_ids), *task_ids),
        int,
    )


def _check_count(task_ids: Sequence[str]) -> None:
    if not 1 <= len(task_ids) <= MOST_PER_CALL:
        message = f"1 to {MOST_PER_CALL} ids, got {len(task_ids)}"
        raise ValueError(message)


def edit(
    keys: Keys, task_id: str, payload: bytes, *, now_ms: int = 0
) -> Operation[None]:
    """Describe replacing the arguments of a dead letter.

    Returns:
        An operation whose decoding raises ``TaskNotFoundError``, or
        ``IllegalMoveError`` when the task is no dead letter.

    Source:
        ``_protocol/lua/edit.lua``; O(1).
    """

    def decode(reply: bytes) -> None:
        if reply == b"GONE":
            raise TaskNotFoundError(task_id)
        if reply != b"OK":
            raise IllegalMoveError(task_id, reply.decode(), "edit")

    return Operation(
        scripts.load("edit"),
        (keys.task(task_id), keys.events),
        (now_ms, keys.prefix, task_id, payload),
        decode,
    )


_GROUP_FIELDS = 8


def groups(
    keys: Keys, *, skip: int, limit: int, now_ms: int = 0
) -> Operation[list[DeadLetterGroup]]:
    """Describe listing groups of dead letters, the latest death first.

    Returns:
        An operation whose reply is a list of groups.

    Source:
        ``_protocol/lua/groups.lua``; O(skip + limit).
    """

    def decode(reply: list[Any]) -> list[DeadLetterGroup]:
        return [
            _group(reply[at : at + _GROUP_FIELDS])
            for at in range(0, len(reply), _GROUP_FIELDS)
        ]

    return Operation(
        scripts.load("groups"),
        (keys.groups,),
        (now_ms, keys.prefix, skip, limit),
        decode,
    )


def _group(row: list[Any]) -> DeadLetterGroup:
    error_type, error_message = error_of(row[5])
    return DeadLetterGroup(
        fingerprint=text(row[0]),
        count=int(row[1]),
        first_died_at=moment(row[2]),
        last_died_at=moment(row[3]),
        cause=text(row[4]),
        error_type=error_type,
        error_message=error_message,
        task_name=name_of(row[7]),
        newest_id=text(row[6]),
    )
