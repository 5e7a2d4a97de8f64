"""The schedules that a worker serves: make them known, and make their ticks.

Every worker does this for the schedules of its registry, and so does a scheduler;
there is no leader. All of them see the same next tick and try to make it; the
script lets one.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from random import Random

from taskflow._client.ids import new_task_id
from taskflow._codec import Spec, encode_spec
from taskflow._declare.schedule import Schedule
from taskflow._protocol import schedules
from taskflow._protocol.keys import Keys
from taskflow._protocol.schedules import ScheduleStatus, Timetable
from taskflow._servers.runner import AsyncRunner
from taskflow.errors import ServerError

LOOK_EVERY = 1.0
"""Seconds after which the timetable is read again, whatever it said: a schedule
may be resumed, and the server's clock may be set."""

ABANDONED = 60.0
"""Seconds after which a tick that nobody made is taken over from another definition
of its schedule: those that had it are gone."""


class Timekeeper:
    """Makes the ticks of some schedules.

    Args:
        runner: Sends operations on the loop.
        keys: Of the prefix in use.
        served: The schedules.
        clock: Gives the time that operations carry, in ms.
        rng: Spreads those that wait for a server.
    """

    def __init__(
        self,
        runner: AsyncRunner,
        keys: Keys,
        served: Sequence[Schedule],
        clock: Callable[[], int],
        rng: Random,
    ) -> None:
        self._runner = runner
        self._keys = keys
        self._served = served
        self._clock = clock
        self._rng = rng

    async def run(self) -> None:
        """Make ticks until cancelled; returns at once when there is no schedule."""
        is_new = True
        while self._served:
            try:
                if is_new:
                    await self._announce_all()
                    is_new = False
                wait = await self.look()
            except ServerError:
                # The heartbeat tells of an outage; what was missed is made up for.
                wait = self._rng.uniform(0.2, 1.0)
            await asyncio.sleep(wait)

    async def _announce_all(self) -> None:
        now = (await self._read()).now
        for schedule in self._served:
            await self._announce(schedule, now)

    async def _announce(self, schedule: Schedule, now: datetime) -> bool:
        call = schedule.call()
        operation = schedules.announce(
            self._keys,
            schedule,
            payload=call.payload,
            spec=call.task.spec,
            first=schedule.when.after(now),
            upstream=call.upstream,
            now_ms=self._clock(),
        )
        return await self._runner.send(operation)

    async def _read(self) -> Timetable:
        operation = schedules.timetable(self._keys, now_ms=self._clock())
        return await self._runner.send(operation)

    async def look(self) -> float:
        """Make the ticks that are due.

        Returns:
            Seconds until the next look.
        """
        table = await self._read()
        known = {status.name: status for status in table.schedules}
        wait = LOOK_EVERY
        for schedule in self._served:
            status = known.get(schedule.name)
            if status is None or self._is_abandoned(schedule, status, table.now):
                # Removed, or the server was emptied; or nobody has that code now.
                # One that is known stands beyond what a reading holds.
                if await self._announce(schedule, table.now):
                    wait = 0.0
            elif status.digest == schedule.digest:
                left = (status.next_at - table.now).total_seconds()
                if left <= 0:
                    made = await self._make(schedule, status.next_at, table.now)
                    # Somebody else was first; or the tick is no time that a clock
                    # can have, and would be asked for without a rest.
                    left = 0.0 if made else self._rng.uniform(0.05, 0.2)
                wait = min(wait, left)
        return wait

    @staticmethod
    def _is_abandoned(
        schedule: Schedule, status: ScheduleStatus, now: datetime
    ) -> bool:
        late = (now - status.next_at).total_seconds()
        return status.digest != schedule.digest and late > ABANDONED

    async def _make(self, schedule: Schedule, due: datetime, now: datetime) -> bool:
        ticks, following = schedule.due(due, now)
        if not ticks:
            skip = schedules.tick(
                self._keys,
                schedule,
                due=due,
                following=following,
                now_ms=self._clock(),
            )
            return await self._runner.send(skip) != "PASSED"
        for each, after in zip(ticks, [*ticks[1:], following], strict=True):
            call = schedule.call()
            spec = Spec(name=schedule.task.name, tick_ms=_ms(each))
            word = await self._runner.send(
                schedules.tick(
                    self._keys,
                    schedule,
                    due=due,
                    following=after,
                    task_id=new_task_id(),
                    payload=call.payload,
                    spec=encode_spec(spec),
                    upstream=call.upstream,
                    now_ms=self._clock(),
                )
            )
            if word == "PASSED":
                return False
            due = after
        return True


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
