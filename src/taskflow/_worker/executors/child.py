"""What runs in a child of the pool: messages of tasks, one body after the other.

The worker equips its process before the pool forks; a child that is given its
first message takes up what it inherited, opens its line, and keeps both, and one
event loop, for as long as it lives. It judges what its bodies come to, because
only here are their exceptions, and tells the worker in plain values.
"""

import asyncio
import contextvars
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Sequence
from numbers import Real
from random import Random
from types import FrameType
from typing import Any

from attrs import frozen

from taskflow._client.flow import TaskFlow
from taskflow._declare import ports
from taskflow._declare.error_groups import is_cancellation
from taskflow._declare.ports import Scope
from taskflow._declare.registry import Registry
from taskflow._events import Event
from taskflow._protocol.record import Claim, Outcome
from taskflow._worker import containment, event_loop
from taskflow._worker.executor import Limits
from taskflow._worker.executors.child_progress import ChildProgress
from taskflow._worker.executors.execution import Executions
from taskflow._worker.executors.ipc import ALERT, Frame, Pipe, pack
from taskflow._worker.executors.job import Execution, timed_out

RECYCLE = 155
"""Exit code that billiard takes for an intended one: the child is replaced."""


@frozen
class ChildSetup:
    """What a child inherits from the worker.

    Attributes:
        registry: The tasks it may run.
        limits: Where a task says nothing itself.
        flow: Where tasks are kept.
        address: Of the socket on which the worker listens.
        max_tasks: After which a child makes room for a new one; None = never.
        interruption: The error that stops a plain function at its soft limit.
    """

    registry: Registry
    limits: Limits
    flow: TaskFlow
    address: str
    max_tasks: int | None
    interruption: type[Exception]


class Interrupted(BaseException):
    """Raised in a plain function that was cancelled, or whose lease is lost.

    No Exception, so that a body's own ``except Exception`` does not keep it.
    """


_equipment: ChildSetup | None = None
_child: "Child | None" = None


def set_up(equipment: ChildSetup | None) -> None:
    """Say what the children of this process shall inherit."""
    global _equipment  # noqa: PLW0603 - this is how a fork inherits
    _equipment = equipment


def run_message(number: int, claims: Sequence[tuple[Any, ...]]) -> None:
    """Run the tasks of one message; the pool calls this in a child.

    Args:
        number: Of the message.
        claims: Each the values of a `Claim`.

    Raises:
        RuntimeError: This process was not forked by a worker.
    """
    global _child  # noqa: PLW0603 - one for each process
    if _child is None or _child.pid != os.getpid():
        if _equipment is None:
            message = "this process was not forked by a taskflow worker"
            raise RuntimeError(message)
        _child = Child(_equipment)
    _child.run(number, [Claim(*values) for values in claims])


