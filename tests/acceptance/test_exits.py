"""Real workers whose task functions leave something that doesn't end: they end.

Each engine runs the same tasks. What counts is that the process has ended, and that
the records show no attempt and no crash for it.
"""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from taskflow import Registry, TaskState
from tests.support.processes import Deployment, children_of, lives, wait_until

APP = """
import asyncio, atexit, concurrent.futures, os, signal, threading, time
from taskflow import Registry

registry = Registry()

def log(word):
    with open(os.environ["RUN_LOG"], "a", encoding="utf-8") as file:
        file.write(word + "\\\\n")

def never_returns():
    while True:
        time.sleep(0.05)

async def never_ends():
    while True:
        try:
            await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            pass

async def never_closes():
    try:
        while True:
            yield 1
    finally:
        await never_ends()

class Forever:
    def __del__(self):
        never_returns()

left = []

def thread():
    threading.Thread(target=never_returns, name="stuck").start()

def pool():
    left.append(concurrent.futures.ThreadPoolExecutor())
    left[-1].submit(never_returns)

def hook():
    atexit.register(never_returns)

def finalizer():
    left.append(Forever())

@registry.task(name="leaves")
def leaves(what: str) -> None:
    globals()[what]()

@registry.task(name="aleaves")
async def aleaves(what: str) -> None:
    if what == "executor":
        for _ in range(40):
            left.append(asyncio.create_task(asyncio.to_thread(never_returns)))
        await asyncio.sleep(0.1)
    elif what == "generator":
        left.append(never_closes())
        await anext(left[-1])
    elif what == "background":
        asyncio.create_task(never_ends())
    else:
        globals()[what]()

@registry.task(name="stays")
def stays() -> None:
    log("start")
    never_returns()

@registry.task(name="astays")
async def astays() -> None:
    log("start")
    await never_ends()

@registry.task(name="blocks")
async def blocks() -> None:
    log("start")
    never_returns()

@registry.task(name="naps")
async def naps(seconds: float) -> int:
    log("start")
    await asyncio.sleep(seconds)
    return 7
"""

ENGINES = ["asyncio", "celery"]
LEFT = [
    ("leaves", "thread"),
    ("leaves", "pool"),
    ("leaves", "hook"),
    ("leaves", "finalizer"),
    ("aleaves", "thread"),
    ("aleaves", "executor"),
    ("aleaves", "generator"),
    ("aleaves", "background"),
]
BRIEF = (("leaves", "thread"), ("aleaves", "background"))
"""What `nox` tries; `nox -s deep` tries them all."""

NAMED = {
    "thread": "stuck in never_returns",
    "pool": "ThreadPoolExecutor-0_0 in never_returns",
    "hook": "MainThread in never_returns",
    "executor": "_0 in never_returns",
    "background": "coroutine never_ends of task 'aleaves'",
}

pytestmark = pytest.mark.timeout(240)
registry = Registry()


@registry.task(name="leaves")
def leaves(what: str) -> None:
    """Stand for the worker's task of this name."""


@registry.task(name="aleaves")
def aleaves(what: str) -> None:
    """Stand for the worker's task of this name."""


@registry.task(name="stays")
def stays() -> None:
    """Stand for the worker's task of this name."""


@registry.task(name="astays")
def astays() -> None:
    """Stand for the worker's task of this name."""


@registry.task(name="blocks")
def blocks() -> None:
    """Stand for the worker's task of this name."""


@registry.task(name="naps")
def naps(seconds: float) -> int:
    """Stand for the worker's task of this name."""
    raise NotImplementedError(seconds)


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    """Give a server and no worker yet."""
    made = Deployment(tmp_path, APP.replace("\\\\n", "\\n"), registry)
    yield made
    made.close()


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Name each engine."""
    if request.param == "celery":
        pytest.importorskip("celery")
        if sys.platform != "linux":
            pytest.skip("the Celery engine needs Linux")
    return str(request.param)


def started(deployment: Deployment, engine: str, grace: str, *more: str) -> Any:
    """Start a worker and wait until it works."""
    worker = deployment.worker(
        *("-e", engine, "-c", "2", *more), WORKER_STOP_GRACE_PERIOD=grace
    )
    wait_until(lambda: "worker started" in deployment.said(worker))
    return worker


@pytest.mark.parametrize(
    ("name", "what"),
    [
        pytest.param(*each, marks=[] if each in BRIEF else [pytest.mark.deep])
        for each in LEFT
    ],
)
def test_a_worker_ends_whatever_task_functions_have_left(
    deployment: Deployment, engine: str, name: str, what: str
) -> None:
    """In the worker's process, or in a child of its pool."""
    worker = started(deployment, engine, "2s")
    task = leaves if name == "leaves" else aleaves
    assert deployment.flow.enqueue(task.call(what)).result(timeout=60) is None
    children = children_of(worker.pid)

    worker.send_signal(signal.SIGTERM)

    # A finalizer runs after the last thread; faulthandler ends it, with its own code.
    codes = {0, 1} if what == "finalizer" else {0}
    assert worker.wait(60) in codes
    assert "worker stopped" in deployment.said(worker)
    wait_until(lambda: not any(map(lives, children)), 10)
    if engine == "asyncio" and what in NAMED:
        assert "process ended by force" in deployment.said(worker)
        assert NAMED[what] in deployment.said(worker)


