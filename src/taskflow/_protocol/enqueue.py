"""Store tasks: the first move."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from attrs import frozen

from taskflow._codec import to_json
from taskflow._protocol import scripts
from taskflow._protocol.batch import fitting
from taskflow._protocol.keys import Keys
from taskflow._protocol.operation import Operation
from taskflow.errors import ScriptError

MOST_PER_CALL = 100
"""Tasks per script call: about 1 ms of Redis."""


@frozen
class SubmitOptions:
    """What one enqueue asks for beside the defaults.

    Attributes:
        delay_ms: Wait before the first run, in ms; 0 = none.
        expires_ms: Time after which a task not yet claimed fails, in ms;
            0 = never.
        key: Idempotency key with the task's name before it; empty = none.
        key_ttl_ms: How long the key outlives the task, in ms.
        digest: Of the payload; tells a repeat from a conflict.
        upstream: Weight and name of the upstream that the task needs; empty = none.
    """

    delay_ms: int = 0
    expires_ms: int = 0
    key: str = ""
    key_ttl_ms: int = 0
    digest: str = ""
    upstream: str = ""

    def pack(self) -> bytes:
        """Return the options as JSON, without those not given."""
        packed: dict[str, int | str] = {}
        if self.delay_ms:
            packed["delay"] = self.delay_ms
        if self.expires_ms:
            packed["expires"] = self.expires_ms
        if self.key:
            packed["key"] = self.key
            packed["key_ttl"] = self.key_ttl_ms
            packed["digest"] = self.digest
        if self.upstream:
            packed["upstream"] = self.upstream
        return to_json(packed) if packed else b""


class Submission(NamedTuple):
    """One task to be stored.

    Attributes:
        id: Made by the caller, so that a repeat is recognised.
        payload: Arguments by name, JSON.
        spec: Packed; see ``taskflow._codec.Spec``.
        options: Packed by `SubmitOptions.pack`; empty = none.
    """

    id: str
    payload: bytes
    spec: bytes
    options: bytes


def how_many(submissions: Iterable[Submission]) -> int:
    """Count how many of *submissions*, from the first on, go into one call."""
    first = islice(submissions, MOST_PER_CALL)
    return fitting(len(each.payload) for each in first)


def batches(submissions: list[Submission]) -> Iterator[list[Submission]]:
    """Split *submissions* into lists that go into one call each."""
    first = 0
    while part := submissions[first : first + MOST_PER_CALL]:
        count = how_many(part)
        yield part[:count]
        first += count


class Stored(NamedTuple):
    """What became of one submission.

    Attributes:
        id: Of the task that holds the call: the submission's own, or that of
            the task that already holds its key.
        created: False when the key's holder answers for it.
        conflict: True when the key's holder has another payload; nothing was
            stored.
    """

    id: str
    created: bool
    conflict: bool


def enqueue(
    keys: Keys,
    submissions: Sequence[Submission],
    *,
    replicas: int = 0,
    now_ms: int = 0,
) -> Operation[list[Stored]]:
    """Describe storing *submissions*: record, home and key in one step.

    A full server refuses the call whole and stores nothing.

    Args:
        keys: Of the prefix in use.
        submissions: 1 to 100.
        replicas: How many must have it before the answer counts.
        now_ms: Time to use instead of the server's, in ms; 0 = the server's.

    Returns:
        An operation whose reply holds one `Stored` per submission, in order.

    Raises:
        ValueError: *submissions* is empty or longer than 100.

    Source:
        ``_protocol/lua/enqueue.lua``; O(n).
    """
    if not 1 <= len(submissions) <= MOST_PER_CALL:
        message = f"1 to {MOST_PER_CALL} submissions, got {len(submissions)}"
        raise ValueError(message)
    script = scripts.load("enqueue")
    args: list[str | int | float | bytes] = [now_ms, keys.prefix, len(submissions)]
    for submission in submissions:
        args.extend(submission)

    def decode(reply: Any) -> list[Stored]:
        if isinstance(reply, int):
            return [
                Stored(each.id, created=True, conflict=False) for each in submissions
            ]
        if len(reply) != len(submissions):
            problem = f"{len(reply)} words for {len(submissions)} tasks"
            raise ScriptError(script.name, problem)
        return [
            _stored(each.id, word.decode())
            for each, word in zip(submissions, reply, strict=True)
        ]

    return Operation(
        script,
        (keys.primary, keys.scheduled, keys.marker),
        tuple(args),
        decode,
        replicas,
    )


def _stored(task_id: str, word: str) -> Stored:
    answer, _, holder = word.partition(" ")
    if answer == "OK":
        return Stored(task_id, created=True, conflict=False)
    return Stored(holder, created=False, conflict=answer == "CONFLICT")
