"""A keyspace as plain Python values: written from them, and read back whole.

=========  =====================================================
Redis      here
=========  =====================================================
string     ``str``
list       ``list`` of ``str``
set        ``set`` of ``str``
hash       ``dict`` of ``str``
zset       ``dict`` of numbers
stream     ``list`` of ``dict``, the entries' fields without their ids
with TTL   `Expiring` of one of these
=========  =====================================================
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from taskflow._codec import Spec, encode_spec
from taskflow._protocol.claim import LaneShare, claim
from taskflow._protocol.enqueue import Submission, SubmitOptions, enqueue
from taskflow._protocol.keys import Keys
from taskflow._protocol.record import Claim, ErrorFacts

NOW = 1_700_000_000_000
LEASE = 15_000
SPEC = encode_spec(Spec(name="f"))
WHY = ErrorFacts("ValueError", "no", "Traceback", "f" * 12)
SHARE = LaneShare()


class Expiring(NamedTuple):
    """What stands at a key that will expire."""

    value: Any


def record(state: str = "PENDING", lane: str = "primary", **fields: Any) -> dict:
    """Give the fields of a task's record, as they are stored."""
    basic = {
        "state": state,
        "lane": lane,
        "payload": "{}",
        "spec": SPEC.decode(),
        "created_ms": str(NOW),
    }
    return basic | {name: str(value) for name, value in fields.items()}


def submission(task_id: str, **options: Any) -> Submission:
    """Give a submission of the task *task_id*."""
    return Submission(task_id, b"{}", SPEC, SubmitOptions(**options).pack())


def fill(client: Any, keyspace: dict[str, Any]) -> None:
    """Write *keyspace*."""
    for key, value in keyspace.items():
        if isinstance(value, str):
            client.set(key, value)
        elif isinstance(value, list):
            client.rpush(key, *value)
        elif isinstance(value, set):
            client.sadd(key, *value)
        elif all(isinstance(each, str) for each in value.values()):
            client.hset(key, mapping=value)
        else:
            client.zadd(key, value)


def dump(client: Any) -> dict[str, Any]:
    """Read the whole keyspace, in three round trips."""
    keys = sorted(client.keys())
    asking = client.pipeline(transaction=False)
    for key in keys:
        asking.type(key)
        asking.pttl(key)
    told = asking.execute()
    there = [
        # One that expired meanwhile has no type any more.
        (key, kind.decode(), pttl)
        for key, kind, pttl in zip(keys, told[::2], told[1::2], strict=True)
        if kind != b"none"
    ]
    for key, kind, _ in there:
        _READERS[kind](asking, key)
    found: dict[str, Any] = {}
    for (key, kind, pttl), value in zip(there, asking.execute(), strict=True):
        if value is None:
            continue  # a string that expired after its type was read
        plain = _PLAIN[kind](value)
        found[_text(key)] = plain if pttl == -1 else Expiring(plain)
    return found


def _text(raw: bytes) -> str:
    # What is no UTF-8 stays what it is, and is told from any other.
    return raw.decode(errors="backslashreplace")


def _texts(mapping: dict[bytes, bytes]) -> dict[str, str]:
    return {_text(name): _text(value) for name, value in mapping.items()}


_READERS: dict[str, Callable[[Any, bytes], Any]] = {
    "string": lambda client, key: client.get(key),
    "list": lambda client, key: client.lrange(key, 0, -1),
    "set": lambda client, key: client.smembers(key),
    "hash": lambda client, key: client.hgetall(key),
    "zset": lambda client, key: client.zrange(key, 0, -1, withscores=True),
    "stream": lambda client, key: client.xrange(key),
}

_PLAIN: dict[str, Callable[[Any], Any]] = {
    "string": _text,
    "list": lambda found: [_text(each) for each in found],
    "set": lambda found: {_text(each) for each in found},
    "hash": _texts,
    "zset": lambda found: {_text(name): score for name, score in found},
    "stream": lambda found: [_texts(each) for _, each in found],
}


class Stage:
    """A server, a runner and the keys, with the calls that most tests begin with."""

    def __init__(self, client: Any, runner: Any, keys: Keys) -> None:
        self.client = client
        self.runner = runner
        self.keys = keys
        self._nonces = 0

    def send(self, operation: Any) -> Any:
        """Send *operation*."""
        return self.runner.send(operation)

    def fill(self, keyspace: dict[str, Any]) -> None:
        """Write *keyspace* beside what is there."""
        fill(self.client, keyspace)

    def dump(self) -> dict[str, Any]:
        """Read the whole keyspace."""
        return dump(self.client)

    def enqueue(self, *task_ids: str, now_ms: int = NOW, **options: Any) -> Any:
        """Store tasks of these ids."""
        batch = [submission(task_id, **options) for task_id in task_ids]
        return self.send(enqueue(self.keys, batch, now_ms=now_ms))

    def claim(self, slots: int = 1, *, now_ms: int = NOW, **changes: Any) -> Any:
        """Claim as the worker w, with a nonce not used before; see `claim`."""
        self._nonces += 1
        arguments = {
            "worker": "w",
            "nonce": f"1-{self._nonces}",
            "lease_ms": LEASE,
            "share": SHARE,
            "suspect": True,
        }
        call = claim(self.keys, slots=slots, now_ms=now_ms, **(arguments | changes))
        return self.send(call)

    def claimed(self, *task_ids: str, now_ms: int = NOW) -> list[Claim]:
        """Store tasks of these ids and claim them."""
        self.enqueue(*task_ids, now_ms=now_ms)
        return self.claim(len(task_ids), now_ms=now_ms).claims
