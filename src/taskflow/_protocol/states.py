"""The states of a task, and which moves between them exist."""

from enum import StrEnum


class TaskState(StrEnum):
    """Where a task stands; the value is the string stored, listed and shown.

    Attributes:
        PENDING: Waits for a worker in a lane.
        ACTIVE: Leased to a worker.
        SCHEDULED: Waits for its time: delayed, to be retried, or snoozed.
        COMPLETED: Ended with a result.
        DLQ: Ended as a dead letter; waits for a person.
        FAILED: Ended badly without a dead letter.
        CANCELLED: Ended on request.
    """

    PENDING = "PENDING"
    ACTIVE = "ACTIVE"
    SCHEDULED = "SCHEDULED"
    COMPLETED = "COMPLETED"
    DLQ = "DLQ"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def is_final(self) -> bool:
        """Whether no worker will run the task unless a person brings it back."""
        return self in _FINAL


_FINAL = frozenset(
    {
        TaskState.COMPLETED,
        TaskState.DLQ,
        TaskState.FAILED,
        TaskState.CANCELLED,
    }
)

LEGAL_MOVES: dict[tuple[TaskState | None, TaskState | None], tuple[str, ...]] = {
    (None, TaskState.PENDING): ("enqueue", "tick"),
    (None, TaskState.SCHEDULED): ("enqueue",),
    (TaskState.PENDING, TaskState.ACTIVE): ("claim",),
    (TaskState.PENDING, TaskState.FAILED): ("claim",),
    (TaskState.PENDING, TaskState.CANCELLED): ("cancel",),
    (TaskState.PENDING, TaskState.DLQ): ("claim", "repair_placement"),
    (TaskState.SCHEDULED, TaskState.PENDING): (
        "claim",
        "promote",
        "requeue",
        "repair_placement",
    ),
    (TaskState.SCHEDULED, TaskState.CANCELLED): ("cancel",),
    (TaskState.SCHEDULED, TaskState.DLQ): ("repair_placement",),
    (TaskState.ACTIVE, TaskState.COMPLETED): ("settle",),
    (TaskState.ACTIVE, TaskState.SCHEDULED): ("settle",),
    (TaskState.ACTIVE, TaskState.DLQ): ("settle", "reap", "repair_placement"),
    (TaskState.ACTIVE, TaskState.FAILED): ("settle",),
    (TaskState.ACTIVE, TaskState.CANCELLED): ("settle", "reap"),
    (TaskState.ACTIVE, TaskState.PENDING): (
        "settle",
        "reap",
        "repair_placement",
        "repair_record",
    ),
    (TaskState.DLQ, TaskState.PENDING): ("requeue",),
    (TaskState.DLQ, TaskState.FAILED): ("discard",),
    (TaskState.FAILED, TaskState.PENDING): ("requeue",),
    (TaskState.CANCELLED, TaskState.PENDING): ("requeue",),
    (TaskState.COMPLETED, None): ("prune", "delete"),
    (TaskState.FAILED, None): ("prune", "delete"),
    (TaskState.CANCELLED, None): ("prune", "delete"),
    (TaskState.PENDING, None): ("delete",),
    (TaskState.SCHEDULED, None): ("delete",),
    (TaskState.ACTIVE, None): ("delete",),
    (TaskState.DLQ, None): ("delete",),
}
"""From, to, and the scripts that make the move; None is "no record"."""
