"""The standby process: renews a worker's leases while the worker cannot.

Task functions can keep a worker's heartbeat thread from the interpreter for longer
than a lease: one call of C code that holds the interpreter lock does, and so do some
hundred threads that compute in Python. Another process needs no lock of that one.

It is there for as long as the worker and mostly waits, so it takes little memory: it
has the standard library alone, and what talks to the server is imported when it is
first needed. It ends with its worker (``standby.py`` starts it).
"""

import _thread  # noqa: PLC2701 - documented; ``threading`` takes more memory
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from functools import partial

from taskflow._worker.lease_table import LeaseReader
from taskflow._worker.standby_rules import ProcessState, Renewer, Server

CHECK_EVERY = 0.05
"""Part of a lease between two checks of the table; at most half a second."""

SHORT = 5.0
"""Seconds; a lease below this leaves no time to import on a busy machine."""

PARENT_CHECK = 0.25
"""Seconds between two checks whether the worker has ended, where something that it
has forked keeps the pipe open."""


class Inbox(list[bytes]):
    """Lines that the worker sends, each with all facts; the last one counts."""

    def watch(self, parent: int) -> None:
        """Receive lines, and end this process when the worker has ended.

        Args:
            parent: Process id of the worker.
        """
        rest = b""
        while os.getppid() == parent:
            if not select.select([0], [], [], PARENT_CHECK)[0]:
                continue
            received = os.read(0, 65_536)
            if not received:
                break
            *lines, rest = (rest + received).split(b"\n")
            if lines:
                self[:] = lines[-1:]
        os._exit(0)


def connected(facts: bytes) -> Server:
    """Connect to the server that *facts* describe; see ``standby_server.py``."""
    from taskflow._worker.standby_server import RedisServer

    return RedisServer.of(facts)


def main() -> None:
    """Serve a worker until it ends.

    The arguments of the process are the descriptor of the table, the process id of the
    worker, the lease, and the hard limit of tasks that have none, both in seconds.
    """
    # It ends with its worker, which may have tasks to finish after such a signal.
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(each, signal.SIG_IGN)
    descriptor, worker, lease, limit = sys.argv[-4:]
    connect: Callable[[bytes], Server] = connected
    if float(lease) < SHORT:
        from taskflow._worker.standby_server import RedisServer

        connect = RedisServer.of
    table, inbox = LeaseReader(int(descriptor)), Inbox()
    _thread.start_new_thread(inbox.watch, (int(worker),))
    renewer = Renewer(table, ProcessState(int(worker)), float(lease), float(limit))
    while not table.is_over():
        if inbox:
            renewer.use(partial(connect, inbox.pop()))
        renewer.check(time.monotonic())
        time.sleep(min(0.5, CHECK_EVERY * float(lease)))
    os._exit(0)
