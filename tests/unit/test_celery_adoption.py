"""A Celery task becomes one of ours: what it says of itself is carried over."""

import sys
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

pytest.importorskip("celery")

from celery import Celery, Task, shared_task
from celery.exceptions import Ignore, Reject, Retry, SoftTimeLimitExceeded
from celery.signals import task_failure, task_postrun, task_prerun, task_retry

import taskflow
from taskflow import Cancel, Registry, TaskFlow, TaskRecord
from taskflow.celery import adopt, adopt_all
from taskflow.errors import ConfigurationError, PayloadError, RegistryError
from taskflow.testing import run_until_idle


@pytest.fixture
def app() -> Celery:
    """Give a Celery app whose broker nobody can reach."""
    made = Celery("shop", broker="memory://", set_as_current=False)
    # Else a task of this app is announced to all apps, those of other tests as well.
    made.task = partial(made.task, shared=False)
    return made


@pytest.fixture
def registry() -> Registry:
    """Give an empty registry."""
    return Registry()


@pytest.fixture
def flow(registry: Registry) -> Any:
    """Give a flow that redirected calls use, too."""
    with TaskFlow(f"memory://{id(registry)}", registry=registry) as made:
        taskflow.use(made)
        yield made
        taskflow.use(None)


def run(flow: TaskFlow, call: Any) -> TaskRecord:
    """Run *call* as far as it goes now."""
    task_id = flow.enqueue(call).id
    run_until_idle(flow)
    return flow.tasks.get(task_id)


class TestDeclaration:
    """What the Celery task says of itself."""

    def test_name_limits_and_rate_are_carried_over(
        self, app: Celery, registry: Registry
    ) -> None:
        """A rate holds for the fleet, as an upstream of the task's name."""

        @app.task(name="send", time_limit=30, soft_time_limit=20, rate_limit="10/m")
        def send(to: str) -> None: ...

        task = adopt(send, registry=registry)

        assert ("send", 30.0, 20.0) == (task.name, task.timeout, task.soft_timeout)
        assert task.upstream is not None
        limit = registry.upstream("send").rate_limit
        assert limit is not None
        assert (10, 60.0) == (limit.limit, limit.per)

    def test_all_tasks_of_an_app_are_adopted_but_celerys_own(
        self, app: Celery, registry: Registry
    ) -> None:
        """By pattern, where one is given."""

        @app.task(name="mart.a")
        def a() -> None: ...

        @app.task(name="other.b")
        def b() -> None: ...

        assert ("mart.a",) == tuple(
            task.name for task in adopt_all(app, registry=registry, include="mart.*")
        )
        every = {task.name for task in adopt_all(app, registry=Registry())}
        assert {"mart.a", "other.b"} <= every
        assert not [name for name in every if name.startswith("celery.")]

    @pytest.mark.parametrize("what", ["function", "class", "coroutine"])
    def test_what_is_no_celery_task_is_refused(
        self, app: Celery, registry: Registry, what: str
    ) -> None:
        """With the way out in the message."""

        @app.task(name="waits")
        async def waits() -> None: ...

        given = {"function": lambda: None, "class": Task, "coroutine": waits}[what]
        with pytest.raises(RegistryError, match=r"@taskflow.task|register_task"):
            adopt(given, registry=registry)


