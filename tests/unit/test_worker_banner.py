"""What a worker says at its start, and how an engine that is not there is told."""

import sys
from typing import Any

import pytest

import taskflow
from taskflow._settings import Settings, WorkerSettings, ignored_settings
from taskflow._settings.environment import FOR_PROCESS_POOLS
from taskflow._worker.worker import Worker
from taskflow.cli.app_loading import App
from taskflow.cli.worker import _engine, banner
from taskflow.errors import ConfigurationError


def line(name: str, *, claims: bool = True, **settings: Any) -> str | None:
    """Give the line *name* of the banner under *settings*."""
    known = Settings(worker=WorkerSettings(**settings))
    ignored = ignored_settings(
        known.worker.executor, dict.fromkeys(FOR_PROCESS_POOLS, "1")
    )
    registry = taskflow.Registry()
    with taskflow.TaskFlow("memory://", registry=registry) as flow:
        worker = Worker(flow, settings=known.worker, claims=claims)
        text = banner(App(flow, registry, ()), worker, known, ignored if claims else ())
    lines = [each.split(maxsplit=1) for each in text.splitlines()]
    return dict(lines).get(name)


def test_the_default_executor_tells_its_concurrency() -> None:
    """And names what is set in vain."""
    assert "asyncio, concurrency 10" == line("executor")
    assert (
        f"{', '.join(FOR_PROCESS_POOLS)}: the asyncio executor has no children"
        == line("ignored")
    )


@pytest.mark.parametrize(
    ("bounds", "told"),
    [
        ({}, "never recycled"),
        ({"max_tasks_per_child": 500}, "recycled after 500 tasks"),
        ({"max_memory_per_child": 200_000}, "recycled after 200000 kB"),
        (
            {"max_tasks_per_child": 1, "max_memory_per_child": 200_000},
            "recycled after 1 task or 200000 kB",
        ),
    ],
)
def test_the_celery_executor_tells_its_pool_and_every_bound(
    bounds: dict[str, int], told: str
) -> None:
    """Processes, tasks in hand, and when a process is replaced; nothing is ignored."""
    settings: dict[str, Any] = {
        **bounds, "executor": "celery", "concurrency": 4, "prefetch_multiplier": 2
    }  # fmt: skip

    assert f"celery, prefork pool of 4, prefetch x 2 (8 in hand), {told}" == line(
        "executor", **settings
    )
    assert line("ignored", **settings) is None


def test_a_scheduler_tells_of_no_executor() -> None:
    """It runs no body, whatever the variable says."""
    assert line("executor", claims=False, executor="celery") is None


def test_a_variable_is_named_as_it_is_written() -> None:
    """Also with the prefix that wins over the bare name."""
    environ = {"TASKFLOW_WORKER_PREFETCH_MULTIPLIER": "2"}

    assert ("TASKFLOW_WORKER_PREFETCH_MULTIPLIER",) == ignored_settings(
        "asyncio", environ
    )


def test_celery_that_is_not_installed_is_told_with_its_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As one sentence that can be pasted into a shell."""
    monkeypatch.delitem(sys.modules, "taskflow._worker.executors.celery", raising=False)
    for name in ("billiard", "celery"):
        for known in [each for each in sys.modules if each.partition(".")[0] == name]:
            monkeypatch.delitem(sys.modules, known)
        monkeypatch.setitem(sys.modules, name, None)

    with pytest.raises(ConfigurationError) as caught:
        _engine(WorkerSettings(executor="celery"))

    (problem,) = caught.value.problems
    assert problem.startswith("TASKFLOW_EXECUTOR='celery' needs '")
    assert problem.endswith("is not installed: pip install 'asynctaskflow[celery]'")
