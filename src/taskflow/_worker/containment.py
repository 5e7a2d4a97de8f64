"""Contain what a task function does to the event loop that it shares.

asyncio raises a SystemExit or KeyboardInterrupt of any asyncio task out of the whole
loop, and code on a loop may cancel everything that `asyncio.all_tasks` shows. So each
asyncio task has an owner, kept in a context variable: the worker, a task function, or
nobody (a host's own code). An exit ends the task function that owns the asyncio task,
and a task function can't cancel what belongs to the worker or to another one.
"""

import asyncio
import sys
from collections.abc import Coroutine, Generator
from contextvars import Context, ContextVar, copy_context
from types import FrameType
from typing import Any

from taskflow._codec import class_name

MAIN = "taskflow-worker"
"""Name of the asyncio task that runs a worker on a loop of its own."""

TRESPASS = (
    "the task function cancelled asyncio tasks that belong to its worker or to other "
    "tasks; cancel the ones that it started itself"
)


class Owner:
    """Code that runs asyncio tasks on a shared loop."""

    __slots__ = ()


class WorkerOwner(Owner):
    """The worker itself.

    Attributes:
        is_cancelled: Whether all its asyncio tasks were cancelled from outside, as
            `asyncio.run` does when the program around it ends.
        entry: The asyncio task that a host awaits, and may cancel.
    """

    __slots__ = ("entry", "is_cancelled")

    def __init__(self) -> None:
        self.is_cancelled = False
        self.entry: OwnedTask | None = None


class TaskOwner(Owner):
    """A run of a task function.

    Attributes:
        is_harmed: Whether another task function tried to cancel it.
    """

    is_harmed = False

    @property
    def label(self) -> str:
        """Name of the task, for people."""
        raise NotImplementedError

    @property
    def is_stopping(self) -> bool:
        """Whether its worker cancels it, and with it what it awaits."""
        raise NotImplementedError

    def fail(self, error: BaseException) -> None:
        """End the attempt with *error*, soon; called on the loop."""
        raise NotImplementedError


owner: ContextVar[Owner | None] = ContextVar("taskflow_owner", default=None)


class OwnedTask(asyncio.Task[Any]):
    """An asyncio task of the worker, or the coroutine of a task function.

    Attributes:
        owner: Whose it is.
    """

    # A dict for each would keep the garbage collector busy.
    __slots__ = ("owner",)

    owner: Owner

    def cancel(self, msg: Any = None) -> bool:
        """Request cancellation, unless the caller's task function doesn't own this.

        Returns:
            False only if it is done, as asyncio has it. A refusal is True too: who
            awaits this in order to cancel it isn't cancelled in its place.
        """
        caller = owner.get()
        mine = self.owner
        if caller is mine or self.done():
            return super().cancel(msg)
        if isinstance(caller, TaskOwner) and not _is_interrupt(
            sys._getframe(1)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        ):
            if isinstance(mine, TaskOwner):
                mine.is_harmed = True
            if not caller.is_stopping:
                caller.fail(asyncio.CancelledError(TRESPASS))
            return True
        if isinstance(mine, WorkerOwner) and mine.entry is not self:
            mine.is_cancelled = True
            return True
        return super().cancel(msg)


def _is_interrupt(frame: FrameType) -> bool:
    """Whether asyncio's Ctrl-C handler calls; it may interrupt a task function."""
    return (
        frame.f_code.co_name == "_on_sigint"
        and frame.f_globals.get("__name__") == "asyncio.runners"
    )


def owned(
    loop: asyncio.AbstractEventLoop,
    coroutine: Coroutine[Any, Any, Any],
    whose: Owner,
    context: Context,
) -> OwnedTask:
    """Start *coroutine* as an asyncio task that belongs to *whose*."""
    task = OwnedTask(coroutine, loop=loop, context=context)
    task.owner = whose
    return task