class TestBody:
    """What a body finds, and what becomes of what it does."""

    def test_a_plain_task_returns_its_result(
        self, app: Celery, registry: Registry, flow: TaskFlow
    ) -> None:
        """Its annotations are kept; called in place it is a function still."""

        @app.task(name="add")
        def add(x: int, y: int = 2) -> int:
            return x + y

        task = adopt(add, registry=registry)

        assert b"3" == run(flow, task.call(1)).result
        assert 5 == add(2, 3)
        with pytest.raises(PayloadError, match="Expected int"):
            flow.enqueue(task.call("one"))

    def test_a_shared_task_is_adopted(
        self, app: Celery, registry: Registry, flow: TaskFlow
    ) -> None:
        """The proxy stands for the task of the app."""
        app.set_current()

        @shared_task(name="shared")
        def shared(x: Any) -> Any:
            return x

        app.finalize()
        assert (
            b'{"a":1}'
            == run(flow, adopt(shared, registry=registry).call({"a": 1})).result
        )

    def test_a_bound_task_reads_its_request(
        self, app: Celery, registry: Registry, flow: TaskFlow
    ) -> None:
        """The id is that of our task, and the retries are those before."""

        @app.task(name="bound", bind=True)
        def bound(self: Any, x: int, **rest: Any) -> list[Any]:
            request = self.request
            return [request.id, request.retries, request.args, request.kwargs, x, rest]

        record = run(flow, adopt(bound, registry=registry).call(1, more=2))

        assert (
            f'["{record.id}",0,[1],{{"more":2}},1,{{"more":2}}]'.encode()
            == record.result
        )

    def test_a_retry_waits_as_long_as_it_says_and_counts(
        self, app: Celery, registry: Registry, flow: TaskFlow
    ) -> None:
        """When there are none left, the error is that of the body."""

        @app.task(name="again", bind=True, max_retries=1)
        def again(self: Any) -> None:
            raise self.retry(exc=ValueError(self.request.retries), countdown=0)

        record = run(flow, adopt(again, registry=registry).call())
        run_until_idle(flow)
        record = flow.tasks.get(record.id)

        assert ("DLQ", "ValueError", 2) == (
            record.state,
            record.error_type,
            record.attempts,
        )

    def test_automatic_retries_are_a_policy(
        self, app: Celery, registry: Registry, flow: TaskFlow
    ) -> None:
        """An error that Celery would not retry is a dead letter at once."""

        @app.task(
            name="auto",
            autoretry_for=(KeyError,),
            dont_autoretry_for=(IndexError,),
            max_retries=5,
            retry_backoff=7,
            retry_jitter=False,
        )
        def auto(kind: str) -> None:
            raise {"key": KeyError, "index": IndexError, "value": ValueError}[kind]

        task = adopt(auto, registry=registry)

        retried = run(flow, task.call("key"))
        assert ("SCHEDULED", 1) == (retried.state, retried.attempts)
        assert 7.0 == retried.history[0].facts["delay"]
        assert "DLQ" == run(flow, task.call("index")).state
        assert "DLQ" == run(flow, task.call("value")).state

    def test_retries_are_found_in_a_group(
        self, app: Celery, registry: Registry, flow: TaskFlow
    ) -> None:
        """Those that the body asked for, the last one included, and automatic ones."""
        gave_up: list[Exception] = []

        class Base(Task):
            def on_failure(self, exc: Exception, *_: Any) -> None:
                gave_up.append(exc)

        @app.task(name="asks", bind=True, base=Base, max_retries=1)
        def asks(self: Any) -> None:
            try:
                self.retry(exc=ValueError(self.request.retries), countdown=0)
            except Exception as error:  # noqa: BLE001 - of any class
                group = "two"
                raise ExceptionGroup(group, [OSError(), error]) from None

        @app.task(name="auto", autoretry_for=(KeyError,), default_retry_delay=60)
        def auto() -> None:
            group = "two"
            raise ExceptionGroup(group, [OSError(), KeyError()])

        asked = run(flow, adopt(asks, registry=registry).call())
        automatic = run(flow, adopt(auto, registry=registry).call())
        run_until_idle(flow)
        asked = flow.tasks.get(asked.id)

        assert ("DLQ", "ValueError", 2) == (
            asked.state,
            asked.error_type,
            asked.attempts,
        )
        assert 1 == len(gave_up)
        assert ("SCHEDULED", "KeyError") == (automatic.state, automatic.error_type)

    @pytest.mark.parametrize(
        ("error", "state"),
        [
            (Ignore(), "COMPLETED"),
            (Reject("no"), "DLQ"),
            (Reject("later", requeue=True), "SCHEDULED"),
            (SoftTimeLimitExceeded(), "DLQ"),
            (ExceptionGroup("", [Ignore(), Ignore()]), "COMPLETED"),
            (ExceptionGroup("", [Ignore(), ValueError()]), "DLQ"),
            (
                ExceptionGroup("", [ValueError(), Reject("no", requeue=True)]),
                "SCHEDULED",
            ),
            (ExceptionGroup("", [ValueError(), Retry(when=60)]), "SCHEDULED"),
            (ExceptionGroup("", [ValueError(), taskflow.Retry(60)]), "SCHEDULED"),
            (ExceptionGroup("", [ValueError(), Cancel()]), "CANCELLED"),
        ],
    )
    def test_celerys_own_exceptions_mean_what_they_mean(
        self,
        app: Celery,
        registry: Registry,
        flow: TaskFlow,
        error: Exception,
        state: str,
    ) -> None:
        """Each has its move."""

        @app.task(name="ends")
        def ends() -> None:
            raise error

        assert state == run(flow, adopt(ends, registry=registry).call()).state

    def test_handlers_and_signals_are_called(
        self, app: Celery, registry: Registry, flow: TaskFlow
    ) -> None:
        """In Celery's order, and for a failure, too."""
        heard: list[str] = []

        class Base(Task):
            def on_success(self, retval: Any, *_: Any) -> None:
                heard.append(f"success {retval}")

            def on_failure(self, exc: Any, *_: Any) -> None:
                heard.append(f"failure {exc}")

            def after_return(self, status: str, *_: Any) -> None:
                heard.append(f"after {status}")

        @app.task(name="told", base=Base)
        def told(fails: bool) -> int:
            if fails:
                raise ValueError("no")  # noqa: EM101
            return 7

        def before(**_: Any) -> None:
            heard.append("prerun")

        def after(state: str, **_: Any) -> None:
            heard.append(f"postrun {state}")

        def failure(**_: Any) -> None:
            heard.append("failure signal")

        task_prerun.connect(before)
        task_postrun.connect(after)
        task_failure.connect(failure)
        task_retry.connect(before)
        try:
            task = adopt(told, registry=registry)
            run(flow, task.call(False))  # noqa: FBT003
            run(flow, task.call(True))  # noqa: FBT003
        finally:
            for signal, receiver in (
                (task_prerun, before),
                (task_postrun, after),
                (task_failure, failure),
                (task_retry, before),
            ):
                signal.disconnect(receiver)

        assert [
            *("prerun", "success 7", "after SUCCESS", "postrun SUCCESS"),
            *("prerun", "failure no", "failure signal", "after FAILURE"),
            "postrun FAILURE",
        ] == heard

    @pytest.mark.parametrize("code", [3, "no disk"])
    def test_an_exit_is_the_end_of_the_task(
        self, app: Celery, registry: Registry, flow: TaskFlow, code: Any
    ) -> None:
        """As Celery has it: the process is lost, and the task fails without a retry."""
        heard: list[Any] = []

        def failure(**facts: Any) -> None:
            heard.append(facts["exception"])

        @app.task(name="exits", autoretry_for=(Exception,))
        def exits() -> None:
            sys.exit(code)

        task_failure.connect(failure)
        try:
            record = run(flow, adopt(exits, registry=registry).call())
        finally:
            task_failure.disconnect(failure)

        assert ("DLQ", 1, "SystemExit") == (
            record.state,
            record.deliveries,
            record.error_type,
        )
        assert [SystemExit] == list(map(type, heard))

    def test_an_exit_is_tried_again_where_lost_workers_are(
        self, app: Celery, registry: Registry, flow: TaskFlow
    ) -> None:
        """With ``reject_on_worker_lost``, and at once."""
        runs: list[int] = []

        @app.task(name="exits", acks_late=True, reject_on_worker_lost=True)
        def exits() -> int:
            runs.append(1)
            if len(runs) == 1:
                sys.exit(3)
            return 7

        assert b"7" == run(flow, adopt(exits, registry=registry).call()).result

    def test_a_state_that_is_told_is_progress(
        self, app: Celery, registry: Registry, flow: TaskFlow
    ) -> None:
        """And is kept with the record."""

        @app.task(name="tells", bind=True)
        def tells(self: Any) -> None:
            self.update_state(state="WORKING", meta={"current": 1, "total": 4})

        record = run(flow, adopt(tells, registry=registry).call())

        assert record.progress is not None
        assert (1, 4) == (record.progress["done"], record.progress["total"])
        assert "WORKING" == record.annotations["celery_state"]


