"""A server that has lost its data: what is declared is in force before the first claim."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from taskflow import Registry, TaskState
from tests.support.processes import Deployment, wait_until

pytestmark = pytest.mark.timeout(120)

APP = """
import os, time
from taskflow import RateLimit, Registry, Upstream

registry = Registry()
rated = Upstream("rated", rate_limit=RateLimit(10, per=1.0))
narrow = Upstream("narrow", concurrency=2)

def log(*words):
    line = " ".join(map(str, words)) + f" 0 {time.time():.3f}\\n"
    file = os.open(os.environ["RUN_LOG"], os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    os.write(file, line.encode())
    os.close(file)

@registry.task(name="rate", upstream=rated)
async def rate(number: int) -> None:
    log("rate", number)

@registry.task(name="hold", upstream=narrow)
def hold(number: int, seconds: float) -> None:
    log("begin", number)
    time.sleep(seconds)
    log("end", number)

@registry.every(1.0, name="pulse")
@registry.task(name="pulse")
def pulse() -> None:
    log("pulse", 0)
"""

registry = Registry()


@registry.task(name="rate", upstream="rated")
def rate(number: int) -> None:
    """Stand for the worker's task of this name."""
    raise NotImplementedError(number)


@registry.task(name="hold", upstream="narrow")
def hold(number: int, seconds: float) -> None:
    """Stand for the worker's task of this name."""
    raise NotImplementedError(number, seconds)


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    """Give a server that keeps its data in files, and nobody who works yet."""
    made = Deployment(tmp_path, APP, registry)
    yield made
    made.close()


def flush(deployment: Deployment) -> None:
    """Delete every key; no connection breaks."""
    with Redis.from_url(deployment.url) as client:
        client.flushall()


def restart_empty(deployment: Deployment) -> None:
    """Start the server again without its files."""
    deployment.kill_server()
    for each in deployment.data.iterdir():
        shutil.rmtree(each) if each.is_dir() else each.unlink()
    deployment.start_server()


@pytest.mark.parametrize("lose", [flush, restart_empty])
def test_limits_and_schedules_outlive_the_data(deployment: Deployment, lose) -> None:
    """No window has more calls than the limit allows, and no more run side by side."""
    workers = [deployment.worker("-c", "20") for _ in range(2)]
    wait_until(lambda: deployment.alive() == 2)
    flow = deployment.flow
    flow.enqueue_many([rate.call(n) for n in range(100)])
    flow.enqueue_many([hold.call(n, 5.0) for n in range(4)])
    wait_until(lambda: len(deployment.rows("rate")) > 15)
    wait_until(lambda: len(deployment.rows("begin")) == 2)
    flow.upstreams.force_open("task:pulse", reason="maintenance")
    lose(deployment)
    lost_at = time.time()
    handles = flow.enqueue_many([rate.call(n) for n in range(100, 130)])
    handles += flow.enqueue_many([hold.call(n, 0.5) for n in range(10, 14)])
    done = TaskState.COMPLETED
    wait_until(lambda: all(flow.tasks.get(each.id).state is done for each in handles))

    # Ten a second and a bucket of one; two more for what a busy machine delays.
    starts = sorted(at for _, _, at in deployment.lines("rate"))
    lowest = float("inf")
    for number, at in enumerate(starts):
        lowest = min(lowest, number - 10 * at)
        assert number - 10 * at - lowest <= 1 + 2
    begun, ended = deployment.lines("begin"), deployment.lines("end")
    changes = [(at, 1) for *_, at in begun] + [(at, -1) for *_, at in ended]
    running = 0
    for _, change in sorted(changes):
        running += change
        assert running <= 2
    assert {"10", "11", "12", "13"} <= {number for number, *_ in begun}
    # What an operator had set is lost, and everybody is told so.
    wait_until(lambda: any(at > lost_at for *_, at in deployment.lines("pulse")))
    for worker in workers:
        assert "data lost" in deployment.said(worker)
    findings = {each.check: each for each in flow.doctor()}
    assert "warning" == findings["data"].severity
