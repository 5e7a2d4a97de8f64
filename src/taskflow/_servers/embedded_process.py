"""Keep an embedded server running for as long as somebody uses it.

A process of its own, started by the first user and told nothing afterwards. It
starts the server, starts it again if it dies, and ends it when nobody else is
left: every user holds a shared lock on a file, which the kernel takes from a
process that dies, even by ``kill -9``. Run as a script with the standard library
alone (``python -I -S embedded_process.py ORDER``): 10 MB, nothing of the package imported.

Four locks, all files in the data folder:

- ``users.lock``: every user holds it shared; who gets it alone is the last.
- ``start.lock``: who looks for the server, or starts a keeper, holds it.
- ``keeper.lock``: the keeper holds it.
- ``server.lock``: keeper and server hold it together, one open file between
  them. So it outlives a keeper that was killed, and two servers never write
  to one folder, not even from two containers that share it.
"""

import contextlib
import fcntl
import json
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

LINGER = 3.0
"""Seconds for which the server waits for the next user."""

FACTS = "server.json"
LOG = "server.log"

_TICK = 0.2
_FIRST_TICK = 0.01
_STOP_PATIENCE = 20.0
_ORPHAN_PATIENCE = 10.0
_LONGEST_LOG = 1_000_000
_LONGEST_SOCKET = 100  # a system has room for 104 or 108 bytes
_FRESHEN_EVERY = 3600.0
_MOST_DEATHS = 3
_DEATHS_WITHIN = 60.0
_PR_SET_PDEATHSIG = 1


class StartError(Exception):
    """The server cannot be started; the text says why."""


class NotPrivateError(Exception):
    """Another user owns something, or could change it; the text says what and who."""


def owner_of(status: os.stat_result) -> str:
    """Name the owner of a file."""
    try:
        name = pwd.getpwuid(status.st_uid).pw_name
    except KeyError:
        return f"uid {status.st_uid}"
    return f"the user {name!r} (uid {status.st_uid})"


def check_status(path: Path, status: os.stat_result, *, most_links: int = 1) -> None:
    """Check that *path* is a file that only this user can write.

    Args:
        path: For messages.
        status: Of the file itself, not of what a link leads to.
        most_links: Names that the file may have.

    Raises:
        NotPrivateError: It is something else.
    """
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid != os.geteuid():
        message = f"{path} belongs to {owner_of(status)}, who could put tasks there"
    elif not stat.S_ISREG(status.st_mode):
        kind = "a link" if stat.S_ISLNK(status.st_mode) else "no plain file"
        message = f"{path} is {kind}: remove it"
    elif status.st_nlink > most_links:
        message = f"{path} is a file with another name elsewhere: remove it"
    elif mode & 0o022:
        message = (
            f"{path} can be written by others (mode {mode:04o}): chmod go-w {path}"
        )
    else:
        return
    raise NotPrivateError(message)


def open_private(path: Path) -> IO[bytes]:
    """Open a file that only this user can read and write; make it if it is not there.

    Args:
        path: In a folder of which nobody else can write.

    Returns:
        The file, to be appended to.

    Raises:
        NotPrivateError: What is there is another user's, a link, or no file.
        OSError: It cannot be opened.
    """
    with contextlib.suppress(FileNotFoundError):
        check_status(path, path.lstat())  # a pipe would block the open
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    file = os.fdopen(os.open(path, flags, 0o600), "ab")
    try:
        status = os.fstat(file.fileno())
        check_status(path, status)
        if stat.S_IMODE(status.st_mode) & 0o077:
            os.fchmod(file.fileno(), 0o600)  # who can open a lock can hold it
    except BaseException:
        file.close()
        raise
    return file


def try_lock(file: IO[bytes]) -> bool:
    """Take the whole of *file*, if nobody has any part of it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def ask(address: str, command: bytes, *, timeout: float = 1.0) -> bytes:
    """Send one inline command to the server at a unix socket.

    Args:
        address: The socket's path.
        command: Such as ``b"PING"``.
        timeout: Seconds to wait for the reply.

    Returns:
        The beginning of the reply; empty when nobody listens.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(timeout)
        try:
            client.connect(address)
            client.sendall(command + b"\r\n")
            return client.recv(200)
        except OSError:
            return b""


