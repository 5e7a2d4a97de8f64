"""How the public API is inferred; checked by mypy and pyright, never run."""

from collections.abc import Coroutine
from typing import Any, assert_type

import taskflow
from taskflow import Call, Context, Registry, TaskFlow, TaskHandle

registry = Registry()


@taskflow.task
def add(x: int, y: int = 0) -> int:
    return x + y


@taskflow.task(name="fetch", timeout=30.0)
async def fetch(url: str) -> bytes:
    return url.encode()


@registry.task
async def report(ctx: Context, rows: list[int]) -> str:
    return f"{ctx.id} {len(rows)}"


@registry.task(name="clean", dead_letter=False)
def clean(ctx: Context) -> None:
    ctx.progress(1)


assert_type(add(1, 2), int)
assert_type(add.call(1, y=2), Call[int])
assert_type(add.enqueue(1), TaskHandle[int])
assert_type(add.enqueue(1).result(timeout=1.0), int)
assert_type(add.options(delay=60, key="k").enqueue(1, 2), TaskHandle[int])
assert_type(fetch.call("a"), Call[bytes])
assert_type(report.call([1]), Call[str])
assert_type(clean(), None)


async def use(flow: TaskFlow) -> None:
    assert_type(await fetch.aenqueue(url="a"), TaskHandle[bytes])
    started: Coroutine[Any, Any, bytes] = fetch("a")
    assert_type(await started, bytes)
    handle = await flow.aenqueue(report.call([1, 2]))
    assert_type(handle, TaskHandle[str])
    assert_type(await handle.aresult(), str)
    assert_type(flow.enqueue_many([add.call(1), add.call(2)]), list[TaskHandle[int]])

    add.enqueue("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    add.enqueue(1, z=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    report.call()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
