"""Measure what an upstream costs: claims and settles with and without, a million parked.

``python tests/benchmarks/upstreams.py [--parked 1000000] [--rounds 12]`` starts a
Redis of its own and prints four tables:

* script time of a claim and its settle for each task: without an upstream, with a
  closed breaker, with a wide rate limit as well, with a concurrency limit as well;
* the same for other tasks while nothing, and very much, is parked;
* no-op tasks a second through a worker, with and without an upstream;
* a guard, with and without limits.

All is taken in rounds that take turns, so that a busy moment of the machine falls on
every kind. Figures are reported and never gate anything.
"""

import argparse
import asyncio
import random
import secrets
import statistics
import tempfile
import time
from pathlib import Path

from attrs import frozen
from machine import server

from taskflow import RateLimit, Registry, Task, TaskFlow, Upstream, Worker, use
from taskflow._codec import Spec, encode_spec
from taskflow._protocol import claim, enqueue, settle, upstreams
from taskflow._protocol.claim import LaneShare
from taskflow._protocol.upstreams import BreakerDefaults

SPEC = encode_spec(Spec(name="f"))
WIDE = RateLimit(10_000_000, per=1.0)
KINDS = {
    "no upstream": None,
    "breaker": Upstream("breaker"),
    "+ rate limit": Upstream("rated", rate_limit=WIDE),
    "+ concurrency": Upstream("narrow", rate_limit=WIDE, concurrency=100_000),
}


@frozen
class Bench:
    """One server, and what was asked of it."""

    flow: TaskFlow
    client: object

    def send(self, operation):
        """Send one operation."""
        return self.flow.connection.runner.send(operation)

    def declare(self, upstream: Upstream) -> None:
        """Make an upstream known."""
        rules = upstreams.pack_rules(upstream, BreakerDefaults())
        self.send(upstreams.declare(self.flow.connection.keys, upstream.name, rules))

    def store(self, count: int, upstream: str = "") -> None:
        """Store *count* tasks."""
        options = enqueue.SubmitOptions(upstream=upstream).pack() if upstream else b""
        for first in range(0, count, 100):
            batch = [
                enqueue.Submission(secrets.token_hex(12), b"{}", SPEC, options)
                for _ in range(min(100, count - first))
            ]
            self.send(enqueue.enqueue(self.flow.connection.keys, batch))

    def trip(self, size: int) -> float:
        """Claim and settle *size* tasks; give the script time of each, in us."""
        keys = self.flow.connection.keys
        self.client.config_resetstat()
        got = self.send(
            claim.claim(
                keys,
                worker="w",
                nonce=f"1-{secrets.randbits(40)}",
                slots=size,
                lease_ms=15_000,
                share=LaneShare(),
                suspect=True,
            )
        ).claims
        assert len(got) == size
        outcomes = [
            settle.complete(
                each,
                b"1",
                settle.report_of(each.upstream, each.epoch, "success")
                if each.upstream
                else None,
            )
            for each in got
        ]
        self.send(settle.settle(keys, outcomes))
        told = self.client.info("commandstats")["cmdstat_evalsha"]
        return float(told["usec"]) / size


def shuffled(kinds: dict) -> list:
    """Give the kinds in an order of chance: the last of a round is often the slowest."""
    return random.sample(list(kinds.items()), len(kinds))


