"""Count every key of ours, and delete them; for a server's new beginning."""

from typing import Any

from attrs import frozen

from taskflow._protocol import scripts
from taskflow._protocol.keys import KINDS, Keys
from taskflow._protocol.operation import Operation


@frozen
class DeletedKeys:
    """What one step over the keys found, and deleted when it was told to.

    Attributes:
        cursor: For the next step; ``"0"`` at the end.
        others: Keys that begin with the prefix and are not ours.
        counts: Keys of ours, by kind in words.
    """

    cursor: str
    others: int
    counts: dict[str, int]


def delete_keys(
    keys: Keys, cursor: str, *, delete: bool, count: int = 200, now_ms: int = 0
) -> Operation[DeletedKeys]:
    """Describe counting, and deleting if *delete*, about *count* keys.

    Deletes what has a name and a type of ours, nothing else. Sent again it
    counts and deletes what is still there.

    Returns:
        An operation whose reply is one step.

    Source:
        ``_protocol/lua/delete_keys.lua``; O(count).
    """

    def decode(reply: list[Any]) -> DeletedKeys:
        counts: dict[str, int] = {}
        for kind, number in zip(KINDS, reply[2:], strict=True):
            counts[kind.name] = counts.get(kind.name, 0) + int(number)
        return DeletedKeys(reply[0].decode(), int(reply[1]), counts)

    rules = [part for kind in KINDS for part in (kind.pattern, kind.type, kind.fields)]
    return Operation(
        scripts.load("delete_keys"),
        (),
        (now_ms, keys.prefix, cursor, count, int(delete), len(KINDS), *rules),
        decode,
    )
