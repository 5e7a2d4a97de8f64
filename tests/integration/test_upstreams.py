"""Upstreams in workers, in bodies, and around any call."""

import asyncio
import pickle
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pybreaker
import pytest

from taskflow import (
    CircuitBreaker,
    CircuitBreakerError,
    Context,
    RateLimit,
    Registry,
    RetryPolicy,
    RetryRule,
    Snooze,
    TaskFlow,
    TaskState,
    Upstream,
    UpstreamStatus,
    use,
)
from taskflow._declare import ports
from taskflow.errors import ConfigurationError, UpstreamNotFoundError
from taskflow.testing import ManualClock, arun_until_idle
from tests.support.machine import check_within


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
    """Give a flow on each kind of server, which guards use too."""
    with (
        TaskFlow(server_url, registry=registry, clock=clock) as made,
        ports.using(made),
    ):
        yield made


class StatusError(Exception):
    """An answer of a service, as clients raise it."""

    def __init__(self, status: int, **headers: str) -> None:
        super().__init__(f"status {status}")
        self.status_code = status
        self.headers = {name.replace("_", "-"): text for name, text in headers.items()}


async def enqueue(flow: TaskFlow, task: Any, count: int, **arguments: Any) -> list[str]:
    """Enqueue *count* calls and give their ids."""
    handles = await flow.aenqueue_many([task.call(**arguments) for _ in range(count)])
    return [each.id for each in handles]


async def state_of(flow: TaskFlow, name: str = "api") -> UpstreamStatus:
    """Read how the upstream stands."""
    return await flow.upstreams.aget(name)


@pytest.fixture(params=["coroutine", "function"])
def failing(request: pytest.FixtureRequest, registry: Registry) -> Any:
    """Give a task that raises what it is told, as a coroutine and in a thread."""
    api = Upstream("api")
    policy = RetryPolicy(wait=600)

    def raise_it(what: str) -> None:
        if what == "timeout":
            raise TimeoutError
        if what:
            number, _, wait = what.partition(" ")
            raise StatusError(int(number), **({"Retry_After": wait} if wait else {}))

    if request.param == "function":

        @registry.task(name="call", upstream=api, retry=policy)
        def call(what: str) -> None:
            raise_it(what)

        return call

    @registry.task(name="call", upstream=api, retry=policy)
    async def acall(what: str) -> None:
        raise_it(what)

    return acall


