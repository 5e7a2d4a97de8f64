"""Let any number of callers wait for results over one connection.

A flow has one subscription for its threads, and one for each event loop. One of those
who wait reads it for all (the leader); when it has its result, another one goes on.
So there is no thread or asyncio task that has to be started, ended or found again
after a fork, and a single waiter reads its own messages without a detour.
"""

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from taskflow._protocol.inspect import Ending
from taskflow._protocol.keys import Keys
from taskflow._protocol.operation import Operation
from taskflow._servers.runner import (
    AsyncRunner,
    AsyncSubscription,
    Subscription,
    SyncRunner,
)
from taskflow.errors import ServerError, TaskFlowError

READ_AGAIN = 1.0
"""Seconds after which the records are read again, told or not: a message on a channel
may be lost, a record is not."""

LOOKS = 2
"""Waiters that may read their record themselves at the same time, before they wait:
each takes a connection. The leader reads for the others, a batch to a trip."""

_BATCH = 100
_JOIN_SOON = 0.005  # s after which a leader hears of new waiters while some came lately
_JOIN_LATE = 0.05
_RECONNECT = 0.25

Watch = Callable[[str], Operation[Ending]]
EventT = TypeVar("EventT", threading.Event, asyncio.Event)


class _Waiter(Generic[EventT]):
    """One caller: set when it has an answer, or shall lead."""

    __slots__ = ("answer", "event", "looked", "task_id")

    def __init__(self, task_id: str, event: EventT) -> None:
        self.task_id = task_id
        self.event: EventT = event
        self.answer: Ending | TaskFlowError | None = None
        self.looked = False


class _Room(Generic[EventT]):
    """Who waits for what; no I/O."""

    def __init__(self, keys: Keys, watch: Watch) -> None:
        self.watch = watch
        self._prefix = keys.done_channel("")
        self._waiters: dict[str, list[_Waiter[EventT]]] = {}
        self._read_at = 0.0
        self._begun = 0

    @property
    def empty(self) -> bool:
        return not self._waiters

    @property
    def crowded(self) -> bool:
        return len(self._waiters) > 1

    @property
    def wanted(self) -> set[str]:
        return set(self.channels(self._waiters))

    def channels(self, task_ids: Iterable[str]) -> list[str]:
        return [self._prefix + each for each in task_ids]

    def enter(self, waiter: _Waiter[EventT]) -> bool:
        """Add *waiter*; whether it is the first of its task."""
        known = self._waiters.setdefault(waiter.task_id, [])
        known.append(waiter)
        return len(known) == 1

    def leave(self, waiter: _Waiter[EventT]) -> bool:
        """Remove *waiter*; whether it was the last of its task."""
        known = self._waiters[waiter.task_id]
        known.remove(waiter)
        if not known:
            del self._waiters[waiter.task_id]
        return not known

    def give(self, task_id: str, answer: Ending | TaskFlowError) -> None:
        final = isinstance(answer, TaskFlowError) or answer.state.is_final
        for each in self._waiters.get(task_id, ()):
            each.looked = True
            if final:
                each.answer = answer
                each.event.set()

    def fail(self, error: ServerError) -> None:
        for task_id in self._waiters:
            self.give(task_id, error)

    def wake_one(self) -> None:
        """Ask one that has no answer yet to lead."""
        for known in self._waiters.values():
            for each in known:
                if each.answer is None:
                    each.event.set()
                    return

    def to_read(self, heard: set[str], begun: int) -> list[str]:
        """Whose records to read now, after messages on the channels *heard*."""
        now = time.monotonic()
        if begun != self._begun or now >= self._read_at:
            self._begun, self._read_at = begun, now + READ_AGAIN
            return list(self._waiters)
        ids = {each.removeprefix(self._prefix) for each in heard}
        return [each for each in ids if each in self._waiters]


