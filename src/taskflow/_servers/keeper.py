"""Keep an embedded server running for as long as somebody uses it.

A process of its own, started by the first user and told nothing afterwards. It
starts the server, starts it again if it dies, and ends it when it is the only
one left: every user holds a shared lock on a file, which the kernel takes from
a process that dies, even by kill -9. Run as a script with the standard library
alone (``python -I -S keeper.py``): 10 MB, and nothing of the package imported.
"""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

LINGER = 3.0
"""Seconds for which the server waits for the next user."""

_STOP_PATIENCE = 20.0


def try_lock(file: IO[str]) -> bool:
    """Take the whole file, if nobody has any part of it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def is_alive(pid: int) -> bool:
    """Whether a process of this id runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class Keeper:
    """One server, in one folder.

    Args:
        order: What the opener wants: ``data``, ``runtime`` (folder of the
            socket), ``command`` of the server, ``temporary``, and ``adopt``,
            the process id of a server that lost its keeper, or 0.
    """

    def __init__(self, order: dict[str, object]) -> None:
        self._data = Path(str(order["data"]))
        self._runtime = Path(str(order["runtime"]))
        self._command = [str(part) for part in list(order["command"])]  # type: ignore[call-overload]
        self._temporary = bool(order["temporary"])
        self._adopted = int(str(order["adopt"]))
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = False

    def keep(self) -> None:
        """Run until nobody uses the server any more."""
        signal.signal(signal.SIGTERM, self._ask_stop)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with (
            (self._data / "keeper.lock").open("w") as mine,
            (self._data / "users.lock").open("w") as users,
        ):
            fcntl.flock(mine, fcntl.LOCK_EX)
            alone_since: float | None = None
            while not self._stopping:
                self._see_to_server()
                if not try_lock(users):
                    alone_since = None
                else:
                    now = time.monotonic()
                    alone_since = alone_since or now
                    if now - alone_since >= LINGER:
                        break
                    fcntl.flock(users, fcntl.LOCK_UN)
                time.sleep(0.2)
            # A new user waits for this lock until the server is down, and
            # then starts another.
            self._end_server()
            shutil.rmtree(self._runtime, ignore_errors=True)
            with suppress(FileNotFoundError):
                (self._data / "server.json").unlink()
            if self._temporary:
                shutil.rmtree(self._data, ignore_errors=True)

    def _ask_stop(self, signum: int, frame: object) -> None:
        del signum, frame
        self._stopping = True

    def _see_to_server(self) -> None:
        if self._adopted and is_alive(self._adopted):
            return
        self._adopted = 0
        if self._process is not None and self._process.poll() is None:
            return
        with suppress(FileNotFoundError):
            (self._runtime / "s").unlink()
        self._process = subprocess.Popen(  # noqa: S603 - the server's own command
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        facts = {"runtime": str(self._runtime), "pid": self._process.pid}
        fresh = self._data / "server.json.new"
        fresh.write_text(json.dumps(facts), encoding="utf-8")
        fresh.replace(self._data / "server.json")
        time.sleep(0.1)

    def _end_server(self) -> None:
        pid = self._process.pid if self._process is not None else self._adopted
        if not pid:
            return
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_PATIENCE
        while time.monotonic() < deadline:
            ended = self._process is not None and self._process.poll() is not None
            if ended or not is_alive(pid):
                return
            time.sleep(0.05)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    Keeper(json.loads(sys.argv[1])).keep()
