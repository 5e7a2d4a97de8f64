"""Upstreams in a fleet of real processes: shut for all, tried by one, back for all."""

import logging
import os
import statistics
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from taskflow import Registry, TaskRecord, TaskState
from tests.support.machine import check_within
from tests.support.processes import LEASE, Deployment, wait_until

pytestmark = pytest.mark.timeout(240)

OUTAGE = float(os.environ.get("TASKFLOW_OUTAGE", "6"))
"""Seconds that the service is away; 60 for the long version."""

RATED = float(os.environ.get("TASKFLOW_RATED", "6"))
"""Seconds for which the rate is measured; 60 for the long version."""

_measured = logging.getLogger("measured")
"""Figures, seen with ``pytest -o log_cli=true --log-cli-level=INFO``."""

APP = """
import asyncio, os, time
from pathlib import Path
from taskflow import CircuitBreaker, CircuitBreakerError, RateLimit, Registry, RetryPolicy, Upstream

registry = Registry()
service = Path("service")
api = Upstream("api", breaker=CircuitBreaker(failure_rate=0.2))
rated = Upstream("rated", rate_limit=RateLimit(230, per=10.0))
narrow = Upstream("narrow", concurrency=32)
patient = RetryPolicy(wait=0.5)

class StatusError(Exception):
    def __init__(self, status, retry_after=None):
        super().__init__(f"status {status}")
        self.status_code = status
        self.headers = {"Retry-After": retry_after} if retry_after else {}

def log(*words):
    line = " ".join(map(str, words)) + f" {time.time():.3f}\\n"
    file = os.open(os.environ["RUN_LOG"], os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    os.write(file, line.encode())
    os.close(file)

@registry.task(name="call", upstream=api, retry=patient)
async def call(number: int) -> int:
    log("start", number, 0)
    said = service.read_text()
    if said == "hang":
        await asyncio.sleep(60)
    if said and os.environ.get("SEES", "1") == "1":
        status, _, wait = said.partition(" ")
        log("failed", number, 0)
        raise StatusError(int(status), wait)
    await asyncio.sleep(0.01)
    log("end", number, 0)
    return number

@registry.task(name="rate", upstream=rated)
async def rate(number: int) -> int:
    log("start", number, 0)
    return number

@registry.task(name="hold", upstream=narrow)
async def hold(number: int, seconds: float) -> int:
    log("start", number, 0)
    await asyncio.sleep(seconds)
    return number

@registry.task(name="inside")
async def inside(number: int, seconds: float) -> int:
    async with narrow.guard():
        log("start", number, 0)
        await asyncio.sleep(seconds)
    return number

@registry.task(name="other")
async def other(number: int) -> int:
    log("other", number, 0)
    return number

@registry.task(name="knocks")
async def knocks(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            async with api.guard():
                log("in", 0, 0)
        except CircuitBreakerError:
            log("out", 0, 0)
        await asyncio.sleep(0.01)

@registry.task(name="guarded")
async def guarded() -> None:
    while True:
        try:
            async with api.guard():
                log("guarded", 0, 0)
        except CircuitBreakerError:
            log("refused", 0, 0)
            return
        await asyncio.sleep(0.02)
"""

registry = Registry()


@registry.task(name="call", upstream="api")
def call(number: int) -> int:
    """Stand for the worker's task of this name."""
    raise NotImplementedError(number)


@registry.task(name="rate", upstream="rated")
def rate(number: int) -> int:
    """Stand for the worker's task of this name."""
    raise NotImplementedError(number)


@registry.task(name="hold", upstream="narrow")
def hold(number: int, seconds: float) -> int:
    """Stand for the worker's task of this name."""
    raise NotImplementedError(number, seconds)


@registry.task(name="inside")
def inside(number: int, seconds: float) -> int:
    """Stand for the worker's task of this name."""
    raise NotImplementedError(number, seconds)


@registry.task(name="other")
def other(number: int) -> int:
    """Stand for the worker's task of this name."""
    raise NotImplementedError(number)


@registry.task(name="knocks")
def knocks(seconds: float) -> None:
    """Stand for the worker's task of this name."""
    raise NotImplementedError(seconds)


@registry.task(name="guarded")
def guarded() -> None:
    """Stand for the worker's task of this name."""


