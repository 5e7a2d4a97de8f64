"""Documents and a model that fails, with real workers: paid for once, all complete.

The provider is a `FakeOpenRouter` in the process of the test, so what it was asked
and what it has answered is known whatever becomes of the workers.
"""

import asyncio
import os
import random
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from taskflow import Registry, TaskRecord, TaskState
from taskflow_summarize._tasks import summarize_document, summarize_text
from taskflow_summarize.plugin import register
from taskflow_summarize.testing import AskedRequest, FakeOpenRouter, Reply
from tests.support.processes import Deployment, wait_until

pytest.importorskip("httpx")

pytestmark = [
    pytest.mark.deep,
    pytest.mark.timeout(int(os.environ.get("TASKFLOW_DOCUMENTS", "60")) + 180),
]

DOCUMENTS = int(os.environ.get("TASKFLOW_DOCUMENTS", "60"))
"""Small documents in a bad hour of the service; 500 for the long version."""

KEY = "sk-or-v1-canary-9d41c7"
PARTS = 40
AT_A_TIME = 4
PARTLY = {
    "SUMMARIZE_CONCURRENCY": str(AT_A_TIME),
    "SUMMARIZE_PART_TOKENS": "1000",
    "OPENROUTER_MAX_INPUT_TOKENS": "1000",
}
BOOK = " ".join(
    f"In year {year:04} the keepers counted {year * 7} lamps along the northern quay."
    for year in range(1450)
)
APP = "from taskflow import Registry\n\nregistry = Registry()\n"


class Provider:
    """The fake, on a loop of its own, and what it was asked."""

    def __init__(self) -> None:
        self.fake = FakeOpenRouter()
        self._loop = asyncio.new_event_loop()
        self._ends = asyncio.Event()
        self._serves = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._serves.wait(10)

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        async with self.fake.serve():
            self._serves.set()
            await self._ends.wait()

    def close(self) -> None:
        """Serve no more."""
        self._loop.call_soon_threadsafe(self._ends.set)
        self._thread.join()

    @property
    def settings(self) -> dict[str, str]:
        """What a worker needs to know of it."""
        return {
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
            "OPENROUTER_API_KEY": KEY,
            "OPENROUTER_BASE_URL": self.fake.url,
            "OPENROUTER_DIALECT": "openrouter",
            "OPENROUTER_MODEL": "maker/model-7b",
        }

    def parts(self, begin: int = 0, end: int | None = None) -> Counter[int]:
        """Count the requests for each part of the book, from *begin* to *end*."""
        asked = [prompt(each) for each in self.fake.requests[begin:end]]
        found = (re.search(rf"It is part (\d+) of {PARTS} ", each) for each in asked)
        return Counter(int(match[1]) for match in found if match)


def prompt(request: AskedRequest) -> str:
    """Give the user's message."""
    text: str = request.body["messages"][1]["content"]
    return text


@pytest.fixture
def provider() -> Iterator[Provider]:
    """Serve a model."""
    made = Provider()
    yield made
    made.close()


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    """Give a server and nobody who works yet."""
    registry = Registry()
    register(registry)
    made = Deployment(tmp_path, APP, registry)
    yield made
    made.close()


def done(deployment: Deployment, task_id: str) -> int:
    """Say how many parts are finished, as the record has it."""
    progress = deployment.flow.tasks.get(task_id).progress
    return 0 if progress is None else int(progress["done"])


def test_a_document_killed_half_way_pays_for_each_part_once(
    deployment: Deployment, provider: Provider
) -> None:
    """Twenty of forty parts are there when the worker is killed; twenty are asked."""
    half, asked = PARTS // 2, PARTS // 2 + AT_A_TIME
    held = [Reply.stall()] * AT_A_TIME
    provider.fake.replies.extend([*[Reply.ok()] * half, *held])
    first = deployment.worker("-c", "2", **provider.settings, **PARTLY)
    handle = deployment.flow.enqueue(summarize_document.call(BOOK))
    wait_until(lambda: len(provider.fake.requests) == asked)
    wait_until(lambda: done(deployment, handle.id) == half)
    first.kill()
    deployment.worker("-c", "2", **provider.settings, **PARTLY)
    made = handle.result(timeout=60)
    record = deployment.flow.tasks.get(handle.id)
    # What was never answered is asked for again, and nothing that was.
    paid = provider.parts(0, half) + provider.parts(asked)

    assert (PARTS, "map_reduce") == (made.parts, made.strategy)
    assert Counter(range(1, PARTS + 1)) == paid
    assert PARTS + AT_A_TIME + 1 == len(provider.fake.requests)
    assert {
        "calls": PARTS + 1,
        "prompt_tokens": 900 * (PARTS + 1),
        "completion_tokens": 14 * (PARTS + 1),
        "cost": pytest.approx(0.00021 * (PARTS + 1)),
    } == record.usage
    assert (0, 1) == (record.attempts, record.crashes)


def test_killed_at_any_moment_only_what_was_being_written_is_asked_again(
    deployment: Deployment, provider: Provider
) -> None:
    """Two workers die in the midst of answers; at most four parts each are lost."""
    provider.fake.replies.extend([Reply.slow(0.05)] * 3 * PARTS)
    handle = deployment.flow.enqueue(summarize_document.call(BOOK))
    for asked in (15, 32):
        worker = deployment.worker("-c", "2", **provider.settings, **PARTLY)
        wait_until(lambda asked=asked: len(provider.fake.requests) >= asked)
        worker.kill()
        worker.wait()
    deployment.worker("-c", "2", **provider.settings, **PARTLY)
    made = handle.result(timeout=60)
    record = deployment.flow.tasks.get(handle.id)
    parts = provider.parts()

    assert (PARTS, set(range(1, PARTS + 1))) == (made.parts, set(parts))
    assert parts.total() <= PARTS + 2 * AT_A_TIME
    assert PARTS + 1 <= record.usage["calls"] <= len(provider.fake.requests)
    assert (0, 2) == (record.attempts, record.crashes)


