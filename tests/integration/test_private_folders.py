"""An embedded server opens nothing that another user owns or could change."""

import fcntl
import json
import os
import pwd
import socket
import stat
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from taskflow._servers import embedded_process, private
from taskflow._servers.embedded import EmbeddedServer, find_binary
from taskflow._servers.embedded_process import NotPrivateError
from taskflow.errors import ConfigurationError
from tests.support.echo_scripts import incr

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="no embedded server there"
)
as_root = pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() != 0, reason="only root can change owners"
)
OTHER = "nobody"


@pytest.fixture
def shared():
    """Give a folder that everybody may write to, as /tmp is."""
    with tempfile.TemporaryDirectory(prefix="taskflow-shared-", dir="/tmp") as folder:
        os.chmod(folder, 0o1777)  # noqa: PTH101, S103 - what is tested
        yield Path(folder)


@contextmanager
def opened(folder):
    """Use the server of *folder*."""
    server = EmbeddedServer(f"embedded://{folder}")
    runner = server.runner(patience=5.0)
    try:
        assert runner.send(incr("n")) > 0
        yield server
    finally:
        runner.close()
        server.close()


def refusal(folder):
    """Give the text with which *folder* is refused."""
    server = EmbeddedServer(f"embedded://{folder}")
    try:
        with pytest.raises(ConfigurationError) as refused:
            server.prepare()
    finally:
        server.close()
    return str(refused.value)


def given_away(path, mode):
    """Let *path* belong to another user."""
    os.chown(path, pwd.getpwnam(OTHER).pw_uid, -1, follow_symlinks=False)
    if not path.is_symlink():
        path.chmod(mode)


@as_root
@pytest.mark.parametrize("mode", [0o700, 0o755, 0o777])
def test_a_folder_that_another_user_has_planted_is_refused(shared, mode):
    """With the owner, the path and the way out; nothing is written there."""
    planted = shared / ".taskflow"
    planted.mkdir()
    given_away(planted, mode)
    told = refusal(planted)

    assert f"{planted} belongs to the user 'nobody' (uid " in told
    assert "embedded://~/.taskflow" in told
    assert [] == list(planted.iterdir())


@as_root
def test_a_server_that_another_user_runs_is_not_used(shared):
    """What it would hand out, this user's worker would run."""
    planted = shared / ".taskflow"
    planted.mkdir()
    given_away(planted, 0o755)
    user = pwd.getpwnam(OTHER)
    command = ["--port", "0", "--dir", str(planted), "--save", ""]
    command += ["--unixsocket", str(planted / "s"), "--unixsocketperm", "777"]
    try:
        theirs = subprocess.Popen(
            [find_binary(), *command],
            user=user.pw_uid,
            group=user.pw_gid,
            extra_groups=[],
            stdout=subprocess.DEVNULL,
            cwd="/",
        )
    except PermissionError:
        pytest.skip("the other user cannot run the server")
    with theirs, (planted / "keeper.lock").open("a") as lock:
        try:
            while not embedded_process.answers(str(planted / "s")):
                assert theirs.poll() is None
            fcntl.flock(lock, fcntl.LOCK_EX)
            facts = {"socket": str(planted / "s"), "pid": theirs.pid}
            (planted / "server.json").write_text(json.dumps(facts))
            for each in planted.iterdir():
                given_away(each, 0o666)
            count = connections(planted / "s")
            told = refusal(planted)

            assert "belongs to the user 'nobody'" in told
            assert count + 1 == connections(planted / "s")
        finally:
            theirs.kill()