class TestTasks:
    """What the end of a task says of its upstream."""

    async def test_ten_failures_of_ten_open_the_breaker(
        self, flow: TaskFlow, failing: Any
    ) -> None:
        """Coroutines and threads alike; those that follow are parked unharmed."""
        await enqueue(flow, failing, 10, what="503")
        await arun_until_idle(flow)
        (later,) = await enqueue(flow, failing, 1, what="")
        await arun_until_idle(flow)
        status, record = await state_of(flow), await flow.tasks.aget(later)
        await flow.aclose()

        assert ("open", "failures") == (status.state, status.shut_by)
        assert (TaskState.PENDING, 0) == (record.state, record.attempts)
        assert 1 == status.parked["primary"]

    async def test_a_worker_that_only_names_it_keeps_what_another_declared(
        self, flow: TaskFlow, registry: Registry
    ) -> None:
        """Whichever of two workers starts last, the declaration holds."""
        del registry
        declaring, naming = Registry(), Registry()
        declaring.add_upstream(Upstream("api", concurrency=3))
        naming.task(lambda: None, name="call", upstream="api")
        limits = []
        for each in (naming, declaring, naming):
            await arun_until_idle(flow, registry=each)
            limits.append((await state_of(flow)).concurrency)
        await flow.aclose()

        assert [None, 3, 3] == limits

    async def test_a_callers_fault_says_nothing(
        self, flow: TaskFlow, failing: Any
    ) -> None:
        """A hundred bad requests do not shut a service that is well."""
        await enqueue(flow, failing, 100, what="422")
        await arun_until_idle(flow)
        status = await state_of(flow)
        await flow.aclose()

        assert ("closed", 0) == (status.state, status.calls)

    async def test_a_probe_that_fails_uses_no_attempt(
        self, flow: TaskFlow, failing: Any, clock: ManualClock
    ) -> None:
        """It is parked again."""
        await enqueue(flow, failing, 10, what="timeout")
        await arun_until_idle(flow)
        (probe,) = await enqueue(flow, failing, 1, what="timeout")
        clock.advance(61)
        await arun_until_idle(flow)
        status, record = await state_of(flow), await flow.tasks.aget(probe)
        await flow.aclose()

        assert ("open", "the probe failed") == (status.state, status.reason)
        assert (TaskState.PENDING, 0) == (record.state, record.attempts)
        assert "TimeoutError" == record.error_type

    async def test_too_many_requests_use_no_attempt(
        self, flow: TaskFlow, failing: Any, clock: ManualClock
    ) -> None:
        """The tap is closed for everybody until the Retry-After is over."""
        (first,) = await enqueue(flow, failing, 1, what="429 30")
        await arun_until_idle(flow)
        (second,) = await enqueue(flow, failing, 1, what="")
        await arun_until_idle(flow)
        status = await state_of(flow)
        records = [await flow.tasks.aget(each) for each in (first, second)]
        clock.advance(31)
        await arun_until_idle(flow)
        await flow.aclose()

        assert "too many requests (429)" == status.tap_reason
        assert [0, 0] == [each.attempts for each in records]
        assert ["park"] == [each.outcome for each in records[0].history]

    @pytest.mark.parametrize("status", ["401", "402"])
    async def test_a_rejected_key_parks_the_work_with_a_reason(
        self, flow: TaskFlow, failing: Any, status: str
    ) -> None:
        """Nothing is dead-lettered, and a person can see what to do."""
        await enqueue(flow, failing, 3, what=status)
        await arun_until_idle(flow)
        found = await state_of(flow)
        counts = await flow.queues.astatus()
        await flow.aclose()

        assert ("open", "refused") == (found.state, found.shut_by)
        assert f"({status})" in found.reason
        assert (3, 0) == (counts.parked, counts.dlq)

    async def test_a_rule_may_still_make_it_a_dead_letter(
        self, flow: TaskFlow, registry: Registry
    ) -> None:
        """What a task's own policy says of an error comes first."""
        policy = RetryPolicy(rules=[RetryRule(on=401, dead_letter=True)])

        @registry.task(name="call", upstream="api", retry=policy)
        async def call() -> None:
            raise StatusError(401)

        (task_id,) = await enqueue(flow, call, 1)
        await arun_until_idle(flow)
        record = await flow.tasks.aget(task_id)
        await flow.aclose()

        assert TaskState.DLQ == record.state

    async def test_signals_and_cancellations_say_nothing(
        self, flow: TaskFlow, registry: Registry
    ) -> None:
        """A body that steers is no failure of the other side."""

        @registry.task(name="call", upstream="api")
        async def call() -> None:
            raise Snooze(60)

        await enqueue(flow, call, 20)
        await arun_until_idle(flow)
        found = await state_of(flow)
        await flow.aclose()

        assert ("closed", 0) == (found.state, found.calls)

    async def test_own_rules_say_what_a_failure_is(
        self, flow: TaskFlow, registry: Registry
    ) -> None:
        """Failures and ignored ones by class and by status."""
        api = Upstream("api", failures=[KeyError, 409], ignored=[range(500, 600)])

        @registry.task(name="call", upstream=api, retry=RetryPolicy(wait=600))
        async def call(what: int) -> None:
            raise KeyError if what == 0 else StatusError(what)

        await enqueue(flow, call, 3, what=0)
        await enqueue(flow, call, 4, what=409)
        await enqueue(flow, call, 9, what=503)
        await arun_until_idle(flow)
        found = await state_of(flow)
        await flow.aclose()

        assert (7, 7) == (found.failures, found.calls)

    async def test_a_call_can_do_without_the_upstream(
        self, flow: TaskFlow, failing: Any
    ) -> None:
        """It does not wait for one that it does not need."""
        await enqueue(flow, failing, 10, what="503")
        await arun_until_idle(flow)
        handle = await flow.aenqueue(failing.options(upstream=False).call(what=""))
        await arun_until_idle(flow)
        record = await handle.ainfo()
        await flow.aclose()

        assert TaskState.COMPLETED == record.state


