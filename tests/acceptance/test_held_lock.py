"""A body that holds the interpreter's lock in C code, for three leases.

No thread of its process runs meanwhile, the one that renews leases neither.
"""

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


def figures(arena: Arena, *workers: tuple[str, ...]) -> tuple[int, int, int]:
    """Run the body on *workers*; count ends, runs and crashes."""
    for arguments in workers:
        arena.play(*arguments, TASKFLOW_LEASE="1")
    wait_until(lambda: arena.alive() == len(workers))
    arena.enqueue([chaos_app.seizes.call(SECONDS)])
    arena.settle_down(60.0)
    found = arena.judge()
    return found["COMPLETED"], found["runs"], found["crashes"]


def test_in_a_child_of_a_pool_it_runs_once(arena: Arena) -> None:
    """The leases are kept by the worker, which is another process."""
    pytest.importorskip("celery")

    assert (1, 1, 0) == figures(arena, CELERY, CELERY)


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
