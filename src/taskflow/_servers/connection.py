"""What the runners need of a connection, and of whoever makes connections.

A link is one of redis-py's connection objects, lent to one trip at a time. The
runners use these five methods and not redis-py's clients: a small script costs
40 us this way and 79 us that way in asyncio, 17 and 27 us where it blocks
(``tests/benchmarks/runners.py``); and a client re-sends and pools by rules of its
own.
"""

from typing import Any, Protocol


class Connection(Protocol):
    """One connection that blocks."""

    def connect(self) -> None:
        """Connect and log in, unless that is done."""
        ...

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:  # noqa: FBT001, FBT002 - redis-py's
        """Send the byte strings of *command*."""
        ...

    def can_read(self, timeout: float = 0) -> bool:
        """Whether there is something to read within *timeout* seconds."""
        ...

    def read_response(self) -> Any:
        """Read one reply; raises the one that is an error."""
        ...

    def disconnect(self) -> None:
        """Close the socket; harmless when done twice."""
        ...


class AsyncConnection(Protocol):
    """One connection of one event loop; it knows no time limit of its own."""

    async def connect(self) -> None:
        """Connect and log in, unless that is done."""
        ...

    async def send_packed_command(
        self,
        command: Any,
        check_health: bool = True,  # noqa: FBT001, FBT002 - redis-py's
    ) -> None:
        """Send the byte strings of *command*."""
        ...

    async def read_response(self, *, timeout: float | None = None) -> Any:  # noqa: ASYNC109 - redis-py's
        """Read one reply; None when *timeout* seconds pass first."""
        ...

    async def disconnect(self, nowait: bool = False) -> None:  # noqa: FBT001, FBT002 - redis-py's
        """Close the socket; harmless when done twice."""
        ...


class ConnectionSource(Protocol):
    """Makes links to one server.

    Attributes:
        reply_timeout: Seconds that one trip may take.
        most_links: That one runner may have open.
        prepared: Whether the server can be expected to listen; when it is
            False, `prepare` comes before the next `connect`.
        moves: Whether the server may be at another address next time.
    """

    @property
    def reply_timeout(self) -> float:
        """Seconds that one trip may take."""
        ...

    @property
    def most_links(self) -> int:
        """Connections that one runner may have open."""
        ...

    @property
    def prepared(self) -> bool:
        """Whether the server can be expected to listen."""
        ...

    @property
    def moves(self) -> bool:
        """Whether the server may be at another address next time."""
        ...

    def prepare(self) -> None:
        """Make the server listen, or find it; may block for a second or so.

        Raises:
            ServerUnavailableError: It cannot be started or found now.
        """
        ...

    def doubt(self) -> None:
        """Take note that a connection failed; the server may be gone."""
        ...

    def leads(self, link: Any) -> bool:
        """Whether *link* goes to where the server is now."""
        ...

    def link(self) -> Connection:
        """Make a connection that is not connected yet."""
        ...

    def async_link(self) -> AsyncConnection:
        """Make a connection for the running event loop, not connected yet."""
        ...

    def hang_up(self, link: AsyncConnection) -> None:
        """End the connection of *link*, whose event loop was closed before it."""
        ...
