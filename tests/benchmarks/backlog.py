"""Whether a million waiting tasks, or dead letters, make anything slower.

``python tests/benchmarks/backlog.py [--size 1000000]`` starts a Redis of its own and
lets it tell the time that it spends: the percentiles of ``INFO latencystats``, taken
in rounds of one claim each, and every command that took longer than 20 ms
(``SLOWLOG``). Client and network are in none of the figures; nothing is gated.

Ten of the tasks are taken out of their list, and the doctor finds and mends that. The
backlog is then brought to the dead letters, pages of them are read, 100,000 tasks come
due at one instant, all dead letters are requeued, and the doctor looks once more.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

from machine import server

from taskflow import TaskFlow
from taskflow._codec import Spec, encode_spec
from taskflow._protocol import settle
from taskflow._protocol.claim import LaneShare, claim
from taskflow._protocol.enqueue import Submission, SubmitOptions, enqueue
from taskflow._protocol.record import Claim, ErrorFacts
from taskflow._protocol.upkeep import promote

SPEC = encode_spec(Spec(name="f"))
WHY = ErrorFacts("ValueError", "no", "Traceback", "f" * 12)
SLOW = 20_000  # microseconds
BATCH = 100
AT_ONCE = 10


class Bench:
    """One server, and what is asked of it."""

    def __init__(self, flow: TaskFlow, client: Any) -> None:
        self.flow = flow
        self.client = client
        self.numbers = count()

    def send(self, *operations: Any) -> list[Any]:
        """Send operations in one round trip."""
        answers = self.flow.connection.runner.send_all(operations)
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    def store(self, tasks: int, **options: int) -> None:
        """Store tasks."""
        keys, packed = self.flow.connection.keys, SubmitOptions(**options).pack()
        for some in stretches(tasks, BATCH * AT_ONCE):
            batches = [
                [
                    Submission(f"t{next(self.numbers)}", b"{}", SPEC, packed)
                    for _ in range(size)
                ]
                for size in stretches(some, BATCH)
            ]
            self.send(*(enqueue(keys, batch) for batch in batches))

    def claim(self, tasks: int, *, slots: int = BATCH) -> list[Claim]:
        """Claim tasks, so many in each call."""
        keys, held = self.flow.connection.keys, []
        while len(held) < tasks:
            operation = claim(
                keys,
                worker="w",
                nonce=f"1-{next(self.numbers)}",
                slots=slots,
                lease_ms=600_000,
                share=LaneShare(),
                suspect=True,
            )
            (reply,) = self.send(operation)
            if not reply.claims:
                break
            held += reply.claims
        return held

    def settle(self, held: list[Claim], outcome: Callable[[Claim], Any]) -> None:
        """Settle claims, a hundred in each call."""
        keys = self.flow.connection.keys
        for first in range(0, len(held), BATCH):
            outcomes = [outcome(each) for each in held[first : first + BATCH]]
            self.send(settle.settle(keys, outcomes))

    def claim_time(self, rounds: int) -> tuple[float, float]:
        """Give p50 and p99 of the script that claims one task, in microseconds.

        The best of three stretches: what else the machine does only adds to them.
        """
        found = []
        for _ in range(3):
            self.client.config_resetstat()
            held = self.claim(rounds // 3, slots=1)
            told = self.client.info("latencystats")["latency_percentiles_usec_evalsha"]
            self.settle(held, lambda each: settle.complete(each, b"1"))
            found.append((told["p50"], told["p99"]))
        return min(p50 for p50, _ in found), min(p99 for _, p99 in found)


def stretches(total: int, most: int) -> Iterator[int]:
    """Part *total* into sizes of at most *most*."""
    while total > 0:
        yield min(total, most)
        total -= most


def dead(each: Claim) -> Any:
    """Give the outcome that ends in the dead letters."""
    return settle.dead_letter(each, WHY, cause="permanent", uses_attempt=True, entry={})


def timed(name: str, deed: Callable[[], Any]) -> None:
    """Do *deed* and print how long it took, seen from here."""
    before = time.perf_counter()
    deed()
    print(f"{name}: {(time.perf_counter() - before) * 1000:.1f} ms")


def longest(bench: Bench, name: str, deed: Callable[[], Any]) -> None:
    """Do *deed*; print how long it took, and the longest command of it."""
    bench.client.config_set("slowlog-log-slower-than", 1_000)
    bench.client.config_set("slowlog-max-len", 10_000)
    bench.client.slowlog_reset()
    timed(name, deed)
    found = sorted(each["duration"] / 1000 for each in bench.client.slowlog_get(10_000))
    print(f"  longest commands {[round(each, 1) for each in found[-12:]]} ms")
    bench.client.slowlog_reset()
    bench.client.config_set("slowlog-log-slower-than", SLOW)
    bench.client.config_set("slowlog-max-len", 128)


def damaged(bench: Bench, number: int) -> None:
    """Take waiting tasks out of their list; have them found and brought back.

    To be sure of one of them its entry is looked for in the whole list, in one step.
    """
    flow = bench.flow
    longest(bench, "doctor", flow.doctor)
    bench.client.rpop(flow.connection.keys.primary, number)
    longest(bench, f"doctor, {number} records in no home", flow.doctor)
    longest(bench, "doctor --repair", lambda: flow.doctor(repair=True))


def measure(bench: Bench, size: int, rounds: int) -> None:
    """Print what is found."""
    flow = bench.flow
    lines = {}
    bench.store(1_000 + 2 * rounds)
    bench.claim_time(rounds // 2)  # warm
    lines["1,000 waiting"] = bench.claim_time(rounds)
    bench.store(size)
    lines[f"{size:,} waiting"] = bench.claim_time(rounds)
    timed("status", flow.queues.status)
    damaged(bench, 10)
    while held := bench.claim(10_000):
        bench.settle(held, dead)
    bench.store(1_000 + rounds)
    lines[f"1,000 waiting, {size:,} dead letters"] = bench.claim_time(rounds)
    timed("page of 50 dead letters", lambda: flow.dlq.list(limit=50))
    timed("groups of dead letters", flow.dlq.groups)
    bench.claim(size)
    bench.store(100_000, delay_ms=2_000)
    time.sleep(2.0)

    def all_due() -> None:
        while bench.send(promote(flow.connection.keys))[0].moved:
            pass

    timed("promote 100,000 tasks of one instant", all_due)
    timed("requeue all dead letters", lambda: flow.dlq.requeue(fingerprint="f" * 12))
    timed("doctor", flow.doctor)
    base = lines["1,000 waiting"][1]
    print("\n| | p50 (us) | p99 (us) | p99 against 1,000 |\n|---|---|---|---|")
    for name, (p50, p99) in lines.items():
        print(f"| {name} | {p50:.0f} | {p99:.0f} | {p99 / base:.2f} |")
    slow = bench.client.slowlog_get(128)
    print(f"\ncommands over {SLOW // 1000} ms: {len(slow)}")
    for each in slow[:10]:
        print(f"  {each['duration'] / 1000:.1f} ms: {each['command'][:120]!r}")


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description="A million tasks, and a claim")
    parser.add_argument("--size", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=15_000)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as redis:
        redis.client.config_set("slowlog-log-slower-than", SLOW)
        with TaskFlow(redis.url) as flow:
            measure(Bench(flow, redis.client), chosen.size, chosen.rounds)


if __name__ == "__main__":
    main()
