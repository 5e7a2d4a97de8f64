"""The schedules: what runs by itself, hold it back, run it now."""

import builtins

from taskflow._client.flow_context import FlowContext
from taskflow._client.ids import new_task_id
from taskflow._client.sansio import Plan, one
from taskflow._declare.schedule import NAME_PATTERN
from taskflow._protocol import enqueue, schedules
from taskflow._protocol.enqueue import Submission, SubmitOptions
from taskflow._protocol.schedules import HoldVerb, ScheduleList, ScheduleStatus
from taskflow.errors import ScheduleNotFoundError


class Schedules:
    """Schedules as the workers that serve them have made them known."""

    def __init__(self, connection: FlowContext) -> None:
        self._connection = connection

    def _list(self) -> "Plan[builtins.list[ScheduleStatus]]":
        connection = self._connection
        table: ScheduleList = yield schedules.list_schedules(
            connection.keys, now_ms=connection.clock()
        )
        return builtins.list(table.schedules)

    def _hold(self, name: str, verb: HoldVerb) -> Plan[None]:
        connection = self._connection
        return one(
            schedules.pause_schedule(
                connection.keys, _checked(name), verb, now_ms=connection.clock()
            )
        )

    def _run(self, name: str) -> Plan[str]:
        connection = self._connection
        payload, spec, upstream = yield schedules.template(
            connection.keys, _checked(name), now_ms=connection.clock()
        )
        packed = SubmitOptions(upstream=upstream).pack()
        made = Submission(new_task_id(), payload, spec, packed)
        yield enqueue.enqueue(connection.keys, [made], now_ms=connection.clock())
        return made.id

    def list(self) -> "builtins.list[ScheduleStatus]":
        """List the schedules, the next tick first.

        Returns:
            At most 1,000. One whose ``next_at`` is long past is served by no
            worker: its code is gone, or nobody runs it.
        """
        return self._connection.run(self._list())

    async def alist(self) -> "builtins.list[ScheduleStatus]":
        """List the schedules; see `list`."""
        return await self._connection.arun(self._list())

    def pause(self, name: str) -> None:
        """Let the ticks of a schedule pass, until it is resumed.

        Args:
            name: As `list` shows it.

        Raises:
            ScheduleNotFoundError: There is none of this name.
        """
        self._connection.run(self._hold(name, "pause"))

    async def apause(self, name: str) -> None:
        """Let the ticks of a schedule pass; see `pause`."""
        await self._connection.arun(self._hold(name, "pause"))

    def resume(self, name: str) -> None:
        """Let a schedule go on with its next tick.

        Args:
            name: As `list` shows it.

        Raises:
            ScheduleNotFoundError: There is none of this name.
        """
        self._connection.run(self._hold(name, "resume"))

    async def aresume(self, name: str) -> None:
        """Let a schedule go on; see `resume`."""
        await self._connection.arun(self._hold(name, "resume"))

    def run(self, name: str) -> str:
        """Enqueue what a schedule runs, now; its ticks stay as they are.

        Needs none of the task's code.

        Args:
            name: As `list` shows it.

        Returns:
            The id of the task.

        Raises:
            ScheduleNotFoundError: There is none of this name.
        """
        return self._connection.run(self._run(name))

    async def arun(self, name: str) -> str:
        """Enqueue what a schedule runs, now; see `run`."""
        return await self._connection.arun(self._run(name))

    def remove(self, name: str) -> None:
        """Forget a schedule whose code is gone.

        A worker that still serves it makes it known again.

        Args:
            name: As `list` shows it.

        Raises:
            ScheduleNotFoundError: There is none of this name.
        """
        self._connection.run(self._hold(name, "remove"))

    async def aremove(self, name: str) -> None:
        """Forget a schedule whose code is gone; see `remove`."""
        await self._connection.arun(self._hold(name, "remove"))


def _checked(name: str) -> str:
    if not NAME_PATTERN.fullmatch(name):
        raise ScheduleNotFoundError(name)
    return name
