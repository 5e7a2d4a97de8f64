"""The heartbeat's thread: it outlives whatever goes wrong in it."""

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from taskflow import Registry, TaskFlow, TaskState
from taskflow._protocol import claim
from taskflow._protocol.claim import LaneShare
from taskflow._protocol.keys import Keys
from taskflow._protocol.operation import Operation
from taskflow._servers.memory import MemoryServer
from taskflow._worker.heartbeat import Heartbeat, HeartbeatSettings
from taskflow._worker.leases import Leases
from taskflow.errors import ServerUnavailableError

LEASE = 15.0
LEASE_MS = 15_000
NOW = 1_000_000


class Deaf:
    """Hears nothing."""

    def __getattr__(self, name: str) -> Any:
        """Give what ignores its arguments."""
        return lambda *args, **facts: None


def beating(
    server: MemoryServer, lease: float, describe: Callable[[], bytes]
) -> Heartbeat:
    """Start the heartbeat of a worker that holds nothing."""
    heartbeat = Heartbeat(
        HeartbeatSettings(Keys(), "w", lease, lambda: 0),
        server.runner(),
        Leases(),
        Deaf(),
        describe,
    )
    heartbeat.start()
    return heartbeat


def test_a_beat_that_fails_is_logged_and_followed_by_the_next(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A dead thread would cost the worker every lease, without a word."""
    server = MemoryServer(f"memory://{uuid.uuid4().hex}")
    beats, went_on = 0, threading.Event()

    def describe() -> bytes:
        nonlocal beats
        beats += 1
        if beats == 1:
            message = "changed size during iteration"
            raise RuntimeError(message)
        went_on.set()
        return b"{}"

    heartbeat = beating(server, 0.3, describe)

    assert went_on.wait(10)
    heartbeat.stop()
    server.close()
    assert "a beat failed" in caplog.text


def test_an_answer_counts_from_when_its_beat_was_sent() -> None:
    """Read late, it must not look as if its leases had just been renewed."""
    server = MemoryServer(f"memory://{uuid.uuid4().hex}")
    runner, told, sent = server.runner(), threading.Event(), [0.0, 0.0]

    class Late:
        def send_all(self, operations: Any) -> Any:
            sent[1] = sent[1] or time.monotonic()
            return runner.send_all(operations)

        def close(self) -> None:
            runner.close()

    class Hears(Deaf):
        def answered(self, sent_at: float) -> None:
            sent[0] = sent[0] or sent_at
            told.set()

        def is_over(self) -> bool:
            return False

    settings = HeartbeatSettings(Keys(), "w", 600.0, lambda: 0)
    before = time.monotonic()
    late: Any = Late()
    heartbeat = Heartbeat(settings, late, Leases(), Hears(), lambda: b"{}")
    heartbeat.start()

    assert told.wait(10)
    heartbeat.stop()
    server.close()
    assert before <= sent[0] <= sent[1]


def test_a_beat_that_is_asked_for_does_not_wait_for_its_time() -> None:
    """Who was cancelled while nobody listened is found by it."""
    server = MemoryServer(f"memory://{uuid.uuid4().hex}")
    beaten = threading.Semaphore(0)

    def describe() -> bytes:
        beaten.release()
        return b"{}"

    heartbeat = beating(server, 600.0, describe)

    assert beaten.acquire(timeout=10)
    assert not beaten.acquire(timeout=0.2)
    heartbeat.beat_now()
    assert beaten.acquire(timeout=10)
    heartbeat.stop()
    server.close()


class Patient:
    """A worker that was given two tasks, and whose loop has heard of one.

    Attributes:
        now: The time, in ms; the tasks were claimed at `NOW`.
        is_deaf: Whether the server hears nothing of what ends.
    """

    def __init__(self) -> None:
        self.now, self.is_deaf = NOW, False
        registry = Registry()

        @registry.task(name="idle")
        def idle() -> None:
            """Be claimed, and never run."""

        self.flow = TaskFlow(f"memory://{uuid.uuid4().hex}", registry=registry)
        connection = self.flow.connection
        self.keys, self.leases = connection.keys, Leases()
        self._runner = connection.server.runner()
        self.flow.enqueue_many([idle.call(), idle.call()])
        given = claim.claim(
            self.keys,
            worker="w",
            nonce="0-1",
            slots=2,
            lease_ms=LEASE_MS,
            share=LaneShare(),
            suspect=False,
            now_ms=NOW,
        )
        self.pairs = [(each.id, each.token) for each in self._runner.send(given).claims]
        self.leases.add(self.pairs[:1])
        self.heartbeat = Heartbeat(
            HeartbeatSettings(self.keys, "w", LEASE, lambda: self.now),
            self,
            self.leases,
            Deaf(),
            lambda: b"{}",
        )

    def send(self, operation: Operation[Any]) -> Any:
        """Send *operation*."""
        return self._runner.send(operation)

    def send_all(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        """Send *operations*, but for what ends if the server is deaf."""
        if self.is_deaf and operations[0].script.name == "settle":
            return [ServerUnavailableError("no reply")]
        return self._runner.send_all(operations)

    def __getattr__(self, name: str) -> Any:
        """Do all else as a runner does."""
        return getattr(self._runner, name)

    def beat(self, after: float) -> list[TaskState]:
        """Beat *after* seconds; say where the tasks are."""
        self.now = NOW + round(after * 1000)
        self.heartbeat.register()
        return [self.flow.tasks.get(task_id).state for task_id, _ in self.pairs]


@pytest.fixture
def patient() -> Iterator[Patient]:
    """Give a worker whose loop is blocked."""
    made = Patient()
    yield made
    made.flow.close()


HELD = [TaskState.ACTIVE, TaskState.ACTIVE]
RETURNED = [TaskState.ACTIVE, TaskState.PENDING]


def test_what_a_blocked_loop_has_not_heard_of_is_handed_back_without_it(
    patient: Patient,
) -> None:
    """With half of its lease left, and unharmed; what is held stays held."""
    assert HELD == patient.beat(7.4)
    assert RETURNED == patient.beat(7.6)

    record = patient.flow.tasks.get(patient.pairs[1][0])
    assert (0, 0) == (record.crashes, record.attempts)
    # Its claim is answered after all: what was handed back is not run.
    assert {patient.pairs[1]} == patient.leases.add(patient.pairs)
    assert patient.pairs[:1] == patient.leases.snapshot()


def test_what_cannot_be_handed_back_is_with_the_next_beat(patient: Patient) -> None:
    """It was disowned, so nobody runs it meanwhile."""
    patient.is_deaf = True
    assert HELD == patient.beat(7.6)
    patient.is_deaf = False
    assert RETURNED == patient.beat(7.7)


def test_a_heartbeat_that_stops_hands_back_what_it_could_not(patient: Patient) -> None:
    """With its goodbye."""
    patient.is_deaf = True
    patient.beat(7.6)
    patient.is_deaf = False

    patient.heartbeat.stop()

    assert RETURNED == [
        patient.flow.tasks.get(task_id).state for task_id, _ in patient.pairs
    ]
