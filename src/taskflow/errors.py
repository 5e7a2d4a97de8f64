"""Every exception and every signal of the library.

.. code-block:: text

    TaskFlowError
    ├── ConfigurationError
    ├── RegistryError
    │   ├── TaskNameTakenError
    │   └── UnknownTaskError
    ├── PluginError
    ├── PayloadError
    ├── KeyConflictError
    ├── ServerError
    │   ├── ServerUnavailableError
    │   ├── ServerFullError
    │   ├── NotReplicatedError
    │   ├── ServerRefusedError
    │   ├── ScriptError
    │   ├── TaskNotFoundError
    │   ├── ScheduleNotFoundError
    │   ├── UpstreamNotFoundError
    │   ├── IllegalMoveError
    │   └── LeaseLostError
    ├── CircuitBreakerError
    └── ResultError
        ├── TaskFailedError
        └── ResultTimeoutError

    TaskSignal
    ├── Retry
    ├── Snooze
    ├── DeadLetter
    └── Cancel

Errors end in ``Error`` and carry their facts. Signals, which a body raises to steer
what becomes of it, are no errors: ``except TaskFlowError`` cannot swallow one.
"""

from collections.abc import Iterable, Sequence

from taskflow._signals import (
    Cancel,
    DeadLetter,
    Reduced,
    Retry,
    Snooze,
    TaskSignal,
    restore,
)

__all__ = [
    "Cancel",
    "CircuitBreakerError",
    "ConfigurationError",
    "DeadLetter",
    "IllegalMoveError",
    "KeyConflictError",
    "LeaseLostError",
    "NotReplicatedError",
    "PayloadError",
    "PluginError",
    "RegistryError",
    "ResultError",
    "ResultTimeoutError",
    "Retry",
    "ScheduleNotFoundError",
    "ScriptError",
    "ServerError",
    "ServerFullError",
    "ServerRefusedError",
    "ServerUnavailableError",
    "Snooze",
    "TaskFailedError",
    "TaskFlowError",
    "TaskNameTakenError",
    "TaskNotFoundError",
    "TaskSignal",
    "UnknownTaskError",
    "UpstreamNotFoundError",
]

_SHOWN = 20


class TaskFlowError(Exception):
    """Base of every error that this library raises."""

    def __reduce__(self) -> Reduced:
        # Exception's own would call __init__ with the message alone, and an
        # error that cannot be unpickled kills a process pool.
        return restore, (type(self), self.args, self.__dict__)


class ConfigurationError(TaskFlowError):
    """A setting or a declaration is wrong; at start-up, never in mid-flight.

    Attributes:
        problems: One sentence for each mistake.
    """

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems: tuple[str, ...] = (
            (problems,) if isinstance(problems, str) else tuple(problems)
        )
        if len(self.problems) == 1:
            super().__init__(self.problems[0])
        else:
            listed = "\n".join(f"  - {problem}" for problem in self.problems)
            super().__init__(f"{len(self.problems)} problems:\n{listed}")


class RegistryError(TaskFlowError):
    """A task cannot be declared, or is not there."""


class TaskNameTakenError(RegistryError):
    """Two functions claim one name.

    Attributes:
        name: The name.
        first: Where the task that has it was declared.
        second: Where the other was declared.
    """

    def __init__(self, name: str, first: str, second: str) -> None:
        self.name = name
        self.first = first
        self.second = second
        super().__init__(
            f"the task name {name!r} is taken by {first}; {second} needs another: "
            "@task(name=...)"
        )


class UnknownTaskError(RegistryError):
    """This process has no such task.

    Attributes:
        name: The name.
        known: Names that are registered here, sorted.
    """

    def __init__(self, name: str, known: Iterable[str]) -> None:
        self.name = name
        self.known: tuple[str, ...] = tuple(sorted(known))
        there = ", ".join(repr(each) for each in self.known[:_SHOWN]) or "none"
        more = f" and {len(self.known) - _SHOWN} more" if self.known[_SHOWN:] else ""
        super().__init__(f"unknown task {name!r}; registered here: {there}{more}")


class PluginError(TaskFlowError):
    """A plugin failed to load.

    Attributes:
        entry_point: Which one.
        reason: What went wrong, and what to do.
    """

    def __init__(self, entry_point: str, reason: str) -> None:
        self.entry_point = entry_point
        self.reason = reason
        super().__init__(f"plugin {entry_point!r} failed to load: {reason}")


class PayloadError(TaskFlowError):
    """Arguments or a result cannot be stored, or not be restored as they were.

    Attributes:
        message: What is wrong, without the place.
        path: Where in the value, ``$`` being the whole.
        task: Name of the task, or None.
    """

    def __init__(
        self, message: str, *, path: str = "$", task: str | None = None
    ) -> None:
        self.message = message
        self.path = path
        self.task = task
        whose = "" if task is None else f"task {task!r}: "
        super().__init__(f"{whose}{message} - at {path}")

    def of_task(self, name: str, part: str = "") -> "PayloadError":
        """Return the same error, with the task's name in front."""
        message = f"{part}: {self.message}" if part else self.message
        return PayloadError(message, path=self.path, task=name)

    def below(self, path: str) -> "PayloadError":
        """Return the same error of a value that stands at *path* in a whole."""
        inside = self.path.replace("$", path, 1)
        return PayloadError(self.message, path=inside, task=self.task)


