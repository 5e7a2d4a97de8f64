"""Mistakes of those who come from other libraries are answered with the way out."""

import asyncio
import copy
import inspect
import pickle
import re
import threading
import warnings
from datetime import UTC, datetime
from typing import Any

import pytest
from attrs import fields

import taskflow
from taskflow import Registry, Task, TaskFlow
from taskflow._declare import hints
from taskflow._declare.hints import CALL_OPTIONS, TASK_OPTIONS, option_hint
from taskflow._declare.task import CallOptions
from taskflow.errors import ConfigurationError, RegistryError, ResultTimeoutError
from taskflow.testing import arun_until_idle

registry = Registry()


@registry.task(name="add")
def add(x: int, y: int = 1) -> int:
    """Add."""
    return x + y


@registry.task(name="fetch")
async def fetch(x: int) -> int:
    """Fetch."""
    return x


@pytest.fixture
def flow() -> Any:
    """Give a flow in memory."""
    with TaskFlow(f"memory://{id(object())}", registry=registry) as made:
        yield made


LOOSE: Any = add


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("delay", "task 'add' has no 'delay' here; use task.enqueue(...)"),
        ("apply_async", "use task.options(delay=10).enqueue(...)"),
        ("send", "use task.enqueue(...), or await task.aenqueue(...)"),
        ("kiq", "use task.enqueue(...), or await task.aenqueue(...)"),
        ("s", "use task.call(...)"),
        ("nosuch", "task 'add' has no 'nosuch'"),
    ],
)
def test_a_method_of_another_library_is_answered_with_ours(
    name: str, told: str
) -> None:
    """As an AttributeError, so that hasattr and getattr still work."""
    with pytest.raises(AttributeError, match=re.escape(told)):
        getattr(LOOSE, name)
    assert not hasattr(LOOSE, name)


def test_a_task_is_still_copied_and_pickled() -> None:
    """Which ask for attributes that are not there."""
    assert add is copy.deepcopy(add) is pickle.loads(pickle.dumps(add))  # noqa: S301


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("retries", "use retry=taskflow.RetryPolicy(max_retries=3)"),
        ("autoretry_for", "use retry=taskflow.RetryPolicy(rules=...)"),
        ("bind", "use a parameter annotated taskflow.Context"),
        ("acks_late", "use nothing: a task is acknowledged when it has ended"),
        ("countdown", "in task.options(...)"),
        ("wat", "there is no option 'wat'; there are name, retry, timeout"),
    ],
)
def test_an_option_of_another_library_is_answered_with_ours(
    option: str, told: str
) -> None:
    """Where the task is declared, bare or not."""
    loose: Any = Registry().task
    with pytest.raises(RegistryError, match=re.escape(told)):
        loose(**{option: 3})


def test_the_options_are_those_that_there_are() -> None:
    """They are listed by hand, in an order for people."""
    made = [each.name for each in fields(CallOptions)]
    options = inspect.signature(Task.options).parameters

    assert made == list(CALL_OPTIONS) == [*options][1:-1]


CODE = [each for each in hints._OPTIONS.values() if "taskflow." in each]


@pytest.mark.parametrize("hint", sorted({*CODE}))
def test_the_code_in_a_hint_can_be_written(hint: str) -> None:
    """Its names and arguments exist."""
    for name, given in re.findall(r"taskflow\.(\w+)(?:\((.*)\))?", hint):
        known = inspect.signature(getattr(taskflow, name))
        for argument in re.findall(r"(\w+)=", re.sub(r"\(.*?\)", "", given)):
            assert argument in known.parameters