class Contained(Coroutine[Any, Any, Any]):
    """A coroutine that a task function started: its exit isn't the loop's.

    Attributes:
        owner: The task function.
    """

    __slots__ = ("_coroutine", "owner")

    def __init__(self, coroutine: Any, whose: TaskOwner) -> None:
        self._coroutine = coroutine
        self.owner = whose

    def send(self, value: Any) -> Any:
        """Resume the coroutine."""
        try:
            return self._coroutine.send(value)
        except (SystemExit, KeyboardInterrupt) as error:
            raise self._exited(error) from error

    def throw(self, *error: Any) -> Any:
        """Raise *error* in the coroutine."""
        try:
            return self._coroutine.throw(*error)
        except (SystemExit, KeyboardInterrupt) as exit_error:
            raise self._exited(exit_error) from exit_error

    def _exited(self, error: BaseException) -> asyncio.CancelledError:
        self.owner.fail(error)
        return asyncio.CancelledError(f"ended by {class_name(error)}")

    def close(self) -> None:
        """Close the coroutine."""
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        awaited: Generator[Any, Any, Any] = self._coroutine.__await__()
        return awaited

    def __getattr__(self, name: str) -> Any:
        """Show what libraries look at, such as ``cr_frame`` and ``__qualname__``."""
        return getattr(self._coroutine, name)

    def __repr__(self) -> str:
        return repr(self._coroutine)


class _TaskFactory:
    """Makes asyncio tasks as the loop's factory did, contained by their owner."""

    def __init__(self, make: Any) -> None:
        self._make = make

    def __call__(
        self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any
    ) -> Any:
        context: Context | None = options.get("context")
        whose = owner.get() if context is None else context.get(owner)
        if isinstance(whose, TaskOwner):
            coroutine = Contained(coroutine, whose)
        elif whose is not None:
            task = OwnedTask(coroutine, loop=loop, **options)
            task.owner = whose
            return task
        if self._make is None:
            return asyncio.Task(coroutine, loop=loop, **options)
        return self._make(loop, coroutine, **options)


def contain(loop: asyncio.AbstractEventLoop) -> None:
    """Contain the asyncio tasks of *loop*, for as long as it lives.

    What a task function leaves running may start others when the worker is over.
    """
    known = loop.get_task_factory()
    if not isinstance(known, _TaskFactory):
        loop.set_task_factory(_TaskFactory(known))


async def run_owned(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run *coroutine* as the worker's, where no task function can cancel it."""
    loop, context = asyncio.get_running_loop(), copy_context()
    contain(loop)
    whose = WorkerOwner()
    context.run(owner.set, whose)
    whose.entry = owned(loop, coroutine, whose, context)
    await whose.entry


def running_on(loop: asyncio.AbstractEventLoop) -> str:
    """Name the task whose code runs on *loop* now; empty if it isn't a task's."""
    current = asyncio.current_task(loop)
    whose = None if current is None else _task_owner(current)
    return "" if whose is None else whose.label


def left_on(loop: asyncio.AbstractEventLoop, *, everything: bool) -> list[str]:
    """Describe the asyncio tasks that task functions have left on *loop*.

    Args:
        loop: May be closed.
        everything: Whether all that isn't the worker's counts: nobody else uses the
            loop, and some are started by a thread without context variables.

    Returns:
        One description each, sorted.
    """
    return sorted(
        _describe(task)
        for task in asyncio.all_tasks(loop)
        if (everything and not _is_workers(task)) or _task_owner(task) is not None
    )


def _is_workers(task: asyncio.Task[Any]) -> bool:
    is_owned = isinstance(task, OwnedTask) and isinstance(task.owner, WorkerOwner)
    return is_owned or task.get_name() == MAIN


def _describe(task: asyncio.Task[Any]) -> str:
    coroutine: Any = task.get_coro()
    name = getattr(coroutine, "__qualname__", None) or type(coroutine).__name__
    whose = _task_owner(task)
    if isinstance(task, OwnedTask) and whose is not None:
        return f"asyncio task: function of task {whose.label}"
    suffix = f" of task {whose.label}" if whose is not None else ""
    return f"asyncio task: coroutine {name}{suffix}"


def _task_owner(task: asyncio.Task[Any]) -> TaskOwner | None:
    coroutine = task.get_coro()
    whose: Owner | None = None
    if isinstance(coroutine, Contained):
        whose = coroutine.owner
    elif isinstance(task, OwnedTask):
        whose = task.owner
    return whose if isinstance(whose, TaskOwner) else None
