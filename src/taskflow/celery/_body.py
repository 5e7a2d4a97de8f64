"""The body of an adopted task: what Celery's worker does around it, done by ours.

A twin of the Celery task runs, which shares its class, its attributes and its stack
of requests, and overrides below every class of the host's what would talk to
Celery's broker or result backend. The Celery task itself is not touched.
"""

import json
import logging
import socket
from collections.abc import Callable
from typing import Any

from attrs import define, field

from taskflow._declare.context import Context
from taskflow._declare.error_groups import leaves_of, parts_of
from taskflow._declare.retry_policy import RetryPolicy
from taskflow._declare.task import Task
from taskflow.celery import _door
from taskflow.celery._arguments import Arguments
from taskflow.celery._options import seconds_until
from taskflow.errors import (
    Cancel,
    ConfigurationError,
    DeadLetter,
    PayloadError,
    Retry,
    Snooze,
    TaskSignal,
)

_logger = logging.getLogger("taskflow.celery")

_SAVED = "celery_arguments"
_REQUEUE_DELAY = 1.0
_HOST = f"taskflow@{socket.gethostname()}"


@define
class Run:
    """One run of a body.

    Attributes:
        context: Of the worker.
        arguments: As they are stored.
        args: By position.
        kwargs: By name.
        state: What Celery would call its end.
        value: What it returned, or what ended it.
        asked: The retry that the body asked for last, in Celery's words and ours.
        spent: The error by which it was told that there are no more retries.
    """

    context: Context
    arguments: dict[str, Any]
    args: list[Any]
    kwargs: dict[str, Any]
    state: str = "IGNORED"
    value: Any = None
    asked: tuple[Any, Retry] | None = None
    spent: tuple[Exception, Retry] | None = None


