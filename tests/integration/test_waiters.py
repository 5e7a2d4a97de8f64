"""Many who wait for results: one subscription for each flow and event loop."""

import asyncio
import contextlib
import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from taskflow import Registry, TaskFlow, TaskHandle
from taskflow._client import waiters
from taskflow.errors import (
    ResultTimeoutError,
    ServerUnavailableError,
    TaskNotFoundError,
)
from taskflow.testing import run_until_idle
from tests.support.topologies import Node, free_port, wait_for

registry = Registry()
PATIENCE = 60.0


@registry.task
def double(x: int) -> int:
    """Give a result by which it can be told."""
    return 2 * x


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """Give a server of this test alone."""
    made = Node(tmp_path)
    yield made
    made.process.kill()
    made.process.wait()


@pytest.fixture
def flow(node: Node) -> Iterator[TaskFlow]:
    """Give a flow whose connections are those of the waiters alone."""
    with TaskFlow(f"redis://{node.address}/0", registry=registry) as made:
        yield made


@pytest.fixture
def producer(node: Node) -> Iterator[TaskFlow]:
    """Give another flow, by which tasks are run."""
    with TaskFlow(f"redis://{node.address}/0", registry=registry) as made:
        yield made


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody read a record again by the clock: only messages count."""
    monkeypatch.setattr(waiters, "READ_AGAIN", 1000.0)


def others(node: Node) -> int:
    """Count the connections but the one that asks."""
    return len(node.client.client_list()) - 1


def subscriptions(node: Node) -> int:
    """Count the connections that listen."""
    return len(node.client.client_list(_type="pubsub"))


def channels(node: Node) -> int:
    """Count the channels of results that somebody listens to."""
    return len(node.client.pubsub_channels("*done*"))


async def listening(node: Node, count: int) -> None:
    """Wait until so many channels are listened to."""
    await asyncio.to_thread(wait_for, lambda: channels(node) == count)


def in_threads(
    handles: list[TaskHandle[int]], wait: Callable[[TaskHandle[int]], Any]
) -> tuple[list[threading.Thread], list[Any]]:
    """Wait for each in a thread of its own."""
    got: list[Any] = [None] * len(handles)

    def run(number: int) -> None:
        try:
            got[number] = wait(handles[number])
        except Exception as error:  # noqa: BLE001 - it is looked at
            got[number] = error

    threads = [
        threading.Thread(target=run, args=(each,), daemon=True)
        for each in range(len(handles))
    ]
    for each in threads:
        each.start()
    return threads, got


async def test_a_thousand_on_a_loop_take_ten_connections_at_most(
    node: Node, flow: TaskFlow, producer: TaskFlow
) -> None:
    """They are told within a second of the end, and leave no channel behind."""
    handles = flow.enqueue_many([double.call(each) for each in range(1000)])
    flow.close()
    ended: dict[int, float] = {}

    async def wait(number: int) -> int:
        got: int = await handles[number].aresult(PATIENCE)
        ended[number] = time.monotonic()
        return got

    waiting = [asyncio.create_task(wait(each)) for each in range(1000)]
    await listening(node, 1000)
    used = others(node)
    assert 1 == subscriptions(node)
    await asyncio.to_thread(run_until_idle, producer)
    done = time.monotonic()

    assert [2 * each for each in range(1000)] == await asyncio.gather(*waiting)
    assert 10 >= used
    assert 1.0 >= max(ended.values()) - done
    await asyncio.to_thread(wait_for, lambda: subscriptions(node) == 0)
    await flow.aclose()


def test_a_thousand_threads_take_ten_connections_at_most(
    node: Node, flow: TaskFlow, producer: TaskFlow
) -> None:
    """As on a loop."""
    handles = flow.enqueue_many([double.call(each) for each in range(1000)])
    threads, got = in_threads(handles, lambda handle: handle.result(PATIENCE))
    wait_for(lambda: channels(node) == 1000)
    used = others(node)
    assert 1 == subscriptions(node)
    run_until_idle(producer)
    done = time.monotonic()
    for each in threads:
        each.join(PATIENCE)

    assert [2 * each for each in range(1000)] == got
    assert 10 >= used
    assert 1.0 >= time.monotonic() - done
    wait_for(lambda: subscriptions(node) == 0)


@pytest.mark.usefixtures("told")
async def test_messages_that_are_lost_with_the_connection_are_made_up_for(
    node: Node, flow: TaskFlow
) -> None:
    """Whoever listens again reads first: here, nobody would be told again."""
    handles = flow.enqueue_many([double.call(each) for each in range(20)])
    flow.close()
    waiting = [asyncio.create_task(each.aresult(PATIENCE)) for each in handles[:10]]
    threads, got = in_threads(handles[10:], lambda handle: handle.result(PATIENCE))
    await listening(node, 20)
    # They end in the moment in which the connections break: no message tells it.
    moment = node.client.pipeline(transaction=True)
    moment.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    for number, each in enumerate(handles):
        ending = {"state": "COMPLETED", "result": str(2 * number)}
        moment.hset(flow.connection.keys.task(each.id), mapping=ending)
    moment.execute()

    assert [2 * each for each in range(10)] == await asyncio.gather(*waiting)
    for each in threads:
        await asyncio.to_thread(each.join, PATIENCE)
    assert [2 * each for each in range(10, 20)] == got
    await asyncio.to_thread(wait_for, lambda: subscriptions(node) == 0)
    await flow.aclose()


@pytest.mark.usefixtures("told")
async def test_who_comes_later_is_told_too_whoever_leaves(
    node: Node, flow: TaskFlow, producer: TaskFlow
) -> None:
    """The one that reads for all may be cancelled, or run out of time."""
    first, second, third = flow.enqueue_many([double.call(each) for each in range(3)])
    flow.close()
    leader = asyncio.create_task(first.aresult())
    await listening(node, 1)
    hasty = asyncio.create_task(third.aresult(0.1))
    other = asyncio.create_task(second.aresult())
    twin = asyncio.create_task(second.aresult())
    with pytest.raises(ResultTimeoutError):
        await hasty
    leader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leader
    await listening(node, 1)
    await asyncio.to_thread(run_until_idle, producer)

    assert [2, 2] == await asyncio.gather(other, twin)
    await asyncio.to_thread(wait_for, lambda: subscriptions(node) == 0)
    await flow.aclose()


@pytest.mark.usefixtures("told")
def test_a_thread_that_runs_out_of_time_hands_over(
    node: Node, flow: TaskFlow, producer: TaskFlow
) -> None:
    """The others go on being told."""
    handles = flow.enqueue_many([double.call(each) for each in range(3)])
    short, hasty = in_threads(handles[:1], lambda handle: handle.result(0.3))
    wait_for(lambda: channels(node) == 1)
    threads, got = in_threads(handles[1:], lambda handle: handle.result(PATIENCE))
    wait_for(lambda: channels(node) == 3)
    short[0].join(PATIENCE)
    wait_for(lambda: channels(node) == 2)
    run_until_idle(producer)
    for each in threads:
        each.join(PATIENCE)

    assert isinstance(hasty[0], ResultTimeoutError)
    assert [2, 4] == got
    wait_for(lambda: subscriptions(node) == 0)


async def test_a_task_that_is_gone_is_the_error_of_its_waiter_alone(
    node: Node, flow: TaskFlow, producer: TaskFlow
) -> None:
    """The others wait on."""
    handles = flow.enqueue_many([double.call(each) for each in range(10)])
    flow.close()
    waiting = [asyncio.create_task(each.aresult(PATIENCE)) for each in handles]
    await listening(node, 10)
    node.client.delete(flow.connection.keys.task(handles[4].id))
    with pytest.raises(TaskNotFoundError):
        await waiting.pop(4)
    await asyncio.to_thread(run_until_idle, producer)

    assert [0, 2, 4, 6, 10, 12, 14, 16, 18] == await asyncio.gather(*waiting)
    await flow.aclose()


async def test_a_server_that_is_gone_is_told_to_all_at_once(
    node: Node, flow: TaskFlow
) -> None:
    """Not to one after the other, each after its own patience."""
    handles = flow.enqueue_many([double.call(each) for each in range(200)])
    flow.close()
    waiting = [asyncio.create_task(each.aresult(PATIENCE)) for each in handles]
    threads, got = in_threads(handles[:100], lambda handle: handle.result(PATIENCE))
    await listening(node, 200)
    node.process.kill()
    node.process.wait()
    for each in threads:
        await asyncio.to_thread(each.join, 20)
    found = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 20)

    assert {ServerUnavailableError} == {type(each) for each in [*found, *got]}
    await flow.aclose()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_child_of_a_fork_waits_on_a_connection_of_its_own(
    node: Node, flow: TaskFlow, producer: TaskFlow
) -> None:
    """And the parent goes on."""
    one, two = flow.enqueue_many([double.call(1), double.call(2)])
    threads, got = in_threads([one], lambda handle: handle.result(PATIENCE))
    wait_for(lambda: channels(node) == 1)
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            os._exit(two.result(PATIENCE))
        os._exit(99)
    wait_for(lambda: channels(node) == 2)
    assert 2 == subscriptions(node)
    run_until_idle(producer)
    threads[0].join(PATIENCE)

    assert [2] == got
    assert 4 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


# asyncio and redis-py complain of a task that was left pending on a closed loop.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_loops_that_were_closed_while_somebody_waited_leave_nothing(
    node: Node, flow: TaskFlow
) -> None:
    """By hand, and by `asyncio.run`."""
    handle = flow.enqueue(double.call(1))

    async def wait() -> None:
        task = asyncio.create_task(handle.aresult())
        await listening(node, 1)
        kept.append(task)

    kept: list[asyncio.Task[int]] = []
    asyncio.run(wait())
    wait_for(lambda: subscriptions(node) == 0)
    for _ in range(3):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(wait())
        loop.close()
    flow.close()
    wait_for(lambda: subscriptions(node) == 0)
    kept.clear()
    gc.collect()


async def test_waiters_of_a_flow_that_is_closed_get_their_results(
    node: Node, flow: TaskFlow, producer: TaskFlow
) -> None:
    """Closing is no cancelling."""
    handle, other = flow.enqueue_many([double.call(3), double.call(4)])
    waiting = asyncio.create_task(handle.aresult(PATIENCE))
    threads, got = in_threads([other], lambda each: each.result(PATIENCE))
    await listening(node, 2)
    await flow.aclose()
    flow.close()
    await asyncio.to_thread(run_until_idle, producer)

    assert 6 == await waiting
    await asyncio.to_thread(threads[0].join, PATIENCE)
    assert [8] == got
    await flow.aclose()


def test_nobody_waits_longer_for_a_server_that_was_never_there() -> None:
    """The first look says so."""
    flow = TaskFlow(f"redis://127.0.0.1:{free_port()}/0", registry=registry)
    handle: TaskHandle[int] = TaskHandle(flow, "x" * 8, double, created=False)
    with pytest.raises(ServerUnavailableError):
        handle.result(PATIENCE)