def connections(path):
    """Give how many connections the server at *path* has seen, this one included."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(b"INFO stats\r\n")
        text = client.recv(100_000).decode()
    return int(text.partition("total_connections_received:")[2].split()[0])


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o722, 0o707])
def test_a_folder_that_others_may_write_to_is_refused(tmp_path, mode):
    """Its mode and the command that mends it are said."""
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(mode)

    told = refusal(data)
    assert f"mode {mode:04o}" in told
    assert f"chmod go-w {data}" in told


def test_a_way_that_others_may_change_is_refused(tmp_path):
    """Who can write to a folder above can put one of their own in its place."""
    above = tmp_path / "above"
    (above / "data").mkdir(parents=True, mode=0o700)
    above.chmod(0o777)
    told = refusal(above / "data")
    new = refusal(above / "new" / "data")

    assert f"{above} of " in told
    assert f"{above} of " in new
    assert not (above / "new").exists()


def test_a_sticky_folder_above_is_no_danger(shared):
    """As /tmp is one: others cannot replace what is there."""
    with opened(shared / "mine" / "data"):
        assert stat.S_IMODE((shared / "mine").stat().st_mode) == 0o700


@as_root
def test_a_folder_of_another_user_above_is_refused(shared):
    """Its owner could put another in its place."""
    above = shared / "above"
    (above / "data").mkdir(parents=True, mode=0o700)
    given_away(above, 0o755)

    assert f"{above} belongs to the user 'nobody'" in refusal(above / "data")


@as_root
def test_a_link_that_another_user_has_planted_is_not_followed(shared, tmp_path):
    """Not even to a folder of one's own."""
    mine = tmp_path / "mine"
    mine.mkdir(mode=0o700)
    link = shared / ".taskflow"
    link.symlink_to(mine)
    given_away(link, 0)

    assert f"{link} belongs to the user 'nobody'" in refusal(link)
    assert f"{link} belongs to the user 'nobody'" in refusal(link / "below")
    assert [] == list(mine.iterdir())


def test_a_link_of_ones_own_is_followed(tmp_path):
    """To where all of its own way is private; also by `..`, and not in circles."""
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("../" + tmp_path.name + "/real")
    with opened(tmp_path / "link" / ".." / "link" / "data") as server:
        assert f"embedded://{tmp_path}/real/data" == server.url
    (tmp_path / "loop").symlink_to("loop")
    assert "too many links" in refusal(tmp_path / "loop" / "data")


def test_a_link_to_what_others_may_write_is_refused(tmp_path):
    """The folder behind it counts."""
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "link").symlink_to(tmp_path / "open")

    assert f"{tmp_path}/open of " in refusal(tmp_path / "link")


FILES = (
    "users.lock",
    "start.lock",
    "keeper.lock",
    "server.lock",
    "server.json",
    "server.json.new",
    "server.log",
    "appendonlydir",
    "appendonlydir/appendonly.aof.1.incr.aof",
    "dump.rdb",
)


@pytest.mark.parametrize("name", FILES)
def test_a_link_in_the_folder_is_not_followed(tmp_path, name):
    """What it leads to is neither read nor written nor made shorter."""
    data = tmp_path / "data"
    (data / name).parent.mkdir(parents=True, mode=0o700)
    precious = tmp_path / "precious"
    precious.write_text("keep me")
    (data / name).symlink_to(precious)

    assert f"{data / name} is a link" in refusal(data)
    assert "keep me" == precious.read_text()


@pytest.mark.parametrize("name", [each for each in FILES if "append" not in each])
def test_a_second_name_of_another_file_is_not_written_to(tmp_path, name):
    """A hard link looks like a file of ours."""
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    precious = tmp_path / "precious"
    precious.write_text("keep me")
    (data / name).hardlink_to(precious)

    assert f"{data / name} is a file with another name" in refusal(data)
    assert "keep me" == precious.read_text()


def folder_with(tmp_path, name):
    """Make a folder for data with the file *name* in it."""
    data = tmp_path / "data"
    (data / name).parent.mkdir(parents=True, mode=0o700)
    if name == "appendonlydir":
        (data / name).mkdir()
    else:
        (data / name).touch()
    return data


@as_root
@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_user_in_the_folder_is_refused(tmp_path, name):
    """As one that was given away with its folder, and came back without."""
    data = folder_with(tmp_path, name)
    given_away(data / name, 0o600)

    assert f"{data / name} belongs to the user 'nobody'" in refusal(data)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_others_may_write_is_refused(tmp_path, name):
    """With the command that mends it."""
    data = folder_with(tmp_path, name)
    (data / name).chmod(0o666)

    assert f"chmod go-w {data / name}" in refusal(data)


