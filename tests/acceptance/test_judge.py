"""The judge of the chaos tests sees what processes do, and fails where it should."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import chaos_app
from arena import Arena
from taskflow._protocol.upkeep import reap
from theatre import LEASE, wait_until
from witness import Witness

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="only there a witness sees processes"
)


@pytest.fixture
def arena(tmp_path: Path) -> Iterator[Arena]:
    """Give a server with a worker."""
    made = Arena(tmp_path)
    made.play("--executor", "asyncio")
    wait_until(lambda: made.alive() == 1)
    yield made
    made.close()


def test_a_lease_that_is_taken_from_a_living_worker_fails_the_judge(
    arena: Arena,
) -> None:
    """Its worker ran on: nobody had a reason to take it."""
    arena.enqueue([chaos_app.aworks.call(1.0)])
    wait_until(lambda: arena.lines("start"))
    keys, later = arena.flow.connection.keys, round((time.time() + 2 * LEASE) * 1000)

    arena.flow.connection.runner.send(reap(keys, max_crashes=3, now_ms=later))

    arena.settle_down(30.0)
    with pytest.raises(AssertionError, match=r"lived|less than its lease"):
        arena.judge(clock_was_set=True)


def test_a_second_settle_fails_the_judge(arena: Arena) -> None:
    """Though the record looks as after one."""
    arena.enqueue([chaos_app.works.call(0.0)])
    arena.settle_down(30.0)
    assert 1 == arena.judge()["settled"]
    (task_id,) = arena.acknowledged

    arena.client.hset(f"task:{task_id}", mapping={"state": "COMPLETED", "result": 1})

    with pytest.raises(AssertionError, match="from COMPLETED to COMPLETED"):
        arena.judge()


def test_a_witness_sees_who_stands_still_and_who_has_ended() -> None:
    """Of a process and of what it starts."""
    program = "import subprocess; subprocess.run(['sleep', '60'])"
    process = subprocess.Popen([sys.executable, "-c", program])
    witness = Witness(lambda: True)
    witness.know(process.pid, LEASE)
    witness.start()
    try:
        wait_until(lambda: len(witness.lives) == 2)
        (child,) = witness.lives.keys() - {process.pid}
        life, lived = witness.lives[process.pid], witness.lives[child]
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
        witness.stop()
