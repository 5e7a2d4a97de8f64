"""Task functions that keep the heartbeat thread from the interpreter.

One call of C code holds the interpreter lock for three leases, or a hundred threads
share it. The standby process of the worker renews the leases meanwhile.
"""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import chaos_app
from tests.support.chaos import ChaosDeployment
from tests.support.processes import wait_until

SECONDS = 3
ASYNCIO = ("--executor", "asyncio")
CELERY = ("--executor", "celery", "--concurrency", "1")

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(sys.platform != "linux", reason="no standby process elsewhere"),
]


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[ChaosDeployment]:
    """Give a server, and nobody who works yet."""
    made = ChaosDeployment(tmp_path)
    yield made
    made.close()


def figures(
    deployment: ChaosDeployment, *workers: tuple[str, ...], count: int = 0
) -> tuple[int, int, int]:
    """Run the body on *workers*, *count* processes; count ends, runs and crashes."""
    for arguments in workers:
        deployment.play(*arguments, TASKFLOW_LEASE="1")
    wait_until(lambda: deployment.alive() == (count or len(workers)))
    deployment.enqueue([chaos_app.seizes.call(SECONDS)])
    deployment.settle_down(60.0)
    for row in deployment.rows("start"):
        if row[2] == "1":  # from outside nobody sees that its threads stand still
            deployment.monitor.excuse(
                int(row[4]), float(row[3]), float(row[3]) + SECONDS
            )
    found = deployment.judge()
    return found["COMPLETED"], found["runs"], found["crashes"]


@pytest.mark.deep
def test_in_a_child_of_a_pool_it_runs_once(deployment: ChaosDeployment) -> None:
    """The leases are kept by the worker, which is another process."""
    pytest.importorskip("celery")

    assert (1, 1, 0) == figures(deployment, CELERY, CELERY)


@pytest.mark.parametrize(
    ("workers", "count"),
    [
        pytest.param((ASYNCIO,), 1, id="alone", marks=pytest.mark.deep),
        pytest.param((ASYNCIO, ASYNCIO), 2, id="beside-another"),
        pytest.param(
            ((*ASYNCIO, "--processes", "2"),),
            2,
            id="under-a-supervisor",
            marks=pytest.mark.deep,
        ),
    ],
)
def test_a_function_that_holds_the_lock_runs_once(
    deployment: ChaosDeployment, workers: tuple[tuple[str, ...], ...], count: int
) -> None:
    """The worker says afterwards who has renewed its lease."""
    assert (1, 1, 0) == figures(deployment, *workers, count=count)
    wait_until(
        lambda: any(
            "the standby process renewed the leases" in deployment.said(each.process)
            for each in deployment.players
        )
    )


@pytest.mark.deep
def test_a_hundred_functions_that_compute_run_once(
    deployment: ChaosDeployment,
) -> None:
    """Each waits its turn for the interpreter, and so does the heartbeat thread.

    A second worker, which has the time to, would take back what the first loses.
    """
    for slots in ("150", "1"):
        deployment.play(*ASYNCIO, "--concurrency", slots, TASKFLOW_LEASE="2")
    wait_until(lambda: deployment.alive() == 2)
    deployment.enqueue([chaos_app.burns.call(8.0) for _ in range(150)])
    deployment.settle_down(90.0)
    found = deployment.judge()

    assert (150, 150, 0) == (found["COMPLETED"], found["runs"], found["crashes"])


@pytest.mark.deep
def test_a_function_that_never_gives_the_lock_back_runs_elsewhere(
    deployment: ChaosDeployment,
) -> None:
    """Its lease is renewed until one lease after its hard limit, and no longer."""
    for _ in range(2):
        deployment.play(*ASYNCIO, TASKFLOW_LEASE="1")
    wait_until(lambda: deployment.alive() == 2)
    deployment.enqueue([chaos_app.seizes.options(timeout=2.0).call(30)])
    wait_until(lambda: len(deployment.lines("start")) == 2)
    first, second = deployment.rows("start")
    assert float(second[3]) - float(first[3]) > 2.0
    wait_until(lambda: deployment.lines("end"))
    deployment.monitor.excuse(int(first[4]), float(first[3]), float(first[3]) + 30)
    (holder,) = [each for each in deployment.players if each.pid == int(first[4])]
    holder.kill()
    deployment.settle_down(30.0)
    found = deployment.judge()

    assert (1, 2, 1) == (found["COMPLETED"], found["runs"], found["crashes"])


@pytest.mark.deep
@pytest.mark.parametrize("processes", ["1", "2"], ids=["two", "supervised"])
def test_a_stopped_worker_loses_its_tasks_all_the_same(
    deployment: ChaosDeployment, processes: str
) -> None:
    """Its standby process renews nothing for one that does not run."""
    for _ in range(2 // int(processes)):
        deployment.play(*ASYNCIO, "--processes", processes, TASKFLOW_LEASE="1")
    wait_until(lambda: deployment.alive() == 2)
    deployment.enqueue([chaos_app.aworks.call(2.0)])
    wait_until(lambda: deployment.lines("start"))
    (row,) = [
        line.split() for line in deployment.log.read_text("utf-8").splitlines() if line
    ]
    os.kill(int(row[4]), signal.SIGSTOP)
    wait_until(lambda: len(deployment.lines("start")) == 2)
    wait_until(lambda: len(deployment.lines("end")) == 1)
    os.kill(int(row[4]), signal.SIGCONT)
    deployment.settle_down(30.0)
    found = deployment.judge()

    assert (1, 2, 1) == (found["COMPLETED"], found["runs"], found["crashes"])