def compare(bench: Bench, rounds: int) -> None:
    """Print what each kind costs, in batches of 1, 10 and 100."""
    print("script time of claim + settle, us for each task (median)")
    for size in (1, 10, 100):
        took: dict[str, list[float]] = {name: [] for name in KINDS}
        for _ in range(rounds):
            for name, upstream in shuffled(KINDS):
                for _ in range(max(20, 100 // size)):
                    bench.store(size, "" if upstream is None else f"1 {upstream.name}")
                    took[name].append(bench.trip(size))
        base = statistics.median(took["no upstream"])
        shown = ", ".join(
            f"{name} {statistics.median(each):.1f} ({statistics.median(each) / base:.2f}x)"
            for name, each in took.items()
        )
        print(f"  batch of {size:3}: {shown}")


def others(bench: Bench, rounds: int) -> tuple[float, float]:
    """Give median and 99th percentile of claims of other tasks, us for each."""
    took = []
    for _ in range(rounds * 10):
        bench.store(100)
        took.append(bench.trip(100))
    return statistics.median(took), statistics.quantiles(took, n=100)[-1]


def park(bench: Bench, count: int, rounds: int) -> None:
    """Print what claims of other tasks cost beside parked ones."""
    print(f"claims of other tasks beside {count:,} parked, us for each (p50 / p99)")
    keys = bench.flow.connection.keys
    before = others(bench, rounds)
    bench.store(1, "1 breaker")
    bench.flow.upstreams.force_open("breaker", reason="benchmark")
    assert [] == _claims(bench, keys)
    bench.store(count - 1, "1 breaker")
    shut = others(bench, rounds)
    bench.flow.upstreams.reset("breaker")
    ramping = others(bench, rounds)
    for name, (p50, p99) in (
        ("nothing parked", before),
        ("parked, shut", shut),
        ("parked, coming back", ramping),
    ):
        print(
            f"  {name:20} {p50:.1f} / {p99:.1f}"
            f"  ({p50 / before[0]:.2f}x / {p99 / before[1]:.2f}x)"
        )


def _claims(bench: Bench, keys) -> list:
    return bench.send(
        claim.claim(
            keys,
            worker="w",
            nonce=f"2-{secrets.randbits(40)}",
            slots=100,
            lease_ms=15_000,
            share=LaneShare(),
            suspect=True,
        )
    ).claims


async def drain(flow: TaskFlow, rounds: int, tasks: int = 10_000) -> None:
    """Print how many no-op tasks a worker does a second, with and without."""
    print("no-op tasks a second through one worker, 100 slots (median)")
    registry = Registry()
    bodies: dict[str, Task] = {}
    for number, (name, upstream) in enumerate(KINDS.items()):

        @registry.task(name=f"idle{number}", upstream=upstream)
        async def idle() -> None:
            pass

        bodies[name] = idle
    took: dict[str, list[float]] = {name: [] for name in KINDS}
    for _ in range(max(3, rounds)):
        for name, body in shuffled(bodies):
            await flow.aenqueue_many([body.call() for _ in range(tasks)])
            worker = Worker(flow, registry=registry, concurrency=100)
            began = time.perf_counter()
            await worker.arun_until_idle()
            took[name].append(tasks / (time.perf_counter() - began))
    base = statistics.median(took["no upstream"])
    for name, each in took.items():
        rate = statistics.median(each)
        print(f"  {name:20} {rate:,.0f} ({rate / base:.2f}x)")


async def guards(flow: TaskFlow, calls: int = 2000) -> None:
    """Print what a guard costs around a call that does nothing."""
    print("a guard around nothing, us for each call")
    use(flow)
    for name, upstream in (
        ("breaker alone", Upstream("guarded")),
        ("rate and concurrency", Upstream("full", rate_limit=WIDE, concurrency=1000)),
    ):
        began = time.perf_counter()
        for _ in range(calls):
            async with upstream.guard():
                pass
        took = (time.perf_counter() - began) / calls * 1e6
        print(f"  {name:20} {took:.1f}")
    use(None)


def main() -> None:
    """Run all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parked", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=12)
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        server(Path(folder)) as redis,
        TaskFlow(redis.url) as flow,
    ):
        bench = Bench(flow, redis.client)
        for upstream in KINDS.values():
            if upstream is not None:
                bench.declare(upstream)
        compare(bench, given.rounds)
        asyncio.run(drain(flow, given.rounds))
        park(bench, given.parked, given.rounds)
        asyncio.run(guards(flow))


if __name__ == "__main__":
    main()