def test_a_pipe_in_place_of_a_lock_holds_nobody_up(tmp_path):
    """Opening one waits for who opens its other end."""
    os.mkfifo(tmp_path / "users.lock")

    assert "users.lock is no plain file" in refusal(tmp_path)
    with pytest.raises(NotPrivateError):
        embedded_process.open_private(tmp_path / "users.lock")


@pytest.mark.parametrize("told", ["[]", '"x"', '{"socket": 3}', '{"socket": "s"}', "{"])
def test_facts_that_make_no_sense_are_none(tmp_path, told):
    """Half a file, or one of something else."""
    (tmp_path / "server.json").write_text(told)

    assert {} == embedded_process.facts(tmp_path)


def test_a_socket_that_is_not_private_is_not_connected_to(tmp_path):
    """The file that names it may be ours, and its folder not."""
    open_folder = tmp_path / "open"
    open_folder.mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(open_folder / "s"))
        private.check_socket(open_folder / "s")
        open_folder.chmod(0o777)
        with pytest.raises(NotPrivateError, match="can be written by others"):
            private.check_socket(open_folder / "s")
    open_folder.chmod(0o700)
    (open_folder / "f").touch()
    with pytest.raises(NotPrivateError, match="is no socket"):
        private.check_socket(open_folder / "f")


def test_what_is_made_in_a_folder_that_others_can_read_is_private(tmp_path):
    """Data, log, locks and socket; whatever the umask of who starts it."""
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(0o755)
    (data / "users.lock").touch(0o644)
    (data / "appendonlydir").mkdir(0o755)
    before = os.umask(0)
    try:
        with opened(data):
            found = {each: each.lstat() for each in data.rglob("*")}
            told = json.loads((data / "server.json").read_text())
    finally:
        os.umask(before)

    modes = {
        str(each.relative_to(data)): oct(s.st_mode & 0o077) for each, s in found.items()
    }
    assert {"appendonlydir", "server.json", "server.log", "start.lock"} <= modes.keys()
    assert [name for name in modes if name.startswith("appendonlydir/")]
    assert {} == {name: mode for name, mode in modes.items() if mode != "0o0"}
    assert told["socket"].startswith(tempfile.gettempdir())


def test_folders_that_are_made_are_private_too(tmp_path):
    """Also those above the data, whatever the umask."""
    before = os.umask(0)
    try:
        with opened(tmp_path / "a" / "b"):
            pass
    finally:
        os.umask(before)

    modes = [stat.S_IMODE((tmp_path / each).stat().st_mode) for each in ("a", "a/b")]
    assert [0o700, 0o700] == modes


def test_a_temporary_folder_that_others_may_change_is_refused(tmp_path, monkeypatch):
    """The way out is TMPDIR."""
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "open"))

    assert "TMPDIR" in refusal("")


def test_a_backup_of_the_data_by_hard_links_is_no_danger(tmp_path):
    """As Redis advises to make one."""
    data = tmp_path / "data"
    with opened(data):
        pass
    for each in (data / "appendonlydir").iterdir():
        (tmp_path / each.name).hardlink_to(each)
    with opened(data):
        pass


def test_a_group_of_ones_own_may_write(tmp_path):
    """Where the system makes a group for each user, folders are made that way."""
    data = tmp_path / "data"
    data.mkdir()
    status = data.stat()
    data.chmod(0o770)
    if private._is_private_group(data, status):
        with opened(data):
            pass
    else:
        assert "mode 0770" in refusal(data)


@as_root
def test_a_group_of_others_may_not_write(tmp_path):
    """Its members could put tasks there."""
    data = tmp_path / "data"
    data.mkdir()
    os.chown(data, 0, 12_345)
    data.chmod(0o770)

    assert "mode 0770" in refusal(data)
