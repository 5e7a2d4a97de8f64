"""Event loops that were closed by hand: what belonged to them is freed."""

import asyncio
import gc
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from taskflow import Registry, TaskFlow

LOOPS = 100


@pytest.fixture
def registry() -> Registry:
    """Give a registry with one task."""
    made = Registry()

    @made.task(name="add")
    def add(x: int) -> int:
        return x

    return made


@pytest.fixture
def flow(server_url: str, registry: Registry) -> Iterator[TaskFlow]:
    """Give a flow on each kind of server."""
    with TaskFlow(server_url, registry=registry) as made:
        yield made


async def enqueue(flow: TaskFlow) -> None:
    """Use several connections at once, and calls that share a round trip."""
    call = flow.registry.get("add").call(1)
    await asyncio.gather(*(flow.aenqueue(call) for _ in range(5)))
    await asyncio.gather(*(flow.queues.astatus() for _ in range(3)))


def files() -> int:
    """Count the files and sockets that this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def close_by_hand(
    flow: TaskFlow,
    make: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
) -> "weakref.ref[asyncio.AbstractEventLoop]":
    """Run on a loop as a framework does that knows nothing of generators."""
    loop = make()
    loop.run_until_complete(enqueue(flow))
    loop.close()
    return weakref.ref(loop)


def close_uvloop_by_hand(
    flow: TaskFlow,
) -> "weakref.ref[asyncio.AbstractEventLoop]":
    """Do the same on a loop of uvloop."""
    return close_by_hand(flow, pytest.importorskip("uvloop").new_event_loop)


def run(flow: TaskFlow) -> "weakref.ref[asyncio.AbstractEventLoop]":
    """Run as `asyncio.run` does."""
    with asyncio.Runner() as runner:
        loop = weakref.ref(runner.get_loop())
        runner.run(enqueue(flow))
    return loop


# That a loop was closed with transports left open is told by asyncio, as it should be.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("use", [close_by_hand, close_uvloop_by_hand, run])
def test_a_hundred_loops_leave_nothing_behind(
    flow: TaskFlow,
    use: "Callable[[TaskFlow], weakref.ref[asyncio.AbstractEventLoop]]",
) -> None:
    """No loop, no socket, and no connection of the server but those of the last."""
    client = flow.connection.server.sync_client()
    before = len(client.client_list())
    use(flow)
    gc.collect()
    open_files = files()
    loops = [use(flow) for _ in range(LOOPS)]
    gc.collect()

    assert 1 >= sum(each() is not None for each in loops)
    assert files() <= open_files
    assert len(client.client_list()) <= before + 8
    client.close()
    flow.close()
    gc.collect()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_flow_works_on_after_a_loop_was_closed_by_hand(flow: TaskFlow) -> None:
    """On the next loop, and on one that is still there."""
    first = asyncio.new_event_loop()
    first.run_until_complete(enqueue(flow))
    close_by_hand(flow)
    first.run_until_complete(enqueue(flow))
    first.run_until_complete(flow.aclose())
    first.close()
    gc.collect()

    assert 15 == flow.queues.status().primary
