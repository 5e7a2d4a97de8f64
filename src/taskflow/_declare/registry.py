"""Which tasks there are, by name; and the decorator that declares one.

Declaring touches nothing: no connection, no configuration, no file.
"""

import inspect
import re
import sys
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

from taskflow._declare.context import Context
from taskflow._declare.retry_policy import RetryPolicy
from taskflow._declare.task import Task
from taskflow.errors import RegistryError, TaskNameTakenError, UnknownTaskError

P = ParamSpec("P")
R = TypeVar("R")

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")


class BareDecorator(Protocol):
    """Turns a function into a task, the options being given already."""

    @overload
    def __call__(
        self, function: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]], /
    ) -> Task[P, Coroutine[Any, Any, R], R]: ...
    @overload
    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> Task[P, Coroutine[Any, Any, R], R]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[Context, P], R], /
    ) -> Task[P, R, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R, R]: ...


class TaskDecorator(Protocol):
    """``@task`` and ``@task(...)``; a context that comes first needs no argument."""

    @overload
    def __call__(
        self, function: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]], /
    ) -> Task[P, Coroutine[Any, Any, R], R]: ...
    @overload
    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> Task[P, Coroutine[Any, Any, R], R]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[Context, P], R], /
    ) -> Task[P, R, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R, R]: ...
    @overload
    def __call__(
        self,
        /,
        *,
        name: str | None = None,
        retry: RetryPolicy | None = None,
        timeout: float | None = None,
        soft_timeout: float | None = None,
        dead_letter: bool = True,
    ) -> BareDecorator: ...


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
                soft limit in seconds; *dead_letter*, False for a task that is
                FAILED when it has failed for good.

        Returns:
            The task, or a decorator that makes it.
        """
        if function is None:
            return partial(self._declare, **options)
        return self._declare(function)

    def _declare(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        retry: RetryPolicy | None = None,
        timeout: float | None = None,
        soft_timeout: float | None = None,
        dead_letter: bool = True,
    ) -> Task[..., Any, Any]:
        _check_function(function)
        made: Task[..., Any, Any] = Task(
            function=function,
            name=_checked(name or default_name(function)),
            is_async=inspect.iscoroutinefunction(inspect.unwrap(function)),
            retry=retry,
            timeout=_limit("timeout", timeout),
            soft_timeout=_limit("soft_timeout", soft_timeout),
            dead_letter=dead_letter,
        )
        self.add(made)
        return made

    def add(self, task: Task[..., Any, Any]) -> None:
        """Register *task* under its name.

        The same function again, as after a module's reload, replaces.

        Raises:
            TaskNameTakenError: Another function has the name.
        """
        there = self._tasks.get(task.name)
        if there is not None and _place(there.function) != _place(task.function):
            raise TaskNameTakenError(
                task.name, _describe(there.function), _describe(task.function)
            )
        self._tasks[task.name] = task

    def include(self, other: "Registry") -> None:
        """Register every task of *other* here too.

        Raises:
            TaskNameTakenError: Another function has one of the names.
        """
        for task in other:
            self.add(task)

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

    def __contains__(self, name: object) -> bool:
        return name in self._tasks

    def __iter__(self) -> Iterator[Task[..., Any, Any]]:
        return iter(list(self._tasks.values()))

    def __len__(self) -> int:
        return len(self._tasks)


def default_name(function: Callable[..., Any]) -> str:
    """Return ``module.function``; a script's module is the stem of its file."""
    module = function.__module__
    if module == "__main__":
        main = sys.modules["__main__"]
        file = getattr(main, "__file__", None)
        spec = getattr(main, "__spec__", None)
        if spec is not None and spec.name:
            module = str(spec.name).removesuffix(".__main__")
        elif file:
            module = Path(file).stem
    return f"{module}.{function.__qualname__}"


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        message = (
            f"task name {name!r} may hold 1 to 128 letters, digits, '_', '.', '-'; "
            "give another: @task(name=...)"
        )
        raise RegistryError(message)
    return name


def _limit(what: str, seconds: float | None) -> float | None:
    if seconds is not None and not seconds > 0:
        message = f"{what} must be seconds above 0, got {seconds!r}"
        raise RegistryError(message)
    return seconds


def _check_function(function: Callable[..., Any]) -> None:
    body = inspect.unwrap(function)
    if not hasattr(function, "__qualname__"):
        message = f"{function!r} has no name; declare a function made with def"
        raise RegistryError(message)
    if isinstance(function, Task):
        message = f"{function.name!r} is a task already"
        raise RegistryError(message)
    if inspect.isgeneratorfunction(body) or inspect.isasyncgenfunction(body):
        message = (
            f"{_describe(function)} is a generator; a task returns one value: return "
            "a list, or report pieces with Context.emit"
        )
        raise RegistryError(message)


def _place(function: Callable[..., Any]) -> tuple[str, str]:
    return function.__module__, function.__qualname__


def _describe(function: Callable[..., Any]) -> str:
    code = getattr(inspect.unwrap(function), "__code__", None)
    where = f" ({code.co_filename}:{code.co_firstlineno})" if code else ""
    return f"{function.__module__}.{function.__qualname__}{where}"


default_registry = Registry()

task: TaskDecorator = default_registry.task
