"""A server that redis-py can talk to: its clients, its connections, its runners."""

import contextlib
import socket
from abc import abstractmethod
from typing import Any

from redis import Redis

from taskflow._servers.async_runner import AsyncRedisRunner
from taskflow._servers.connection import AsyncConnection, Connection
from taskflow._servers.errors import FOREIGN, translate
from taskflow._servers.runner import PATIENCE
from taskflow._servers.server import Server
from taskflow._servers.sync_runner import RedisRunner

REPLY_TIMEOUT = 5.0
"""Seconds that one reply may take."""

MOST_LINKS = 64
"""Connections that one runner may have open."""


class RedisBase(Server):
    """Gives clients for odd questions, and runners for operations.

    Attributes:
        reply_timeout: Seconds that one trip may take.
        most_links: Connections that one runner may have open.
        prepared: Whether the server can be expected to listen; when it is
            False, `prepare` comes before the next connection.
        moves: Whether the server may be at another address next time.
    """

    reply_timeout: float = REPLY_TIMEOUT
    most_links: int = MOST_LINKS
    prepared: bool = True
    moves: bool = False

    def prepare(self) -> None:
        """Make the server listen; one that others run is left to them."""

    def doubt(self) -> None:
        """Take note that a connection failed."""

    def leads(self, link: Any) -> bool:
        """Whether *link* goes to where the server is now."""
        del link
        return True

    @abstractmethod
    def sync_client(self, *, socket_timeout: float | None = REPLY_TIMEOUT) -> Redis:
        """Make a blocking client; any thread may use it.

        Args:
            socket_timeout: Seconds that one reply may take; None = for ever.
        """

    @abstractmethod
    def link(self) -> Connection:
        """Make a connection that is not connected yet."""

    @abstractmethod
    def async_link(self) -> AsyncConnection:
        """Make a connection for the running event loop, not connected yet."""

    def hang_up(self, link: Any) -> None:
        """End the connection of *link*, whose event loop was closed before it.

        Only its loop can close it. The server is told that it is over, and the socket
        is closed when it is collected.
        """
        writer = link._writer  # noqa: SLF001 - there is no other way to its socket
        sock = None if writer is None else writer.get_extra_info("socket")
        if sock is not None:
            # A loop of uvloop has closed it with itself, and says so by a TypeError.
            with contextlib.suppress(OSError, TypeError):
                sock.shutdown(socket.SHUT_RDWR)

    def runner(self, *, patience: float = PATIENCE) -> RedisRunner:
        """Make a runner that blocks."""
        return RedisRunner(self, patience=patience)

    def async_runner(self, *, patience: float = PATIENCE) -> AsyncRedisRunner:
        """Make a runner for the running event loop."""
        return AsyncRedisRunner(self, patience=patience)

    def erase(self) -> None:
        """Delete all data of the server: every database, whoever it belongs to.

        Raises:
            ServerError: It did not do that.
        """
        # As long as it takes: with millions of keys, that is seconds.
        flush(self.sync_client(socket_timeout=None))


def flush(client: Any) -> None:
    """Delete all data of the server of *client*, and close the client.

    Args:
        client: Of redis-py.

    Raises:
        ServerError: The server did not do that.
    """
    try:
        client.flushall()
    except FOREIGN as error:
        ours = translate(error, "FLUSHALL")
        raise ours from error
    finally:
        client.close()


def new_link(pool: Any, **options: Any) -> Any:
    """Make one connection of the kind that *pool* would make.

    Args:
        pool: Of redis-py, or one of fakeredis; its own lending is not used.
        **options: Of the connection, where they differ from the pool's.

    Returns:
        The connection, not connected yet.
    """
    return pool.connection_class(**{**pool.connection_kwargs, **options})