class TestGuards:
    """Calls in bodies, and anywhere."""

    async def test_failing_coroutines_open_the_breaker(self, flow: TaskFlow) -> None:
        """Ten of ten; the eleventh call is not made, and the error is pybreaker's."""
        api = Upstream("api")
        for _ in range(10):
            with pytest.raises(TimeoutError):
                async with api.guard():
                    raise TimeoutError
        with pytest.raises(pybreaker.CircuitBreakerError) as caught:
            async with api.guard():
                pytest.fail("the call was made")
        await flow.aclose()

        assert isinstance(caught.value, CircuitBreakerError)
        assert ("api", 60) == (caught.value.name, round(caught.value.retry_after))
        assert "10 of 10 calls failed" in str(caught.value)
        again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own
        assert (str(caught.value), True) == (
            str(again),
            isinstance(again, pybreaker.CircuitBreakerError),
        )

    def test_failing_functions_open_the_breaker(self, flow: TaskFlow) -> None:
        """In threads as well, and the listeners hear of it."""
        heard: list[Any] = []

        class Listener(pybreaker.CircuitBreakerListener):
            def failure(self, cb: Any, exc: BaseException) -> None:
                heard.append((cb.name, type(exc)))

            def state_change(self, cb: Any, old: Any, new: Any) -> None:
                heard.append((old.name, new.name))

        api = Upstream("api", listeners=[Listener()])

        def call() -> None:
            with pytest.raises(ConnectionError), api.guard():
                raise ConnectionError

        threads = [threading.Thread(target=call) for _ in range(10)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()

        assert "open" == flow.upstreams.get("api").state
        assert 10 == heard.count(("api", ConnectionError))
        assert 1 == heard.count(("closed", "open"))

    async def test_a_rule_that_fails_neither_hides_the_error_nor_keeps_the_permit(
        self, flow: TaskFlow
    ) -> None:
        """The call says nothing of the upstream then."""

        class Unanswering(type):
            def __instancecheck__(cls, instance: object) -> bool:
                raise RuntimeError

        class Strange(Exception, metaclass=Unanswering):  # noqa: N818
            pass

        api = Upstream("api", failures=[Strange], concurrency=1)
        for _ in range(3):
            with pytest.raises(TimeoutError, match="of the body"):
                async with api.guard(timeout=1.0):
                    raise TimeoutError("of the body")  # noqa: EM101, TRY003
        status = await state_of(flow)
        await flow.aclose()

        assert ("closed", 0) == (status.state, status.running)

    async def test_calls_through_a_closed_breaker_run_side_by_side(
        self, flow: TaskFlow
    ) -> None:
        """Sixty-four at once, coroutines and threads: no lock is held."""
        api = Upstream("api")
        inside, most, lock = 0, 0, threading.Lock()
        gathered, all_in = threading.Barrier(64), asyncio.Event()

        async def call() -> None:
            nonlocal inside, most
            async with api.guard():
                inside += 1
                most = max(most, inside)
                if inside == 64:
                    all_in.set()
                await all_in.wait()

        def block() -> None:
            with api.guard(), lock:
                pass
            with api.guard():
                gathered.wait(10)

        async with asyncio.timeout(10):
            await asyncio.gather(*(call() for _ in range(64)))
        threads = [threading.Thread(target=block) for _ in range(64)]
        for each in threads:
            each.start()
        for each in threads:
            await asyncio.to_thread(each.join)
        await flow.aclose()

        assert (64, 0) == (most, gathered.n_waiting)

    async def test_no_more_than_the_concurrency_are_inside(
        self, flow: TaskFlow
    ) -> None:
        """The others wait for their turn, and then come in."""
        api = Upstream("api", concurrency=3)
        inside = most = done = 0

        async def call() -> None:
            nonlocal inside, most, done
            async with api.guard():
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0.01)
                inside -= 1
                done += 1

        async with asyncio.timeout(20):
            await asyncio.gather(*(call() for _ in range(20)))
        await flow.aclose()

        assert (3, 20) == (most, done)

    async def test_while_one_guard_tries_no_other_call_is_made(
        self, flow: TaskFlow, clock: ManualClock
    ) -> None:
        """Not even in the process whose guard it is; then all are made again."""
        heard: list[tuple[str, str]] = []

        class Listener(pybreaker.CircuitBreakerListener):
            def state_change(self, cb: Any, old: Any, new: Any) -> None:
                heard.append((old.name, new.name))

        api = Upstream("api", listeners=[Listener()])
        for _ in range(10):
            with pytest.raises(TimeoutError):
                async with api.guard():
                    raise TimeoutError
        clock.advance(61)
        await asyncio.sleep(0.25)  # what the process knows is old by then
        async with api.guard():
            with pytest.raises(CircuitBreakerError):
                async with api.guard():
                    pytest.fail("a second call was made")
        clock.advance(1)
        async with api.guard():
            pass
        await flow.aclose()

        turns = [("closed", "open"), ("open", "half-open"), ("half-open", "closed")]
        assert turns == heard

    async def test_a_guard_waits_no_longer_than_it_may(self, flow: TaskFlow) -> None:
        """Then it is refused, as by an open breaker."""
        api = Upstream("api", concurrency=1)
        async with api.guard():
            with pytest.raises(CircuitBreakerError, match="did not come within"):
                async with api.guard(timeout=0.05):
                    pytest.fail("there was no room")
        await flow.aclose()

    async def test_the_claim_has_paid_for_the_first_call(
        self, flow: TaskFlow, registry: Registry, clock: ManualClock
    ) -> None:
        """Two calls of a body take two tokens, not three."""
        api = Upstream("api", rate_limit=RateLimit(100, per=1000.0, burst=10))

        @registry.task(name="call", upstream=api)
        async def call() -> None:
            async with api.guard():
                pass
            async with api.guard():
                pass

        await enqueue(flow, call, 1)
        await arun_until_idle(flow)
        found = await state_of(flow)
        await flow.aclose()

        assert (8.0, 0) == (found.tokens, found.running)

    async def test_bodies_do_not_wait_for_permits_that_they_hold(
        self, flow: TaskFlow, registry: Registry
    ) -> None:
        """As many tasks as permits, each with many calls: nobody is stuck."""
        api = Upstream("api", concurrency=2)
        inside = most = done = 0

        async def one() -> None:
            nonlocal inside, most, done
            async with api.guard():
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0)
                inside -= 1
                done += 1

        @registry.task(name="call", upstream=api)
        async def call() -> None:
            await asyncio.gather(*(one() for _ in range(5)))

        ids = await enqueue(flow, call, 2)
        async with asyncio.timeout(30):
            await arun_until_idle(flow)
        records = [await flow.tasks.aget(each) for each in ids]
        found = await state_of(flow)
        await flow.aclose()

        assert [TaskState.COMPLETED] * 2 == [each.state for each in records]
        assert most <= 2
        assert (10, 0) == (done, found.running)

    async def test_a_shut_upstream_in_a_body_parks_the_task(
        self, flow: TaskFlow, registry: Registry
    ) -> None:
        """No attempt is used, though the body raised."""
        api = Upstream("api")

        @registry.task(name="call", upstream=api)
        async def call(ctx: Context) -> None:
            await flow.upstreams.aforce_open("api", reason="now")
            async with api.guard():  # paid for by the claim
                pass
            async with api.guard():
                pytest.fail("the second call was made")

        (task_id,) = await enqueue(flow, call, 1)
        await arun_until_idle(flow)
        record = await flow.tasks.aget(task_id)
        await flow.aclose()

        assert (TaskState.PENDING, 0) == (record.state, record.attempts)
        assert "CircuitBreakerError" == record.error_type

    async def test_a_limit_that_ends_a_guarded_call_counts(
        self, flow: TaskFlow, registry: Registry
    ) -> None:
        """The guard is only cancelled; the task's end says that time was over."""
        api = Upstream("api")

        @registry.task(name="call", upstream=api, retry=RetryPolicy(wait=600))
        async def call() -> None:
            async with asyncio.timeout(0.01), api.guard():
                await asyncio.sleep(60)

        await enqueue(flow, call, 10)
        await arun_until_idle(flow)
        found = await state_of(flow)
        await flow.aclose()

        assert ("open", "10 of 10 calls failed") == (found.state, found.reason)

    async def test_all_that_wait_for_a_permit_run_in_a_test(
        self, flow: TaskFlow, registry: Registry
    ) -> None:
        """The helper that runs until nothing is due does not end before."""

        @registry.task(name="call", upstream=Upstream("api", concurrency=1))
        async def call() -> None:
            await asyncio.sleep(0)

        ids = await enqueue(flow, call, 6)
        await arun_until_idle(flow)
        records = [await flow.tasks.aget(each) for each in ids]
        await flow.aclose()

        assert {TaskState.COMPLETED} == {each.state for each in records}

    async def test_a_guards_report_stands(
        self, flow: TaskFlow, registry: Registry
    ) -> None:
        """A failed call is counted once, though the task fails of it too."""
        api = Upstream("api")

        @registry.task(name="call", upstream=api, retry=RetryPolicy(wait=600))
        async def call() -> None:
            async with api.guard():
                raise TimeoutError

        await enqueue(flow, call, 1)
        await arun_until_idle(flow)
        found = await state_of(flow)
        await flow.aclose()

        assert (1, 1) == (found.failures, found.calls)

    @pytest.mark.timed
    async def test_what_a_person_does_is_seen_by_the_next_call(
        self, flow: TaskFlow
    ) -> None:
        """Within a quarter of a second, though the breaker was known to be closed."""
        api = Upstream("api")
        async with api.guard():
            pass
        await flow.upstreams.aforce_open("api", reason="stop it")
        opened = time.monotonic()

        async def call_until_refused() -> None:
            while True:
                async with api.guard():
                    await asyncio.sleep(0.001)

        with pytest.raises(CircuitBreakerError, match="stop it"):
            await call_until_refused()
        took = time.monotonic() - opened
        await flow.aclose()

        check_within(took, 0.25)

    async def test_successes_count_for_the_rate_of_failures(
        self, flow: TaskFlow
    ) -> None:
        """They are sent together, and not after the failures that they outweigh."""
        api = Upstream("api")
        for _ in range(30):
            async with api.guard():
                pass
        for _ in range(12):
            with pytest.raises(TimeoutError):
                async with api.guard():
                    raise TimeoutError
        found = await state_of(flow)
        await flow.aclose()

        assert ("closed", 12, 42) == (found.state, found.failures, found.calls)


