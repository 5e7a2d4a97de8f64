"""Read how the whole stands: counts of every home, the lanes, the workers."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Literal, TypeAlias

from attrs import frozen

from taskflow._protocol import scripts
from taskflow._protocol.claim import LaneShare
from taskflow._protocol.keys import Keys
from taskflow._protocol.lenient import facts_in, moment, text, whole
from taskflow._protocol.operation import Operation
from taskflow._protocol.states import TaskState


@frozen
class QueueStatus:
    """Counts of every home, and what the lanes do.

    Attributes:
        now: The server's time.
        primary: Tasks waiting in the primary lane.
        retry: Tasks waiting in the retry lane, suspects included.
        suspects: Tasks among *retry* that crashed workers twice.
        parked: Tasks that wait for an upstream, of both lanes; not counted above.
        scheduled: Tasks that wait for their time.
        dlq: Dead letters.
        states: Tasks by state; a task is counted once.
        oldest_primary_age: Seconds since the head of the lane came, or None.
        oldest_retry_age: Seconds since the head of the lane came, or None.
        retry_ratio: Share of the retry lane in force now, 0.0..1.0.
        served_primary: Claims from the primary lane in the last minute.
        served_retry: Claims from the retry lane in the last minute.
        paused: Lanes that are held back.
        data_lost_at: When a worker found that the server had lost its data, or None.
    """

    now: datetime
    primary: int
    retry: int
    suspects: int
    parked: int
    scheduled: int
    dlq: int
    states: dict[TaskState, int]
    oldest_primary_age: float | None
    oldest_retry_age: float | None
    retry_ratio: float
    served_primary: int
    served_retry: int
    paused: tuple[str, ...]
    data_lost_at: datetime | None

    @property
    def served_ratio(self) -> float | None:
        """Share of the retry lane among the last minute's claims, if any."""
        served = self.served_primary + self.served_retry
        return self.served_retry / served if served else None


def status(keys: Keys, share: LaneShare, *, now_ms: int = 0) -> Operation[QueueStatus]:
    """Describe counting every home.

    Returns:
        An operation whose reply is the counts.

    Source:
        ``_protocol/lua/status.lua``; O(1).
    """

    def decode(reply: list[Any]) -> QueueStatus:
        numbers = [int(value) for value in reply[:12]]
        now, primary, retry, suspects, active, scheduled = numbers[:6]
        completed, dlq, failed, cancelled, primary_age, retry_age = numbers[6:]
        parked = int(reply[17])
        lanes = zip(("primary", "retry"), reply[15:17], strict=True)
        return QueueStatus(
            now=moment(now),
            primary=primary,
            retry=retry + suspects,
            suspects=suspects,
            parked=parked,
            scheduled=scheduled,
            dlq=dlq,
            states={
                TaskState.PENDING: primary + retry + suspects + parked,
                TaskState.ACTIVE: active,
                TaskState.SCHEDULED: scheduled,
                TaskState.COMPLETED: completed,
                TaskState.FAILED: failed,
                TaskState.DLQ: dlq,
                TaskState.CANCELLED: cancelled,
            },
            oldest_primary_age=primary_age / 1000 if primary_age >= 0 else None,
            oldest_retry_age=retry_age / 1000 if retry_age >= 0 else None,
            retry_ratio=float(reply[12]),
            served_primary=int(reply[13]),
            served_retry=int(reply[14]),
            paused=tuple(lane for lane, flag in lanes if flag),
            data_lost_at=moment(reply[18]) if whole(reply[18]) else None,
        )

    return Operation(
        scripts.load("status"),
        (
            keys.primary,
            keys.retry,
            keys.suspects,
            keys.active,
            keys.scheduled,
            keys.completed,
            keys.dlq,
            keys.failed,
            keys.cancelled,
            keys.lanes,
        ),
        (
            now_ms,
            keys.prefix,
            share.ratio,
            share.warning,
            share.critical,
            share.max_age_ms,
        ),
        decode,
    )


POLLED_LATELY = 30.0
"""Seconds after which a worker that has not asked for work is stale; idle workers
ask every 5 s, busy ones with every task that ends."""

Condition: TypeAlias = Literal["healthy", "stale", "draining"]


@frozen
class WorkerStatus:
    """A worker that beat lately.

    Attributes:
        id: Of the worker.
        alive: Whether its heartbeat is fresh.
        last_beat_at: By the server's clock.
        draining: Whether it was asked to finish and stop.
        info: What it says of itself: host, pid, concurrency, running, tasks
            and more.
    """

    id: str
    alive: bool
    last_beat_at: datetime
    draining: bool
    info: dict[str, Any]

    @property
    def kind(self) -> str:
        """``worker``, or ``scheduler`` for one that runs no task."""
        return str(self.info.get("kind", "worker"))

    @property
    def lease(self) -> float:
        """Seconds for which it leases tasks, a day at most; 0 = it does not say."""
        told = self.info.get("lease")
        return min(float(told), _A_DAY) if isinstance(told, int | float) else 0.0

    def polled_ago(self, now: datetime) -> float | None:
        """Return seconds since it asked for work; None for one that never does.

        Args:
            now: The server's time.

        Returns:
            As it said with its last beat, and what has passed since.
        """
        polled = self.info.get("polled")
        if polled is None or self.kind != "worker":
            return None
        silent = max(0.0, (now - self.last_beat_at).total_seconds())
        return round(float(polled) + silent, 1)

    def condition(self, now: datetime) -> Condition:
        """Say how it is, in one word.

        Args:
            now: The server's time.

        Returns:
            ``stale`` when it has not beaten for a lease, so that its tasks are
            taken from it, or when it beats and has not asked for work lately: its
            loop stands still.
        """
        polled = self.polled_ago(now)
        silent = (now - self.last_beat_at).total_seconds()
        if not self.alive or silent > (self.lease or silent):
            return "stale"
        if polled is not None and polled > POLLED_LATELY:
            return "stale"
        return "draining" if self.draining else "healthy"


def longest_lease(own: float, beats: Iterable[WorkerStatus]) -> float:
    """Find the longest lease that is given, in seconds.

    Args:
        own: By us.
        beats: Of the workers; each may give another.

    Returns:
        The longest of them.
    """
    return max([own, *(each.lease for each in beats)])


_WORKER_FIELDS = 5
_A_DAY = 86_400.0  # seconds; what claims to be longer is no lease


def workers(
    keys: Keys, *, limit: int = 1000, now_ms: int = 0
) -> Operation[list[WorkerStatus]]:
    """Describe listing workers, the latest beat first.

    Returns:
        An operation whose reply is a list of workers.

    Source:
        ``_protocol/lua/workers.lua``; O(log w + limit).
    """

    def decode(reply: list[Any]) -> list[WorkerStatus]:
        rows = [
            reply[at : at + _WORKER_FIELDS]
            for at in range(1, len(reply), _WORKER_FIELDS)
        ]
        return [
            WorkerStatus(
                id=text(row[0]),
                alive=bool(int(row[4])),
                last_beat_at=moment(row[1]),
                draining=bool(int(row[3])),
                info=facts_in(row[2]) or {},
            )
            for row in rows
        ]

    return Operation(
        scripts.load("workers"), (keys.workers,), (now_ms, keys.prefix, limit), decode
    )
