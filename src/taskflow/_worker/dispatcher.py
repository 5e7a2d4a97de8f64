"""The dispatcher: each trip to the server settles what is done and claims what is next.

Two channels take turns, so that the server works on one batch while the tasks of the
other run. A trip that fails is repeated, and every operation recognises a repeat.

A batch too large for the link would time out forever, so the batch size halves on
failure and grows by one on success (AIMD). The time limit counts from the start of the
trip, because leases count from the claim. ``docs/internals/dispatcher.md`` has figures.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence

from attrs import evolve, frozen

from taskflow._events import Events, LeaseLost, TaskReleased
from taskflow._protocol import claim, settle
from taskflow._protocol.batch import MOST_BYTES
from taskflow._protocol.claim import ClaimReply
from taskflow._protocol.operation import Operation
from taskflow._protocol.record import Claim, Outcome
from taskflow._protocol.settle import ProgressReport, SettleWord
from taskflow._servers.runner import AsyncRunner, SyncRunner
from taskflow._worker.batches import (
    ClaimRequest,
    ClaimRequests,
    ClaimSettings,
    OutcomeQueue,
    settles,
)
from taskflow._worker.executor import Executor
from taskflow._worker.leases import Leases
from taskflow._worker.outage import Outage
from taskflow.errors import ServerError, ServerUnavailableError, TaskFlowError

_logger = logging.getLogger("taskflow.worker")

PREFETCH = 1.2
"""ACTIVE tasks per slot, at most, where bodies are short: the next ones are
at hand when a slot gets free."""

_FAILURES = frozenset({"retry", "dead", "fail"})

_MOST = min(claim.MOST_PER_CALL, settle.MOST_PER_CALL)

LONGEST_DOZE = 5.0
"""Seconds that an idle worker waits for the marker before it looks itself."""


@frozen
class DispatcherSettings:
    """What a dispatcher needs to know.

    Attributes:
        claims: What every claim request says.
        slots: Tasks in hand at a time.
        clock: Gives the time that operations carry, in ms.
        declare: Gives the server the rules of upstreams that it does not have.
    """

    claims: ClaimSettings
    slots: int
    clock: Callable[[], int]
    declare: Callable[[Sequence[str]], Awaitable[None]]


@frozen
class _Trip:
    outcomes: list[Outcome]
    request: ClaimRequest | None
    is_full: bool


class Dispatcher:
    """Moves claims in and outcomes out, between one server and one executor.

    Attributes:
        released: Claims that were handed back so far.
        completed: Bodies that returned a result so far.
        failed: Attempts that failed so far.
    """

    def __init__(
        self,
        settings: DispatcherSettings,
        runner: AsyncRunner,
        leases: Leases,
        outage: Outage,
        events: Events,
    ) -> None:
        self._settings = settings
        self._runner = runner
        self._leases = leases
        self._outage = outage
        self._events = events
        self._outcomes = OutcomeQueue(settings.claims.keys)
        self._wake = asyncio.Event()
        self._sated = asyncio.Event()
        self._progress = asyncio.Event()
        self._claiming = True
        self._slots = settings.slots
        self._reserved = 0
        self._most = _MOST
        self._suspects: set[tuple[str, str]] = set()
        self._suspect_asked = False
        self._due_at = float("inf")
        self._failures = 0
        self._polled_at = time.monotonic()
        self.released = 0
        self.completed = 0
        self.failed = 0

    def serve(self, executor: Executor) -> None:
        """Fill *executor*; called once, before anything runs."""
        self._executor = executor

    @property
    def in_hand(self) -> int:
        """Tasks leased to this worker, as far as it knows."""
        executor = self._executor
        return executor.running + executor.ready + self._outcomes.unconfirmed

    @property
    def is_empty(self) -> bool:
        """Whether nothing is leased, running, unsettled or being claimed."""
        return self.in_hand == 0 and self._reserved == 0

    def polled_ago(self) -> float:
        """Seconds since the server last answered the wish for work; any thread."""
        return time.monotonic() - self._polled_at

    def pulse(self) -> None:
        """The loop lives: with no slot free it need not ask for work."""
        if not self._claiming or self.in_hand >= self._slots:
            self._polled_at = time.monotonic()

    # What the executor says.

    def done(self, finished: Claim, outcome: Outcome) -> None:
        """Take the outcome of a claim."""
        del finished
        if outcome.verb == "complete":
            self.completed += 1
        elif outcome.verb in _FAILURES:
            self.failed += 1
        self._outcomes.add(outcome)
        self._wake.set()

    async def note(self, running: Claim, report: ProgressReport) -> SettleWord:
        """Store what a body reports; asks until the server answers."""
        keys = self._settings.claims.keys
        operation = settle.report_progress(
            keys, running.id, running.token, report, now_ms=self._settings.clock()
        )
        while True:
            try:
                return await self._runner.send(operation)
            except ServerUnavailableError:
                await asyncio.sleep(random.uniform(0.2, 1.0))  # noqa: S311

    # What the worker says.

    def poll_now(self) -> None:
        """There may be work: ask."""
        self._sated.clear()
        self._wake.set()

    def narrow(self, slots: int) -> None:
        """Hold no more than *slots* tasks from now on."""
        self._slots = slots
        self.poll_now()

    def stop_claiming(self) -> None:
        """Claim nothing more; hand back what has not begun."""
        self._claiming = False
        self.release(self._executor.release_ready(), started=False)

    def release(self, claims: list[Claim], *, started: bool) -> None:
        """Hand *claims* back unharmed."""
        for each in claims:
            self.released += 1
            self._outcomes.add(settle.release(each))
            self._events.emit(TaskReleased(each.id, started))
        self._wake.set()

    def settle_from_thread(self, runner: SyncRunner) -> None:
        """Settle what has ended and release the rest, for a loop that is blocked."""
        known = {(each.id, each.token): each for each in self._outcomes.outstanding()}
        for pair in self._leases.snapshot():
            known.setdefault(pair, Outcome(*pair, "release", b""))
        keys, now_ms = self._settings.claims.keys, self._settings.clock()
        runner.send_all(settles(keys, list(known.values()), now_ms=now_ms))

    def release_rest(self) -> None:
        """Hand back what is held still, in nobody's hands."""
        for pair in self._leases.snapshot():
            self._outcomes.add(Outcome(*pair, "release", b""))
        self._wake.set()

    def forget(self, task_id: str, token: str) -> None:
        """The lease is lost: the executor has let go, nothing will be settled."""
        self._leases.drop([(task_id, token)])
        self._suspects.discard((task_id, token))
        self._wake.set()

    async def emptied(self, timeout: float) -> bool:  # noqa: ASYNC109 - returns, does not raise
        """Wait until nothing is in hand; False when *timeout* seconds pass first."""
        deadline = time.monotonic() + timeout
        while not self.is_empty:
            self._progress.clear()
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            try:
                async with asyncio.timeout(min(left, 0.5)):
                    await self._progress.wait()
            except TimeoutError:
                continue
        return True

    # The loops.

    async def run(self, channel: int) -> None:
        """Make trips, one after the other, until cancelled."""
        requests = ClaimRequests(self._settings.claims, channel)
        while True:
            trip = self._plan(requests)
            if trip is None:
                self._wake.clear()
                await self._wake.wait()
                continue
            await self._make(trip, requests)
            self._progress.set()

    async def run_dry(self) -> None:
        """Claim and run until nothing waits and nothing runs; for tests."""
        requests = ClaimRequests(self._settings.claims, 0)
        self.poll_now()
        has_settled = False
        while True:
            trip = self._plan(requests)
            if trip is not None:
                await self._make(trip, requests)
                has_settled = bool(trip.outcomes)
            elif self.is_empty and not has_settled:
                return
            elif self.is_empty:
                # What has ended may have freed a permit that others wait for.
                has_settled = False
                self._sated.clear()
            else:
                self._wake.clear()
                await self._wake.wait()
                self._sated.clear()

    async def wait_for_work(self) -> None:
        """While nothing waits: sleep until the marker says so, at no cost."""
        keys = self._settings.claims.keys
        while True:
            await self._sated.wait()
            left = self._due_at - time.monotonic()
            try:
                await self._runner.wait_for(
                    keys.marker, max(0.01, min(LONGEST_DOZE, left))
                )
                self._polled_at = time.monotonic()
            except ServerError:
                await asyncio.sleep(random.uniform(0.2, 1.0))  # noqa: S311
            self.poll_now()

    @property
    def _most_bytes(self) -> int:
        """Most bytes of payloads, and of outcomes, in the next trip."""
        return MOST_BYTES * self._most // _MOST

    def _plan(self, requests: ClaimRequests) -> _Trip | None:
        queue, outcomes, is_full = self._outcomes, list[Outcome](), False
        if queue.waiting:
            outcomes = queue.take(self._most, self._most_bytes)
            is_full = queue.waiting > 0 or len(outcomes) == self._most
        request = requests.unanswered
        if request is None:
            request = self._claim_request(len(outcomes))
        elif not self._claiming and requests.is_hopeless():
            # Others have taken back by now what was handed out, if anything was.
            self._answered(requests, request)
            request = None
        return _Trip(outcomes, request, is_full) if outcomes or request else None

    def _claim_request(self, settling: int) -> ClaimRequest | None:
        """Say what to claim next, and keep the slots for it."""
        if not self._claiming or self._sated.is_set():
            return None
        ahead = PREFETCH if self._executor.can_prefetch else 1.0
        most = int(self._slots * ahead)
        held = self.in_hand - settling + self._reserved
        slots = min(most - held, self._most)
        if slots <= 0:
            return None
        suspect = not self._suspects and not self._suspect_asked
        self._reserved += slots
        self._suspect_asked = self._suspect_asked or suspect
        return ClaimRequest(slots, suspect)

    def _answered(self, requests: ClaimRequests, request: ClaimRequest) -> None:
        """Free what *request* has reserved; no more tasks will come of it."""
        requests.unanswered = None
        self._reserved -= request.slots
        if request.suspect:
            self._suspect_asked = False

    async def _make(self, trip: _Trip, requests: ClaimRequests) -> None:
        now_ms = self._settings.clock()
        operations: list[Operation[list[SettleWord]] | Operation[ClaimReply]] = []
        if trip.outcomes:
            operations.append(self._outcomes.operation(trip.outcomes, now_ms=now_ms))
        if trip.request:
            operations.append(
                requests.operation(
                    trip.request,
                    most_bytes=self._most_bytes,
                    now_ms=now_ms,
                    repeats=not self._claiming,
                )
            )
        try:
            answers = await self._runner.send_all(operations)
        except BaseException:
            self._give_up(trip, requests)
            raise
        errors = [each for each in answers if isinstance(each, TaskFlowError)]
        if trip.outcomes:
            self._settled(trip.outcomes, answers[0])
        is_full: bool | None = False
        undeclared: tuple[str, ...] = ()
        if trip.request and not isinstance(answers[-1], TaskFlowError):
            is_full = self._claimed(trip.request, requests, answers[-1])
            undeclared = answers[-1].undeclared
        self._adapt_batch(trip, None if errors else is_full)
        if undeclared and not errors:
            errors = await self._declare(undeclared)
        await self._back_off(errors)
        if undeclared:
            self.poll_now()

    async def _declare(self, names: Sequence[str]) -> list[TaskFlowError]:
        """Declare upstreams at once: their tasks were parked for want of rules.

        Args:
            names: Of the upstreams.

        Returns:
            The error, if they could not be declared; the next claim names them again.
        """
        try:
            await self._settings.declare(names)
        except ServerError as error:
            return [error]
        return []

    def _adapt_batch(self, trip: _Trip, is_full: bool | None) -> None:  # noqa: FBT001 - private
        """Make the next trips smaller if this one failed; else larger, if it was full.

        Args:
            trip: That was made.
            is_full: Whether its claim brought as much as one trip may; None = the trip
                failed, or its reply came too late.
        """
        if is_full is None:
            size = max(len(trip.outcomes), trip.request.slots if trip.request else 0)
            self._most = max(1, min(self._most, size) // 2)
        elif is_full or trip.is_full:
            self._most = min(self._most + 1, _MOST)

    def _give_up(self, trip: _Trip, requests: ClaimRequests) -> None:
        if trip.outcomes:
            self._outcomes.put_back(trip.outcomes)
        if trip.request:
            self._answered(requests, trip.request)

    def _settled(
        self, outcomes: list[Outcome], answer: list[SettleWord] | TaskFlowError
    ) -> None:
        if isinstance(answer, TaskFlowError):
            self._outcomes.put_back(outcomes)
            return
        self._outcomes.confirm(outcomes)
        pairs = [(outcome.id, outcome.token) for outcome in outcomes]
        self._leases.drop(pairs)
        if not self._suspects.isdisjoint(pairs):
            self._suspects.difference_update(pairs)
            self.poll_now()  # the next suspect waits for this one, and wakes nobody
        for outcome, word in zip(outcomes, answer, strict=True):
            if word != "OK":
                self._events.emit(LeaseLost(outcome.id, word, "settle"))

    def _claimed(
        self, request: ClaimRequest, requests: ClaimRequests, reply: ClaimReply
    ) -> bool | None:
        """Take what a claim brought.

        Returns:
            Whether it was as much as one trip may bring; None if it came too late to
            trust.
        """
        self._polled_at = time.monotonic()
        received = requests.receive(reply)
        if received is None:
            return None
        if reply.left_out == "claimed":
            # The rest is requested next; its slots stay reserved.
            self._reserved -= len(received)
            requests.unanswered = evolve(request, slots=request.slots - len(received))
        else:
            self._answered(requests, request)
        disowned = self._leases.add((each.id, each.token) for each in received)
        claims = received
        if disowned:
            claims = [each for each in claims if (each.id, each.token) not in disowned]
        self._suspects.update(
            (each.id, each.token) for each in claims if each.lane == "suspects"
        )
        if len(received) < request.slots and not reply.left_out:
            due = (reply.next_due_ms - reply.now_ms) / 1000
            self._due_at = time.monotonic() + due if reply.next_due_ms else float("inf")
            self._sated.set()
        if self._claiming:
            self._executor.start(claims)
        else:
            self.release(claims, started=False)
        return bool(reply.left_out) or len(received) >= self._most

    async def _back_off(self, errors: list[TaskFlowError]) -> None:
        """Tell of an outage, and wait a little before the next trip."""
        if not errors:
            self._failures = 0
            self._outage.end()
            return
        self._outage.begin(str(errors[0]))
        if not isinstance(errors[0], ServerUnavailableError):
            _logger.error("the server refused a trip: %s", errors[0])
        self._failures += 1
        cap = min(5.0, 0.1 * 2 ** min(self._failures, 6))
        await asyncio.sleep(random.uniform(0.05, cap))  # noqa: S311 - spreads workers
