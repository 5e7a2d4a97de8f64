"""Many connections ask at once whether they may try an upstream that was shut."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from taskflow import CircuitBreaker, Upstream
from taskflow._protocol import settle, upstreams
from taskflow._protocol.keys import Keys
from taskflow._protocol.record import CallReport
from taskflow._protocol.upstreams import BreakerDefaults
from taskflow._servers.redis import RedisServer
from tests.support.keyspace import NOW, WHY, Stage

pytestmark = pytest.mark.timeout(120)

TRIALS = 1000
CLAIMING, GUARDING = 4, 4
VERDICTS = ("success", "failure", "neutral")


class Race:
    """Connections that wait for each other and then ask at once."""

    def __init__(self, stages: list[Stage], rules: bytes) -> None:
        self._stages = stages
        self._rules = rules
        self._gate = threading.Barrier(len(stages) + 1, timeout=30)
        self._now = NOW
        self._trial = 0
        self._admitted: list[Callable[[str], Any]] = []
        self._is_over = False
        asks = [self._claim] * CLAIMING + [self._enter] * GUARDING
        self._threads = [
            threading.Thread(target=self._run, args=(ask, stage, number))
            for number, (ask, stage) in enumerate(zip(asks, stages, strict=True))
        ]
        for each in self._threads:
            each.start()

    def run(self, now_ms: int) -> list[Callable[[str], Any]]:
        """Let all ask once at this time; give those that were let begin."""
        self._now, self._admitted = now_ms, []
        self._trial += 1
        self._gate.wait()
        self._gate.wait()
        return self._admitted

    def close(self) -> None:
        """End the threads."""
        self._is_over = True
        self._gate.wait()
        for each in self._threads:
            each.join()

    def _run(self, ask: Callable[..., None], stage: Stage, number: int) -> None:
        while True:
            self._gate.wait()
            if self._is_over:
                return
            try:
                ask(stage, number)
            except BaseException:
                self._gate.abort()
                raise
            self._gate.wait()

    def _claim(self, stage: Stage, number: int) -> None:
        nonce = f"{number}-{self._trial}"
        got = stage.claim(10, now_ms=self._now, worker=f"w{number}", nonce=nonce)

        for claim in got.claims:

            def end(verdict: str, claim: Any = claim) -> None:
                report = CallReport("api", claim.epoch, verdict, "", 0)
                outcome = settle.park(claim, WHY, entry={})._replace(report=report)
                stage.send(settle.settle(stage.keys, [outcome], now_ms=self._now))

            self._admitted.append(end)

    def _enter(self, stage: Stage, number: int) -> None:
        ticket = f"guard:{number}-{self._trial}"
        reply = stage.send(
            upstreams.acquire_permit(
                stage.keys,
                "api",
                ticket=ticket,
                weight=1,
                lease_ms=15_000,
                permit="own",
                rules=self._rules,
                now_ms=self._now,
            )
        )
        if reply.word == "IN":

            def end(verdict: str) -> None:
                stage.send(
                    upstreams.release_permit(
                        stage.keys,
                        "api",
                        ticket=ticket,
                        epoch=reply.epoch,
                        outcome=verdict,
                        now_ms=self._now,
                    )
                )

            self._admitted.append(end)


@pytest.fixture
def stages(redis_server: RedisServer) -> Iterator[list[Stage]]:
    """Give a connection of its own to everybody, on a real server."""
    client = redis_server.sync_client()
    runners = [redis_server.runner() for _ in range(CLAIMING + GUARDING)]
    yield [Stage(client, each, Keys()) for each in runners]
    for each in runners:
        each.close()
    client.close()


def test_exactly_one_of_many_is_the_probe(stages: list[Stage]) -> None:
    """A thousand times, tasks and guards alike, however the one before it ended."""
    first = stages[0]
    api = Upstream("api", breaker=CircuitBreaker(reset_timeout=5.0))
    rules = upstreams.pack_rules(api, BreakerDefaults())
    first.send(upstreams.declare(first.keys, "api", rules, now_ms=NOW))
    first.enqueue(*[f"t{at}" for at in range(100)], upstream="1 api")
    race, now = Race(stages, rules), NOW
    counts = []
    try:
        for trial in range(TRIALS):
            verdict = VERDICTS[trial % len(VERDICTS)]
            if trial == 0 or VERDICTS[(trial - 1) % len(VERDICTS)] != "neutral":
                now += 10_000
                steer = upstreams.set_upstream(
                    first.keys, "api", "open", expires_ms=1, now_ms=now
                )
                first.send(steer)
            now += 10
            probes = race.run(now)
            counts.append(len(probes))
            for end in probes:
                end(verdict)
    finally:
        race.close()

    assert [1] * TRIALS == counts
