"""Sees what becomes of worker processes, and says whether a lost lease had a reason.

A lease may be taken from a worker that is dead, that stands still, or that nothing
reaches. The monitor does not ask who did it, or the library: it looks at the
processes, twenty times a second, and at their ways to the server.
"""

import re
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from attrs import define, field, frozen

TICK = 0.05
STILL = 0.4
"""Seconds between two looks from which this machine stood still itself."""
SHARE = 0.3
"""Part of a lease for which a worker was away, at least, whose lease was lost: it
renews after a third, and where a beat is late or fails, after two."""
WORKER = re.compile(r"-(\d+)-[0-9a-f]{8}$")

Span = tuple[float, float]


@frozen
class LostLease:
    """A line of a task's history that says: crash.

    Attributes:
        after: When the hand-out began, at the earliest (Unix time).
        at: When it was taken back, or given up.
        worker: Process id of the worker that held the token.
        heard: Whether that worker itself said that the process of the body had died.
        body: Process in which the body began between these; None = it did not begin.
    """

    after: float
    at: float
    worker: int
    heard: bool
    body: int | None = None


@define
class Life:
    """What was seen of one process.

    Attributes:
        parent: Process id of the one that started it; 0 for the first.
        lease: Seconds that it asks for.
        born: Ticks of the kernel; tells it from a later process of the same id.
        ended: When it was seen to be gone.
        away: When it stood still or was cut off.
        hindered: When replies came late to it, or were lost.
    """

    parent: int = 0
    lease: float = 0.0
    born: str = ""
    ended: float = float("inf")
    away: list[Span] = field(factory=list)
    hindered: list[Span] = field(factory=list)


def total(spans: Iterable[Span], within: Span) -> float:
    """Add up the seconds of *within* that any of *spans* covers."""
    seconds, last = 0.0, within[0]
    for start, end in sorted(spans):
        first = max(start, last)
        last = max(last, min(end, within[1]))
        seconds += max(0.0, last - first)
    return seconds


def reason_missing(
    lost: LostLease, lives: dict[int, Life], outages: Sequence[Span] = ()
) -> str | None:
    """Say what is wrong with a lost lease, by what was seen.

    Args:
        lost: The lease.
        lives: Of processes, by their ids.
        outages: When the server could not be reached by anybody. They are no reason
            by themselves, and make a worker's own absence longer; as does what
            hindered it.

    Returns:
        What is wrong, for people; None = it was lost for a reason.
    """
    life = lives.get(lost.worker)
    if life is None:
        return f"nobody ever saw a worker of process {lost.worker}"
    within = (lost.after, lost.at)
    if lost.heard:
        died = {
            pid
            for pid, each in lives.items()
            if each.parent == lost.worker
            and lost.after <= each.ended <= lost.at + 10 * TICK
        }
        if lost.body is not None and lost.body not in died:
            return f"process {lost.body}, in which it ran, lived"
        return None if died else f"no process of worker {lost.worker} had died"
    away = [*life.away, (life.ended, float("inf"))]
    if not total(away, within):
        return f"worker {lost.worker} lived, was not stopped and not cut off"
    seconds = total([*away, *life.hindered, *outages], within)
    if seconds < SHARE * life.lease:
        return f"worker {lost.worker} was away for {seconds:.2f} s, less than its lease"
    return None


def worker_of(worker_id: str) -> int:
    """Give the process of a worker, which is part of its id."""
    match = WORKER.search(worker_id)
    assert match, worker_id
    return int(match[1])


class ProcessMonitor(threading.Thread):
    """Looks at processes until told to stop.

    Args:
        serves: Tells whether the server's process runs and is not stopped.

    Attributes:
        lives: What was seen, by process id.
        outages: When the server was away, or this machine stood still.
    """

    def __init__(self, serves: Callable[[], bool]) -> None:
        super().__init__(name="monitor", daemon=True)
        self.lives: dict[int, Life] = {}
        self.outages: list[Span] = []
        self._serves = serves
        self._ways: dict[int, Any] = {}
        self._over = threading.Event()
        self._guard = threading.Lock()

    def know(self, pid: int, lease: float, way: Any = None, parent: int = 0) -> None:
        """Look at a process from now on, and at what it starts.

        Args:
            pid: Of the process.
            lease: Seconds.
            way: The proxy by which it reaches the server.
            parent: Who started it.
        """
        with self._guard:
            self.lives[pid] = Life(parent, lease, _stat(pid)[1])
            self._ways[pid] = way

    def excuse(self, pid: int, after: float, until: float) -> None:
        """Take note of an absence that cannot be seen from here."""
        self.lives[pid].away.append((after, until))

    def parent(self, pid: int) -> int:
        """Tell which process started another; 0 = nobody that is known."""
        return self.lives[pid].parent if pid in self.lives else 0

    def run(self) -> None:
        """Look, again and again."""
        last = time.time()
        while not self._over.wait(TICK):
            now = time.time()
            self._look(last, now)
            last = now

    def stop(self) -> None:
        """Look no more."""
        self._over.set()
        self.join()

    def _look(self, last: float, now: float) -> None:
        stood_still = now - last > STILL
        if stood_still or not self._serves():
            self.outages.append((last, now))
        with self._guard:
            living = [pid for pid in self._ways if self.lives[pid].ended > now]
        for pid in living:
            life, way = self.lives[pid], self._ways[pid]
            state, born = _stat(pid)
            if state in "XZ" or born != life.born:
                life.ended = now
                continue
            if state in "Tt" or stood_still or (way is not None and way.is_shut):
                life.away.append((last, now))
            if way is not None and (way.loss or way.delay):
                life.hindered.append((last, now))
            for child in children(pid):
                if child not in self.lives or self.lives[child].ended < now:
                    self.know(child, life.lease, way, pid)


def children(pid: int) -> list[int]:
    """List the processes that another has started, except for its standby process."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    try:
        pids = [int(each) for each in path.read_text("ascii").split()]
    except OSError:
        return []
    return [each for each in pids if not _is_standby(each)]


def _is_standby(pid: int) -> bool:
    try:
        return b"standby_process" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def is_running(pid: int) -> bool:
    """Tell whether a process is there and was not stopped."""
    return _stat(pid)[0] not in "XZTt"


def _stat(pid: int) -> tuple[str, str]:
    """Give the state of a process (X = gone) and when it was born."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("ascii", errors="replace")
    except OSError:
        return "X", ""
    words = stat.rpartition(")")[2].split()
    return words[0], words[19]
