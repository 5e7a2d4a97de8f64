"""Folders, files and sockets that no other user owns or can change.

Who can write to the folder of an embedded server can store tasks, and a worker runs
them as its own user. So every part of the way to it is looked at, as OpenSSH looks at
the way to a key: its owner must be this user or root, and nobody else may write to it.
"""

import contextlib
import errno
import grp
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from taskflow._servers.embedded_process import NotPrivateError, check_status, owner_of

_MOST_LINKS: Final = 40
_ACL: Final = "system.posix_acl_access"


def make_folder(path: Path) -> None:
    """Make the folder *path* and those above it, for this user alone.

    Args:
        path: An absolute path; may exist.

    Raises:
        NotPrivateError: What is there is another user's, or could be changed by one.
        OSError: It cannot be made.
    """
    _walk(path)
    missing = [each for each in (path, *path.parents) if not os.path.lexists(each)]
    for folder in reversed(missing):
        folder.mkdir(mode=0o700, exist_ok=True)
    check_folder(path)


def check_folder(path: Path) -> None:
    """Check the way to the folder *path*, and that it is this user's.

    Args:
        path: An absolute path.

    Raises:
        NotPrivateError: It is another user's, or could be changed by one.
        NotADirectoryError: It is no folder.
    """
    found = _walk(path)
    status = found.stat()
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    _check_owner(found, status, {os.geteuid()})
    # A sticky one is no exception here: others could put files into it.
    _check_mode(found, status, sticky=False)


def check_contents(folder: Path) -> None:
    """Check what the server would find in *folder*, which has been checked itself.

    Args:
        folder: Of the data.

    Raises:
        NotPrivateError: Something is another user's, or could be changed by one.
    """
    for path in _known(folder):
        try:
            status = path.lstat()
        except FileNotFoundError:
            continue  # the server has just replaced it
        if path.name == "appendonlydir" and stat.S_ISDIR(status.st_mode):
            _check_owner(path, status, {os.geteuid()})
            _check_mode(path, status, sticky=False)
            path.chmod(0o700)
        else:
            # A backup may have a hard link to a file of the data.
            is_data = path.parent != folder
            check_status(path, status, most_links=1_000 if is_data else 1)


def check_socket(path: Path) -> None:
    """Check the socket *path* and the way to it.

    Args:
        path: An absolute path.

    Raises:
        NotPrivateError: It is no socket, or another user's, or could be changed by one.
        OSError: It is not there.
    """
    check_folder(path.parent)
    status = path.lstat()
    _check_owner(path, status, {os.geteuid()})
    if not stat.S_ISSOCK(status.st_mode):
        message = f"{path} is no socket"
        raise NotPrivateError(message)


def _known(folder: Path) -> Iterator[Path]:
    for each in folder.iterdir():
        name = each.name
        if name.startswith(("appendonly", "temp-", "server.")) or name.endswith(
            (".lock", ".rdb")
        ):
            yield each
            with contextlib.suppress(NotADirectoryError, FileNotFoundError):
                if name == "appendonlydir" and not each.is_symlink():
                    yield from each.iterdir()


def _walk(path: Path) -> Path:
    """Check each part of *path* that is there, and of the links among them.

    Returns:
        Where *path* leads.

    Raises:
        NotPrivateError: A part could be replaced by another user.
    """
    trusted = {0, os.geteuid()} | _unmapped_owner()
    pending = list(reversed(path.parts[1:]))
    here = Path(path.anchor)
    links = 0
    _check_part(here, os.lstat(here), trusted)
    while pending:
        part = pending.pop()
        if part == "..":
            here = here.parent
            continue
        there = here / part
        try:
            status = there.lstat()
        except FileNotFoundError:
            return there.joinpath(*reversed(pending))
        _check_part(there, status, trusted)
        if not stat.S_ISLNK(status.st_mode):
            here = there
            continue
        links += 1
        if links > _MOST_LINKS:
            message = f"{path} leads through too many links"
            raise NotPrivateError(message)
        target = there.readlink()
        if target.is_absolute():
            here = Path(target.anchor)
        pending.extend(
            reversed(target.parts[1:] if target.is_absolute() else target.parts)
        )
    return here


def _check_part(path: Path, status: os.stat_result, trusted: set[int]) -> None:
    _check_owner(path, status, trusted)
    if stat.S_ISDIR(status.st_mode):
        _check_mode(path, status, sticky=True)


def _check_owner(path: Path, status: os.stat_result, trusted: set[int]) -> None:
    if status.st_uid not in trusted:
        message = f"{path} belongs to {owner_of(status)}, who could put tasks there"
        raise NotPrivateError(message)


def _check_mode(path: Path, status: os.stat_result, *, sticky: bool) -> None:
    mode = stat.S_IMODE(status.st_mode)
    if sticky and mode & stat.S_ISVTX:
        return  # others may add to it, and not replace what is there
    by_group = mode & stat.S_IWGRP and not _is_private_group(path, status)
    if mode & stat.S_IWOTH or by_group:
        message = (
            f"{path} of {owner_of(status)} can be written by others (mode {mode:04o}), "
            f"who could put tasks there: chmod go-w {path}"
        )
        raise NotPrivateError(message)


def _is_private_group(path: Path, status: os.stat_result) -> bool:
    """Whether the group is the owner's own, as many systems make one for each user."""
    try:
        os.getxattr(path, _ACL)
    except (AttributeError, OSError):
        pass
    else:
        return False  # the mode of the group is that of everybody in a list
    try:
        group = grp.getgrgid(status.st_gid)
        owner = pwd.getpwuid(status.st_uid).pw_name
    except KeyError:
        return status.st_gid == 0
    # An image for any user id gives its folders to the group root.
    is_own = group.gr_name == owner or status.st_gid == 0
    return is_own and set(group.gr_mem) <= {owner, "root"}


def _unmapped_owner() -> set[int]:
    """Return the owner that stands for root in a namespace that does not know root."""
    try:
        mapped = Path("/proc/self/uid_map").read_text("ascii").split()
        overflow = int(Path("/proc/sys/kernel/overflowuid").read_text("ascii"))
    except (OSError, ValueError):
        return set()
    ranges = zip(mapped[0::3], mapped[2::3], strict=False)
    is_mapped = any(int(low) <= overflow < int(low) + int(n) for low, n in ranges)
    return set() if is_mapped else {overflow}
