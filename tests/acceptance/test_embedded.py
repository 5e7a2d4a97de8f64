"""An embedded server and the processes that share it, some of them killed."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from taskflow._servers import embedded_process
from taskflow._servers.embedded import EmbeddedServer
from taskflow._servers.embedded_process import answers, ask, facts
from tests.support import ROOT
from tests.support.echo_scripts import incr, put

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="looks for processes in /proc"
)


SHORT = embedded_process.LINGER + 6.0  # seconds; the server stops by itself within them

USER = f"""
import sys
sys.path.append({str(ROOT)!r})
from taskflow._servers.embedded import EmbeddedServer
from tests.support.echo_scripts import incr
server = EmbeddedServer(sys.argv[1])
runner = server.runner()
print(runner.send(incr("users")), server.url, flush=True)
sys.stdin.read()
runner.close()
server.close()
"""


class User:
    """A process that uses the server of a folder until it is told to stop."""

    def __init__(self, url):
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", USER, url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ready(self):
        """Wait until it has used the server; give how many had before, and the URL."""
        number, url = self.process.stdout.readline().split()
        return int(number), url

    def leave(self):
        """Let it end as it would by itself."""
        self.process.communicate(timeout=10)
        return self.process.returncode

    def kill(self):
        """Give it no chance to say goodbye."""
        self.process.kill()
        self.process.communicate()


@contextmanager
def users(url, number):
    """Run *number* users, started in the same instant."""
    started = [User(url) for _ in range(number)]
    try:
        yield started
    finally:
        for each in started:
            each.kill()


@contextmanager
def opened(folder):
    """Use the server of *folder* in this process."""
    server = EmbeddedServer(f"embedded://{folder}")
    runner = server.runner(patience=5.0)
    try:
        yield runner
    finally:
        runner.close()
        server.close()


def servers_of(folder):
    """Give the ids of the servers that write to *folder*."""
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            program, where = (each / "exe").readlink(), (each / "cwd").readlink()
            if where == folder.resolve() and "python" not in program.name:
                found.append(int(each.name))
    return found


def keeper_of(folder):
    """Give the id of the process that keeps the server of *folder*."""
    (server,) = servers_of(folder)
    status = Path(f"/proc/{server}/status").read_text()
    (parent,) = [line for line in status.splitlines() if line.startswith("PPid:")]
    return int(parent.split()[1])


def within(seconds, condition):
    """Wait until *condition* holds; False when *seconds* pass first."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.fixture(scope="module")
def folders():
    """Collect the folders of all tests, and see that nothing runs in them after."""
    used = []
    yield used
    assert within(SHORT, lambda: not any(map(servers_of, used)))


@pytest.fixture
def folder(tmp_path, folders):
    """Give a folder for data."""
    data = tmp_path / "data"
    folders.append(data)
    return data


def test_processes_that_open_in_the_same_instant_start_one_server(folder):
    """Each counts itself on it, and no number comes twice."""
    with users(f"embedded://{folder}", 6) as started:
        numbers = sorted(each.ready()[0] for each in started)

        assert [1, 2, 3, 4, 5, 6] == numbers
        assert 1 == len(servers_of(folder))


def test_a_user_that_leaves_ends_the_server_soon_and_the_data_stays(folder):
    """The next one finds what the first has stored."""
    with users(f"embedded://{folder}", 1) as (first,):
        first.ready()

        assert 0 == first.leave()
    assert within(SHORT, lambda: not servers_of(folder))
    with opened(folder) as runner:
        assert 2 == runner.send(incr("users"))


@pytest.mark.deep
def test_users_that_are_all_killed_leave_no_server_behind(folder):
    """The kernel takes their locks; the keeper sees it; the data stays."""
    with users(f"embedded://{folder}", 3) as started:
        for each in started:
            each.ready()
        socket = facts(folder)["socket"]
        for each in started:
            each.kill()

        assert within(SHORT, lambda: not servers_of(folder))
    assert within(SHORT, lambda: not Path(socket).parent.exists())
    with opened(folder) as runner:
        assert 4 == runner.send(incr("users"))


def test_the_first_user_may_be_killed_under_the_others(folder):
    """The server is nobody's child but its keeper's."""
    with users(f"embedded://{folder}", 1) as (first,), opened(folder) as runner:
        first.ready()
        first.kill()
        time.sleep(embedded_process.LINGER + 1.0)

        assert 2 == runner.send(incr("users"))
        assert 1 == len(servers_of(folder))


@pytest.mark.deep
def test_a_user_that_comes_while_the_server_stops_finds_one(folder):
    """It waits for the end, and starts another."""
    for number in range(1, 4):
        with opened(folder) as runner:
            assert number == runner.send(incr("users"))
        # So that the next comes at about the moment at which the keeper leaves.
        time.sleep(embedded_process.LINGER + 0.1 * number)


def test_a_server_that_is_killed_is_there_again_for_its_users(folder):
    """What it acknowledged a second ago is stored; a call waits, and passes."""
    with opened(folder) as runner:
        runner.send(put("k", "x"))
        time.sleep(1.5)  # the file is written every second
        (server,) = servers_of(folder)
        os.kill(server, signal.SIGKILL)

        assert 1 == runner.send(incr("n"))
        assert ask(facts(folder)["socket"], b"GET k").startswith(b"$1\r\nx")


