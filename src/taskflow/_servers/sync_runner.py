"""The runner that blocks: any number of threads, a connection each per trip."""

import contextlib
import os
import threading
import time
import weakref
from collections.abc import Generator, Sequence
from typing import Any, TypeVar

from redis.exceptions import ResponseError

from taskflow._protocol.operation import Operation
from taskflow._servers import resp
from taskflow._servers.connection import Connection, ConnectionSource
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


class RedisRunner:
    """Sends operations and blocks; any thread may use it.

    After a fork the child opens connections of its own. A runner that was
    closed still works, but keeps no connection open.

    Args:
        source: Where connections come from.
        patience: Seconds for which what got no answer is sent again.
    """

    def __init__(self, source: ConnectionSource, *, patience: float = PATIENCE) -> None:
        self._source = source
        self._patience = patience
        self._closed = False
        self.forget()
        _runners.add(self)

    def forget(self) -> None:
        """Let go of every connection without a word; for the child of a fork."""
        self._idle: list[tuple[Connection, float]] = []
        self._slots = threading.Semaphore(self._source.most_links)

    def send(self, operation: Operation[T]) -> T:
        """Send *operation* and return its answer; see the contract."""
        (answer,) = self.send_all((operation,))
        if isinstance(answer, TaskFlowError):
            raise answer
        reply: T = answer
        return reply

    def send_all(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        """Send *operations* in one round trip, in order, not as a transaction.

        Returns:
            One answer for each; where one failed, its error stands in place
            of its answer.
        """
        if not operations:
            return []
        steps = exchange(operations, patience=self._patience)
        try:
            step = next(steps)
            while True:
                if isinstance(step, Pause):
                    time.sleep(step.seconds)
                    step = next(steps)
                    continue
                try:
                    replies = self._make(step)
                except FAILURES as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(replies)
        except StopIteration as stop:
            answers: list[Any] = stop.value
            return answers

    @contextlib.contextmanager
    def subscribe(self, channel: str) -> Generator["RedisSubscription"]:
        """Listen to *channel* while the context lasts; see `RedisSubscription`."""
        subscription = self.subscription()
        try:
            subscription.add(channel)
            subscription.begin()
            yield subscription
        finally:
            subscription.close()

    def subscription(self) -> "RedisSubscription":
        """Make a subscription to no channel yet; it connects when it has one."""
        return RedisSubscription(self._source)

    def close(self) -> None:
        """Close every connection that is not in use, and the others after use."""
        self._closed = True
        self._drop_idle()

    def _make(self, trip: Trip) -> list[Any]:
        try:
            return self._go(trip)
        except FOREIGN:
            if self._source.moves:
                # Also after a reply that took too long: a server that hangs is
                # replaced by another, and keeps its connections.
                self._source.doubt()
            raise

    def _go(self, trip: Trip) -> list[Any]:
        if not self._source.prepared:
            self._source.prepare()
        slots = self._slots
        if not slots.acquire(timeout=self._source.reply_timeout):
            message = f"all {self._source.most_links} connections are in use"
            raise TimeoutError(message)
        try:
            link = self._take()
            if link is not None:
                try:
                    return self._travel(link, trip)
                except FOREIGN as error:
                    if not is_broken(error):
                        raise
                    # It broke while it was idle, and so did the others: a
                    # restart of the server must cost no caller an error.
                    self._drop_idle()
                    if self._source.moves:
                        self._source.doubt()
                        self._source.prepare()
            return self._travel(_connected(self._source), trip)
        finally:
            slots.release()

    def _take(self) -> Connection | None:
        while True:
            try:
                link, since = self._idle.pop()
            except IndexError:
                return None
            fresh = time.monotonic() - since < IDLE_LIMIT
            if fresh and self._source.leads(link):
                return link
            link.disconnect()

    def _travel(self, link: Connection, trip: Trip) -> list[Any]:
        try:
            link.send_packed_command([trip.command], check_health=False)
            replies = [_read(link) for _ in range(trip.replies)]
        except BaseException:
            # Replies may be on their way: nobody else may read them.
            link.disconnect()
            raise
        gone = departure(replies)
        if gone is not None:
            link.disconnect()
            self._drop_idle()
            if self._source.moves:
                raise gone
        else:
            self._give(link)
        return replies

    def _give(self, link: Connection) -> None:
        self._idle.append((link, time.monotonic()))
        if self._closed:
            self._drop_idle()

    def _drop_idle(self) -> None:
        while self._idle:
            with contextlib.suppress(IndexError):
                self._idle.pop()[0].disconnect()


class RedisSubscription:
    """Channels that are listened to over one connection, by one thread at a time.

    Where the connection breaks, it listens again: what was published meanwhile is
    lost, so its caller reads for itself whenever listening has begun.

    Attributes:
        begun: How often listening began.
    """

    def __init__(self, source: ConnectionSource) -> None:
        self._source = source
        self._channels: set[str] = set()
        self._link: Connection | None = None
        self.begun = 0

    @property
    def listening(self) -> bool:
        """Whether it has a connection."""
        return self._link is not None

    def add(self, *channels: str) -> None:
        """Listen to *channels* too; `hear` returns each once the server has confirmed."""
        self._channels.update(channels)
        self._send("SUBSCRIBE", channels)

    def discard(self, *channels: str) -> None:
        """Listen to *channels* no longer."""
        self._channels.difference_update(channels)
        self._send("UNSUBSCRIBE", channels)

    def _send(self, verb: str, channels: Sequence[str]) -> None:
        if self._link is not None and channels:
            try:
                self._link.send_packed_command(
                    [resp.pack((verb, *channels))], check_health=False
                )
            except FAILURES as error:
                self._break(error)

    def begin(self) -> None:
        """Listen; what is published after this is heard, if the server answers.

        Raises:
            ServerError: A channel may not be listened to.
        """
        try:
            if not self._source.prepared:
                self._source.prepare()
            link = _connected(self._source)
            self._link = link
            channels = tuple(self._channels)
            link.send_packed_command(
                [resp.pack(("SUBSCRIBE", *channels))], check_health=False
            )
            confirmed = 0
            while confirmed < len(channels):
                confirmed += link.read_response()[0] == b"subscribe"
            self.begun += 1
        except FAILURES as error:
            self._break(error)

    def next(self, timeout: float) -> bytes | None:
        """Return the next message, or None after *timeout* seconds or sooner.

        Raises:
            ServerError: A channel may not be listened to any more.
        """
        heard = self._hear(timeout, (b"message",))
        return heard[2] if heard else None

    def hear(self, timeout: float) -> str | None:
        """Return the channel of the next message or confirmation; see `next`."""
        heard = self._hear(timeout, (b"message", b"subscribe"))
        return str(heard[1], "utf-8") if heard else None

    def _hear(self, timeout: float, kinds: Sequence[bytes]) -> list[Any] | None:
        link = self._link
        if link is not None and not self._source.leads(link):
            self.close()
            link = None
        if link is None:
            self.begin()
            if self._link is None:
                time.sleep(timeout)
            return None
        deadline = time.monotonic() + timeout
        try:
            while link.can_read(max(0.0, deadline - time.monotonic())):
                message: list[Any] = link.read_response()
                if message[0] in kinds:
                    return message
        except FOREIGN as error:
            self._break(error)
        return None

    def close(self) -> None:
        """Stop listening."""
        if self._link is not None:
            self._link.disconnect()
        self._link = None

    def _break(self, error: Exception) -> None:
        self.close()
        if self._source.moves:
            self._source.doubt()
        ours = translate(error, "SUBSCRIBE")
        if not isinstance(ours, ServerUnavailableError):
            raise ours


def _connected(source: ConnectionSource) -> Connection:
    link = source.link()
    try:
        with connecting():
            link.connect()
    except BaseException as error:
        link.disconnect()
        if is_broken(error):
            source.doubt()
        raise
    return link


def _read(link: Connection) -> Any:
    try:
        return link.read_response()
    except ResponseError as error:
        return error


_runners: weakref.WeakSet[RedisRunner] = weakref.WeakSet()


def _forget_all() -> None:
    for runner in list(_runners):
        runner.forget()


if hasattr(os, "register_at_fork"):
    # A connection that parent and child both used would give each the other's
    # replies.
    os.register_at_fork(after_in_child=_forget_all)
