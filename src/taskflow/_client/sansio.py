"""Several operations in a row, written once for both kinds of caller.

A plan is a generator: it yields an `Operation` and is given its answer, or
yields a `Pause` and is resumed after it; what it returns is the result. So the
decisions between two operations are in one place, and `run` and `arun` differ
in nothing but how they wait.
"""

import asyncio
import time
from collections.abc import Generator
from typing import Any, TypeAlias, TypeVar

from attrs import frozen

from taskflow._protocol.operation import Operation
from taskflow._servers.runner import AsyncRunner, SyncRunner

T = TypeVar("T")


@frozen
class Pause:
    """Let time pass.

    Attributes:
        seconds: At least 0.
    """

    seconds: float


Plan: TypeAlias = Generator[Operation[Any] | Pause, Any, T]


def one(operation: Operation[T]) -> Plan[T]:
    """Make the plan of a single operation."""
    answer: T = yield operation
    return answer


def run(plan: Plan[T], runner: SyncRunner) -> T:
    """Carry out *plan* and return its result."""
    answer: Any = None
    error: Exception | None = None
    try:
        while True:
            step = plan.throw(error) if error else plan.send(answer)
            answer = error = None
            try:
                if isinstance(step, Pause):
                    time.sleep(step.seconds)
                else:
                    answer = runner.send(step)
            except Exception as caught:  # noqa: BLE001 - the plan decides, or lets it out
                error = caught
    except StopIteration as stop:
        result: T = stop.value
        return result


async def arun(plan: Plan[T], runner: AsyncRunner) -> T:
    """Carry out *plan* and return its result."""
    answer: Any = None
    error: Exception | None = None
    try:
        while True:
            step = plan.throw(error) if error else plan.send(answer)
            answer = error = None
            try:
                if isinstance(step, Pause):
                    await asyncio.sleep(step.seconds)
                else:
                    answer = await runner.send(step)
            except Exception as caught:  # noqa: BLE001 - the plan decides, or lets it out
                error = caught
    except StopIteration as stop:
        result: T = stop.value
        return result
