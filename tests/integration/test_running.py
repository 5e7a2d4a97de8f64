"""What becomes of bodies: results, retries, limits, signals, reports, refusals."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
import redis
from attrs import evolve

from taskflow import (
    Cancel,
    CircuitBreaker,
    CircuitBreakerError,
    Context,
    DeadLetter,
    Registry,
    Retry,
    RetryPolicy,
    RetryRule,
    Snooze,
    TaskFlow,
    TaskRecord,
    TaskState,
    Upstream,
    Worker,
)
from taskflow._protocol import claim
from taskflow._protocol.claim import ClaimReply
from taskflow._protocol.operation import Operation
from taskflow._servers.async_runner import AsyncRedisSubscription
from taskflow._worker.outcome import UNKNOWN_WAIT
from taskflow.errors import ConfigurationError, PayloadError, TaskFailedError
from taskflow.testing import ManualClock, arun_until_idle


@pytest.fixture
def clock() -> ManualClock:
    """Give the time that every script uses."""
    return ManualClock()


@pytest.fixture
def registry() -> Registry:
    """Give an empty registry."""
    return Registry()


@pytest.fixture
def flow(server_url: str, clock: ManualClock, registry: Registry) -> Iterator[TaskFlow]:
    """Give a flow on each kind of server."""
    with TaskFlow(server_url, registry=registry, clock=clock) as made:
        yield made


async def run(flow: TaskFlow, task: Any, **arguments: Any) -> TaskRecord:
    """Enqueue one call, run until nothing is due, and give the record."""
    handle = await flow.aenqueue(task.call(**arguments))
    await arun_until_idle(flow)
    record = await flow.tasks.aget(handle.id)
    await flow.aclose()
    return record


class TestResults:
    """What a body returns is what the caller gets."""

    async def test_coroutines_and_functions_give_their_results(
        self, flow: TaskFlow, registry: Registry
    ) -> None:
        """Both kinds of body, side by side."""

        @registry.task(name="plain")
        def plain(x: int) -> int:
            return x + 1

        @registry.task(name="coroutine")
        async def coroutine(x: int) -> list[int]:
            return [x]

        first = await flow.aenqueue(plain.call(1))
        second = await flow.aenqueue(coroutine.call(2))
        await arun_until_idle(flow)

        assert (2, [2]) == (await first.aresult(5), await second.aresult(5))
        await flow.aclose()

    async def test_functions_run_in_threads(
        self, flow: TaskFlow, registry: Registry
    ) -> None:
        """Ten functions that wait for each other can only end together."""
        together = threading.Barrier(10)

        @registry.task(name="meet")
        def register() -> int:
            return together.wait(timeout=10)

        handles = await flow.aenqueue_many([register.call() for _ in range(10)])
        await arun_until_idle(flow, concurrency=10)

        assert list(range(10)) == sorted([await each.aresult(5) for each in handles])
        await flow.aclose()

    @pytest.mark.parametrize(
        ("value", "told"),
        [
            (object(), "object"),
            (float("nan"), "nan"),
            ("\ud800", "surrogate"),
            ((1, 2), "tuple"),
            ("x" * 2_000_000, "bytes of JSON"),
        ],
        ids=["object", "nan", "surrogate", "tuple", "too-large"],
    )
    async def test_a_result_that_cannot_be_stored_is_a_dead_letter(
        self, flow: TaskFlow, registry: Registry, value: object, told: str
    ) -> None:
        """Running it again would not help, so nobody does."""

        @registry.task(name="odd")
        async def odd() -> Any:
            return value

        record = await run(flow, odd)

        assert (TaskState.DLQ, 1) == (record.state, record.attempts)
        assert record.dead_letter is not None
        assert "payload" == record.dead_letter.cause
        assert told in record.error_message

    async def test_a_result_of_another_type_than_annotated_is_a_dead_letter(
        self, flow: TaskFlow, registry: Registry
    ) -> None:
        """The caller was promised an int."""

        @registry.task(name="liar")
        async def liar() -> int:
            return "one"  # type: ignore[return-value]

        record = await run(flow, liar)

        assert TaskState.DLQ is record.state
        assert "result: Expected int, got str" in record.error_message


class QuietError(Exception):
    """An error whose text cannot be had."""

    def __str__(self) -> str:
        """Fail."""
        message = "no text"
        raise RuntimeError(message)


def deep() -> None:
    """Call itself for ever."""
    deep()


def error_of(error: BaseException) -> Callable[[], None]:
    """Make a body that raises *error*."""

    def body() -> None:
        raise error

    return body


class TestFailures:
    """However a body ends, its end is recorded and the worker lives."""

    @pytest.mark.parametrize(
        ("body", "kind"),
        [
            (error_of(ValueError("no")), "ValueError"),
            (error_of(QuietError()), "QuietError"),
            (error_of(ValueError("x" * 10_000_000)), "ValueError"),
            (error_of(ValueError("\ud800")), "ValueError"),
            (error_of(SystemExit(3)), "SystemExit"),
            (error_of(KeyboardInterrupt()), "KeyboardInterrupt"),
            (error_of(asyncio.CancelledError()), "CancelledError"),
            (error_of(GeneratorExit()), "GeneratorExit"),
            (error_of(StopIteration()), "StopIteration"),
            (error_of(ExceptionGroup("many", [ValueError("a")])), "ValueError"),
            (deep, "RecursionError"),
        ],
        ids=[
            *("plain", "no-text", "huge", "surrogate", "exit", "interrupt"),
            *("cancelled", "generator-exit", "stop-iteration", "group", "recursion"),
        ],
    )
    @pytest.mark.parametrize("is_async", [True, False], ids=["coroutine", "function"])
    async def test_every_exception_is_an_outcome(
        self,
        flow: TaskFlow,
        registry: Registry,
        body: Callable[[], None],
        kind: str,
        is_async: bool,
    ) -> None:
        """Bounded, in text, and with a fingerprint."""

        @registry.task(name="plain", retry=RetryPolicy(max_retries=0))
        def plain() -> None:
            body()

        @registry.task(name="coroutine", retry=RetryPolicy(max_retries=0))
        async def coroutine() -> None:
            body()

        record = await run(flow, coroutine if is_async else plain)

        if kind == "StopIteration" and is_async:
            kind = "RuntimeError"  # PEP 479
        assert (TaskState.DLQ, kind, 1) == (
            record.state,
            record.error_type,
            record.attempts,
        )
        assert len(record.error_message.encode()) <= 8192
        assert record.dead_letter is not None
        assert ("exhausted", 12) == (
            record.dead_letter.cause,
            len(record.dead_letter.fingerprint),
        )
        assert len(record.dead_letter.traceback.encode()) <= 8192

    async def test_max_retries_and_delays_are_kept(
        self, flow: TaskFlow, registry: Registry, clock: ManualClock
    ) -> None:
        """Two retries, after one and after five seconds, and not before."""
        runs: list[int] = []

        @registry.task(name="fails", retry=RetryPolicy(max_retries=2, wait=[1, 5]))
        async def fails(ctx: Context) -> None:
            runs.append(ctx.attempt)
            message = "no"
            raise ValueError(message)

        handle = await flow.aenqueue(fails.call())
        for seconds in (0.0, 0.9, 0.2, 4.8, 0.3, 1000.0):
            clock.advance(seconds)
            await arun_until_idle(flow)
            runs.append(0)
        record = await flow.tasks.aget(handle.id)
        await flow.aclose()

        assert [1, 0, 0, 2, 0, 0, 3, 0, 0] == runs
        assert (TaskState.DLQ, 3) == (record.state, record.attempts)
        assert ["retry", "retry", "dead"] == [each.outcome for each in record.history]

    async def test_max_age_bounds_the_waits_between_attempts(
        self, flow: TaskFlow, registry: Registry, clock: ManualClock
    ) -> None:
        """The first attempt that fails beyond it is the last."""

        @registry.task(name="old", retry=RetryPolicy(max_retries=9, max_age=60))
        async def old() -> None:
            raise Retry(delay=25)

        handle = await flow.aenqueue(old.call())
        for _ in range(9):
            await arun_until_idle(flow)
            clock.advance(25)
        record = await flow.tasks.aget(handle.id)
        await flow.aclose()

        # After waits of 0, 25, 50 and 75 s.
        assert ["retry", "retry", "retry", "dead"] == [
            each.outcome for each in record.history
        ]
        assert record.dead_letter is not None
        assert ("max_age", 4) == (record.dead_letter.cause, record.attempts)

    async def test_max_age_bounds_the_run_time_of_all_attempts(
        self, flow: TaskFlow, registry: Registry
    ) -> None:
        """Each of them is shorter than it."""
        policy = RetryPolicy(max_retries=99, wait=0, max_age=0.5)

        @registry.task(name="slow", retry=policy)
        async def slow() -> None:
            await asyncio.sleep(0.2)
            message = "no"
            raise ValueError(message)

        record = await run(flow, slow)

        assert record.dead_letter is not None
        assert "max_age" == record.dead_letter.cause
        assert 1 < record.attempts <= 3
        ran = sum(each.facts["seconds"] for each in record.history)
        assert ran - record.history[-1].facts["seconds"] <= 0.5 < ran

    @pytest.mark.parametrize(
        "waiting", ["delayed", "in a lane", "paused", "parked", "snoozed", "unknown"]
    )
    async def test_waiting_does_not_make_a_task_older(
        self, flow: TaskFlow, registry: Registry, clock: ManualClock, waiting: str
    ) -> None:
        """Before its first attempt and between two; it has all of its retries."""
        runs: list[str] = []
        days = 3 * 86_400

        @registry.task(
            name="remind", upstream="mail", retry=RetryPolicy(max_retries=2, wait=1)
        )
        async def remind(ctx: Context) -> None:
            if waiting == "snoozed" and runs[-1:] != ["snoozed"]:
                runs.append("snoozed")
                raise Snooze(days)
            runs.append("failed")
            message = "mail server blinked"
            raise ValueError(message)

        options = {"delay": days} if waiting == "delayed" else {}
        handle = await flow.aenqueue(remind.options(**options).call())
        for _ in range(3):
            if waiting == "paused":
                await flow.queues.apause("primary")
                await flow.queues.apause("retry")
            elif waiting == "parked":
                await flow.upstreams.aforce_open("task:remind", reason="wait")
            if waiting != "in a lane":
                served = Registry() if waiting == "unknown" else registry
                await arun_until_idle(flow, registry=served)
            clock.advance(days)
            if waiting == "paused":
                await flow.queues.aresume("primary")
                await flow.queues.aresume("retry")
            elif waiting == "parked":
                await flow.upstreams.aforce_close("task:remind")
            await arun_until_idle(flow)
            clock.advance(1)
        record = await flow.tasks.aget(handle.id)
        await flow.aclose()

        assert record.dead_letter is not None
        assert ("exhausted", 3) == (record.dead_letter.cause, record.attempts)
        assert 3 == runs.count("failed")

    async def test_a_requeue_begins_the_age_again(
        self, flow: TaskFlow, registry: Registry, clock: ManualClock
    ) -> None:
        """Of a dead letter, and of a task whose retry is brought forward."""

        @registry.task(name="old", retry=RetryPolicy(max_retries=9, max_age=60))
        async def old() -> None:
            raise Retry(delay=61)

        dead, early = await flow.aenqueue_many([old.call()] * 2)
        await arun_until_idle(flow)
        await flow.tasks.aretry(early.id)
        await arun_until_idle(flow)
        clock.advance(61)
        await arun_until_idle(flow)
        await flow.dlq.arequeue(dead.id)
        await arun_until_idle(flow)
        records = [await flow.tasks.aget(each.id) for each in (dead, early)]
        await flow.aclose()

        assert [["retry", "dead", "retry"], ["retry", "retry", "dead"]] == [
            [entry.outcome for entry in record.history] for record in records
        ]

    async def test_waits_that_the_settings_cut_short_are_told_at_the_start(
        self, flow: TaskFlow, registry: Registry, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A policy that leaves max_age open is judged by the worker's."""

        @registry.task(name="hourly", retry=RetryPolicy(max_retries=5, wait=3600))
        async def hourly() -> None: ...

        @registry.task(name="quick", retry=RetryPolicy(wait=60))
        async def quick() -> None: ...

        await arun_until_idle(flow)
        await flow.aclose()

        (line,) = [each.getMessage() for each in caplog.records]
        assert "'hourly'" in line
        assert "max_retries=5 add up to 18000 s, more than max_age=7200" in line

    async def test_a_call_whose_retries_do_not_fit_in_max_age_is_refused(
        self, registry: Registry
    ) -> None:
        """Where it is made; one that fits is not."""

        @registry.task(name="t", retry=RetryPolicy(wait=60, max_age=600))
        async def t() -> None: ...

        assert 10 == t.options(max_retries=10).call().options.max_retries
        with pytest.raises(ConfigurationError, match="max_retries=11 add up to 660 s"):
            t.options(max_retries=11)

    async def test_a_task_may_want_no_dead_letter(
        self, flow: TaskFlow, registry: Registry
    ) -> None:
        """It is FAILED instead."""

        @registry.task(
            name="minor", retry=RetryPolicy(max_retries=0), dead_letter=False
        )
        async def minor() -> None:
            message = "no"
            raise ValueError(message)

        assert TaskState.FAILED is (await run(flow, minor)).state

    async def test_rules_decide_by_class_and_by_status(
        self, flow: TaskFlow, registry: Registry
    ) -> None:
        """One is hopeless, one does not count."""

        class HttpError(Exception):
            def __init__(self, status_code: int) -> None:
                super().__init__(str(status_code))
                self.status_code = status_code

        policy = RetryPolicy(
            max_retries=0,
            rules=(
                RetryRule(on=range(400, 429), dead_letter=True),
                RetryRule(on=429, wait=30, uses_attempt=False),
            ),
        )

        @registry.task(name="calls", retry=policy)
        async def calls(status: int) -> None:
            raise HttpError(status)

        hopeless = await flow.aenqueue(calls.call(404))
        busy = await flow.aenqueue(calls.call(429))
        await arun_until_idle(flow)
        first, second = (
            await flow.tasks.aget(hopeless.id),
            await flow.tasks.aget(busy.id),
        )
        await flow.aclose()

        assert first.dead_letter is not None
        assert "permanent" == first.dead_letter.cause
        assert (TaskState.SCHEDULED, 0) == (second.state, second.attempts)

    @pytest.mark.parametrize("form", ["seconds", "date"])
    async def test_a_retry_after_wins_over_the_schedule(
        self, flow: TaskFlow, registry: Registry, clock: ManualClock, form: str
    ) -> None:
        """In both forms that RFC 9110 has."""
        sent = datetime(2026, 1, 1, tzinfo=UTC)
        until = format_datetime(sent + timedelta(seconds=120), usegmt=True)

        class Response:
            status_code = 503
            headers = {  # noqa: RUF012
                "Retry-After": "120" if form == "seconds" else until,
                "Date": format_datetime(sent, usegmt=True),
            }

        class HttpError(Exception):
            response = Response()

        @registry.task(name="calls", retry=RetryPolicy(max_retries=1, wait=[1]))
        async def calls() -> None:
            raise HttpError

        record = await run(flow, calls)

        assert record.due_at is not None
        assert 120.0 == record.due_at.timestamp() - clock() / 1000


