"""A body that holds the interpreter's lock in C code, for three leases.

No thread of its process runs meanwhile, the one that renews leases neither.
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

pytestmark = pytest.mark.timeout(120)


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


@pytest.mark.deep
@pytest.mark.skipif(sys.platform != "linux", reason="no memory is shared elsewhere")
def test_under_a_supervisor_it_runs_once(deployment: ChaosDeployment) -> None:
    """The supervisor renews what its worker holds, and says so."""
    assert (1, 1, 0) == figures(deployment, (*ASYNCIO, "--processes", "2"), count=2)
    (player,) = deployment.players
    assert "a body holds the interpreter" in deployment.said(player.process)


@pytest.mark.deep
@pytest.mark.skipif(sys.platform != "linux", reason="no memory is shared elsewhere")
def test_a_stopped_worker_loses_its_tasks_all_the_same(
    deployment: ChaosDeployment,
) -> None:
    """Its supervisor does not stand in for one that does not work."""
    player = deployment.play(*ASYNCIO, "--processes", "2", TASKFLOW_LEASE="1")
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
    assert "a body holds the interpreter" not in deployment.said(player.process)


def test_in_the_only_worker_it_runs_once(deployment: ChaosDeployment) -> None:
    """Nobody is there to take the task, and the lease is renewed when it goes on."""
    assert (1, 1, 0) == figures(deployment, ASYNCIO)


@pytest.mark.deep
def test_beside_another_worker_it_is_taken_for_dead(
    deployment: ChaosDeployment,
) -> None:
    """Its lease ends, the other runs the task, and its own late result is refused."""
    assert (1, 2, 1) == figures(deployment, ASYNCIO, ASYNCIO)
    wait_until(
        lambda: any(
            "lease lost" in deployment.said(each.process)
            and "loop blocked" in deployment.said(each.process)
            for each in deployment.players
        )
    )
