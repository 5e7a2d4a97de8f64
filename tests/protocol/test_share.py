"""The retry lane's share: exact in every window, falling in a storm, never starving."""

import random
from itertools import cycle
from statistics import mean

import pytest

from taskflow._protocol.claim import ClaimReply, LaneShare, claim
from taskflow._protocol.enqueue import enqueue
from taskflow._protocol.queue_status import status
from tests.support.keyspace import NOW, SHARE, record, submission

HOUR = 3_600_000
NEVER = 10**9
SERVICE = 10  # ms for each task


def queue(stage, lane: str, count: int, since_ms: int = NOW) -> list[str]:
    """Put *count* waiting tasks into *lane*."""
    ids = [f"{lane}-{number:05}" for number in range(count)]
    pipeline = stage.client.pipeline(transaction=False)
    for each in ids:
        pipeline.hset(
            f"task:{each}", mapping=record("PENDING", lane, since_ms=since_ms)
        )
    pipeline.rpush(f"tasks:pending:{lane}", *ids)
    pipeline.execute()
    return ids


def served(stage, sizes, total: int) -> list:
    """Claim *total* tasks in calls of these sizes, as three workers in turn."""
    claims, workers = [], cycle("abc")
    for size in cycle(sizes):
        if len(claims) >= total:
            return claims[:total]
        claims += stage.claim(size, worker=next(workers)).claims
    raise AssertionError


@pytest.mark.parametrize("sizes", [(1,), (10,), (100,), (1, 7, 20)], ids=str)
def test_every_window_of_a_hundred_has_its_share(stage, sizes):
    """30 of 100 from retry, one more or less, however the claims are cut."""
    queue(stage, "primary", 500)
    queue(stage, "retry", 500)
    flags = [each.lane == "retry" for each in served(stage, sizes, 600)]

    sums = {sum(flags[at : at + 100]) for at in range(501)}
    assert {29, 30, 31} >= sums


@pytest.mark.parametrize("sizes", [(1,), (1, 7, 20)], ids=str)
def test_each_lane_is_first_in_first_out(stage, sizes):
    """The share mixes the lanes and keeps the order within each."""
    ids = {"primary": queue(stage, "primary", 60), "retry": queue(stage, "retry", 60)}
    claims = served(stage, sizes, 60)

    for lane, expected in ids.items():
        got = [each.id for each in claims if each.lane == lane]
        assert expected[: len(got)] == got


@pytest.mark.parametrize("lane", ["primary", "retry"])
def test_an_empty_lane_gives_its_share_away(stage, lane):
    """The other lane is served whole, and is not charged for it."""
    queue(stage, lane, 100)

    assert 100 == len(stage.claim(100).claims)
    assert "0" == stage.dump()["tasks:lanes"]["credit"]


def test_tombstones_are_not_charged_to_a_lane(stage):
    """Dropping cancelled retries leaves the share of those that run."""
    queue(stage, "primary", 300)
    ids = queue(stage, "retry", 300)
    dropped = ids[:100]
    stage.fill({"tasks:tombstones:retry": set(dropped)})
    stage.client.delete(*[f"task:{each}" for each in dropped])
    flags = [each.lane == "retry" for each in served(stage, (10,), 200)]

    assert 58 <= sum(flags) <= 62


@pytest.mark.parametrize(
    ("depth", "age", "expected"),
    [
        (0, 0, 0.30),
        (10, HOUR, 0.30),
        (20, 0, 0.20),
        (30, 0, 0.10),
        (40, 0, 0.10),
        (40, HOUR, 0.20),
        (40, 2 * HOUR, 0.30),
        (40, 9 * HOUR, 0.30),
        (20, HOUR, 0.30),
    ],
)
def test_the_share_falls_with_the_depth_and_rises_with_the_age(
    stage, depth, age, expected
):
    """From 0.30 to 0.10 between warning and critical, plus 0.20 with age."""
    share = LaneShare(0.30, warning=10, critical=30, max_age_ms=2 * HOUR)
    if depth:
        queue(stage, "retry", depth, since_ms=NOW - age)
    found = stage.send(status(stage.keys, share, now_ms=NOW))

    assert pytest.approx(expected) == found.retry_ratio


@pytest.mark.parametrize("ratio", [0.0, 0.05, 0.5, 1.0])
def test_the_default_is_never_exceeded(stage, ratio):
    """Neither depth nor age lifts the share above the setting."""
    share = LaneShare(ratio, warning=1, critical=2, max_age_ms=HOUR)
    queue(stage, "retry", 5, since_ms=NOW - HOUR)
    found = stage.send(status(stage.keys, share, now_ms=NOW))

    assert found.retry_ratio <= ratio


def storm(stage, share: LaneShare) -> tuple[float, int]:
    """Let 10,000 retries meet new work at 60 % load; virtual time.

    One task is served every 10 ms. Gives the mean wait of new work in ms until
    the storm is over, and how many retries were served.
    """
    stage.client.flushdb()
    queue(stage, "retry", 10_000)
    chance = random.Random(1)
    waits, retried, arrivals, number = [], 0, 0, 0
    arrived: dict[str, int] = {}
    due = NOW + chance.expovariate(0.6 / SERVICE)
    while retried < 10_000 and number < 60_000:
        operations = []
        for _ in range(1000):
            now = NOW + number * SERVICE
            number += 1
            while due <= now:
                arrivals += 1
                task = submission(f"n{arrivals}")
                arrived[f"n{arrivals}"] = int(due)
                operations.append(enqueue(stage.keys, [task], now_ms=int(due)))
                due += chance.expovariate(0.6 / SERVICE)
            operations.append(
                claim(
                    stage.keys,
                    worker="w",
                    nonce=f"1-{number}",
                    slots=1,
                    lease_ms=HOUR,
                    share=share,
                    suspect=False,
                    now_ms=now,
                )
            )
        for reply in stage.runner.send_all(operations):
            for each in reply.claims if isinstance(reply, ClaimReply) else ():
                if each.lane == "retry":
                    retried += 1
                elif retried < 10_000:
                    waits.append(reply.now_ms - arrived[each.id])
    return mean(waits), retried


@pytest.mark.timeout(120)
def test_new_work_waits_half_as_long_in_a_storm_as_with_a_fixed_share(real_stage):
    """The falling share halves the wait at least, and the backlog drains."""
    fixed, fixed_served = storm(real_stage, LaneShare(0.30, NEVER, NEVER))
    ours, served_retries = storm(real_stage, SHARE)

    assert (10_000, 10_000) == (fixed_served, served_retries)
    assert ours <= fixed / 2