class TestSignals:
    """A body steers by raising."""

    async def test_retry_says_when(
        self, flow: TaskFlow, registry: Registry, clock: ManualClock
    ) -> None:
        """After its own delay, and the attempt counts."""

        @registry.task(name="again")
        async def again() -> None:
            raise Retry(delay=7)

        record = await run(flow, again)

        assert record.due_at is not None
        assert (1, 7.0) == (record.attempts, record.due_at.timestamp() - clock() / 1000)

    async def test_retry_may_say_how_often(
        self, flow: TaskFlow, registry: Registry, clock: ManualClock
    ) -> None:
        """A limit that the body knows stands above those of the policy."""

        @registry.task(name="longer", retry=RetryPolicy(max_retries=0))
        def longer() -> None:
            raise Retry(delay=1, max_retries=1)

        record = await run(flow, longer)

        assert (TaskState.SCHEDULED, 1) == (record.state, record.attempts)

        clock.advance(1)
        await arun_until_idle(flow)
        record = await flow.tasks.aget(record.id)

        assert record.dead_letter is not None
        assert ("exhausted", 2) == (record.dead_letter.cause, record.attempts)

    async def test_a_retry_from_an_error_shows_that_error(
        self, flow: TaskFlow, registry: Registry
    ) -> None:
        """A person wants to know why, not that it was asked for."""

        @registry.task(name="why")
        def why() -> None:
            try:
                {}["row"]
            except KeyError as error:
                raise Retry(delay=1) from error

        record = await run(flow, why)

        assert ("KeyError", "'row'") == (
            record.error_type,
            record.error_message,
        )

    async def test_snooze_uses_no_attempt(
        self, flow: TaskFlow, registry: Registry, clock: ManualClock
    ) -> None:
        """And keeps the lane."""

        @registry.task(name="later", retry=RetryPolicy(max_retries=0))
        async def later() -> None:
            raise Snooze(3, reason="not yet")

        record = await run(flow, later)

        assert (TaskState.SCHEDULED, 0, "primary") == (
            record.state,
            record.attempts,
            record.lane,
        )
        assert "not yet" == record.history[0].facts["reason"]

    async def test_dead_letter_ends_it_for_a_person_to_see(
        self, flow: TaskFlow, registry: Registry
    ) -> None:
        """At once, whatever the policy says."""

        @registry.task(name="hopeless", retry=RetryPolicy(max_retries=9))
        def hopeless() -> None:
            reason = "the account is closed"
            raise DeadLetter(reason)

        record = await run(flow, hopeless)

        assert record.dead_letter is not None
        assert ("requested", "the account is closed") == (
            record.dead_letter.cause,
            record.error_message,
        )

    async def test_cancel_ends_it_as_cancelled(
        self, flow: TaskFlow, registry: Registry
    ) -> None:
        """Nothing failed, and nothing is owed."""

        @registry.task(name="moot")
        async def moot() -> None:
            reason = "the order was withdrawn"
            raise Cancel(reason)

        record = await run(flow, moot)

        assert (TaskState.CANCELLED, "the order was withdrawn") == (
            record.state,
            record.error_message,
        )


