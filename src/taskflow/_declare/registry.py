"""Which tasks there are, by name; and the decorator that declares one.

Declaring touches nothing: no connection, no configuration, no file.
"""

import inspect
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from datetime import tzinfo
from functools import partial
from pathlib import Path
from typing import Any, cast

from taskflow._codec import layers, unwrap
from taskflow._declare import schedule as schedules
from taskflow._declare.cron_checks import surprises
from taskflow._declare.decorator import (
    CronDecorator,
    EveryDecorator,
    TaskDecorator,
    TaskT,
)
from taskflow._declare.duration import Seconds, problem_of, to_seconds
from taskflow._declare.hints import TASK_OPTIONS, option_hint
from taskflow._declare.retry_policy import RetryPolicy
from taskflow._declare.schedule import Cron, Every, Missed, Schedule
from taskflow._declare.task import Task
from taskflow._declare.upstream import Upstream, weight_problem
from taskflow.errors import (
    ConfigurationError,
    RegistryError,
    TaskNameTakenError,
    UnknownTaskError,
)

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")


class Registry:
    """Tasks by name.

    Example:
        >>> registry = Registry()
        >>> @registry.task(name="add")
        ... def add(x: int, y: int) -> int:
        ...     return x + y
        >>> add(2, 3), registry.names()
        (5, ('add',))
    """

    def __init__(self) -> None:
        self._tasks: dict[str, Task[..., Any, Any]] = {}
        self._schedules: dict[str, Schedule] = {}
        self._upstreams: dict[str, Upstream] = {}
        self._named: dict[str, Upstream] = {}
        self.task: TaskDecorator = self._decorate
        """Declare a function as a task of this registry; see `taskflow.task`."""

    def _decorate(
        self, function: Callable[..., Any] | None = None, /, **options: Any
    ) -> Any:
        """Declare a function as a task; bare, or with options.

        Declaring touches nothing; the function can still be called in place.

        Args:
            function: The body, plain or a coroutine function.
            **options: *name* (left out: ``module.function``); *retry*, a
                `RetryPolicy`; *timeout* and *soft_timeout*, the hard and the
                soft limit, seconds or a timedelta; *dead_letter*, False for a task that is
                FAILED when it has failed for good; *upstream*, the `Upstream` that
                it calls, or its name; *weight*, the tokens of its rate limit that a
                run takes.

        Returns:
            The task, or a decorator that makes it.

        Raises:
            RegistryError: It cannot be a task, has no name that another process
                could find it by, or an option makes no sense.
            TaskNameTakenError: Another function has the name.
        """
        for option in options.keys() - TASK_OPTIONS:
            raise RegistryError(option_hint(option, TASK_OPTIONS))
        if function is None:
            return partial(self._declare, **options)
        return self._declare(function, **options)

    def _declare(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        retry: RetryPolicy | None = None,
        timeout: Seconds | None = None,
        soft_timeout: Seconds | None = None,
        dead_letter: bool = True,
        upstream: Upstream | str | None = None,
        weight: float = 1,
    ) -> Task[..., Any, Any]:
        _check_function(function)
        for problem in weight_problem(weight):
            raise RegistryError(problem)
        calls = _upstream(upstream)
        made: Task[..., Any, Any] = Task(
            function=function,
            name=_checked(default_name(function) if name is None else name),
            is_async=any(map(inspect.iscoroutinefunction, layers(function))),
            retry=_policy(retry),
            timeout=_limit("timeout", timeout),
            soft_timeout=_limit("soft_timeout", soft_timeout),
            dead_letter=dead_letter,
            upstream=calls.name if calls is not None else "",
            weight=weight,
        )
        self.add(made)
        if calls is not None:
            is_declared = isinstance(upstream, Upstream)
            (self._upstreams if is_declared else self._named)[calls.name] = calls
        return made

    def add_upstream(self, upstream: Upstream) -> None:
        """Declare *upstream*, for tasks that name it; the last one of a name stands.

        A task that is given the `Upstream` itself declares it as well.
        """
        self._upstreams[upstream.name] = upstream

    def upstream(self, name: str) -> Upstream:
        """Return the upstream called *name*; one with defaults if none is declared."""
        known = self._upstreams.get(name) or self._named.get(name)
        if known is None:
            known = self._named[name] = Upstream(name)
        return known

    def upstreams(self, *, declared: bool = False) -> tuple[Upstream, ...]:
        """Return the upstreams that are declared, or named by a task.

        Args:
            declared: Leave out those that are only named.

        Returns:
            By name.
        """
        named = {
            task.upstream
            for task in self._tasks.values()
            if task.upstream and not declared
        }
        return tuple(self.upstream(name) for name in sorted(named | {*self._upstreams}))

    def add(self, task: Task[..., Any, Any]) -> None:
        """Register *task* under its name.

        The same function again, as after a module's reload, replaces.

        Raises:
            TaskNameTakenError: Another function has the name.
        """
        self._refuse_clash(task)
        self._tasks[task.name] = task

    def include(self, other: "Registry") -> None:
        """Register every task of *other* here too, or none.

        Raises:
            TaskNameTakenError: Another function has one of the names.
        """
        for task in other:
            self._refuse_clash(task)
        for schedule in other.schedules():
            self._refuse_twin(schedule)
        for task in other:
            self._tasks[task.name] = task
        for schedule in other.schedules():
            self._schedules[schedule.name] = schedule
        for upstream in other.upstreams(declared=True):
            self.add_upstream(upstream)

    def cron(
        self,
        expression: str,
        *,
        tz: str | tzinfo = "UTC",
        name: str | None = None,
        arguments: Mapping[str, Any] | None = None,
        missed: Missed = "last",
    ) -> Callable[[TaskT], TaskT]:
        """Let a task run by itself, by a cron expression; stands above ``@task``.

        Any number of workers and schedulers may serve it: each tick is enqueued
        once, as a call of the task like any other.

        Args:
            expression: Minute, hour, day of month, month, day of week; or one of
                ``@hourly @daily @weekly @monthly @yearly``.
            tz: Time zone in which it is meant, such as ``Europe/Berlin``, by name or
                as a `zoneinfo.ZoneInfo`. In the hour that daylight saving leaves out a fixed time ticks at the end
                of the gap, in the hour that comes twice it ticks once.
            name: Of the schedule; left out: the task's. A second schedule of one
                task needs a name of its own.
            arguments: Of each call, by name, as JSON has them; checked when a
                worker starts.
            missed: What becomes of ticks that nobody made, because no worker ran or
                the schedule was paused for over a minute: ``last`` runs the latest
                of them, ``all`` each (the latest 1,000), ``skip`` none.

        Returns:
            A decorator that gives the task back.

        Raises:
            RegistryError: Something of it makes no sense, or the name is taken.

        Warns:
            UserWarning: It ticks at other times than it seems to say.
        """
        ticks = schedules.cron(expression, tz)
        for surprise in surprises(ticks.expression):
            warnings.warn(f"cron expression {expression!r}: {surprise}", stacklevel=2)
        return self._scheduled(ticks, name, arguments, missed)

    def every(
        self,
        interval: Seconds,
        *,
        name: str | None = None,
        arguments: Mapping[str, Any] | None = None,
        missed: Missed = "last",
    ) -> Callable[[TaskT], TaskT]:
        """Let a task run by itself every so often; stands above ``@task``.

        Ticks are counted from the epoch, so that a restart does not shift them.

        Args:
            interval: Seconds or a timedelta, from 0.1 s to 366 days.
            name: As for `cron`.
            arguments: As for `cron`.
            missed: As for `cron`.

        Returns:
            A decorator that gives the task back.

        Raises:
            RegistryError: Something of it makes no sense, or the name is taken.
        """
        return self._scheduled(schedules.every(interval), name, arguments, missed)

    def _scheduled(
        self,
        when: Cron | Every,
        name: str | None,
        arguments: Mapping[str, Any] | None,
        missed: Missed,
    ) -> Callable[[TaskT], TaskT]:
        def decorate(task: TaskT) -> TaskT:
            made = schedules.schedule_of(
                task, when, name=name, arguments=arguments, missed=missed
            )
            self._refuse_twin(made)
            self._schedules[made.name] = made
            return task

        return decorate

    def _refuse_twin(self, schedule: Schedule) -> None:
        there = self._schedules.get(schedule.name)
        if there is None or there.digest == schedule.digest:
            return
        if _home(there.task.function) == _home(schedule.task.function):
            message = (
                f"there is a schedule {schedule.name!r} of another kind already "
                f"({there.when}); give this one a name: name=..."
            )
            raise RegistryError(message)
        raise TaskNameTakenError(
            schedule.name,
            _describe(there.task.function),
            _describe(schedule.task.function),
        )

    def schedules(self) -> tuple[Schedule, ...]:
        """Return all schedules, by name."""
        return tuple(self._schedules[name] for name in sorted(self._schedules))

    def _refuse_clash(self, task: Task[..., Any, Any]) -> None:
        there = self._tasks.get(task.name)
        if there is not None and _home(there.function) != _home(task.function):
            raise TaskNameTakenError(
                task.name, _describe(there.function), _describe(task.function)
            )

    def get(self, name: str) -> Task[..., Any, Any]:
        """Return the task called *name*.

        Raises:
            UnknownTaskError: There is none; says which there are.
        """
        task = self._tasks.get(name)
        if task is None:
            raise UnknownTaskError(name, self._tasks)
        return task

    def names(self) -> tuple[str, ...]:
        """Return all names, sorted."""
        return tuple(sorted(self._tasks))

    def has(self, task: Task[..., Any, Any]) -> bool:
        """Whether *task* is one of these."""
        known = self._tasks.get(task.name)
        return known is not None and known.function is task.function

    def __contains__(self, name: object) -> bool:
        return name in self._tasks

    def __iter__(self) -> Iterator[Task[..., Any, Any]]:
        return iter(list(self._tasks.values()))

    def __len__(self) -> int:
        return len(self._tasks)