class TestAlone:
    """The server is away."""

    @pytest.mark.timed
    async def test_calls_go_on_within_the_limits(self) -> None:
        """A guard does not wait for a server that does not answer, nor fails for it."""
        flow = TaskFlow("redis://127.0.0.1:1/0")
        api = Upstream(
            "api",
            breaker=CircuitBreaker(consecutive=2),
            rate_limit=RateLimit(3, per=1000.0, burst=3),
        )
        began = time.monotonic()
        with ports.using(flow):
            async with api.guard():
                pass
            for _ in range(2):
                with pytest.raises(TimeoutError):
                    async with api.guard():
                        raise TimeoutError
            with pytest.raises(CircuitBreakerError, match="away"):
                async with api.guard():
                    pytest.fail("the call was made")
        await flow.aclose()

        check_within(time.monotonic() - began, 5.0)

    async def test_one_that_a_person_has_shut_stays_shut(self) -> None:
        """What was known last counts, until it can be asked again."""
        flow = TaskFlow("redis://127.0.0.1:1/0")
        api = Upstream("api")
        flow.guards.on_state_change(api, "open", 1, 0.0, "they asked us")
        with ports.using(flow):
            for _ in range(2):
                with pytest.raises(CircuitBreakerError):
                    async with api.guard():
                        pytest.fail("the call was made")
                await asyncio.sleep(0.25)  # what is known is old by then
        await flow.aclose()


