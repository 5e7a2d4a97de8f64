"""The same task behaves the same under every engine.

A worker process of each engine serves the tasks of `engine_app`; what comes of them
is read from their records, as a user would. Another engine joins by one line in
`ENGINES`.
"""

import json
import os
import select
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from taskflow import Call, Registry, TaskFlow, TaskRecord, Worker
from taskflow._codec import Spec, encode_spec
from taskflow._protocol.enqueue import Submission, SubmitOptions, enqueue
from taskflow._protocol.record import LONGEST_ERROR_BYTES
from tests.support import engine_app
from tests.support.processes import Deployment, wait_until

ENGINES = ["asyncio", "celery"]
FINAL = {"COMPLETED", "DLQ", "FAILED", "CANCELLED"}
SLOTS = "4"


class Stage(Deployment):
    """A worker process of one engine, and what comes of its tasks."""

    def __init__(self, folder: Path, engine: str) -> None:
        app = Path(engine_app.__file__).read_text(encoding="utf-8")
        app += "\nimport taskflow\ntaskflow.use(taskflow.TaskFlow(os.environ['URL']))\n"
        super().__init__(folder, app, engine_app.registry)
        self.engine = engine
        self.process = self.worker(
            *("--executor", engine, "--concurrency", SLOTS, "--log-format", "json"),
            URL=self.url,
            TASKFLOW_MAX_PAYLOAD_BYTES="20000",
            WORKER_PREFETCH_MULTIPLIER="2",
        )
        wait_until(lambda: "worker started" in self.said(self.process))

    def begin(self, call: Call[Any]) -> str:
        """Store *call*; returns the task's id once its body runs."""
        task_id = self.flow.enqueue(call).id
        wait_until(lambda: str(self.flow.tasks.get(task_id).state) == "ACTIVE")
        return task_id

    def ended(self, task_id: str) -> TaskRecord:
        """Wait until the task has ended; returns its record."""
        wait_until(lambda: str(self.flow.tasks.get(task_id).state) in FINAL)
        return self.flow.tasks.get(task_id)

    def run(self, call: Call[Any]) -> TaskRecord:
        """Run *call* to its end; returns its record."""
        return self.ended(self.flow.enqueue(call).id)

    def result(self, call: Call[Any]) -> Any:
        """Run *call*, which completes; returns its result as JSON has it."""
        record = self.run(call)
        assert "COMPLETED" == record.state, record
        return json.loads(record.result or b"null")