def default_name(function: Callable[..., Any]) -> str:
    """Return ``module.function``; a script's module is the stem of its file.

    Raises:
        RegistryError: There is none that another process could find it by.
    """
    why = ""
    if any(isinstance(layer, partial) for layer in layers(function)):
        why = "is a partial"
    elif any(map(inspect.ismethod, layers(function))):
        why = "is a method of an object"
    elif "<" in unwrap(function).__qualname__:
        why = "is local or a lambda"
    if why:
        message = (
            f"{_describe(function)} {why}, and has no name that another process "
            "knows; give one: @task(name=...)"
        )
        raise RegistryError(message)
    return f"{_module_of(function)}.{unwrap(function).__qualname__}"


def _module_of(function: Callable[..., Any]) -> str:
    """Name the module as whoever imports it does."""
    module = unwrap(function).__module__
    # What multiprocessing calls the script in a process that it has spawned.
    if module not in {"__main__", "__mp_main__"}:
        return module
    main = sys.modules[module]
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name:
        return str(spec.name).removesuffix(".__main__")
    file = getattr(main, "__file__", None)
    return Path(file).stem if file else module


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        message = (
            f"task name {name!r} may hold 1 to 128 letters, digits, '_', '.', '-'; "
            "give another: @task(name=...)"
        )
        raise RegistryError(message)
    return name


