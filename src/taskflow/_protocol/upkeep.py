"""What keeps the queues in order: promote, reap, prune, and beats."""

from typing import Any, NamedTuple

from attrs import frozen

from taskflow._protocol import scripts
from taskflow._protocol.keys import Keys
from taskflow._protocol.lenient import text
from taskflow._protocol.operation import Operation

MOST_PER_CALL = 100

LONGEST_TRIP_MS = 2_000
"""A reap that arrives later than this after it was sent should do nothing; see `reap`."""


@frozen
class PromoteReply:
    """What a promotion brought.

    Attributes:
        now_ms: The server's time, in ms.
        moved: Tasks that are waiting now.
        next_due_ms: When the next one is due, in ms; 0 = none is scheduled.
    """

    now_ms: int
    moved: int
    next_due_ms: int


class Reaped(NamedTuple):
    """A task taken back from a worker that stopped renewing its lease.

    Attributes:
        id: Of the task.
        where: ``retry``, ``suspects``, ``poison``, ``cancelled`` or ``ghost``.
        worker: Id of the worker that held it.
    """

    id: str
    where: str
    worker: str


def promote(
    keys: Keys, *, limit: int = MOST_PER_CALL, now_ms: int = 0
) -> Operation[PromoteReply]:
    """Describe bringing up to *limit* due tasks to their lanes.

    Returns:
        An operation whose reply says how many were moved.

    Source:
        ``_protocol/lua/promote.lua``; O(n log m).
    """

    def decode(reply: list[Any]) -> PromoteReply:
        return PromoteReply(int(reply[0]), int(reply[1]), int(float(reply[2])))

    return Operation(
        scripts.load("promote"),
        (keys.scheduled,),
        (now_ms, keys.prefix, limit),
        decode,
    )


def reap(
    keys: Keys,
    *,
    max_crashes: int,
    limit: int = MOST_PER_CALL,
    latest_ms: int = 0,
    now_ms: int = 0,
) -> Operation[list[Reaped]]:
    """Describe taking back up to *limit* tasks whose lease has ended.

    Args:
        keys: Of the prefix in use.
        max_crashes: Lost leases at which a task is poison, from 1.
        limit: Most leases to take back, 1 to 100.
        latest_ms: Server's time after which it does nothing, in ms; 0 = none.
        now_ms: Time to use instead of the server's, in ms; 0 = the server's.

    Returns:
        An operation whose reply says where each task went.

    Source:
        ``_protocol/lua/reap.lua``; O(n log m).
    """

    def decode(reply: list[bytes]) -> list[Reaped]:
        texts = [text(item) for item in reply]
        return [Reaped(*texts[at : at + 3]) for at in range(0, len(texts), 3)]

    return Operation(
        scripts.load("reap"),
        (
            keys.active,
            keys.marker,
            keys.events,
        ),
        (now_ms, keys.prefix, limit, max_crashes, latest_ms),
        decode,
    )


def prune(
    keys: Keys, home: str, *, keep_ms: int, limit: int = MOST_PER_CALL, now_ms: int = 0
) -> Operation[int]:
    """Describe forgetting up to *limit* tasks of *home* that ended *keep_ms* ago.

    Args:
        keys: Of the prefix in use.
        home: Key of the home of COMPLETED, FAILED or CANCELLED tasks.
        keep_ms: How long they are kept, in ms.
        limit: Most tasks to forget, 1 to 100.
        now_ms: Time to use instead of the server's, in ms; 0 = the server's.

    Returns:
        An operation whose reply is how many were forgotten.

    Source:
        ``_protocol/lua/prune.lua``; O(n log m).
    """
    return Operation(
        scripts.load("prune"),
        (home, keys.workers),
        (now_ms, keys.prefix, keep_ms, limit),
        int,
    )


@frozen
class HomelessScan:
    """What one step of looking over the records found.

    Attributes:
        cursor: For the next step; ``"0"`` at the end.
        homeless: Ids of tasks whose home does not know them.
        waiting: Ids of tasks that should stand in one of the lists.
    """

    cursor: str
    homeless: list[str]
    waiting: list[str]


def scan_homeless(
    keys: Keys, cursor: str, *, count: int = 500, now_ms: int = 0
) -> Operation[HomelessScan]:
    """Describe looking over about *count* records.

    Returns:
        An operation whose reply is one step of the survey.

    Source:
        ``_protocol/lua/scan_homeless.lua``; O(count).
    """

    def decode(reply: list[Any]) -> HomelessScan:
        return HomelessScan(
            reply[0].decode(),
            [text(item) for item in reply[1]],
            [text(item) for item in reply[2]],
        )

    return Operation(
        scripts.load("scan_homeless"),
        (keys.active, keys.scheduled),
        (now_ms, keys.prefix, cursor, count),
        decode,
    )


def list_ids(
    keys: Keys, waiting: str, *, first: int, count: int = 1000, now_ms: int = 0
) -> Operation[list[str]]:
    """Describe reading a stretch of a waiting list, ids only.

    Returns:
        An operation whose reply is a list of ids, empty at the end.

    Source:
        ``_protocol/lua/list_ids.lua``; O(first + count).
    """

    def decode(reply: list[bytes]) -> list[str]:
        return [text(item) for item in reply]

    return Operation(
        scripts.load("list_ids"),
        (waiting,),
        (now_ms, keys.prefix, first, count),
        decode,
    )


@frozen
class BeatReply:
    """What a beat brought.

    Attributes:
        now_ms: The server's time, in ms.
        drain: Whether somebody asked the worker to finish and stop.
        data_id: Names the data on the server; another one = the data that was known
            is lost.
    """

    now_ms: int
    drain: bool
    data_id: str


def heartbeat(
    keys: Keys,
    *,
    worker: str,
    info: bytes,
    ttl_ms: int,
    known: str,
    new: str,
    now_ms: int = 0,
) -> Operation[BeatReply]:
    """Describe saying that *worker* lives; empty *info* says goodbye.

    Args:
        keys: Of the prefix in use.
        worker: Its id.
        info: JSON text for people.
        ttl_ms: Until the worker counts as gone.
        known: Data id of its last beat; empty = this is the first.
        new: Data id to give to data that has none; used once.
        now_ms: Time to use instead of the server's, in ms; 0 = the server's.

    Returns:
        An operation whose reply holds the time, the wish to drain and the data id.

    Source:
        ``_protocol/lua/heartbeat.lua``; O(log w) for w workers.
    """

    def decode(reply: list[Any]) -> BeatReply:
        return BeatReply(int(reply[0]), bool(int(reply[1])), text(reply[2]))

    return Operation(
        scripts.load("heartbeat"),
        (
            keys.heartbeat(worker),
            keys.worker(worker),
            keys.workers,
            keys.lanes,
            keys.events,
        ),
        (now_ms, keys.prefix, worker, ttl_ms, info, known, new),
        decode,
    )
