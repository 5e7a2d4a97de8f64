"""What ``@task``, ``@cron`` and ``@every`` are to a type checker."""

from collections.abc import Callable, Coroutine, Mapping
from datetime import tzinfo
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, final, overload

from taskflow._declare.context import Context
from taskflow._declare.duration import Seconds
from taskflow._declare.retry_policy import RetryPolicy
from taskflow._declare.schedule import Missed
from taskflow._declare.task import Task
from taskflow._declare.upstream import Upstream

P = ParamSpec("P")
R = TypeVar("R")
TaskT = TypeVar("TaskT", bound=Task[..., Any, Any])

# How a task is inferred, first match first. A function whose first parameter is
# a Context is a task without it; a coroutine function is one whose handle has
# what the coroutine returns. But ``Any``, ``object`` and a parameter without
# annotation fit a Context too, and ``-> Any`` fits a coroutine: so what fits
# `_Untyped`, which nobody can name, is told apart before.


@final
class _Untyped:
    """Fits only what fits everything."""


class BareDecorator(Protocol):
    """Turns a function into a task, the options being given already."""

    @overload
    def __call__(
        self, function: Callable[Concatenate[_Untyped, P], _Untyped], /
    ) -> Task[..., Any, Any]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[_Untyped, P], Coroutine[Any, Any, R]], /
    ) -> Task[..., Coroutine[Any, Any, R], R]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[_Untyped, P], R], /
    ) -> Task[..., R, R]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[Context, P], _Untyped], /
    ) -> Task[P, Any, Any]: ...
    @overload
    def __call__(self, function: Callable[P, _Untyped], /) -> Task[P, Any, Any]: ...
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
        self, function: Callable[Concatenate[_Untyped, P], _Untyped], /
    ) -> Task[..., Any, Any]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[_Untyped, P], Coroutine[Any, Any, R]], /
    ) -> Task[..., Coroutine[Any, Any, R], R]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[_Untyped, P], R], /
    ) -> Task[..., R, R]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[Context, P], _Untyped], /
    ) -> Task[P, Any, Any]: ...
    @overload
    def __call__(self, function: Callable[P, _Untyped], /) -> Task[P, Any, Any]: ...
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
        timeout: Seconds | None = None,
        soft_timeout: Seconds | None = None,
        dead_letter: bool = True,
        upstream: Upstream | str | None = None,
        weight: float = 1,
    ) -> BareDecorator: ...


class CronDecorator(Protocol):
    """``@cron(...)``, which gives the task back; see ``Registry.cron``."""

    def __call__(
        self,
        expression: str,
        *,
        tz: str | tzinfo = "UTC",
        name: str | None = None,
        arguments: Mapping[str, Any] | None = None,
        missed: Missed = "last",
    ) -> Callable[[TaskT], TaskT]: ...


class EveryDecorator(Protocol):
    """``@every(...)``, which gives the task back; see ``Registry.every``."""

    def __call__(
        self,
        interval: Seconds,
        *,
        name: str | None = None,
        arguments: Mapping[str, Any] | None = None,
        missed: Missed = "last",
    ) -> Callable[[TaskT], TaskT]: ...
