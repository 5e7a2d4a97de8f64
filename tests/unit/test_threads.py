"""Threads for bodies: one that is idle first, and none that outlives its use."""

import asyncio
import gc
import subprocess
import sys
import threading
import weakref

from taskflow._worker.executors.threads import Threads

LEAKS = """
import asyncio
from taskflow._worker.executors import threads

threads._IDLE = 0.05
loop = asyncio.new_event_loop()
threads.Threads(loop).start(lambda: 42, lambda result: (print(result), loop.stop()))
loop.run_forever()
"""


async def run(threads: Threads, value: object) -> tuple[object, int]:
    """Give back what a body returned, and the thread it ran in."""
    ended: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    ran_in: list[int] = []

    def body() -> object:
        ran_in.append(threading.get_ident())
        return value

    assert threads.start(body, ended.set_result)
    return await ended, ran_in[0]


async def test_one_body_after_the_other_takes_one_thread() -> None:
    """As soon as the loop has heard of an end, its thread is idle."""
    threads = Threads(asyncio.get_running_loop())
    ends = [await run(threads, number) for number in range(50)]
    threads.close(wait=True)

    assert list(range(50)) == [value for value, _ in ends]
    assert 1 == len({thread for _, thread in ends})


async def test_bodies_at_the_same_time_take_a_thread_each() -> None:
    """None waits behind another."""
    threads, together = Threads(asyncio.get_running_loop()), threading.Barrier(8)
    ended: asyncio.Queue[int] = asyncio.Queue()
    for _ in range(8):
        assert threads.start(lambda: together.wait(10), ended.put_nowait)
    met = [await ended.get() for _ in range(8)]
    threads.close(wait=True)

    assert list(range(8)) == sorted(met)


async def test_an_idle_thread_keeps_nothing_alive() -> None:
    """A large result is gone as soon as it is stored."""
    threads = Threads(asyncio.get_running_loop())
    value = threading.Event()
    seen = weakref.ref(value)
    await run(threads, value)
    del value
    await run(threads, None)
    gc.collect()

    assert None is seen()
    threads.close(wait=True)


async def test_a_body_may_end_after_its_loop() -> None:
    """Nobody is told, and nothing is raised in its thread."""
    loop, go = asyncio.new_event_loop(), threading.Event()
    threads = Threads(loop)
    assert threads.start(go.wait, print)
    threads.close(wait=False)
    loop.close()
    (thread,) = threads._threads
    go.set()
    await asyncio.to_thread(thread.join, 10)

    assert not thread.is_alive()


def test_threads_that_nobody_closed_do_not_keep_the_interpreter() -> None:
    """A program may be ended in the middle of everything."""
    ended = subprocess.run(
        [sys.executable, "-c", LEAKS], capture_output=True, check=False, timeout=20
    )

    assert (0, b"42", b"") == (ended.returncode, ended.stdout.strip(), ended.stderr)
