"""What a caller can ask: store, wait, look, stop, bring back, drop."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

import taskflow
from taskflow import (
    Registry,
    Requeued,
    RetryPolicy,
    TaskFilter,
    TaskFlow,
    TaskState,
)
from taskflow._client import sansio
from taskflow._protocol import enqueue, settle, upkeep
from taskflow._protocol.claim import claim
from taskflow._servers.runner import PATIENCE
from taskflow.errors import (
    ConfigurationError,
    IllegalMoveError,
    KeyConflictError,
    PayloadError,
    ResultTimeoutError,
    ServerUnavailableError,
    TaskFailedError,
    TaskNotFoundError,
    UnknownTaskError,
)
from taskflow.testing import ManualClock, arun_until_idle, run_until_idle

registry = Registry()


@registry.task(name="add")
def add(x: int, y: int = 0) -> int:
    """Add two numbers."""
    return x + y


@registry.task(name="anything")
def anything(value: Any) -> None:
    """Take whatever JSON has."""


@registry.task(name="dies", retry=RetryPolicy(max_retries=0))
async def dies(number: int) -> None:
    """Fail for good, for one of two reasons."""
    reasons = {0: ValueError(f"row {number} is empty"), 1: KeyError("name")}
    raise reasons[number % 2]


@pytest.fixture
def clock() -> ManualClock:
    """Give the time that every script uses."""
    return ManualClock()


@pytest.fixture
def flow(server_url: str, clock: ManualClock) -> Iterator[TaskFlow]:
    """Give a flow on each kind of server."""
    with TaskFlow(server_url, registry=registry, clock=clock) as made:
        yield made


class TestStoring:
    """An enqueue that returned is stored; one that raised is not."""

    def test_a_task_uses_the_flow_that_the_host_chose(self, flow: TaskFlow) -> None:
        """Libraries declare, hosts decide."""
        taskflow.use(flow)
        try:
            handle = add.enqueue(2, y=3)
        finally:
            taskflow.use(None)
        run_until_idle(flow)

        assert (5, True) == (handle.result(5), handle.created)

    def test_many_calls_go_a_hundred_to_a_trip(self, flow: TaskFlow) -> None:
        """In their order, of any number."""
        handles = flow.enqueue_many([add.call(n) for n in range(250)])
        run_until_idle(flow)

        assert list(range(250)) == [handle.result(5) for handle in handles]

    async def test_concurrent_callers_share_trips(self, flow: TaskFlow) -> None:
        """Each gets its own handle, and a refused one harms no other."""
        good = [flow.aenqueue(add.call(n)) for n in range(300)]
        keyed = add.options(key="k")
        stored = await asyncio.gather(
            flow.aenqueue(keyed.call(1)),
            *good,
            flow.aenqueue(keyed.call(2)),
            return_exceptions=True,
        )

        assert isinstance(stored[-1], KeyConflictError)
        assert 301 == len({each.id for each in stored[:-1]})  # type: ignore[union-attr]
        assert 301 == (await flow.queues.astatus()).primary
        await flow.aclose()

    @pytest.mark.parametrize("how", ["blocking", "async", "concurrent callers"])
    async def test_large_calls_go_fewer_to_a_trip(
        self, flow: TaskFlow, monkeypatch: pytest.MonkeyPatch, how: str
    ) -> None:
        """No request holds more than 1 MiB, unless one call alone does."""
        loads = ["x" * size for size in [400_000] * 5 + [1_040_000] + [1] * 120]
        calls = [anything.call(load) for load in loads]
        trips: list[list[int]] = []
        store = enqueue.enqueue

        def counted(keys: Any, batch: Any, **options: Any) -> Any:
            trips.append([len(each.payload) for each in batch])
            return store(keys, batch, **options)

        monkeypatch.setattr(enqueue, "enqueue", counted)
        if how == "blocking":
            flow.enqueue_many(calls)
        elif how == "async":
            await flow.aenqueue_many(calls)
        else:
            await asyncio.gather(*map(flow.aenqueue, calls))
        await flow.aclose()

        sizes = [size for each in trips for size in each]
        assert [len(call.payload) for call in calls] == sizes
        assert 5 == len(trips)
        assert all(sum(each) <= 1 << 20 for each in trips)
        assert len(calls) == flow.queues.status().primary

    @pytest.mark.parametrize(
        ("value", "told"),
        [
            (float("nan"), r"\$\.value"),
            (float("inf"), r"\$\.value"),
            ("\ud800", "surrogate"),
            ((1,), r"\$\.value"),
            ({1: 2}, r"\$\.value"),
            ({"a": {2, 3}}, r"\$\.value"),
            (object(), "object"),
            ("x" * 1_100_000, "bytes of JSON"),
        ],
        ids=[
            *("nan", "infinity", "surrogate", "tuple", "int-key", "set"),
            *("object", "too-large"),
        ],
    )
    def test_what_would_not_come_back_as_it_is_is_refused(
        self, flow: TaskFlow, value: object, told: str
    ) -> None:
        """With the place, and nothing is stored."""
        with pytest.raises(PayloadError, match=told):
            flow.enqueue(anything.call(value))

        assert 0 == flow.queues.status().primary

    @pytest.mark.parametrize(
        ("args", "kwargs", "told"),
        [
            (("2",), {}, r"task 'add': Expected int, got str - at \$\.x"),
            ((True,), {}, r"bool"),
            ((), {"y": 1}, "x"),
            ((1, 2, 3), {}, "too many"),
            ((1,), {"z": 3}, "z"),
        ],
        ids=["type", "bool", "missing", "too-many", "unknown"],
    )
    def test_arguments_that_do_not_fit_are_refused(
        self, args: Any, kwargs: Any, told: str
    ) -> None:
        """Before anything is sent."""
        with pytest.raises(PayloadError, match=told):
            add.call(*args, **kwargs)

    def test_a_key_finds_its_task_until_its_time_is_over(self, flow: TaskFlow) -> None:
        """The same payload is the same task; another is a conflict."""
        keyed = add.options(key="sum")
        first = flow.enqueue(keyed.call(1, 2))
        second = flow.enqueue(keyed.call(1, 2))

        assert (first.id, True, False) == (second.id, first.created, second.created)
        turned = flow.enqueue(keyed.call(y=2, x=1))
        assert (first.id, False) == (turned.id, turned.created)
        with pytest.raises(KeyConflictError, match="'sum'") as caught:
            flow.enqueue_many([add.call(1), keyed.call(1, 3)])
        assert ["1 of 2 calls were stored"] == caught.value.__notes__
        assert "sum" in flow.tasks.get(first.id).key

    def test_an_option_out_of_bounds_is_refused(self) -> None:
        """Every mistake at once."""
        with pytest.raises(ConfigurationError) as caught:
            add.options(delay=-1, expires=0, key="")

        assert 3 == len(caught.value.problems)

    def test_a_call_that_expires_while_it_waits_fails(
        self, flow: TaskFlow, clock: ManualClock
    ) -> None:
        """Only *expires* does that."""
        handle = flow.enqueue(add.options(expires=10).call(1))
        clock.advance(11)
        run_until_idle(flow)

        with pytest.raises(TaskFailedError, match=r"FAILED.*Expired"):
            handle.result(1)

    def test_a_delayed_call_waits_for_its_time(
        self, flow: TaskFlow, clock: ManualClock
    ) -> None:
        """Not before, and then in the primary lane."""
        handle = flow.enqueue(add.options(delay=60).call(1))
        run_until_idle(flow)
        assert "SCHEDULED" == handle.info().state

        clock.advance(60)
        run_until_idle(flow)
        assert 1 == handle.result(1)


class TestWaiting:
    """A result comes as soon as there is one."""

    def test_looking_once_does_not_wait(self, flow: TaskFlow) -> None:
        """The task goes on all the same."""
        with pytest.raises(ResultTimeoutError, match="not ended within 0 s"):
            flow.enqueue(add.call(1)).result(timeout=0)

    def test_a_waiter_in_a_thread_is_told(self, flow: TaskFlow) -> None:
        """It waits while another thread works."""
        handle = flow.enqueue(add.call(40, 2))
        results: list[int] = []
        waiter = threading.Thread(target=lambda: results.append(handle.result(20)))
        waiter.start()
        run_until_idle(flow)
        waiter.join(20)

        assert [42] == results

    async def test_a_waiter_on_the_loop_is_told(self, flow: TaskFlow) -> None:
        """It waits while the same loop works."""
        handle = await flow.aenqueue(add.call(40, 2))
        waiter = asyncio.create_task(handle.aresult(20))
        await asyncio.sleep(0)
        await arun_until_idle(flow)

        assert 42 == await waiter
        await flow.aclose()

    def test_a_failure_carries_its_facts(self, flow: TaskFlow) -> None:
        """As attributes; nobody has to read the message."""
        handle = flow.enqueue(dies.call(0))
        run_until_idle(flow)

        with pytest.raises(TaskFailedError) as caught:
            handle.result(1)
        assert ("DLQ", "ValueError", "row 0 is empty", 1) == (
            caught.value.state,
            caught.value.error_type,
            caught.value.message,
            caught.value.attempts,
        )

    def test_a_handle_is_found_again_by_its_id(self, flow: TaskFlow) -> None:
        """Another process has only the id."""
        handle = flow.handle(flow.enqueue(add.call(1)).id)
        run_until_idle(flow)

        assert 1 == handle.result(1)
        with pytest.raises(TaskNotFoundError):
            flow.handle("no-such-task")

    def test_a_handle_to_a_task_unknown_here_says_what_is_known(
        self, flow: TaskFlow
    ) -> None:
        """The names, in the error."""
        other = Registry()

        @other.task(name="elsewhere")
        def elsewhere() -> None: ...

        with pytest.raises(
            UnknownTaskError, match="'elsewhere'; registered here: 'add'"
        ):
            flow.handle(flow.enqueue(elsewhere.call()).id)


class TestActing:
    """What a person can do with one task."""

    def test_a_waiting_task_is_cancelled_at_once_and_can_come_back(
        self, flow: TaskFlow
    ) -> None:
        """It runs once, in its old place."""
        handle = flow.enqueue(add.call(1))

        assert handle.cancel()
        assert "CANCELLED" == handle.info().state
        assert 0 == flow.queues.status().primary

        flow.tasks.retry(handle.id)
        run_until_idle(flow)
        assert 1 == handle.result(1)
        with pytest.raises(IllegalMoveError, match="COMPLETED: cannot cancel"):
            handle.cancel()
        with pytest.raises(IllegalMoveError, match="COMPLETED: cannot retry"):
            flow.tasks.retry(handle.id)

    def test_a_deleted_task_is_gone_with_all_it_had(self, flow: TaskFlow) -> None:
        """Twice is no error, only False."""
        handle = flow.enqueue(add.call(1))

        assert (True, False) == (
            flow.tasks.delete(handle.id),
            flow.tasks.delete(handle.id),
        )
        with pytest.raises(TaskNotFoundError):
            handle.info()

    def test_ids_that_no_task_can_have_are_not_even_asked_for(
        self, flow: TaskFlow
    ) -> None:
        """No key is built of them."""
        for task_id in ("", "a b", "x" * 65, "task:*", "a\nb"):
            with pytest.raises(TaskNotFoundError):
                flow.tasks.get(task_id)

    def test_orphans_come_back_and_nothing_else_does(self, flow: TaskFlow) -> None:
        """What stands in a home is left there, however often one asks."""
        waiting = flow.enqueue(add.call(1))
        lost = flow.enqueue(add.call(2))
        client = flow.connection.server.sync_client()  # type: ignore[attr-defined]
        client.lrem("tasks:pending:primary", 1, lost.id)
        client.close()

        reports = [flow.tasks.requeue_orphaned() for _ in range(2)]

        assert [(1, 1, ()), (0, 0, ())] == [
            (each.found, each.requeued, each.errors) for each in reports
        ]
        run_until_idle(flow)
        assert (1, 2) == (waiting.result(1), lost.result(1))

    @pytest.mark.parametrize("lives", [True, False], ids=["living", "dead"])
    @pytest.mark.parametrize("step", [20.0, 4000.0], ids=["an outage", "a step"])
    def test_a_worker_that_was_silent_may_renew_before_it_is_reaped(
        self,
        flow: TaskFlow,
        clock: ManualClock,
        monkeypatch: pytest.MonkeyPatch,
        lives: bool,
        step: float,
    ) -> None:
        """What is in flight is never started twice; what is lost comes back."""
        runner, waits = flow.connection.runner, list[float]()
        held = claimed_by_w(flow, clock)
        clock.advance(step)
        # After a step of more than an hour no worker is known.
        keys, now_ms = flow.connection.keys, clock()
        runner.send(upkeep.prune(keys, keys.completed, keep_ms=0, now_ms=now_ms))

        def renew(seconds: float) -> None:
            waits.append(seconds)
            if lives:
                runner.send(settle.extend(keys, held, lease_ms=15_000, now_ms=clock()))

        monkeypatch.setattr(sansio, "time", SimpleNamespace(sleep=renew))
        report = flow.tasks.requeue_orphaned()

        assert [6.0] == waits
        assert (0 if lives else 1) == report.requeued

    def test_leases_that_would_be_renewed_much_later_are_left_alone(
        self, flow: TaskFlow, clock: ManualClock
    ) -> None:
        """The caller is told, and nobody waits for minutes."""
        claimed_by_w(flow, clock, lease=600.0)
        clock.advance(1000)

        report = flow.tasks.requeue_orphaned()

        assert (0, 0) == (report.found, report.requeued)
        assert [
            "leases were left alone: workers were silent, and have up to 201 s"
        ] == [each.partition(" to renew")[0] for each in report.errors]


def claimed_by_w(
    flow: TaskFlow, clock: ManualClock, *, lease: float = 15.0
) -> list[tuple[str, str]]:
    """Store a task, let the worker w beat and claim it, and give its lease."""
    connection, lease_ms = flow.connection, round(lease * 1000)
    flow.enqueue(add.call(1))
    asked: Any = {"worker": "w", "share": connection.share, "now_ms": clock()}
    reply = connection.runner.send(
        claim(
            connection.keys,
            nonce="0-1",
            slots=1,
            lease_ms=lease_ms,
            suspect=True,
            **asked,
        )
    )
    info = json.dumps({"lease": lease}).encode()
    connection.runner.send(
        upkeep.heartbeat(
            connection.keys,
            worker="w",
            info=info,
            ttl_ms=2 * lease_ms,
            known="",
            new="d1",
            now_ms=clock(),
        )
    )
    return [(each.id, each.token) for each in reply.claims]


class TestNobodyThere:
    """A server that does not answer is an error, and soon."""

    def test_a_blocking_call_gives_up_within_its_patience(self) -> None:
        """Nothing waits for ever in a host's request."""
        began = time.monotonic()
        with (
            TaskFlow("redis://127.0.0.1:1", registry=registry) as flow,
            pytest.raises(ServerUnavailableError),
        ):
            flow.enqueue(add.call(1))

        assert time.monotonic() - began < 2 * PATIENCE

    async def test_a_call_on_the_loop_gives_up_within_its_patience(self) -> None:
        """A crowd waits together, and not each hundred in turn."""
        began = time.monotonic()
        async with TaskFlow("redis://127.0.0.1:1", registry=registry) as flow:
            ended = await asyncio.gather(
                *(flow.aenqueue(add.call(n)) for n in range(1000)),
                return_exceptions=True,
            )

        assert {ServerUnavailableError} == {type(each) for each in ended}
        assert time.monotonic() - began < 4 * PATIENCE


