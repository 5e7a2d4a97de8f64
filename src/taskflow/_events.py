"""What can be observed: one frozen class per event, and the fan-out.

Events are facts about what has just happened in this process. Observers must
not block and cannot change anything; an observer that raises is logged and
the worker goes on.
"""

import logging
from collections.abc import Callable
from typing import Any, TypeAlias

from attrs import field, frozen

_logger = logging.getLogger("taskflow.events")


@frozen
class TaskStarted:
    """A body is about to run.

    Attributes:
        id: Of the task.
        name: Of the declared function.
        attempt: Failed attempts so far + 1.
        lane: The claim came from.
        delivery: How often the task was handed out.
    """

    id: str
    name: str
    attempt: int
    lane: str
    delivery: int


@frozen
class TaskCompleted:
    """A body returned, and its result was stored.

    Attributes:
        id: Of the task.
        name: Of the declared function.
        attempt: The one that succeeded.
        seconds: The body ran.
    """

    id: str
    name: str
    attempt: int
    seconds: float


@frozen
class TaskRetried:
    """An attempt failed and another will follow.

    Attributes:
        id: Of the task.
        name: Of the declared function.
        attempt: The one that failed.
        delay: Seconds until the next may start.
        uses_attempt: Whether the attempt was counted.
        attempts: That the task has at most.
        error_type: Name of the exception's class.
        error_message: Its text.
        traceback: Of the exception, bounded text.
        error: The exception; None if it was raised in another process.
    """

    id: str
    name: str
    attempt: int
    delay: float
    uses_attempt: bool
    attempts: int
    error_type: str
    error_message: str
    traceback: str = field(default="", repr=False)
    error: BaseException | None = field(default=None, eq=False, repr=False)


@frozen
class TaskSnoozed:
    """A task went back to wait without using an attempt.

    Attributes:
        id: Of the task.
        name: Of the declared function.
        delay: Seconds until it may run again.
        reason: For people.
        is_unknown: Whether it was snoozed because this worker has no task of its
            name.
    """

    id: str
    name: str
    delay: float
    reason: str
    is_unknown: bool = False


@frozen
class TaskDeadLettered:
    """A task waits for a person.

    Attributes:
        id: Of the task.
        name: Of the declared function; empty when its record is corrupt.
        attempt: The last one.
        cause: Why it gets no further attempt.
        fingerprint: Shared by errors of one kind.
        error_type: Name of the exception's class.
        error_message: Its text.
        traceback: Of the exception, bounded text.
        error: The exception; None if it was raised in another process.
    """

    id: str
    name: str
    attempt: int
    cause: str
    fingerprint: str
    error_type: str
    error_message: str
    traceback: str = field(default="", repr=False)
    error: BaseException | None = field(default=None, eq=False, repr=False)


@frozen
class TaskFailed:
    """A task ended badly and wants no dead letter.

    Attributes:
        id: Of the task.
        name: Of the declared function.
        attempt: The last one.
        error_type: Name of the exception's class.
        error_message: Its text.
        traceback: Of the exception, bounded text.
        error: The exception; None if it was raised in another process.
    """

    id: str
    name: str
    attempt: int
    error_type: str
    error_message: str
    traceback: str = field(default="", repr=False)
    error: BaseException | None = field(default=None, eq=False, repr=False)


@frozen
class TaskCancelled:
    """A running task stopped on request.

    Attributes:
        id: Of the task.
        name: Of the declared function.
        reason: For people.
    """

    id: str
    name: str
    reason: str


@frozen
class TaskCrashed:
    """The process in which a body ran has died, and its worker lives.

    Attributes:
        id: Of the task.
        name: Of the declared function.
        crashes: Processes that have died of the task since it was stored or
            brought back.
        how: The process ended.
        is_poison: Whether it was dead-lettered for it.
        seconds: The body ran.
    """

    id: str
    name: str
    crashes: int
    how: str
    is_poison: bool
    seconds: float


@frozen
class TaskReleased:
    """A claim was handed back unharmed.

    Attributes:
        id: Of the task.
        started: Whether its body had begun.
    """

    id: str
    started: bool


@frozen
class LeaseLost:
    """This worker no longer owns a task it was running; nothing was written.

    Attributes:
        id: Of the task.
        word: ``STALE`` (taken back, or handed to another) or ``GONE``
            (deleted).
        during: ``extend`` or ``settle``: when the worker heard of it.
    """

    id: str
    word: str
    during: str