class KeyConflictError(TaskFlowError):
    """Another task holds the idempotency key: enqueued with other arguments, or since.

    Attributes:
        key: The key.
        task_id: The task that holds it.
        requeued: The task that cannot run again because of it; empty when a new
            call was refused.
    """

    def __init__(self, key: str, task_id: str, requeued: str = "") -> None:
        self.key = key
        self.task_id = task_id
        self.requeued = requeued
        super().__init__(
            f"task {requeued!r} was not requeued: task {task_id!r} has taken its key "
            f"{key!r}; delete that task first, or discard this one"
            if requeued
            else f"key {key!r} is held by task {task_id!r} with other arguments; "
            "nothing was stored"
        )


class ServerError(TaskFlowError):
    """The server did not do what it was asked."""


class ServerUnavailableError(ServerError):
    """The server gave no answer; the same call may succeed later."""


class ServerFullError(ServerError):
    """The server is out of memory and refused the write; nothing was stored."""


class NotReplicatedError(ServerError):
    """Tasks are stored, and too few replicas have confirmed it in time.

    Attributes:
        task_ids: Of the call's tasks; they are stored, and will run.
        confirmed: Replicas that have them.
        wanted: Replicas that should have.
    """

    def __init__(
        self, confirmed: int, wanted: int, task_ids: tuple[str, ...] = ()
    ) -> None:
        super().__init__(
            f"stored, and {confirmed} of {wanted} replicas confirmed it in time: a "
            "failover now could lose it. The task will run; with its key it may be "
            "enqueued again, and is confirmed then"
        )
        self.confirmed = confirmed
        self.wanted = wanted
        self.task_ids = task_ids


class ServerRefusedError(ServerError):
    """Wrong password, missing permission, or no scripts: an operator must act."""


class ScriptError(ServerError):
    """A script answered the impossible: a bug, or a key of a foreign type.

    Attributes:
        script: Its name.
        answer: What it said.
    """

    def __init__(self, script: str, answer: str) -> None:
        self.script = script
        self.answer = answer
        super().__init__(f"script {script!r}: {answer}")


class TaskNotFoundError(ServerError):
    """There is no record under this id.

    Attributes:
        task_id: The id.
    """

    def __init__(self, task_id: str) -> None:
        self.task_id = task_id
        super().__init__(f"there is no task {task_id!r}")


class ScheduleNotFoundError(ServerError):
    """There is no schedule of this name.

    Attributes:
        name: The name.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"there is no schedule {name!r}; a worker that serves it makes it known"
        )


class UpstreamNotFoundError(ServerError):
    """There is no such upstream, or no worker has declared it yet.

    Attributes:
        name: Of the upstream.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"there is no upstream {name!r}; a worker that serves it makes it known"
        )


class IllegalMoveError(ServerError):
    """The state of a task forbids what was asked; nothing was changed.

    Attributes:
        task_id: The task.
        from_state: Where it stands.
        move: What was asked.
        to_state: Where it would have gone, or None.
    """

    def __init__(
        self, task_id: str, from_state: str, move: str, *, to_state: str | None = None
    ) -> None:
        self.task_id = task_id
        self.from_state = from_state
        self.move = move
        self.to_state = to_state
        super().__init__(f"task {task_id!r} is {from_state}: cannot {move} it")


class LeaseLostError(ServerError):
    """Somebody else owns the task now; nothing was stored.

    Attributes:
        task_id: The task.
    """

    def __init__(self, task_id: str) -> None:
        self.task_id = task_id
        super().__init__(f"the lease on task {task_id!r} is lost")


class CircuitBreakerError(TaskFlowError):
    """An upstream may not be called now; it may succeed after a while.

    The one that is raised is a ``pybreaker.CircuitBreakerError`` as well. A task that
    ends with it has used no attempt.

    Attributes:
        name: Of the upstream.
        retry_after: Seconds until asking again makes sense.
        reason: Why, for people; empty if it is not known.
    """

    def __init__(self, name: str, retry_after: float, reason: str = "") -> None:
        self.name = name
        self.retry_after = retry_after
        self.reason = reason
        why = f": {reason}" if reason else ""
        super().__init__(
            f"upstream {name!r} is not called for {retry_after:g} s more{why}"
        )


class ResultError(TaskFlowError):
    """There is no result to return."""


class TaskFailedError(ResultError):
    """The task ended without a result.

    Attributes:
        task_id: The task.
        state: How it ended.
        error_type: Name of the remote exception's class.
        message: Its text.
        attempts: Attempts that failed.
    """

    def __init__(
        self, task_id: str, state: str, error_type: str, message: str, attempts: int
    ) -> None:
        self.task_id = task_id
        self.state = state
        self.error_type = error_type
        self.message = message
        self.attempts = attempts
        super().__init__(
            f"task {task_id!r} is {state} after {attempts} failed attempts: "
            f"{error_type}: {message}"
        )


class ResultTimeoutError(ResultError, TimeoutError):
    """The task has not ended yet; it goes on all the same.

    Attributes:
        task_id: The task.
        timeout: Seconds that were waited.
    """

    def __init__(self, task_id: str, timeout: float) -> None:
        self.task_id = task_id
        self.timeout = timeout
        super().__init__(f"task {task_id!r} has not ended within {timeout:g} s")
