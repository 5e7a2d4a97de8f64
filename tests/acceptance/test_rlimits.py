"""A real worker with more slots than the system gives it threads."""

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskflow import Registry, TaskState
from tests.support.processes import Deployment, wait_until
from tests.support.requirements import tool

APP = """
import os, threading, time
from taskflow import Context, Registry

registry = Registry()

def log(*words):
    line = " ".join(map(str, words)) + f" {time.monotonic():.3f}\\n"
    file = os.open(os.environ["RUN_LOG"], os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    os.write(file, line.encode())
    os.close(file)

@registry.task(name="nap")
def nap(ctx: Context, number: int, seconds: float) -> int:
    log("start", number, ctx.deliveries)
    time.sleep(seconds)
    log("end", number, ctx.deliveries)
    return number
"""

# A user of whom no process but these is there, without the powers that no bound holds
# for; what it may read and write stays that of root.
UNDER = (
    *("setpriv", "--ruid=54321", "--bounding-set=-sys_resource,-sys_admin"),
    *("prlimit", "--nproc=16"),
)
THREADS = """
import threading, time
for _ in range(40):
    threading.Thread(target=time.sleep, args=(1,), daemon=True).start()
"""

pytestmark = pytest.mark.timeout(240)
registry = Registry()


@registry.task(name="nap")
def nap(number: int, seconds: float) -> int:
    """Stand for the worker's task of this name."""
    raise NotImplementedError(number, seconds)


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    """Give a server and nobody who works yet, where the bound can be set and holds."""
    for program in ("setpriv", "prlimit"):
        tool(program, "util-linux")
    command = [*UNDER, sys.executable, "-c", THREADS]
    ended = subprocess.run(command, capture_output=True, check=False)
    if b"can't start new thread" not in ended.stderr:
        pytest.skip("this process may not bound the threads of a user: it takes root")
    made = Deployment(tmp_path, APP, registry)
    yield made
    made.close()


def test_every_function_runs_once_where_threads_are_few(deployment: Deployment) -> None:
    """With 40 slots on 16 threads; the worker lives, and says what to do."""
    worker = deployment.worker("-c", "40", under=UNDER)
    wait_until(lambda: deployment.alive() == 1)
    handles = deployment.flow.enqueue_many([nap.call(n, 0.5) for n in range(60)])
    results = [handle.result(timeout=60) for handle in handles]
    runs = Counter(number for number, _, _ in deployment.lines("start"))

    assert list(range(60)) == results
    assert {str(number): 1 for number in range(60)} == runs
    assert [0] * 60 == [deployment.flow.tasks.get(each.id).crashes for each in handles]
    assert (None, 60) == (worker.poll(), deployment.count(TaskState.COMPLETED))
    assert "raise the limit of processes" in deployment.said(worker)
