"""Several worker processes under one: start, watch, restart, stop.

Each child is the same command with one process, in a session of its own, so
that a signal meant for the supervisor reaches the children through it and in
order. A child holds the reading end of a pipe: when the supervisor is gone,
even killed, the pipe closes and the child drains and stops by itself.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from attrs import define, frozen

LIFELINE = "TASKFLOW_LIFELINE"
"""Environment variable that names the child's end of the pipe."""

STEADY = 10.0
"""Seconds after which a child that ends counts as having worked: it is started
again at once. One that ends sooner is started later each time."""

LONGEST_PAUSE = 30.0

_ENDED_WELL = {0, -signal.SIGTERM}
"""A child that our SIGTERM ends was so young that it did not heed it, and held nothing."""


def pause_after(failures: int) -> float:
    """Say how long to wait after so many failures in a row, in seconds."""
    # A child may fail for days, and no float holds 2 ** 1024.
    return min(LONGEST_PAUSE, 2.0 ** min(failures - 1, 10)) if failures else 0.0


@frozen
class WorkerProcesses:
    """What a supervisor keeps running.

    Attributes:
        command: Of each child.
        count: Children, from 1.
        grace: Seconds that a child has to stop before it is killed.
        environment: Of each child.
    """

    command: Sequence[str]
    count: int
    grace: float
    environment: Mapping[str, str]


@define
class _Child:
    number: int
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    failures: int = 0
    start_at: float = 0.0


class Supervisor:
    """Keeps worker processes running until told to stop.

    Args:
        processes: What to run.
        tell: Takes one sentence whenever a child starts or ends.
    """

    def __init__(self, processes: WorkerProcesses, tell: Callable[[str], None]) -> None:
        self._processes = processes
        self._tell = tell
        self._children = [_Child(number) for number in range(processes.count)]
        # A number and no event: a signal handler that sets an event waits for ever
        # where it interrupts the wait for that event in the wrong place.
        self._stops = 0

    def run(self) -> int:
        """Run the processes; blocks until they have stopped.

        Returns:
            0 when every child ended well after the stop, else 1.
        """
        reading, writing = os.pipe()
        try:
            self._watch(reading)
        finally:
            os.close(writing)
            os.close(reading)
            # Whatever has ended the watch: where we are the first process of a
            # container, what we leave behind is killed.
            code = self._stop()
        return code

    def ask_stop(self, signum: int = signal.SIGTERM, frame: object = None) -> None:
        """Stop the processes; the second time, without letting them finish."""
        del signum, frame
        self._stops += 1
        if self._stops > 1:
            self._signal_all()

    def _watch(self, reading: int) -> None:
        while not self._stops:
            now = time.monotonic()
            for child in self._children:
                if child.process is None and now >= child.start_at:
                    self._start(child, reading)
                elif child.process is not None and child.process.poll() is not None:
                    self._bury(child)
            if not self._stops:
                time.sleep(0.1)

    def _start(self, child: _Child, reading: int) -> None:
        try:
            process = subprocess.Popen(  # noqa: S603 - our own command
                self._processes.command,
                env={**self._processes.environment, LIFELINE: str(reading)},
                pass_fds=[reading],
                start_new_session=True,
            )
        except OSError as error:
            # No process, memory or descriptor is to be had: the siblings work on.
            pause = self._put_off(child, failures=child.failures + 1)
            self._tell(
                f"a worker process could not be started: {error}; "
                f"trying again in {pause:g} s"
            )
            return
        child.process = process
        child.started = time.monotonic()
        self._tell(f"worker process {process.pid} started")

    def _bury(self, child: _Child) -> None:
        process = child.process
        if process is None:
            return
        child.process = None
        lived = time.monotonic() - child.started
        failures = 0 if lived >= STEADY else child.failures + 1
        pause = self._put_off(child, failures=failures)
        self._tell(
            f"worker process {process.pid} {_ending(process.returncode)} "
            f"after {lived:.1f} s; starting another in {pause:g} s"
        )

    def _put_off(self, child: _Child, *, failures: int) -> float:
        pause = pause_after(failures)
        child.failures, child.start_at = failures, time.monotonic() + pause
        return pause

    def _signal_all(self) -> None:
        for child in self._children:
            if child.process is not None and child.process.poll() is None:
                child.process.send_signal(signal.SIGTERM)

    def _stop(self) -> int:
        self._signal_all()
        deadline = time.monotonic() + self._processes.grace
        worst = 0
        for child in self._children:
            if child.process is None:
                continue
            try:
                child.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._tell(f"worker process {child.process.pid} did not stop: killed")
                child.process.kill()
                child.process.wait()
            worst = worst or int(child.process.returncode not in _ENDED_WELL)
        return worst


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:  # one of those for real-time use
        return f"was ended by signal {-code}"


def watch_lifeline(on_end: Callable[[], None]) -> None:
    """Call *on_end* from a thread when the supervisor of this process is gone.

    Does nothing in a process that has no supervisor.
    """
    end = os.environ.pop(LIFELINE, "")
    if not end.isdigit():
        return

    def wait() -> None:
        try:
            while os.read(int(end), 1):
                continue
        except OSError:
            return
        on_end()

    threading.Thread(target=wait, name="taskflow-lifeline", daemon=True).start()


def python_command(*arguments: str) -> list[str]:
    """Return the command that runs ``python -m taskflow`` with *arguments*."""
    return [sys.executable, "-m", "taskflow", *arguments]
