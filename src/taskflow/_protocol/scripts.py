"""Read the Lua scripts that ship with the package.

A line ``-- @include NAME`` stands for the text of ``lua/_shared/NAME.lua``,
one level deep. Nothing is stripped, so that the line number in a script error
is the line number of the text the server holds.
"""

import hashlib
from functools import cache
from importlib import resources

from taskflow._protocol.operation import Script

_INCLUDE = "-- @include "


def _read(*parts: str) -> str:
    folder = resources.files("taskflow._protocol").joinpath("lua")
    return folder.joinpath(*parts).read_text(encoding="utf-8")


def _resolve(source: str) -> str:
    lines: list[str] = []
    for line in source.splitlines():
        if line.startswith(_INCLUDE):
            shared = line.removeprefix(_INCLUDE).strip()
            lines.extend(_read("_shared", f"{shared}.lua").splitlines())
        else:
            lines.append(line)
    return "\n".join(lines) + "\n"


@cache
def load(name: str) -> Script:
    """Read the script called *name*, its includes resolved.

    Args:
        name: The file's stem, such as ``"claim"``.

    Returns:
        The script with its address; the same object each time.

    Raises:
        FileNotFoundError: No such file ships with the package.
    """
    source = _resolve(_read(f"{name}.lua"))
    sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
    return Script(name=name, source=source, sha=sha)
