"""What a worker gives to a child of its pool, and how it reaches the child."""

import contextlib
import os
import signal
import socket
from collections import deque
from typing import Any, Protocol

from taskflow._worker.executors.ipc import ALERT, Frame, Pipe, pack
from taskflow._worker.executors.job import Execution


class Pool(Protocol):
    """What the executor needs of a pool of processes."""

    def submit(self, number: int, claims: list[tuple[Any, ...]]) -> None:
        """Give a message to a free child; `PreforkExecutor.over` is called once."""
        ...

    def process_events(self) -> None:
        """Find out which children have ended, and replace them."""
        ...

    def pids(self) -> list[int]:
        """List the children that live."""
        ...


BRISK = 0.01
"""Seconds; tasks that are shorter share a message."""

MOST_PER_MESSAGE = 16


class Batch:
    """Tasks that one child works on.

    Attributes:
        number: Of the message.
        jobs: Its tasks; the first `ended` of them are over.
        line: To the child; None until it has begun.
        ending: What the task that the child is at has come to, while what it
            reported is stored: outcome, event and seconds.
        how: How its child died, once the pool has told; empty before.
        is_cut: Whether the child was told to begin no more of it.
    """

    __slots__ = ("ended", "ending", "how", "is_cut", "jobs", "line", "number")

    def __init__(self, number: int, jobs: list[Execution]) -> None:
        self.number = number
        self.jobs = jobs
        self.ended = 0
        self.line: ChildPipe | None = None
        self.ending: list[Any] | None = None
        self.how = ""
        self.is_cut = False

    @property
    def current(self) -> Execution | None:
        """The task that the child is at, if it has begun and not ended."""
        if self.line is None or self.ended >= len(self.jobs):
            return None
        return self.jobs[self.ended]


class Packer:
    """Says which tasks share a message: short ones, where many wait.

    Args:
        slots: Children of the pool.
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._typical: dict[str, float] = {}

    def learn(self, name: str, seconds: float) -> None:
        """A task called *name* has run for *seconds*."""
        known = self._typical.get(name, seconds)
        self._typical[name] = known + 0.2 * (seconds - known)

    def take(self, ready: deque[Execution]) -> list[Execution]:
        """Take the jobs of the next message from *ready*, which is not empty."""
        jobs = [ready.popleft()]
        most = min(MOST_PER_MESSAGE, -(-len(ready) // self._slots))
        while len(jobs) < most and ready and self._can_share(jobs[-1]):
            if not self._can_share(ready[0]):
                break
            jobs.append(ready.popleft())
        return jobs

    def _can_share(self, job: Execution) -> bool:
        # A suspect may kill its child, and those who share its message with it.
        if job.claim.lane == "suspects" or job.claim.crashes:
            return False
        return self._typical.get(job.name, 1.0) < BRISK


class ChildPipe(Pipe):
    """The line to one child.

    Attributes:
        pid: Of the child.
        message: What it works on.
    """

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        self.pid = int.from_bytes(credentials[:4], "little")
        self.message: Batch | None = None

    def alert(self, *frames: Frame) -> None:
        """Tell the child something now, whatever it does."""
        if not self.is_open:
            return  # it has died, and its number may be another's
        with contextlib.suppress(OSError):
            self.sock.send(b"".join(map(pack, frames)))
            os.kill(self.pid, ALERT)

    def kill(self) -> None:
        """End the child."""
        if not self.is_open:
            return
        with contextlib.suppress(OSError):
            os.kill(self.pid, signal.SIGKILL)
