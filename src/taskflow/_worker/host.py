"""What an engine sees of the worker that it runs task functions for."""

from attrs import define

from taskflow._client.admission import AdmissionControl
from taskflow._declare.registry import Registry
from taskflow._events import Events
from taskflow._protocol.record import Claim, Outcome
from taskflow._protocol.settle import ProgressReport, SettleWord
from taskflow._worker.dispatcher import Dispatcher
from taskflow._worker.executor import Limits
from taskflow._worker.leases import Leases


@define(eq=False)
class WorkerHost:
    """The `Host` of a worker: outcomes go to its dispatcher, hard limits to its leases.

    Attributes:
        registry: The tasks that the engine may run.
        limits: For tasks that set none themselves.
        events: Receives what happens to tasks.
        slots: Task functions at a time.
        guards: Answers guards in task functions.
    """

    registry: Registry
    limits: Limits
    events: Events
    slots: int
    guards: AdmissionControl
    _dispatcher: Dispatcher
    _leases: Leases

    def limited(self, claim: Claim, hard_at: float) -> None:
        """Set when the task function of *claim* reaches its hard limit; see `Host`."""
        self._leases.limit((claim.id, claim.token), hard_at)

    def done(self, claim: Claim, outcome: Outcome) -> None:
        """Settle *claim* with *outcome*."""
        self._dispatcher.done(claim, outcome)

    def give_back(self, claims: list[Claim]) -> None:
        """Release claims that have waited too long or that can't be run now."""
        self._dispatcher.release(claims, started=False)

    def narrow(self, slots: int) -> None:
        """Hold at most *slots* tasks from now on."""
        self._dispatcher.narrow(slots)

    async def note(self, claim: Claim, report: ProgressReport) -> SettleWord:
        """Store what a task function reports."""
        return await self._dispatcher.note(claim, report)
