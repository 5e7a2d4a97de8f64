"""Children and workers are killed at random while they work: nothing is lost.

``TASKFLOW_KILLS=200`` kills 200 children and 20 workers under 2,000 tasks, and another
200 children one by one; without it a tenth of that. ``TASKFLOW_SEED`` repeats a run's
choices.
"""

import os
import random
import select
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("celery")
if not hasattr(select, "epoll"):
    pytest.skip("the Celery engine needs Linux", allow_module_level=True)

from taskflow import TaskState
from tests.support import chaos_app
from tests.support.chaos import ChaosDeployment
from tests.support.process_monitor import children
from tests.support.processes import wait_until

pytestmark = pytest.mark.deep

KILLS = int(os.environ.get("TASKFLOW_KILLS", "20"))
SEED = int(os.environ.get("TASKFLOW_SEED", "0")) or random.randrange(1, 10**6)
FINAL = {TaskState.COMPLETED, TaskState.DLQ}


def story(deployment: ChaosDeployment, record: Any) -> str:
    """Tell which process began and ended a task when, and what its record says."""
    lines = deployment.log.read_text("utf-8").splitlines()
    ran = [line for line in lines if line.split()[1] == record.id]
    return "\n".join([*ran, *map(str, record.history), f"{record}"])


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[ChaosDeployment]:
    """Give a server, and nobody who works yet."""
    made = ChaosDeployment(tmp_path, SEED)
    yield made
    made.close()


@pytest.mark.timeout(300 + 3 * KILLS)
def test_the_task_of_a_killed_child_starts_again_within_a_second(
    deployment: ChaosDeployment,
) -> None:
    """No lease has to end first: the worker hears of it, and settles a crash.

    The pool is whole before each kill, so that there is a child to start it on.
    """
    print("seed", SEED)  # noqa: T201 - repeats the run
    player = deployment.play("--executor", "celery", "--concurrency", "4")
    wait_until(lambda: deployment.alive() == 1)
    kills: list[tuple[int, float]] = []

    def has_begun(pid: int) -> bool:
        if deployment.backlog() < 50:
            bodies = deployment.rng.choices((chaos_app.works, chaos_app.aworks), k=50)
            deployment.enqueue(
                [each.call(deployment.rng.uniform(0.05, 0.2)) for each in bodies]
            )
        return deployment.has_begun(pid)

    def living() -> list[int]:
        # Who was just killed may stand among them a moment longer.
        return [*{*player.children()} - {pid for pid, _ in kills}]

    for _ in range(KILLS):
        wait_until(lambda: len(living()) == 4)
        pid = deployment.rng.choice(living())
        wait_until(lambda pid=pid: has_begun(pid))
        time.sleep(deployment.rng.uniform(0.0, 0.2))
        os.kill(pid, signal.SIGKILL)
        kills.append((pid, time.time()))

    deployment.settle_down(120.0)

    figures = deployment.judge()
    waits = sorted(deployment.restarts(kills))
    print(  # noqa: T201 - for the docs
        *(
            len(deployment.acknowledged),
            figures,
            "kills",
            len(kills),
            "again",
            len(waits),
        ),
        f"p50 {waits[len(waits) // 2]:.2f} s, longest {waits[-1]:.2f} s",
        f"late {sum(each > 1.0 for each in waits)}",
    )
    assert waits
    assert waits[len(waits) * 95 // 100] <= 1.0
    assert waits[-1] <= 3.0  # a busy machine starts a few of them later


@pytest.mark.timeout(900)
def test_kills_at_random_lose_nothing_and_settle_nothing_twice(
    deployment: ChaosDeployment,
) -> None:
    """Every task has exactly one end, and only a crash repeats a body."""
    rng = random.Random(SEED)
    print("seed", SEED)  # noqa: T201 - repeats the run
    flow = deployment.flow

    def start() -> Any:
        return deployment.worker(
            *("--executor", "celery", "--concurrency", "4", "--log-level", "ERROR"),
            WORKER_PREFETCH_MULTIPLIER="3",
        )

    workers = [start(), start()]
    kinds = (chaos_app.works, chaos_app.aworks)
    calls = [rng.choice(kinds).call(rng.uniform(0.0, 0.2)) for _ in range(KILLS * 10)]
    deployment.acknowledged += [handle.id for handle in flow.enqueue_many(calls)]
    killed = Counter[str]()
    while killed["child"] < KILLS or killed["worker"] < KILLS // 10:
        if not flow.queues.status().states[TaskState.PENDING]:
            more = [rng.choice(kinds).call(0.05) for _ in range(50)]
            deployment.acknowledged += [handle.id for handle in flow.enqueue_many(more)]
        place = rng.randrange(2)
        pids = children(workers[place].pid)
        if rng.random() < 0.1 and killed["worker"] < KILLS // 10:
            workers[place].kill()
            workers[place].wait()
            workers[place] = start()
            killed["worker"] += 1
        elif pids and killed["child"] < KILLS:
            os.kill(rng.choice(pids), signal.SIGKILL)
            killed["child"] += 1
        time.sleep(rng.uniform(0.0, 0.1))

    wait_until(
        lambda: (
            not any(
                flow.queues.status().states[state]
                for state in (TaskState.PENDING, TaskState.ACTIVE, TaskState.SCHEDULED)
            )
        ),
        300.0,
    )
    records = [flow.tasks.get(each) for each in deployment.acknowledged]
    begun, ended = Counter[str](), Counter[str]()
    for name, counter in (("start", begun), ("end", ended)):
        counter.update(task_id for task_id, _, _ in deployment.lines(name))
    for record in records:
        crashes = [line for line in record.history if line.outcome == "crash"]
        assert record.state in FINAL
        assert record.attempts == 0
        assert record.crashes == len(crashes)
        assert record.deliveries <= 1 + len(crashes) + killed["worker"]
        # A body that began was ended, or died: nothing else repeats one.
        assert begun[record.id] <= 1 + len(crashes), story(deployment, record)
        if record.state == TaskState.COMPLETED:
            assert ended[record.id] >= 1
            assert record.result == str(record.deliveries).encode()
        else:
            assert len(crashes) == 3
    states = Counter(str(record.state) for record in records)
    crashes = sum(each.crashes for each in records)
    # Also: each crash was that of a process that died, and no hand-out was settled twice.
    deployment.judge()
    print(dict(states), dict(killed), "crashes", crashes)  # noqa: T201 - for the docs
    assert not [found for found in flow.doctor() if found.severity == "error"]
