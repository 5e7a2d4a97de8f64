"""The shipped scripts on a keyspace in memory; ``store.lua`` has its commands."""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from lupa.luajit21 import LuaRuntime, lua_type

from taskflow._protocol.operation import Operation
from tests.support.keyspace import Expiring

_COMMANDS: Final = Path(__file__).with_name("store.lua").read_bytes()
_KEY = re.compile(
    rb"([^\x01\x02]*)\x02([^\x01\x02]*)\x02([^\x01\x02]*)\x02([^\x01\x02]*)\x01"
)


class ScriptError(Exception):
    """A script ended with an error, which it never may."""


class Store:
    """Runs operations on keyspaces, which are values.

    Args:
        changed: Texts to run in the place of shipped ones, by name of the script.

    Attributes:
        told: Events and messages, by how often scripts sent them.
    """

    def __init__(self, changed: Mapping[str, str] | None = None) -> None:
        self._changed = changed or {}
        self._lua = LuaRuntime(
            encoding=None, unpack_returned_tuples=True, register_eval=False
        )
        decode, encode = self._decode, self._encode
        load = self._lua.eval(b"function(text) return loadstring(text) end")
        self._compile, self._call, self._run = load(_COMMANDS)(
            decode, encode, bool(self._changed)
        )
        self._scripts: dict[str, Any] = {}
        self.told: Counter[bytes] = Counter()

    def prepare(self, operation: Operation[Any]) -> int:
        """Give the number of *operation* here.

        Returns:
            A number for `run`.

        Raises:
            SyntaxError: The script is no Lua.
        """
        name = operation.script.name
        if name not in self._scripts:
            source = self._changed.get(name, operation.script.source)
            made = self._compile(source.encode(), name.encode())
            if isinstance(made, tuple):
                raise SyntaxError(made[1])
            self._scripts[name] = made
        keys = self._lua.table_from([key.encode() for key in operation.keys])
        args = self._lua.table_from([_bytes(each) for each in operation.args])
        number: int = self._call(self._scripts[name], keys, args)
        return number

    def run(self, keyspace: bytes, number: int, now_ms: int) -> tuple[bytes, Any]:
        """Run the operation of that *number*.

        Returns:
            The keyspace after it, and the reply as a client gets it.

        Raises:
            ScriptError: The script ended with one.
        """
        after, reply, *more = self._run(keyspace, number, now_ms)
        error, told = (*more, None, None)[:2]
        if told is not None:
            self.told.update(told.split(b"\x03"))
        if error is not None:
            raise ScriptError(error.decode(errors="replace"))
        return after, _plain(reply)

    def _decode(self, text: bytes) -> Any:
        return self._lua.table_from(
            json.loads(text, object_pairs_hook=_encoded), recursive=True
        )

    def _encode(self, table: Any) -> bytes:
        return json.dumps(_unpacked(table), sort_keys=True).encode()


def _bytes(value: str | float | bytes) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _encoded(pairs: list[tuple[str, Any]]) -> dict[bytes, Any]:
    return {
        name.encode(): value.encode() if isinstance(value, str) else value
        for name, value in pairs
    }


def _unpacked(value: Any) -> Any:
    if lua_type(value) == "table":
        return {_unpacked(name): _unpacked(each) for name, each in value.items()}
    return value.decode() if isinstance(value, bytes) else value


def _plain(reply: Any) -> Any:
    if lua_type(reply) == "table":
        if reply[b"err"] is not None:
            raise ScriptError(reply[b"err"].decode())
        return [_plain(reply[at]) for at in range(1, len(reply) + 1)]
    if reply is None or reply is False:
        return None
    return reply if isinstance(reply, bytes) else int(reply)


_READERS: Final[dict[bytes, Callable[[list[bytes]], Any]]] = {
    b"hash": lambda parts: dict(zip(parts[::2], parts[1::2], strict=True)),
    b"zset": lambda parts: dict(zip(parts[::2], map(float, parts[1::2]), strict=True)),
    b"list": list,
    b"set": set,
}


def _text(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, dict):
        return {_text(name): _text(each) for name, each in value.items()}
    if isinstance(value, list | set):
        return type(value)(map(_text, value))
    return value


@lru_cache(maxsize=200_000)
def _value(kind: bytes, raw: bytes) -> Any:
    if kind == b"string":
        return raw.decode()
    return _text(_READERS[kind](raw.split(b"\x03")[:-1]))


@lru_cache(maxsize=50_000)
def read(keyspace: bytes) -> dict[str, Any]:
    """Read a keyspace into plain values, as ``keyspace.dump`` does of a server.

    Returns:
        Values by key; not to be changed.
    """
    found: dict[str, Any] = {}
    for key, kind, raw, deadline in _KEY.findall(keyspace):
        value = _value(kind, raw)
        found[key.decode()] = value if deadline == b"0" else Expiring(value)
    return found


def write(keyspace: Mapping[str, str]) -> bytes:
    """Write strings by key into a keyspace.

    Returns:
        What `Store.run` takes.
    """
    return b"".join(
        b"%s\x02string\x02%s\x020\x01" % (key.encode(), value.encode())
        for key, value in sorted(keyspace.items())
    )


def expire(keyspace: bytes, now_ms: int) -> bytes:
    """Let the keys go whose time is over.

    Returns:
        The keyspace without them.
    """

    def kept(found: re.Match[bytes]) -> bytes:
        deadline = int(found[4])
        return b"" if 0 < deadline <= now_ms else found[0]

    return _KEY.sub(kept, keyspace)
