"""What is used of Celery, as values of no known type: Celery has no types.

The one place that imports it here. Some of the names are private to Celery: the
stacks that ``current_task``, ``self.request`` and ``current_app`` read are filled by
its own worker alone, and there is no public way to fill them.
"""

from typing import Any

try:
    import celery.app.base as _base
    import celery.app.task as _task
    import celery.exceptions as _exceptions
    import celery.schedules as _schedules
    import celery.signals as _signals
    from billiard import einfo as _einfo
    from celery import _state  # noqa: PLC2701 - see above
except ImportError as error:
    message = (
        f"taskflow.celery needs {error.name!r}: pip install 'asynctaskflow[celery]'"
    )
    raise ImportError(message, name=error.name) from error

Task: Any = _task.Task
Request: Any = _task.Context
ExceptionInfo: Any = _einfo.ExceptionInfo

Ignore: Any = _exceptions.Ignore
Reject: Any = _exceptions.Reject
Retry: Any = _exceptions.Retry
TimedOut: Any = _exceptions.TimeoutError

Crontab: Any = _schedules.crontab
Interval: Any = _schedules.schedule

signals: Any = _signals

PYDANTIC_HOME: str = _base.__name__
"""The module that wraps the body of a task declared with ``pydantic=True``."""

_of_thread: Any = _state


def enter_app(app: Any) -> Any:
    """Make *app* the current one of this thread; returns the one before."""
    before = _of_thread._tls.current_app  # noqa: SLF001 - see above
    app.set_current()
    return before


def leave_app(before: Any) -> None:
    """Undo `enter_app`."""
    _of_thread._tls.current_app = before  # noqa: SLF001 - see above


def push(task: Any, request: Any) -> None:
    """Make *task* the current one, and *request* what its body reads."""
    _of_thread.push_current_task(task)
    task.request_stack.push(request)


def pop(task: Any) -> None:
    """Undo `push`."""
    task.request_stack.pop()
    _of_thread.pop_current_task()


def real(task: Any) -> Any:
    """Return the task behind the proxies that decorators of Celery give."""
    behind = getattr(task, "_get_current_object", None)
    return task if behind is None else real(behind())
