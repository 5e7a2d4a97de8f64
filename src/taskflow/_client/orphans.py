"""Bring back tasks that no worker holds and no list knows."""

from datetime import timedelta

from attrs import frozen

from taskflow._client.flow_context import FlowContext
from taskflow._client.sansio import Pause, Plan
from taskflow._client.waiting_lists import WaitingList, waiting_lists
from taskflow._protocol import consistency, queue_status, upkeep
from taskflow._protocol.consistency import RepairedPlacement
from taskflow._protocol.operation import Operation
from taskflow._protocol.queue_status import QueueStatus, WorkerStatus
from taskflow._protocol.states import TaskState
from taskflow.errors import TaskFlowError

LONGEST_PAUSE = 20.0
"""Seconds for which a caller is kept waiting until the living have renewed."""


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


def requeue_orphans(connection: FlowContext) -> Plan[OrphanReport]:
    """Reap ended leases, then bring back tasks that stand in no home.

    Yields:
        What to ask the server.

    Returns:
        What was found and brought back.
    """
    keys, max_crashes = connection.keys, connection.settings.worker.max_crashes
    found = requeued = 0
    errors: list[str] = []
    doubt = yield from _let_workers_renew(connection)
    if doubt:
        errors.append(doubt)
    while not doubt:
        counts: QueueStatus = yield _counts(connection)
        answered_ms = round(counts.now.timestamp() * 1000)
        reaped: list[upkeep.Reaped] = yield upkeep.reap(
            keys,
            max_crashes=max_crashes,
            latest_ms=0 if connection.clock() else answered_ms + upkeep.LONGEST_TRIP_MS,
            now_ms=connection.clock(),
        )
        found += len(reaped)
        requeued += sum(each.where in {"retry", "suspects"} for each in reaped)
        if len(reaped) < upkeep.MOST_PER_CALL:
            break
    lists = yield from waiting_lists(connection)
    orphans = yield from _orphans(connection, lists)
    parking = sorted({each.upstream for each in lists if each.upstream})
    for task_id in orphans:
        try:
            mended: RepairedPlacement = yield consistency.repair_placement(
                keys, task_id, parking, now_ms=connection.clock()
            )
        except TaskFlowError as error:
            found += 1
            errors.append(f"{task_id}: {error}")
        else:
            found += mended.word != "FINE"
            requeued += mended.word == "REQUEUED"
    return OrphanReport(found, requeued, tuple(errors))


def _let_workers_renew(connection: FlowContext) -> Plan[str]:
    """Wait when leases may have ended because the server was away, or its clock set.

    Who lives renews with its next beat, a third of its lease later at the most.

    Yields:
        What to ask the server, and how long to wait.

    Returns:
        Why nothing may be taken back now; empty when it may.
    """
    counts: QueueStatus = yield _counts(connection)
    beats: list[WorkerStatus] = yield queue_status.workers(
        connection.keys, now_ms=connection.clock()
    )
    lease = queue_status.longest_lease(connection.settings.worker.lease, beats)
    silent = timedelta(seconds=connection.settings.worker.lease / 2)
    # After a step of more than an hour nobody is known to have beaten.
    is_odd = not beats or any(counts.now - each.last_beat_at > silent for each in beats)
    if not counts.states[TaskState.ACTIVE] or not is_odd:
        return ""
    pause = lease / 3 + 1
    if pause > LONGEST_PAUSE:
        return (
            f"leases were left alone: workers were silent, and have up to {pause:.0f} s"
            " to renew them; their own upkeep takes back what is not renewed"
        )
    yield Pause(pause)
    return ""


def _counts(connection: FlowContext) -> Operation[QueueStatus]:
    return queue_status.status(
        connection.keys, connection.share, now_ms=connection.clock()
    )


def _orphans(
    connection: FlowContext, lists: tuple[WaitingList, ...]
) -> Plan[list[str]]:
    keys, cursor = connection.keys, "0"
    homeless: list[str] = []
    waiting: set[str] = set()
    while True:
        step: upkeep.HomelessScan = yield upkeep.scan_homeless(keys, cursor)
        homeless += step.homeless
        waiting.update(step.waiting)
        cursor = step.cursor
        if cursor == "0":
            break
    for each in lists:
        first = 0
        while waiting:
            ids = yield upkeep.list_ids(keys, each.key, first=first)
            waiting.difference_update(ids)
            first += len(ids)
            if not ids:
                break
    return homeless + sorted(waiting)
