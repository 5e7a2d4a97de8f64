"""How the public API is inferred; checked by mypy and pyright, never run."""

from collections.abc import Coroutine
from datetime import timedelta
from typing import Any, assert_type

import taskflow
from taskflow import (
    Call,
    Context,
    Registry,
    RetryPolicy,
    RetryRule,
    TaskFlow,
    TaskHandle,
)

registry = Registry()


@taskflow.task
def add(x: int, y: int = 0) -> int:
    return x + y


@taskflow.task(name="fetch", timeout=30.0, retry=RetryPolicy(max_retries=5))
async def fetch(url: str) -> bytes:
    return url.encode()


@registry.task
async def report(ctx: Context, rows: list[int]) -> str:
    return f"{ctx.id} {len(rows)}"


@registry.task(name="clean", dead_letter=False, soft_timeout=timedelta(minutes=1))
def clean(ctx: Context) -> None:
    ctx.progress(1)


@registry.task()
def last(rows: list[int], *, ctx: Context | None = None) -> float:
    return len(rows) / (ctx.attempt if ctx else 1)


@registry.task
async def nothing() -> None: ...


# Called in place: a task is still its function.
assert_type(add(1, 2), int)
assert_type(clean(), None)
assert_type(last([1]), float)

# Called later: the handle has what the body returns, awaited where it must be.
assert_type(add.call(1, y=2), Call[int])
assert_type(fetch.call("a"), Call[bytes])
assert_type(report.call(rows=[1]), Call[str])
assert_type(clean.call(), Call[None])
assert_type(last.call([1]), Call[float])
assert_type(add.enqueue(1), TaskHandle[int])
assert_type(add.enqueue(1).result(timeout=1.0), int)
assert_type(fetch.enqueue(url="a").result(timedelta(seconds=1)), bytes)
assert_type(clean.enqueue(), TaskHandle[None])
assert_type(add.enqueue(1).id, str)
assert_type(add.enqueue(1).created, bool)
assert_type(add.enqueue(1).info().state, str)
assert_type(add.enqueue(1).cancel(), bool)

# Options change nothing of it.
assert_type(add.options(delay=60, key="k").enqueue(1, 2), TaskHandle[int])
assert_type(fetch.options(delay=timedelta(hours=1)).call("a"), Call[bytes])
assert_type(report.options(max_retries=0).call([1]), Call[str])

RetryRule(on=(429, range(500, 600), TimeoutError), wait=[1, timedelta(minutes=1)])
RetryPolicy(wait=5, rules=[RetryRule(on=KeyError, dead_letter=True)], max_age=60)


async def use(flow: TaskFlow) -> None:
    assert_type(await fetch.aenqueue(url="a"), TaskHandle[bytes])
    started: Coroutine[Any, Any, bytes] = fetch("a")
    assert_type(await started, bytes)
    assert_type(await report([1]), str)
    await nothing()
    handle = await flow.aenqueue(report.call([1, 2]))
    assert_type(handle, TaskHandle[str])
    assert_type(await handle.aresult(), str)
    assert_type((await handle.ainfo()).attempts, int)
    assert_type(await handle.acancel(), bool)
    assert_type(flow.enqueue_many([add.call(1), add.call(2)]), list[TaskHandle[int]])
    assert_type(flow.enqueue(clean.call()), TaskHandle[None])

    add.enqueue("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    add.enqueue(1, z=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    report.call()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    add.options(retries=1)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue]
    registry.task(names="a")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]


# What is open is left open: none of these loses its first parameter, though each
# would fit a Context, nor turns into a coroutine, though Any would be one.
@registry.task
def keep(value: Any) -> int:
    return len(value)


@registry.task(name="show")
async def show(value: object, width: int = 80) -> str:
    return repr(value)[:width]


@registry.task
def load(path: str) -> Any:
    return path


@registry.task
def collect(*rows: Any, **more: Any) -> int:
    return len(rows) + len(more)


keep.enqueue([1])
keep.enqueue(value=[1])
keep([1])
show.enqueue({}, width=3)
collect(1, 2, a=3)
value: int = keep.enqueue([1]).result()
shown: str = show.enqueue(1).result()
load("a").strip()
load.enqueue("a").result().strip()
load.call(1)  # type: ignore[arg-type, unused-ignore]  # pyright: ignore[reportArgumentType]
