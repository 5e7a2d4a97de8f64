"""The runners, over redis-py: one for an event loop, one for threads.

A script is sent by its address, and loaded when the server does not hold it
yet. What got no answer is sent again while patience lasts: every operation
recognises a repeat. Nothing of redis-py gets past this module.
"""

import asyncio
import contextlib
import random
import time
from abc import abstractmethod
from collections.abc import AsyncGenerator, Generator, Sequence
from typing import Any, TypeVar

from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from taskflow._protocol.operation import Operation, Script
from taskflow._servers.replies import (
    FOREIGN,
    is_missing_script,
    is_read_only,
    translate,
)
from taskflow._servers.runner import PATIENCE
from taskflow._servers.server import Server
from taskflow.errors import ServerError, ServerUnavailableError, TaskflowError

T = TypeVar("T")

_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 0.3


class _Patience:
    """When to send again, and when to give up."""

    def __init__(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds
        self._pause = _FIRST_PAUSE

    def next_pause(self, error: ServerError) -> float:
        """Return seconds to wait; raises *error* when there is no point."""
        left = self._deadline - time.monotonic()
        if left <= 0 or not isinstance(error, ServerUnavailableError):
            raise error
        pause = random.uniform(self._pause / 2, self._pause)  # noqa: S311
        self._pause = min(_LONGEST_PAUSE, self._pause * 2)
        return min(pause, left)


def _evalsha(operation: Operation[Any]) -> tuple[Any, ...]:
    keys = operation.keys
    return ("EVALSHA", operation.script.sha, len(keys), *keys, *operation.args)


def _decoded(operation: Operation[T], reply: Any) -> T | TaskflowError:
    if isinstance(reply, BaseException):
        return translate(reply, operation.script.name)
    try:
        return operation.decode(reply)
    except TaskflowError as error:
        return error


def _missing(replies: Sequence[Any]) -> list[int]:
    return [
        number
        for number, reply in enumerate(replies)
        if isinstance(reply, BaseException) and is_missing_script(reply)
    ]


class ClientServer(Server):
    """A server that redis-py's clients can talk to."""

    @abstractmethod
    def sync_client(self, *, socket_timeout: float | None = 5.0) -> Redis:
        """Make a blocking client; any thread may use it.

        Args:
            socket_timeout: Seconds that one reply may take; None = for ever.
        """

    @abstractmethod
    def async_client(self, *, socket_timeout: float | None = 5.0) -> AsyncRedis:
        """Make a client for the running event loop.

        Args:
            socket_timeout: Seconds that one reply may take; None = for ever.
        """

    def runner(self, *, patience: float = PATIENCE) -> "RedisRunner":
        """Make a runner that blocks."""
        return RedisRunner(self, patience=patience)

    def async_runner(self, *, patience: float = PATIENCE) -> "AsyncRedisRunner":
        """Make a runner for the running event loop."""
        return AsyncRedisRunner(self, patience=patience)


class AsyncRedisRunner:
    """Sends operations from one event loop.

    Args:
        server: Where to.
        patience: Seconds for which what got no answer is sent again.
    """

    def __init__(self, server: "ClientServer", *, patience: float = PATIENCE) -> None:
        # Any: redis-py types neither commands nor replies.
        self._client: Any = server.async_client()
        self._blocking: Any = None
        self._server = server
        self._patience = patience

    async def send(self, operation: Operation[T]) -> T:
        """Send *operation* and return its answer; see the contract."""
        patience = _Patience(self._patience)
        command = _evalsha(operation)
        while True:
            try:
                try:
                    reply = await self._client.execute_command(*command)
                except FOREIGN as error:
                    if not is_missing_script(error):
                        raise
                    await self._load([operation.script])
                    reply = await self._client.execute_command(*command)
            except FOREIGN as error:
                await self._forget(error)
                ours = translate(error, operation.script.name)
                try:
                    pause = patience.next_pause(ours)
                except ServerError as final:
                    raise final from error
                await asyncio.sleep(pause)
            else:
                return operation.decode(reply)

    async def send_all(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        """Send *operations* in one round trip, in order, not as a transaction.

        Returns:
            One answer for each; where one failed, its error stands in place
            of its answer.
        """
        patience = _Patience(self._patience)
        while True:
            try:
                replies = await self._round_trip(operations)
            except FOREIGN as error:
                await self._forget(error)
                ours = translate(error, operations[0].script.name)
                try:
                    pause = patience.next_pause(ours)
                except ServerError as final:
                    return [final for _ in operations]
                await asyncio.sleep(pause)
            else:
                return [
                    _decoded(operation, reply)
                    for operation, reply in zip(operations, replies, strict=True)
                ]

    async def _round_trip(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        if len(operations) == 1:
            try:
                return [await self._client.execute_command(*_evalsha(operations[0]))]
            except FOREIGN as error:
                replies: list[Any] = [error]
                if not is_missing_script(error):
                    if isinstance(error, OSError) or _is_connection(error):
                        raise
                    return replies
        else:
            replies = await self._pipelined(operations)
        missing = _missing(replies)
        if missing:
            again = [operations[number] for number in missing]
            await self._load([operation.script for operation in again])
            for number, reply in zip(
                missing, await self._pipelined(again), strict=True
            ):
                replies[number] = reply
        return replies

    async def _pipelined(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for operation in operations:
            pipeline.execute_command(*_evalsha(operation))
        replies: list[Any] = await pipeline.execute(raise_on_error=False)
        return replies

    async def _load(self, scripts: Sequence[Script]) -> None:
        for source in {script.source for script in scripts}:
            await self._client.execute_command("SCRIPT LOAD", source)

    async def _forget(self, error: BaseException) -> None:
        if is_read_only(error):
            await self._client.connection_pool.disconnect()

    async def wait_for(self, key: str, timeout: float) -> bool:  # noqa: ASYNC109
        """Wait until something stands in *key*, and take it; see the contract."""
        if self._blocking is None:
            self._blocking = self._server.async_client(socket_timeout=None)
        try:
            async with asyncio.timeout(timeout + 5.0):
                reply = await self._blocking.execute_command(
                    "BZPOPMIN", key, max(timeout, 0.001)
                )
        except FOREIGN as error:
            raise translate(error, "marker") from error
        return bool(reply)

    @contextlib.asynccontextmanager
    async def subscribe(self, channel: str) -> AsyncGenerator["AsyncRedisSubscription"]:
        """Listen to *channel* while the context lasts."""
        pubsub = self._client.pubsub(ignore_subscribe_messages=True)
        try:
            try:
                await pubsub.subscribe(channel)
            except FOREIGN as error:
                raise translate(error, "subscribe") from error
            yield AsyncRedisSubscription(pubsub)
        finally:
            await pubsub.aclose()

    async def aclose(self) -> None:
        """Close every connection."""
        await self._client.aclose()
        if self._blocking is not None:
            await self._blocking.aclose()


class AsyncRedisSubscription:
    """One channel that is listened to."""

    def __init__(self, pubsub: Any) -> None:
        self._pubsub = pubsub

    async def next(self, timeout: float) -> bytes | None:  # noqa: ASYNC109
        """Return the next message, or None after *timeout* seconds."""
        try:
            message = await self._pubsub.get_message(timeout=timeout)
        except FOREIGN as error:
            raise translate(error, "subscribe") from error
        return None if message is None else message["data"]


def _is_connection(error: BaseException) -> bool:
    return isinstance(translate(error, ""), ServerUnavailableError)


class RedisRunner:
    """Sends operations and blocks; any thread may use it.

    Args:
        server: Where to.
        patience: Seconds for which what got no answer is sent again.
    """

    def __init__(self, server: "ClientServer", *, patience: float = PATIENCE) -> None:
        self._client: Any = server.sync_client()
        self._patience = patience

    def send(self, operation: Operation[T]) -> T:
        """Send *operation* and return its answer; see the contract."""
        answer: T | TaskflowError = self._send(
            [operation], patience=_Patience(self._patience)
        )[0]
        if isinstance(answer, TaskflowError):
            raise answer
        return answer

    def send_all(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        """Send *operations* in one round trip, in order, not as a transaction.

        Returns:
            One answer for each; where one failed, its error stands in place
            of its answer.
        """
        return self._send(operations, patience=_Patience(self._patience))

    def _send(
        self, operations: Sequence[Operation[Any]], *, patience: _Patience
    ) -> list[Any]:
        while True:
            try:
                replies = self._round_trip(operations)
            except FOREIGN as error:
                if is_read_only(error):
                    self._client.connection_pool.disconnect()
                ours = translate(error, operations[0].script.name)
                ours.__cause__ = error
                try:
                    pause = patience.next_pause(ours)
                except ServerError as final:
                    return [final for _ in operations]
                time.sleep(pause)
            else:
                return [
                    _decoded(operation, reply)
                    for operation, reply in zip(operations, replies, strict=True)
                ]

    def _round_trip(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        replies: list[Any]
        if len(operations) == 1:
            try:
                return [self._client.execute_command(*_evalsha(operations[0]))]
            except FOREIGN as error:
                replies = [error]
                if not is_missing_script(error):
                    if isinstance(error, OSError) or _is_connection(error):
                        raise
                    return replies
        else:
            replies = self._pipelined(operations)
        missing = _missing(replies)
        if missing:
            again = [operations[number] for number in missing]
            for source in {operation.script.source for operation in again}:
                self._client.execute_command("SCRIPT LOAD", source)
            for number, reply in zip(missing, self._pipelined(again), strict=True):
                replies[number] = reply
        return replies

    def _pipelined(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for operation in operations:
            pipeline.execute_command(*_evalsha(operation))
        replies: list[Any] = pipeline.execute(raise_on_error=False)
        return replies

    @contextlib.contextmanager
    def subscribe(self, channel: str) -> Generator["RedisSubscription"]:
        """Listen to *channel* while the context lasts."""
        pubsub = self._client.pubsub(ignore_subscribe_messages=True)
        try:
            try:
                pubsub.subscribe(channel)
            except FOREIGN as error:
                raise translate(error, "subscribe") from error
            yield RedisSubscription(pubsub)
        finally:
            pubsub.close()

    def close(self) -> None:
        """Close every connection."""
        self._client.close()


class RedisSubscription:
    """One channel that is listened to."""

    def __init__(self, pubsub: Any) -> None:
        self._pubsub = pubsub

    def next(self, timeout: float) -> bytes | None:
        """Return the next message, or None after *timeout* seconds."""
        try:
            message = self._pubsub.get_message(timeout=timeout)
        except FOREIGN as error:
            raise translate(error, "subscribe") from error
        return None if message is None else message["data"]
