"""Scripts of one line, as operations."""

import hashlib
from typing import Any

from taskflow._protocol.operation import Operation, Script


def script(name: str, source: str) -> Script:
    """Give a script."""
    sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
    return Script(name, source, sha)


ECHO = script("echo", "return ARGV[1]")
SET = script("set", "redis.call('SET', KEYS[1], ARGV[1]); return 1")
INCR = script("incr", "return redis.call('INCR', KEYS[1])")
MARK = script("mark", "return redis.call('ZADD', KEYS[1], 0, ARGV[1])")
PUBLISH = script("publish", "return redis.call('PUBLISH', KEYS[1], ARGV[1])")
FAIL = script("fail", "return redis.call('LPUSH', KEYS[1], 'x')")


def same(reply: Any) -> Any:
    """Decode nothing."""
    return reply


def echo(value: Any) -> Operation[Any]:
    """Answer *value*."""
    return Operation(ECHO, ("k",), (value,), same)


def put(key: str, value: Any) -> Operation[Any]:
    """Store *value*."""
    return Operation(SET, (key,), (value,), same)


def incr(key: str) -> Operation[Any]:
    """Count."""
    return Operation(INCR, (key,), (), same)


def mark(key: str, member: str = "0") -> Operation[Any]:
    """Set a marker."""
    return Operation(MARK, (key,), (member,), same)


def publish(channel: str, value: str) -> Operation[Any]:
    """Tell those who listen."""
    return Operation(PUBLISH, (channel,), (value,), same)


def fail(key: str) -> Operation[Any]:
    """Push to what is no list."""
    return Operation(FAIL, (key,), (), same)