@pytest.fixture(scope="module", params=ENGINES)
def stage(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    """Give a worker of each engine; all tests of an engine share it."""
    if request.param == "celery":
        pytest.importorskip("celery")
        if not hasattr(select, "epoll"):
            pytest.skip("the Celery engine needs Linux")
    deployment = Stage(tmp_path_factory.mktemp(request.param), request.param)
    yield deployment
    deployment.close()


def outcomes(record: TaskRecord) -> list[str]:
    """List what became of each of its runs."""
    return [entry.outcome for entry in record.history]


class TestValues:
    """Arguments arrive as they were declared, and results are read back."""

    def test_arguments_have_their_types(self, stage: Stage) -> None:
        """A class with fields, a time, a set and bytes."""
        when = engine_app.datetime(2026, 1, 2, tzinfo=engine_app.UTC)
        call = engine_app.shapes.call(
            engine_app.Point(1, 2.0), when, {"b", "a"}, b"\x00\xff"
        )

        assert {
            "kinds": ["Point", "datetime", "set", "bytes"],
            "x": 1,
            "when": when.isoformat(),
            "tags": ["a", "b"],
        } == stage.result(call)

    def test_a_result_is_restored_by_its_handle(self, stage: Stage) -> None:
        """Into the type that the function is annotated with."""
        handle = stage.flow.enqueue(engine_app.point.call(7))

        assert engine_app.Point(7, 0.5) == handle.result(timeout=20)

    @pytest.mark.parametrize(
        "call",
        [
            engine_app.odd_result.call(),
            engine_app.generates.call(),
            engine_app.large_result.call(30_000),
        ],
        ids=["odd", "generator", "large"],
    )
    def test_a_result_that_cannot_be_stored_is_a_dead_letter(
        self, stage: Stage, call: Call[Any]
    ) -> None:
        """It would be the same the next time."""
        record = stage.run(call)

        assert "DLQ" == record.state
        assert record.dead_letter is not None
        assert "payload" == record.dead_letter.cause

    def test_a_large_result_that_fits_is_stored_whole(self, stage: Stage) -> None:
        """Also where it is longer than what a pipe holds at once."""
        assert "x" * 19_000 == stage.result(engine_app.large_result.call(19_000))

    @pytest.mark.parametrize(
        ("spec", "payload", "cause"),
        [
            (b"{", b"{}", "corrupt"),
            (encode_spec(Spec(name="add")), b'{"x": "one", "y": 2}', "payload"),
        ],
        ids=["spec", "arguments"],
    )
    def test_a_record_that_cannot_be_read_is_a_dead_letter(
        self, stage: Stage, spec: bytes, payload: bytes, cause: str
    ) -> None:
        """With a cause that says which part of it."""
        task_id = f"broken-{cause}"
        options = SubmitOptions().pack()
        stage.flow.connection.runner.send(
            enqueue(
                stage.flow.connection.keys,
                [Submission(task_id, payload, spec, options)],
            )
        )

        record = stage.ended(task_id)
        assert record.dead_letter is not None
        assert cause == record.dead_letter.cause

    def test_a_task_whose_code_is_not_here_is_snoozed(self, stage: Stage) -> None:
        """A deploy may be in progress; no attempt is used."""
        other = Registry()

        @other.task(name="elsewhere")
        def elsewhere() -> None: ...

        with TaskFlow(stage.url, registry=other) as flow:
            task_id = flow.enqueue(elsewhere.call()).id
        wait_until(lambda: stage.flow.tasks.get(task_id).history)
        record = stage.flow.tasks.get(task_id)
        stage.flow.tasks.cancel(task_id)

        assert ["snooze"] == outcomes(record)
        assert 0 == record.attempts

    def test_a_task_that_becomes_known_starts(self, stage: Stage) -> None:
        """However often workers without its code were given it."""
        other = Registry()

        @other.task(name="elsewhere")
        def elsewhere() -> None: ...

        with TaskFlow(stage.url, registry=other) as flow:
            task_id = flow.enqueue(elsewhere.call()).id
            wait_until(lambda: stage.flow.tasks.get(task_id).deliveries >= 3)
            worker = Worker(flow, registry=other)
            thread = threading.Thread(target=worker.run)
            thread.start()
            record = stage.ended(task_id)
            worker.stop()
            thread.join()

        assert ("COMPLETED", ["snooze"]) == (record.state, outcomes(record))


ENDINGS = {
    "value": ("DLQ", "ValueError", ["dead"]),
    "unpicklable": ("DLQ", "Unpicklable", ["dead"]),
    "odd": ("DLQ", "Odd", ["dead"]),
    "exiting": ("DLQ", "Exiting", ["dead"]),
    "textless": ("DLQ", "Textless", ["dead"]),
    "anonymous": ("DLQ", "Anonymous", ["dead"]),
    "shouting": ("DLQ", "Shouting", ["dead"]),
    "huge": ("DLQ", ("Huge" * 10_000)[:200], ["dead"]),
    "surrogate": ("DLQ", "ValueError", ["dead"]),
    "caused": ("DLQ", "Exiting", ["dead"]),
    "grouped": ("DLQ", "Shouting", ["dead"]),
    "secretive": ("DLQ", "ValueError", ["dead"]),
    "exit": ("DLQ", "SystemExit", ["dead"]),
    "interrupt": ("DLQ", "KeyboardInterrupt", ["dead"]),
    "generator": ("DLQ", "GeneratorExit", ["dead"]),
    "cancelled": ("DLQ", "CancelledError", ["dead"]),
    "group": ("DLQ", "ValueError", ["dead"]),
    "group of exits": ("DLQ", "SystemExit", ["dead"]),
    "group to bury": ("DLQ", "DeadLetter", ["dead"]),
    "group to cancel": ("CANCELLED", "Cancelled", ["cancel"]),
    "deep": ("DLQ", "RecursionError", ["dead"]),
    "dead": ("DLQ", "DeadLetter", ["dead"]),
    "cancel": ("CANCELLED", "Cancelled", ["cancel"]),
}


class TestErrors:
    """Whatever a body raises becomes one outcome, and harms nobody else."""

    @pytest.mark.parametrize("task", [engine_app.raises, engine_app.araises])
    @pytest.mark.parametrize("kind", ENDINGS)
    def test_every_exception_is_one_outcome(
        self, stage: Stage, task: Any, kind: str
    ) -> None:
        """Of a coroutine and of a plain function alike."""
        state, error, history = ENDINGS[kind]

        record = stage.run(task.call(kind))

        assert (state, error) == (record.state, record.error_type)
        assert history == outcomes(record)
        assert 0 == record.crashes
        assert len(record.error_message.encode()) <= LONGEST_ERROR_BYTES

    @pytest.mark.parametrize("task", [engine_app.raises, engine_app.araises])
    def test_an_error_that_fails_when_it_is_looked_at_is_a_failed_attempt(
        self, stage: Stage, task: Any
    ) -> None:
        """It counts as the failure that it answered with."""
        record = stage.run(task.call("evasive"))

        assert ("DLQ", 1, 0) == (record.state, record.attempts, record.crashes)

    def test_an_argument_whose_class_exits_is_a_failed_attempt(
        self, stage: Stage
    ) -> None:
        """Its code runs in the worker before the function does."""
        value = engine_app.Exploding(1)
        record = stage.run(engine_app.takes_exploding.call(value))

        assert ("DLQ", "SystemExit") == (record.state, record.error_type)
        assert 0 == record.crashes

    @pytest.mark.parametrize(
        ("task", "error"),
        [(engine_app.unasked, "RuntimeError"), (engine_app.unending, "ValueError")],
    )
    def test_an_end_that_cannot_be_judged_is_a_failed_attempt(
        self, stage: Stage, task: Any, error: str
    ) -> None:
        """Neither a crash nor a lease that is renewed for ever."""
        record = stage.run(task.options(max_retries=0).call())

        assert ("DLQ", error) == (record.state, record.error_type)
        assert 0 == record.crashes

    @pytest.mark.parametrize(
        "kind",
        ["value", "exit", "retry", "snooze", "group to retry", "group to snooze"],
    )
    def test_a_task_that_is_to_run_again_does(self, stage: Stage, kind: str) -> None:
        """A snooze uses no attempt."""
        call = engine_app.second_time.call(kind)

        assert [1 if "snooze" in kind else 2, 2, 2] == stage.result(call)

    def test_the_run_time_of_all_attempts_is_bounded(self, stage: Stage) -> None:
        """A task that is too old is not retried."""
        record = stage.run(engine_app.ages.call())

        assert record.dead_letter is not None
        assert "max_age" == record.dead_letter.cause
        assert 1 < record.attempts <= 3

    def test_an_error_is_told_with_its_traceback_and_its_kind(
        self, stage: Stage
    ) -> None:
        """The fingerprint is the same wherever the body ran."""
        record = stage.run(engine_app.raises.call("value"))
        again = stage.run(engine_app.raises.call("value"))

        letter, other = record.dead_letter, again.dead_letter
        assert letter is not None
        assert other is not None
        assert "no 7 for 'x'" == letter.error_message
        assert "raise ERRORS[kind]()" in letter.traceback
        assert letter.fingerprint == other.fingerprint


class Neighbours:
    """Tasks that run on the same worker while another goes wrong."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._ids = [
            stage.begin(engine_app.asleep.call(1.0)),
            stage.begin(engine_app.awaits_child.call(1.0)),
        ]

    def ended(self) -> list[TaskRecord]:
        """Wait for them; returns their records, which show no harm."""
        records = [self._stage.ended(each) for each in self._ids]
        assert [("COMPLETED", 0, 0)] * 2 == [
            (each.state, each.attempts, each.crashes) for each in records
        ]
        assert self._stage.process.poll() is None
        return records


EXITS = {"exit": "SystemExit", "interrupt": "KeyboardInterrupt"}


class TestLoop:
    """Whatever a task function does to the event loop, the others run on."""

    @pytest.mark.parametrize("kind", EXITS)
    @pytest.mark.parametrize("how", ["gather", "group", "forget", "swallow", "thread"])
    def test_an_exit_in_an_asyncio_task_ends_the_attempt_that_started_it(
        self, stage: Stage, how: str, kind: str
    ) -> None:
        """Even if the function doesn't wait for it, or goes on."""
        neighbours = Neighbours(stage)
        record = stage.run(engine_app.child.call(how, kind))

        assert ("DLQ", EXITS[kind]) == (record.state, record.error_type)
        assert (["dead"], 0) == (outcomes(record), record.crashes)
        assert record.dead_letter is not None
        assert "raise ERRORS[kind]()" in record.dead_letter.traceback
        assert [1, 1] == [each.deliveries for each in neighbours.ended()]

    @pytest.mark.parametrize("how", ["gather", "group"])
    def test_a_generator_exit_in_an_asyncio_task_is_an_error_like_others(
        self, stage: Stage, how: str
    ) -> None:
        """The function gets it where it waits."""
        neighbours = Neighbours(stage)
        record = stage.run(engine_app.child.call(how, "generator"))

        assert ("DLQ", "GeneratorExit") == (record.state, record.error_type)
        assert [1, 1] == [each.deliveries for each in neighbours.ended()]

    @pytest.mark.parametrize("what", ["stop", "exit", "interrupt"])
    def test_a_callback_that_ends_the_loop_harms_nobody(
        self, stage: Stage, what: str
    ) -> None:
        """It is logged, as other errors of callbacks are."""
        neighbours = Neighbours(stage)

        assert "returned" == stage.result(engine_app.callback.call(what))
        assert [1, 1] == [each.deliveries for each in neighbours.ended()]

    @pytest.mark.parametrize("kind", EXITS)
    def test_an_exit_after_the_function_has_returned_is_logged(
        self, stage: Stage, kind: str
    ) -> None:
        """With the task that started it; its result stands."""
        record = stage.run(engine_app.leaves_child.call(kind))
        # In a child of the pool, it goes on while the next coroutine runs there.
        nexts = [stage.begin(engine_app.asleep.call(0.5)) for _ in range(int(SLOTS))]

        assert {"COMPLETED"} == {str(stage.ended(each).state) for each in nexts}
        assert "COMPLETED" == record.state
        told = f"task 'leaves_child' ({record.id}) left running"
        wait_until(lambda: told in stage.said(stage.process))

    @pytest.mark.parametrize("how", ["all", "others", "wait"])
    def test_a_function_that_cancels_everything_harms_nobody_else(
        self, stage: Stage, how: str
    ) -> None:
        """It has failed; who lost an asyncio task to it runs again, unharmed."""
        neighbours = Neighbours(stage)
        record = stage.run(engine_app.cancels.call(how))
        neighbours.ended()

        if stage.engine == "celery" and how != "all":
            # Nothing else runs on the loop of a child.
            assert "COMPLETED" == record.state
            return
        wanted = "TimeoutError" if how == "wait" else "CancelledError"
        assert ("DLQ", wanted) == (record.state, record.error_type)
        assert (["dead"], 0) == (outcomes(record), record.crashes)


class TestLimits:
    """A body out of time has failed, and its slot is free."""

    def test_a_function_is_told_at_its_soft_limit(
        self, stage: Stage, tmp_path: Path
    ) -> None:
        """It may clean up; the attempt has failed."""
        record = stage.run(engine_app.soft.call(str(tmp_path / "trace")))

        assert ("DLQ", "TimeoutError") == (record.state, record.error_type)
        assert "cleaned" == (tmp_path / "trace").read_text("utf-8")

    def test_a_coroutine_is_cancelled_at_its_soft_limit(
        self, stage: Stage, tmp_path: Path
    ) -> None:
        """It may clean up; the attempt has failed."""
        record = stage.run(engine_app.asoft.call(str(tmp_path / "trace")))

        assert ("DLQ", "TimeoutError") == (record.state, record.error_type)
        assert "ran longer than its soft limit of 0.2 s" == record.error_message
        assert "cleaned" == (tmp_path / "trace").read_text("utf-8")

    @pytest.mark.parametrize(
        "call", [engine_app.ahard.call(), engine_app.hard.call(2.0)]
    )
    def test_a_body_is_ended_at_its_hard_limit(
        self, stage: Stage, call: Call[Any]
    ) -> None:
        """Whatever it does about being told."""
        record = stage.run(call)

        assert ("DLQ", "TimeoutError") == (record.state, record.error_type)
        assert "ran longer than its hard limit of 0.4 s" == record.error_message
        (entry,) = record.history
        # One of them would have ended by itself after 2 s.
        assert 0.4 <= entry.facts["seconds"] < 2.0

    @pytest.mark.timed
    def test_no_limit_is_left_when_only_reports_wait_for_the_server(
        self, stage: Stage
    ) -> None:
        """The body has ended in time, and its result stands."""
        task_id = stage.begin(engine_app.late_report.call(0.4))
        stage.freeze_server()
        time.sleep(1.5)
        stage.thaw_server()
        record = stage.ended(task_id)

        assert ("COMPLETED", 1, 0) == (record.state, record.deliveries, record.crashes)
        assert record.progress is not None

    def test_a_hard_limit_follows_the_policy(self, stage: Stage) -> None:
        """It is a failed attempt, and another may follow."""
        assert 2 == stage.result(engine_app.hard_again.call())


class TestCancel:
    """Somebody stops a task."""

    def test_a_coroutine_stops_at_once(self, stage: Stage) -> None:
        """It is cancelled, and uses no attempt."""
        task_id = stage.begin(engine_app.asleep.call(60.0))

        assert not stage.flow.tasks.cancel(task_id)
        record = stage.ended(task_id)
        assert ("CANCELLED", 0) == (record.state, record.attempts)

    @pytest.mark.parametrize(
        ("answer", "state"), [("", "CANCELLED"), ("done", "COMPLETED")]
    )
    def test_a_function_that_looks_stops(
        self, stage: Stage, answer: str, state: str
    ) -> None:
        """A result that it returns all the same wins."""
        task_id = stage.begin(engine_app.looks.call(answer))
        wait_until(lambda: stage.flow.tasks.get(task_id).annotations)

        stage.flow.tasks.cancel(task_id)

        assert state == stage.ended(task_id).state

    def test_a_task_that_waits_in_hand_stops(self, stage: Stage) -> None:
        """Its body never begins, or is cancelled as it begins."""
        busy = [stage.begin(engine_app.asleep.call(1.0)) for _ in range(4)]
        waiting = [stage.flow.enqueue(engine_app.asleep.call(60.0)).id for _ in busy]
        for task_id in waiting:
            stage.flow.tasks.cancel(task_id)

        assert {"CANCELLED"} == {str(stage.ended(each).state) for each in waiting}
        assert {"COMPLETED"} == {str(stage.ended(each).state) for each in busy}


class TestContext:
    """What a body reports is stored before the task is settled."""

    def test_a_function_reports(self, stage: Stage) -> None:
        """Usage is summed over attempts; a checkpoint is found by the next."""
        call = engine_app.reports.call()
        record = stage.run(call)

        assert {
            "checkpoint": {"at": 1},
            "attempt": 2,
            "deliveries": 2,
            "retries": 2,
            "left": True,
            "tick": None,
        } == json.loads(record.result or b"")
        assert {"done": 3, "total": 4, "message": "nearly"} == record.progress
        assert {"tokens": 4, "cost": 1.0} == record.usage
        assert {"model": "m", "parts": [1, 2]} == record.annotations
        news = stage.flow.tasks.news(record.id)
        chunks = [chunk.text for chunk in news.chunks]
        assert [
            f"{attempt}-{each}" for attempt in (1, 2) for each in range(3)
        ] == chunks
        wait_until(lambda: "said by the body" in stage.said(stage.process))

    def test_a_coroutine_saves(self, stage: Stage) -> None:
        """And is told that it must not wait as a function does."""
        found = stage.result(engine_app.areports.call())

        assert {"said": "a coroutine saves with: await ctx.asave(...)"} == found

    @pytest.mark.parametrize("task", [engine_app.enqueues, engine_app.aenqueues])
    def test_a_body_enqueues(self, stage: Stage, task: Any) -> None:
        """And waits for what it enqueued, in another slot."""
        child_id, result = stage.result(task.call(41))

        assert 42 == result
        assert "COMPLETED" == stage.flow.tasks.get(child_id).state


class TestSurroundings:
    """What a body finds around it."""

    @pytest.mark.parametrize("task", [engine_app.leaks, engine_app.aleaks])
    def test_a_variable_of_one_task_is_not_seen_by_another(
        self, stage: Stage, task: Any
    ) -> None:
        """Each body has a context of its own."""
        found = [stage.result(task.call()) for _ in range(8)]

        assert {"clean"} == set(found)

    def test_coroutines_of_a_process_share_one_loop(self, stage: Stage) -> None:
        """So what belongs to a loop can be kept for the next task."""
        found = [stage.result(engine_app.shares.call()) for _ in range(12)]

        processes = {pid for pid, _, _ in found}
        assert processes == {pid for pid, _, uses in found if uses}
        assert len(processes) == len({(pid, loop) for pid, loop, _ in found})

    @pytest.mark.parametrize("task", [engine_app.guarded, engine_app.aguarded])
    def test_a_body_calls_in_a_guard(self, stage: Stage, task: Any) -> None:
        """Which uses what its claim has paid for."""
        assert "called" == stage.result(task.call())
        status = stage.flow.upstreams.get("limited")
        assert (0, "closed") == (status.running, status.state)

    @pytest.mark.parametrize(
        ("task", "upstream"),
        [
            (engine_app.fails_upstream, "flaky"),
            (engine_app.fails_in_group, "flaky_in_groups"),
        ],
        ids=["error", "group"],
    )
    def test_failures_of_bodies_open_a_breaker(
        self, stage: Stage, task: Any, upstream: str
    ) -> None:
        """And what comes later is parked, with no attempt used."""
        for _ in range(2):
            stage.run(task.call())
        assert "closed" == stage.flow.upstreams.get(upstream).state
        stage.run(task.call())
        wait_until(lambda: stage.flow.upstreams.get(upstream).state == "open")

        task_id = stage.flow.enqueue(task.call()).id
        wait_until(lambda: stage.flow.tasks.get(task_id).parked_for == upstream)
        assert 0 == stage.flow.tasks.get(task_id).attempts


def test_events_are_told_by_the_worker(stage: Stage) -> None:
    """Wherever the body ran: one line for a start of it, none lost."""
    record = stage.run(engine_app.raises.call("value"))

    lines = [
        json.loads(line)
        for line in stage.said(stage.process).splitlines()
        if line.startswith("{")
    ]
    told = [line for line in lines if line.get("id") == record.id]
    assert ["task dead lettered"] == [line["event"] for line in told]
    assert {"worker started"} <= {line["event"] for line in lines}
    assert os.getpid() != stage.process.pid
