"""The file by which a probe sees that a worker works."""

import logging
import os
import time
from pathlib import Path

import pytest

from taskflow._worker.liveness import SUFFIX, LivenessFile, folder_of, read_liveness


def test_each_user_has_a_folder_below_that_for_temporary_files(
    monkeypatch: pytest.MonkeyPatch,
):
    """Unless one is chosen."""
    monkeypatch.setenv("TMPDIR", "/somewhere")

    assert Path(f"/somewhere/taskflow-{os.geteuid()}") == folder_of(None)
    assert Path("/chosen") == folder_of("/chosen")


def test_the_file_and_its_folder_are_for_this_user_alone(tmp_path: Path):
    """Nobody else reads it, and nobody else can leave one."""
    file = LivenessFile(tmp_path / "v", "w", lease=15.0)
    file.open()
    modes = [oct(path.stat().st_mode & 0o777) for path in (tmp_path / "v").rglob("*")]
    folder = oct((tmp_path / "v").stat().st_mode & 0o777)
    file.close()

    assert (["0o600"], "0o700") == (modes, folder)


def test_the_times_decide_and_the_sentence_says_which(tmp_path: Path):
    """The last answered beat, and the loop's last word; both within two leases."""
    file = LivenessFile(tmp_path / "v", "w", lease=15.0)
    file.open()
    try:
        began = read_liveness(tmp_path / "v", 10.0**9)[0][0].why
        file.refresh(polled_ago=29.0)
        now = time.monotonic()
        fresh = read_liveness(tmp_path / "v", now)[0][0].why
        blocked = read_liveness(tmp_path / "v", now + 2.0)[0][0].why
        gone = read_liveness(tmp_path / "v", now + 31.0)[0][0].why
    finally:
        file.close()

    assert "has not answered it yet" in began
    assert "" == fresh
    assert "has not asked for work for 31 s, at most 30 s" in blocked
    assert "last seen 31 s ago, at most 30 s" in gone


@pytest.mark.parametrize("kind", ["link", "writable"])
def test_a_folder_that_others_could_fill_is_refused(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
):
    """By the worker with one warning, by the probe with an error."""
    folder = tmp_path / "v"
    if kind == "link":
        (tmp_path / "theirs").mkdir()
        folder.symlink_to(tmp_path / "theirs")
    else:
        folder.mkdir()
        folder.chmod(0o777)
    file = LivenessFile(folder, "w", lease=15.0)
    with caplog.at_level(logging.WARNING, "taskflow.worker"):
        file.open()
        file.refresh(0.0)
        file.close()

    assert 1 == len(caplog.records)
    assert [] == list(folder.iterdir())
    with pytest.raises(OSError, match="v"):
        read_liveness(folder, 0.0)


def test_links_and_foreign_files_are_left_alone(tmp_path: Path):
    """A worker that starts removes dead workers' files and nothing else."""
    folder = tmp_path / "v"
    folder.mkdir(0o700)
    (tmp_path / "precious").write_text("1")
    (folder / f"link{SUFFIX}").symlink_to(tmp_path / "precious")
    (folder / "notes.txt").write_text("mine")
    (folder / f"dead{SUFFIX}").write_text("{}")
    file = LivenessFile(folder, "w", lease=15.0)
    file.open()
    left = sorted(path.name for path in folder.iterdir())
    file.close()

    assert [f"link{SUFFIX}", "notes.txt", f"w{SUFFIX}"] == left
    assert "1" == (tmp_path / "precious").read_text()


def test_a_disk_that_is_full_costs_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    """The worker goes on; the probe sees its file no more as a living one's."""
    file = LivenessFile(tmp_path / "v", "w", lease=15.0)
    file.open()

    def refuse(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", refuse)
    with caplog.at_level(logging.WARNING, "taskflow.worker"):
        file.refresh(0.0)
        file.refresh(0.0)
    file.close()

    assert ["No space left on device" in each.message for each in caplog.records] == [
        True
    ]
