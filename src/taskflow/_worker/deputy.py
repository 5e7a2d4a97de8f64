"""Renew leases for workers that cannot: a supervisor's thread.

A worker whose interpreter is held by a body in C code misses its beats, though it
lives and works. Its supervisor sees that it lives, reads what it holds (``ledger.py``)
and renews it. Nobody stands in for one that has ended or says that it is over, that was
stopped (its tasks are to begin again elsewhere), or that is silent for longer than a
body may take.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from taskflow._protocol import settle
from taskflow._protocol.keys import Keys
from taskflow._servers.opening import open_server
from taskflow._servers.runner import SyncRunner
from taskflow._worker.ledger import Account, Ledger
from taskflow.errors import ServerError, TaskflowError

_logger = logging.getLogger("taskflow.worker")

LOOKS: Final = 0.2
"""Part of a lease between two looks, which are of memory alone; at most half a second,
because a worker that has just come may be mute at once."""

MUTE_AFTER: Final = 0.5
"""Part of a lease after which a worker is mute: a beat, a third of one, is late."""

Crew = Callable[[], Sequence[tuple[int, Ledger]]]
"""Gives process id and ledger of every worker process that has not ended."""


def is_running(pid: int) -> bool:
    """Tell whether a process is there and was not stopped (Linux)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("ascii", errors="replace")
    except OSError:
        return False
    # The name stands in parentheses and may hold anything.
    return stat.rpartition(")")[2].split()[0] not in {"T", "t", "X", "Z"}


class Deputy(threading.Thread):
    """Looks after the crew of a supervisor until its process ends.

    Args:
        crew: Whom to look after.
    """

    def __init__(self, crew: Crew) -> None:
        super().__init__(name="taskflow-deputy", daemon=True)
        self._crew = crew
        self._runners: dict[str | None, SyncRunner] = {}
        self._mute: set[int] = set()

    def run(self) -> None:
        """Look, again and again."""
        while True:
            pause = 0.5
            for pid, ledger in self._crew():
                account = ledger.read()
                if account is not None:
                    pause = min(pause, LOOKS * account.lease)
                    self.look_after(pid, account)
            time.sleep(pause)

    def look_after(self, pid: int, account: Account) -> None:
        """Renew what a worker holds, if it is mute.

        Args:
            pid: Of its process.
            account: What was read of it.
        """
        # Made before it is needed: importing the client takes a good part of a short
        # lease.
        runner = self._runner(account)
        silent = time.monotonic() - account.beat_at
        may_last = account.limit is None or silent <= account.limit
        if silent <= MUTE_AFTER * account.lease or not account.held:
            self._mute.discard(pid)
            return
        if not may_last or not is_running(pid):
            return
        try:
            self._renew(account, runner)
        except ServerError:
            return  # the worker's own business, as soon as it is not mute any more
        except TaskflowError:
            _logger.exception("the leases of process %s could not be renewed", pid)
            return
        if pid not in self._mute:
            self._mute.add(pid)
            _logger.warning(
                "worker process %s is mute for %.1f s: a body holds the interpreter; "
                "its supervisor renews %s leases",
                *(pid, silent, len(account.held)),
            )

    def _runner(self, account: Account) -> SyncRunner:
        runner = self._runners.get(account.url)
        if runner is None:
            server = open_server(account.url, prefix=account.prefix)
            runner = self._runners[account.url] = server.runner()
        return runner

    def _renew(self, account: Account, runner: SyncRunner) -> None:
        keys, size = Keys(account.prefix), settle.MOST_PER_CALL
        operations = [
            settle.extend(
                keys,
                account.held[first : first + size],
                lease_ms=round(account.lease * 1000),
            )
            for first in range(0, len(account.held), size)
        ]
        for answer in runner.send_all(operations):
            if isinstance(answer, TaskflowError):
                raise answer
