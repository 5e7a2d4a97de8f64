"""Whatever is sent, the service answers as its OpenAPI document says.

Requests are made up from the document by schemathesis: right ones, almost right
ones and nonsense, at each access level. ``TASKFLOW_CONTRACT_REQUESTS`` says how many
there are for each path and level.
"""

import asyncio
import os
from collections import Counter
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import checks
from schemathesis.specs.openapi import checks as openapi_checks

from taskflow import Registry, RetryPolicy, TaskFlow, Worker
from taskflow_summarize import create_app
from taskflow_summarize._api_settings import ApiSettings
from taskflow_summarize.plugin import register
from taskflow_summarize.routers import Grant, Level, Limits

pytestmark = pytest.mark.timeout(3000)

EXAMPLES = int(os.environ.get("TASKFLOW_CONTRACT_REQUESTS", "3"))
LEVELS = (Level.READ, Level.OPERATE, Level.ADMIN)
CHECKS = (
    checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_schema_conformance,
)

registry = Registry()
register(registry)


@registry.task(name="dies", retry=RetryPolicy(max_retries=0))
async def dies(number: int) -> None:
    """Fail for good."""
    message = f"row {number} is empty"
    raise ValueError(message)


@registry.task(name="add")
def add(x: int, y: int = 0) -> int:
    """Add two numbers."""
    return x + y


class Stage:
    """A service whose level can be changed, with tasks in several states."""

    def __init__(self) -> None:
        self.level: Level = Level.READ
        self.answers: Counter[int] = Counter()
        self.flow = TaskFlow("memory://contract", registry=registry)
        self.app = create_app(
            self.flow,
            access=lambda request: Grant(self.level, "schemathesis"),
            settings=ApiSettings(),
            limits=Limits(stream_seconds=0.01),
        )
        self.ids = self._fill()

    def _fill(self) -> list[str]:
        calls = [*(dies.call(each) for each in range(5)), add.call(1)]
        handles = self.flow.enqueue_many(calls)
        asyncio.run(Worker(self.flow).arun_until_idle())
        waiting = [add.call(2), add.options(delay=3600).call(3)]
        return [each.id for each in (*handles, *self.flow.enqueue_many(waiting))]

    def counts(self) -> dict[Any, int]:
        """Give how many tasks there are in each state."""
        return dict(self.flow.queues.status().states)


stage = Stage()
schema = schemathesis.openapi.from_asgi("/openapi.json", stage.app)


@schema.hook
def map_path_parameters(context: Any, path_parameters: Any) -> Any:
    """Let every other id be one that is there."""
    if path_parameters and isinstance(path_parameters.get("task_id"), str):
        made = path_parameters["task_id"]
        if len(made) % 2:
            path_parameters["task_id"] = stage.ids[len(made) % len(stage.ids)]
    return path_parameters


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name.lower())
@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_one_that_is_documented(case: Any, level: Level) -> None:
    """No server error, no undocumented status, type or shape."""
    stage.level = level
    before = stage.counts() if level is Level.READ else {}

    # Not being ready is what /ready is asked for, and 503 is how it says so.
    chosen = CHECKS[1:] if case.path == "/ready" else CHECKS
    answer = case.call_and_validate(checks=list(chosen))

    stage.answers[answer.status_code] += 1
    if level is Level.READ:
        assert before == stage.counts()


def test_most_kinds_of_answers_were_met() -> None:
    """The run was no run against a wall: things were created, found and refused."""
    print(f"{sum(stage.answers.values())} requests: {dict(stage.answers)}")  # noqa: T201

    assert {200, 201, 403, 404, 409, 422} <= stage.answers.keys()
