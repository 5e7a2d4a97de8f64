"""What is measured; each workload runs one peer once and returns figures."""

import asyncio
import itertools
import math
import statistics
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bodies
import machine
from adapters import Adapter
from attrs import frozen

PAD = "x" * 200
"""An argument of 200 bytes; its task is what "bytes per queued task" weighs."""

CALLERS = 100
PER_SECOND = 50
PATIENCE = 120.0

Figures = dict[str, float]


@frozen
class Sizes:
    """How much each workload does.

    Attributes:
        drained: No-ops that wait when the worker starts.
        enqueued: Calls, each way.
        latencies: Calls, at 50 a second.
        naps: Bodies that sleep.
        deep: Tasks queued in the larger of the two backlogs.
    """

    drained: int = 20_000
    enqueued: int = 3_000
    latencies: int = 500
    naps: int = 5_000
    deep: int = 1_000_000


QUICK = Sizes(drained=5_000, enqueued=1_000, latencies=150, naps=2_000, deep=50_000)


@frozen
class Bench:
    """One peer on one server.

    Attributes:
        peer: The adapter.
        server: Emptied before each workload.
        marks: The file that the bodies write.
        run: Runs a coroutine on the one loop of this process.
        sizes: How much to do.
        slots: Bodies at a time in the worker.
    """

    peer: Adapter
    server: machine.Server
    marks: Path
    run: Callable[[Coroutine[Any, Any, Any]], Any]
    sizes: Sizes
    slots: int

    def clean(self) -> None:
        """Forget what was before."""
        self.server.client.flushall()
        self.marks.unlink(missing_ok=True)

    @contextmanager
    def worker(self) -> Iterator[machine.WorkerProcess]:
        """Run the peer's worker while the context lasts."""
        command = self.peer.worker(self.slots)
        with machine.worker(command, self.marks, self.server.url) as process:
            yield process

    async def fill(self, body: Any, arguments: list[Any]) -> None:
        """Enqueue the fastest way the peer has."""
        async with self.peer.producer() as producer:
            if not await producer.many(body, arguments):
                await _crowd(producer, body, arguments)

    def wait(self, number: int) -> None:
        """Wait until *number* bodies have ended.

        Raises:
            TimeoutError: No body has ended for two minutes.
        """
        seen, since = 0, time.monotonic()
        while (found := bodies.count(self.marks)) < number:
            if found > seen:
                seen, since = found, time.monotonic()
            if time.monotonic() - since > PATIENCE:
                log = (self.marks.parent / "worker.log").read_text(errors="replace")
                message = f"{found} of {number} bodies have ended; {log[-2000:]}"
                raise TimeoutError(message)
            time.sleep(0.01)


async def _crowd(producer: Any, body: Any, arguments: list[Any]) -> None:
    left = iter(arguments)

    async def caller() -> None:
        for argument in left:
            await producer.one(body, argument)

    await asyncio.gather(*(caller() for _ in range(CALLERS)))