class Child:
    """One process of the pool.

    Attributes:
        pid: Of this process.
    """

    def __init__(self, equipment: ChildSetup) -> None:
        self.pid = os.getpid()
        self._equipment = equipment
        rng = Random()  # noqa: S311 - spreads retries
        self._executions = Executions(equipment.registry, equipment.limits, rng)
        self._scope = Scope(equipment.flow.guards)
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(equipment.address)
        except OSError:
            # The worker has stopped listening: it has given up what this child
            # was to run, or is gone.
            sys.exit(RECYCLE)
        self._line = Pipe(sock)
        self._loop = asyncio.new_event_loop()
        containment.contain(self._loop)
        self._tasks_done = 0
        self._number = self._begun = 0
        self._is_cut = False
        self._unwanted: set[str] = set()
        self._job: Execution | None = None
        self._interruptible = False
        self._is_busy = False
        self._was_alerted = False
        self._coroutine: asyncio.Task[Any] | None = None
        # The worker's loop is not ours: its signals must not be told to it.
        signal.set_wakeup_fd(-1)
        signal.signal(ALERT, self._on_alert)
        # Billiard's handler raises SystemExit, which a body would seem to have raised:
        # whoever ends this process means the process.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def run(self, number: int, claims: Sequence[Claim]) -> None:
        """Run *claims*, one after the other, until told to begin no more."""
        self._number, self._begun, self._is_cut = number, 0, False
        self._unwanted.clear()
        self._say(("begin", number))
        most = self._equipment.max_tasks
        for claim in claims:
            if most and self._tasks_done >= most:
                self._cut()
            if self._is_cut:
                break
            self._begun += 1
            self._run_one(claim)
        if most and self._tasks_done >= most:
            sys.exit(RECYCLE)

    def _run_one(self, claim: Claim) -> None:
        self._tasks_done += 1
        job = self._executions.open(claim)
        if not isinstance(job, Execution):
            self._answer(0.0, *job)
            return
        self._executions.start(job)
        if claim.token in self._unwanted:
            job.stop = "cancel"
            self._answer(0.0, *self._executions.judge(job, Interrupted(), 0.0))
            return
        try:
            arguments = job.task.arguments.decode(claim.payload)
        except BaseException as misfit:  # noqa: BLE001 - decoding calls the task's types
            self._answer(0.0, *self._executions.judge(job, misfit, 0.0))
            return
        notes = self._progress(job, arguments)
        value, error = self._call(job, arguments)
        seconds = time.monotonic() - job.started
        if job.stop == "soft" and (
            is_cancellation(error)
            or issubclass(type(error), self._equipment.interruption)
        ):
            error = timed_out(job, "soft")
        outcome, event, _ = self._executions.close(
            job, value, error if job.fault is None else job.fault, seconds
        )
        if notes is not None and notes.has_any:
            # The server may be away; limits are for the body, which is over.
            self._answer(seconds, outcome, event, "ended")
            notes.store()
            self._say(("done", self._number))
        else:
            self._answer(seconds, outcome, event)

    def _progress(
        self, job: Execution, arguments: dict[str, Any]
    ) -> ChildProgress | None:
        wanted = job.task.arguments.context_parameter
        if wanted is None:
            return None
        notes = ChildProgress(job.claim, self._equipment.flow.connection)
        arguments[wanted] = self._executions.context(job, notes)
        return notes

    def _call(
        self, job: Execution, arguments: dict[str, Any]
    ) -> tuple[Any, BaseException | None]:
        """Run the body; every end is an answer, none is raised."""
        context = contextvars.copy_context()
        scope = self._scope
        if job.admission is not None:
            scope = Scope(self._equipment.flow.guards, job.admission)
        context.run(ports.scope.set, scope)
        context.run(containment.owner.set, job)
        job.variables, job.on_fault = context, self._faulted
        self._job = job
        try:
            try:
                if job.task.is_async:
                    return self._call_coroutine(job, arguments, context), None
                self._interruptible = True
                return context.run(job.task.function, **arguments), None
            finally:
                self._interruptible = False
        except BaseException as error:  # noqa: BLE001 - every end is an outcome
            self._interruptible = False
            return None, error
        finally:
            self._job = self._coroutine = None

    def _call_coroutine(
        self, job: Execution, arguments: dict[str, Any], context: contextvars.Context
    ) -> Any:
        coroutine = job.task.function(**arguments)
        self._coroutine = containment.owned(self._loop, coroutine, job, context)
        if job.stop:
            context.run(self._coroutine.cancel)
        # To its end, whatever callbacks raise: it would go on beside the next task.
        event_loop.complete(self._loop, self._coroutine)
        return self._coroutine.result()

    def _faulted(self, job: Execution) -> bool:
        if job is not self._job:
            return False
        if self._coroutine is not None:
            self._loop.call_soon(self._coroutine.cancel, context=job.variables)
        return True

    def _answer(
        self,
        seconds: float,
        outcome: Outcome,
        event: Event | None,
        kind: str = "done",
    ) -> None:
        report = None if outcome.report is None else tuple(outcome.report)
        told = None if event is None else (type(event).__name__, _facts(event))
        move = (outcome.verb, outcome.detail, report)
        self._say((kind, self._number, move, told, seconds))

    def _say(self, frame: Frame) -> None:
        was_busy, self._is_busy = self._is_busy, True
        data = memoryview(pack(frame))
        sock = self._line.sock
        while data:
            try:
                data = data[sock.send(data) :]
            except BlockingIOError:
                select.select([], [sock], [])
            except OSError:
                # Nobody listens: the worker is gone, and its leases will end.
                os._exit(RECYCLE)
        self._is_busy = was_busy
        if self._was_alerted and not was_busy:
            self._listen()

    def _cut(self) -> None:
        self._is_cut = True
        self._say(("back", self._number, self._begun))

    # What the worker says meanwhile.

    def _on_alert(self, signum: int, frame: FrameType | None) -> None:
        del signum, frame
        self._was_alerted = True
        if not self._is_busy:
            self._listen()

    def _listen(self) -> None:
        wishes: list[str] = []
        self._is_busy = True
        while self._was_alerted:
            self._was_alerted = False
            wishes += [kind for kind in map(self._hear, self._line.receive()) if kind]
        self._is_busy = False
        for wish in wishes:
            if self._job is not None:
                self._stop(self._job, wish)

    def _hear(self, frame: Frame) -> str:
        """Take a frame; returns how the body that runs shall be stopped, if it shall."""
        kind, subject = frame
        if kind == "cut":
            if subject == self._number and not self._is_cut:
                self._cut()
        elif self._job is not None and subject == self._job.claim.token:
            return str(kind)
        elif kind != "soft":
            self._unwanted.add(subject)
        return ""

    def _stop(self, job: Execution, why: str) -> None:
        job.stop = job.stop or why
        if job.context is not None:
            job.context.mark_cancelled()
        if self._coroutine is not None:
            # With its own variables: a signal may interrupt what another task left.
            self._loop.call_soon_threadsafe(
                self._coroutine.cancel, context=job.variables
            )
        elif self._interruptible and why == "soft":
            raise self._equipment.interruption(str(timed_out(job, "soft")))
        elif self._interruptible and job.context is None:
            # It cannot look whether it shall stop.
            raise Interrupted(why)


def _facts(event: Event) -> tuple[Any, ...]:
    """Take *event* apart into what can cross a line."""
    return tuple(_plain(getattr(event, name)) for name in type(event).__match_args__)


def _plain(value: Any) -> Any:
    if value is None or type(value) in {str, int, float, bool}:
        return value
    if isinstance(value, BaseException):
        return None  # its traceback crosses as text
    return float(value) if isinstance(value, Real) else str(value)