@frozen
class LeaseReaped:
    """This worker took a task back from one that stopped renewing its lease.

    Attributes:
        id: Of the task.
        where: ``retry``, ``suspects``, ``poison``, ``cancelled`` or ``ghost``.
        worker: Id of the worker that held it.
    """

    id: str
    where: str
    worker: str


@frozen
class ServerLost:
    """The server does not answer; the worker waits and tries again.

    Attributes:
        message: What went wrong.
    """

    message: str


@frozen
class ServerBack:
    """The server answers again.

    Attributes:
        seconds: It was away.
    """

    seconds: float


@frozen
class DataLost:
    """The server has lost its data: it restarted empty, was flushed, or failed over.

    Upstreams and schedules that this worker declares are declared again. Tasks and
    results are gone, and so is what operators had set: paused lanes and schedules,
    tasks that were held back, upstreams that were opened.

    Attributes:
        opened: Upstreams that an operator had opened, and ``task:NAME`` of tasks that
            were held back, as far as this worker had heard.
    """

    opened: tuple[str, ...]


@frozen
class LoopBlocked:
    """The event loop stood still; leases were kept all the same.

    Attributes:
        seconds: At least.
        running: Names of the tasks that were running.
        culprit: Name and id of the task that blocked it; empty if it wasn't a task,
            or is not known.
        place: File, line and function where it blocked.
    """

    seconds: float
    running: tuple[str, ...]
    culprit: str = ""
    place: str = ""


@frozen
class WorkerStarted:
    """A worker begins to claim.

    Attributes:
        worker: Its id.
        facts: What its banner shows.
    """

    worker: str
    facts: dict[str, Any]


@frozen
class WorkerStopping:
    """A worker has stopped claiming and finishes what it runs.

    Attributes:
        worker: Its id.
        running: Bodies that still run.
        grace: Seconds they have.
    """

    worker: str
    running: int
    grace: float


@frozen
class WorkerStopped:
    """A worker has settled or released all it held.

    Attributes:
        worker: Its id.
        released: Tasks that it released.
        still_running: Descriptions of functions and asyncio tasks that task functions
            have left running in this process.
    """

    worker: str
    released: int
    still_running: tuple[str, ...] = ()


@frozen
class UpstreamStateChanged:
    """The breaker of an upstream turned, somewhere in the fleet.

    Attributes:
        name: Of the upstream.
        state: ``closed``, ``open`` or ``half-open``.
        by: Why it is shut: ``failures``, ``person`` or ``refused``; for a closed
            one ``person``, or empty where its probes succeeded.
        reason: For people.
        retry: Seconds until an open one is tried again; 0 = when a person says so.
    """

    name: str
    state: str
    by: str
    reason: str
    retry: float


@frozen
class TaskParked:
    """A run ended because its upstream would not have it; it waits, no attempt used.

    Attributes:
        id: Of the task.
        name: Of the declared function.
        upstream: Name of the upstream.
        reason: For people.
    """

    id: str
    name: str
    upstream: str
    reason: str


Event: TypeAlias = (
    TaskStarted
    | TaskCompleted
    | TaskRetried
    | TaskCrashed
    | TaskSnoozed
    | TaskDeadLettered
    | TaskFailed
    | TaskCancelled
    | TaskReleased
    | LeaseLost
    | LeaseReaped
    | ServerLost
    | ServerBack
    | DataLost
    | LoopBlocked
    | WorkerStarted
    | WorkerStopping
    | WorkerStopped
    | UpstreamStateChanged
    | TaskParked
)

Observer: TypeAlias = Callable[[Event], None]


class Events:
    """Hands each event to those who asked for its class."""

    def __init__(self) -> None:
        self._observers: dict[type, tuple[Observer, ...]] = {}

    def subscribe(self, observer: Observer, *kinds: type) -> None:
        """Hand *observer* every event of *kinds*; of all kinds if none is named."""
        for kind in kinds or Event.__args__:
            self._observers[kind] = (*self._observers.get(kind, ()), observer)

    def wants(self, kind: type) -> bool:
        """Whether anybody observes *kind*; spares building hot events for nobody."""
        return kind in self._observers

    def emit(self, event: Event) -> None:
        """Hand *event* to its observers, in the order they subscribed."""
        for observer in self._observers.get(type(event), ()):
            try:
                observer(event)
            except KeyboardInterrupt:
                raise
            except BaseException:
                _logger.exception("an observer failed on %r", event)
