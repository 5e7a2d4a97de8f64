"""Call sites that are left as they are: ``delay``, ``apply_async``, ``AsyncResult``."""

import json
import logging
from collections.abc import Callable
from typing import Any, Final

from taskflow._declare import ports
from taskflow._declare.task import Task
from taskflow.celery import _door
from taskflow.celery._arguments import Arguments
from taskflow.celery._options import seconds_until
from taskflow.errors import (
    ConfigurationError,
    IllegalMoveError,
    PayloadError,
    ResultTimeoutError,
    TaskFailedError,
    TaskNotFoundError,
)

_logger = logging.getLogger("taskflow.celery")

_WITHOUT_MEANING: Final = frozenset(
    {
        "add_to_parent",
        "argsrepr",
        "compression",
        "connection",
        "delivery_mode",
        "exchange_type",
        "ignore_result",
        "immediate",
        "kwargsrepr",
        "mandatory",
        "origin",
        "parent_id",
        "producer",
        "publisher",
        "replaced_task_nesting",
        "reply_to",
        "result_cls",
        "retry",
        "retry_policy",
        "root_id",
        "serializer",
        "shadow",
        "utc",
    }
)
"""How a message is sent; there is none."""

_ROUTING: Final = frozenset({"exchange", "priority", "queue", "routing_key"})
"""Where a message goes; said once for each task and option, and left aside."""

_FOLLOW: Final = "enqueue what follows in the body"
_REFUSED: Final = {
    "chain": _FOLLOW,
    "chord": _FOLLOW,
    "group_id": "enqueue the calls with flow.enqueue_many",
    "headers": "pass what they carry as an argument",
    "link": _FOLLOW,
    "link_error": _FOLLOW,
    "soft_time_limit": "set it for the task: adopt(..., soft_timeout=...)",
    "task_id": "ids are made by taskflow; options(key=...) makes a call unique",
}

_STATES: Final = {
    "PENDING": "PENDING",
    "SCHEDULED": "PENDING",
    "ACTIVE": "STARTED",
    "COMPLETED": "SUCCESS",
    "DLQ": "FAILURE",
    "FAILED": "FAILURE",
    "CANCELLED": "REVOKED",
}

_LONGEST_EXPIRED: Final = 0.001

_LateError: Any = type(
    "ResultTimeoutError",
    (ResultTimeoutError, _door.TimedOut),
    {"__doc__": "The task has not ended yet; Celery's ``TimeoutError`` as well."},
)


