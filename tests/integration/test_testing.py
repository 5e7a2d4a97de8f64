"""The pytest plugin, as the tests of an application use it."""

import asyncio
import subprocess
import sys
import threading
from typing import Any

import pytest

from taskflow import Registry, TaskFlow, use
from taskflow.testing import ManualClock, run_until_idle

pytest_plugins = ["pytester"]

APP = """
import pytest
from taskflow import RetryPolicy, TaskState, task
from taskflow.testing import assert_enqueued, run_until_idle

@task(name="greet")
def greet(name: str) -> str:
    return f"hello {name}"

@task(name="flaky", retry=RetryPolicy(max_retries=1, wait=[60]))
def flaky() -> None:
    raise ValueError("no")

def test_a_task_is_enqueued_and_runs(flow):
    handle = greet.enqueue("Ada")
    assert_enqueued(flow, greet, name="Ada")
    with pytest.raises(AssertionError, match="found 0; its PENDING calls"):
        assert_enqueued(flow, greet, name="Bob")
    run_until_idle(flow)
    assert handle.result(timeout=1) == "hello Ada"
    assert_enqueued(flow, greet, times=0)

def test_time_passes_when_the_test_says_so(flow, taskflow_clock):
    handle = flaky.enqueue()
    run_until_idle(flow)
    assert_enqueued(flow, flaky, delayed=True)
    taskflow_clock.advance(61)
    run_until_idle(flow)
    assert handle.info().state == TaskState.DLQ
    with pytest.raises(ValueError, match="time goes forward"):
        taskflow_clock.advance(-1)

def test_every_test_has_a_flow_of_its_own(flow):
    assert sum(flow.queues.status().states.values()) == 0
"""


@pytest.mark.parametrize("kind", ["memory", "real"])
def test_an_applications_tests_have_a_flow_a_clock_and_no_worker(
    pytester: pytest.Pytester, redis_url: str, kind: str
) -> None:
    """In memory, and the same on a real server, which is left empty."""
    pytester.makeconftest('pytest_plugins = ["taskflow.testing"]')
    pytester.makepyfile(APP)
    arguments = ["--taskflow-url", redis_url] if kind == "real" else []

    result = pytester.runpytest_subprocess(
        *("-p", "no:cacheprovider", "-p", "no:asyncio", "-W", "error"), *arguments
    )

    result.assert_outcomes(passed=3)


SHOP = """
import asyncio
import taskflow

registry = taskflow.Registry()
flow = taskflow.TaskFlow("redis://127.0.0.1:1/0", prefix="live:", registry=registry)
other = taskflow.TaskFlow("redis://127.0.0.1:1/1")

@registry.task(name="mail")
def mail(to: str) -> str:
    return f"mail to {to}"

@taskflow.task(name="log")
async def log(text: str) -> str:
    return mail.enqueue(text).id
"""

SHOP_TESTS = """
import asyncio, threading
import pytest
import shop
import taskflow
from taskflow.testing import assert_enqueued, run_until_idle

def test_every_style_of_the_application_reaches_the_test(flow):
    handles = [shop.mail.enqueue("a"), shop.flow.enqueue(shop.mail.call("b"))]
    handles.append(asyncio.run(shop.mail.aenqueue("c")))
    thread = threading.Thread(target=lambda: handles.append(shop.mail.enqueue("d")))
    thread.start()
    thread.join()
    with taskflow.TaskFlow("redis://127.0.0.1:1", registry=shop.registry) as late:
        handles.append(late.enqueue(shop.mail.call("e")))
    assert_enqueued(flow, shop.mail, times=5)
    run_until_idle(flow)
    assert ["mail to a", "mail to b"] == [each.result(timeout=0) for each in handles[:2]]
    assert 5 == shop.flow.queues.status().states["COMPLETED"]

@pytest.mark.filterwarnings("ignore:a blocking call")
def test_a_task_function_enqueues_there_too(flow):
    handle = shop.log.enqueue("x")
    run_until_idle(flow)
    inner = flow.handle(handle.result(timeout=0))
    assert "mail to x" == inner.result(timeout=0)

def test_afterwards_the_live_server_is_back():
    with pytest.raises(taskflow.errors.ServerUnavailableError):
        shop.mail.enqueue("live")
"""


def test_the_fixture_is_under_every_flow_of_an_application(
    pytester: pytest.Pytester,
) -> None:
    """Its own registry and flow, the default ones, in threads, and those made later."""
    pytester.makeconftest('pytest_plugins = ["taskflow.testing"]')
    pytester.makepyfile(shop=SHOP, test_shop=SHOP_TESTS)

    result = pytester.runpytest_subprocess(
        *(
            "-p",
            "no:cacheprovider",
            "-p",
            "no:asyncio",
            "-W",
            "error",
            "-p",
            "no:randomly",
        )
    )

    result.assert_outcomes(passed=3)


@pytest.fixture
def live(redis_url: str) -> Any:
    """Give a flow on a live server, and a task of it."""
    registry = Registry()

    @registry.task(name="add")
    def add(x: int) -> int:
        return x + 1

    with TaskFlow(redis_url, prefix="live-testing:", registry=registry) as flow:
        yield flow, add
        use(None)


def test_a_flow_that_is_open_is_swapped_and_comes_back(live: Any) -> None:
    """With what it had open; nothing of the test is on the live server."""
    flow, add = live
    before = flow.enqueue(add.call(1))
    clock = ManualClock(start_ms=1_000_000)
    with flow.testing(clock=clock) as tested:
        assert tested is flow
        assert 0 == flow.queues.status().primary
        handle = add.enqueue(1)
        later = add.options(delay=60).enqueue(2)
        run_until_idle(flow)
        clock.advance(61)
        run_until_idle(flow)
        assert (2, 3) == (handle.result(timeout=0), later.result(timeout=0))
        with pytest.raises(RuntimeError, match="in use already"), flow.testing():
            raise AssertionError

    assert before.info().state == "PENDING"
    assert 1 == flow.queues.status().primary
    flow.tasks.delete(before.id, force=True)


def test_another_server_may_stand_in(live: Any, redis_url: str) -> None:
    """Under a prefix of the test alone, on a loop and in a thread."""
    flow, add = live

    async def on_a_loop() -> int:
        handle = await flow.aenqueue(add.call(1))
        thread = threading.Thread(target=flow.enqueue, args=[add.call(2)])
        thread.start()
        thread.join()
        count: int = (await flow.queues.astatus()).primary
        await handle.acancel()
        await flow.aclose()
        return count

    with flow.testing(redis_url):
        assert flow.connection.keys.prefix.startswith("test-")
        assert 2 == asyncio.run(on_a_loop())
    assert 0 == flow.queues.status().primary


def test_the_functions_need_no_pytest() -> None:
    """A quickstart has none."""
    program = (
        "import sys; sys.modules['pytest'] = None\n"
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'pytest' else find(name, *a)\n"
        "import taskflow\nfrom taskflow.testing import run_until_idle\n"
        "flow = taskflow.TaskFlow('memory://')\n"
        "@taskflow.task(name='add')\ndef add(x: int) -> int: return x + 1\n"
        "handle = add.enqueue(1); run_until_idle(flow); print(handle.result(timeout=0))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )

    assert ("2\n", "") == (done.stdout, done.stderr)
