"""What a worker logs of failures, under whatever logging the application has."""

import asyncio
import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import taskflow
from taskflow import Registry, RetryPolicy, TaskFlow, Worker
from taskflow.observers.logging import JsonFormatter, TextFormatter, log_events

ONCE = RetryPolicy(max_retries=0)

APP = """
import logging.config, os
import taskflow

def configure():
    logging.config.dictConfig({
        "version": 1,
        "disable_existing_loggers": os.environ["OFF"] == "1",
        "formatters": {"f": {"format": "APP %(levelname)s %(name)s %(message)s"}},
        "handlers": {"c": {"class": "logging.StreamHandler", "formatter": "f"}},
        "root": {"handlers": ["c"], "level": "INFO"},
    })

if os.environ["WHEN"] == "import":
    configure()
elif os.environ["WHEN"] == "basic":
    logging.basicConfig(format="APP %(levelname)s %(name)s %(message)s", level="INFO")

flow = taskflow.TaskFlow(os.environ["REDIS_URL"], prefix=os.environ["PREFIX"])

@taskflow.task(name="boom", retry=taskflow.RetryPolicy(max_retries=0))
def boom() -> None:
    if os.environ["WHEN"] == "task":
        configure()
    raise ValueError("customer 7 has no address")
"""


class Keeper(logging.Handler):
    """Keeps records, and the lines that formatters make of them."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep *record*."""
        self.records.append(record)

    def told(self, formatter: logging.Formatter, start: str) -> str:
        """Format the record whose message starts with *start*."""
        (record,) = (r for r in self.records if r.getMessage().startswith(start))
        return formatter.format(record)


async def records_of(declare: Any) -> Keeper:
    """Run the task that *declare* declares until it has ended; return its records."""
    registry, keeper = Registry(), Keeper()
    logger = logging.Logger("seen", logging.INFO)  # noqa: LOG001 - in no hierarchy
    logger.addHandler(keeper)
    task = declare(registry)
    async with TaskFlow(f"memory://{id(registry)}", registry=registry) as flow:
        await flow.aenqueue(task.call())
        worker = Worker(flow, concurrency=2)
        log_events(worker.events, logger)
        await worker.arun_until_idle()
    return keeper


async def test_a_failure_carries_its_exception_and_traceback() -> None:
    """A retry, and the dead letter; in every format, and for Sentry."""

    def declare(registry: Registry) -> Any:
        @registry.task(name="send", retry=RetryPolicy(max_retries=1, wait=0.0))
        def send() -> None:
            {}["boom"]

        return send

    keeper = await records_of(declare)
    retried = keeper.told(logging.Formatter("%(message)s"), "task retried")
    dead = keeper.told(TextFormatter(), "task dead lettered")
    as_json = json.loads(keeper.told(JsonFormatter(), "task dead lettered"))

    assert retried.startswith("task retried: KeyError: 'boom' id=")
    assert (
        "name=send attempt=1 delay=0.000 uses_attempt=True attempts=2\nTrace" in retried
    )
    assert "task dead lettered: KeyError: 'boom' id=" in dead
    assert "  Traceback (most recent call last):" in dead.splitlines()
    assert dead.splitlines()[-1] == "  KeyError: 'boom'"
    assert ("task dead lettered", "KeyError", "exhausted") == (
        as_json["event"],
        as_json["error_type"],
        as_json["cause"],
    )
    assert as_json["traceback"].endswith("KeyError: 'boom'")
    infos = [each.exc_info for each in keeper.records if each.exc_info]
    assert [KeyError, KeyError] == [info[0] for info in infos]
    assert all(info[2] is not None for info in infos)


class Rude(Exception):  # noqa: N818
    """Ends the program when it is shown."""

    def __str__(self) -> str:
        raise SystemExit(3)


