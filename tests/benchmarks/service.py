"""Measure the HTTP API: pages over 100,000 tasks, 20 workers, a crowd of clients.

``python tests/benchmarks/service.py [--tasks 100000] [--clients 200] [--seconds 60]``
starts a server, the service and the workers on this machine, prints a table, and
ends them. Figures are reported and never gate anything.
"""

import argparse
import asyncio
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).parents[2]))

from taskflow import Registry, RetryPolicy, TaskFlow, Worker
from tests.support.service import running, service

ROUNDS = 40
registry = Registry()


@registry.task(name="idle")
def idle(number: int) -> int:
    """Do nothing."""
    return number


@registry.task(name="dies", retry=RetryPolicy(max_retries=0))
async def dies(number: int) -> None:
    """Fail for good."""
    message = f"row {number} is empty"
    raise ValueError(message)


def rss_mib(pid: int) -> float:
    """Give the resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text("utf-8")
    line = next(row for row in status.splitlines() if row.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


async def fill(flow: TaskFlow, tasks: int) -> None:
    """Store tasks: most wait, a tenth have completed, 2 % are dead letters."""
    await flow.aenqueue_many([idle.call(number) for number in range(tasks // 10)])
    await flow.aenqueue_many([dies.call(number) for number in range(tasks // 50)])
    await Worker(flow, registry=registry, concurrency=100).arun_until_idle()
    left = tasks - tasks // 10 - tasks // 50
    await flow.aenqueue_many([idle.call(number) for number in range(left)])


async def timed(ask: Callable[[], Awaitable[httpx.Response]]) -> tuple[float, float]:
    """Give median and 95th percentile of asking, in ms."""
    took = []
    for _ in range(ROUNDS):
        before = time.perf_counter()
        answer = await ask()
        took.append((time.perf_counter() - before) * 1000)
        assert answer.status_code == 200, answer.text
    return statistics.median(took), statistics.quantiles(took, n=20)[-1]


async def pages(address: str) -> None:
    """Measure each list and the counts."""
    paths = {
        "counts": "/api/v1/queues/status",
        "tasks, first page": "/api/v1/tasks/",
        "tasks, 200 a page": "/api/v1/tasks/?limit=200",
        "tasks that wait": "/api/v1/tasks/?status=PENDING",
        "tasks, filter that fits none": "/api/v1/tasks/?error=nothing",
        "completed": "/api/v1/queues/completed/tasks",
        "dead letters": "/api/v1/queues/dlq",
        "groups": "/api/v1/queues/dlq/groups",
        "workers": "/health/workers",
        "health": "/health",
    }
    async with httpx.AsyncClient(base_url=address, timeout=30) as client:
        for name, path in paths.items():
            median, high = await timed(lambda path=path: client.get(path))
            print(f"{name:32} p50 {median:6.1f} ms  p95 {high:6.1f} ms")


async def crowd(address: str, pid: int, clients: int, seconds: float) -> None:
    """Let many create and read at once; look at errors and memory."""
    errors = answered = 0
    ends_at = time.monotonic() + seconds
    memory = [rss_mib(pid)]

    async def one(client: httpx.AsyncClient, number: int) -> None:
        nonlocal errors, answered
        while time.monotonic() < ends_at:
            body = {"name": "summarize_text", "args": {"content": f"Text {number}."}}
            made = await client.post("/api/v1/tasks/", json=body)
            read = await client.get(f"/api/v1/tasks/{made.json().get('task_id')}")
            answered += 2
            errors += (made.status_code != 201) + (read.status_code != 200)

    async def watch() -> None:
        while time.monotonic() < ends_at:
            await asyncio.sleep(5)
            memory.append(rss_mib(pid))

    limits = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(base_url=address, timeout=30, limits=limits) as client:
        await asyncio.gather(watch(), *(one(client, each) for each in range(clients)))
    shown = " ".join(f"{each:.0f}" for each in memory)
    print(f"{clients} clients, {seconds:g} s: {answered / seconds:.0f} answers/s, ")
    print(f"  {errors} errors; memory of the service, MiB every 5 s: {shown}")


async def main() -> None:
    """Run all of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tf-") as folder:
        url, here = f"embedded://{folder}/d", Path(folder)
        with service(here, url) as (process, address):
            with running("worker", "--url", url, cwd=here) as worker:
                worker.line("tasks")
                pid = process.popen.pid
                await crowd(address, pid, chosen.clients, chosen.seconds)
            async with TaskFlow(url, registry=registry) as flow:
                await fill(flow, chosen.tasks)
                await beside_many_workers(flow, url, here, address)


async def beside_many_workers(
    flow: TaskFlow, url: str, here: Path, address: str
) -> None:
    """Measure the pages while 20 workers beat, one of which is frozen."""
    await flow.queues.apause("primary")
    workers = [
        Worker(flow, registry=registry, worker_id=f"w{number}") for number in range(19)
    ]
    beating = [asyncio.create_task(each.arun()) for each in workers]
    with running("worker", "--url", url, cwd=here) as frozen:
        frozen.line("tasks")
        await asyncio.sleep(2)
        os.kill(frozen.popen.pid, signal.SIGSTOP)
        await asyncio.sleep(17)
        await pages(address)
        async with httpx.AsyncClient(base_url=address) as client:
            listed = (await client.get("/health/workers")).json()
        print(f"workers: {listed['healthy']} healthy, {listed['stale']} stale")
    for each in workers:
        each.stop(now=True)
    await asyncio.gather(*beating)


if __name__ == "__main__":
    asyncio.run(main())
