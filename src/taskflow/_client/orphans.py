"""Bring back tasks that no worker holds and no list knows."""

from datetime import timedelta

from attrs import frozen

from taskflow._client.connection import Connection
from taskflow._client.plan import Pause, Plan
from taskflow._client.waiting import WaitingList, waiting_lists
from taskflow._protocol import checkup, overview, upkeep
from taskflow._protocol.checkup import Mended
from taskflow._protocol.overview import QueueStatus, WorkerStatus
from taskflow._protocol.states import TaskState
from taskflow.errors import TaskflowError

RENEWED_WITHIN = 2.0
"""Seconds after an outage within which a worker that lives has renewed its leases."""


@frozen
class OrphanReport:
    """What looking for orphans found.

    Attributes:
        found: Tasks whose lease had ended, or that stood in no home.
        requeued: Those that wait again now.
        errors: One sentence for each that could not be brought back.
    """

    found: int
    requeued: int
    errors: tuple[str, ...]


def requeue_orphans(connection: Connection) -> Plan[OrphanReport]:
    """Reap ended leases, then bring back tasks that stand in no home.

    Yields:
        What to ask the server.

    Returns:
        What was found and brought back.
    """
    keys, max_crashes = connection.keys, connection.settings.worker.max_crashes
    found = requeued = 0
    yield from _let_workers_renew(connection)
    while True:
        reaped: list[upkeep.Reaped] = yield upkeep.reap(
            keys, max_crashes=max_crashes, now_ms=connection.clock()
        )
        found += len(reaped)
        requeued += sum(each.where in {"retry", "suspects"} for each in reaped)
        if len(reaped) < upkeep.MOST_PER_CALL:
            break
    lists = yield from waiting_lists(connection)
    orphans = yield from _orphans(connection, lists)
    parking = sorted({each.upstream for each in lists if each.upstream})
    errors: list[str] = []
    for task_id in orphans:
        try:
            mended: Mended = yield checkup.mend(
                keys, task_id, parking, now_ms=connection.clock()
            )
        except TaskflowError as error:
            found += 1
            errors.append(f"{task_id}: {error}")
        else:
            found += mended.word != "FINE"
            requeued += mended.word == "REQUEUED"
    return OrphanReport(found, requeued, tuple(errors))


def _let_workers_renew(connection: Connection) -> Plan[None]:
    """Wait a little when leases may have ended because the server was away."""
    keys, now_ms = connection.keys, connection.clock()
    counts: QueueStatus = yield overview.status(keys, connection.share, now_ms=now_ms)
    beats: list[WorkerStatus] = yield overview.workers(keys, now_ms=now_ms)
    silent = timedelta(seconds=connection.settings.worker.lease / 2)
    if counts.states[TaskState.ACTIVE] and any(
        counts.now - each.last_beat_at > silent for each in beats
    ):
        yield Pause(RENEWED_WITHIN)


def _orphans(connection: Connection, lists: tuple[WaitingList, ...]) -> Plan[list[str]]:
    keys, cursor = connection.keys, "0"
    homeless: list[str] = []
    waiting: set[str] = set()
    while True:
        step: upkeep.Survey = yield upkeep.survey(keys, cursor)
        homeless += step.homeless
        waiting.update(step.waiting)
        cursor = step.cursor
        if cursor == "0":
            break
    for each in lists:
        first = 0
        while waiting:
            ids = yield upkeep.roll(keys, each.key, first=first)
            waiting.difference_update(ids)
            first += len(ids)
            if not ids:
                break
    return homeless + sorted(waiting)