def answers(address: str) -> bool:
    """Whether a server listens; one that still loads its data does not count."""
    return ask(address, b"PING").startswith(b"+PONG")


def facts(data: Path) -> dict[str, Any]:
    """Read what the keeper of *data* wrote.

    Returns:
        ``socket`` and ``pid``; or nothing.

    Raises:
        NotPrivateError: Another user has written it, or could have.
    """
    path = data / FACTS
    try:
        check_status(path, path.lstat())
        told: dict[str, Any] = json.loads(path.read_text("utf-8"))
        is_ours = str(told["socket"]).startswith("/")
    except (OSError, ValueError, LookupError, TypeError):
        return {}
    return told if is_ours else {}


class EmbeddedProcess:
    """One server, in one folder.

    Args:
        order: What the opener wants: ``data`` (the folder), ``command`` (of the
            server, without its socket), ``temporary`` (remove the folder at the
            end), ``linger`` (seconds).
        report: Told once how the start went: None when the server listens,
            else why it does not.
    """

    def __init__(
        self, order: dict[str, Any], report: Callable[[str | None], None]
    ) -> None:
        self._data = Path(order["data"])
        self._command: list[str] = order["command"]
        self._temporary: bool = order["temporary"]
        self._linger: float = order["linger"]
        self._report = report
        self._runtime = Path()
        self._process: subprocess.Popen[bytes] | None = None
        self._deaths: list[float] = []
        self._log_start = 0
        self._stopping = False

    @property
    def _socket(self) -> Path:
        return self._runtime / "s"

    def stop(self, signum: int = 0, frame: object = None) -> None:
        """Ask the keeper to end the server and leave; a signal's handler."""
        del signum, frame
        self._stopping = True

    def keep(self) -> None:
        """Run until nobody uses the server any more."""
        try:
            with (
                open_private(self._data / "keeper.lock") as mine,
                open_private(self._data / "server.lock") as servers,
                open_private(self._data / "users.lock") as users,
            ):
                self._take_over(mine, servers)
                self._serve(servers, users)
        except (StartError, NotPrivateError, OSError) as error:
            self._report(str(error))

    def _serve(self, servers: IO[bytes], users: IO[bytes]) -> None:
        try:
            self._runtime = _make_runtime()
            self._start(servers)
            self._watch(servers, users)
        finally:
            self._end()

    def _take_over(self, mine: IO[bytes], servers: IO[bytes]) -> None:
        if not try_lock(mine):
            message = "another keeper has the folder"
            raise StartError(message)
        if not try_lock(servers):
            # A server whose keeper was killed. Asked through its socket: its
            # process id may by now be somebody else's.
            ask(facts(self._data).get("socket", ""), b"SHUTDOWN")
            deadline = time.monotonic() + _ORPHAN_PATIENCE
            while not try_lock(servers):
                if time.monotonic() > deadline:
                    message = (
                        "the folder is in use by a server that cannot be reached "
                        "from here; does another container use it?"
                    )
                    raise StartError(message)
                time.sleep(_TICK)
        left_over = facts(self._data).get("socket")
        if left_over:
            _remove_runtime(Path(left_over).parent)

    def _start(self, servers: IO[bytes]) -> None:
        log = self._data / LOG
        if log.exists() and log.stat().st_size > _LONGEST_LOG:
            log.replace(log.with_suffix(".log.old"))
        with contextlib.suppress(FileNotFoundError):
            self._socket.unlink()
        with open_private(log) as written:
            self._log_start = written.tell()
            self._process = subprocess.Popen(  # noqa: S603 - the server's own command
                [*self._command, "--unixsocket", str(self._socket)],
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=written,
                pass_fds=[servers.fileno()],
                preexec_fn=_die_with_keeper(),  # noqa: PLW1509 - there are no threads
                umask=0o077,
            )
        told = {"socket": str(self._socket), "pid": self._process.pid}
        fresh = self._data / f"{FACTS}.new"
        with open_private(fresh) as file:
            file.truncate(0)
            file.write(json.dumps(told).encode())
        fresh.replace(self._data / FACTS)

    def _watch(self, servers: IO[bytes], users: IO[bytes]) -> None:
        listens = False
        alone_since: float | None = None
        freshened = time.monotonic()
        while not self._stopping:
            self._see_to_server(servers, listens=listens)
            if not listens and answers(str(self._socket)):
                listens = True
                self._report(None)
            now = time.monotonic()
            if not try_lock(users):
                alone_since = None
            else:
                alone_since = alone_since or now
                if now - alone_since >= self._linger:
                    # The lock is kept: a new user waits for it until the
                    # server is down, and then starts another.
                    return
                fcntl.flock(users, fcntl.LOCK_UN)
            if now - freshened > _FRESHEN_EVERY:
                freshened = now
                self._freshen()
            time.sleep(_TICK if listens else _FIRST_TICK)

    def _see_to_server(self, servers: IO[bytes], *, listens: bool) -> None:
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            if listens and not self._socket.exists():
                message = f"{self._socket} was removed: nobody can connect any more"
                raise StartError(message)
            return
        now = time.monotonic()
        self._deaths = [each for each in self._deaths if now - each < _DEATHS_WITHIN]
        self._deaths.append(now)
        if not listens or len(self._deaths) > _MOST_DEATHS:
            raise StartError(self._last_words(process.returncode))
        self._start(servers)

    def _last_words(self, code: int) -> str:
        log = self._data / LOG
        with log.open("rb") as read:
            read.seek(self._log_start)
            lines = read.read().decode(errors="replace").splitlines()
        said = " / ".join(line.strip() for line in lines[-3:] if line.strip())
        return f"the server ended with code {code}: {said}; see {log}"

    def _freshen(self) -> None:
        """Make the socket look used: some systems clear out old temporary files."""
        paths = [self._runtime, self._socket]
        if self._temporary:
            paths += [self._data, *self._data.iterdir()]
        for path in paths:
            with contextlib.suppress(OSError):
                os.utime(path)

    def _end(self) -> None:
        process = self._process
        if process is not None:
            process.terminate()
            try:
                process.wait(_STOP_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        _remove_runtime(self._runtime)
        with contextlib.suppress(FileNotFoundError):
            (self._data / FACTS).unlink()
        if self._temporary:
            shutil.rmtree(self._data, ignore_errors=True)


def _make_runtime() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="taskflow-"))
    if len(bytes(folder / "s")) > _LONGEST_SOCKET:
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix="taskflow-", dir="/tmp"))
    return folder


