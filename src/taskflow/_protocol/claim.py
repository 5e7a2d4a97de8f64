"""Hand waiting tasks to a worker."""

from functools import lru_cache, partial
from typing import Any, Literal, cast

from attrs import frozen

from taskflow._protocol import scripts
from taskflow._protocol.batch import MOST_BYTES
from taskflow._protocol.keys import Keys
from taskflow._protocol.operation import Operation
from taskflow._protocol.record import Claim

MOST_PER_CALL = 100


@frozen
class LaneShare:
    """How the retry lane's share is found; see ``lua/_shared/share.lua``.

    Attributes:
        ratio: Share while few retries wait, and the highest ever, 0.0..1.0.
        warning: Waiting retries from which the share falls.
        critical: Waiting retries at which it is lowest (0.10).
        max_age_ms: Age of the oldest retry, in ms, that adds 0.20.
    """

    ratio: float = 0.30
    warning: int = 1000
    critical: int = 5000
    max_age_ms: int = 7_200_000


@frozen
class ClaimReply:
    """What a claim brought.

    Attributes:
        now_ms: The server's time, in ms.
        next_due_ms: When the next scheduled task is due, or an upstream may admit
            parked tasks again, in ms; 0 = nothing of that is to come.
        claims: 0 up to the slots asked for, in the order they are to start.
        left_out: Which tasks the limit of bytes left out: ``waiting`` tasks, which
            another claim may be given at once; tasks ``claimed`` by this very call
            when it was first sent; empty = none.
        undeclared: Upstreams whose rules the server does not have; their tasks are
            parked until somebody declares them.
    """

    now_ms: int
    next_due_ms: int
    claims: list[Claim]
    left_out: Literal["", "waiting", "claimed"] = ""
    undeclared: tuple[str, ...] = ()


_HEAD = 3
_FIELDS = 10
_LEFT_OUT: dict[bytes, Literal["", "waiting", "claimed"]] = {
    b"": "",
    b"waiting": "waiting",
    b"claimed": "claimed",
}


def claim(
    keys: Keys,
    *,
    worker: str,
    nonce: str,
    slots: int,
    lease_ms: int,
    share: LaneShare,
    suspect: bool,
    most_bytes: int = MOST_BYTES,
    after: str = "",
    now_ms: int = 0,
) -> Operation[ClaimReply]:
    """Describe handing up to *slots* waiting tasks to the caller.

    Moves PENDING to ACTIVE, oldest first in each lane, in one atomic step: a
    caller that dies right after leaves leases behind, never lost tasks. Due
    tasks are promoted on the way; expired ones become FAILED, and those whose
    upstream may not be called now, or is not declared, are parked.

    Args:
        keys: Of the prefix in use.
        worker: Id of the caller.
        nonce: ``<channel>-<number>``, names this call; sent again it answers
            the same tasks, so a lost reply strands nothing. One call at a
            time per channel.
        slots: Most tasks to hand out, 0 to 100; 0 = only those that were handed
            out when the call was first sent.
        lease_ms: How long the caller may hold each task, in ms.
        share: Of the retry lane while both lanes wait.
        suspect: Whether the caller may be given a suspect.
        most_bytes: Of payloads and checkpoints, from 1: the task that reaches it is
            the last one. A repeat may name fewer than the first call did, and
            answers only part of its tasks then.
        after: Id of the last task that the caller has of this call: a repeat
            answers those after it. Empty = all.
        now_ms: Time to use instead of the server's, in ms; 0 = the server's.

    Returns:
        An operation whose reply holds the claims; it never blocks.

    Raises:
        ValueError: *slots* is outside 0..100.

    Source:
        ``_protocol/lua/claim.lua``; O(n log m) for n claims among m leases.
    """
    if not 0 <= slots <= MOST_PER_CALL:
        message = f"slots must be 0..{MOST_PER_CALL}, got {slots}"
        raise ValueError(message)
    return Operation(
        scripts.load("claim"),
        (
            keys.primary,
            keys.retry,
            keys.suspects,
            keys.active,
            keys.scheduled,
            keys.failed,
            keys.lanes,
            keys.marker,
            keys.worker(worker),
        ),
        (
            now_ms,
            keys.prefix,
            worker,
            nonce,
            slots,
            lease_ms,
            int(suspect),
            share.ratio,
            share.warning,
            share.critical,
            share.max_age_ms,
            most_bytes,
            after,
        ),
        partial(_decode, own=f":{worker}:{nonce}"),
    )


_FREE: tuple[str, int, bool, float] = ("", 0, False, 0.0)


@lru_cache(maxsize=1024)
def _admission(packed: bytes) -> tuple[str, int, bool, float]:
    weight, name, epoch, probe = packed.decode().split(" ")
    return name, int(epoch), probe == "1", float(weight)


def _decode(reply: list[Any], *, own: str) -> ClaimReply:
    now = int(reply[0])
    # Not Claim(...), which takes half as long again: a worker makes many.
    claims = [
        Claim._make(
            (
                reply[at].decode(),
                reply[at + 1].decode(),
                number := int(reply[at + 2]),
                f"{number}{own}",
                reply[at + 3],
                reply[at + 4],
                int(reply[at + 5]),
                int(reply[at + 6]),
                int(reply[at + 7]),
                reply[at + 8],
                *(_admission(reply[at + 9]) if reply[at + 9] else _FREE),
            )
        )
        for at in range(_HEAD, len(reply), _FIELDS)
    ]
    due: Any = reply[1]
    names: list[bytes] = []
    if isinstance(reply[1], list):
        due, *names = cast("list[bytes]", reply[1])
    undeclared = tuple(name.decode() for name in names)
    left_out = _LEFT_OUT[reply[2]]
    return ClaimReply(now, int(float(due)), claims, left_out, undeclared)
