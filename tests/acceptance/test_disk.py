"""A server whose disk is full: on a small file system of the test's own."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskflow import TaskState
from taskflow.errors import ServerUnavailableError
from tests.support import chaos_app, requirements
from tests.support.chaos import ChaosDeployment
from tests.support.processes import LEASE, wait_until

ENGINE = ("--executor", "asyncio", "--concurrency", "20")

pytestmark = [pytest.mark.deep, pytest.mark.timeout(120)]


class Disk:
    """A file system with little room.

    Attributes:
        path: Where it is mounted.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"

    def fill(self) -> None:
        """Leave no room."""
        with self._ballast.open("wb", buffering=0) as ballast:
            try:
                while True:
                    ballast.write(bytes(4096))
            except OSError:
                return

    def free(self) -> None:
        """Make room again."""
        self._ballast.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Give a disk of 4 MB."""
    requirements.capability(requirements.SYS_ADMIN, "mount a file system")
    path = tmp_path / "disk"
    path.mkdir()
    mount, umount = (requirements.tool(name, "mount") for name in ("mount", "umount"))
    requirements.done(mount, "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(path))
    yield Disk(path)
    subprocess.run([umount, "--lazy", str(path)], check=True)


@pytest.fixture
def deployment(
    tmp_path: Path, disk: Disk, request: pytest.FixtureRequest
) -> Iterator[ChaosDeployment]:
    """Give a server that writes to that disk, and nobody who works yet."""
    options = ("--dir", str(disk.path), "--appendfsync", request.param)
    made = ChaosDeployment(tmp_path, options=options)
    yield made
    made.close()


def fill_under_load(deployment: ChaosDeployment, disk: Disk) -> ServerUnavailableError:
    """Fill the disk while 40 tasks run and 40 wait; give what an enqueue then says."""
    wait_until(lambda: deployment.alive() == 2)
    time.sleep(LEASE)  # from then on each worker may reap what the other holds
    seconds = [deployment.rng.uniform(1.0, 1.5 * LEASE) for _ in range(40)]
    deployment.enqueue([chaos_app.aworks.call(each) for each in seconds])
    deployment.enqueue([chaos_app.works.call(0.1)] * 40)
    wait_until(lambda: len(deployment.lines("start")) >= 40)
    disk.fill()

    def enqueue() -> None:
        while True:
            handle = deployment.flow.enqueue(chaos_app.works.call(0.0))
            deployment.acknowledged.append(handle.id)

    with pytest.raises(ServerUnavailableError) as caught:
        enqueue()
    return caught.value


def judge_twice(deployment: ChaosDeployment) -> None:
    """Judge what there is, and what a server reads that was killed after it."""
    deployment.settle_down(30.0)
    figures = deployment.judge()
    count = len(deployment.acknowledged)
    assert (count, count, 0) == (
        *(figures["COMPLETED"], figures["runs"]),
        figures["crashes"],
    )
    wait_until(lambda: not deployment.client.info("persistence")["aof_buffer_length"])
    deployment.kill_server()
    deployment.start_server()
    assert figures == deployment.judge()


@pytest.mark.parametrize("deployment", ["everysec"], indirect=True)
def test_a_full_disk_refuses_new_tasks_and_repeats_none(
    deployment: ChaosDeployment, disk: Disk
) -> None:
    """For longer than a lease; with room again all goes on without a hand."""
    workers = [deployment.worker(*ENGINE) for _ in range(2)]

    refused = fill_under_load(deployment, disk)

    assert "MISCONF" in str(refused)
    assert "No space left on device" in str(refused)
    (told,) = (each for each in deployment.flow.doctor() if each.check == "persistence")
    assert ("error", "free space there; see its log") == (told.severity, told.do)
    wait_until(lambda: len(deployment.lines("end")) >= 40)
    assert deployment.count(TaskState.ACTIVE)  # nobody can settle what has ended
    disk.free()
    stored = len(deployment.acknowledged)

    def is_taken() -> bool:
        deployment.enqueue([chaos_app.works.call(0.0)])
        return len(deployment.acknowledged) > stored

    wait_until(is_taken)
    judge_twice(deployment)
    assert [None, None] == [each.poll() for each in workers]


@pytest.mark.parametrize("deployment", ["always"], indirect=True)
def test_a_server_that_a_full_disk_has_ended_has_kept_what_it_acknowledged(
    deployment: ChaosDeployment, disk: Disk
) -> None:
    """It ends rather than acknowledge; started again with room, all goes on."""
    workers = [deployment.worker(*ENGINE) for _ in range(2)]

    fill_under_load(deployment, disk)

    assert 1 == deployment.server.wait(10)
    wait_until(lambda: len(deployment.lines("end")) >= 40)
    disk.free()
    deployment.start_server()
    judge_twice(deployment)
    assert [None, None] == [each.poll() for each in workers]