class BadHour(deque[Reply]):
    """A script by document: each meets so many faults, whoever asks first.

    Three of ten requests fail: told to wait, failing, silent, or answered with what
    is no answer. A document meets three at most, so that none can run out of
    attempts by chance.
    """

    COUNTED = ("failing", "inside", "stalled", "garbled", "cut", "unfinished")

    def __init__(self, fake: FakeOpenRouter, documents: int, seed: int) -> None:
        super().__init__()
        self._fake = fake
        self._asked = Counter[int]()
        chance = random.Random(seed)
        self.faults = [self._draw(chance) for _ in range(documents)]
        self.tokens = 0
        self.cost = 0.0
        self.times: list[float] = []

    def _draw(self, chance: random.Random) -> list[str]:
        drawn: list[str] = []
        while len(drawn) < 3 and chance.random() < 0.3:
            kind = chance.choice(("limited", "failing", "silent", "malformed"))
            if kind == "failing":
                kind = chance.choice(("failing", "inside"))
            elif kind == "silent":
                kind = "stalled"
            elif kind == "malformed":
                kind = chance.choice(("garbled", "cut", "unfinished"))
            drawn.append(kind)
        return drawn

    def __bool__(self) -> bool:
        return True

    def popleft(self) -> Reply:
        """Answer the request that came last."""
        self.times.append(time.monotonic())
        match = re.search(r"Report (\d+) ", prompt(self._fake.requests[-1]))
        assert match is not None
        number = int(match[1])
        place = self._asked[number]
        self._asked[number] += 1
        if place < len(self.faults[number]):
            return self._fault(self.faults[number][place])
        usage = {"prompt_tokens": 200 + number, "completion_tokens": 10, "cost": 0.0}
        usage["cost"] = (number + 1) / 100_000
        self.tokens += 210 + number
        self.cost += usage["cost"]
        return Reply.ok(f"Report {number} tells of a harbour.", usage=usage)

    @staticmethod
    def _fault(kind: str) -> Reply:
        return {
            "limited": lambda: Reply.rate_limited(0.4),
            "failing": Reply.failing,
            "inside": Reply.failing_inside,
            "stalled": Reply.stall,
            "garbled": Reply.garbled,
            "cut": Reply.cut,
            "unfinished": Reply.unfinished,
        }[kind]()


def report(number: int) -> str:
    """Write a small document, longer than its summary may be."""
    return (
        f"Report {number} of the harbour office was written on a grey morning. "
        "Three ships came in with the tide, and two left before noon. "
        f"The keeper of the lighthouse counted {number * 3} boats on the water. "
        "Nobody was hurt in the storm that followed, but a shed lost its roof. "
        "The office will ask the town for timber before the winter begins."
    )


def files(folder: Path) -> bytes:
    """Read all that is in *folder*."""
    return b"".join(each.read_bytes() for each in folder.rglob("*") if each.is_file())


def test_many_documents_in_a_bad_hour_of_the_service_all_complete(
    deployment: Deployment, provider: Provider, tmp_path: Path
) -> None:
    """The books add up, being told to wait costs no attempt, the rate is kept."""
    hour = BadHour(provider.fake, DOCUMENTS, seed=DOCUMENTS)
    provider.fake.replies = hour
    settings = {
        **provider.settings,
        # Three of ten can be five of the first ten: the breaker may open, briefly.
        "CIRCUIT_TIMEOUT": "2",
        "OPENROUTER_TIMEOUT": "3",
        "OPENROUTER_MAX_CALLS": "40",
        "OPENROUTER_MAX_CALLS_PER": "1",
    }
    for _ in range(2):
        deployment.worker("-c", "16", **settings)
    wait_until(lambda: deployment.alive() == 2)
    calls = [summarize_text.call(report(n), max_words=20) for n in range(DOCUMENTS)]
    handles = deployment.flow.enqueue_many(calls)
    wait_until(
        lambda: (
            deployment.count(TaskState.COMPLETED) == DOCUMENTS
            or deployment.count(TaskState.DLQ) > 0
        ),
        100 + DOCUMENTS / 4,
    )
    records: list[TaskRecord] = [deployment.flow.tasks.get(each.id) for each in handles]
    limit: Any = deployment.flow.upstreams.get("openrouter")

    assert [f"Report {n} tells of a harbour." for n in range(DOCUMENTS)] == [
        each.result(timeout=0) for each in handles
    ]
    counted = [sum(kind in hour.COUNTED for kind in each) for each in hour.faults]
    assert all(
        each.attempts <= most for each, most in zip(records, counted, strict=True)
    )
    assert hour.tokens == sum(
        each.usage["prompt_tokens"] + each.usage["completion_tokens"]
        for each in records
    )
    assert pytest.approx(hour.cost) == sum(each.usage["cost"] for each in records)
    assert {1} == {each.usage["calls"] for each in records}
    assert len(provider.fake.requests) == DOCUMENTS + sum(map(len, hour.faults))

    for window in (0.5, 1.0, 2.0):
        most = max(
            sum(begin <= at < begin + window for at in hour.times)
            for begin in hour.times
        )
        # A request is seen a little after it was let go: slack for a busy machine.
        assert most <= limit.burst + 40 * (window + 0.3)

    kept = files(deployment.data)
    assert kept
    assert KEY.encode() not in kept
    assert KEY.encode() not in files(tmp_path)
    assert b"harbour office" not in files(tmp_path)