def _remove_runtime(folder: Path) -> None:
    # What a file names is looked at twice before it is removed.
    if folder.name.startswith("taskflow-"):
        with contextlib.suppress(OSError):
            (folder / "s").unlink(missing_ok=True)
            folder.rmdir()


def _die_with_keeper() -> Callable[[], None] | None:
    """Make what a child does before it becomes the server; None where it cannot."""
    # The kernel ends the server, gently, when the keeper dies: nobody else would
    # ever end it. Users who are still there start both again.
    if sys.platform != "linux":
        return None
    import ctypes

    prctl = ctypes.CDLL(None).prctl

    def die_with_keeper() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

    return die_with_keeper


def main(argument: str) -> None:
    """Keep the server of the order in *argument*, in the background.

    Args:
        argument: JSON: the order, and ``report``, the file descriptor that is
            told ``ok`` or why the server does not start.
    """
    order = json.loads(argument)
    os.umask(0o077)
    # The opener waits for this process and not for the child, which therefore
    # never becomes its zombie.
    if os.fork():
        return
    descriptor: int = order["report"]

    def report(problem: str | None) -> None:
        nonlocal descriptor
        if descriptor >= 0:
            with contextlib.suppress(OSError):  # the opener may be gone
                os.write(descriptor, (problem or "ok").encode())
            os.close(descriptor)
            descriptor = -1

    keeper = EmbeddedProcess(order, report)
    signal.signal(signal.SIGTERM, keeper.stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    keeper.keep()


if __name__ == "__main__":
    main(sys.argv[1])
