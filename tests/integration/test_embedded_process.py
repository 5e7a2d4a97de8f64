"""The keeper of an embedded server, in a thread of the test's process."""

import fcntl
import json
import os
import signal
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from taskflow._servers import embedded_process as keepers
from taskflow._servers.embedded import find_binary
from taskflow._servers.embedded_process import (
    FACTS,
    EmbeddedProcess,
    answers,
    ask,
    facts,
)

SOON = 0.2  # seconds
LATE = 10.0


class Watched:
    """A keeper at work, and what it reported."""

    def __init__(self, data, *options, temporary=False, linger=SOON):
        self.reports = []
        self.told = threading.Event()
        self.keeper = EmbeddedProcess(
            {
                "data": str(data),
                "command": command(data, *options),
                "temporary": temporary,
                "linger": linger,
            },
            self.report,
        )
        self.thread = threading.Thread(target=self.keeper.keep)
        self.thread.start()

    def report(self, problem):
        """Hear how the start went."""
        self.reports.append(problem)
        self.told.set()

    def wait(self):
        """Wait until the keeper has left."""
        self.thread.join(LATE)
        assert not self.thread.is_alive()


def command(data, *options):
    """Give the command of a server, without its socket."""
    fixed = ["--port", "0", "--dir", str(data), "--save", "", "--appendonly", "yes"]
    log = ["--logfile", str(data / "server.log")]
    return [find_binary(), *fixed, *log, *options]


