"""The audit log: rare events of the whole fleet, and what people did."""

import builtins
from typing import Any

from taskflow._client.flow_context import FlowContext
from taskflow._client.sansio import Plan, one
from taskflow._protocol import task_events
from taskflow._protocol.task_events import AuditEntry


class AuditLog:
    """Dead letters, lost leases, pauses, and who did what; about 1,000 are kept."""

    def __init__(self, connection: FlowContext) -> None:
        self._connection = connection

    def _list(self, cursor: str, limit: int) -> "Plan[builtins.list[AuditEntry]]":
        connection = self._connection
        return one(
            task_events.audit_read(
                connection.keys,
                before=cursor,
                limit=limit,
                now_ms=connection.clock(),
            )
        )

    def _record(self, event: str, actor: str, facts: dict[str, Any]) -> Plan[bool]:
        connection = self._connection
        return one(
            task_events.audit_append(
                connection.keys,
                event,
                actor=actor,
                facts=facts,
                now_ms=connection.clock(),
            )
        )

    def list(self, *, cursor: str = "", limit: int = 50) -> "builtins.list[AuditEntry]":
        """List events, the newest first.

        Args:
            cursor: ``id`` of the last entry seen.
            limit: Most entries to return, 1 to 200.

        Returns:
            Entries; fewer than *limit* at the end.

        Raises:
            ValueError: *limit* is out of bounds, or *cursor* is foreign.
        """
        return self._connection.run(self._list(cursor, limit))

    async def alist(
        self, *, cursor: str = "", limit: int = 50
    ) -> "builtins.list[AuditEntry]":
        """List events; see `list`."""
        return await self._connection.arun(self._list(cursor, limit))

    def record(self, event: str, *, actor: str = "", **facts: Any) -> None:
        """Write down that something happened; for audits.

        Args:
            event: What, one word.
            actor: Who did it.
            **facts: What else is known, as JSON has it.

        Raises:
            PayloadError: They cannot be written so; nothing was.
        """
        self._connection.run(self._record(event, actor, facts))

    async def arecord(self, event: str, *, actor: str = "", **facts: Any) -> None:
        """Write down that something happened; see `record`."""
        await self._connection.arun(self._record(event, actor, facts))