class TestContext:
    """What a body says of itself is kept."""

    async def test_reports_are_stored_and_usage_is_summed_over_attempts(
        self, flow: TaskFlow, registry: Registry, clock: ManualClock
    ) -> None:
        """Progress, usage, notes, and a checkpoint that the next attempt finds."""
        found: list[Any] = []

        @registry.task(name="works", retry=RetryPolicy(max_retries=1, wait=[1]))
        async def works(ctx: Context, n: int) -> str:
            found.append(ctx.checkpoint)
            ctx.progress(n, 10, "half")
            ctx.usage(tokens=5, cost=0.5)
            ctx.annotate(model="m", parts=[1, 2])
            await ctx.asave({"at": ctx.attempt})
            if ctx.attempt == 1:
                message = "no"
                raise ValueError(message)
            return f"{ctx.deliveries} {ctx.max_retries}"

        handle = await flow.aenqueue(works.call(n=5))
        await arun_until_idle(flow)
        clock.advance(2)
        await arun_until_idle(flow)
        record = await flow.tasks.aget(handle.id)
        await flow.aclose()

        assert [None, {"at": 1}] == found
        assert b'"2 1"' == record.result
        assert {"done": 5, "total": 10, "message": "half"} == record.progress
        assert {"tokens": 10, "cost": 1.0} == record.usage
        assert {"model": "m", "parts": [1, 2]} == record.annotations

    async def test_a_function_saves_from_its_thread(
        self, flow: TaskFlow, registry: Registry
    ) -> None:
        """And a coroutine that tries it that way is told how."""

        @registry.task(name="thread")
        def thread(ctx: Context) -> int:
            ctx.save([1])
            ctx.emit("a chunk")
            return len(ctx.checkpoint)

        @registry.task(name="loop", retry=RetryPolicy(max_retries=0))
        async def loop(ctx: Context) -> None:
            ctx.save([1])

        good = await flow.aenqueue(thread.call())
        bad = await flow.aenqueue(loop.call())
        await arun_until_idle(flow)

        assert 1 == await good.aresult(5)
        with pytest.raises(TaskFailedError, match=r"await ctx\.asave"):
            await bad.aresult(5)
        await flow.aclose()


