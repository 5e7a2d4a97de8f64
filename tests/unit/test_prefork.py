"""The worker's side of a pool: what it gives out, and what it makes of answers."""

import asyncio
import errno
import signal
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from taskflow import Registry
from taskflow._codec import Spec, encode_spec
from taskflow._events import Events, TaskCrashed
from taskflow._protocol.record import Claim, Outcome
from taskflow._worker.executor import Limits
from taskflow._worker.executors import ipc_batch
from taskflow._worker.executors.ipc import Pipe, pack
from taskflow._worker.executors.ipc_batch import MOST_PER_MESSAGE
from taskflow._worker.executors.prefork import STOP_GRACE, PreforkExecutor

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.skipif(
        not hasattr(socket, "SO_PEERCRED"), reason="the pool needs Linux"
    ),
]

DONE = ("complete", b"1", None)


class Child:
    """A child of the pool, as its worker sees it."""

    def __init__(self, address: str) -> None:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(address)
        self.line = Pipe(sock)

    def say(self, *frames: Any) -> None:
        """Write frames to the worker."""
        self.line.sock.send(b"".join(map(pack, frames)))


class Stage:
    """The host of an executor, and its pool."""

    def __init__(self, folder: Path, slots: int) -> None:
        self.registry = Registry()
        self.limits = Limits(0, 3600.0, None, None, 1000, 3)
        self.events = Events()
        self.slots = slots
        self.guards: Any = None
        self.outcomes: list[Outcome] = []
        self.crashes: list[TaskCrashed] = []
        self.submitted: list[tuple[int, list[str]]] = []
        self.looked = self.failing_looks = 0
        self.times: dict[str, float] = {}
        self.children: list[Child] = []
        self.events.subscribe(self.crashes.append, TaskCrashed)
        for name in ("quick", "slow"):
            self.registry.task(name=name)(lambda: 1)
        self.registry.task(name="limited", timeout=0.2)(lambda: 1)
        self.address = str(folder / "line")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.address)
        listener.listen()
        listener.settimeout(0)
        self.executor = PreforkExecutor(self, Random(1), self, listener)

    # What the executor asks of its host.

    def limited(self, claim: Claim, hard_at: float) -> None:
        """Keep the time that a task has."""
        self.times[claim.id] = hard_at - time.monotonic()

    def done(self, claim: Claim, outcome: Outcome) -> None:
        """Keep an outcome."""
        assert claim.id == outcome.id
        self.outcomes.append(outcome)

    def give_back(self, claims: list[Claim]) -> None:
        """Nothing is given back for waiting."""
        raise AssertionError(claims)

    async def note(self, claim: Claim, report: Any) -> Any:
        """Children store their reports themselves."""
        raise AssertionError(claim, report)

    # What it asks of its pool.

    def submit(self, number: int, claims: list[tuple[Any, ...]]) -> None:
        """Keep a message."""
        self.submitted.append((number, [claim[0] for claim in claims]))

    def process_events(self) -> None:
        """Count the looks; the first few may fail."""
        self.looked += 1
        if self.looked <= self.failing_looks:
            raise BlockingIOError(errno.EAGAIN, "no process can be started")

    def pids(self) -> list[int]:
        """There are none."""
        return []

    # What tests say.

    def child(self) -> Child:
        """Let a child ring up."""
        self.children.append(Child(self.address))
        return self.children[-1]

    def start(self, *ids: str, name: str = "quick", lane: str = "primary") -> None:
        """Hand claims to the executor."""
        spec = encode_spec(Spec(name=name))
        self.executor.start(
            Claim(each, lane, 1, f"1:w:{each}", b"{}", spec, 0, 0, 0, b"")
            for each in ids
        )

    def ended(self) -> list[tuple[str, str]]:
        """List the outcomes."""
        return [(each.id, each.verb) for each in self.outcomes]

    async def until(self, condition: Any) -> None:
        """Let the loop turn until *condition* holds."""
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110 - what is waited for is no event
                await asyncio.sleep(0.005)


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Give the signals that were sent; nobody gets them."""
    sent: list[int] = []
    monkeypatch.setattr(ipc_batch.os, "kill", lambda _, signum: sent.append(signum))
    return sent


@pytest.fixture
async def stage(tmp_path: Path, killed: list[int]) -> AsyncIterator[Stage]:
    """Give a worker with two children's room."""
    made = Stage(tmp_path, 2)
    yield made
    await made.executor.aclose()
    for child in made.children:
        child.line.close()


async def test_a_child_gets_one_message_and_the_rest_waits_here(stage: Stage) -> None:
    """So that what waits can be handed back."""
    stage.start("a", "b", "c", "d")

    assert [(1, ["a"]), (2, ["b"])] == stage.submitted
    assert (2, 2) == (stage.executor.running, stage.executor.ready)
    assert ["c", "d"] == [each.id for each in stage.executor.release_ready()]


