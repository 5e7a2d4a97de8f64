"""The contract of an executor: every claim gives one outcome, whatever its body does.

Another executor joins by one line in `EXECUTORS`.
"""

import asyncio
import contextvars
import json
import random
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from taskflow import (
    Cancel,
    Context,
    DeadLetter,
    Registry,
    Retry,
    RetryPolicy,
    RetryRule,
    Snooze,
    TaskFlow,
    Upstream,
)
from taskflow._codec import Spec, encode_spec
from taskflow._declare import ports
from taskflow._declare.ports import Pass
from taskflow._events import Events
from taskflow._protocol.record import Claim, Outcome
from taskflow._protocol.settle import ProgressReport, SettleWord
from taskflow._worker import containment
from taskflow._worker.executor import Executor, Host, Limits
from taskflow._worker.executors import local, threads
from taskflow._worker.executors.local import LocalExecutor
from taskflow.errors import CircuitBreakerError, ServerRefusedError
from tests.support.rlimits import ThreadLimit

EXECUTORS: dict[str, Callable[[Host], Executor]] = {
    "local": lambda host: LocalExecutor(host, random.Random(1)),
}

PATIENCE = 10.0

kept = contextvars.ContextVar("kept", default="nothing")


class Gate:
    """Lets every guarded call begin, and keeps how it ended."""

    def __init__(self) -> None:
        self.ended: list[BaseException | None] = []

    async def aenter(
        self,
        upstream: Any,
        weight: float,
        timeout: float | None,  # noqa: ASYNC109 - the protocol's
    ) -> Any:
        """Let it begin."""
        here = ports.scope.get()
        assert here is not None
        return Pass(self, "", 0, here.admission)

    async def aleave(
        self, upstream: Any, admitted: Any, error: BaseException | None
    ) -> None:
        """Keep how it ended."""
        admitted.admission.has_reported = True
        self.ended.append(error)


class Stage:
    """The host of one executor: makes claims, and keeps what it is told."""

    def __init__(self, make: Callable[[Host], Executor], slots: int = 4) -> None:
        self.registry = Registry()
        self.limits = Limits(
            max_retries=3,
            max_age=3600.0,
            time_limit=None,
            soft_time_limit=None,
            max_result_bytes=1000,
            max_crashes=3,
        )
        self.events = Events()
        self.slots = slots
        self.guards: Any = Gate()
        self.outcomes: list[Outcome] = []
        self.reports: list[ProgressReport] = []
        self.given_back: list[Claim] = []
        self.narrowed: list[int] = []
        self.times: dict[str, float] = {}
        self.refusal: Exception | None = None
        self.server_up = asyncio.Event()
        self.server_up.set()
        self._changed = asyncio.Event()
        self._number = 0
        self.executor = make(self)

    def limited(self, claim: Claim, hard_at: float) -> None:
        """Keep the time that a task has."""
        self.times[claim.id] = hard_at - time.monotonic()

    def done(self, claim: Claim, outcome: Outcome) -> None:
        """Keep an outcome; there is one for each claim."""
        assert (claim.id, claim.token) == (outcome.id, outcome.token)
        assert outcome.id not in [each.id for each in self.outcomes]
        self.outcomes.append(outcome)
        self._changed.set()

    def give_back(self, claims: list[Claim]) -> None:
        """Keep what waited too long."""
        self.given_back.extend(claims)
        self._changed.set()

    def narrow(self, slots: int) -> None:
        """Keep how many slots are worth it."""
        self.narrowed.append(slots)
        self._changed.set()

    async def note(self, claim: Claim, report: ProgressReport) -> SettleWord:
        """Keep a report."""
        del claim
        await asyncio.sleep(0)
        await self.server_up.wait()
        if self.refusal is not None:
            raise self.refusal
        self.reports.append(report)
        return "OK"

    def claim(self, task: Any, *, attempts: int = 0, **arguments: Any) -> Claim:
        """Make a claim of *task*, as the server would."""
        self._number += 1
        call = task.call(**arguments)
        return Claim(
            id=f"task-{self._number}",
            lane="primary",
            delivery=1,
            token=f"1:w:0-{self._number}",
            payload=call.payload,
            spec=encode_spec(Spec(name=task.name)),
            attempts=attempts,
            crashes=0,
            age_ms=0,
            checkpoint=b"",
        )

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait until *condition* holds; looked at whenever an outcome comes."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self._changed.clear()
                try:
                    async with asyncio.timeout(0.02):
                        await self._changed.wait()
                except TimeoutError:
                    continue

    async def outcome(self, task: Any, **arguments: Any) -> Outcome:
        """Run one claim of *task* to its outcome."""
        claim = self.claim(task, **arguments)
        self.executor.start([claim])
        await self.until(lambda: self.outcomes)
        assert 0 == self.executor.running
        return self.outcomes[0]