def _upstream(given: object) -> Upstream | None:
    if given is None or isinstance(given, Upstream):
        return given
    if isinstance(given, str):
        try:
            return Upstream(given)
        except ConfigurationError as error:
            raise RegistryError(str(error)) from error
    message = f"upstream must be an Upstream or its name, got {given!r}"
    raise RegistryError(message)


def _limit(what: str, limit: Seconds | None) -> float | None:
    seconds = to_seconds(limit)
    for problem in problem_of(what, seconds):
        raise RegistryError(problem)
    return seconds


def _policy(retry: Any) -> RetryPolicy | None:
    if retry is not None and not isinstance(retry, RetryPolicy):
        message = f"retry must be a RetryPolicy, got {retry!r}"
        raise RegistryError(message)
    return retry


def _check_function(function: Any) -> None:
    if isinstance(function, Task):
        declared = cast("Task[..., Any, Any]", function)
        message = f"{declared.name!r} is a task already"
        raise RegistryError(message)
    body = unwrap(function) if callable(function) else None
    if body is None or not inspect.isroutine(body):
        message = f"{function!r} is no function; declare one made with def"
        raise RegistryError(message)
    if inspect.isgeneratorfunction(body) or inspect.isasyncgenfunction(body):
        message = (
            f"{_describe(function)} is a generator; a task returns one value: return "
            "a list, or report pieces with Context.emit"
        )
        raise RegistryError(message)
    try:
        parameters = list(inspect.signature(function).parameters)
    except ValueError as error:
        message = f"{_describe(function)} does not say what it takes; wrap it in a def"
        raise RegistryError(message) from error
    owner = body.__qualname__.rpartition("<locals>.")[2]
    if "." in owner and parameters[:1] in (["self"], ["cls"]):
        message = (
            f"{_describe(function)} is a method, and a worker has no object to call it "
            "on; declare a function outside of the class"
        )
        raise RegistryError(message)


def _home(function: Callable[..., Any]) -> tuple[str, str, int]:
    # The same after a reload, and as a script. What has no name of its own is
    # told apart by its line.
    body = unwrap(function)
    name = body.__qualname__
    line = body.__code__.co_firstlineno if "<" in name else 0
    return _module_of(function), name, line


def _describe(function: Callable[..., Any]) -> str:
    body = unwrap(function)
    code = getattr(body, "__code__", None)
    where = f" ({code.co_filename}:{code.co_firstlineno})" if code else ""
    return f"{body.__module__}.{body.__qualname__}{where}"


default_registry = Registry()

task: TaskDecorator = default_registry.task

cron: CronDecorator = default_registry.cron

every: EveryDecorator = default_registry.every