def drain(bench: Bench) -> Figures:
    """Let one worker empty a backlog of no-ops; its start is not counted."""
    number = bench.sizes.drained
    bench.run(bench.fill("noop", [PAD] * number))
    with bench.worker() as worker:
        bench.wait(number // 5)
        before = _spent(bench, worker)
        bench.wait(number * 9 // 10)
        after = _spent(bench, worker)
        bench.wait(number)
        memory = worker.memory
    marks = bodies.read(bench.marks)
    wall, tasks, busy, own, cpu, server = (
        end - begin for begin, end in zip(before, after, strict=True)
    )
    return {
        "drain tasks/s": (number - 1) / (max(marks) - min(marks)) * 1e9,
        "worker CPU us/task": cpu / tasks * 1e6,
        "Redis CPU us/task": server / tasks * 1e6,
        "worker RSS MB": memory / 1e6,
        "cores that others used": (busy - own - cpu - server) / wall,
    }


def _spent(bench: Bench, worker: machine.WorkerProcess) -> tuple[float, ...]:
    return (
        time.perf_counter(),
        bodies.count(bench.marks),
        machine.busy(),
        time.process_time(),
        worker.cpu,
        bench.server.cpu,
    )


def enqueue(bench: Bench) -> Figures:
    """Store no-ops one by one, from 100 callers at once, and many in a call."""
    number = bench.sizes.enqueued
    figures: Figures = {}

    async def awaited() -> float:
        async with bench.peer.producer() as producer:
            await producer.one("noop", PAD)
            begun = time.perf_counter()
            for _ in range(number):
                await producer.one("noop", PAD)
            return time.perf_counter() - begun

    async def crowd() -> float:
        async with bench.peer.producer() as producer:
            await producer.one("noop", PAD)
            begun = time.perf_counter()
            await _crowd(producer, "noop", [PAD] * number)
            return time.perf_counter() - begun

    async def many() -> float | None:
        async with bench.peer.producer() as producer:
            begun = time.perf_counter()
            if not await producer.many("noop", [PAD] * 5 * number):
                return None
            return (time.perf_counter() - begun) / 5

    one_by_one = bench.peer.one_by_one(PAD, number)
    alone = bench.run(awaited())
    figures["enqueue one by one /s"] = number / (one_by_one or alone)
    figures["enqueue one by one, awaited /s"] = number / alone
    bench.server.client.flushall()
    # What is made once is there before the first byte is weighed.
    bench.run(bench.fill("noop", [PAD]))
    empty = bench.server.memory
    figures["enqueue, 100 callers /s"] = number / bench.run(crowd())
    used = bench.server.memory - empty
    figures["Redis bytes per queued task"] = used / (number + 1)
    at_once = bench.run(many())
    if at_once is not None:
        figures["enqueue many /s"] = number / at_once
    return figures


def latency(bench: Bench) -> Figures:
    """Enqueue 50 a second to an idle worker: from the call to the body's start."""
    number, warm = bench.sizes.latencies, 20

    async def produce() -> None:
        async with bench.peer.producer() as producer:
            begun = time.perf_counter()
            for turn in range(warm + number):
                due = begun + turn / PER_SECOND
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                await producer.one("late", time.time_ns())

    bench.run(bench.fill("late", [time.time_ns()]))
    with bench.worker():
        bench.wait(1)
        bench.run(produce())
        bench.wait(1 + warm + number)
    late = sorted(mark / 1e6 for mark in bodies.read(bench.marks)[1 + warm :])
    return {
        f"latency p{part} ms": late[math.ceil(len(late) * part / 100) - 1]
        for part in (50, 95, 99)
    }


def naps(bench: Bench) -> Figures:
    """Let bodies sleep 50 ms; beside it a bare loop with as many coroutines as slots."""
    number = bench.sizes.naps
    bench.run(bench.fill("nap", [PAD] * number))
    with bench.worker():
        bench.wait(number)
    marks = bodies.read(bench.marks)
    # The first mark is made when the first body has slept already.
    ours = (max(marks) - min(marks)) / 1e9 + bodies.SLEEP

    async def bare() -> float:
        left = iter(range(number))

        async def slot() -> None:
            for _ in left:
                await asyncio.sleep(bodies.SLEEP)

        begun = time.perf_counter()
        await asyncio.gather(*(slot() for _ in range(bench.slots)))
        return time.perf_counter() - begun

    bared = bench.run(bare())
    return {"50 ms sleeps, % of a bare loop": 100 * bared / ours}


WORKLOADS = {"drain": drain, "enqueue": enqueue, "latency": latency, "naps": naps}


def backlog(bench: Bench) -> Figures:
    """Time the claim script itself beside a short and a long queue; ours only."""
    from taskflow._protocol import claim, settle
    from taskflow._protocol.claim import LaneShare
    from taskflow._protocol.keys import Keys
    from taskflow._servers.from_url import open_server

    figures: Figures = {}
    client, keys = bench.server.client, Keys()
    runner = open_server(bench.server.url).runner()
    nonces = itertools.count(1)
    for depth in (1_000, bench.sizes.deep):
        bench.clean()
        for first in range(0, depth, 10_000):
            part = min(10_000, depth - first)
            bench.run(bench.fill("noop", [PAD] * part))
        client.config_set("slowlog-log-slower-than", 0)
        client.config_set("slowlog-max-len", 10_000)
        taken: list[float] = []
        for _ in range(500):
            client.slowlog_reset()
            operation = claim.claim(
                keys,
                worker="bench",
                nonce=f"0-{next(nonces)}",
                slots=10,
                lease_ms=60_000,
                share=LaneShare(),
                suspect=False,
            )
            claims = runner.send(operation).claims
            sha = operation.script.sha.encode()
            taken += [
                entry["duration"]
                for entry in client.slowlog_get(10)
                if sha in entry["command"]
            ]
            runner.send(
                settle.settle(keys, [settle.complete(each, b"1") for each in claims])
            )
            bench.run(bench.fill("noop", [PAD] * len(claims)))
        client.config_set("slowlog-log-slower-than", 10_000)
        taken.sort()
        figures[f"claim of 10 beside {depth:,}, p50 us"] = statistics.median(taken)
        figures[f"claim of 10 beside {depth:,}, p99 us"] = taken[
            math.ceil(len(taken) * 0.99) - 1
        ]
    runner.close()
    return figures
