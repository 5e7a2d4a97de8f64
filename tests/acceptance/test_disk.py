"""A server whose disk is full: on a small file system of the test's own."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import chaos_app
import needs
from arena import Arena
from taskflow import TaskState
from taskflow.errors import ServerUnavailableError
from theatre import LEASE, wait_until

ENGINE = ("--executor", "asyncio", "--concurrency", "20")

pytestmark = pytest.mark.timeout(120)


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
    needs.capability(needs.SYS_ADMIN, "mount a file system")
    path = tmp_path / "disk"
    path.mkdir()
    mount, umount = (needs.tool(name, "mount") for name in ("mount", "umount"))
    needs.done(mount, "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(path))
    yield Disk(path)
    subprocess.run([umount, "--lazy", str(path)], check=True)


@pytest.fixture
def arena(
    tmp_path: Path, disk: Disk, request: pytest.FixtureRequest
) -> Iterator[Arena]:
    """Give a server that writes to that disk, and nobody who works yet."""
    options = ("--dir", str(disk.path), "--appendfsync", request.param)
    made = Arena(tmp_path, options=options)
    yield made
    made.close()


def fill_under_load(arena: Arena, disk: Disk) -> ServerUnavailableError:
    """Fill the disk while 40 tasks run and 40 wait; give what an enqueue then says."""
    wait_until(lambda: arena.alive() == 2)
    time.sleep(LEASE)  # from then on each worker may reap what the other holds
    seconds = [arena.rng.uniform(1.0, 1.5 * LEASE) for _ in range(40)]
    arena.enqueue([chaos_app.aworks.call(each) for each in seconds])
    arena.enqueue([chaos_app.works.call(0.1)] * 40)
    wait_until(lambda: len(arena.lines("start")) >= 40)
    disk.fill()

    def enqueue() -> None:
        while True:
            handle = arena.flow.enqueue(chaos_app.works.call(0.0))
            arena.acknowledged.append(handle.id)

    with pytest.raises(ServerUnavailableError) as caught:
        enqueue()
    return caught.value


def judge_twice(arena: Arena) -> None:
    """Judge what there is, and what a server reads that was killed after it."""
    arena.settle_down(30.0)
    figures = arena.judge()
    count = len(arena.acknowledged)
    assert (count, count, 0) == (
        *(figures["COMPLETED"], figures["runs"]),
        figures["crashes"],
    )
    wait_until(lambda: not arena.client.info("persistence")["aof_buffer_length"])
    arena.kill_server()
    arena.start_server()
    assert figures == arena.judge()


@pytest.mark.parametrize("arena", ["everysec"], indirect=True)
def test_a_full_disk_refuses_new_tasks_and_repeats_none(
    arena: Arena, disk: Disk
) -> None:
    """For longer than a lease; with room again all goes on without a hand."""
    workers = [arena.worker(*ENGINE) for _ in range(2)]

    refused = fill_under_load(arena, disk)

    assert "MISCONF" in str(refused)
    assert "No space left on device" in str(refused)
    (told,) = (each for each in arena.flow.doctor() if each.check == "persistence")
    assert ("error", "free space there; see its log") == (told.severity, told.do)
    wait_until(lambda: len(arena.lines("end")) >= 40)
    assert arena.count(TaskState.ACTIVE)  # nobody can settle what has ended
    disk.free()
    stored = len(arena.acknowledged)

    def is_taken() -> bool:
        arena.enqueue([chaos_app.works.call(0.0)])
        return len(arena.acknowledged) > stored

    wait_until(is_taken)
    judge_twice(arena)
    assert [None, None] == [each.poll() for each in workers]


@pytest.mark.parametrize("arena", ["always"], indirect=True)
def test_a_server_that_a_full_disk_has_ended_has_kept_what_it_acknowledged(
    arena: Arena, disk: Disk
) -> None:
    """It ends rather than acknowledge; started again with room, all goes on."""
    workers = [arena.worker(*ENGINE) for _ in range(2)]

    fill_under_load(arena, disk)

    assert 1 == arena.server.wait(10)
    wait_until(lambda: len(arena.lines("end")) >= 40)
    disk.free()
    arena.start_server()
    judge_twice(arena)
    assert [None, None] == [each.poll() for each in workers]