class TestCallSites:
    """Call sites that were written for Celery stay as they are."""

    def test_delay_and_apply_async_enqueue_with_us(
        self, app: Celery, registry: Registry, flow: TaskFlow
    ) -> None:
        """Their results are asked as Celery's are."""

        @app.task(name="add")
        def add(x: int, y: int) -> int:
            return x + y

        adopt(add, registry=registry, redirect=True)
        results = [
            add.delay(1, 2),
            add.apply_async((3,), {"y": 4}, queue="fast"),
            add.s(5, 6).delay(),
        ]
        assert ["PENDING"] * 3 == [each.state for each in results]
        run_until_idle(flow)

        assert [3, 7, 11] == [each.get(timeout=5) for each in results]
        assert all(each.successful() for each in results)

    @pytest.mark.parametrize("when", [60, timedelta(minutes=1).total_seconds()])
    def test_a_countdown_delays_the_task(
        self, app: Celery, registry: Registry, flow: TaskFlow, when: float
    ) -> None:
        """As Celery's does."""

        @app.task(name="later")
        def later() -> None: ...

        adopt(later, registry=registry, redirect=True)
        result = later.apply_async(countdown=when)

        assert "SCHEDULED" == flow.tasks.get(result.id).state
        result.revoke()
        assert "REVOKED" == result.state

    def test_an_option_without_a_meaning_is_refused(
        self, app: Celery, registry: Registry, flow: TaskFlow
    ) -> None:
        """Nothing is stored, and the message says the way out."""

        @app.task(name="linked")
        def linked() -> None: ...

        adopt(linked, registry=registry, redirect=True)

        with pytest.raises(ConfigurationError, match="link"):
            linked.apply_async(link=linked.s())
        assert 0 == flow.queues.status().primary
