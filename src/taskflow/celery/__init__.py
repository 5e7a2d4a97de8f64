"""Tasks of a Celery app become tasks of ours, as they are written.

`adopt` takes one, `adopt_all` takes those of an app. What the Celery task says of
retries, limits and rates is carried over, its body finds ``self.request`` and
``self.retry``, and its handlers and signals are called. With ``redirect=True`` its
call sites stay as they are, too: ``delay`` and ``apply_async`` enqueue with us.
"""

import inspect
import typing
from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import update_wrapper
from typing import Any

from taskflow._declare.context import Context
from taskflow._declare.duration import Seconds
from taskflow._declare.registry import Registry, default_registry
from taskflow._declare.retry_policy import RetryPolicy
from taskflow._declare.task import Task
from taskflow._declare.upstream import Upstream
from taskflow.celery import _door
from taskflow.celery._arguments import Arguments, is_pydantic
from taskflow.celery._body import AdoptedFunction, twin_of
from taskflow.celery._calls import AsyncResult, Redirect
from taskflow.celery._options import policy_of, upstream_of
from taskflow.errors import RegistryError

__all__ = ["AsyncResult", "adopt", "adopt_all"]


def adopt(
    celery_task: Any,
    *,
    name: str | None = None,
    registry: Registry | None = None,
    retry: RetryPolicy | None = None,
    timeout: Seconds | None = None,
    soft_timeout: Seconds | None = None,
    upstream: Upstream | str | None = None,
    dead_letter: bool = True,
    typed: bool = True,
    redirect: bool = False,
) -> Task[..., Any, Any]:
    """Make a task of ours of a Celery task.

    Reads the configuration of its app, and touches nothing else. Whatever is not
    given is as the Celery task has it: its name; ``max_retries``,
    ``default_retry_delay``, ``autoretry_for`` with all that belongs to it;
    ``time_limit`` and ``soft_time_limit``; ``rate_limit``, as an upstream of the
    task's name, for the whole fleet instead of each worker; ``ignore_result``;
    ``expires``. An error that Celery would not retry is a dead letter at once.

    Args:
        celery_task: Plain, bound, shared or an instance of a class.
        name: Under which it is stored and registered.
        registry: Where it is registered; left out: where ``taskflow.task`` does.
        retry: Takes the place of all that the Celery task says of retries;
            ``self.retry`` asks for one all the same.
        timeout: Hard time limit, seconds or a timedelta.
        soft_timeout: Soft time limit, seconds or a timedelta.
        upstream: The external service that it calls; takes the place of
            ``rate_limit``.
        dead_letter: False for a task that is FAILED when it has failed for good.
        typed: False to take arguments and result as JSON, whatever the annotations
            of the body say.
        redirect: Whether ``delay``, ``apply_async`` and ``AsyncResult`` of the Celery
            task enqueue with us from now on.

    Returns:
        The task.

    Raises:
        RegistryError: It is no Celery task, or none that can be adopted; says why.
        TaskNameTakenError: Another function has the name.
    """
    original = _checked(celery_task)
    twin = twin_of(original)
    wrapped = is_pydantic(twin.run)
    ignores = bool(twin.ignore_result)
    arguments = Arguments(
        twin.run, typed=typed, result=_result_of(twin, ignores, typed and not wrapped)
    )
    body = AdoptedFunction(
        original, twin, arguments, ignores, not _has_backend(twin.app)
    )
    task = (default_registry if registry is None else registry).task(
        name=twin.name if name is None else name,
        retry=policy_of(original) if retry is None else retry,
        timeout=twin.time_limit if timeout is None else timeout,
        soft_timeout=twin.soft_time_limit if soft_timeout is None else soft_timeout,
        dead_letter=dead_letter,
        upstream=_upstream_of(twin, name, upstream),
    )(_function_of(body))
    body.task = task
    if redirect:
        Redirect(original, task, arguments, accepts_json=wrapped).install(
            original, twin
        )
    return task.options(expires=twin.expires) if _is_span(twin.expires) else task


def adopt_all(
    app: Any,
    *,
    registry: Registry | None = None,
    include: Iterable[str] | str = "*",
    exclude: Iterable[str] | str = "celery.*",
    redirect: bool = False,
) -> tuple[Task[..., Any, Any], ...]:
    """Make tasks of ours of all tasks of a Celery app.

    Imports the modules that a worker of the app would, so that all its tasks are
    there.

    Args:
        app: The Celery app.
        registry: As for `adopt`.
        include: Names to take, or patterns such as ``"shop.*"``.
        exclude: Names to leave; Celery's own are left in any case where this is not
            given.
        redirect: As for `adopt`.

    Returns:
        The tasks, by name.

    Raises:
        RegistryError: One of them cannot be adopted; says why. Those before it are.
        TaskNameTakenError: Another function has one of the names.
    """
    app.loader.import_default_modules()
    return tuple(
        adopt(app.tasks[name], registry=registry, redirect=redirect)
        for name in sorted(app.tasks)
        if _fits(name, include) and not _fits(name, exclude)
    )


def _fits(name: str, patterns: Iterable[str] | str) -> bool:
    given = [patterns] if isinstance(patterns, str) else patterns
    return any(fnmatchcase(name, each) for each in given)


def _checked(celery_task: Any) -> Any:
    if isinstance(celery_task, type):
        message = (
            f"{celery_task.__name__} is a class; adopt the task that "
            "app.register_task gives for it"
        )
        raise RegistryError(message)
    task = _door.real(celery_task)
    if not isinstance(task, _door.Task):
        message = (
            f"{celery_task!r} is no Celery task; a function becomes a task with "
            "@taskflow.task"
        )
        raise RegistryError(message)
    if task.name is None:
        message = f"{task!r} has no name; register it: app.register_task(...)"
        raise RegistryError(message)
    # Binds the task to its app, which fills in what the configuration says.
    task.app  # noqa: B018
    run = inspect.unwrap(task.run)
    if inspect.iscoroutinefunction(run):
        message = (
            f"{task.name!r} is a coroutine function, which Celery does not await; "
            "declare it with @taskflow.task, which does"
        )
        raise RegistryError(message)
    if getattr(task.__class__, "run", None) is _door.Task.run:
        message = f"{task.name!r} has no method run, and nothing to adopt"
        raise RegistryError(message)
    return task


def _function_of(body: AdoptedFunction) -> Any:
    def function(*, taskflow_context: Context, **arguments: Any) -> Any:
        return body.run(taskflow_context, arguments)

    made: Any = update_wrapper(function, body.twin.run)
    made.__signature__ = body.arguments.stored
    return made


def _result_of(twin: Any, ignores: bool, typed: bool) -> Any:  # noqa: FBT001 - private
    """Return the annotation of the result: what ends with ``Ignore`` has none."""
    if ignores:
        return None
    given = inspect.signature(twin.run).return_annotation
    if not typed or given is inspect.Signature.empty:
        return Any
    try:
        # Text becomes a reference, which is resolved where the body stands.
        return typing.Optional[given]  # noqa: UP045 - given may be text
    except TypeError:
        return given


def _upstream_of(
    twin: Any, name: str | None, upstream: Upstream | str | None
) -> Upstream | str | None:
    if upstream is not None:
        return upstream
    return upstream_of(name or twin.name, twin.rate_limit)


def _has_backend(app: Any) -> bool:
    return str(app.conf.result_backend or "disabled").partition(":")[0] != "disabled"


def _is_span(expires: Any) -> bool:
    return isinstance(expires, int | float) and expires > 0
