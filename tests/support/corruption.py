"""Corrupt a keyspace in ways that no code of taskflow does, by a seed."""

import random
import re
from collections.abc import Callable
from typing import Any

from redis.exceptions import ResponseError

GARBAGE = (
    *(b"", b"\xff{", b"\0", b"*", b'"', b"[]", b"{}", b"[1,2,3]", b'{"a":1}', b"null"),
    *(b"nan", b"inf", b"1e999", b"-1", b"1.5", b"9" * 400, b"9007199254740993"),
    *(b"PENDING", b"ACTIVE", b"DLQ", b"bad", b"a b c", b"1:w:x", b"5 api", b"x" * 1000),
)
STRANGERS = (b"\xff", b"", b"a b", b"a\nb", b"a:b", b"*", b"ghost", b"x" * 1000)
SCORES = ("inf", "-inf", 1e300, -1e300, 0, -5, 1.5, 9e15)
FIELDS = (
    *("state", "lane", "token", "payload", "spec", "attempts", "crashes", "age_ms"),
    *("created_ms", "since_ms", "started_ms", "finished_ms", "expires_ms"),
    *("parked", "upstream", "key", "cancel", "watched", "history", "error", "result"),
    *("progress", "usage", "note:page", "checkpoint"),
)
"""Those of a record that a script or a reader makes something of."""

_SHARED = re.compile(
    rb"tasks:(?!key:).*|dlq:(tasks|groups)"  # what every task needs
)
Deed = Callable[[], Any]


def _as_another_type(client: Any, key: bytes, value: bytes) -> list[Deed]:
    def instead(write: Deed) -> Deed:
        return lambda: (client.delete(key), write())

    return [
        lambda: client.delete(key),
        instead(lambda: client.set(key, value)),
        instead(lambda: client.rpush(key, value)),
        instead(lambda: client.sadd(key, value)),
        instead(lambda: client.zadd(key, {value: 1})),
        instead(lambda: client.hset(key, value or b"x", value)),
    ]


def _inside(client: Any, rng: random.Random, key: bytes, value: bytes) -> list[Deed]:
    """Give what can be done to a value that keeps its type."""
    ids = [each[5:] for each in client.keys("task:*") if each.count(b":") == 1]
    member = rng.choice([*STRANGERS, *sorted(ids)])
    score, kind = rng.choice(SCORES), client.type(key)
    if kind == b"hash":
        names = sorted(client.hkeys(key))
        names += [each.encode() for each in FIELDS] if key[:5] == b"task:" else []
        name = rng.choice(names)
        write: Deed = lambda: client.hset(key, name, value)  # noqa: E731
        return [lambda: client.hdel(key, name), *[write] * 8]
    if kind == b"list":
        return [
            lambda: client.rpush(key, member),
            lambda: client.lpush(key, member),
            lambda: client.lpop(key),
        ]
    if kind == b"set":
        return [lambda: client.sadd(key, member), lambda: client.spop(key)]
    if kind == b"zset":
        there = rng.choice(client.zrange(key, 0, -1))
        return [
            lambda: client.zadd(key, {member: score}),
            lambda: client.zadd(key, {there: score}),
            lambda: client.zrem(key, there),
        ]
    if kind == b"stream":
        return [lambda: client.xadd(key, {value or b"x": value})]
    return [lambda: client.set(key, value)]


def corrupt(client: Any, rng: random.Random, *, spared: frozenset[bytes]) -> str:
    """Do one thing to one key; what all tasks share keeps its type.

    Args:
        client: A plain client of the server.
        rng: Chooses.
        spared: Keys that are left alone.

    Returns:
        Which key, for who reads of a failure.
    """
    key = rng.choice([each for each in sorted(client.keys()) if each not in spared])
    value = rng.choice(GARBAGE)
    deeds = _inside(client, rng, key, value)
    if not _SHARED.fullmatch(key):
        deeds += _as_another_type(client, key, value)
    number = rng.randrange(len(deeds))
    try:
        deeds[number]()
    except ResponseError:
        return ""  # Redis itself would not have it
    return f"{key.decode(errors='replace')}: {number} {value[:20]!r}"
