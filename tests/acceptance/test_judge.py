"""The judge of the chaos tests sees what processes do, and fails where it should."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskflow._protocol.upkeep import reap
from tests.support import chaos_app
from tests.support.chaos import ChaosDeployment
from tests.support.process_monitor import ProcessMonitor
from tests.support.processes import LEASE, wait_until

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="only there a monitor sees processes"
)


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[ChaosDeployment]:
    """Give a server with a worker."""
    made = ChaosDeployment(tmp_path)
    made.play("--executor", "asyncio")
    wait_until(lambda: made.alive() == 1)
    yield made
    made.close()


def test_a_lease_that_is_taken_from_a_living_worker_fails_the_judge(
    deployment: ChaosDeployment,
) -> None:
    """Its worker ran on: nobody had a reason to take it."""
    deployment.enqueue([chaos_app.aworks.call(1.0)])
    wait_until(lambda: deployment.lines("start"))
    keys, later = (
        deployment.flow.connection.keys,
        round((time.time() + 2 * LEASE) * 1000),
    )

    deployment.flow.connection.runner.send(reap(keys, max_crashes=3, now_ms=later))

    deployment.settle_down(30.0)
    with pytest.raises(AssertionError, match=r"lived|less than its lease"):
        deployment.judge(clock_was_set=True)


def test_a_second_settle_fails_the_judge(deployment: ChaosDeployment) -> None:
    """Though the record looks as after one."""
    deployment.enqueue([chaos_app.works.call(0.0)])
    deployment.settle_down(30.0)
    assert 1 == deployment.judge()["settled"]
    (task_id,) = deployment.acknowledged

    deployment.client.hset(
        f"task:{task_id}", mapping={"state": "COMPLETED", "result": 1}
    )

    with pytest.raises(AssertionError, match="from COMPLETED to COMPLETED"):
        deployment.judge()


def test_the_monitor_sees_who_stands_still_and_who_has_ended() -> None:
    """Of a process and of what it starts."""
    program = "import subprocess; subprocess.run(['sleep', '60'])"
    process = subprocess.Popen([sys.executable, "-c", program])
    monitor = ProcessMonitor(lambda: True)
    monitor.know(process.pid, LEASE)
    monitor.start()
    try:
        wait_until(lambda: len(monitor.lives) == 2)
        (child,) = monitor.lives.keys() - {process.pid}
        life, lived = monitor.lives[process.pid], monitor.lives[child]
        assert (process.pid, LEASE) == (lived.parent, lived.lease)
        before = life.away.copy()
        os.kill(process.pid, signal.SIGSTOP)
        wait_until(lambda: len(life.away) > len(before) + 2)
        os.kill(child, signal.SIGKILL)
        wait_until(lambda: lived.ended < time.time())
        process.kill()
        wait_until(lambda: life.ended < time.time())
    finally:
        process.kill()
        process.wait()
        monitor.stop()