class Unequal(Exception):  # noqa: N818
    """Ends the program when it is compared."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise SystemExit(3)


async def test_an_error_without_a_message_is_logged_by_its_type() -> None:
    """As a failed ``assert`` has none."""

    def declare(registry: Registry) -> Any:
        @registry.task(name="silent", retry=ONCE)
        def silent() -> None:
            raise ValueError

        return silent

    keeper = await records_of(declare)

    told = keeper.told(logging.Formatter(), "task dead lettered")
    assert told.startswith("task dead lettered: ValueError id=")


async def test_an_error_that_cannot_be_compared_is_logged_as_it_is() -> None:
    """Its chain is followed by identity."""

    def declare(registry: Registry) -> Any:
        @registry.task(name="unequal", retry=ONCE)
        def unequal() -> None:
            raise Unequal from Unequal()

        return unequal

    keeper = await records_of(declare)

    assert [Unequal] == [each.exc_info[0] for each in keeper.records if each.exc_info]


@pytest.mark.parametrize("kind", ["raises", "huge", "cause", "leaf"])
async def test_an_error_that_misbehaves_is_logged_as_text(kind: str) -> None:
    """No handler runs its code."""

    def declare(registry: Registry) -> Any:
        @registry.task(name="rude", retry=ONCE)
        def rude() -> None:
            if kind == "huge":
                raise ValueError("x" * 10_000_000)
            if kind == "cause":
                message = "fine"
                raise ValueError(message) from Rude()
            if kind == "leaf":
                message = "two"
                raise ExceptionGroup(message, [ValueError(), Rude()])
            raise Rude

        return rude

    keeper = await records_of(declare)
    told = keeper.told(logging.Formatter(), "task dead lettered")

    assert [None] == [each.exc_info for each in keeper.records]
    assert len(told) < 50_000
    assert "Traceback" in told


async def test_a_blocked_loop_names_the_task_and_the_place() -> None:
    """Not all that were running."""

    def declare(registry: Registry) -> Any:
        @registry.task(name="sleeps")
        async def sleeps() -> None:
            await asyncio.sleep(0.3)
            time.sleep(2)  # noqa: ASYNC251

        return sleeps

    registry, keeper = Registry(), Keeper()
    logger = logging.Logger("seen", logging.INFO)  # noqa: LOG001 - in no hierarchy
    logger.addHandler(keeper)
    task = declare(registry)
    async with TaskFlow(f"memory://{id(registry)}", registry=registry) as flow:
        handle = await flow.aenqueue(task.call())
        worker = Worker(flow, concurrency=2)
        log_events(worker.events, logger)
        running = asyncio.create_task(worker.arun())
        await handle.aresult(timeout=30)
        await asyncio.sleep(0.5)
        worker.stop()
        await running
    told = keeper.told(logging.Formatter(), "loop blocked")

    assert f"loop blocked by task 'sleeps' ({handle.id}) at {__file__}:" in told
    assert "sleeps seconds=" in told


@pytest.mark.parametrize("disables", ["1", "0"])
@pytest.mark.parametrize("when", ["import", "task", "basic"])
def test_an_applications_own_logging_silences_nothing(
    redis_url: str, tmp_path: Path, when: str, disables: str
) -> None:
    """Configured where it is imported or later, with or without what exists."""
    (tmp_path / "quiet.py").write_text(APP)
    prefix = f"logs-{time.monotonic_ns()}:"
    environment = {**os.environ, "WHEN": when, "OFF": disables, "PREFIX": prefix}
    environment["REDIS_URL"] = redis_url
    with TaskFlow(redis_url, prefix=prefix) as flow:
        call = taskflow.Registry().task(name="boom")(_boom).call()
        flow.enqueue(call)
        with subprocess.Popen(
            [sys.executable, "-m", "taskflow", "worker", "--app", "quiet:flow"],
            cwd=tmp_path,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        ) as worker:
            try:
                deadline = time.monotonic() + 30
                while not flow.dlq.list().items and time.monotonic() < deadline:
                    time.sleep(0.05)
            finally:
                worker.terminate()
                _, told = worker.communicate(timeout=30)

    (line,) = [each for each in told.splitlines() if "task dead lettered" in each]
    assert "ValueError: customer 7 has no address" in line
    assert 1 == told.count("Traceback (most recent call last)")
    assert told.count("worker stopped") == 1
    assert line.startswith("APP ERROR taskflow.worker task dead lettered: ValueError")


def _boom() -> None: ...