class AsyncResult:
    """What became of a call, asked as Celery is asked.

    Takes the place of ``celery.result.AsyncResult`` for tasks of ours.

    Args:
        id: Of the task.

    Attributes:
        id: Of the task.
    """

    def __init__(self, id: str, *_: Any, **__: Any) -> None:  # noqa: A002 - Celery's name
        self.id: str = id
        self._decode: Callable[[bytes], Any] = json.loads
        self._task: Task[..., Any, Any] | None = None

    @classmethod
    def of(cls, task_id: str, task: Task[..., Any, Any]) -> "AsyncResult":
        made = cls(task_id)
        made._decode = task.result.decode
        made._task = task
        return made

    @property
    def _client(self) -> Any:
        task = self._task
        return ports.current() if task is None else ports.client_of(task)

    @property
    def task_id(self) -> str:
        """The same as `id`."""
        return self.id

    def _record(self) -> Any:
        try:
            return self._client.info(self.id)
        except TaskNotFoundError:
            return None

    @property
    def state(self) -> str:
        """Where the task stands, in Celery's words.

        ``PENDING`` also where there is no such task, and ``RETRY`` where it waits
        for another attempt; while it runs, what its body said with ``update_state``,
        else ``STARTED``. A dead letter is a ``FAILURE``, a cancelled task ``REVOKED``.
        """
        record = self._record()
        if record is None:
            return "PENDING"
        state = str(record.state)
        if state == "ACTIVE":
            return str(record.annotations.get("celery_state") or "STARTED")
        if state in {"PENDING", "SCHEDULED"} and record.attempts:
            return "RETRY"
        return _STATES[state]

    @property
    def status(self) -> str:
        """The same as `state`."""
        return self.state

    def ready(self) -> bool:
        """Whether the task has ended."""
        return self.state in {"SUCCESS", "FAILURE", "REVOKED"}

    def successful(self) -> bool:
        """Whether it has ended with a result."""
        return self.state == "SUCCESS"

    def failed(self) -> bool:
        """Whether it has failed for good."""
        return self.state == "FAILURE"

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,  # noqa: FBT001, FBT002 - Celery's
        **_: Any,
    ) -> Any:
        """Block until the task has ended, and return its result.

        Args:
            timeout: Seconds to wait at most; None = for ever.
            propagate: Whether a failure is raised; else the error is returned.

        Returns:
            What the body returned.

        Raises:
            TaskFailedError: It ended without a result. Not the error of the body:
                exceptions do not cross processes here.
            ResultTimeoutError: It has not ended; Celery's ``TimeoutError`` as well.
            TaskNotFoundError: There is no such task, or no longer.
        """
        try:
            return self._client.result(self.id, self._decode, timeout)
        except ResultTimeoutError as error:
            raise _LateError(error.task_id, error.timeout) from error
        except TaskFailedError as error:
            if propagate:
                raise
            return error

    def wait(self, timeout: float | None = None, **options: Any) -> Any:
        """Do the same as `get`."""
        return self.get(timeout, **options)

    @property
    def result(self) -> Any:
        """The result, or the error of a task that failed; else None.

        While it runs, what the body said with ``update_state(meta=)``.
        """
        record = self._record()
        if record is None:
            return None
        if str(record.state) == "ACTIVE":
            return record.annotations.get("celery_meta")
        if _STATES[str(record.state)] == "PENDING":
            return None
        try:
            return self.get(timeout=0, propagate=False)
        except (ResultTimeoutError, TaskNotFoundError):
            return None

    @property
    def info(self) -> Any:
        """The same as `result`."""
        return self.result

    @property
    def date_done(self) -> Any:
        """When the task ended, or None."""
        record = self._record()
        return None if record is None else record.finished_at

    def revoke(self, *_: Any, **__: Any) -> None:
        """Cancel the task; one that has ended stays as it is."""
        try:
            self._client.cancel(self.id)
        except (IllegalMoveError, TaskNotFoundError):
            return

    def forget(self) -> None:
        """Do nothing: records go by themselves, after ``RESULT_TTL``."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AsyncResult) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __str__(self) -> str:
        return self.id

    def __repr__(self) -> str:
        return f"<AsyncResult: {self.id}>"


class Redirect:
    """Stands for ``apply_async`` of a Celery task, and enqueues with us.

    Args:
        celery_task: Whose calls.
        task: What it became.
        arguments: Of its body.
        accepts_json: Whether arguments may be given as JSON has them, where a
            model is annotated.
    """

    def __init__(
        self,
        celery_task: Any,
        task: Task[..., Any, Any],
        arguments: Arguments,
        *,
        accepts_json: bool,
    ) -> None:
        self._celery_task = celery_task
        self._task = task
        self._arguments = arguments
        self._accepts_json = accepts_json
        self._said: set[str] = set()

    def install(self, *tasks: Any) -> None:
        """Let ``delay``, ``apply_async`` and ``AsyncResult`` of *tasks* come here."""
        for each in tasks:
            each.apply_async = self.apply_async
            each.AsyncResult = self.result_of

    def result_of(self, task_id: str, **_: Any) -> AsyncResult:
        """Return what became of an earlier call."""
        return AsyncResult.of(task_id, self._task)

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Store a call.

        Args:
            args: By position.
            kwargs: By name.
            **options: Celery's.

        Returns:
            Its `AsyncResult`; Celery's own where ``task_always_eager`` is set.

        Raises:
            ConfigurationError: An option means nothing here; says the way out.
            PayloadError: The arguments do not fit; nothing was stored.
        """
        celery_task = self._celery_task
        if celery_task.app.conf.task_always_eager:
            kind: Any = celery_task.__class__
            return kind.apply_async(celery_task, args, kwargs, **options)
        chosen = self._chosen({k: each for k, each in options.items() if each})
        call = self._call(chosen, args or (), kwargs or {})
        handle = ports.client_of(self._task).enqueue(call)
        return self.result_of(handle.id)

    def _call(self, task: Task[..., Any, Any], args: Any, kwargs: Any) -> Any:
        try:
            named = self._arguments.named(args, kwargs)
        except TypeError as error:
            raise PayloadError(str(error), task=task.name) from error
        try:
            return task.call(**named)
        except PayloadError:
            if not self._accepts_json:
                raise
            return task.call_from_json(named)

    def _chosen(self, options: dict[str, Any]) -> Task[..., Any, Any]:
        app = self._celery_task.app
        wait = options.pop("eta", None) or options.pop("countdown", None)
        expires = options.pop("expires", None) or self._celery_task.expires
        limit = options.pop("time_limit", None)
        self._refuse(options)
        if expires is not None:
            expires = max(_LONGEST_EXPIRED, seconds_until(expires, app) or 0.0)
        return self._task.options(
            delay=seconds_until(wait, app), expires=expires, timeout=limit
        )

    def _refuse(self, options: dict[str, Any]) -> None:
        name = self._task.name
        problems = [
            f"{name!r} was called with {option}=, which has no meaning for taskflow; "
            + _REFUSED.get(option, "leave it out")
            for option in options
            if option not in _WITHOUT_MEANING | _ROUTING
        ]
        if problems:
            raise ConfigurationError(problems)
        for option in _ROUTING & {*options} - self._said:
            self._said.add(option)
            _logger.warning(
                "%r is called with %s=%r, which is left aside: there is one queue for "
                "all tasks, and upstreams to hold some back",
                name,
                option,
                options[option],
            )