@pytest.mark.parametrize(
    "task",
    [
        pytest.param(stays, marks=pytest.mark.deep),
        astays,
        pytest.param(blocks, marks=pytest.mark.deep),
    ],
)
def test_a_task_function_that_ignores_the_stop_is_released(
    deployment: Deployment, engine: str, task: Any
) -> None:
    """It uses no attempt and counts no crash, even if it blocks the event loop."""
    worker = started(deployment, engine, "2s")
    handle = deployment.flow.enqueue(task.call())
    wait_until(lambda: deployment.rows("start"))

    worker.send_signal(signal.SIGTERM)

    code = worker.wait(60)
    record = deployment.flow.tasks.get(handle.id)
    assert (TaskState.PENDING, 0, 0) == (record.state, record.attempts, record.crashes)
    # A worker whose loop is blocked hasn't stopped as it should.
    is_blocked = engine == "asyncio" and task is blocks
    assert int(is_blocked) == code
    if engine == "asyncio":
        assert task.name in deployment.said(worker).partition("ended by force")[2]


def test_a_second_signal_ends_a_worker_that_something_keeps(
    deployment: Deployment, engine: str
) -> None:
    """Long before the grace period is over."""
    worker = started(deployment, engine, "1h")
    deployment.flow.enqueue(aleaves.call("thread")).result(timeout=60)
    handle = deployment.flow.enqueue(astays.call())
    wait_until(lambda: deployment.rows("start"))

    worker.send_signal(signal.SIGTERM)
    wait_until(lambda: "worker stopping" in deployment.said(worker))
    worker.send_signal(signal.SIGTERM)

    assert 0 == worker.wait(60)
    record = deployment.flow.tasks.get(handle.id)
    assert (TaskState.PENDING, 0, 0) == (record.state, record.attempts, record.crashes)


@pytest.mark.deep
def test_a_second_signal_ends_a_worker_whose_interpreter_waits_for_a_thread(
    deployment: Deployment,
) -> None:
    """Its tasks are released already; only the process is left."""
    worker = started(deployment, "asyncio", "1h")
    deployment.flow.enqueue(leaves.call("thread")).result(timeout=60)

    worker.send_signal(signal.SIGTERM)
    wait_until(lambda: "worker stopped" in deployment.said(worker))
    worker.send_signal(signal.SIGTERM)

    assert 0 == worker.wait(60)


@pytest.mark.deep
def test_a_worker_without_a_grace_period_releases_before_it_ends(
    deployment: Deployment, engine: str
) -> None:
    """At once, and not when the leases end."""
    worker = started(deployment, engine, "0")
    handle = deployment.flow.enqueue(naps.call(60.0))
    wait_until(lambda: deployment.rows("start"))

    worker.send_signal(signal.SIGTERM)

    assert 0 == worker.wait(60)
    record = deployment.flow.tasks.get(handle.id)
    assert (TaskState.PENDING, 0, 0) == (record.state, record.attempts, record.crashes)


def test_a_hangup_stops_a_worker_as_a_termination_does(
    deployment: Deployment, engine: str
) -> None:
    """What runs finishes, in children that the terminal has signalled too."""
    worker = started(deployment, engine, "30s")
    handle = deployment.flow.enqueue(naps.call(1.5))
    wait_until(lambda: deployment.rows("start"))

    # Not the standby process, which has a session of its own.
    (working,) = (each for each in deployment.flow.workers.list() if each.alive)
    for pid in (worker.pid, *working.info.get("children", [])):
        os.kill(pid, signal.SIGHUP)

    assert 0 == worker.wait(60)
    record = deployment.flow.tasks.get(handle.id)
    assert (TaskState.COMPLETED, 1) == (record.state, record.deliveries)


def test_a_worker_that_nohup_protects_ignores_a_hangup(deployment: Deployment) -> None:
    """Its handler isn't replaced."""
    nohup = "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); "
    nohup += "os.execv(sys.argv[1], sys.argv[1:])"
    worker = deployment.worker(under=(sys.executable, "-c", nohup))
    wait_until(lambda: "worker started" in deployment.said(worker))

    worker.send_signal(signal.SIGHUP)

    assert 7 == deployment.flow.enqueue(naps.call(0.5)).result(timeout=60)
    assert worker.poll() is None
    worker.terminate()
    assert 0 == worker.wait(60)


@pytest.mark.deep
def test_a_blocked_worker_ends_when_its_supervisor_is_killed(
    deployment: Deployment,
) -> None:
    """It releases its task, although its event loop never hears of it."""
    supervisor = deployment.worker("--processes", "2", WORKER_STOP_GRACE_PERIOD="2s")
    wait_until(lambda: deployment.alive() == 2)
    children = children_of(supervisor.pid)
    handle = deployment.flow.enqueue(blocks.call())
    wait_until(lambda: deployment.rows("start"))

    supervisor.kill()

    wait_until(lambda: not any(map(lives, children)), 20)
    record = deployment.flow.tasks.get(handle.id)
    assert (TaskState.PENDING, 0, 0) == (record.state, record.attempts, record.crashes)


@pytest.mark.deep
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
def test_supervised_workers_end_whatever_task_functions_have_left(
    deployment: Deployment, signum: int
) -> None:
    """SIGHUP ends the supervisor itself, and its workers stop as if it was killed."""
    supervisor = deployment.worker("--processes", "2", WORKER_STOP_GRACE_PERIOD="2s")
    wait_until(lambda: deployment.alive() == 2)
    children = children_of(supervisor.pid)
    calls = [aleaves.call("thread"), aleaves.call("background")] * 4
    for handle in deployment.flow.enqueue_many(calls):
        handle.result(timeout=60)

    supervisor.send_signal(signum)

    assert (0 if signum == signal.SIGTERM else -signum) == supervisor.wait(20)
    wait_until(lambda: not any(map(lives, children)), 20)
    assert "did not stop: killed" not in deployment.said(supervisor)
