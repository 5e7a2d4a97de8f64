"""The runner of one event loop: many tasks, a connection each per trip."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Any, TypeVar

from redis.exceptions import ResponseError

from taskflow._protocol.operation import Operation
from taskflow._servers import resp
from taskflow._servers.connection import AsyncConnection, ConnectionSource
from taskflow._servers.errors import (
    FAILURES,
    FOREIGN,
    connecting,
    departure,
    is_broken,
    translate,
)
from taskflow._servers.exchange import Pause, Trip, exchange
from taskflow._servers.runner import IDLE_LIMIT, PATIENCE
from taskflow.errors import ServerUnavailableError, TaskFlowError

T = TypeVar("T")

_SHORTEST_WAIT = 0.001  # of BZPOPMIN; 0 would be for ever
_WAIT_MARGIN = 5.0


class AsyncRedisRunner:
    """Sends operations from one event loop.

    It belongs to the loop that first uses it, and is closed with that loop
    where ``asyncio.run`` runs it. A runner that was closed still works, but
    keeps no connection open.

    Args:
        source: Where connections come from.
        patience: Seconds for which what got no answer is sent again.
    """

    def __init__(self, source: ConnectionSource, *, patience: float = PATIENCE) -> None:
        self._source = source
        self._patience = patience
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._idle: list[tuple[AsyncConnection, float]] = []
        self._slots = asyncio.Semaphore(source.most_links)
        self._last_act: AsyncGenerator[None] | None = None

    async def send(self, operation: Operation[T]) -> T:
        """Send *operation* and return its answer; see the contract."""
        (answer,) = await self.send_all((operation,))
        if isinstance(answer, TaskFlowError):
            raise answer
        reply: T = answer
        return reply

    async def send_all(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        """Send *operations* in one round trip, in order, not as a transaction.

        Returns:
            One answer for each; where one failed, its error stands in place
            of its answer.
        """
        if not operations:
            return []
        steps = exchange(operations, patience=self._patience)
        timeout = self._source.reply_timeout
        try:
            step = next(steps)
            while True:
                if isinstance(step, Pause):
                    await asyncio.sleep(step.seconds)
                    step = next(steps)
                    continue
                try:
                    replies = await self._make(step, timeout)
                except FAILURES as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(replies)
        except StopIteration as stop:
            answers: list[Any] = stop.value
            return answers

    async def wait_for(self, key: str, timeout: float) -> bool:  # noqa: ASYNC109
        """Wait until something stands in *key*, and take it; see the contract."""
        seconds = max(timeout, _SHORTEST_WAIT)
        command = resp.pack(("BZPOPMIN", key, f"{seconds:.3f}"))
        try:
            (reply,) = await self._make(Trip(command, 1), seconds + _WAIT_MARGIN)
        except FOREIGN as error:
            raise translate(error, "BZPOPMIN") from error
        if isinstance(reply, ResponseError):
            raise translate(reply, "BZPOPMIN")
        return bool(reply)

    @contextlib.asynccontextmanager
    async def subscribe(self, channel: str) -> AsyncGenerator["AsyncRedisSubscription"]:
        """Listen to *channel* while the context lasts."""
        subscription = self.subscription()
        try:
            await subscription.add(channel)
            await subscription.begin()
            yield subscription
        finally:
            await subscription.close()

    def subscription(self) -> "AsyncRedisSubscription":
        """Make a subscription to no channel yet; it connects when it has one."""
        return AsyncRedisSubscription(self._source)

    async def aclose(self) -> None:
        """Close every connection that is not in use, and the others after use."""
        self._closed = True
        await self._leave_loop()

    def abandon(self) -> None:
        """Free the connections of a loop that was closed before they were.

        Those in use went with the loop.
        """
        self._loop = self._last_act = None
        idle, self._idle = self._idle, []
        for link, _ in idle:
            self._source.hang_up(link)

    async def _make(self, trip: Trip, timeout: float) -> list[Any]:  # noqa: ASYNC109
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._belong_to(loop)
        try:
            return await self._go(trip, timeout)
        except FOREIGN:
            if self._source.moves:
                # Also after a reply that took too long: a server that hangs is
                # replaced by another, and keeps its connections.
                self._source.doubt()
            raise

    async def _go(self, trip: Trip, timeout: float) -> list[Any]:  # noqa: ASYNC109
        await _prepare(self._source)
        async with asyncio.timeout(timeout), self._slots:
            link = await self._take()
            if link is not None:
                try:
                    return await self._travel(link, trip)
                except FOREIGN as error:
                    if not is_broken(error):
                        raise
                    # It broke while it was idle, and so did the others: a
                    # restart of the server must cost no caller an error.
                    await self._drop_idle()
                    if self._source.moves:
                        self._source.doubt()
                        await _prepare(self._source)
            if self._last_act is None and not self._closed:
                self._last_act = self._close_at_the_end()
                await anext(self._last_act)
            return await self._travel(await _connected(self._source), trip)

    def _belong_to(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is not None:
            message = (
                "this runner belongs to another event loop; make one for each loop"
            )
            raise RuntimeError(message)
        self._loop = loop

    async def _close_at_the_end(self) -> AsyncGenerator[None]:
        """Close the connections before the loop is closed.

        A task is enqueued by ``await add.aenqueue(2, 3)``, and its caller has
        nothing to close. So this generator is left unfinished, because
        ``asyncio.run`` finishes those that are. A hook at the loop's end
        would be cleaner; asyncio has none.
        """
        try:
            yield
        finally:
            self._last_act = None
            await self._leave_loop()

    async def _leave_loop(self) -> None:
        await self._drop_idle()
        # Nothing may hold on to the loop: this object is often kept under it.
        self._loop = None
        self._slots = asyncio.Semaphore(self._source.most_links)

    async def _take(self) -> AsyncConnection | None:
        while self._idle:
            link, since = self._idle.pop()
            fresh = time.monotonic() - since < IDLE_LIMIT
            if fresh and self._source.leads(link):
                return link
            await link.disconnect(nowait=True)
        return None

    async def _travel(self, link: AsyncConnection, trip: Trip) -> list[Any]:
        cancels = _Cancels()
        try:
            await link.send_packed_command([trip.command], check_health=False)
            cancels.heed()
            replies = [await _read(link) for _ in range(trip.replies)]
            cancels.heed()
        except BaseException:
            # Also when cancelled: replies may be on their way, and nobody else
            # may read them.
            await link.disconnect(nowait=True)
            raise
        gone = departure(replies)
        if gone is not None:
            await link.disconnect(nowait=True)
            await self._drop_idle()
            if self._source.moves:
                raise gone
        elif self._closed:
            await link.disconnect()
        else:
            self._idle.append((link, time.monotonic()))
        return replies

    async def _drop_idle(self) -> None:
        idle, self._idle = self._idle, []
        for link, _ in idle:
            with contextlib.suppress(*FOREIGN):
                await link.disconnect()


class AsyncRedisSubscription:
    """Channels that are listened to over one connection; one task reads at a time.

    Where the connection breaks, it listens again: what was published meanwhile is
    lost, so its caller reads for itself whenever listening has begun.

    Attributes:
        begun: How often listening began.
    """

    def __init__(self, source: ConnectionSource) -> None:
        self._source = source
        self._channels: set[str] = set()
        self._link: AsyncConnection | None = None
        self.begun = 0

    @property
    def listening(self) -> bool:
        """Whether it has a connection."""
        return self._link is not None

    async def add(self, *channels: str) -> None:
        """Listen to *channels* too; `hear` returns each once the server has confirmed."""
        self._channels.update(channels)
        await self._send("SUBSCRIBE", channels)

    async def discard(self, *channels: str) -> None:
        """Listen to *channels* no longer."""
        self._channels.difference_update(channels)
        await self._send("UNSUBSCRIBE", channels)

    async def _send(self, verb: str, channels: Sequence[str]) -> None:
        # While it is being opened, the channels are in the set that `begin` sends.
        if self._link is not None and channels:
            # Who reads finds a broken connection, too, and listens again.
            with contextlib.suppress(*FAILURES):
                await self._link.send_packed_command(
                    [resp.pack((verb, *channels))], check_health=False
                )

    async def begin(self) -> None:
        """Listen; what is published after this is heard, if the server answers.

        Raises:
            ServerError: A channel may not be listened to.
        """
        source = self._source
        try:
            await _prepare(source)
            async with asyncio.timeout(source.reply_timeout):
                link = await _connected(source)
                cancels = _Cancels()
                channels = tuple(self._channels)
                # From here on, `add` sends for itself.
                self._link = link
                await link.send_packed_command(
                    [resp.pack(("SUBSCRIBE", *channels))], check_health=False
                )
                confirmed = 0
                while confirmed < len(channels):
                    message = await link.read_response()
                    confirmed += message[0] == b"subscribe"
                cancels.heed()
                self.begun += 1
        except FAILURES as error:
            await self._break(error)

    async def next(self, timeout: float) -> bytes | None:  # noqa: ASYNC109
        """Return the next message, or None after *timeout* seconds or sooner.

        Raises:
            ServerError: A channel may not be listened to any more.
        """
        heard = await self._hear(timeout, (b"message",))
        return heard[2] if heard else None

    async def hear(self, timeout: float) -> str | None:  # noqa: ASYNC109
        """Return the channel of the next message or confirmation; see `next`."""
        heard = await self._hear(timeout, (b"message", b"subscribe"))
        return str(heard[1], "utf-8") if heard else None

    async def _hear(
        self,
        timeout: float,  # noqa: ASYNC109
        kinds: Sequence[bytes],
    ) -> list[Any] | None:
        link = self._link
        if link is not None and not self._source.leads(link):
            await self.close()
            link = None
        if link is None:
            await self.begin()
            if self._link is None:
                await asyncio.sleep(timeout)
            return None
        deadline, cancels = time.monotonic() + timeout, _Cancels()
        try:
            while True:
                left = max(0.0, deadline - time.monotonic())
                message: list[Any] | None = await link.read_response(timeout=left)
                cancels.heed()
                if message is None or message[0] in kinds:
                    return message
        except FOREIGN as error:
            await self._break(error)
            return None

    def abandon(self) -> None:
        """Free the connection of a loop that was closed before it."""
        link, self._link = self._link, None
        if link is not None:
            self._source.hang_up(link)

    async def close(self) -> None:
        """Stop listening."""
        link, self._link = self._link, None
        if link is not None:
            await link.disconnect()

    async def _break(self, error: Exception) -> None:
        await self.close()
        if self._source.moves:
            self._source.doubt()
        ours = translate(error, "SUBSCRIBE")
        if not isinstance(ours, ServerUnavailableError):
            raise ours


class _Cancels:
    """Finds a cancel that was lost by what was awaited since this was made.

    redis-py sends by `asyncio.wait_for`, which before Python 3.12 forgets a cancel that
    comes in the moment in which it has ended; a loop that was cancelled would go on for
    ever (https://github.com/python/cpython/issues/86296).
    """

    __slots__ = ("_before", "_task")

    def __init__(self) -> None:
        self._task = asyncio.current_task()
        self._before = 0 if self._task is None else self._task.cancelling()

    def heed(self) -> None:
        """Be cancelled now, if that was lost."""
        if self._task is not None and self._task.cancelling() > self._before:
            raise asyncio.CancelledError


async def _prepare(source: ConnectionSource) -> None:
    if not source.prepared:
        await asyncio.to_thread(source.prepare)


async def _connected(source: ConnectionSource) -> AsyncConnection:
    link, cancels = source.async_link(), _Cancels()
    try:
        with connecting():
            await link.connect()
        cancels.heed()
    except BaseException as error:
        await link.disconnect(nowait=True)
        if is_broken(error):
            source.doubt()
        raise
    return link


async def _read(link: AsyncConnection) -> Any:
    try:
        return await link.read_response()
    except ResponseError as error:
        return error
