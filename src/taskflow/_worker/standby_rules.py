"""When a standby process renews the leases of its worker, and which.

It renews them while the worker is unresponsive: a heartbeat is sent after a third of a
lease, and none that was sent in the last two fifths has been answered. It does not
renew a lease

- whose task has passed its hard limit by more than one lease: the worker is deadlocked;
- of a worker process that is stopped (SIGSTOP) or has ended.

The standard library alone, and those parts of it that take little memory.
"""

import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable

from taskflow._worker.lease_table import LeaseReader, Pair

UNRESPONSIVE = 0.4
"""Part of a lease after which a heartbeat is late; one is due after a third. No more:
a claim whose reply is unread shows after half of its lease, and the heartbeat may have
been answered just before."""

RENEW_EVERY = 1 / 3
"""Part of a lease between two renewals."""


def process_state(pid: int) -> str:
    """Read the state of a process from ``/proc``; empty where that cannot be read."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - ``pathlib`` takes 1 MB
            stat = file.read()
    except OSError:
        return ""
    # The name is in parentheses, and may hold any character.
    return chr(stat.rpartition(b")")[2].split()[0][0])


def processor_time(pid: int) -> float:
    """Return the seconds of processor time that a process has used (Linux).

    Raises:
        OSError: There is no such process, or this kernel does not tell.

    Source:
        ``clock_getcpuclockid(3)``: the number of the clock is the complement of the
        process id, shifted by three bits, plus 2 (``CPUCLOCK_SCHED``).
    """
    return time.clock_gettime((~pid << 3) | 2)


class ProcessState:
    """Tells whether a process runs, or is stopped.

    Without ``/proc`` it goes by the processor time: a stopped process uses none. Nor
    does one that sleeps while it holds the interpreter lock, which then counts as
    stopped.

    Args:
        pid: Of the process.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._used = 0.0

    def runs(self) -> bool:
        """Tell whether the process is there and not stopped; call it regularly."""
        state = process_state(self._pid)
        if state:
            return state not in "TtXZ"
        try:
            used = processor_time(self._pid)
        except OSError:
            return False
        self._used, before = used, self._used
        return used > before


def obstacle() -> str:
    """Say why no standby process can serve a worker on this system; empty = it can."""
    if sys.platform != "linux":
        return f"it is not supported on {sys.platform}"
    if process_state(os.getpid()):
        return ""
    try:
        processor_time(os.getpid())
    except OSError as error:
        return f"it could not tell whether this process is stopped: {error}"
    return ""


class Server(ABC):
    """Where the leases are renewed; see the contract's one implementation, ``standby_server.py``."""

    @abstractmethod
    def renew(self, pairs: list[Pair]) -> None:
        """Renew the leases *pairs*; those that are lost are left out.

        Raises:
            OSError: The server gave no answer.
            ValueError: The server answered with an error.
        """

    @abstractmethod
    def unknown(self, known: list[Pair]) -> list[Pair]:
        """Find leases of the worker that end soon and that it has not heard of.

        The reply of their claim is unread, because the worker's event loop waits for
        the interpreter too. The worker releases them when it can.

        Args:
            known: Those that it has heard of.

        Returns:
            The leases, at most 100.

        Raises:
            OSError: The server gave no answer.
            ValueError: The server answered with an error.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the connection."""


class Renewer:
    """Decides when to renew what; one for the life of the process.

    Args:
        table: What the worker holds.
        worker: The worker process.
        lease: Seconds.
        limit: Hard limit of a task that has none of its own, in seconds.
    """

    def __init__(
        self, table: LeaseReader, worker: ProcessState, lease: float, limit: float
    ) -> None:
        self._table = table
        self._worker = worker
        self._lease = lease
        self._limit = limit
        self._renewed_at = float("-inf")
        self._connect: Callable[[], Server] | None = None
        self._server: Server | None = None

    def use(self, connect: Callable[[], Server]) -> None:
        """Renew from now on where *connect* leads; called when that is needed."""
        self._hang_up()
        self._connect = connect

    def check(self, now: float) -> None:
        """Renew the leases, if the worker is unresponsive and a renewal is due.

        Args:
            now: Time of the monotonic clock.
        """
        runs = self._worker.runs()
        silent = now - self._table.beat_at()
        if silent <= UNRESPONSIVE * self._lease:
            self._hang_up()
            self._renewed_at = float("-inf")
            return
        is_due = now - self._renewed_at >= RENEW_EVERY * self._lease
        if not runs or not is_due or self._connect is None:
            return
        try:
            if self._server is None:
                self._server = self._connect()
            self._table.count(self._renew(now, silent, self._server))
        except (OSError, ValueError):
            # Again at the next check; what the server refuses the worker is told too.
            self._hang_up()
        else:
            self._renewed_at = now

    def _renew(self, now: float, silent: float, server: Server) -> int:
        """Renew all that is due, and return how many leases that were."""
        # Past its limit a task is ended by its worker. One lease later the worker has
        # failed to do that, so other workers may have the task.
        margin = self._lease
        held = list(self._table.leases())
        due = [pair for until, pair in held if now <= until + margin]
        if due:
            server.renew(due)
        if silent > self._limit + margin:
            return len(due)
        unknown = server.unknown([pair for _, pair in held])
        if unknown:
            server.renew(unknown)
        return len(due) + len(unknown)

    def _hang_up(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