@pytest.mark.parametrize(
    ("option", "place", "told"),
    [
        ("expires", "task", "use expires= in task.options(...)"),
        ("ttl", "task", "use expires= in task.options(...)"),
        ("task_id", "task", "use key= (taskflow makes the ids) in task.options(...)"),
        ("soft_time_limit", "call", "use soft_timeout= in @taskflow.task(...)"),
        ("rate_limit", "task", "rate_limit=taskflow.RateLimit(10, per=60))"),
        ("time_limit", "task", "use timeout="),
    ],
)
def test_a_hint_says_where_an_option_belongs(
    option: str, place: str, told: str
) -> None:
    """To the declaration or to the call."""
    known = TASK_OPTIONS if place == "task" else CALL_OPTIONS

    assert option_hint(option, known).endswith(told)


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("countdown", 3, "use delay=, in seconds or as a timedelta"),
        ("eta", datetime.now(UTC), "use delay=when - datetime.now(UTC)"),
        ("retries", 3, "use max_retries="),
        ("wat", 3, "there are delay, key, key_ttl, expires"),
        ("delay", "10s", "delay must be seconds or a timedelta"),
        ("delay", datetime.now(UTC), "counted from now: when - datetime.now(UTC)"),
    ],
)
def test_an_option_of_a_call_is_answered_too(
    option: str, value: Any, told: str
) -> None:
    """Before anything is enqueued."""
    with pytest.raises(ConfigurationError, match=re.escape(told)):
        LOOSE.options(**{option: value})


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda: add, "got task 'add' itself"),
        (lambda: add(1, 2), "got 3; task(...) runs it here"),
        (lambda: fetch(1), "got a call of fetch in place"),
        (lambda: "add", "got 'add'"),
    ],
)
async def test_what_is_no_call_is_not_enqueued(
    flow: TaskFlow, made: Any, told: str
) -> None:
    """By none of the ways; a coroutine is closed."""
    loose: Any = flow
    with pytest.raises(TypeError, match=re.escape(told)):
        loose.enqueue(made())
    with pytest.raises(TypeError, match=re.escape(told)):
        await loose.aenqueue(made())
    with pytest.raises(TypeError, match=re.escape(told)):
        loose.enqueue_many([made()])
    assert 0 == flow.queues.status().primary


async def test_waiting_on_an_event_loop_is_warned_of(flow: TaskFlow) -> None:
    """It stands still until the timeout, and what runs on it too."""
    handle = await flow.aenqueue(add.call(1))
    with (
        pytest.warns(RuntimeWarning, match=r"aresult\(\)") as warned,
        pytest.raises(ResultTimeoutError),
    ):
        handle.result(timeout=0.01)
    await arun_until_idle(flow)

    assert [__file__] == [each.filename for each in warned]
    assert 2 == handle.result(timeout=0) == await handle.aresult()
    assert 2 == await asyncio.to_thread(handle.result)


async def test_a_blocking_call_on_an_event_loop_is_warned_of(redis_url: str) -> None:
    """Where the host calls it; not in a thread, and not by its twin."""
    with TaskFlow(redis_url, prefix="hints:", registry=registry) as flow:
        with pytest.warns(RuntimeWarning, match=r"aenqueue\(\)") as warned:
            flow.enqueue(add.call(1))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            await flow.aenqueue(add.call(1))
            thread = threading.Thread(target=flow.enqueue, args=[add.call(1)])
            thread.start()
            thread.join()
        assert 3 == (await flow.queues.astatus()).primary
        await flow.aclose()

    assert [__file__] == [each.filename for each in warned]


async def test_a_task_that_waits_for_another_is_warned_of(
    flow: TaskFlow, caplog: pytest.LogCaptureFixture
) -> None:
    """With one slot nothing is left to run the other."""
    outer_registry = Registry()

    @outer_registry.task(name="outer", retry=taskflow.RetryPolicy(max_retries=0))
    async def outer() -> int:
        handle = await flow.aenqueue(add.call(1))
        return await handle.aresult(timeout=0.2)

    outer_registry.include(registry)
    handle = await flow.aenqueue(outer.call())
    await arun_until_idle(flow, registry=outer_registry, concurrency=1)

    assert "ResultTimeoutError" == (await handle.ainfo()).error_type
    (line,) = (each for each in caplog.messages if "keeps its slot" in each)
    assert "raise taskflow.Snooze" in line
