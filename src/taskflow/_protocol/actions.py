"""What people ask of one task, one lane or one worker."""

from typing import Any, Literal

from taskflow._protocol import scripts
from taskflow._protocol.keys import Keys
from taskflow._protocol.operation import Operation
from taskflow.errors import IllegalMoveError, TaskNotFoundError


def cancel(keys: Keys, task_id: str, *, now_ms: int = 0) -> Operation[bool]:
    """Describe stopping a task: at once while it waits, on request while it runs.

    Returns:
        An operation whose reply is True when the task is CANCELLED now, False
        when it runs and was asked to stop. Decoding raises
        ``TaskNotFoundError``, or ``IllegalMoveError`` when it has ended.

    Source:
        ``_protocol/lua/cancel.lua``; O(log m).
    """

    def decode(reply: list[bytes]) -> bool:
        word, state = reply[0].decode(), reply[1].decode()
        if word == "GONE":
            raise TaskNotFoundError(task_id)
        if word == "REFUSED":
            raise IllegalMoveError(task_id, state, "cancel", to_state="CANCELLED")
        return word == "CANCELLED"

    return Operation(
        scripts.load("cancel"),
        (keys.task(task_id), keys.scheduled, keys.cancelled),
        (now_ms, keys.prefix, task_id),
        decode,
    )


def delete(
    keys: Keys, task_id: str, *, force: bool, now_ms: int = 0
) -> Operation[bool]:
    """Describe removing a task with everything that belongs to it.

    Returns:
        An operation whose reply is False when there was no such task.
        Decoding raises ``IllegalMoveError`` when it runs and *force* is false.

    Source:
        ``_protocol/lua/delete.lua``; O(log m).
    """

    def decode(reply: bytes) -> bool:
        if reply == b"ACTIVE":
            raise IllegalMoveError(task_id, "ACTIVE", "delete")
        return reply == b"OK"

    return Operation(
        scripts.load("delete"),
        (
            keys.task(task_id),
            keys.active,
            keys.scheduled,
            keys.completed,
            keys.failed,
            keys.cancelled,
        ),
        (now_ms, keys.prefix, task_id, int(force)),
        decode,
    )


def pause(
    keys: Keys, lane: Literal["primary", "retry"], *, paused: bool, now_ms: int = 0
) -> Operation[None]:
    """Describe holding back *lane*, or letting it go on.

    Returns:
        An operation whose reply means nothing.

    Source:
        ``_protocol/lua/pause.lua``; O(1).
    """

    def decode(_reply: Any) -> None:
        return None

    return Operation(
        scripts.load("pause"),
        (keys.lanes, keys.marker),
        (now_ms, keys.prefix, lane, int(paused)),
        decode,
    )


def drain(keys: Keys, worker: str, *, now_ms: int = 0) -> Operation[bool]:
    """Describe asking *worker* to finish what it runs and stop.

    Returns:
        An operation whose reply is False when no such worker lives.

    Source:
        ``_protocol/lua/drain.lua``; O(1).
    """
    return Operation(
        scripts.load("drain"),
        (keys.worker(worker), keys.heartbeat(worker)),
        (now_ms, keys.prefix),
        bool,
    )
