"""The contract of an executor: claims in, outcomes out.

An executor runs bodies. It does not claim, does not settle and does not know
who does; it hands every finished claim to ``Host.done`` and asks nothing back.
``executors/`` holds the implementations; one conformance suite fits them all.
"""

from collections.abc import Callable, Iterable
from random import Random
from typing import Any, Protocol, Self

from attrs import frozen

from taskflow._client.flow import TaskFlow
from taskflow._declare.ports import GuardPort
from taskflow._declare.registry import Registry
from taskflow._declare.retry_policy import RetryPolicy
from taskflow._events import Events
from taskflow._protocol.record import Claim, Outcome
from taskflow._protocol.settle import ProgressReport, SettleWord
from taskflow._settings import Settings, WorkerSettings


@frozen
class Limits:
    """What bounds a run where its task says nothing itself.

    Attributes:
        max_retries: Failed attempts that are followed by another.
        max_age: Seconds of run time and retry waits after which a failed attempt is
            not retried.
        time_limit: Seconds a body may run; then its attempt has failed.
        soft_time_limit: Seconds after which a body is asked to stop.
        max_result_bytes: Largest result that is stored, as JSON.
        max_crashes: Processes that may die of a task before it is poison.
    """

    max_retries: int
    max_age: float
    time_limit: float | None
    soft_time_limit: float | None
    max_result_bytes: int
    max_crashes: int

    @classmethod
    def of(cls, settings: Settings, worker: WorkerSettings) -> Self:
        """Take them from *settings*, and from those of one *worker*."""
        return cls(
            max_retries=settings.queue.max_retries,
            max_age=settings.queue.max_task_age,
            time_limit=worker.time_limit,
            soft_time_limit=worker.soft_time_limit,
            max_result_bytes=settings.queue.max_payload_bytes,
            max_crashes=worker.max_crashes,
        )

    def age_problem(self, policy: RetryPolicy | None) -> tuple[str, ...]:
        """Say that the waits of *policy* do not fit in its age: a sentence, or none.

        Declaring a policy refuses what contradicts itself; here the settings fill in
        what the policy leaves open.

        Args:
            policy: Of a task; None if it has none of its own.

        Returns:
            The sentence, for people.
        """
        if policy is None:
            return ()
        retries, age = policy.max_retries, policy.max_age
        return policy.age_problem(
            self.max_retries if retries is None else retries,
            self.max_age if age is None else age,
        )


class Host(Protocol):
    """What an executor is given by the worker it runs in.

    Attributes:
        registry: The tasks it may run.
        limits: Where a task says nothing itself.
        events: For what bodies do.
        slots: Most bodies at a time.
    """

    registry: Registry
    limits: Limits
    events: Events
    slots: int

    @property
    def guards(self) -> GuardPort:
        """What guards in bodies ask."""
        ...

    def limited(self, claim: Claim, hard_at: float) -> None:
        """Note that the task function of *claim* runs until *hard_at* at most.

        Until this is called, the usual limit counts from the claim.

        Args:
            claim: Of the task.
            hard_at: Time of the monotonic clock; infinity = without a limit.
        """
        ...

    def done(self, claim: Claim, outcome: Outcome) -> None:
        """Take the outcome of *claim*; called once for each, on the loop."""
        ...

    def give_back(self, claims: list[Claim]) -> None:
        """Hand back claims that have waited too long, or that cannot be run now."""
        ...

    def narrow(self, slots: int) -> None:
        """Hold no more than *slots* tasks from now on."""
        ...

    async def note(self, claim: Claim, report: ProgressReport) -> SettleWord:
        """Store what a body reports; waits until the server has it."""
        ...


class Executor(Protocol):
    """Runs bodies on behalf of a worker; every method is called on its loop."""

    @property
    def running(self) -> int:
        """Bodies that run now."""
        ...

    @property
    def ready(self) -> int:
        """Claims that wait for a free slot."""
        ...

    @property
    def can_prefetch(self) -> bool:
        """Whether bodies are short enough to claim a little ahead."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tasks that run now, for people."""
        ...

    def underway(self) -> list[Claim]:
        """Give the claims whose functions run, those that were abandoned too."""
        ...

    def describe(self) -> list[dict[str, object]]:
        """Say of each running body: id, name, attempt, seconds."""
        ...

    def start(self, claims: Iterable[Claim]) -> None:
        """Run *claims*, in their order, as slots get free."""
        ...

    def cancel(self, task_id: str, token: str) -> None:
        """Ask a body to stop: somebody cancelled the task."""
        ...

    def abandon(self, task_id: str, token: str) -> bool:
        """Stop a body whose lease is lost; it gives no outcome.

        Returns:
            False when there was no such body or claim.
        """
        ...

    def release_ready(self) -> list[Claim]:
        """Give up the claims that wait for a slot."""
        ...

    def release_running(self) -> list[Claim]:
        """Stop all bodies and give up their claims; they give no outcome.

        Except for bodies that have ended and whose reports wait for the server: their
        outcomes are given now, and those reports are lost.

        Returns:
            The claims of the others.
        """
        ...

    @property
    def unstopped(self) -> tuple[str, ...]:
        """Descriptions of the functions that could not be stopped and still run."""
        ...

    async def aclose(self) -> None:
        """Free what the executor holds."""
        ...


class Engine(Protocol):
    """Where bodies run: makes the executor of a worker.

    Attributes:
        name: ``asyncio`` or ``celery``.
    """

    name: str

    def in_hand(self, slots: int) -> int:
        """Say how many tasks a worker of *slots* may hold, running and waiting."""
        ...

    def executor(self, host: Host, rng: Random) -> Executor:
        """Make the executor of *host*, on its running event loop."""
        ...

    def kill(self) -> None:
        """Kill the processes of bodies; in any thread, right before this one exits."""
        ...

    def facts(self) -> dict[str, Any]:
        """Say for people how it is set up."""
        ...

    def run(
        self,
        flow: TaskFlow,
        registry: Registry,
        limits: Limits,
        main: Callable[[], None],
    ) -> None:
        """Call *main*, which runs the worker and blocks, with what it needs around.

        Args:
            flow: Where tasks are kept.
            registry: The tasks that may run.
            limits: Where a task says nothing itself.
            main: What it raises is raised.
        """
        ...