def facts(outcome: Outcome) -> dict[str, Any]:
    """Read what an outcome says besides its verb."""
    detail: dict[str, Any] = json.loads(outcome.detail)
    if "error" in detail:
        detail["error"] = json.loads(detail["error"])
    return detail


@pytest.fixture(params=EXECUTORS)
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    """Give a host with an executor of each kind."""
    made = Stage(EXECUTORS[request.param])
    yield made
    await made.executor.aclose()


class WithOddText(Exception):  # noqa: N818 - an odd one
    """Its text cannot be had, and it cannot be pickled."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()

    def __str__(self) -> str:
        """Raise."""
        raise ValueError

    def __reduce__(self) -> Any:
        """Raise."""
        raise TypeError


class Unanswering(type):
    """A class that cannot say what is one of it."""

    def __instancecheck__(cls, instance: object) -> bool:
        """Raise."""
        raise RuntimeError


class Strange(Exception, metaclass=Unanswering):  # noqa: N818 - an odd one
    """Every rule that is for it fails when it is asked."""


class OddMapping(dict[str, int]):
    """A result whose own code fails while it is written."""

    def items(self) -> Any:
        """Raise."""
        raise ValueError


def raising(error: BaseException) -> Callable[[Registry], Any]:
    """Make a coroutine task that raises *error*."""

    def declare(registry: Registry) -> Any:
        @registry.task(name="raises")
        async def raises() -> None:
            raise error

        return raises

    return declare


def raising_plainly(error: BaseException) -> Callable[[Registry], Any]:
    """Make a plain task that raises *error*."""

    def declare(registry: Registry) -> Any:
        @registry.task(name="raises")
        def raises() -> None:
            raise error

        return raises

    return declare


class TestVerdicts:
    """Each way for a body to end has its move."""

    @pytest.mark.parametrize("kind", [raising, raising_plainly])
    @pytest.mark.parametrize(
        ("error", "verb"),
        [
            (ValueError("no"), "retry"),
            (WithOddText(), "retry"),
            (KeyboardInterrupt(), "retry"),
            (SystemExit(3), "retry"),
            (GeneratorExit(), "retry"),
            (BaseExceptionGroup("several", [KeyboardInterrupt()]), "retry"),
            (asyncio.CancelledError(), "retry"),
            (Retry(delay=5), "retry"),
            (Snooze(5), "snooze"),
            (DeadLetter("no"), "dead"),
            (Cancel("enough"), "cancel"),
            (Snooze(5, reason="\ud800"), "snooze"),
            (Cancel(reason="\ud800"), "cancel"),
            (DeadLetter("\ud800"), "dead"),
            (Retry(reason="\ud800"), "retry"),
        ],
        ids=lambda each: repr(each).encode("ascii", "backslashreplace").decode(),
    )
    async def test_every_exception_is_one_outcome(
        self, stage: Stage, kind: Any, error: BaseException, verb: str
    ) -> None:
        """Of a coroutine and of a plain function alike."""
        outcome = await stage.outcome(kind(error)(stage.registry))

        assert verb == outcome.verb
        assert facts(outcome)

    @pytest.mark.parametrize("reason", [7, ValueError("x"), b"\xff", None])
    @pytest.mark.parametrize("signal", [Snooze, Cancel, Retry, DeadLetter])
    async def test_a_reason_that_is_no_text_loses_no_task(
        self, stage: Stage, signal: Any, reason: Any
    ) -> None:
        """What a person reads may be odd; the move is made."""
        error = (
            signal(5, reason=reason)
            if signal in {Snooze, Retry}
            else signal(reason=reason)
        )

        outcome = await stage.outcome(raising(error)(stage.registry))

        verbs = {Snooze: "snooze", Cancel: "cancel", Retry: "retry", DeadLetter: "dead"}
        assert verbs[signal] == outcome.verb

    async def test_an_error_whose_attributes_raise_is_an_outcome(
        self, stage: Stage
    ) -> None:
        """A status and a Retry-After are looked for, and may not be there."""

        class Hostile(Exception):  # noqa: N818
            def __getattribute__(self, name: str) -> Any:
                if not name.startswith("__"):
                    raise RuntimeError(name)
                return super().__getattribute__(name)

        outcome = await stage.outcome(raising(Hostile())(stage.registry))

        assert "retry" == outcome.verb

    @pytest.mark.parametrize("fault", ["rule", "upstream", "limit", "result"])
    async def test_an_end_that_cannot_be_judged_is_another_attempt(
        self, stage: Stage, fault: str
    ) -> None:
        """Whichever code of the user's fails, no lease is held for ever."""
        strange = RetryPolicy(rules=[RetryRule(on=Strange)])
        policy = strange if fault in {"rule", "limit"} else None
        failures = [Strange] if fault == "upstream" else []
        stage.registry.add_upstream(Upstream("api", failures=failures))

        @stage.registry.task(name="ends", upstream="api", timeout=0.1, retry=policy)
        async def ends() -> Any:
            if fault == "limit":
                await asyncio.sleep(60)
            if fault == "result":
                return OddMapping(x=1)
            raise ValueError(fault)

        claim = stage.claim(ends)._replace(upstream="api", epoch=7, weight=1.0)
        stage.executor.start([claim])
        await stage.until(lambda: stage.outcomes)

        assert ["retry"] == [each.verb for each in stage.outcomes]
        assert 0 == stage.executor.running

    async def test_a_result_that_cannot_be_stored_is_a_dead_letter(
        self, stage: Stage
    ) -> None:
        """It would be the same the next time."""

        @stage.registry.task(name="odd")
        async def odd() -> Any:
            return object()

        outcome = await stage.outcome(odd)

        assert ("dead", "payload") == (outcome.verb, facts(outcome)["cause"])

    async def test_a_task_whose_code_is_not_here_is_snoozed(self, stage: Stage) -> None:
        """A deploy may be in progress."""
        other = Registry()

        @other.task(name="elsewhere")
        async def elsewhere() -> None: ...

        outcome = await stage.outcome(elsewhere)

        assert ("snooze", 1) == (outcome.verb, facts(outcome)["once"])

    async def test_attempts_that_are_used_up_end_among_the_dead_letters(
        self, stage: Stage
    ) -> None:
        """The last failure is not followed by another attempt."""

        @stage.registry.task(name="bad", retry=RetryPolicy(max_retries=1))
        async def bad() -> None:
            raise ValueError

        outcome = await stage.outcome(bad, attempts=1)

        assert ("dead", "exhausted") == (outcome.verb, facts(outcome)["cause"])


