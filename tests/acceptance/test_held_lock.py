"""A body that holds the interpreter's lock in C code, for three leases.

No thread of its process runs meanwhile, the one that renews leases neither.
"""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import chaos_app
from arena import Arena
from theatre import wait_until

SECONDS = 3
ASYNCIO = ("--executor", "asyncio")
CELERY = ("--executor", "celery", "--concurrency", "1")

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def arena(tmp_path: Path) -> Iterator[Arena]:
    """Give a server, and nobody who works yet."""
    made = Arena(tmp_path)
    yield made
    made.close()


def figures(
    arena: Arena, *workers: tuple[str, ...], count: int = 0
) -> tuple[int, int, int]:
    """Run the body on *workers*, *count* processes; count ends, runs and crashes."""
    for arguments in workers:
        arena.play(*arguments, TASKFLOW_LEASE="1")
    wait_until(lambda: arena.alive() == (count or len(workers)))
    arena.enqueue([chaos_app.seizes.call(SECONDS)])
    arena.settle_down(60.0)
    for row in arena.rows("start"):
        if row[2] == "1":  # from outside nobody sees that its threads stand still
            arena.witness.excuse(int(row[4]), float(row[3]), float(row[3]) + SECONDS)
    found = arena.judge()
    return found["COMPLETED"], found["runs"], found["crashes"]


def test_in_a_child_of_a_pool_it_runs_once(arena: Arena) -> None:
    """The leases are kept by the worker, which is another process."""
    pytest.importorskip("celery")

    assert (1, 1, 0) == figures(arena, CELERY, CELERY)


@pytest.mark.skipif(sys.platform != "linux", reason="no memory is shared elsewhere")
def test_under_a_supervisor_it_runs_once(arena: Arena) -> None:
    """The supervisor renews what its worker holds, and says so."""
    assert (1, 1, 0) == figures(arena, (*ASYNCIO, "--processes", "2"), count=2)
    (player,) = arena.players
    assert "a body holds the interpreter" in arena.said(player.process)


@pytest.mark.skipif(sys.platform != "linux", reason="no memory is shared elsewhere")
def test_a_stopped_worker_loses_its_tasks_all_the_same(arena: Arena) -> None:
    """Its supervisor does not stand in for one that does not work."""
    player = arena.play(*ASYNCIO, "--processes", "2", TASKFLOW_LEASE="1")
    wait_until(lambda: arena.alive() == 2)
    arena.enqueue([chaos_app.aworks.call(2.0)])
    wait_until(lambda: arena.lines("start"))
    (row,) = [
        line.split() for line in arena.log.read_text("utf-8").splitlines() if line
    ]
    os.kill(int(row[4]), signal.SIGSTOP)
    wait_until(lambda: len(arena.lines("start")) == 2)
    wait_until(lambda: len(arena.lines("end")) == 1)
    os.kill(int(row[4]), signal.SIGCONT)
    arena.settle_down(30.0)
    found = arena.judge()

    assert (1, 2, 1) == (found["COMPLETED"], found["runs"], found["crashes"])
    assert "a body holds the interpreter" not in arena.said(player.process)


def test_in_the_only_worker_it_runs_once(arena: Arena) -> None:
    """Nobody is there to take the task, and the lease is renewed when it goes on."""
    assert (1, 1, 0) == figures(arena, ASYNCIO)


def test_beside_another_worker_it_is_taken_for_dead(arena: Arena) -> None:
    """Its lease ends, the other runs the task, and its own late result is refused."""
    assert (1, 2, 1) == figures(arena, ASYNCIO, ASYNCIO)
    wait_until(
        lambda: any(
            "lease lost" in arena.said(each.process)
            and "loop blocked" in arena.said(each.process)
            for each in arena.players
        )
    )