class TestControl:
    """Open, close, reset: one or all."""

    def test_all_can_be_steered_at_once(
        self, flow: TaskFlow, registry: Registry
    ) -> None:
        """The names that were changed are answered."""
        for name in ("a", "b"):
            with Upstream(name).guard():
                pass

        assert ("a", "b") == flow.upstreams.force_open(reason="all", expires=60)
        assert ["open", "open"] == [each.state for each in flow.upstreams.status()]
        assert ("a",) == flow.upstreams.force_close("a")
        assert ("b",) == flow.upstreams.force_close()
        assert ("a", "b") == flow.upstreams.reset()

    def test_an_unknown_name_is_refused(self, flow: TaskFlow) -> None:
        """With the way out."""
        with pytest.raises(UpstreamNotFoundError, match="a worker that serves it"):
            flow.upstreams.force_open("nobody")
        with pytest.raises(UpstreamNotFoundError):
            flow.upstreams.get("no/name")

    async def test_tasks_of_a_name_can_be_held_back(
        self, flow: TaskFlow, registry: Registry, clock: ManualClock
    ) -> None:
        """And let go on."""

        @registry.task(name="mail")
        async def mail() -> None:
            pass

        ids = await enqueue(flow, mail, 3)
        await flow.upstreams.aforce_open("task:mail", reason="wrong template")
        await arun_until_idle(flow)
        held = await flow.queues.astatus()
        await flow.upstreams.aforce_close("task:mail")
        clock.advance(5)
        await arun_until_idle(flow)
        records = [await flow.tasks.aget(each) for each in ids]
        await flow.aclose()

        assert 3 == held.parked
        assert {TaskState.COMPLETED} == {each.state for each in records}


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: Upstream("no/name"), "may hold 1 to 128"),
        (lambda: Upstream("task"), "may not be 'task'"),
        (lambda: Upstream("a", concurrency=0), "concurrency must be a whole number"),
        (lambda: RateLimit(0), "limit must be"),
        (lambda: RateLimit(1, per=0), "per must be"),
        (lambda: RateLimit(1, burst=-1), "burst must be"),
        (lambda: CircuitBreaker(failure_rate=1.5), "failure_rate must be"),
        (lambda: CircuitBreaker(probes=0), "probes must be"),
        (lambda: CircuitBreaker(window=-1), "window must be"),
        (lambda: Upstream("a").guard(weight=-1), "weight must be"),
        (lambda: Upstream("a", failures=["x"]), "on must be an exception class"),
        (lambda: Upstream("a", rate_limit=230), "rate_limit must be a RateLimit"),
    ],
)
def test_a_wrong_declaration_is_refused(make: Any, problem: str) -> None:
    """At once, with the name and the bound."""
    with pytest.raises(ConfigurationError, match=problem):
        make()


async def test_a_date_to_wait_for_is_met(
    flow: TaskFlow, registry: Registry, clock: ManualClock
) -> None:
    """A Retry-After in form of a date closes the tap until then."""
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=30)

    @registry.task(name="call", upstream="api")
    async def call() -> None:
        raise StatusError(
            429,
            Retry_After=format_datetime(until, usegmt=True),
            Date=format_datetime(datetime.now(UTC), usegmt=True),
        )

    await enqueue(flow, call, 1)
    expected = (until - datetime.now(UTC)).total_seconds()
    await arun_until_idle(flow)
    found = await state_of(flow)
    await flow.aclose()
    assert found.tapped_until is not None
    wait = found.tapped_until.timestamp() - clock() / 1000

    assert abs(wait - expected) < 0.3


def test_a_flow_in_use_serves_guards(flow: TaskFlow) -> None:
    """Outside of tasks a guard asks the flow that ``taskflow.use`` named."""
    use(flow)
    with Upstream("elsewhere").guard():
        pass

    assert ["elsewhere"] == [each.name for each in flow.upstreams.status()]
