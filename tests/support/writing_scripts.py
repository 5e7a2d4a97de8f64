"""Which scripts write, found in their text."""

import re
from pathlib import Path

from taskflow._protocol import scripts

FOLDER = Path(scripts.__file__).parent / "lua"
NAMES = sorted(path.stem for path in FOLDER.glob("*.lua"))
READING = {
    *("EXISTS", "GET", "HEXISTS", "HGET", "HGETALL", "HMGET", "INFO", "LINDEX", "LLEN"),
    *("LPOS", "LRANGE", "SCAN", "SCARD", "SISMEMBER", "SSCAN", "TIME", "TYPE"),
    *("XRANGE", "XREVRANGE", "ZCARD", "ZCOUNT", "ZRANGE", "ZRANGEBYSCORE"),
    *("ZREVRANGE", "ZSCORE"),
}


def _writes(name: str) -> bool:
    """Tell whether a script calls what writes, or makes room for what it includes.

    A command that is not known to read is one that writes; so a new one is taken for
    a writer until somebody says otherwise.
    """
    text = (FOLDER / f"{name}.lua").read_text("utf-8")
    body = "\n".join(line.partition("-- ")[0] for line in text.splitlines())
    commands = set(re.findall(r"redis\.p?call\('(\w+)'", body))
    return bool(commands - READING) or "-- @include free_memory" in text


WRITERS = frozenset(name for name in NAMES if _writes(name))
