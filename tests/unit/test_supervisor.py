"""A supervisor outlives whatever keeps it from starting a child."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taskflow._worker import supervisor as module
from taskflow._worker.supervisor import (
    LONGEST_PAUSE,
    Supervisor,
    WorkerProcesses,
    pause_after,
)

SLEEPS = "import time; time.sleep(60)"


class Crowd:
    """A supervisor whose children sleep, and what it told.

    Attributes:
        told: Its sentences.
        started: The children there have been, oldest first.
        attempts: To start one, failed ones included.
    """

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        count: int,
        on_tell: Callable[["Crowd", str], None],
        *,
        fails: Callable[[int], bool] = lambda number: False,
    ) -> None:
        self.told: list[str] = []
        self.started: list[subprocess.Popen[bytes]] = []
        self.attempts = 0
        real = subprocess.Popen

        def start(*arguments: Any, **options: Any) -> Any:
            self.attempts += 1
            if fails(self.attempts):
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            self.started.append(real(*arguments, **options))
            return self.started[-1]

        def tell(sentence: str) -> None:
            self.told.append(sentence)
            on_tell(self, sentence)

        monkeypatch.setattr(module.subprocess, "Popen", start)
        command = [sys.executable, "-c", SLEEPS]
        processes = WorkerProcesses(
            command=command, count=count, grace=5.0, environment={}
        )
        self.supervisor = Supervisor(processes, tell)

    def alive(self) -> list[bool]:
        """Tell of each child whether it lives."""
        return [each.poll() is None for each in self.started]


def open_files() -> int:
    """Count the descriptors of this process."""
    return len(list(Path("/dev/fd").iterdir()))


def test_a_child_that_cannot_be_started_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its siblings work on, as after a child that ended."""
    alive: list[list[bool]] = []

    def on_tell(crowd: Crowd, sentence: str) -> None:
        alive.append(crowd.alive())
        if len(crowd.started) == 2 and "started" in sentence:
            crowd.started[0].kill()
        elif len(crowd.started) == 3:
            crowd.supervisor.ask_stop()

    monkeypatch.setattr(module, "pause_after", lambda failures: failures / 100)
    crowd = Crowd(monkeypatch, 2, on_tell, fails=lambda number: number == 3)
    opened = open_files()
    crowd.supervisor.run()

    (failed,) = [each for each in crowd.told if "could not be started" in each]
    assert "Resource temporarily unavailable" in failed
    assert "trying again in 0.02 s" in failed
    assert [[True], [True] * 2, *[[False, True]] * 2, [False, True, True]] == alive
    assert opened == open_files()


def test_the_crew_is_stopped_whatever_ends_its_supervisor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In a container it is the first process: its end would kill them all."""

    def on_tell(crowd: Crowd, sentence: str) -> None:
        if len(crowd.started) == 2:
            message = "the log cannot be written"
            raise RuntimeError(message)

    crowd = Crowd(monkeypatch, 2, on_tell)
    with pytest.raises(RuntimeError, match="log"):
        crowd.supervisor.run()

    assert [False, False] == crowd.alive()


def test_a_child_that_a_signal_without_a_name_ended_is_buried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Python knows no names of signals for real-time use."""
    nameless = 40

    def on_tell(crowd: Crowd, sentence: str) -> None:
        if len(crowd.started) == 2:
            crowd.supervisor.ask_stop()
        elif "started" in sentence:
            crowd.started[0].send_signal(nameless)

    crowd = Crowd(monkeypatch, 1, on_tell)
    crowd.supervisor.run()

    assert "was ended by signal 40" in crowd.told[1]


def test_a_child_may_fail_for_days() -> None:
    """The pause grows to its bound, and no number grows beyond what a float holds."""
    pauses = [pause_after(failures) for failures in (0, 1, 2, 3, 10, 5_000)]

    assert [0.0, 1.0, 2.0, 4.0, LONGEST_PAUSE, LONGEST_PAUSE] == pauses


def test_a_child_too_young_to_heed_the_stop_has_ended_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stop right after a restart is no failure: it held nothing yet."""
    crowd = Crowd(monkeypatch, 2, lambda crowd, _: crowd.supervisor.ask_stop())

    assert 0 == crowd.supervisor.run()
    assert {-signal.SIGTERM} == {each.returncode for each in crowd.started}
