"""Schedules on the server: make ticks, list, pause, forget."""

from datetime import datetime
from typing import Any, Literal

from attrs import frozen

from taskflow._codec import to_json
from taskflow._declare.schedule import Schedule
from taskflow._protocol import scripts
from taskflow._protocol.keys import Keys
from taskflow._protocol.operation import Operation
from taskflow._protocol.readable import facts_in, moment, text
from taskflow.errors import ScheduleNotFoundError

MOST_SCHEDULES = 1000
"""Schedules that are listed and served, at most."""

TickWord = Literal["MADE", "LET", "PAUSED", "PASSED"]
HoldVerb = Literal["pause", "resume", "remove"]


@frozen
class ScheduleStatus:
    """A schedule as it is stored.

    Attributes:
        name: Of the schedule.
        task: Name of the task it runs.
        when: Its ticks, in words.
        missed: What becomes of ticks that nobody made.
        digest: Of its definition.
        next_at: The next tick that nobody made yet; long past when no worker
            serves it.
        last_at: The last tick that was made, or None.
        last_task_id: Of the task that it made; empty if none.
        paused_at: Since when it is paused, or None.
    """

    name: str
    task: str
    when: str
    missed: str
    digest: str
    next_at: datetime
    last_at: datetime | None
    last_task_id: str
    paused_at: datetime | None


@frozen
class Timetable:
    """The schedules of one moment.

    Attributes:
        now: The server's time.
        schedules: The next tick first.
    """

    now: datetime
    schedules: tuple[ScheduleStatus, ...]


def _ms(value: datetime) -> int:
    return round(value.timestamp() * 1000)


def announce(
    keys: Keys,
    schedule: Schedule,
    *,
    payload: bytes,
    spec: bytes,
    first: datetime,
    upstream: str = "",
    now_ms: int = 0,
) -> Operation[bool]:
    """Describe making *schedule* known; one that is known keeps its next tick.

    Returns:
        An operation whose reply is True when the definition is new.

    Source:
        ``_protocol/lua/announce.lua``; O(log s).
    """
    about = {
        "task": schedule.task.name,
        "when": str(schedule.when),
        "missed": schedule.missed,
    }
    return Operation(
        scripts.load("announce"),
        (keys.schedules, keys.schedule(schedule.name)),
        (
            now_ms,
            keys.prefix,
            schedule.name,
            schedule.digest,
            to_json(about),
            payload,
            spec,
            _ms(first),
            upstream,
        ),
        bool,
    )


def timetable(
    keys: Keys, *, limit: int = MOST_SCHEDULES, now_ms: int = 0
) -> Operation[Timetable]:
    """Describe reading the schedules.

    Returns:
        An operation whose reply is a `Timetable`.

    Source:
        ``_protocol/lua/timetable.lua``; O(limit).
    """

    def decode(reply: list[Any]) -> Timetable:
        rows = (reply[at : at + _FIELDS] for at in range(1, len(reply), _FIELDS))
        return Timetable(moment(reply[0]), tuple(map(_status, rows)))

    return Operation(
        scripts.load("timetable"),
        (keys.schedules,),
        (now_ms, keys.prefix, limit),
        decode,
    )


_FIELDS = 7


def _status(row: list[bytes]) -> ScheduleStatus:
    name, following, digest, about, last, last_id, paused = row
    known = facts_in(about) or {}
    return ScheduleStatus(
        name=text(name),
        task=str(known.get("task", "")),
        when=str(known.get("when", "")),
        missed=str(known.get("missed", "")),
        digest=text(digest),
        next_at=moment(following),
        last_at=moment(last) if last else None,
        last_task_id=text(last_id),
        paused_at=moment(paused) if paused else None,
    )


def tick(
    keys: Keys,
    schedule: Schedule,
    *,
    due: datetime,
    following: datetime,
    task_id: str = "",
    payload: bytes = b"",
    spec: bytes = b"",
    upstream: str = "",
    now_ms: int = 0,
) -> Operation[TickWord]:
    """Describe making one tick of *schedule*, or letting it pass.

    Args:
        keys: Of the prefix in use.
        schedule: As the caller has it; another definition is left alone.
        due: The next tick, as the caller has read it.
        following: The tick to wait for then.
        task_id: Of the task to store; empty = let the tick pass.
        payload: Of the task.
        spec: Of the task.
        upstream: Weight and name of the task's, as stored; empty = none.
        now_ms: Time to use instead of the server's, in ms; 0 = the server's.

    Returns:
        An operation whose reply is one word.

    Source:
        ``_protocol/lua/tick.lua``; O(log s).
    """

    def decode(reply: bytes) -> Any:
        return reply.decode()

    return Operation(
        scripts.load("tick"),
        (keys.primary, keys.marker, keys.schedules, keys.schedule(schedule.name)),
        (
            now_ms,
            keys.prefix,
            schedule.name,
            schedule.digest,
            _ms(due),
            _ms(following),
            task_id,
            payload,
            spec,
            upstream,
        ),
        decode,
    )


def hold(keys: Keys, name: str, verb: HoldVerb, *, now_ms: int = 0) -> Operation[None]:
    """Describe pausing, resuming or forgetting a schedule.

    Returns:
        An operation whose decoding raises ``ScheduleNotFoundError``.

    Source:
        ``_protocol/lua/hold.lua``; O(log s).
    """

    def decode(reply: int) -> None:
        if not reply:
            raise ScheduleNotFoundError(name)

    return Operation(
        scripts.load("hold"),
        (keys.schedules, keys.schedule(name)),
        (now_ms, keys.prefix, name, verb),
        decode,
    )


def template(
    keys: Keys, name: str, *, now_ms: int = 0
) -> Operation[tuple[bytes, bytes, str]]:
    """Describe reading what a schedule would enqueue.

    Returns:
        An operation whose reply is payload, spec and upstream; its decoding raises
        ``ScheduleNotFoundError``.

    Source:
        ``_protocol/lua/template.lua``; O(1).
    """

    def decode(reply: list[bytes]) -> tuple[bytes, bytes, str]:
        if not reply:
            raise ScheduleNotFoundError(name)
        return reply[0], reply[1], reply[2].decode()

    return Operation(
        scripts.load("template"), (keys.schedule(name),), (now_ms, keys.prefix), decode
    )
