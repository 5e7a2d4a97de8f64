"""The lists in which tasks wait: those of the lanes, and those of shut upstreams."""

from attrs import frozen

from taskflow._client.flow_context import FlowContext
from taskflow._client.sansio import Plan
from taskflow._protocol import upstreams
from taskflow._protocol.keys import SIDE_LISTS, Keys
from taskflow._protocol.upstreams import UpstreamStatus


@frozen
class WaitingList:
    """One list of waiting tasks.

    Attributes:
        name: For a cursor; as unique as the key.
        key: Of the list.
        lane: ``primary``, ``retry`` or ``suspects``.
        upstream: For which its tasks are parked; empty for the lane's own list.
    """

    name: str
    key: str
    lane: str
    upstream: str = ""

    def tombstones(self, keys: Keys) -> str:
        """Return the key of the entries of this list that are struck out."""
        if self.upstream:
            return keys.parked_tombstones(self.upstream, self.lane)
        return keys.tombstones(self.lane)


def waiting_lists(
    connection: FlowContext, *, empty: bool = False
) -> Plan[tuple[WaitingList, ...]]:
    """Find every list in which a task may wait, the lanes' own first.

    Args:
        connection: To the server.
        empty: Whether also those of upstreams in which nothing waits.

    Yields:
        What to ask the server.

    Returns:
        The lists; of upstreams, unless *empty*, those that have parked something.
    """
    keys = connection.keys
    known: list[UpstreamStatus] = yield upstreams.status(
        keys, now_ms=connection.clock()
    )
    found = [WaitingList(lane, keys.waiting(lane), lane) for lane in SIDE_LISTS]
    found += [
        WaitingList(
            f"{each.name}:{lane}", keys.parked_list(each.name, lane), lane, each.name
        )
        for each in known
        for lane in SIDE_LISTS
        if empty or each.parked[lane]
    ]
    return tuple(found)