class TestLists:
    """Paged, bounded, filtered."""

    def test_every_task_is_listed_once_page_after_page(
        self, flow: TaskFlow, clock: ManualClock
    ) -> None:
        """Over all states, whatever the size of a page."""
        ended = flow.enqueue_many([add.call(n) for n in range(7)])
        run_until_idle(flow)
        clock.advance(1)
        dead = flow.enqueue_many([dies.call(n) for n in range(4)])
        run_until_idle(flow)
        waiting = flow.enqueue_many([add.call(n) for n in range(5)])
        later = flow.enqueue(add.options(delay=9).call(1))
        everything = {each.id for each in (*ended, *dead, *waiting, later)}

        seen: list[str] = []
        cursor = ""
        while True:
            page = flow.tasks.list(cursor=cursor, limit=3)
            seen += [item.id for item in page.items]
            cursor = page.next_cursor
            if not cursor:
                break

        assert (17, everything) == (len(seen), set(seen))
        with pytest.raises(ValueError, match=r"limit must be 1\.\.200"):
            flow.tasks.list(limit=201)
        with pytest.raises(ValueError, match="does not belong"):
            flow.tasks.list(TaskFilter(state=TaskState.DLQ), cursor="COMPLETED|")

    def test_filters_hold_by_name_state_error_and_time(
        self, flow: TaskFlow, clock: ManualClock
    ) -> None:
        """On the server's side of the page, not on the reader's."""
        flow.enqueue_many([dies.call(n) for n in range(6)])
        flow.enqueue(add.call(1))
        run_until_idle(flow)

        def names(wanted: TaskFilter) -> list[str]:
            return [item.name for item in flow.tasks.list(wanted).items]

        assert ["add"] == names(TaskFilter(name="add"))
        assert ["dies"] * 6 == names(TaskFilter(state=TaskState.DLQ))
        assert ["dies"] * 3 == names(TaskFilter(error="KEYerror"))
        assert [] == names(TaskFilter(lane="retry", name="add"))
        (first, *_) = flow.tasks.list(TaskFilter(name="add")).items
        assert [] == names(TaskFilter(until=first.created_at))
        assert 7 == len(names(TaskFilter(since=first.created_at)))