class BusyError(Exception):
    """A service asks to wait, as HTTP clients raise it."""

    status_code = 429

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"again in {retry_after} s")
        self.retry_after = retry_after


def nested(*errors: BaseException) -> BaseException:
    """Put *errors* in a group, the last of them one level deeper."""
    *first, last = errors
    return BaseExceptionGroup("all", [*first, BaseExceptionGroup("inner", [last])])


PERMANENT = RetryPolicy(
    max_retries=2, wait=[5], rules=(RetryRule(on=LookupError, dead_letter=True),)
)


class TestGroups:
    """An exception group ends a task as its leaves ask for, `asyncio.TaskGroup` too."""

    @pytest.mark.parametrize(
        ("errors", "outcome", "error_type"),
        [
            ([ValueError("x"), Cancel("enough")], "cancel", "Cancelled"),
            ([DeadLetter("row"), Cancel("enough")], "cancel", "Cancelled"),
            ([Snooze(60), Retry(), DeadLetter("row")], "dead", "DeadLetter"),
            ([LookupError("x"), Retry(9), Snooze(60)], "snooze", ""),
            ([LookupError("x"), Retry(9)], "retry", "Retry"),
            ([PayloadError("no"), Retry(9)], "retry", "Retry"),
            ([PayloadError("no"), ValueError("x")], "dead", "PayloadError"),
            ([ValueError("x"), LookupError("gone")], "dead", "LookupError"),
            ([ValueError("x"), OSError("gone")], "retry", "ValueError"),
            (
                [CircuitBreakerError("a", 9), OSError("gone")],
                "retry",
                "CircuitBreakerError",
            ),
            ([CircuitBreakerError("a", 9)], "snooze", ""),
            ([SystemExit(3), LookupError("gone")], "dead", "LookupError"),
        ],
        ids=lambda each: "-".join(map(repr, each)) if isinstance(each, list) else each,
    )
    @pytest.mark.parametrize("is_async", [True, False], ids=["coroutine", "function"])
    async def test_a_signal_or_a_rule_is_found_in_a_group(
        self,
        flow: TaskFlow,
        registry: Registry,
        errors: list[BaseException],
        outcome: str,
        error_type: str,
        is_async: bool,
    ) -> None:
        """In this order: cancel, dead letter, snooze, retry, then the rules."""

        @registry.task(name="plain", retry=PERMANENT)
        def plain() -> None:
            raise nested(*errors)

        @registry.task(name="coroutine", retry=PERMANENT)
        async def coroutine() -> None:
            raise nested(*errors)

        record = await run(flow, coroutine if is_async else plain)

        assert [outcome] == [each.outcome for each in record.history]
        assert error_type == record.error_type

    @pytest.mark.parametrize(
        ("errors", "delay"),
        [
            ([Snooze(10), Snooze(60), Snooze(5)], 60),
            ([Retry(10), Retry(60), Retry()], 60),
            ([ValueError("x"), Retry()], 5),
            ([BusyError(10), BusyError(77), ValueError("x")], 77),
            ([BusyError(77), Retry()], 77),
            ([BusyError(77), Retry(3)], 3),
            ([CircuitBreakerError("a", 9), CircuitBreakerError("b", 30)], 30),
        ],
        ids=repr,
    )
    async def test_the_longest_wait_in_a_group_is_kept(
        self,
        flow: TaskFlow,
        registry: Registry,
        clock: ManualClock,
        errors: list[BaseException],
        delay: float,
    ) -> None:
        """Of signals of one kind, of Retry-After, of open breakers."""

        @registry.task(name="waits", retry=PERMANENT)
        async def waits() -> None:
            raise nested(*errors)

        record = await run(flow, waits)

        assert record.due_at is not None
        assert delay == round(record.due_at.timestamp() - clock() / 1000, 3)

    async def test_the_cause_of_a_retry_in_a_group_is_shown(
        self, flow: TaskFlow, registry: Registry
    ) -> None:
        """As it is of one that is raised alone; a group as a cause has its leaf."""

        @registry.task(name="again", retry=PERMANENT)
        async def again() -> None:
            async def child() -> None:
                raise Retry(9) from nested(OSError("down"), ValueError("x"))

            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(child())

        record = await run(flow, again)

        assert ("OSError", "down") == (record.error_type, record.error_message)

    async def test_groups_with_the_same_leaf_share_a_fingerprint(
        self, flow: TaskFlow, registry: Registry
    ) -> None:
        """That of the leaf alone; the traceback shows the whole group."""

        async def child(number: int) -> None:
            message = f"no row {number}"
            raise LookupError(message)

        async def sibling() -> None:
            try:
                await asyncio.sleep(60)
            finally:
                message = "while cleaning up"
                raise ValueError(message)

        @registry.task(name="rows", retry=PERMANENT)
        async def rows(number: int, siblings: int) -> None:
            if not siblings:
                await child(number)
            async with asyncio.TaskGroup() as tasks:
                for _ in range(siblings - 1):
                    tasks.create_task(sibling())
                tasks.create_task(child(number))

        handles = [
            await flow.aenqueue(rows.call(each, siblings))
            for each, siblings in enumerate((0, 1, 3))
        ]
        await arun_until_idle(flow)
        letters = [(await flow.tasks.aget(each.id)).dead_letter for each in handles]
        await flow.aclose()

        assert ["no row 0", "no row 1", "no row 2"] == [
            letter and letter.error_message for letter in letters
        ]
        (_,) = {letter and letter.fingerprint for letter in letters}
        last = letters[-1]
        assert last is not None
        assert "no row 2" in last.traceback
        assert "while cleaning up" in last.traceback

    async def test_a_group_is_one_failure_of_the_upstream(
        self, flow: TaskFlow, registry: Registry
    ) -> None:
        """However many leaves it has: the third task opens the breaker."""
        breaker = CircuitBreaker(failure_rate=1.0, min_calls=3)
        registry.add_upstream(Upstream("svc", breaker=breaker))

        @registry.task(name="calls", upstream="svc", retry=RetryPolicy(max_retries=0))
        async def calls() -> None:
            raise nested(ValueError("x"), TimeoutError(), ConnectionError("down"))

        states: list[str] = []
        for _ in range(3):
            record = await flow.tasks.aget((await flow.aenqueue(calls.call())).id)
            await arun_until_idle(flow)
            (found,) = await flow.upstreams.astatus()
            states.append(found.state)
            record = await flow.tasks.aget(record.id)
        await flow.aclose()

        assert ["closed", "closed", "open"] == states
        assert ("DLQ", "ValueError") == (str(record.state), record.error_type)

    async def test_a_group_with_too_many_requests_parks_the_task(
        self, flow: TaskFlow, registry: Registry, clock: ManualClock
    ) -> None:
        """No attempt is used, and the longest Retry-After is kept."""
        registry.add_upstream(Upstream("svc"))
        runs: list[int] = []

        @registry.task(name="calls", upstream="svc", retry=PERMANENT)
        async def calls() -> None:
            runs.append(clock())
            if len(runs) == 1:
                raise nested(ValueError("x"), BusyError(7), BusyError(77))

        handle = await flow.aenqueue(calls.call())
        for seconds in (0, 76, 2):
            clock.advance(seconds)
            await arun_until_idle(flow)
            if seconds == 76:
                parked = await flow.tasks.aget(handle.id)
        await handle.aresult(5)
        await flow.aclose()

        assert ("svc", "BusyError", 0) == (
            parked.parked_for,
            parked.error_type,
            parked.attempts,
        )
        assert 2 == len(runs)

    async def test_a_guard_sees_what_a_group_says(
        self, flow: TaskFlow, registry: Registry
    ) -> None:
        """A TaskGroup inside of it is one call, with one end."""
        breaker = CircuitBreaker(failure_rate=1.0, min_calls=2)
        svc = Upstream("svc", breaker=breaker)
        registry.add_upstream(svc)

        @registry.task(name="calls", upstream=svc, retry=RetryPolicy(max_retries=0))
        async def calls() -> None:
            async with svc.guard():
                raise nested(ConnectionError("a"), ConnectionError("b"))

        states: list[str] = []
        for _ in range(2):
            await flow.aenqueue(calls.call())
            await arun_until_idle(flow)
            (found,) = await flow.upstreams.astatus()
            states.append(found.state)
        await flow.aclose()

        assert ["closed", "open"] == states

    async def test_a_soft_limit_is_told_through_a_group(
        self, flow: TaskFlow, registry: Registry
    ) -> None:
        """Where all that is in it was cancelled."""

        @registry.task(name="long", soft_timeout=0.05, retry=RetryPolicy(max_retries=0))
        async def long() -> None:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError as error:
                raise nested(error, asyncio.CancelledError()) from None

        record = await run(flow, long)

        assert ("TimeoutError", "ran longer than its soft limit of 0.05 s") == (
            record.error_type,
            record.error_message,
        )