def test_a_keeper_that_is_killed_takes_its_server_along_and_both_come_back(folder):
    """Nobody else would ever end the server; its users start both again."""
    with opened(folder) as runner:
        runner.send(put("k", "x"))
        keeping, (server,) = keeper_of(folder), servers_of(folder)
        os.kill(keeping, signal.SIGKILL)
        assert within(SHORT, lambda: server not in servers_of(folder))

        assert 1 == runner.send(incr("n"))
        assert ask(facts(folder)["socket"], b"GET k").startswith(b"$1\r\nx")
        assert keeping != keeper_of(folder)


def test_a_keeper_that_is_killed_after_its_users_leaves_no_server(folder):
    """Where everything of a session is killed at once."""
    with users(f"embedded://{folder}", 1) as (only,):
        only.ready()
        keeping = keeper_of(folder)
        only.kill()
        os.kill(keeping, signal.SIGKILL)

        assert within(SHORT, lambda: not servers_of(folder))
    with opened(folder) as runner:
        assert 2 == runner.send(incr("users"))


def test_what_a_crash_of_the_machine_left_over_is_cleared_away(folder, tmp_path):
    """Locks that nobody holds, a socket that nobody listens to, half a file."""
    with users(f"embedded://{folder}", 1) as (only,):
        only.ready()
        (server,) = servers_of(folder)
        keeping = keeper_of(folder)
        told = (folder / "server.json").read_text()
        os.kill(keeping, signal.SIGSTOP)
        os.kill(server, signal.SIGKILL)
        os.kill(keeping, signal.SIGKILL)
        only.kill()
    left_over = Path(facts(folder)["socket"])
    assert left_over.exists()
    assert told == (folder / "server.json").read_text()
    (folder / "server.json.new").write_text("{")

    with opened(folder) as runner:
        assert 2 == runner.send(incr("users"))
        assert not left_over.exists()


def test_a_path_of_any_length_will_do(tmp_path, folders):
    """The socket is elsewhere: its own path may have some 100 bytes."""
    folder = tmp_path / ("long" * 50) / ("é x" * 20)
    folders.append(folder)
    with opened(folder) as runner:
        assert 1 == runner.send(incr("n"))
        assert 1 == len(servers_of(folder))


def test_a_temporary_folder_with_a_long_name_is_not_used(folder, tmp_path):
    """``TMPDIR`` of some systems has 80 bytes already."""
    long = tmp_path / ("t" * 90)
    long.mkdir()
    code = USER.replace("sys.stdin.read()", "")
    environ = os.environ | {"TMPDIR": str(long)}
    command = [sys.executable, "-c", code, f"embedded://{folder}"]
    done = subprocess.run(command, env=environ, check=True, capture_output=True)
    socket = facts(folder)["socket"]

    assert done.stdout.startswith(b"1 ")
    assert 100 > len(socket)
    assert str(long) not in socket


def test_bare_embedded_leaves_nothing_behind():
    """Also when its only user is killed."""
    with users("embedded://", 1) as (only,):
        number, url = only.ready()
        data = Path(url.removeprefix("embedded://"))
        runtime = Path(facts(data)["socket"]).parent

        assert 1 == number
        assert 1 == len(servers_of(data))
        only.kill()
        assert within(SHORT, lambda: not servers_of(data))
    assert within(SHORT, lambda: not data.exists())
    assert within(SHORT, lambda: not runtime.exists())


@pytest.mark.deep
def test_bare_embedded_is_nobody_elses():
    """Two of them do not meet, unless one is told the other's URL."""
    with users("embedded://", 2) as (first, second):
        number, url = first.ready()

        assert (1, 1) == (number, second.ready()[0])
        with users(url, 1) as (third,):
            assert 2 == third.ready()[0]


def test_nobody_else_can_reach_the_server(folder):
    """No port; the folders of data and socket are the user's alone."""
    with opened(folder) as runner:
        runner.send(incr("n"))
        socket = Path(facts(folder)["socket"])
        modes = [
            path.stat().st_mode & 0o777 for path in (folder, socket.parent, socket)
        ]
        (port,) = ask(str(socket), b"CONFIG GET port").split(b"\r\n")[4:5]

    assert [0o700, 0o700, 0o700] == modes
    assert b"0" == port


@pytest.mark.deep
def test_a_folder_that_is_shared_as_a_file_system_only_is_left_alone(folder):
    """Another container's keeper holds the locks; its socket is not here."""
    with users(f"embedded://{folder}", 1) as (only,):
        only.ready()
        socket = Path(facts(folder)["socket"])
        hidden = socket.with_name("elsewhere")
        keeping = keeper_of(folder)
        os.kill(keeping, signal.SIGSTOP)
        socket.rename(hidden)
        code = (
            "from taskflow._servers import embedded; embedded.START_PATIENCE = 0.5\n"
            + USER
        )
        command = [sys.executable, "-c", code, f"embedded://{folder}"]
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, input=""
        )
        hidden.rename(socket)
        os.kill(keeping, signal.SIGCONT)

        assert "or belong to another container" in done.stderr
        assert answers(str(socket))
