"""The workers that beat: what each runs, and asking one to stop."""

import builtins

from taskflow._client.flow_context import FlowContext
from taskflow._client.sansio import Plan, one
from taskflow._protocol import actions, queue_status
from taskflow._protocol.keys import WORKER_PATTERN
from taskflow._protocol.queue_status import WorkerStatus


class Workers:
    """Workers as they describe themselves with every beat; nothing is broadcast."""

    def __init__(self, connection: FlowContext) -> None:
        self._connection = connection

    def _list(self) -> Plan[builtins.list[WorkerStatus]]:
        connection = self._connection
        return one(queue_status.workers(connection.keys, now_ms=connection.clock()))

    def _drain(self, worker_id: str) -> Plan[bool]:
        connection = self._connection
        if not WORKER_PATTERN.fullmatch(worker_id):
            return False
        found: bool = yield actions.drain(
            connection.keys, worker_id, now_ms=connection.clock()
        )
        return found

    def list(self) -> builtins.list[WorkerStatus]:
        """List the workers that beat within the last hour, latest beat first.

        Returns:
            At most 1,000; ``alive`` tells those with a fresh heartbeat, and
            ``info`` what each runs.
        """
        return self._connection.run(self._list())

    async def alist(self) -> builtins.list[WorkerStatus]:
        """List the workers that beat lately; see `list`."""
        return await self._connection.arun(self._list())

    def drain(self, worker_id: str) -> bool:
        """Ask a worker to finish what it runs, claim nothing more, and stop.

        It hears of it with its next beat, within 5 s.

        Args:
            worker_id: As `list` shows it.

        Returns:
            False when no such worker is alive.
        """
        return self._connection.run(self._drain(worker_id))

    async def adrain(self, worker_id: str) -> bool:
        """Ask a worker to finish and stop; see `drain`."""
        return await self._connection.arun(self._drain(worker_id))