class TestRefusals:
    """What this worker cannot run is not lost."""

    async def test_an_unknown_task_waits_for_as_long_as_it_takes(
        self, flow: TaskFlow, registry: Registry, clock: ManualClock
    ) -> None:
        """Neither deliveries nor time make it a dead letter; each wait is short."""
        elsewhere = Registry()

        @elsewhere.task(name="new")
        async def new() -> int:
            return 1

        handle = await flow.aenqueue(new.call())
        waits: list[float] = []
        for _ in range(50):
            await arun_until_idle(flow)
            record = await flow.tasks.aget(handle.id)
            assert TaskState.SCHEDULED is record.state
            assert record.due_at is not None
            waits.append(record.due_at.timestamp() - clock() / 1000)
            clock.advance(UNKNOWN_WAIT)
        await arun_until_idle(flow, registry=elsewhere)
        await flow.aclose()

        assert 0 <= min(waits) <= max(waits) <= UNKNOWN_WAIT
        assert len(set(waits)) > 40  # at random
        assert 1 == await handle.aresult(5)
        assert (50, 0) == (record.deliveries, record.attempts)

    async def test_snoozes_of_an_unknown_task_leave_its_history(
        self, flow: TaskFlow, registry: Registry, clock: ManualClock
    ) -> None:
        """They are one line, the last; what happened before can still be read."""
        before = Registry()

        @before.task(name="renamed", retry=RetryPolicy(wait=0))
        async def renamed() -> None:
            message = "the reason to look for"
            raise ValueError(message)

        handle = await flow.aenqueue(renamed.call())
        await arun_until_idle(flow, registry=before)
        await flow.tasks.aretry(handle.id)
        for _ in range(30):
            await arun_until_idle(flow)
            clock.advance(UNKNOWN_WAIT)
        record = await flow.tasks.aget(handle.id)
        await flow.aclose()

        assert ["retry", "retry", "retry", "dead", "snooze"] == [
            each.outcome for each in record.history
        ]
        assert "a worker does not know 'renamed'" == record.history[-1].facts["reason"]

    async def test_two_groups_of_workers_on_one_prefix_end_all_tasks(
        self, server_url: str, clock: ManualClock
    ) -> None:
        """Each claims the other's tasks too, and hands them on."""
        groups = [Registry(), Registry()]

        @groups[0].task(name="cpu.a")
        async def a() -> None: ...

        @groups[1].task(name="gpu.b")
        async def b() -> None: ...

        everything = Registry()
        for each in groups:
            everything.include(each)
        async with TaskFlow(server_url, registry=everything, clock=clock) as flow:
            await flow.aenqueue_many([a.call(), b.call()] * 50)
            for turn in range(200):
                await arun_until_idle(flow, registry=groups[turn % 2])
                clock.advance(0.25)
                states = (await flow.queues.astatus()).states
                if states[TaskState.COMPLETED] == 100:
                    break

        assert (100, 0) == (states[TaskState.COMPLETED], states[TaskState.DLQ])

    async def test_a_task_that_becomes_known_runs(
        self, flow: TaskFlow, registry: Registry, clock: ManualClock
    ) -> None:
        """The deploy has arrived."""
        elsewhere = Registry()

        @elsewhere.task(name="new")
        async def new() -> int:
            return 1

        handle = await flow.aenqueue(new.call())
        await arun_until_idle(flow)
        clock.advance(2)
        await arun_until_idle(flow, registry=elsewhere)

        assert 1 == await handle.aresult(5)
        await flow.aclose()

    async def test_arguments_that_no_longer_fit_are_a_dead_letter(
        self, flow: TaskFlow, registry: Registry
    ) -> None:
        """The signature changed while the call waited."""
        before = Registry()

        @before.task(name="changed")
        async def old(x: int) -> None: ...

        @registry.task(name="changed")
        async def changed(x: str) -> None: ...

        record = await run(flow, old, x=1)

        assert record.dead_letter is not None
        assert "payload" == record.dead_letter.cause
        assert "Expected str, got int - at $.x" in record.error_message

    async def test_a_spec_beyond_reading_is_a_dead_letter(
        self, flow: TaskFlow, registry: Registry
    ) -> None:
        """One bad record; its neighbours are served."""

        @registry.task(name="fine")
        async def fine() -> int:
            return 1

        bad = await flow.aenqueue(fine.call())
        good = await flow.aenqueue(fine.call())
        client = flow.connection.server.sync_client()  # type: ignore[attr-defined]
        client.hset(f"task:{bad.id}", "spec", b"\xff[")
        client.close()
        await arun_until_idle(flow)
        record = await flow.tasks.aget(bad.id)

        assert 1 == await good.aresult(5)
        assert record.dead_letter is not None
        assert "corrupt" == record.dead_letter.cause
        await flow.aclose()


