"""The Celery engine: whatever becomes of a child, its task has an outcome.

And the pool is whole again, and nobody else is hurt: with real processes, on a real
server, all of it within a second.
"""

import json
import os
import select
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("celery")
if not hasattr(select, "epoll"):
    pytest.skip("the Celery engine needs Linux", allow_module_level=True)

from taskflow import Call, TaskRecord, TaskState
from tests.support import celery_app, process_monitor
from tests.support.machine import check_within
from tests.support.processes import Deployment, lives, wait_until

SLOTS = 4
FINAL = {"COMPLETED", "DLQ", "FAILED", "CANCELLED"}


class Stage(Deployment):
    """Workers with the Celery engine, and what comes of their tasks."""

    def __init__(self, folder: Path) -> None:
        app = Path(celery_app.__file__).read_text(encoding="utf-8")
        super().__init__(folder, app, celery_app.registry)

    def engine(self, slots: int = SLOTS, **environment: str) -> Any:
        """Start a worker and wait until it works."""
        process = self.worker(
            *("--executor", "celery", "--concurrency", str(slots)), **environment
        )
        wait_until(lambda: "worker started" in self.said(process))
        return process

    def record(self, task_id: str) -> TaskRecord:
        """Read a task."""
        return self.flow.tasks.get(task_id)

    def begin(self, call: Call[Any]) -> str:
        """Store *call*; returns the task's id once it is handed out."""
        task_id = self.flow.enqueue(call).id
        wait_until(lambda: self.record(task_id).state == TaskState.ACTIVE)
        return task_id

    def ended(self, task_id: str) -> TaskRecord:
        """Wait until the task has ended; returns its record."""
        wait_until(lambda: self.record(task_id).state in FINAL)
        return self.record(task_id)

    def result(self, call: Call[Any]) -> Any:
        """Run *call*, which completes; returns its result as JSON has it."""
        record = self.ended(self.flow.enqueue(call).id)
        assert "COMPLETED" == record.state, record
        return json.loads(record.result or b"null")


