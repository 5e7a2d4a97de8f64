"""Measure Celery's pool fed by us beside Celery itself, in one run.

``python tests/benchmarks/celery_engine.py [--tasks 4000] [--slots 2] [--rounds 3]``
starts a Redis of its own and, in turns, workers with the same number of processes:

* bare Celery as it must be set up to lose nothing and to keep results: a Redis
  broker and result backend, ``acks_late``, the given prefetch multiplier;
* ours, ``taskflow worker --executor celery``, with the same multiplier.

For both: no-op tasks a second from a full queue, CPU of the worker and its children
for each task, CPU of the server for each; and from enqueue to the start of the body
at 40 tasks a second. Figures are reported and never gate anything.
"""

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attrs import frozen
from celery import Celery
from machine import Server, WorkerProcess, server

from taskflow import Registry, TaskFlow

APP = """
import os, time
from celery import Celery
from taskflow import Registry

registry = Registry()
app = Celery("bare", broker=os.environ["URL"], backend=os.environ["URL"])
app.conf.update(
    task_acks_late=True,
    worker_prefetch_multiplier=int(os.environ["WORKER_PREFETCH_MULTIPLIER"]),
    broker_connection_retry_on_startup=True,
)


@app.task(name="noop")
def noop(x):
    return x


@app.task(name="now")
def now():
    return time.time()


@registry.task(name="noop")
def ours(x: int) -> int:
    return x


@registry.task(name="now")
def ours_now() -> float:
    return time.time()
"""

registry = Registry()


@registry.task(name="noop")
def noop(x: int) -> int:
    """Stand for the one in the worker."""
    return x


@registry.task(name="now")
def now() -> float:
    """Stand for the one in the worker."""
    return 0.0


@frozen
class Figures:
    """What one round gave.

    Attributes:
        rate: Tasks a second.
        worker: CPU microseconds of a task, worker and children.
        redis: CPU microseconds of a task, server.
        delays: Milliseconds from enqueue to start.
    """

    rate: float
    worker: float
    redis: float
    delays: list[float]


class Bare:
    """Celery as it is."""

    name = "bare Celery"

    def __init__(self, url: str, slots: int) -> None:
        self.app = Celery("bare", broker=url, backend=url)
        self.command = [
            *(sys.executable, "-m", "celery", "-A", "bench_app", "worker"),
            *("-c", str(slots), "--loglevel", "ERROR", "--without-gossip"),
            *("--without-mingle", "--without-heartbeat"),
        ]

    def fill(self, count: int) -> None:
        """Enqueue no-ops."""
        for number in range(count):
            self.app.send_task("noop", (number,))

    def left(self, found: Server) -> int:
        """Count what has not been done."""
        client: Any = found.client
        return int(client.llen("celery")) + int(client.hlen("unacked"))

    def start_of_one(self) -> float:
        """Enqueue one, and return when its body began."""
        return float(self.app.send_task("now").get(timeout=20, interval=0.001))


class Ours:
    """Celery's pool, fed by us."""

    name = "ours"

    def __init__(self, url: str, slots: int) -> None:
        self.flow = TaskFlow(url, registry=registry)
        self.command = [
            *(
                sys.executable,
                "-m",
                "taskflow",
                "worker",
                "--app",
                "bench_app:registry",
            ),
            *("--url", url, "--executor", "celery", "-c", str(slots)),
            *("--log-level", "ERROR"),
        ]

    def fill(self, count: int) -> None:
        """Enqueue no-ops."""
        self.flow.enqueue_many([noop.call(number) for number in range(count)])

    def left(self, found: Server) -> int:
        """Count what has not been done."""
        del found
        states = self.flow.queues.status().states
        return sum(states[name] for name in states if name in {"PENDING", "ACTIVE"})

    def start_of_one(self) -> float:
        """Enqueue one, and return when its body began."""
        return float(self.flow.enqueue(now.call()).result(timeout=20))


@contextlib.contextmanager
def running(command: list[str], folder: Path, url: str, prefetch: int) -> Iterator[int]:
    """Run a worker while the context lasts; give its process id."""
    known = {**os.environ, "URL": url, "WORKER_PREFETCH_MULTIPLIER": str(prefetch)}
    with (folder / "worker.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=known, stdout=log, stderr=log
        )
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait(30)


def measure(
    kind: Any, found: Server, folder: Path, prefetch: int, tasks: int
) -> Figures:
    """Drain a full queue, then send one task at a time."""
    found.client.flushall()
    kind.fill(tasks)
    with running(kind.command, folder, found.url, prefetch) as pid:
        tree = WorkerProcess(pid)
        while kind.left(found) > 0.9 * tasks:
            time.sleep(0.01)
        first, began = kind.left(found), time.perf_counter()
        cpu, redis = tree.cpu, found.cpu
        while kind.left(found):
            time.sleep(0.01)
        took = time.perf_counter() - began
        worker, server_cpu = tree.cpu - cpu, found.cpu - redis
        time.sleep(1.0)
        delays = []
        for _ in range(120):
            sent = time.time()
            delays.append((kind.start_of_one() - sent) * 1e3)
            time.sleep(max(0.0, 0.025 - (time.time() - sent)))
    return Figures(first / took, worker / first * 1e6, server_cpu / first * 1e6, delays)


def show(name: str, rounds: list[Figures]) -> float:
    """Print a line; return the median rate."""
    rate = statistics.median(each.rate for each in rounds)
    delays = sorted(delay for each in rounds for delay in each.delays)
    print(
        f"{name:32} {rate:8.0f}/s"
        f"  worker {statistics.median(each.worker for each in rounds):6.0f} us"
        f"  redis {statistics.median(each.redis for each in rounds):5.0f} us"
        f"  start p50 {delays[len(delays) // 2]:6.2f} ms"
        f"  p95 {delays[int(len(delays) * 0.95)]:6.2f} ms",
        flush=True,
    )
    return rate


def main() -> None:
    """Measure both with both multipliers, in turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=4000)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, server(Path(name)) as found:
        folder = Path(name)
        (folder / "bench_app.py").write_text(APP, encoding="utf-8")
        kinds = [Bare(found.url, given.slots), Ours(found.url, given.slots)]
        print(f"{given.slots} processes, Redis {found.version}")
        for prefetch in (1, 10):
            rounds: dict[str, list[Figures]] = {each.name: [] for each in kinds}
            for _ in range(given.rounds):
                for kind in kinds:
                    rounds[kind.name].append(
                        measure(kind, found, folder, prefetch, given.tasks)
                    )
            rates = [
                show(f"{each.name}, prefetch {prefetch}", rounds[each.name])
                for each in kinds
            ]
            print(f"  ours is {rates[1] / rates[0]:.1f} times as fast")


if __name__ == "__main__":
    main()