class TestDeadLetters:
    """Grouped, looked at, edited, brought back, dropped, exported."""

    @pytest.fixture
    def dead(self, flow: TaskFlow) -> TaskFlow:
        """Give a flow with six dead letters of two kinds."""
        flow.enqueue_many([dies.call(n) for n in range(6)])
        run_until_idle(flow)
        return flow

    def test_errors_of_one_kind_share_a_group(self, dead: TaskFlow) -> None:
        """Rows differ; the error is the same."""
        groups = {group.error_type: group for group in dead.dlq.groups()}

        assert {"ValueError": 3, "KeyError": 3} == {
            kind: group.count for kind, group in groups.items()
        }
        mark = groups["KeyError"].fingerprint
        assert (
            3
            == dead.dlq.count(fingerprint=mark)
            == len(dead.dlq.list(fingerprint=mark).items)
        )

    def test_a_group_is_brought_back_and_leaves_no_ghost(self, dead: TaskFlow) -> None:
        """Into the retry lane, with fresh counts."""
        mark = dead.dlq.groups()[0].fingerprint

        assert 3 == dead.dlq.requeue(fingerprint=mark).count
        status = dead.queues.status()
        assert (3, 3, 1) == (status.retry, status.dlq, len(dead.dlq.groups()))
        assert 0 == dead.dlq.requeue(fingerprint=mark).count

    def test_those_whose_key_was_taken_stay(self, dead: TaskFlow) -> None:
        """They are told apart; where all are, it is an error."""
        every, once = dead.dlq.count(), dies.options(key="k", key_ttl=0)
        old = dead.enqueue(once.call(7))
        run_until_idle(dead)
        newer = dead.enqueue(once.call(8))
        with pytest.raises(KeyConflictError) as caught:
            dead.dlq.requeue(old.id)
        with pytest.raises(KeyConflictError):
            dead.tasks.retry(old.id)

        assert ("dies:k", newer.id, old.id) == (
            *(caught.value.key, caught.value.task_id),
            caught.value.requeued,
        )
        assert Requeued(every, {old.id: newer.id}) == dead.dlq.requeue(everything=True)
        newer.cancel()
        assert Requeued(1, {}) == dead.dlq.requeue(old.id)

    def test_bringing_back_can_be_paced(self, dead: TaskFlow) -> None:
        """At so many a second."""
        assert 6 == dead.dlq.requeue(everything=True, rate=60).count

        with pytest.raises(ValueError, match="rate must be above 0"):
            dead.dlq.requeue(everything=True, rate=0)

    def test_an_action_on_all_has_to_be_said(self, dead: TaskFlow) -> None:
        """Nothing named is nothing done."""
        with pytest.raises(ValueError, match="got nothing"):
            dead.dlq.discard()
        with pytest.raises(ValueError, match="got ids and everything"):
            dead.dlq.requeue("a", everything=True)

    def test_discarded_letters_are_failed_and_can_still_come_back(
        self, dead: TaskFlow
    ) -> None:
        """A discard is a decision, not a loss."""
        (letter, *_) = dead.dlq.list(name="dies").items

        assert 1 == dead.dlq.discard(letter.id)
        assert TaskState.FAILED is dead.tasks.get(letter.id).state
        dead.tasks.retry(letter.id)
        assert TaskState.PENDING is dead.tasks.get(letter.id).state
        assert 5 == dead.dlq.discard(everything=True)

    def test_arguments_are_edited_as_the_task_would_take_them(
        self, dead: TaskFlow
    ) -> None:
        """Checked against the annotations; a misfit changes nothing."""
        (letter, *_) = dead.dlq.list().items

        dead.dlq.edit(letter.id, number=8)
        with pytest.raises(PayloadError, match="Expected int"):
            dead.dlq.edit(letter.id, number="nine")

        assert b'{"number":8}' == dead.dlq.get(letter.id).payload
        with pytest.raises(TaskNotFoundError):
            dead.dlq.get(dead.enqueue(add.call(1)).id)

    def test_an_export_holds_what_a_person_needs(self, dead: TaskFlow) -> None:
        """Payload, cause, error, traceback, history."""
        exported = list(dead.dlq.export(name="dies"))

        assert 6 == len(exported)
        assert all(
            each.dead_letter is not None
            and each.dead_letter.cause == "exhausted"
            and "Traceback" in each.dead_letter.traceback
            and each.history
            for each in exported
        )

    def test_dead_letters_are_requeued_by_name_and_by_id(self, dead: TaskFlow) -> None:
        """Those of the name and no others; an id is taken once."""
        every = dead.dlq.count()
        chosen = dead.dlq.list(name="dies").items[0].id

        assert 0 == dead.dlq.requeue(name="add").count
        assert [1, 0] == [dead.dlq.requeue(chosen).count for _ in range(2)]
        assert every - 1 == dead.dlq.requeue(name="dies").count
        assert (0, every) == (dead.dlq.count(), dead.queues.status().retry)

    async def test_the_same_verbs_on_the_loop(self, dead: TaskFlow) -> None:
        """Twins, with an a before the name."""
        (group, *_) = await dead.dlq.agroups()
        page = await dead.dlq.alist(fingerprint=group.fingerprint, limit=2)
        first, second = page.items
        await dead.dlq.aedit(first.id, number=4)

        assert 3 == await dead.dlq.acount(fingerprint=group.fingerprint)
        assert first.id == (await dead.dlq.aget(first.id)).id
        assert 1 == (await dead.dlq.arequeue([first.id])).count
        assert 1 == await dead.dlq.adiscard(second.id)
        assert 4 == len([each async for each in dead.dlq.aexport()])
        assert [] == await dead.workers.alist()
        report = await dead.tasks.arequeue_orphaned()
        assert (0, 0) == (report.found, report.requeued)
        handle = await dead.aenqueue(add.options(delay=5).call(1))
        assert await dead.tasks.acancel(handle.id)
        await dead.tasks.aretry(handle.id)
        assert 7 >= len((await dead.tasks.alist(limit=50)).items)
        assert await dead.tasks.adelete(handle.id)
        await dead.aclose()