@define
class AdoptedFunction:
    """Runs a Celery task.

    Attributes:
        original: The Celery task, whom receivers of signals know.
        twin: What runs.
        arguments: Of its body.
        ignores_result: Whether what it returns is dropped.
        drops_misfits: Whether a result that cannot be stored is no failure: there
            is no result backend that it would have to fit.
        task: What it became; set once it is declared.
    """

    original: Any
    twin: Any
    arguments: Arguments
    ignores_result: bool
    drops_misfits: bool
    task: Task[..., Any, Any] = field(init=False)

    def run(self, context: Context, arguments: dict[str, Any]) -> Any:
        """Run it once; what it raises is in words of ours.

        Args:
            context: Of the worker.
            arguments: As they are stored.

        Returns:
            Its result.

        Raises:
            TaskSignal: It is to be run again, or never again.
            SystemExit: It called ``sys.exit()``.
            KeyboardInterrupt: It raised one.
        """
        arguments = self._changed(context) or arguments
        run = Run(context, arguments, *self.arguments.split(arguments))
        before = _door.enter_app(self.twin.app)
        _door.push(self.twin, self._request(run))
        try:
            self._before(run)
            try:
                value = self._called(run)
            except Exception as error:
                told = self._failed(run, error)
                if told is error:
                    raise
                if told is not None:
                    raise told from told.__cause__
                return None
            except (SystemExit, KeyboardInterrupt) as error:
                self._exited(run, error)
                raise
            return self._succeeded(run, value)
        finally:
            self._after(run)
            _door.pop(self.twin)
            _door.leave_app(before)

    def _called(self, run: Run) -> Any:
        self.twin.before_start(run.context.id, run.args, run.kwargs)
        value = _callable_of(self.twin)(*run.args, **run.kwargs)
        if run.asked is not None:
            # Asked with throw=False, as for a message that is sent already.
            raise run.asked[0]
        return value

    def _changed(self, context: Context) -> dict[str, Any] | None:
        """Return the arguments with which an earlier attempt asked for this one."""
        saved = context.checkpoint
        if not isinstance(saved, dict) or _SAVED not in saved:
            return None
        return self.task.arguments.decode(json.dumps(saved[_SAVED]).encode())

    def change(self, run: Run, args: Any, kwargs: Any) -> None:
        """Let the next attempt of *run* have other arguments."""
        given = self.arguments.named(args or (), kwargs or {})
        named = {**run.arguments, **given}
        if named != run.arguments:
            payload = self.task.arguments.encode((), named)
            run.context.save({_SAVED: json.loads(payload)})

    def _request(self, run: Run) -> Any:
        context, twin = run.context, self.twin
        return _door.Request(
            id=context.id,
            root_id=context.id,
            correlation_id=context.id,
            task=twin.name,
            args=run.args,
            kwargs=run.kwargs,
            argsrepr=repr(run.args),
            kwargsrepr=repr(run.kwargs),
            retries=context.attempt - 1,
            hostname=_HOST,
            called_directly=False,
            is_eager=False,
            utc=True,
            timelimit=[self.task.timeout, self.task.soft_timeout],
            ignore_result=self.ignores_result,
            headers={},
            delivery_info={
                "exchange": "",
                "routing_key": "",
                "priority": None,
                "redelivered": context.deliveries > context.attempt,
            },
            taskflow=context,
            taskflow_run=run,
            taskflow_body=self,
        )

    def _before(self, run: Run) -> None:
        self._signal(
            "task_prerun",
            task_id=run.context.id,
            task=self.original,
            args=run.args,
            kwargs=run.kwargs,
        )
        self.twin.app.loader.on_task_init(run.context.id, self.original)

    def _after(self, run: Run) -> None:
        self._signal(
            "task_postrun",
            task_id=run.context.id,
            task=self.original,
            args=run.args,
            kwargs=run.kwargs,
            retval=run.value,
            state=run.state,
        )
        self._tell(self.twin.app.loader.on_process_cleanup)

    def _succeeded(self, run: Run, value: Any) -> Any:
        run.state, run.value = "SUCCESS", value
        told = value, run.context.id, run.args, run.kwargs
        self._tell(self.twin.on_success, *told)
        self._signal("task_success", result=value)
        self._tell(self.twin.after_return, "SUCCESS", *told, None)
        return self._storable(value)

    def _failed(self, run: Run, error: Exception) -> BaseException | None:  # noqa: PLR0911
        """Tell of *error*; returns what the worker shall see, None = no failure."""
        run.value = error
        if run.asked is not None:
            return self._retried(run, *run.asked)
        spoken = _signal_in(error)
        if isinstance(spoken, _door.Reject):
            run.state = "REJECTED"
            return _rejected(spoken)
        if isinstance(spoken, _door.Ignore):
            return None
        if isinstance(spoken, _door.Retry):
            told = Retry(seconds_until(spoken.when, self.twin.app), str(spoken))
            told.__cause__ = spoken.exc
            return self._retried(run, spoken, told)
        if isinstance(spoken, TaskSignal):
            run.state = "RETRY" if isinstance(spoken, Retry) else "IGNORED"
            return error
        if run.spent is not None and any(
            part is run.spent[0] for part in parts_of(error)
        ):
            self._gave_up(run, error)
            run.spent[1].__cause__ = run.spent[0]
            return run.spent[1]
        if self._is_followed(run.context, error):
            asked = _door.Retry(exc=error)
            return self._retried(run, asked, error)
        self._gave_up(run, error)
        return error

    def _is_followed(self, context: Context, error: Exception) -> bool:
        rule, _ = (self.task.retry or RetryPolicy()).match(error)
        if rule is not None and (rule.dead_letter or not rule.uses_attempt):
            return not rule.dead_letter
        return context.attempt <= context.max_retries

    def _retried(self, run: Run, asked: Any, told: BaseException) -> BaseException:
        run.state, run.value = "RETRY", asked
        facts = _door.ExceptionInfo()
        self._tell(
            self.twin.on_retry, asked.exc, run.context.id, run.args, run.kwargs, facts
        )
        self._signal("task_retry", request=self.twin.request, reason=asked, einfo=facts)
        return told

    def _exited(self, run: Run, error: BaseException) -> None:
        run.value = error
        rule, _ = (self.task.retry or RetryPolicy()).match(error)
        if rule is not None and rule.dead_letter:
            # The process is gone in Celery, so that no handler of the task is called.
            run.state = "FAILURE"
            self._signal_failure(run, error, _door.ExceptionInfo())

    def _gave_up(self, run: Run, error: Exception) -> None:
        run.state = "FAILURE"
        facts = _door.ExceptionInfo()
        told = error, run.context.id, run.args, run.kwargs, facts
        self._tell(self.twin.on_failure, *told)
        self._signal_failure(run, error, facts)
        self._tell(self.twin.after_return, "FAILURE", *told)

    def _signal_failure(self, run: Run, error: BaseException, facts: Any) -> None:
        self._signal(
            "task_failure",
            task_id=run.context.id,
            exception=error,
            args=run.args,
            kwargs=run.kwargs,
            traceback=error.__traceback__,
            einfo=facts,
        )

    def _signal(self, name: str, **facts: Any) -> None:
        signal = getattr(_door.signals, name)
        if signal.receivers:
            signal.send(sender=self.original, **facts)

    def _tell(self, handler: Callable[..., Any], *facts: Any) -> None:
        # What a handler raises is no failure of the task, which has ended already.
        try:
            handler(*facts)
        except Exception:
            _logger.exception("a handler of %r failed", self.task.name)

    def _storable(self, value: Any) -> Any:
        """Return *value* as Celery's JSON would give it back, if it fits no better."""
        if self.ignores_result:
            return None
        for each in (value, plain(value)):
            try:
                self.task.result.encode(each)
            except PayloadError:
                continue
            return each
        if self.drops_misfits:
            kind = type(value).__name__
            _logger.warning("a %s that %r returned is dropped", kind, self.task.name)
            return None
        return value


