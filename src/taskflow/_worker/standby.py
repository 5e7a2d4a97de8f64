"""Keep a standby process beside a worker: start it, replace it, end it.

What the process is for is in ``standby_process.py``, what it renews and when in
``standby_rules.py``. It ends with its worker: it reads a pipe that closes then, and
looks at its parent where something else keeps the pipe open.
"""

import contextlib
import json
import logging
import os
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Final

from attrs import asdict

from taskflow._protocol import scripts
from taskflow._protocol.keys import Keys
from taskflow._servers.interpreter import python_program
from taskflow._servers.route import Route
from taskflow._worker.lease_table import LeaseTable
from taskflow._worker.standby_rules import obstacle

_logger = logging.getLogger("taskflow.worker")

RESTART_PAUSE: Final = 5.0
"""Seconds between two starts of a standby process, at least."""

_LONGEST_REPLY: Final = 5.0  # seconds, as for the worker itself
_SCRIPTS: Final = ("extend", "expiring_leases")

_PROGRAM: Final = """
import sys
for name, folder in ("taskflow", sys.argv[1]), ("taskflow._worker", sys.argv[2]):
    sys.modules[name] = type(sys)(name)
    sys.modules[name].__path__ = [folder]
from taskflow._worker.standby_process import main
main()
"""
"""Imports one module and not the package around it, which takes 25 MB more."""


class Standby:
    """Keeps the standby process of one worker running; safe in any thread.

    Args:
        keys: Of the prefix in use.
        worker: Id of the worker.
        lease: Seconds.
        limit: Hard limit of a task that has none of its own, in seconds.

    Attributes:
        table: What the process reads; None = there is no process.
    """

    def __init__(self, keys: Keys, worker: str, lease: float, limit: float) -> None:
        self._keys = keys
        self._worker = worker
        self._lease = lease
        self._limit = limit
        self._turn = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._route: Route | None = None
        self._renewed = 0
        self.table: LeaseTable | None = None

    def start(self) -> None:
        """Start the process; log a warning where that is not possible."""
        with self._turn:
            problem = obstacle()
            if not problem:
                try:
                    self.table = LeaseTable(self._limit)
                    self._launch(self.table)
                except OSError as error:
                    problem = str(error)
            if problem:
                self._close(problem)

    def _close(self, problem: str = "") -> None:
        """End the process; log the *problem* why there is none, if that is so."""
        table, self.table = self.table, None
        if table is not None:
            table.close()
        process = self._process
        if process is not None and process.stdin is not None:
            process.stdin.close()
        if problem:
            _logger.warning(
                "no standby process: %s; while task functions keep this worker's "
                "heartbeat from the interpreter for longer than the lease (%g s), "
                "other workers take its tasks",
                *(problem, self._lease),
            )

    def _launch(self, table: LeaseTable) -> None:
        self._started_at = time.monotonic()
        self._route = None
        here = Path(__file__).parent
        words = [table.descriptor, os.getpid(), self._lease, self._limit]
        # A session of its own: Ctrl-C and Ctrl-Z are meant for the worker.
        self._process = subprocess.Popen(  # noqa: S603 - our own program
            [
                *(python_program(), "-I", "-S", "-c", _PROGRAM, here.parent, here),
                *map(str, words),
            ],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=[table.descriptor],
            start_new_session=True,
        )

    def beat(self, sent_at: float, route: Route | None) -> None:
        """Note that a heartbeat was answered; see that the process is there.

        Args:
            sent_at: When the heartbeat was sent, by the monotonic clock.
            route: By which the server is reached now.
        """
        with self._turn:
            table = self.table
            if table is None:
                return
            silent = time.monotonic() - table.beat_at
            table.beat(sent_at)
            renewed = table.renewed()
            if renewed != self._renewed and silent > self._lease / 2:
                _logger.warning(
                    "no heartbeat was answered for %.1f s, and the standby process "
                    "renewed the leases: task functions may keep the heartbeat from "
                    "the interpreter",
                    silent,
                )
            self._renewed = renewed
            self._keep_running(table)
            if route is not None and route != self._route:
                self._send(route)

    def _keep_running(self, table: LeaseTable) -> None:
        process = self._process
        if process is None or process.poll() is None:
            return
        if time.monotonic() - self._started_at < RESTART_PAUSE:
            return
        _logger.warning(
            "standby process %s ended with code %s; starting another",
            *(process.pid, process.returncode),
        )
        if process.stdin is not None:
            process.stdin.close()
        try:
            self._launch(table)
        except OSError as error:
            self._close(str(error))

    def _send(self, route: Route) -> None:
        process = self._process
        if process is None or process.stdin is None or process.poll() is not None:
            return
        # Not by an argument or the environment, which others on this machine can read.
        with contextlib.suppress(OSError):  # it ends; the next heartbeat finds out
            process.stdin.write(json.dumps(self.facts(route)).encode() + b"\n")
            self._route = route

    def facts(self, route: Route) -> dict[str, Any]:
        """Say how the leases are renewed; see `standby_server.RedisServer`."""
        timeout = min(_LONGEST_REPLY, self._lease / 2)
        texts = {name: scripts.load(name) for name in _SCRIPTS}
        return {
            "route": {**asdict(route), "timeout": timeout},
            "active": self._keys.active,
            "prefix": self._keys.prefix,
            "worker": self._worker,
            "lease_ms": round(self._lease * 1000),
            "scripts": {name: (each.sha, each.source) for name, each in texts.items()},
        }

    def leave(self) -> None:
        """End the process without waiting for it: the worker is over."""
        with self._turn:
            self._close()

    def close(self) -> None:
        """End the process, and wait until it has ended."""
        self.leave()
        process = self._process
        if process is not None:
            try:
                process.wait(1.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