def children(process: "subprocess.Popen[bytes]") -> list[int]:
    """List the living processes of the pool of *process*."""
    return [pid for pid in process_monitor.children(process.pid) if lives(pid)]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Give a server; the tests of this module share it."""
    deployment = Stage(tmp_path_factory.mktemp("celery"))
    yield deployment
    deployment.close()


@pytest.fixture(scope="class")
def pool(stage: Stage) -> Iterator[Any]:
    """Give a worker that the tests of a class share."""
    process = stage.engine()
    yield process
    process.send_signal(signal.SIGTERM)
    process.wait(20)


class TestChildren:
    """A child that dies is an outcome and no loss."""

    @pytest.mark.timed
    @pytest.mark.parametrize("way", ["exit", "segfault", "kill", "terminate"])
    def test_a_task_whose_process_died_runs_again_within_a_second(
        self, stage: Stage, pool: Any, way: str
    ) -> None:
        """It has used no attempt, its neighbours feel nothing, the pool is whole."""
        neighbours = [stage.begin(celery_app.naps.call(1.0)) for _ in range(3)]
        began = time.monotonic()

        attempt, deliveries = stage.result(celery_app.dies_once.call(way))

        check_within(time.monotonic() - began, 1.0)
        assert (1, 2) == (attempt, deliveries)
        for each in neighbours:
            _, attempt, deliveries = json.loads(stage.ended(each).result or b"")
            assert (1, 1) == (attempt, deliveries)
        wait_until(lambda: len(children(pool)) == SLOTS, 20.0)

    def test_a_child_out_of_memory_fails_its_task_or_dies_of_it(
        self, stage: Stage, pool: Any
    ) -> None:
        """A MemoryError is an error like any other."""
        record = stage.ended(stage.flow.enqueue(celery_app.dies_once.call("memory")).id)

        assert ("DLQ", "MemoryError") == (record.state, record.error_type)
        assert SLOTS == len(children(pool))

    def test_a_task_that_always_kills_is_poison(self, stage: Stage, pool: Any) -> None:
        """After the third time; and no other task is taken for it."""
        pill = stage.flow.enqueue(celery_app.pill.call()).id
        others = [stage.flow.enqueue(celery_app.quick.call(x)).id for x in range(40)]

        record = stage.ended(pill)
        assert ("DLQ", 3, 0) == (record.state, record.crashes, record.attempts)
        assert record.dead_letter is not None
        assert "poison" == record.dead_letter.cause
        assert "exitcode 1" in record.error_message
        assert ["crash"] * 3 == [entry.outcome for entry in record.history]
        for each in others:
            assert ("COMPLETED", 0) == (
                stage.ended(each).state,
                stage.record(each).crashes,
            )

    def test_children_killed_while_idle_are_replaced(
        self, stage: Stage, pool: Any
    ) -> None:
        """And the next tasks wait for nobody."""
        before = children(pool)
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: len(set(children(pool)) - set(before)) == SLOTS, 30.0)

        assert 7 == stage.result(celery_app.quick.call(7))


class TestForks:
    """A machine that has no room for another process for a while."""

    @pytest.mark.deep
    @pytest.mark.parametrize("error", ["EAGAIN", "ENOMEM"])
    def test_a_child_that_cannot_be_started_is_started_later(
        self, stage: Stage, tmp_path: Path, error: str
    ) -> None:
        """Its task has an outcome all the same, and no slot is lost."""
        flag = tmp_path / "flag"
        served = stage.engine(STARTS_FAIL=str(flag))
        for _ in range(2):
            before = children(served)
            flag.write_text(f"{error} 3", "utf-8")
            ids = [
                stage.flow.enqueue(celery_app.dies_once.call("kill")).id
                for _ in range(SLOTS)
            ]
            records = [stage.ended(each) for each in ids]

            assert {("COMPLETED", 1)} == {
                (str(each.state), each.crashes) for each in records
            }
            wait_until(lambda: len(children(served)) == SLOTS, 30.0)
            assert set(before).isdisjoint(children(served))
        end(served)

    @pytest.mark.deep
    def test_a_worker_that_can_start_no_child_hands_back_and_fails(
        self, stage: Stage, tmp_path: Path
    ) -> None:
        """Whoever keeps it running starts it again; others take its tasks."""
        flag = tmp_path / "flag"
        served = stage.engine(2, STARTS_FAIL=str(flag))
        hangs = stage.begin(celery_app.hangs.call(60.0))
        time.sleep(0.2)
        flag.write_text("EAGAIN 1000000", "utf-8")
        dies = stage.begin(celery_app.dies_once.call("kill"))

        assert served.wait(10) not in {0, -signal.SIGKILL}
        for each, crashes in ((hangs, 0), (dies, 1)):
            record = stage.record(each)
            assert ("PENDING", crashes) == (str(record.state), record.crashes)
            assert 0 == record.attempts
        clear(stage, [hangs, dies])


class TestLimits:
    """A body that does not listen is ended."""

    @pytest.mark.timed
    def test_a_function_that_hangs_is_dead_soon_after_its_hard_limit(
        self, stage: Stage, pool: Any
    ) -> None:
        """A sleep of a minute under a limit of 1 s is over by 1.5 s."""
        for call in (celery_app.limited.call(), celery_app.deaf.call()):
            task_id = stage.begin(call)
            began = time.monotonic()
            record = stage.ended(task_id)

            took = time.monotonic() - began
            assert 0.9 < took
            check_within(took, 1.5)
            assert ("DLQ", "TimeoutError") == (record.state, record.error_type)
            assert 0 == record.crashes
            wait_until(lambda: len(children(pool)) == SLOTS, 20.0)

    def test_a_soft_limit_is_raised_in_a_function_as_celery_raises_it(
        self, stage: Stage, pool: Any
    ) -> None:
        """So that a task which was written for Celery saves what it has."""
        assert "half" == stage.result(celery_app.heeds.call())

    @pytest.mark.timed
    def test_a_function_that_is_cancelled_stops_at_once(
        self, stage: Stage, pool: Any
    ) -> None:
        """Even where it looks at nothing."""
        task_id = stage.begin(celery_app.hangs.call(60.0))
        time.sleep(0.2)
        began = time.monotonic()
        stage.flow.tasks.cancel(task_id)

        assert "CANCELLED" == stage.ended(task_id).state
        check_within(time.monotonic() - began, 1.0)


class TestPool:
    """How many tasks are in hand, and for how long a child lives."""

    @pytest.mark.deep
    @pytest.mark.parametrize("multiplier", [1, 2])
    def test_no_more_is_in_hand_than_was_asked_for(
        self, stage: Stage, multiplier: int
    ) -> None:
        """Slots times the multiplier; with both lanes full, retries have their share."""
        flow = stage.flow
        call = celery_app.naps.call(0.02)
        self.warm_up(stage)
        later = celery_app.naps.options(delay=3600).call(0.02)
        again = [flow.enqueue(later).id for _ in range(60)]
        for each in again:
            flow.tasks.cancel(each)
            flow.tasks.retry(each)
        new = [flow.enqueue(call).id for _ in range(120)]
        served = stage.engine(WORKER_PREFETCH_MULTIPLIER=str(multiplier))
        most = 0
        while flow.queues.status().states[TaskState.PENDING]:
            most = max(most, flow.queues.status().states[TaskState.ACTIVE])
        records = [stage.ended(each) for each in [*again, *new]]
        end(served)

        assert SLOTS * multiplier - 1 <= most <= SLOTS * multiplier
        started = sorted(each.started_at for each in records if each.started_at)
        first = {each.id for each in records if each.started_at in set(started[:100])}
        share = len(first & set(again)) / len(first)
        assert 0.28 <= share <= 0.32

    def warm_up(self, stage: Stage) -> None:
        """Let the server hold all scripts.

        The first settling finds it has none, and comes a moment after the claim
        that it was sent with.
        """
        first = stage.engine(1)
        stage.result(celery_app.quick.call(1))
        end(first)

    @pytest.mark.timed
    def test_a_child_is_replaced_after_its_tasks(self, stage: Stage) -> None:
        """None runs more than it may, and no task waits long for a new one."""
        served = stage.engine(2, WORKER_MAX_TASKS_PER_CHILD="3")
        ids = [stage.flow.enqueue(celery_app.naps.call(0.0)).id for _ in range(24)]
        records = [stage.ended(each) for each in ids]

        runs = Counter(json.loads(record.result or b"")[0] for record in records)
        assert max(runs.values()) <= 3
        assert {(1, 1)} == {
            tuple(json.loads(each.result or b"")[1:]) for each in records
        }
        ends = sorted(each.finished_at for each in records if each.finished_at)
        gaps = [(after - before).total_seconds() for before, after in pairwise(ends)]
        check_within(max(gaps), 0.5)
        end(served)

    @pytest.mark.deep
    def test_a_child_that_leaks_is_replaced_at_its_bound(self, stage: Stage) -> None:
        """After the task at which it went above it."""
        served = stage.engine(1, WORKER_MAX_MEMORY_PER_CHILD="150000")
        pids = [stage.result(celery_app.leaks.call(40)) for _ in range(8)]

        assert 1 < len(set(pids))
        assert max(Counter(pids).values()) < 5
        end(served)

    @pytest.mark.timed
    def test_a_task_that_hangs_does_not_hold_those_in_its_message(
        self, stage: Stage, tmp_path: Path
    ) -> None:
        """What shares a message with it is taken back and runs elsewhere."""
        flag = tmp_path / "flag"
        served = stage.engine(2, WORKER_PREFETCH_MULTIPLIER="20")
        ids = [
            stage.flow.enqueue(celery_app.sticky.call(str(flag))).id for _ in range(60)
        ]
        for each in ids:
            stage.ended(each)
        stage.flow.queues.pause("primary")
        flag.touch()
        sticky = stage.flow.enqueue(celery_app.sticky.call(str(flag))).id
        none = str(tmp_path / "none")
        ids = [stage.flow.enqueue(celery_app.sticky.call(none)).id for _ in range(30)]
        stage.flow.queues.resume("primary")
        began = time.monotonic()
        records = [stage.ended(each) for each in ids]

        check_within(time.monotonic() - began, 2.0)
        assert TaskState.ACTIVE == stage.record(sticky).state
        assert {(0, 1)} == {(each.crashes, each.deliveries) for each in records}
        flag.unlink()
        assert "COMPLETED" == stage.ended(sticky).state
        end(served)


def end(process: Any, signum: int = signal.SIGTERM) -> float:
    """Stop a worker; returns the seconds that it took."""
    began = time.monotonic()
    process.send_signal(signum)
    assert 0 == process.wait(20)
    return time.monotonic() - began


class TestShutdown:
    """Warm, soft and cold: nothing in hand is lost."""

    def test_a_warm_shutdown_finishes_what_runs_and_hands_back_what_waits(
        self, stage: Stage
    ) -> None:
        """Nothing has used an attempt, nothing has run twice."""
        served = stage.engine(2, WORKER_PREFETCH_MULTIPLIER="4")
        ids = [stage.flow.enqueue(celery_app.naps.call(1.0)).id for _ in range(8)]
        wait_until(lambda: stage.count(TaskState.ACTIVE) == 8)
        end(served)

        states = Counter(str(stage.record(each).state) for each in ids)
        assert {"COMPLETED": 2, "PENDING": 6} == states
        clear(stage, ids)

    @pytest.mark.timed
    @pytest.mark.parametrize("way", ["grace", "again", "cold"])
    def test_what_does_not_end_in_time_is_killed_and_handed_back(
        self, stage: Stage, way: str
    ) -> None:
        """Within the grace, at the second signal, or at once for SIGQUIT."""
        grace = "2" if way == "grace" else "30"
        served = stage.engine(2, WORKER_STOP_GRACE_PERIOD=grace)
        task_id = stage.begin(celery_app.hangs.call(60.0))
        time.sleep(0.3)
        began = time.monotonic()
        served.send_signal(signal.SIGQUIT if way == "cold" else signal.SIGTERM)
        if way == "again":
            time.sleep(0.2)
            served.send_signal(signal.SIGTERM)
        wait_until(lambda: stage.record(task_id).state == TaskState.PENDING, 20.0)
        check_within(time.monotonic() - began, 2.0 if way == "grace" else 1.0)
        assert 0 == served.wait(10)

        record = stage.record(task_id)
        assert (0, 0, 1) == (record.attempts, record.crashes, record.deliveries)
        clear(stage, [task_id])

    @pytest.mark.timed
    def test_children_die_with_their_worker(self, stage: Stage) -> None:
        """And its tasks start again on another within a lease and a second."""
        served = stage.engine(2)
        task_id = stage.begin(celery_app.naps.call(0.5))
        pids = children(served)
        served.kill()
        served.wait()
        wait_until(lambda: not any(map(lives, pids)), 20.0)

        other = stage.engine(2)
        began = time.monotonic()
        assert "COMPLETED" == stage.ended(task_id).state
        check_within(time.monotonic() - began, 3.0 + 1.0 + 0.5 + 0.5)
        assert 1 == stage.record(task_id).crashes
        end(other)


def clear(stage: Stage, ids: list[str]) -> None:
    """Let no later test meet these tasks."""
    for each in ids:
        stage.flow.tasks.delete(each)