async def test_each_answer_is_an_outcome_at_once(stage: Stage) -> None:
    """That the message is over makes the child free, and no more."""
    stage.start("a", "b", "c")
    child = stage.child()
    child.say(("begin", 1), ("done", 1, DONE, None, 0.001))
    await stage.until(lambda: stage.outcomes)

    assert [("a", "complete")] == stage.ended()
    assert 2 == len(stage.submitted)
    stage.executor.over(1)
    assert (3, ["c"]) == stage.submitted[-1]


async def learn(stage: Stage, child: Child) -> None:
    """Let the executor see that `quick` is quick, and `slow` is not."""
    for number, (name, seconds) in enumerate((("quick", 0.001), ("slow", 0.5)), 1):
        stage.start(f"first-{name}", name=name)
        child.say(("begin", number), ("done", number, DONE, None, seconds))
        stage.executor.over(number)
    await stage.until(lambda: len(stage.outcomes) == 2)
    stage.outcomes.clear()
    stage.submitted.clear()


async def test_short_tasks_share_a_message_where_many_wait(stage: Stage) -> None:
    """Those that are not known to be short do not, nor does a suspect."""
    await learn(stage, stage.child())
    stage.start("x", "y")
    stage.start(*(f"q{each}" for each in range(60)))
    stage.executor.over(3)
    stage.executor.over(4)
    stage.executor.release_ready()
    stage.start("s", "t", lane="suspects")
    stage.start("u", "v", name="slow")
    stage.executor.over(5)
    stage.executor.over(6)

    assert [1, 1, MOST_PER_MESSAGE, MOST_PER_MESSAGE, 1, 1] == [
        len(ids) for _, ids in stage.submitted
    ]


async def test_a_line_that_ends_is_a_crash_of_the_task_it_was_at(
    stage: Stage,
) -> None:
    """What it had not begun is given to another, unharmed."""
    child = stage.child()
    await learn(stage, child)
    stage.start("x", "y")
    stage.start("a", "b", "c", "d")
    stage.executor.over(3)
    assert (5, ["a", "b"]) == stage.submitted[-1]
    child.say(("begin", 5), ("done", 5, DONE, None, 0.001))
    child.line.close()
    await stage.until(lambda: stage.looked)
    stage.executor.over(5, "its process ended: signal 9 (SIGKILL)")
    await stage.until(lambda: len(stage.outcomes) == 2)

    assert [("a", "complete"), ("b", "crash")] == stage.ended()
    assert "its process ended: signal 9 (SIGKILL)" == stage.crashes[0].how
    assert ["c"] == stage.submitted[-1][1]
    assert 1 == stage.executor.ready


@pytest.mark.parametrize("failing", [1, 1000])
async def test_a_death_that_the_pool_cannot_look_into_is_a_crash(
    stage: Stage, failing: int
) -> None:
    """What is known of the cause is told, and nothing is held for ever."""
    stage.failing_looks = failing
    stage.start("a", "b")
    for number, known in ((1, True), (2, False)):
        child = stage.child()
        child.say(("begin", number))
        await stage.until(lambda: stage.executor.names)
        child.line.close()
        await stage.until(lambda before=stage.looked: stage.looked > before)
        if known:
            stage.executor.over(number, "its process ended: signal 9 (SIGKILL)")
        await stage.until(lambda: not stage.executor.names)

    assert [("a", "crash"), ("b", "crash")] == stage.ended()
    assert [
        "its process ended: signal 9 (SIGKILL)",
        "its process ended, nobody knows how",
    ] == [each.how for each in stage.crashes]


async def test_a_child_that_has_died_is_killed_no_more(
    stage: Stage, killed: list[int]
) -> None:
    """Its number may be another's; nor is its death taken for a time-out."""
    child = stage.child()
    stage.start("a", name="limited")
    child.say(("begin", 1))
    await stage.until(lambda: stage.executor.names)
    child.line.close()
    await stage.until(lambda: stage.outcomes)

    assert [("a", "crash")] == stage.ended()
    assert [] == killed


async def test_a_child_that_dies_before_it_begins_costs_nothing(stage: Stage) -> None:
    """Its message is given to another."""
    stage.start("a")
    stage.executor.over(1, "its process ended: exitcode 1")
    await stage.until(lambda: len(stage.submitted) == 2)

    assert ["a"] == stage.submitted[1][1]
    assert [] == stage.outcomes