def plain(value: Any) -> Any:
    """Return *value* with lists for tuples, as JSON has it; itself if JSON has not."""
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError, RecursionError):
        return value


def _signal_in(error: BaseException) -> Any:
    """Find what steers the worker in *error*, in Celery's words or ours, or None."""
    leaves = leaves_of(error)
    for kind in (_door.Reject, Cancel, DeadLetter, Snooze, _door.Retry, Retry):
        for leaf in leaves:
            if isinstance(leaf, kind):
                return leaf
    ignored = [leaf for leaf in leaves if isinstance(leaf, _door.Ignore)]
    return ignored[0] if len(ignored) == len(leaves) else None


def _rejected(error: Any) -> BaseException:
    reason = str(error.reason or error)
    told = Snooze(_REQUEUE_DELAY, reason) if error.requeue else DeadLetter(reason)
    told.__cause__ = error.reason if isinstance(error.reason, Exception) else None
    return told


def _callable_of(twin: Any) -> Callable[..., Any]:
    """Return what Celery's tracer calls: ``__call__`` where a class has its own."""
    has_own = type(twin).__call__ is not _call
    found: Callable[..., Any] = twin if has_own else twin.run
    return found


def _call(self: Any, *args: Any, **kwargs: Any) -> Any:
    return self.run(*args, **kwargs)


def _retry(  # noqa: PLR0917 - Celery's
    self: Any,
    args: Any = None,
    kwargs: Any = None,
    exc: Any = None,
    throw: bool = True,  # noqa: FBT001, FBT002 - Celery's
    eta: Any = None,
    countdown: Any = None,
    max_retries: int | None = None,
    **_: Any,
) -> Any:
    run: Run | None = self.request.get("taskflow_run")
    if run is None:
        return _door.Task.retry(
            self, args, kwargs, exc, throw, eta, countdown, max_retries
        )
    most = run.context.max_retries if max_retries is None else max_retries
    error = exc() if isinstance(exc, type) else exc
    if run.context.attempt > most:
        if error is None:
            error = self.MaxRetriesExceededError(
                f"Can't retry {self.name}[{run.context.id}] args:{run.args} "
                f"kwargs:{run.kwargs}",
                task_args=run.args,
                task_kwargs=run.kwargs,
            )
        run.spent = error, Retry(max_retries=most)
        raise error
    if args is not None or kwargs is not None:
        self.request.taskflow_body.change(run, args, kwargs)
    delay = eta or countdown
    when = self.default_retry_delay if delay is None else delay
    asked = _door.Retry(exc=error, when=when)
    told = Retry(seconds_until(delay, self.app), str(asked), max_retries=most)
    told.__cause__ = error
    run.asked = asked, told
    if throw:
        raise asked
    return asked


def _update_state(
    self: Any, task_id: Any = None, state: Any = None, meta: Any = None, **_: Any
) -> None:
    run: Run | None = self.request.get("taskflow_run")
    if run is None or task_id not in {None, run.context.id}:
        problem = f"task {self.name!r} can tell its own state alone, while it runs"
        raise ConfigurationError(problem)
    told: Any = plain(meta)
    run.context.annotate(celery_state=state, celery_meta=told)
    facts: dict[str, Any] = {**told} if isinstance(told, dict) else {}
    if isinstance(facts.get("current"), int | float):
        total = facts.get("total")
        run.context.progress(
            facts["current"], total if isinstance(total, int | float) else None
        )


def _refused(what: str) -> Callable[..., Any]:
    def refuse(self: Any, *_: Any, **__: Any) -> Any:
        problem = (
            f"task {self.name!r} asks for {what} of Celery's canvas, which is not "
            "translated: enqueue what follows in its body"
        )
        raise ConfigurationError(problem)

    return refuse


def _send_event(self: Any, type_: str, *_: Any, **__: Any) -> None:
    _logger.debug("nobody hears the event %r of %r", type_, self.name)


_OURS: dict[str, Any] = {
    "__call__": _call,
    "retry": _retry,
    "update_state": _update_state,
    "send_event": _send_event,
    "replace": _refused("replace"),
    "add_to_chord": _refused("add_to_chord"),
}

_Running: Any = type("Running", (_door.Task,), _OURS)


def twin_of(task: Any) -> Any:
    """Make the twin of *task* that runs in our workers.

    Between its classes and Celery's own stands ours: what a class of the host's
    overrides, and calls with ``super()``, reaches ours.

    Returns:
        A Celery task that is registered nowhere.
    """
    kind: Any = task.__class__
    ours: Any = type(kind.__name__, (kind, _Running), {"__doc__": kind.__doc__})
    # Not copy.copy, which gives a Celery task back as it is registered.
    twin: Any = object.__new__(ours)
    own: Any = twin.__dict__
    own.update(task.__dict__)
    if own.pop("_orig_run", None) is not None:
        # The wrapper of autoretry_for: the policy of the task does it.
        own.pop("run", None)
    return twin