class TestLimits:
    """A body has its time, and not more."""

    @pytest.mark.parametrize("which", ["soft", "hard"])
    async def test_a_coroutine_is_cancelled_at_its_limit(
        self, flow: TaskFlow, registry: Registry, which: str
    ) -> None:
        """It can clean up, and its attempt has failed."""
        cleaned: list[str] = []
        limits = (
            {"soft_timeout": 0.1, "timeout": 30.0}
            if which == "soft"
            else {"timeout": 0.1}
        )

        @registry.task(name="long", retry=RetryPolicy(max_retries=0), **limits)
        async def long() -> None:
            try:
                await asyncio.sleep(60)
            finally:
                cleaned.append("up")

        started = time.monotonic()
        record = await run(flow, long)

        assert time.monotonic() - started < 10
        assert (["up"], "TimeoutError") == (cleaned, record.error_type)
        assert f"ran longer than its {which} limit of 0.1 s" == record.error_message

    async def test_a_function_out_of_time_is_settled_and_its_result_dropped(
        self, flow: TaskFlow, registry: Registry
    ) -> None:
        """A thread cannot be killed; its attempt can be ended."""
        free = threading.Event()

        @registry.task(name="stuck", retry=RetryPolicy(max_retries=0), timeout=0.1)
        def stuck(ctx: Context) -> int:
            free.wait(20)
            return 1

        handle = await flow.aenqueue(stuck.call())
        await arun_until_idle(flow)
        record = await flow.tasks.aget(handle.id)
        free.set()
        await flow.aclose()

        assert (TaskState.DLQ, "TimeoutError", None) == (
            record.state,
            record.error_type,
            record.result,
        )

    async def test_a_function_sees_that_its_soft_limit_is_over(
        self, flow: TaskFlow, registry: Registry
    ) -> None:
        """And may end well."""

        @registry.task(name="polite", soft_timeout=0.1, timeout=20.0)
        def polite(ctx: Context) -> str:
            while not ctx.cancelled:
                time.sleep(0.01)
            return "stopped"

        assert b'"stopped"' == (await run(flow, polite)).result


