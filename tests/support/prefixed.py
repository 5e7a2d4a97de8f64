"""A client that adds a prefix to every key it names and strips it from what it reads.

A test that spells its keys runs under a prefix with it, and fails if a script writes a
key outside the prefix.
"""

from collections.abc import Callable
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

PREFIX = "{my.app}:"

_EVERY = frozenset({"DEL", "EXISTS", "UNLINK"})
_FIRST = frozenset(
    {
        *("GET", "SET", "TYPE", "EXPIRE", "PEXPIRE", "PTTL", "TTL", "XADD", "XRANGE"),
        *("HDEL", "HEXISTS", "HGET", "HGETALL", "HKEYS", "HLEN", "HMGET", "HSET"),
        *("LLEN", "LPUSH", "LRANGE", "LREM", "RPUSH", "SADD", "SCARD", "SISMEMBER"),
        *("SMEMBERS", "SREM", "ZADD", "ZCARD", "ZRANGE", "ZREM", "ZSCORE", "XLEN"),
    }
)


def under(prefix: str, client: Any) -> Any:
    """Make *client* put the prefix before its keys, and refuse to see others.

    Args:
        prefix: Of every key.
        client: Of redis-py; it is changed.

    Returns:
        The client.
    """
    client.execute_command = _prefixed(prefix, client.execute_command)
    listed = partial(type(client).keys, client)
    client.keys = lambda pattern="*": [
        key for key in _stripped(prefix, listed()) if fnmatchcase(key.decode(), pattern)
    ]
    made = client.pipeline

    def pipeline(**options: Any) -> Any:
        pipe = made(**options)
        pipe.execute_command = _prefixed(prefix, pipe.execute_command)
        return pipe

    client.pipeline = pipeline
    return client


def _prefixed(prefix: str, send: Callable[..., Any]) -> Callable[..., Any]:
    def execute_command(*args: Any, **options: Any) -> Any:
        name, *rest = args
        if name in _EVERY:
            rest = [prefix + _text(key) for key in rest]
        elif name in _FIRST:
            rest[0] = prefix + _text(rest[0])
        return send(name, *rest, **options)

    return execute_command


def _text(key: Any) -> str:
    return key.decode() if isinstance(key, bytes) else key


def _stripped(prefix: str, keys: list[bytes]) -> list[bytes]:
    start = prefix.encode()
    beside = [key for key in keys if not key.startswith(start)]

    assert [] == beside

    return [key.removeprefix(start) for key in keys]
