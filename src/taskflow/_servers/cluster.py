"""A cluster: of all its nodes, the one that holds our slot.

A hash tag in the prefix puts all keys into one slot, so one node has everything,
and every script finds its keys there. When the slot moves or the node dies,
another has it, and the nodes say which. A message published on one node is heard
on all, so that node serves who listens, too.

While a slot is moved key by key, nothing is sent to the node that it moves to: a
script that ran there would take a record that has not come yet for one that does
not exist, and write it a second time. Calls wait until the slot has moved.
"""

from collections.abc import Iterable

from redis.crc import key_slot
from redis.exceptions import ResponseError

from taskflow._servers.address import Place
from taskflow._servers.discovery import Addresses, DiscoveredServer, shown
from taskflow._servers.redis_base import flush
from taskflow.errors import (
    ConfigurationError,
    ServerRefusedError,
    ServerUnavailableError,
)

CLUSTER_SCHEMES = ("redis+cluster", "rediss+cluster")

_PORT = 6379


class ClusterServer(DiscoveredServer):
    """The node of a cluster that holds the keys under one prefix.

    Args:
        url: ``redis+cluster://HOST:PORT,HOST:PORT``, some of the nodes; with
            ``rediss+`` all of them use TLS.
        prefix: Stands before every key, with a hash tag.

    Attributes:
        slot: Of all keys under the prefix.

    Raises:
        ConfigurationError: The URL cannot be understood, or the prefix has no
            hash tag.
    """

    _question = "CLUSTER SLOTS"

    def __init__(self, url: str, prefix: str) -> None:
        addresses = Addresses.read(url, _PORT)
        super().__init__(url, addresses)
        if addresses.path not in {(), ("0",)}:
            problem = f"{self.display!r}: a cluster has no database but 0"
            raise ConfigurationError(problem)
        tag = prefix.partition("{")[2]
        if tag.find("}") < 1:
            problem = (
                f"{self.display!r} needs a prefix with a hash tag, so that one node "
                f"holds all keys; {prefix!r} has none: TASKFLOW_PREFIX={{myapp}}: or "
                "TaskFlow(url, prefix='{myapp}:')"
            )
            raise ConfigurationError(problem)
        self.slot = key_slot(prefix.encode())
        self._known: tuple[Place, ...] = ()

    def erase(self) -> None:
        """Delete all data of every node, whoever it belongs to.

        Raises:
            ServerError: One of them did not do that; others may have.
        """
        self.prepare()
        owners = {owner for _, _, owner in self._slots_by(self._helper)}
        for owner in sorted(owners):
            flush(self._client(self._addresses.url(owner), None))

    def _helpers(self) -> Iterable[Place]:
        return (*self._addresses.places, *self._known)

    def _place_by(self, helper: Place) -> Place:
        owner = self._owner(helper)
        # A node may be the last to hear of a failover; the owner itself knows.
        if owner != helper and self._owner(owner) != owner:
            message = f"{shown(owner)} does not hold the slot {self.slot}"
            raise ServerUnavailableError(message)
        return owner

    def _owner(self, node: Place) -> Place:
        slots = self._slots_by(node)
        self._known = tuple(dict.fromkeys(owner for _, _, owner in slots))
        for first, last, owner in slots:
            if first <= self.slot <= last:
                return owner
        message = f"no node holds the slot {self.slot}"
        raise ServerUnavailableError(message)

    def _slots_by(self, node: Place) -> list[tuple[int, int, Place]]:
        try:
            told = self._ask(node, "CLUSTER", "SLOTS")
        except ResponseError as error:
            if "cluster support disabled" not in str(error):
                raise
            message = "it is no node of a cluster: use redis://"
            raise ServerRefusedError(message) from error
        # A node that does not know its own address names none: it is this one.
        return [
            (int(first), int(last), ((owner[0] or b"").decode() or node[0], owner[1]))
            for first, last, owner, *_ in told
        ]