@contextmanager
def user(data):
    """Use the server, as an opener does."""
    with (data / "users.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield


def until(condition):
    """Ask until *condition* holds; the test's own time limit is the patience."""
    while not condition():
        pass


def test_a_server_without_users_is_ended_and_leaves_its_data(tmp_path):
    """The socket goes, the facts go, what was acknowledged stays."""
    watched = Watched(tmp_path)
    assert watched.told.wait(LATE)
    told = facts(tmp_path)
    watched.wait()

    assert [None] == watched.reports
    assert not Path(told["socket"]).parent.exists()
    assert {} == facts(tmp_path)
    assert (tmp_path / "appendonlydir").is_dir()


def test_a_user_keeps_the_server(tmp_path):
    """Its lock is enough; the keeper is not told anything."""
    with user(tmp_path):
        watched = Watched(tmp_path, linger=0.0)
        assert watched.told.wait(LATE)
        socket = facts(tmp_path)["socket"]

        assert answers(socket)
    watched.wait()

    assert not answers(socket)


def test_a_server_that_dies_is_started_again_at_the_same_socket(tmp_path):
    """Its users connect again; what was written is there."""
    with user(tmp_path):
        watched = Watched(tmp_path)
        assert watched.told.wait(LATE)
        told = facts(tmp_path)
        ask(told["socket"], b"SET k v")
        os.kill(told["pid"], signal.SIGKILL)
        until(lambda: facts(tmp_path).get("pid") not in {told["pid"], None})
        until(lambda: answers(told["socket"]))

        assert ask(told["socket"], b"GET k").startswith(b"$1\r\nv")
    watched.wait()


def test_a_server_that_keeps_dying_is_given_up(tmp_path):
    """Its next user is told why it does not start, instead of waiting."""
    with user(tmp_path):
        watched = Watched(tmp_path)
        assert watched.told.wait(LATE)
        seen = set()
        while watched.thread.is_alive():
            pid = facts(tmp_path).get("pid")
            if pid and pid not in seen and answers(facts(tmp_path).get("socket", "")):
                seen.add(pid)
                os.kill(pid, signal.SIGKILL)

        assert keepers._MOST_DEATHS + 1 == len(seen)


def test_a_server_whose_socket_was_removed_is_given_up(tmp_path):
    """Nobody could connect to it any more; the next user starts another."""
    with user(tmp_path):
        watched = Watched(tmp_path)
        assert watched.told.wait(LATE)
        Path(facts(tmp_path)["socket"]).unlink()
        watched.wait()

    assert {} == facts(tmp_path)


def test_a_server_that_does_not_start_says_why(tmp_path):
    """Its last words come with the report, and the name of the log."""
    watched = Watched(tmp_path, "--maxmemory", "much")
    watched.wait()
    (told,) = watched.reports

    assert "argument must be a memory value" in told
    assert str(tmp_path / "server.log") in told


def test_data_that_cannot_be_read_is_reported(tmp_path):
    """A corrupt file, or one of a newer server: nothing is overwritten."""
    folder = tmp_path / "appendonlydir"
    folder.mkdir()
    manifest = folder / "appendonly.aof.manifest"
    manifest.write_text("file appendonly.aof.1.base.rdb seq 1 type b\n")
    (folder / "appendonly.aof.1.base.rdb").write_bytes(b"not a database")
    watched = Watched(tmp_path)
    watched.wait()
    (told,) = watched.reports

    assert "the server ended with code 1" in told
    assert b"not a database" == (folder / "appendonly.aof.1.base.rdb").read_bytes()


def test_a_program_that_is_gone_is_reported(tmp_path):
    """The wheel was uninstalled meanwhile."""
    keeper_reports = []
    order = {"data": str(tmp_path), "command": ["/no/such"], "temporary": False}
    EmbeddedProcess({**order, "linger": SOON}, keeper_reports.append).keep()

    assert ["[Errno 2] No such file or directory: '/no/such'"] == keeper_reports


def test_a_second_keeper_leaves_at_once(tmp_path):
    """It touches nothing, not even what is temporary."""
    with user(tmp_path):
        first = Watched(tmp_path)
        assert first.told.wait(LATE)
        second = Watched(tmp_path, temporary=True)
        second.wait()

        assert ["another keeper has the folder"] == second.reports
        assert answers(facts(tmp_path)["socket"])
    first.wait()


def test_a_server_that_lost_its_keeper_is_ended_before_another_starts(tmp_path):
    """Two servers never write to one folder."""
    with user(tmp_path):
        first = Watched(tmp_path)
        assert first.told.wait(LATE)
        old = facts(tmp_path)
        # As if it had been killed: it no longer watches, its lock is free.
        first.keeper._process, orphan = None, first.keeper._process
        first.keeper.stop()
        first.thread.join(LATE)
        (tmp_path / FACTS).write_text(json.dumps(old))
        second = Watched(tmp_path)
        assert second.told.wait(LATE)

        assert [None] == second.reports
        assert orphan.wait(LATE) is not None
        assert old["pid"] != facts(tmp_path)["pid"]
    second.wait()


def test_a_folder_that_another_machine_uses_is_left_alone(tmp_path, monkeypatch):
    """From another container the lock is seen, and the socket is not."""
    monkeypatch.setattr(keepers, "_ORPHAN_PATIENCE", 0.0)
    with (tmp_path / "server.lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        watched = Watched(tmp_path)
        watched.wait()
    (told,) = watched.reports

    assert "does another container use it?" in told


def test_a_temporary_folder_goes_with_its_server(tmp_path):
    """Nothing is left behind."""
    folder = tmp_path / "data"
    folder.mkdir()
    Watched(folder, temporary=True).wait()

    assert [] == list(tmp_path.iterdir())


def test_a_long_log_is_put_aside(tmp_path):
    """One old log is kept."""
    log = tmp_path / "server.log"
    log.write_bytes(b"x" * 1_100_000)
    Watched(tmp_path).wait()

    assert 1_100_000 == (tmp_path / "server.log.old").stat().st_size
    assert 1_100_000 > log.stat().st_size


def test_the_socket_is_kept_looking_used(tmp_path):
    """Some systems clear out temporary files that are ten days old."""
    with user(tmp_path):
        watched = Watched(tmp_path)
        assert watched.told.wait(LATE)
        socket = facts(tmp_path)["socket"]
        os.utime(socket, (1, 1))
        watched.keeper._freshen()

        assert time.time() - 60 < Path(socket).stat().st_mtime
    watched.wait()


@pytest.mark.parametrize("told", ["", "{", "[1"])
def test_facts_that_cannot_be_read_are_no_facts(tmp_path, told):
    """The file of a keeper that was killed while it wrote."""
    (tmp_path / FACTS).write_text(told)

    assert {} == facts(tmp_path)


def test_nobody_answers_at_an_address_that_is_none():
    """Too long, not there, or empty."""
    assert [b""] * 3 == [ask(each, b"PING") for each in ("", "/no/such", "/x" * 100)]