class TestLimits:
    """A body out of time has failed, and its slot is free."""

    async def test_a_coroutine_is_cancelled_at_its_soft_limit(
        self, stage: Stage
    ) -> None:
        """It may clean up."""
        cleaned: list[str] = []

        @stage.registry.task(name="slow", soft_timeout=0.1, timeout=5.0)
        async def slow() -> None:
            try:
                await asyncio.sleep(PATIENCE)
            finally:
                cleaned.append("up")

        outcome = await stage.outcome(slow)

        assert ("retry", "TimeoutError") == (
            outcome.verb,
            facts(outcome)["error"]["type"],
        )
        assert ["up"] == cleaned

    async def test_a_body_that_ignores_its_soft_limit_ends_at_the_hard_one(
        self, stage: Stage
    ) -> None:
        """Its late result is dropped."""
        over = asyncio.Event()

        @stage.registry.task(name="deaf", soft_timeout=0.05, timeout=0.2)
        async def deaf() -> str:
            while not over.is_set():
                try:
                    await over.wait()
                except asyncio.CancelledError:
                    continue
            return "late"

        outcome = await stage.outcome(deaf)
        over.set()
        await asyncio.sleep(0)

        assert ("retry", "TimeoutError") == (
            outcome.verb,
            facts(outcome)["error"]["type"],
        )
        assert [outcome] == stage.outcomes

    async def test_a_body_that_goes_on_after_an_exit_ends_soon_after(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With the exit of the asyncio task that it started, not at its hard limit."""
        monkeypatch.setattr(local, "FAULT_GRACE", 0.1)
        containment.contain(asyncio.get_running_loop())
        over = asyncio.Event()

        async def leave() -> None:
            raise SystemExit(3)

        @stage.registry.task(name="deaf", timeout=60.0)
        async def deaf() -> str:
            started.append(asyncio.create_task(leave()))
            while not over.is_set():
                try:
                    await over.wait()
                except asyncio.CancelledError:
                    continue
            return "late"

        started: list[asyncio.Task[None]] = []
        outcome = await stage.outcome(deaf)
        over.set()
        await asyncio.sleep(0)

        assert ("retry", "SystemExit") == (
            outcome.verb,
            facts(outcome)["error"]["type"],
        )
        assert [outcome] == stage.outcomes

    async def test_what_stops_a_body_before_its_first_step_is_an_outcome(
        self, stage: Stage
    ) -> None:
        """Or a wish to cancel; a body that never begins has an outcome all the same."""

        @stage.registry.task(name="late", soft_timeout=0.05, timeout=60.0)
        async def late() -> None:
            raise NotImplementedError

        claim = stage.claim(late)
        stage.executor.start([claim])
        stage.executor.cancel(claim.id, claim.token)
        await stage.until(lambda: stage.outcomes)

        assert "cancel" == stage.outcomes[0].verb
        assert 0 == stage.executor.running


class TestMemory:
    """Large arguments are kept once."""

    @pytest.mark.parametrize("is_async", [True, False], ids=["coroutine", "function"])
    async def test_a_running_task_does_not_keep_the_text_of_large_arguments(
        self, stage: Stage, *, is_async: bool
    ) -> None:
        """It has the arguments; the worker needs their text no longer."""
        go_on = threading.Event()

        @stage.registry.task(name="function")
        def function(load: str) -> int:
            go_on.wait(PATIENCE)
            return len(load)

        @stage.registry.task(name="coroutine")
        async def coroutine(load: str) -> int:
            await asyncio.to_thread(go_on.wait, PATIENCE)
            return len(load)

        claim = stage.claim(coroutine if is_async else function, load="x" * 100_000)
        payload = claim.payload
        stage.executor.start([claim])
        del claim
        held = sys.getrefcount(payload) - 2  # by the name, and by the question
        running = stage.executor.running
        go_on.set()
        await stage.until(lambda: stage.outcomes)

        assert (1, 0) == (running, held)
        assert b"100000" == stage.outcomes[0].detail


class TestReports:
    """What a body reports is stored before its outcome, or is dropped aloud."""

    async def test_everything_reported_is_stored_before_the_outcome(
        self, stage: Stage
    ) -> None:
        """Also what was reported in the last moment."""

        @stage.registry.task(name="reports")
        async def reports(ctx: Context) -> int:
            ctx.progress(1, 2, "half")
            ctx.usage(tokens=3)
            ctx.usage(tokens=4)
            ctx.annotate(model="m")
            await ctx.asave({"page": 2})
            ctx.emit("a")
            ctx.emit("b")
            return 1

        outcome = await stage.outcome(reports)

        assert "complete" == outcome.verb
        chunks = [chunk for report in stage.reports for chunk in report.chunks]
        assert ["a", "b"] == chunks
        first = stage.reports[0]
        assert {"done": 1, "total": 2, "message": "half"} == json.loads(first.progress)
        assert {"tokens": 7} == first.usage
        assert {"model": '"m"'} == first.annotations
        assert {"page": 2} == json.loads(first.checkpoint)
        assert [1, 2] == [report.number for report in stage.reports]

    async def test_a_function_reports_from_its_thread(self, stage: Stage) -> None:
        """And saves there, waiting for the server."""

        @stage.registry.task(name="reports")
        def reports(ctx: Context) -> int:
            ctx.emit("a")
            ctx.save({"page": 1})
            return 1

        outcome = await stage.outcome(reports)

        assert "complete" == outcome.verb
        assert ("a",) == stage.reports[0].chunks
        assert {"page": 1} == json.loads(stage.reports[0].checkpoint)

    async def test_reports_that_the_server_refuses_cost_no_task_its_outcome(
        self, stage: Stage, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The body did its work; a log line says what is missing."""
        stage.refusal = ServerRefusedError("NOPERM")

        @stage.registry.task(name="reports")
        async def reports(ctx: Context) -> int:
            ctx.emit("a")
            return 1

        outcome = await stage.outcome(reports)

        assert "complete" == outcome.verb
        assert "could not be stored" in caplog.text

    @pytest.mark.parametrize("plain", [False, True], ids=["coroutine", "function"])
    @pytest.mark.parametrize("meanwhile", ["limit", "cancel", "release", "abandon"])
    async def test_what_has_ended_stands_while_its_reports_wait_for_the_server(
        self, stage: Stage, plain: bool, meanwhile: str
    ) -> None:
        """No limit ends it any more, and nobody runs it again."""
        task = self.declare(stage, plain=plain)
        stage.server_up.clear()
        claim = stage.claim(task)
        stage.executor.start([claim])
        await asyncio.sleep(0.2)
        running = stage.executor.running
        released: list[Claim] = []
        if meanwhile == "limit":
            await asyncio.sleep(0.3)
        elif meanwhile == "cancel":
            stage.executor.cancel(claim.id, claim.token)
        elif meanwhile == "release":
            released = stage.executor.release_running()
        else:
            assert stage.executor.abandon(claim.id, claim.token)
        if meanwhile != "release":
            stage.server_up.set()
        wanted = [] if meanwhile == "abandon" else ["complete"]
        await stage.until(lambda: len(stage.outcomes) == len(wanted))
        stage.server_up.set()
        await asyncio.sleep(0.05)

        assert (1, 0) == (running, stage.executor.running)
        assert wanted == [each.verb for each in stage.outcomes]
        assert [] == released
        assert () == stage.executor.unstopped

    def declare(self, stage: Stage, *, plain: bool) -> Any:
        """Declare a task that ends at once, with something to report."""

        @stage.registry.task(name="coroutine", timeout=0.3, soft_timeout=0.25)
        async def coroutine(ctx: Context) -> int:
            ctx.progress(1, 1)
            return 42

        @stage.registry.task(name="function", timeout=0.3, soft_timeout=0.25)
        def function(ctx: Context) -> int:
            ctx.progress(1, 1)
            return 42

        return function if plain else coroutine


class TestStopping:
    """Cancelled, taken away or handed back."""

    async def test_a_coroutine_is_cancelled_and_a_function_is_told(
        self, stage: Stage
    ) -> None:
        """Both end as cancelled when they give up."""
        began = threading.Barrier(2)

        @stage.registry.task(name="waits")
        async def waits() -> None:
            await asyncio.sleep(PATIENCE)

        @stage.registry.task(name="looks")
        def looks(ctx: Context) -> None:
            began.wait(PATIENCE)
            until = time.monotonic() + PATIENCE
            while not ctx.cancelled and time.monotonic() < until:
                time.sleep(0.005)
            raise RuntimeError

        claims = [stage.claim(waits), stage.claim(looks)]
        stage.executor.start(claims)
        await asyncio.to_thread(began.wait, PATIENCE)
        for claim in claims:
            stage.executor.cancel(claim.id, claim.token)
        await stage.until(lambda: len(stage.outcomes) == 2)

        assert ["cancel", "cancel"] == [each.verb for each in stage.outcomes]

    async def test_a_result_given_in_spite_of_a_cancel_wins(self, stage: Stage) -> None:
        """The work is done."""
        began = threading.Event()

        @stage.registry.task(name="finishes")
        def finishes(ctx: Context) -> int:
            began.set()
            until = time.monotonic() + PATIENCE
            while not ctx.cancelled and time.monotonic() < until:
                time.sleep(0.005)
            return 7

        claim = stage.claim(finishes)
        stage.executor.start([claim])
        await asyncio.to_thread(began.wait, PATIENCE)
        stage.executor.cancel(claim.id, claim.token)
        await stage.until(lambda: stage.outcomes)

        assert ("complete", b"7") == (stage.outcomes[0].verb, stage.outcomes[0].detail)

    async def test_a_cancel_under_another_token_is_not_heard(
        self, stage: Stage
    ) -> None:
        """It was meant for another delivery of the task."""
        go_on = asyncio.Event()

        @stage.registry.task(name="waits")
        async def waits() -> int:
            await go_on.wait()
            return 1

        claim = stage.claim(waits)
        stage.executor.start([claim])
        await asyncio.sleep(0)
        stage.executor.cancel(claim.id, "2:w:0-9")
        assert not stage.executor.abandon(claim.id, "2:w:0-9")
        go_on.set()
        await stage.until(lambda: stage.outcomes)

        assert "complete" == stage.outcomes[0].verb

    @pytest.mark.parametrize("how", ["abandon", "release"])
    @pytest.mark.parametrize("plain", [False, True], ids=["coroutine", "function"])
    async def test_what_is_taken_away_gives_no_outcome_and_frees_its_slot(
        self, stage: Stage, how: str, plain: bool
    ) -> None:
        """Whatever its body says afterwards."""
        ended = threading.Event()
        began = threading.Event()

        @stage.registry.task(name="waits")
        async def waits() -> None:
            began.set()
            try:
                await asyncio.sleep(PATIENCE)
            finally:
                ended.set()

        @stage.registry.task(name="looks")
        def looks(ctx: Context) -> int:
            began.set()
            until = time.monotonic() + PATIENCE
            while not ctx.cancelled and time.monotonic() < until:
                time.sleep(0.005)
            ended.set()
            return 1

        claim = stage.claim(looks if plain else waits)
        stage.executor.start([claim])
        await asyncio.to_thread(began.wait, PATIENCE)
        if how == "abandon":
            assert stage.executor.abandon(claim.id, claim.token)
        else:
            assert [claim] == stage.executor.release_running()
        assert 0 == stage.executor.running
        await asyncio.to_thread(ended.wait, PATIENCE)
        for _ in range(3):
            await asyncio.sleep(0.01)

        assert [] == stage.outcomes

    async def test_claims_wait_in_order_and_can_be_given_up(self, stage: Stage) -> None:
        """Never more bodies than slots."""
        go_on = asyncio.Event()

        @stage.registry.task(name="waits")
        async def waits() -> None:
            await go_on.wait()

        claims = [stage.claim(waits) for _ in range(6)]
        stage.executor.start(claims)

        assert (4, 2) == (stage.executor.running, stage.executor.ready)
        assert stage.executor.abandon(claims[4].id, claims[4].token)
        assert [claims[5]] == stage.executor.release_ready()
        assert ("waits",) == stage.executor.names
        told = [each["id"] for each in stage.executor.describe()]
        assert [claim.id for claim in claims[:4]] == told
        go_on.set()
        await stage.until(lambda: len(stage.outcomes) == 4)


class TestScarcity:
    """Where the system gives no more threads, a function is nobody's loss."""

    async def test_what_no_thread_can_be_started_for_is_given_back_and_does_not_run(
        self,
        stage: Stage,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """Not later either, on a thread that gets free; what waits goes with it."""
        scarcity, ran, go = ThreadLimit(monkeypatch, 2), list[int](), threading.Event()

        @stage.registry.task(name="waits")
        def waits(x: int) -> int:
            ran.append(x)
            go.wait(PATIENCE)
            return x

        stage.executor.start([stage.claim(waits, x=x) for x in range(5)])
        given_back = [each.id for each in stage.given_back]
        running = stage.executor.running
        go.set()
        await stage.until(lambda: len(stage.outcomes) == 2)
        stage.executor.start([stage.claim(waits, x=x) for x in (5, 6)])
        await stage.until(lambda: len(stage.outcomes) == 4)

        assert (["task-3", "task-4", "task-5"], 2) == (given_back, running)
        assert ["complete"] * 4 == [each.verb for each in stage.outcomes]
        assert ([0, 1, 5, 6], [2], 1) == (sorted(ran), stage.narrowed, scarcity.refused)
        assert (0, 0) == (stage.executor.running, stage.executor.ready)
        assert 1 == caplog.text.count("raise the limit of processes")

    async def test_what_begins_as_another_body_ends_is_given_back_too(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nobody up there would hear of an error, and the slot would be lost."""
        ThreadLimit(monkeypatch, 0)
        stage.slots = 1

        @stage.registry.task(name="first")
        async def first() -> int:
            return 1

        @stage.registry.task(name="second")
        def second() -> int:
            return 2

        stage.executor.start([stage.claim(first), stage.claim(second)])
        await stage.until(lambda: stage.given_back)

        assert ["task-1"] == [each.id for each in stage.outcomes]
        assert ["task-2"] == [each.id for each in stage.given_back]
        assert ([0], 0) == (stage.narrowed, stage.executor.running)

    async def test_all_slots_are_used_again_once_threads_are_to_be_had(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Some more at each look; nobody says when there are."""
        monkeypatch.setattr(threads, "PAUSE", 0.01)
        scarcity = ThreadLimit(monkeypatch, 0)

        @stage.registry.task(name="one")
        def one() -> int:
            return 1

        stage.executor.start([stage.claim(one)])
        scarcity.most = 4
        await stage.until(lambda: len(stage.narrowed) == 5)
        outcome = await stage.outcome(one)

        assert [0, 1, 2, 3, 4] == stage.narrowed
        assert "complete" == outcome.verb


class TestSurroundings:
    """A body runs in surroundings of its own."""

    @pytest.mark.parametrize("plain", [False, True], ids=["coroutine", "function"])
    async def test_context_variables_do_not_leak_from_body_to_body(
        self, stage: Stage, plain: bool
    ) -> None:
        """Nor to the worker."""

        @stage.registry.task(name="coroutine")
        async def coroutine() -> str:
            before = kept.get()
            kept.set("changed")
            return before

        @stage.registry.task(name="function")
        def function() -> str:
            before = kept.get()
            kept.set("changed")
            return before

        task = function if plain else coroutine
        # More than there are slots: some begin where others end.
        stage.executor.start([stage.claim(task) for _ in range(9)])
        await stage.until(lambda: len(stage.outcomes) == 9)

        assert [b'"nothing"'] * 9 == [each.detail for each in stage.outcomes]
        assert "nothing" == kept.get()

    async def test_a_body_may_enqueue(self, stage: Stage) -> None:
        """By the flow of its own choice; asynchronously and blocking."""
        with TaskFlow("memory://conformance", registry=stage.registry) as flow:

            @stage.registry.task(name="child")
            async def child() -> None: ...

            @stage.registry.task(name="parent")
            async def parent() -> str:
                handle = await flow.aenqueue(child.call())
                await flow.aclose()
                return handle.id

            @stage.registry.task(name="blocking")
            def blocking() -> str:
                return flow.enqueue(child.call()).id

            stage.executor.start([stage.claim(parent), stage.claim(blocking)])
            await stage.until(lambda: len(stage.outcomes) == 2)

            assert ["complete"] * 2 == [each.verb for each in stage.outcomes]
            assert 2 == flow.queues.status().states["PENDING"]


class TestUpstreams:
    """What a run says of the upstream that let it begin."""

    @pytest.mark.parametrize(
        ("error", "verb", "verdict"),
        [
            (None, "complete", "success"),
            (TimeoutError(), "retry", "failure"),
            (ValueError("x"), "retry", None),
            (CircuitBreakerError("api", 5.0), "park", None),
            (CircuitBreakerError("other", 5.0), "snooze", None),
        ],
        ids=str,
    )
    async def test_the_end_of_a_run_is_an_outcome(
        self, stage: Stage, error: Exception | None, verb: str, verdict: str | None
    ) -> None:
        """Success, failure, or nothing; refused by its upstream it is parked."""

        @stage.registry.task(name="call", upstream="api")
        async def call() -> None:
            if error is not None:
                raise error

        claim = stage.claim(call)._replace(upstream="api", epoch=7, weight=1.0)
        stage.executor.start([claim])
        await stage.until(lambda: stage.outcomes)
        (outcome,) = stage.outcomes
        said = outcome.report and (outcome.report.epoch, outcome.report.outcome)

        assert verb == outcome.verb
        assert said == (verdict and (7, verdict))

    async def test_a_failed_probe_is_parked(self, stage: Stage) -> None:
        """It uses no attempt, whatever the policy says of the error."""

        @stage.registry.task(
            name="call", upstream="api", retry=RetryPolicy(max_retries=0)
        )
        def call() -> None:
            raise ConnectionError

        claim = stage.claim(call)._replace(upstream="api", is_probe=True)
        stage.executor.start([claim])
        await stage.until(lambda: stage.outcomes)
        (outcome,) = stage.outcomes

        assert ("park", "failure") == (
            outcome.verb,
            outcome.report and outcome.report.outcome,
        )

    async def test_guards_in_a_body_ask_the_worker(self, stage: Stage) -> None:
        """And their word stands: the end of the run says nothing more."""
        api = Upstream("api")

        @stage.registry.task(name="call", upstream=api)
        async def call() -> None:
            async with api.guard():
                raise TimeoutError

        claim = stage.claim(call)._replace(upstream="api")
        stage.executor.start([claim])
        await stage.until(lambda: stage.outcomes)

        assert [TimeoutError] == [type(each) for each in stage.guards.ended]
        assert None is stage.outcomes[0].report
