"""The lanes: how much waits, what is served, hold back and go on."""

from typing import Literal

from taskflow._client.flow_context import FlowContext
from taskflow._client.sansio import Plan, one
from taskflow._protocol import actions, queue_status
from taskflow._protocol.queue_status import QueueStatus

Lane = Literal["primary", "retry"]


class Queues:
    """Counts of every state, and the two lanes' controls."""

    def __init__(self, connection: FlowContext) -> None:
        self._connection = connection

    def _status(self) -> Plan[QueueStatus]:
        connection = self._connection
        return one(
            queue_status.status(
                connection.keys, connection.share, now_ms=connection.clock()
            )
        )

    def _pause(self, lane: Lane, *, paused: bool) -> Plan[None]:
        if lane not in {"primary", "retry"}:
            message = f"lane must be 'primary' or 'retry', got {lane!r}"
            raise ValueError(message)
        connection = self._connection
        return one(
            actions.pause(
                connection.keys, lane, paused=paused, now_ms=connection.clock()
            )
        )

    def status(self) -> QueueStatus:
        """Count every home; O(1) on the server, nothing is scanned.

        Returns:
            Counts, the age of the oldest in each lane, the retry lane's share
            in force and the share served in the last minute.
        """
        return self._connection.run(self._status())

    async def astatus(self) -> QueueStatus:
        """Count every home; see `status`."""
        return await self._connection.arun(self._status())

    def pause(self, lane: Lane) -> None:
        """Let no worker claim from *lane* until it is resumed.

        What runs goes on; new tasks are still stored.

        Args:
            lane: ``primary`` or ``retry``.
        """
        self._connection.run(self._pause(lane, paused=True))

    async def apause(self, lane: Lane) -> None:
        """Let no worker claim from *lane*; see `pause`."""
        await self._connection.arun(self._pause(lane, paused=True))

    def resume(self, lane: Lane) -> None:
        """Let workers claim from *lane* again.

        Args:
            lane: ``primary`` or ``retry``.
        """
        self._connection.run(self._pause(lane, paused=False))

    async def aresume(self, lane: Lane) -> None:
        """Let workers claim from *lane* again; see `resume`."""
        await self._connection.arun(self._pause(lane, paused=False))
