"""The pytest plugin, as the tests of an application use it."""

import pytest

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