class Service:
    """What the bodies are answered."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "service"
        self.says("")

    def says(self, answer: str) -> None:
        """Answer so from now on; nothing = well."""
        self._file.write_text(answer, encoding="utf-8")


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    """Give a server and nobody who works yet."""
    made = Deployment(tmp_path, APP, registry)
    yield made
    made.close()


@pytest.fixture
def service(tmp_path: Path) -> Service:
    """Give a service that is well."""
    return Service(tmp_path)


def state(deployment: Deployment, name: str = "api") -> Any:
    """Read how an upstream stands."""
    return deployment.flow.upstreams.get(name)


def records(deployment: Deployment, handles: list[Any]) -> list[TaskRecord]:
    """Read the tasks."""
    return [deployment.flow.tasks.get(each.id) for each in handles]


def starts(deployment: Deployment, word: str = "start") -> list[float]:
    """Say when bodies started."""
    return sorted(at for _, _, at in deployment.lines(word))


def took_by_another(deployment: Deployment) -> float:
    """Say how long a task without an upstream takes from enqueue to result."""
    asked = time.monotonic()
    deployment.flow.enqueue(other.call(0)).result(timeout=10)
    return time.monotonic() - asked


@pytest.mark.timed
def test_what_one_worker_sees_stops_them_all(
    deployment: Deployment, service: Service
) -> None:
    """Three workers: nothing is claimed while it is shut, others go on, all ends well."""
    breaker = {"CIRCUIT_TIMEOUT": "2"}
    deployment.worker("-c", "10", SEES="1", **breaker)
    deployment.worker("-c", "10", SEES="0", **breaker)
    deployment.worker("-c", "10", SEES="0", **breaker)
    wait_until(lambda: deployment.alive() == 3)
    service.says("503")
    handles = deployment.flow.enqueue_many([call.call(n) for n in range(400)])
    wait_until(lambda: state(deployment).state == "open")
    opened = state(deployment)
    others = deployment.flow.enqueue_many([other.call(n) for n in range(500)])
    began = time.time()
    wait_until(
        lambda: all(r.state is TaskState.COMPLETED for r in records(deployment, others))
    )
    check_within(time.time() - began, 5.0)
    late = [
        record
        for record in records(deployment, handles)
        if record.started_at is not None
        and opened.since < record.started_at < opened.retry_at
    ]
    service.says("")
    wait_until(
        lambda: all(
            r.state is TaskState.COMPLETED for r in records(deployment, handles)
        ),
        60,
    )
    ended = records(deployment, handles)

    assert [] == late
    assert {0, 1} >= {each.attempts for each in ended}
    assert 0 == deployment.count(TaskState.DLQ)


@pytest.mark.timed
@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_retry_after_stops_all_until_it_is_over(
    deployment: Deployment, service: Service, form: str
) -> None:
    """For three seconds, or until the date, to a third of a second."""
    for _ in range(2):
        deployment.worker("-c", "5")
    wait_until(lambda: deployment.alive() == 2)
    date = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=4)
    wait = "3" if form == "seconds" else format_datetime(date, usegmt=True)
    service.says(f"429 {wait}")
    handles = deployment.flow.enqueue_many([call.call(0)])
    wait_until(lambda: state(deployment).tapped_until is not None)
    service.says("")
    failed = starts(deployment, "failed")[-1]
    handles += deployment.flow.enqueue_many([call.call(n) for n in range(1, 20)])
    wait_until(
        lambda: all(
            r.state is TaskState.COMPLETED for r in records(deployment, handles)
        )
    )
    first = min(at for at in starts(deployment) if at > failed)
    expected = failed + 3 if form == "seconds" else date.timestamp()

    check_within(abs(first - expected), 0.3)
    assert {0} == {each.attempts for each in records(deployment, handles)}


@pytest.mark.timed
def test_a_worker_killed_with_the_probe_lets_another_try(
    deployment: Deployment, service: Service
) -> None:
    """Within the lease and a second."""
    breaker = {"CIRCUIT_TIMEOUT": "1", "CIRCUIT_VOLUME_THRESHOLD": "3"}
    first = deployment.worker("-c", "5", **breaker)
    wait_until(lambda: deployment.alive() == 1)
    service.says("503")
    deployment.flow.enqueue_many([call.call(n) for n in range(30)])
    wait_until(lambda: state(deployment).state == "open")
    service.says("hang")
    before = len(starts(deployment))
    wait_until(lambda: len(starts(deployment)) > before)
    assert 1 == state(deployment).probes
    deployment.worker("-c", "5", **breaker)
    wait_until(lambda: deployment.alive() == 2)
    time.sleep(2.5)  # two beats: from then on the other may reap
    service.says("")
    killed_at = time.time()
    first.kill()
    wait_until(lambda: starts(deployment)[-1] > killed_at)

    check_within(starts(deployment)[-1] - killed_at, LEASE + 1.0)
    wait_until(lambda: state(deployment).state == "closed")


@pytest.mark.timed
def test_a_worker_killed_with_all_permits_lets_others_go_on(
    deployment: Deployment,
) -> None:
    """Thirty-two of them, within the lease and a second."""
    first = deployment.worker("-c", "40")
    handles = deployment.flow.enqueue_many([hold.call(n, 30.0) for n in range(32)])
    wait_until(lambda: len(starts(deployment)) == 32)
    handles = deployment.flow.enqueue_many([hold.call(n, 0.1) for n in range(100, 110)])
    deployment.worker("-c", "40")
    wait_until(lambda: deployment.alive() == 2)
    time.sleep(2.5)  # two beats: from then on the other may reap
    assert (32, 32) == (state(deployment, "narrow").running, len(starts(deployment)))
    killed_at = time.time()
    first.kill()
    wait_until(
        lambda: all(
            r.state is TaskState.COMPLETED for r in records(deployment, handles)
        )
    )

    again = min(at for at in starts(deployment) if at > killed_at) - killed_at
    check_within(again, LEASE + 1.0)
    assert state(deployment, "narrow").running <= 32


@pytest.mark.timed
def test_a_worker_killed_with_all_permits_of_guards_lets_others_go_on(
    deployment: Deployment,
) -> None:
    """Thirty-two calls in bodies keep them for as long as they live, then lose them."""
    first = deployment.worker("-c", "32")
    wait_until(lambda: deployment.alive() == 1)
    deployment.flow.enqueue_many([inside.call(n, 30.0) for n in range(32)])
    wait_until(lambda: len(starts(deployment)) == 32)
    deployment.worker("-c", "40")
    wait_until(lambda: deployment.alive() == 2)
    handles = deployment.flow.enqueue_many(
        [inside.call(n, 0.1) for n in range(100, 105)]
    )
    time.sleep(LEASE + 1.5)  # longer than a permit holds that nobody renews
    assert (32, 32) == (state(deployment, "narrow").running, len(starts(deployment)))
    killed_at = time.time()
    first.kill()
    wait_until(
        lambda: all(
            r.state is TaskState.COMPLETED for r in records(deployment, handles)
        )
    )

    again = min(at for at in starts(deployment) if at > killed_at) - killed_at
    check_within(again, LEASE + 1.0)
    wait_until(lambda: len(starts(deployment)) == 32 + 5 + 32)
    assert 32 == state(deployment, "narrow").running


def test_what_a_person_does_holds_for_all_and_outlives_a_restart(
    deployment: Deployment, service: Service
) -> None:
    """Bodies see it within a quarter of a second, claims at once."""
    deployment.worker("-c", "5")
    wait_until(lambda: deployment.alive() == 1)
    deployment.flow.enqueue(guarded.call())
    wait_until(lambda: len(starts(deployment, "guarded")) > 5)
    opened_at = time.time()
    deployment.flow.upstreams.force_open("api", reason="they asked us", expires=3600)
    done_at = time.time()
    wait_until(lambda: starts(deployment, "refused"))
    seen = starts(deployment, "refused")[0] - done_at
    handle = deployment.flow.enqueue(call.call(1))
    deployment.kill_server()
    deployment.start_server()
    wait_until(lambda: deployment.flow.enqueue(other.call(2)).id, 20)
    wait_until(lambda: starts(deployment, "other"))
    kept = state(deployment)
    deployment.flow.upstreams.force_close("api")

    assert 1 == handle.result(timeout=20)
    check_within(seen, 0.25)
    assert ("open", "person", "they asked us") == (
        kept.state,
        kept.shut_by,
        kept.reason,
    )
    assert starts(deployment, "start")[0] > opened_at


def first(deployment: Deployment, word: str, since: float) -> float:
    """Wait until a body wrote *word* after *since*; say how much later."""
    wait_until(lambda: starts(deployment, word)[-1:] > [since])
    return min(at for at in starts(deployment, word) if at > since) - since


@pytest.mark.timed
def test_bodies_see_what_another_process_does_within_a_quarter_of_a_second(
    deployment: Deployment, service: Service
) -> None:
    """Open, close, reset, and the end of an expiry; the next claim obeys at once."""
    deployment.worker("-c", "5")
    wait_until(lambda: deployment.alive() == 1)
    deployment.flow.enqueue(knocks.call(60.0))
    wait_until(lambda: starts(deployment, "in"))
    steer = deployment.flow.upstreams
    took = {}
    for verb in ("force_close", "reset"):
        steer.force_open("api", reason="they asked us")
        opened = time.time()
        handle = deployment.flow.enqueue(call.call(1))
        took[f"open before {verb}"] = first(deployment, "out", opened)
        time.sleep(0.5)
        assert TaskState.PENDING is deployment.flow.tasks.get(handle.id).state
        assert max(starts(deployment, "in")) < opened + 0.25
        getattr(steer, verb)("api")
        took[verb] = first(deployment, "in", time.time())
        assert 1 == handle.result(timeout=5)
    steer.force_open("api", expires=1.0)
    opened = time.time()
    took["expiry"] = first(deployment, "in", opened + 0.95) - 0.05
    _measured.info("%s", took)

    check_within(max(took.values()), 0.25)
    wait_until(lambda: state(deployment).state == "closed")


@pytest.mark.timed
def test_an_outage_costs_no_task_its_life(
    deployment: Deployment, service: Service
) -> None:
    """All complete soon after it is over, none with more than one attempt used."""
    reset = str(OUTAGE / 6)
    for _ in range(2):
        deployment.worker("-c", "10", CIRCUIT_TIMEOUT=reset, MAX_TASK_AGE="2s")
    wait_until(lambda: deployment.alive() == 2)
    before = [took_by_another(deployment) for _ in range(20)]
    service.says("503")
    handles = deployment.flow.enqueue_many([call.call(n) for n in range(200)])
    began, during = time.time(), []
    while time.time() - began < OUTAGE:
        during.append(took_by_another(deployment))
        time.sleep(0.2)
    service.says("")
    over = time.time()
    wait_until(
        lambda: all(
            r.state is TaskState.COMPLETED for r in records(deployment, handles)
        ),
        60,
    )
    ended = records(deployment, handles)

    took = time.time() - over
    usual, meanwhile = statistics.median(before), statistics.median(during)
    _measured.info("all complete %.1f s after the outage", took)
    _measured.info("others: %.4f s before, %.4f s in it", usual, meanwhile)
    _measured.info("slowest of %d in it: %.3f s", len(during), max(during))
    check_within(took, max(12.0, OUTAGE / 2))
    assert {0, 1} >= {each.attempts for each in ended}
    assert 0 == deployment.count(TaskState.DLQ)
    assert meanwhile < 2 * usual + 0.02
    check_within(max(during), 1.0)


@pytest.mark.timed
def test_a_rate_is_kept_by_all_together_and_used(deployment: Deployment) -> None:
    """Four processes: no window above burst and rate, and little of it unused."""
    for _ in range(4):
        deployment.worker("-c", "20")
    wait_until(lambda: deployment.alive() == 4)
    handles = deployment.flow.enqueue_many(
        [rate.call(n) for n in range(int(RATED * 23) + 200)]
    )
    wait_until(lambda: starts(deployment))
    time.sleep(RATED)
    ran = [each for each in records(deployment, handles) if each.started_at]
    at = sorted(each.started_at.timestamp() for each in ran if each.started_at)
    limit = state(deployment, "rated")

    assert (230, 10.0, 11) == (limit.limit, limit.per, limit.burst)
    # Times of claims by the server's clock. In each window, from any claim to any
    # later one: calls - rate x time, of which the largest is found in one pass.
    excess, lowest = 0.0, float("inf")
    for number, moment in enumerate(at):
        lowest = min(lowest, number - 23 * moment)
        excess = max(excess, number + 1 - 23 * moment - lowest)
    # The bucket was empty at the start, so no burst is among them.
    used = (len(at) - 1) / (23 * (at[-1] - at[0]))
    _measured.info("%d calls, %.3f above the rate, %.4f used", len(at), excess, used)
    assert excess <= limit.burst + 0.05  # a ms of rounding at each end
    assert used >= 0.98