class Waiters:
    """Those that block in threads."""

    def __init__(self, keys: Keys, watch: Watch) -> None:
        self.pid: int = os.getpid()
        self.looks: threading.Semaphore = threading.Semaphore(LOOKS)
        self._room: _Room[threading.Event] = _Room(keys, watch)
        self._lock = threading.Lock()  # of the room
        self._leading = threading.Lock()
        self._subscription: Subscription | None = None  # of the one that leads
        self._listening: set[str] = set()
        self._joined_at = 0.0

    def wait(
        self, runner: SyncRunner, task_id: str, deadline: float
    ) -> Ending | TaskFlowError | None:
        """Block until *task_id* has ended.

        Args:
            runner: Listens, and reads the records.
            task_id: Of the task.
            deadline: By the monotonic clock.

        Returns:
            How it ended, or the error that the server answered; None at the deadline.
        """
        mine = _Waiter(task_id, threading.Event())
        with self._lock:
            self._joined_at = time.monotonic()
            self._room.enter(mine)
        try:
            while mine.answer is None and time.monotonic() < deadline:
                if self._leading.acquire(blocking=False):
                    try:
                        self._lead(runner, mine, deadline)
                    finally:
                        self._leading.release()
                        self._wake_one()
                else:
                    left = deadline - time.monotonic()
                    mine.event.wait(max(0.0, min(READ_AGAIN, left)))
                    mine.event.clear()
        finally:
            with self._lock:
                self._room.leave(mine)
            self._close_if_empty()
        if mine.answer is None and not mine.looked:
            return runner.send(self._room.watch(task_id))
        return mine.answer

    def _wake_one(self) -> None:
        with self._lock:
            self._room.wake_one()

    def _close_if_empty(self) -> None:
        if self._leading.locked():
            return  # by one that waits, and wakes another at its end
        if not self._room.empty:
            self._wake_one()
        elif self._leading.acquire(blocking=False):
            try:
                if self._room.empty:
                    self._hang_up()
            finally:
                self._leading.release()
                self._wake_one()

    def _hang_up(self) -> None:
        subscription, self._subscription = self._subscription, None
        self._listening = set()
        if subscription is not None:
            subscription.close()

    def _lead(
        self, runner: SyncRunner, mine: _Waiter[threading.Event], deadline: float
    ) -> None:
        try:
            while mine.answer is None and time.monotonic() < deadline:
                if self._subscription is None:
                    self._subscription = runner.subscription()
                self._hear(runner, self._subscription, deadline)
        except ServerError as error:
            self._hang_up()
            with self._lock:
                self._room.fail(error)
        except BaseException:
            # Half a reply may have been read.
            self._hang_up()
            raise

    def _hear(
        self, runner: SyncRunner, subscription: Subscription, deadline: float
    ) -> None:
        room = self._room
        with self._lock:
            wanted = room.wanted
        subscription.discard(*(self._listening - wanted))
        subscription.add(*(wanted - self._listening))
        self._listening = wanted
        now = time.monotonic()
        join = _JOIN_SOON if now - self._joined_at < 1 else _JOIN_LATE
        patience = join if subscription.listening else _RECONNECT
        heard: set[str] = set()
        channel = subscription.hear(max(0.0, min(patience, deadline - now)))
        while channel is not None:
            heard.add(channel)
            channel = subscription.hear(0) if room.crowded else None
        with self._lock:
            ids = room.to_read(heard, subscription.begun)
        for start in range(0, len(ids), _BATCH):
            part = ids[start : start + _BATCH]
            answers = runner.send_all([room.watch(each) for each in part])
            with self._lock:
                for task_id, answer in zip(part, answers, strict=True):
                    room.give(task_id, answer)


class AsyncWaiters:
    """Those that wait on one event loop."""

    def __init__(self, keys: Keys, watch: Watch) -> None:
        self.looks = LOOKS
        self._room: _Room[asyncio.Event] = _Room(keys, watch)
        self._led = False
        self._subscription: AsyncSubscription | None = None

    async def wait(
        self, runner: AsyncRunner, task_id: str, deadline: float
    ) -> Ending | TaskFlowError | None:
        """Wait until *task_id* has ended; see `Waiters.wait`."""
        mine = _Waiter(task_id, asyncio.Event())
        first = self._room.enter(mine)
        try:
            if self._subscription is None:
                self._subscription = runner.subscription()
            subscription = self._subscription
            if first:
                await subscription.add(*self._room.channels([task_id]))
            while mine.answer is None and time.monotonic() < deadline:
                if self._led:
                    left = deadline - time.monotonic()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(min(READ_AGAIN, left)):
                            await mine.event.wait()
                    mine.event.clear()
                else:
                    await self._lead(runner, subscription, mine, deadline)
        finally:
            await self._leave(mine)
        if mine.answer is None and not mine.looked:
            return await runner.send(self._room.watch(task_id))
        return mine.answer

    async def _leave(self, mine: _Waiter[asyncio.Event]) -> None:
        last = self._room.leave(mine)
        subscription = self._subscription
        if not self._room.empty:
            if not self._led:
                self._room.wake_one()
            if last and subscription is not None:
                await subscription.discard(*self._room.channels([mine.task_id]))
        elif subscription is not None:
            self._subscription = None
            await subscription.close()

    async def _lead(
        self,
        runner: AsyncRunner,
        subscription: AsyncSubscription,
        mine: _Waiter[asyncio.Event],
        deadline: float,
    ) -> None:
        self._led = True
        try:
            while mine.answer is None and time.monotonic() < deadline:
                await self._hear(runner, subscription, deadline)
        except ServerError as error:
            await subscription.close()
            self._room.fail(error)
        except BaseException:
            # Half a reply may have been read.
            await subscription.close()
            raise
        finally:
            self._led = False
            self._room.wake_one()

    async def _hear(
        self, runner: AsyncRunner, subscription: AsyncSubscription, deadline: float
    ) -> None:
        room, heard = self._room, set[str]()
        left = max(0.0, deadline - time.monotonic())
        most = READ_AGAIN if subscription.listening else _RECONNECT
        channel = await subscription.hear(min(most, left))
        while channel is not None:
            heard.add(channel)
            channel = await subscription.hear(0) if room.crowded else None
        ids = room.to_read(heard, subscription.begun)
        for start in range(0, len(ids), _BATCH):
            part = ids[start : start + _BATCH]
            answers = await runner.send_all([room.watch(each) for each in part])
            for task_id, answer in zip(part, answers, strict=True):
                room.give(task_id, answer)

    def abandon(self) -> None:
        """Free the connection of a loop that was closed before it."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            subscription.abandon()
