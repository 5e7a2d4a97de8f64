"""The schedules that a worker serves: make them known, and make their ticks.

Every worker does this for the schedules of its registry, and so does a scheduler;
there is no leader. Each worker keeps the next ticks of its schedules in a heap, so a
poll costs the same however many schedules there are. The script lets one of the
workers make a tick, and tells the others the next one.
"""

import asyncio
import contextlib
import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from random import Random
from typing import Any, TypeVar

from attrs import define

from taskflow._client.ids import new_task_id
from taskflow._codec import Spec, encode_spec
from taskflow._declare.schedule import Cron, Every, Schedule
from taskflow._declare.task import Call
from taskflow._protocol import schedules
from taskflow._protocol.keys import Keys
from taskflow._protocol.lenient import moment
from taskflow._protocol.operation import Operation
from taskflow._protocol.schedules import (
    MOST_PER_CALL,
    SchedulePoll,
    ScheduleUpsert,
    Tick,
)
from taskflow._servers.runner import AsyncRunner
from taskflow.errors import ServerError

T = TypeVar("T")

LOOK_EVERY = 1.0
"""Seconds between two polls at most: schedules may be removed, or lost with the data
of the server, and its clock may be set."""

ABANDONED_MS = 60_000
"""After which a tick that nobody made is taken over from another definition of its
schedule: those that had it are gone."""

MOST_BYTES = 1 << 20
"""Of payloads in one call."""


@define(eq=False)
class _Served:
    """A schedule that this worker serves.

    Attributes:
        schedule: Its definition.
        digest: Of the definition.
        call: Of each tick.
        next_ms: Next tick; None = not known, or it is that of another definition.
        look_ms: When there is something to do, as it stands in the heap; None = it
            is not in the heap.
    """

    schedule: Schedule
    digest: str
    call: Call[Any]
    next_ms: int | None = None
    look_ms: int | None = None


_Known = dict[tuple[Cron | Every, str, int], tuple[list[datetime], datetime]]
"""Ticks to make and the following one, by definition and next tick."""