class TestWorkers:
    """A worker as it really runs: loops, leases, shutdown."""

    @staticmethod
    async def until(condition: Callable[[], Any], patience: float = 15.0) -> None:
        """Wait until *condition* holds."""
        deadline = time.monotonic() + patience
        while not await condition():
            assert time.monotonic() < deadline, "it does not come to be"
            await asyncio.sleep(0.01)

    async def test_never_more_bodies_than_slots_nor_more_than_a_fifth_ahead(
        self, redis_url: str, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With 1,000 queued, on a real server, counted after every trip."""
        running = peak = most_active = 0

        @registry.task(name="short")
        async def short() -> None:
            nonlocal running, peak
            running += 1
            peak = max(peak, running)
            await asyncio.sleep(0.005)
            running -= 1

        async with TaskFlow(redis_url, prefix="slots:", registry=registry) as flow:
            await flow.aenqueue_many([short.call() for _ in range(1000)])
            worker = Worker(flow, concurrency=10)
            server = flow.connection.server
            make_runner = server.async_runner

            def counting_runner() -> Any:
                runner = make_runner()
                send_all = runner.send_all

                async def send_and_count(operations: Any) -> list[Any]:
                    nonlocal most_active
                    answers = await send_all(operations)
                    active = flow.queues.status().states[TaskState.ACTIVE]
                    most_active = max(most_active, active)
                    return answers

                monkeypatch.setattr(runner, "send_all", send_and_count)
                return runner

            monkeypatch.setattr(server, "async_runner", counting_runner)
            working = asyncio.create_task(worker.arun())

            async def all_done() -> bool:
                states = (await flow.queues.astatus()).states
                return states[TaskState.COMPLETED] == 1000

            await self.until(all_done)
            worker.stop()
            await working

        assert 10 == peak
        assert 10 <= most_active <= 12

    async def test_no_reply_to_a_worker_holds_more_payloads_than_one_mebibyte(
        self,
        server_url: str,
        registry: Registry,
        clock: ManualClock,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """With a slot free for each of 40 large tasks; all of them run, once."""
        began: list[int] = []
        claims: list[list[int]] = []

        @registry.task(name="large")
        async def large(number: int, load: str) -> int:
            began.append(number)
            await asyncio.sleep(0)
            return len(load)

        make = claim.claim

        def counting_claim(*args: Any, **options: Any) -> Operation[ClaimReply]:
            operation = make(*args, **options)

            def decode(raw: Any) -> ClaimReply:
                reply = operation.decode(raw)
                claims.append([len(each.payload) for each in reply.claims])
                return reply

            return evolve(operation, decode=decode)

        monkeypatch.setattr(claim, "claim", counting_claim)
        async with TaskFlow(server_url, registry=registry, clock=clock) as flow:
            calls = [large.call(n, "x" * 300_000) for n in range(40)]
            await flow.aenqueue_many([*calls, *(large.call(n, "") for n in range(40))])
            await Worker(flow, concurrency=100).arun_until_idle()
            states = (await flow.queues.astatus()).states

        assert 80 == states[TaskState.COMPLETED]
        assert [*range(40), *range(40)] == began
        assert [4] * 10 + [40] == [len(each) for each in claims if each]

    @pytest.mark.parametrize("lease", [0.6, 60.0])
    async def test_a_running_coroutine_is_cancelled_on_request(
        self, redis_url: str, registry: Registry, lease: float
    ) -> None:
        """At once, because its worker hears of it: long before it renews."""
        began = asyncio.Event()

        @registry.task(name="long")
        async def long() -> None:
            began.set()
            await asyncio.sleep(60)

        prefix = f"cancel-{time.monotonic_ns()}:"
        async with TaskFlow(redis_url, prefix=prefix, registry=registry) as flow:
            settings = flow.connection.settings.worker
            worker = Worker(flow, settings=evolve(settings, lease=lease))
            working = asyncio.create_task(worker.arun())
            handle = await flow.aenqueue(long.call())
            await asyncio.wait_for(began.wait(), 10)

            assert not await handle.acancel()
            with pytest.raises(TaskFailedError, match="CANCELLED"):
                await handle.aresult(timeout=10)
            worker.stop()
            await working

    async def test_a_cancel_is_found_that_was_asked_before_the_worker_listened(
        self, redis_url: str, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """At its start, and while its connection was broken: not a beat later."""
        began, asked = asyncio.Event(), asyncio.Event()
        begin = AsyncRedisSubscription.begin

        async def begin_late(self: AsyncRedisSubscription) -> None:
            if ":worker:" in "".join(self._channels):
                await asked.wait()
            await begin(self)

        monkeypatch.setattr(AsyncRedisSubscription, "begin", begin_late)

        @registry.task(name="long")
        async def long() -> None:
            began.set()
            await asyncio.sleep(60)

        prefix = f"late-{time.monotonic_ns()}:"
        async with TaskFlow(redis_url, prefix=prefix, registry=registry) as flow:
            settings = flow.connection.settings.worker
            worker = Worker(flow, settings=evolve(settings, lease=60.0))
            working = asyncio.create_task(worker.arun())
            client: Any = redis.Redis.from_url(redis_url)
            for _ in range(2):
                handle = await flow.aenqueue(long.call())
                await asyncio.wait_for(began.wait(), 10)

                assert not await handle.acancel()
                asked.set()
                with pytest.raises(TaskFailedError, match="CANCELLED"):
                    await handle.aresult(timeout=10)
                began.clear()
                asked.clear()
                client.client_kill_filter(_type="pubsub")
            asked.set()
            client.close()
            worker.stop()
            await working

    async def test_a_worker_that_stops_hands_back_what_it_cannot_finish(
        self, redis_url: str, registry: Registry
    ) -> None:
        """No attempt and no crash counted; and what is paused stays put."""
        began = asyncio.Event()

        @registry.task(name="long")
        async def long() -> None:
            began.set()
            await asyncio.sleep(60)

        prefix = f"stop-{time.monotonic_ns()}:"
        async with TaskFlow(redis_url, prefix=prefix, registry=registry) as flow:
            worker = Worker(flow, concurrency=1)
            working = asyncio.create_task(worker.arun())
            handle = await flow.aenqueue(long.call())
            await asyncio.wait_for(began.wait(), 10)
            worker.stop(now=True)
            await asyncio.wait_for(working, 10)
            record = await flow.tasks.aget(handle.id)

        assert (TaskState.PENDING, 0, 0, 1) == (
            record.state,
            record.attempts,
            record.crashes,
            record.deliveries,
        )

    async def test_a_worker_asked_to_drain_ends_by_itself(
        self, redis_url: str, registry: Registry
    ) -> None:
        """Another process asks; the worker hears it with its next beat."""
        prefix = f"drain-{time.monotonic_ns()}:"
        async with TaskFlow(redis_url, prefix=prefix, registry=registry) as flow:
            settings = evolve(flow.connection.settings.worker, lease=0.6)
            worker = Worker(flow, settings=settings)
            working = asyncio.create_task(worker.arun())

            async def is_seen() -> bool:
                return [worker.id] == [each.id for each in await flow.workers.alist()]

            await self.until(is_seen)

            assert await flow.workers.adrain(worker.id)
            await asyncio.wait_for(working, 10)
            assert [] == await flow.workers.alist()
            assert not await flow.workers.adrain(worker.id)

    async def test_a_paused_lane_is_not_served_until_it_goes_on(
        self, redis_url: str, registry: Registry
    ) -> None:
        """New tasks are stored all the same."""

        @registry.task(name="one")
        async def one() -> int:
            return 1

        prefix = f"pause-{time.monotonic_ns()}:"
        async with TaskFlow(redis_url, prefix=prefix, registry=registry) as flow:
            await flow.queues.apause("primary")
            handle = await flow.aenqueue(one.call())
            await arun_until_idle(flow)
            status = await flow.queues.astatus()

            assert (1, ("primary",)) == (status.primary, status.paused)

            await flow.queues.aresume("primary")
            await arun_until_idle(flow)
            assert 1 == await handle.aresult(5)
