"""A small file by which a probe in another process sees that a worker works.

Each worker keeps one file in a folder of its user, and writes two times into it
after every beat that the server answered: that of the beat, and that at which
its claim loop last heard from the server. So the file of a worker that is frozen,
whose server is away or whose loop stands still grows old. The worker holds a
lock on its file for as long as it lives, so a file without a lock belongs to a
dead one, whatever its process id says by now; the next worker removes it.

The times are those of the monotonic clock, which processes of one machine share
and nobody sets. This module is imported by the probe, which has to be quick: the
standard library only.
"""

import contextlib
import json
import logging
import os
import socket
import stat
import threading
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

_logger = logging.getLogger("taskflow.worker")

SUFFIX: Final = ".json"
_SIZE: Final = 1024  # bytes; written in one call, so that nobody reads a half
_ABANDONED: Final = 60.0  # seconds


def folder_of(chosen: str | None) -> Path:
    """Give the folder of the files: *chosen*, or one below that for temporary files."""
    # Not by ``tempfile``, whose import takes longer than the rest of the probe.
    if chosen:
        return Path(chosen)
    user = os.geteuid() if os.name == "posix" else "files"
    return Path(os.environ.get("TMPDIR") or "/tmp", f"taskflow-{user}")  # noqa: S108


def open_folder(folder: Path) -> int:
    """Open *folder* for this user alone.

    Args:
        folder: See `folder_of`.

    Returns:
        A descriptor, to be closed.

    Raises:
        PermissionError: Others could put files into it.
        OSError: It is not there, or it is a link.
    """
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    facts = os.fstat(opened)
    if facts.st_uid != os.geteuid() or facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        os.close(opened)
        reason = "another user owns it or may write into it"
        raise PermissionError(0, reason, str(folder))
    return opened


class LivenessFile:
    """The worker's side; nothing here ever makes a worker fail.

    Args:
        folder: See `folder_of`.
        worker: Id of the worker.
        lease: Seconds; both times may be as old as two of them.
    """

    def __init__(self, folder: Path, worker: str, lease: float) -> None:
        self._folder = folder
        self._worker = worker
        self._facts: dict[str, Any] = {
            "worker": worker,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "began_at": time.monotonic(),
            "beat_within": max(2 * lease, 2.0),
            "polled_within": max(2 * lease, 10.0),
        }
        self._file: int | None = None
        self._turn = threading.Lock()  # a heartbeat that hangs may outlive `close`

    def open(self) -> None:
        """Create the file, and remove those of dead workers."""
        if os.name != "posix":
            return  # no locks of this kind, and no probe
        try:
            with contextlib.suppress(FileExistsError):
                self._folder.mkdir(0o700, parents=True)
            folder = open_folder(self._folder)
            try:
                _remove_dead(folder)
                self._file = self._create(folder)
            finally:
                os.close(folder)
        except OSError as error:
            self._give_up(error)

    def refresh(self, polled_ago: float) -> None:
        """Note a beat that the server answered; called by the heartbeat.

        Args:
            polled_ago: Seconds since the claim loop heard from the server.
        """
        now = time.monotonic()
        text = _encoded({**self._facts, "beat_at": now, "polled_at": now - polled_ago})
        with self._turn:
            if self._file is None:
                return
            try:
                os.pwrite(self._file, text, 0)
            except OSError as error:
                self._give_up(error)

    def close(self) -> None:
        """Remove the file: the worker ends as it should."""
        with self._turn:
            if self._file is None:
                return
            with contextlib.suppress(OSError):
                (self._folder / (self._worker + SUFFIX)).unlink()
            with contextlib.suppress(OSError):
                os.close(self._file)
            self._file = None

    def _create(self, folder: int) -> int:
        # It gets its name when it is locked: no other worker takes it for a dead
        # one's, and no probe reads an empty one.
        draft = f".{self._worker}.new"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        created = os.open(draft, flags, 0o600, dir_fd=folder)
        try:
            _hold(created)
            os.pwrite(created, _encoded(self._facts), 0)
            os.rename(
                draft, self._worker + SUFFIX, src_dir_fd=folder, dst_dir_fd=folder
            )
        except OSError:
            os.close(created)
            with contextlib.suppress(OSError):
                os.unlink(draft, dir_fd=folder)
            raise
        return created

    def _give_up(self, error: OSError) -> None:
        """Say once that there is no such file, and go on without."""
        _logger.warning(
            "'taskflow health worker' cannot see this worker: %s: %s; "
            "TASKFLOW_HEALTH_DIR names a folder that it may write into",
            self._folder,
            error.strerror or error,
        )
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.close(self._file)
        self._file = None


class Liveness(NamedTuple):
    """What a probe sees of one worker.

    Attributes:
        worker: Its id.
        pid: Its process.
        why: What is wrong with it; empty = nothing.
    """

    worker: str
    pid: int
    why: str


def read_liveness(folder: Path, now: float) -> tuple[list[Liveness], list[str]]:
    """Look at the files of all workers of this user on this machine.

    Args:
        folder: See `folder_of`.
        now: Time of the monotonic clock.

    Returns:
        One entry for each that lives, and the ids of those that were killed.

    Raises:
        OSError: The folder is not there, or not for this user alone.
    """
    living: list[Liveness] = []
    dead: list[str] = []
    opened = open_folder(folder)
    try:
        for name in sorted(os.listdir(opened)):  # noqa: PTH208 - a descriptor
            if not name.endswith(SUFFIX) or name.startswith("."):
                continue
            try:
                text = _read_locked(opened, name)
            except FileNotFoundError:
                continue  # it stopped just now
            if text is None:
                dead.append(name.removesuffix(SUFFIX))
            else:
                living.append(_judge(json.loads(text), now))
    finally:
        os.close(opened)
    return living, dead


def _read_locked(folder: int, name: str) -> bytes | None:
    """Read the file of a living worker; None for that of a dead one."""
    file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        if not _is_held(file):
            return None
        return os.pread(file, _SIZE, 0)
    finally:
        os.close(file)


def _hold(file: int) -> None:
    import fcntl

    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_held(file: int) -> bool:
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _judge(facts: dict[str, Any], now: float) -> Liveness:
    beat_at = facts.get("beat_at")
    if beat_at is None:
        age = now - facts["began_at"]
        why = f"it began {age:.0f} s ago, and the server has not answered it yet"
    elif now - beat_at > facts["beat_within"]:
        why = (
            f"it was last seen {now - beat_at:.0f} s ago, at most "
            f"{facts['beat_within']:g} s are good: it is stuck, or its server is away"
        )
    elif now - facts["polled_at"] > facts["polled_within"]:
        why = (
            f"its loop has not asked for work for {now - facts['polled_at']:.0f} s, at "
            f"most {facts['polled_within']:g} s are good: a body blocks it"
        )
    else:
        why = ""
    return Liveness(str(facts["worker"]), int(facts["pid"]), why)


def _remove_dead(folder: int) -> None:
    for name in os.listdir(folder):
        with contextlib.suppress(OSError):
            file = os.open(
                name, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder
            )
            try:
                old = time.time() - os.fstat(file).st_mtime > _ABANDONED
                ours = name.endswith(SUFFIX) or (name.endswith(".new") and old)
                if ours and not _is_held(file):
                    os.unlink(name, dir_fd=folder)
            finally:
                os.close(file)


def _encoded(facts: dict[str, Any]) -> bytes:
    return json.dumps(facts).encode().ljust(_SIZE)