class Scheduler:
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
        self._served = [_Served(each, each.digest, each.call()) for each in served]
        self._clock = clock
        self._rng = rng
        self._heap: list[tuple[int, int, _Served]] = []
        self._pushes = itertools.count()
        self._turns = itertools.cycle(self._served)
        self._count = 0
        self._is_announced = False
        self._is_doubtful = False
        self._woken = asyncio.Event()

    async def run(self) -> None:
        """Make ticks until cancelled; returns at once when there is no schedule."""
        while self._served:
            try:
                wait = await self.poll()
            except ServerError:
                # The heartbeat tells of an outage; what was missed is made up for.
                wait = self._rng.uniform(0.2, 1.0)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._woken.wait()
            self._woken.clear()

    def poll_now(self) -> None:
        """Announce what is missing at once: the server has lost its data."""
        self._is_doubtful = True
        self._woken.set()

    async def poll(self) -> float:
        """Make the ticks that are due.

        Returns:
            Seconds until the next look.
        """
        few = min(MOST_PER_CALL, len(self._served)) if self._is_announced else 0
        sample = list(itertools.islice(self._turns, few))
        poll = await self._send(self._polling(sample))
        now_ms = poll.now_ms
        self._is_doubtful |= poll.count < self._count
        self._count = poll.count
        if not self._is_announced:
            await self._announce(self._served, now_ms)
            self._is_announced = True
        elif self._is_doubtful:
            await self._refresh(self._served, now_ms)
        else:
            await self._learn(sample, poll.states, now_ms)
        self._is_doubtful = False
        due = self._take_due(now_ms)
        try:
            await self._make(due, now_ms)
        finally:
            for served in due:
                if served.look_ms is None:  # the server did not answer
                    self._plan(served, now_ms)
        if due or not self._heap:
            return 0.0 if due else LOOK_EVERY
        return min(LOOK_EVERY, max(0.0, (self._heap[0][0] - now_ms) / 1000))

    def _polling(self, served: Sequence[_Served]) -> Operation[SchedulePoll]:
        names = [each.schedule.name for each in served]
        return schedules.poll(self._keys, names, now_ms=self._clock())

    async def _send(self, operation: Operation[T]) -> T:
        return await self._runner.send(operation)

    # What the server knows.

    async def _refresh(self, served: Sequence[_Served], now_ms: int) -> None:
        """Read the next ticks of *served*; announce those that are gone."""
        for batch in _batches(served):
            poll = await self._send(self._polling(batch))
            await self._learn(batch, poll.states, now_ms)

    async def _learn(
        self,
        served: Sequence[_Served],
        states: Iterable[tuple[int, str] | None],
        now_ms: int,
    ) -> None:
        """Take note of next ticks; announce what is gone, or abandoned by others."""
        unknown = [
            each
            for each, state in zip(served, states, strict=True)
            if not self._knows(each, state, now_ms)
        ]
        await self._announce(unknown, now_ms)

    def _knows(
        self, served: _Served, state: tuple[int, str] | None, now_ms: int
    ) -> bool:
        if state is None:
            return False  # and announced with the next tick that was known
        next_ms, digest = state
        if digest == served.digest:
            if next_ms != served.next_ms or served.look_ms is None:
                served.next_ms = next_ms
                self._plan(served, next_ms)
            return True
        served.next_ms = None
        self._plan(served, next_ms + ABANDONED_MS)
        return now_ms <= next_ms + ABANDONED_MS

    async def _announce(self, served: Sequence[_Served], now_ms: int) -> None:
        now = moment(now_ms)
        for batch in _batches(served):
            announcements = [
                ScheduleUpsert(
                    each.schedule,
                    each.digest,
                    each.call.payload,
                    each.call.task.spec,
                    each.schedule.when.after(now)
                    if each.next_ms is None
                    else moment(each.next_ms),
                    each.call.upstream,
                )
                for each in batch
            ]
            operation = schedules.upsert_schedules(
                self._keys, announcements, now_ms=self._clock()
            )
            replies = await self._send(operation)
            for each, (is_new, next_ms) in zip(batch, replies, strict=True):
                self._count += is_new
                each.next_ms = next_ms
                self._plan(each, next_ms)

    # What is due.

    def _plan(self, served: _Served, look_ms: int) -> None:
        if served.look_ms != look_ms:
            served.look_ms = look_ms
            heapq.heappush(self._heap, (look_ms, next(self._pushes), served))

    def _take_due(self, now_ms: int) -> list[_Served]:
        due: list[_Served] = []
        while self._heap and self._heap[0][0] <= now_ms:
            look_ms, _, served = heapq.heappop(self._heap)
            if served.look_ms == look_ms:  # else it was planned anew
                served.look_ms = None
                due.append(served)
        return due

    async def _make(self, due: Sequence[_Served], now_ms: int) -> None:
        """Make the ticks of *due*, in calls of bounded size."""
        await self._refresh([each for each in due if each.next_ms is None], now_ms)
        batch: list[tuple[_Served, Tick]] = []
        size = 0
        known: _Known = {}
        for served in due:
            if served.next_ms is None or served.look_ms is not None:
                continue  # it is another definition's, or was announced just now
            for tick in self._ticks(served, served.next_ms, now_ms, known):
                batch.append((served, tick))
                size += len(tick.payload)
                if len(batch) == MOST_PER_CALL or size > MOST_BYTES:
                    await self._tick(batch, now_ms)
                    batch, size = [], 0
        if batch:
            await self._tick(batch, now_ms)

    @staticmethod
    def _ticks(
        served: _Served, next_ms: int, now_ms: int, known: _Known
    ) -> Iterator[Tick]:
        schedule, call = served.schedule, served.call
        same = schedule.when, schedule.missed, next_ms
        if same not in known:  # many schedules may share a cron expression
            known[same] = schedule.due(moment(next_ms), moment(now_ms))
        ticks, following = known[same]
        last_ms = _ms(following)
        if not ticks:
            yield Tick(schedule.name, served.digest, next_ms, last_ms)
            return
        for each, after in zip(ticks, [*ticks[1:], following], strict=True):
            after_ms = _ms(after)
            yield Tick(
                schedule.name,
                served.digest,
                next_ms,
                after_ms,
                new_task_id(),
                call.payload,
                encode_spec(Spec(name=schedule.task.name, tick_ms=_ms(each))),
                call.upstream,
            )
            next_ms = after_ms

    async def _tick(self, batch: Sequence[tuple[_Served, Tick]], now_ms: int) -> None:
        operation = schedules.tick(
            self._keys, [tick for _, tick in batch], now_ms=self._clock()
        )
        replies = await self._send(operation)
        last = {each: reply for (each, _), reply in zip(batch, replies, strict=True)}
        await self._learn([*last], [each.state for each in last.values()], now_ms)
        for each, reply in last.items():
            if (
                reply.word == "PASSED"
                and each.next_ms is not None
                and each.next_ms <= now_ms
            ):
                # It is no time that a clock can have, and would be asked for
                # without a rest.
                self._plan(each, now_ms + self._rng.randint(50, 200))


def _batches(served: Sequence[_Served]) -> Iterator[Sequence[_Served]]:
    """Split *served* into calls of at most 100 schedules and, about, 1 MiB."""
    batch: list[_Served] = []
    size = 0
    for each in served:
        batch.append(each)
        size += len(each.call.payload)
        if len(batch) == MOST_PER_CALL or size > MOST_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
