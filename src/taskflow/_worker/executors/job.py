"""One body that runs, and what its end says: what executors have in common."""

import asyncio
import logging
from collections.abc import Callable
from contextvars import Context as Variables
from typing import Any

from taskflow._client import pybreaker_compat
from taskflow._codec import Spec, continued, traceback_of
from taskflow._declare.classification import CallOutcome
from taskflow._declare.context import Context
from taskflow._declare.ports import Admission
from taskflow._declare.task import Task
from taskflow._declare.upstream import Upstream
from taskflow._events import Event
from taskflow._protocol import settle
from taskflow._protocol.record import LONGEST_ERROR_BYTES, Claim, Outcome
from taskflow._worker.containment import TaskOwner
from taskflow._worker.progress import ProgressReporter

_logger = logging.getLogger("taskflow.worker")

_MUTE = frozenset({"neutral", "shut"})


Ending = tuple[Outcome, Event | None, float]
"""What a run came to, the event that tells of it, and the seconds that it took; no
event = it completed."""


class Execution(TaskOwner):
    """One body that runs; also the port through which its context speaks.

    Attributes:
        ending: What it came to, while its reports wait for the server.
        fault: How something it started has ended its attempt: the exit of an asyncio
            task, or the cancellation of others. None = nothing did.
        on_fault: Called once there is a fault; returns False if the run is over.
        variables: The context variables that it runs with.
    """

    # Defaults of the class: most tasks never set most of them.
    started = 0.0
    soft_at = hard_at = float("inf")
    future: asyncio.Future[Any] | None = None
    reports: ProgressReporter | None = None
    context: Context | None = None
    admission: Admission | None = None
    ending: Ending | None = None
    fault: BaseException | None = None
    on_fault: "Callable[[Execution], bool] | None" = None
    variables: Variables | None = None
    stop = ""
    abandoned = False
    begun = False

    def __init__(self, claim: Claim, task: Task[..., Any, Any], spec: Spec) -> None:
        self.claim = claim
        self.task = task
        self.spec = spec
        self.name = task.name

    @property
    def label(self) -> str:
        """The task's name and id."""
        return f"{self.name!r} ({self.claim.id})"

    @property
    def is_stopping(self) -> bool:
        """Whether its worker has asked it to stop."""
        return bool(self.stop)

    def fail(self, error: BaseException) -> None:
        """End the attempt with *error*; if it is over, log what was left running."""
        if self.fault is not None:
            return
        self.fault = error
        if self.on_fault is None or not self.on_fault(self):
            _logger.error(
                "an asyncio task that task %s left running tried to end its worker\n%s",
                self.label,
                continued(traceback_of(error, LONGEST_ERROR_BYTES)),
            )


def admission_of(claim: Claim) -> Admission:
    """Say what *claim* has paid for, to the guards in its body."""
    return Admission(
        claim.upstream,
        claim.id,
        claim.epoch,
        is_probe=claim.is_probe,
        is_paid=claim.weight > 0,
    )


def reporting(
    upstream: Upstream,
    admission: Admission,
    outcome: Outcome,
    call: CallOutcome,
    error: BaseException | None = None,
) -> Outcome:
    """Add to *outcome* what the run says of its upstream, if it does.

    Args:
        upstream: The task's.
        admission: Of the run; no guard has reported in it.
        outcome: What the run came to.
        call: What it says.
        error: How it ended, for listeners.

    Returns:
        The outcome, with a report where there is something to say.
    """
    if upstream.guards_only or call.kind in _MUTE or outcome.verb == "cancel":
        return outcome
    if upstream.listeners:
        pybreaker_compat.tell_end(upstream, call, error, "closed")
    wait_ms = round(call.wait * 1000) if call.wait else 0
    report = settle.report_of(
        upstream.name, admission.epoch, call.kind, call.reason, wait_ms
    )
    return Outcome(*outcome[:4], report)


def timed_out(job: Execution, which: str) -> TimeoutError:
    """Make the error of a body that ran beyond its ``soft`` or ``hard`` limit."""
    limit = (job.soft_at if which == "soft" else job.hard_at) - job.started
    return TimeoutError(f"ran longer than its {which} limit of {limit:g} s")


def call_body(
    function: Callable[..., Any], arguments: dict[str, Any]
) -> tuple[Any, BaseException | None]:
    """Call *function*; every end is an answer, none is raised.

    Returns:
        What it returned, and what it raised.
    """
    try:
        return function(**arguments), None
    except BaseException as error:  # noqa: BLE001 - every end is an outcome
        return None, error
