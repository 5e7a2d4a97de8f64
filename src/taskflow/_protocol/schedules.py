"""Schedules on the server: announce, poll, make ticks, list, pause, forget."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from attrs import frozen

from taskflow._codec import to_json
from taskflow._declare.schedule import Schedule
from taskflow._protocol import scripts
from taskflow._protocol.keys import Keys
from taskflow._protocol.lenient import facts_in, moment, score, text
from taskflow._protocol.operation import Operation
from taskflow.errors import ScheduleNotFoundError

MOST_LISTED = 1000
"""Schedules that are listed, at most."""

MOST_PER_CALL = 100

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
class ScheduleList:
    """The schedules of one moment.

    Attributes:
        now: The server's time.
        schedules: The next tick first.
    """

    now: datetime
    schedules: tuple[ScheduleStatus, ...]


def _ms(value: datetime) -> int:
    return round(value.timestamp() * 1000)


@frozen
class ScheduleUpsert:
    """A schedule as the worker that serves it declares it.

    Attributes:
        schedule: Its definition.
        digest: Of the definition.
        payload: Of its tasks.
        spec: Of its tasks.
        first: Tick to wait for, unless this definition is known already.
        upstream: Weight and name of the tasks', as stored; empty = none.
    """

    schedule: Schedule
    digest: str
    payload: bytes
    spec: bytes
    first: datetime
    upstream: str = ""


def upsert_schedules(
    keys: Keys, announcements: Sequence[ScheduleUpsert], *, now_ms: int = 0
) -> Operation[list[tuple[bool, int]]]:
    """Describe making schedules known; those that are known keep their next ticks.

    Args:
        keys: Of the prefix in use.
        announcements: 1 to 100.
        now_ms: Time to use instead of the server's, in ms; 0 = the server's.

    Returns:
        An operation whose reply says of each schedule whether the definition is new,
        and its next tick in ms.

    Source:
        ``_protocol/lua/upsert_schedule.lua``; O(n log s).
    """
    args: list[str | int | float | bytes] = [now_ms, keys.prefix, len(announcements)]
    for each in announcements:
        schedule = each.schedule
        about = {
            "task": schedule.task.name,
            "when": str(schedule.when),
            "missed": schedule.missed,
        }
        args += [schedule.name, each.digest, to_json(about), each.payload, each.spec]
        args += [_ms(each.first), each.upstream]

    def decode(reply: list[Any]) -> list[tuple[bool, int]]:
        return [
            (reply[at] == 1, score(reply[at + 1])) for at in range(0, len(reply), 2)
        ]

    return Operation(
        scripts.load("upsert_schedule"), (keys.schedules,), tuple(args), decode
    )


@frozen
class SchedulePoll:
    """What a look at some schedules found.

    Attributes:
        now_ms: The server's time, in ms.
        count: Of all schedules.
        states: Of each asked for: its next tick in ms and the digest of its
            definition; None = there is none.
    """

    now_ms: int
    count: int
    states: list[tuple[int, str] | None]


def poll(
    keys: Keys, names: Sequence[str], *, now_ms: int = 0
) -> Operation[SchedulePoll]:
    """Describe reading the next ticks of schedules.

    Args:
        keys: Of the prefix in use.
        names: 0 to 100.
        now_ms: Time to use instead of the server's, in ms; 0 = the server's.

    Returns:
        An operation whose reply is a `SchedulePoll`.

    Source:
        ``_protocol/lua/poll_schedules.lua``; O(n).
    """

    def decode(reply: list[Any]) -> SchedulePoll:
        pairs = zip(reply[2::2], reply[3::2], strict=True)
        return SchedulePoll(
            int(reply[0]), int(reply[1]), [_state(*pair) for pair in pairs]
        )

    return Operation(
        scripts.load("poll_schedules"),
        (keys.schedules,),
        (now_ms, keys.prefix, len(names), *names),
        decode,
    )


def _state(following: bytes, digest: bytes) -> tuple[int, str] | None:
    return (score(following), text(digest)) if following and digest else None


def list_schedules(
    keys: Keys, *, limit: int = MOST_LISTED, now_ms: int = 0
) -> Operation[ScheduleList]:
    """Describe reading the schedules.

    Returns:
        An operation whose reply is a `ScheduleList`.

    Source:
        ``_protocol/lua/list_schedules.lua``; O(limit).
    """

    def decode(reply: list[Any]) -> ScheduleList:
        rows = (reply[at : at + _FIELDS] for at in range(1, len(reply), _FIELDS))
        return ScheduleList(moment(reply[0]), tuple(map(_status, rows)))

    return Operation(
        scripts.load("list_schedules"),
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


@frozen
class Tick:
    """A tick to make, or to let pass.

    Attributes:
        name: Of the schedule.
        digest: Of its definition as the caller has it; another is left alone.
        due_ms: The next tick as the caller knows it, in ms.
        following_ms: The tick to wait for then, in ms.
        task_id: Of the task to store; empty = let the tick pass.
        payload: Of the task.
        spec: Of the task.
        upstream: Weight and name of the task's, as stored; empty = none.
    """

    name: str
    digest: str
    due_ms: int
    following_ms: int
    task_id: str = ""
    payload: bytes = b""
    spec: bytes = b""
    upstream: str = ""


@frozen
class TickReply:
    """What became of a tick.

    Attributes:
        word: ``MADE``, ``LET``, ``PAUSED``; or ``PASSED``: somebody else was first,
            or has another definition.
        state: Of the schedule now, as of `SchedulePoll`.
    """

    word: TickWord
    state: tuple[int, str] | None


def tick(
    keys: Keys, ticks: Sequence[Tick], *, now_ms: int = 0
) -> Operation[list[TickReply]]:
    """Describe making ticks, in their order.

    Args:
        keys: Of the prefix in use.
        ticks: 1 to 100; several of one schedule if each is the next of the one before.
        now_ms: Time to use instead of the server's, in ms; 0 = the server's.

    Returns:
        An operation whose reply has one item per tick.

    Source:
        ``_protocol/lua/tick.lua``; O(n log s).
    """
    args: list[str | int | float | bytes] = [now_ms, keys.prefix, len(ticks)]
    for each in ticks:
        args += [each.name, each.digest, each.due_ms, each.following_ms]
        args += [each.task_id, each.payload, each.spec, each.upstream]

    def decode(reply: list[Any]) -> list[TickReply]:
        return [
            TickReply(reply[at].decode(), _state(reply[at + 1], reply[at + 2]))
            for at in range(0, len(reply), 3)
        ]

    return Operation(
        scripts.load("tick"),
        (keys.primary, keys.marker, keys.schedules),
        tuple(args),
        decode,
    )


def pause_schedule(
    keys: Keys, name: str, verb: HoldVerb, *, now_ms: int = 0
) -> Operation[None]:
    """Describe pausing, resuming or forgetting a schedule.

    Returns:
        An operation whose decoding raises ``ScheduleNotFoundError``.

    Source:
        ``_protocol/lua/pause_schedule.lua``; O(log s).
    """

    def decode(reply: int) -> None:
        if not reply:
            raise ScheduleNotFoundError(name)

    return Operation(
        scripts.load("pause_schedule"),
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