async def test_what_a_child_gives_back_runs_elsewhere(stage: Stage) -> None:
    """The task that it is at goes on."""
    child = stage.child()
    await learn(stage, child)
    stage.start("x", "y")
    stage.start("a", "b", "c", "d")
    stage.executor.over(3)
    child.say(("begin", 5), ("back", 5, 1))
    await stage.until(lambda: stage.executor.ready == 3)

    child.say(("done", 5, DONE, None, 0.3))
    await stage.until(lambda: stage.outcomes)
    assert [("a", "complete")] == stage.ended()


async def test_a_task_that_waits_here_is_cancelled_at_once(stage: Stage) -> None:
    """One whose lease is lost is dropped, and gives no outcome."""
    stage.start("a", "b", "c", "d")

    stage.executor.cancel("c", "1:w:c")
    assert stage.executor.abandon("d", "1:w:d")
    assert not stage.executor.abandon("nobody", "1:w:nobody")
    assert [("c", "cancel")] == stage.ended()
    assert 0 == stage.executor.ready


@pytest.mark.parametrize("way", ["cancel", "abandon"])
async def test_a_task_stopped_before_it_begins_is_killed_after_its_grace(
    stage: Stage, killed: list[int], way: str
) -> None:
    """Its body may have begun before its child heard, and take no notice."""
    child = stage.child()
    await learn(stage, child)
    stage.start("x", "y")
    stage.start("a", "b", "c", "d")
    stage.executor.over(3)
    child.say(("begin", 5))
    await stage.until(lambda: stage.executor.names)
    getattr(stage.executor, way)("b", "1:w:b")
    child.say(("done", 5, DONE, None, 0.001))
    began = time.monotonic()
    await stage.until(lambda: signal.SIGKILL in killed)

    assert time.monotonic() - began >= STOP_GRACE
    assert [("a", "complete")] == stage.ended()


@pytest.mark.parametrize(
    ("meanwhile", "outcomes"),
    [
        ("limit", [("a", "complete")]),
        ("cancel", [("a", "complete")]),
        ("abandon", []),
        ("death", [("a", "complete")]),
        ("release", [("a", "complete")]),
    ],
)
async def test_a_body_that_has_ended_is_stopped_no_more(
    stage: Stage, killed: list[int], meanwhile: str, outcomes: list[tuple[str, str]]
) -> None:
    """Its child stores what it reported; what became of it is known."""
    child = stage.child()
    stage.start("a", name="limited")
    child.say(("begin", 1), ("ended", 1, DONE, None, 0.1))
    await stage.until(lambda: stage.executor.names)
    if meanwhile in {"cancel", "abandon"}:
        getattr(stage.executor, meanwhile)("a", "1:w:a")
    await asyncio.sleep(0.3 if meanwhile == "limit" else STOP_GRACE + 0.2)
    before = (stage.ended(), killed.count(signal.SIGKILL), stage.executor.running)
    if meanwhile == "release":
        child.line.close()
        assert [] == stage.executor.release_running()
    elif meanwhile == "death":
        child.line.close()
    else:
        child.say(("done", 1))
    await stage.until(lambda: not stage.executor.running)

    assert ([], 0, 1) == before
    assert outcomes == stage.ended()


async def test_what_runs_is_killed_and_given_up(
    stage: Stage, killed: list[int]
) -> None:
    """Also what is on its way to a child; an answer that has come is heard first."""
    child, idle = stage.child(), stage.child()
    stage.start("a", "b", "c")
    child.say(("begin", 1))
    await stage.until(lambda: stage.executor.names)
    child.say(("done", 1, DONE, None, 0.001))
    child.line.close()
    idle.line.close()

    claims = stage.executor.release_running()
    assert ["b", "c"] == [each.id for each in claims]
    assert [("a", "complete")] == stage.ended()
    stage.start("late")
    assert 2 == len(stage.submitted)
    assert killed


async def test_a_body_that_began_while_the_loop_was_busy_has_crashed(
    stage: Stage,
) -> None:
    """Its child said so before it died; it is not begun again as if it had not."""
    stage.start("a")
    child = stage.child()
    child.say(("begin", 1))
    child.line.close()
    stage.executor.over(1, "signal 9")
    time.sleep(0.2)  # noqa: ASYNC251 - a busy loop is what is tested
    await stage.until(lambda: stage.outcomes)

    assert [("a", "crash")] == stage.ended()
    assert 1 == len(stage.submitted)


async def test_what_a_child_has_said_is_heard_before_it_is_asked_for(
    stage: Stage,
) -> None:
    """Whether a message began is known as soon as it is on its way."""
    stage.start("a")
    child = stage.child()
    before = stage.executor.has_begun(1)
    child.say(("begin", 1))
    began = stage.executor.has_begun(1)
    child.say(("done", 1, DONE, None, 0.1))

    assert [False, True, True] == [before, began, stage.executor.has_begun(1)]
    assert [("a", "complete")] == stage.ended()
