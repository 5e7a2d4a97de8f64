"""Forget everything under one prefix, in bounded steps; see what that would be."""

from attrs import frozen

from taskflow._client.flow_context import FlowContext
from taskflow._client.sansio import Plan
from taskflow._protocol.reset import DeletedKeys, delete_keys


@frozen
class Inventory:
    """Keys on the server, as one pass over them saw them.

    Attributes:
        counts: Keys of ours under this prefix, by kind in words.
        others: Keys that begin with the prefix and are not ours.
    """

    counts: dict[str, int]
    others: int

    @property
    def total(self) -> int:
        """Keys of ours, of every kind."""
        return sum(self.counts.values())


def pass_over(connection: FlowContext, *, delete: bool) -> Plan[Inventory]:
    """Look at every key once; count those that are ours, and delete them if told to.

    What is written meanwhile may be missed: let no worker be alive.

    Yields:
        What to ask the server, in steps of about 200 keys.

    Returns:
        What was found, or deleted.
    """
    counts: dict[str, int] = {}
    cursor, others = "0", 0
    while True:
        step: DeletedKeys = yield delete_keys(
            connection.keys, cursor, delete=delete, now_ms=connection.clock()
        )
        others += step.others
        for kind, number in step.counts.items():
            counts[kind] = counts.get(kind, 0) + number
        cursor = step.cursor
        if cursor == "0":
            return Inventory(counts, others)
