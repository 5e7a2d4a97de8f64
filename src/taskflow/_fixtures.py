"""The fixtures of `taskflow.testing`, which need pytest."""

import contextlib
from collections.abc import Iterator
from typing import cast

import pytest

from taskflow._client.flow import TaskFlow
from taskflow._client.tasks import TaskFilter
from taskflow._declare import ports
from taskflow._declare.registry import Registry, default_registry
from taskflow._testing import ManualClock, records
from taskflow.errors import TaskNameTakenError


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--taskflow-url``."""
    parser.addoption(
        "--taskflow-url",
        default="memory://",
        help="where the fixture 'flow' keeps tasks (default: memory://)",
    )


@pytest.fixture
def taskflow_url(request: pytest.FixtureRequest) -> str:
    """Where `flow` keeps tasks; override it in a ``conftest.py`` to decide yourself."""
    return str(request.config.getoption("--taskflow-url"))


@pytest.fixture
def taskflow_clock() -> ManualClock:
    """The clock of `flow`: time passes when the test says so."""
    return ManualClock()


@pytest.fixture
def flow(taskflow_url: str, taskflow_clock: ManualClock) -> Iterator[TaskFlow]:
    """A flow of this test alone, whose server is under the application's flows too.

    It serves the tasks of the default registry and of every flow of the application,
    so what those enqueue is run by ``run_until_idle(flow)``.

    Yields:
        The flow.
    """
    registry = Registry()
    for each in (default_registry, *ports.bound_registries()):
        with contextlib.suppress(TaskNameTakenError):  # two applications in one process
            registry.include(cast("Registry", each))
    url = None if taskflow_url == "memory://" else taskflow_url
    with (
        TaskFlow(url, registry=registry) as made,
        made.testing(url, clock=taskflow_clock),
        ports.using(made),
    ):
        yield made
        for record in list(records(made, TaskFilter())):
            made.tasks.delete(record.id, force=True)
