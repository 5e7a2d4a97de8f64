"""The contract of a runner: it sends operations and gives back their answers.

Kept apart from what fulfils it, so that importing the library loads no client.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Protocol, TypeVar

from taskflow._protocol.operation import Operation

T = TypeVar("T")

PATIENCE = 0.8
"""Seconds for which a call is sent again before its caller is told."""


IDLE_LIMIT = 25.0
"""Seconds after which an unused connection is not trusted but replaced. A
firewall forgets it without a word, and the next call would wait out its whole
timeout; a new one costs less than a millisecond."""


class AsyncSubscription(Protocol):
    """Channels that are listened to over one connection."""

    @property
    def listening(self) -> bool:
        """Whether it has a connection."""
        ...

    @property
    def begun(self) -> int:
        """How often listening began; what was published before is not heard."""
        ...

    async def add(self, *channels: str) -> None:
        """Listen to *channels* too."""
        ...

    async def discard(self, *channels: str) -> None:
        """Listen to *channels* no longer."""
        ...

    async def hear(self, timeout: float) -> str | None:  # noqa: ASYNC109
        """Return the channel of the next message or confirmation, or None."""
        ...

    async def close(self) -> None:
        """Stop listening."""
        ...

    def abandon(self) -> None:
        """Free the connection of a loop that was closed before it."""
        ...

    async def next(self, timeout: float) -> bytes | None:  # noqa: ASYNC109
        """Return the next message, or None after *timeout* seconds."""
        ...


class Subscription(Protocol):
    """Channels that are listened to over one connection."""

    @property
    def listening(self) -> bool:
        """Whether it has a connection."""
        ...

    @property
    def begun(self) -> int:
        """How often listening began; what was published before is not heard."""
        ...

    def add(self, *channels: str) -> None:
        """Listen to *channels* too."""
        ...

    def discard(self, *channels: str) -> None:
        """Listen to *channels* no longer."""
        ...

    def hear(self, timeout: float) -> str | None:
        """Return the channel of the next message or confirmation, or None."""
        ...

    def close(self) -> None:
        """Stop listening."""
        ...

    def next(self, timeout: float) -> bytes | None:
        """Return the next message, or None after *timeout* seconds."""
        ...


class AsyncRunner(Protocol):
    """Sends operations from one event loop."""

    async def send(self, operation: Operation[T]) -> T:
        """Send *operation* and return its answer.

        What got no answer is sent again for a while.

        Raises:
            ServerError: Of the kind that fits; see `taskflow.errors`.
        """
        ...

    async def send_all(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        """Send *operations* in one round trip, in order, not as a transaction.

        Returns:
            One answer for each; where one failed, its error stands in place
            of its answer.
        """
        ...

    async def wait_for(self, key: str, timeout: float) -> bool:  # noqa: ASYNC109
        """Wait until something stands in the sorted set *key*, and take it.

        Args:
            key: Of the sorted set.
            timeout: Seconds to wait at most.

        Returns:
            Whether something was taken.

        Raises:
            ServerError: The server did not answer; never sent again.
        """
        ...

    def subscribe(self, channel: str) -> AbstractAsyncContextManager[AsyncSubscription]:
        """Listen to *channel* while the context lasts."""
        ...

    def subscription(self) -> AsyncSubscription:
        """Make a subscription to no channel yet; it connects when it has one."""
        ...

    async def aclose(self) -> None:
        """Close every connection."""
        ...

    def abandon(self) -> None:
        """Free the connections of a loop that was closed before they were."""
        ...


class SyncRunner(Protocol):
    """Sends operations and blocks; any thread may use it."""

    def send(self, operation: Operation[T]) -> T:
        """Send *operation* and return its answer; see `AsyncRunner.send`."""
        ...

    def send_all(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        """Send *operations* in one round trip; see `AsyncRunner.send_all`."""
        ...

    def subscribe(self, channel: str) -> AbstractContextManager[Subscription]:
        """Listen to *channel* while the context lasts."""
        ...

    def subscription(self) -> Subscription:
        """Make a subscription to no channel yet; it connects when it has one."""
        ...

    def close(self) -> None:
        """Close every connection."""
        ...
