"""Connections to one address: shared by all calls of an event loop.

The transport of httpx is used and not its client. ``httpx.AsyncClient`` logs the
address of every call at INFO into the host's logs, and apart from its private
methods the only way to keep it quiet would be to change the host's logging. What
the client would have added is little here, as there is one address: its proxy is
looked up once, no redirect is followed, and there are no cookies.

A request is sent again here only where no answer can have been begun, and so
nothing can have been billed: the connection could not be made, or it was an old
one that had been closed meanwhile. Every other failure is the queue's to retry.
"""

import asyncio
import contextlib
import urllib.request
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, Final
from weakref import WeakKeyDictionary

import httpx
import tenacity

_TRIES: Final = 2
_LINGER: Final = 0.5  # seconds
_MOST_LAST_CHUNKS: Final = 8
# As many are kept as there may be: with more than it may keep open, httpcore closes
# every connection whose answer is read. 20 of them cost 2,500 calls 1,656 connections.
_LIMITS: Final = httpx.Limits(
    max_connections=100, max_keepalive_connections=100, keepalive_expiry=30.0
)


class NotBegunError(Exception):
    """The request failed, and no answer to it can have been begun."""


class SilentError(Exception):
    """An answer has begun, and nothing more of it comes.

    Attributes:
        seconds: How long was waited.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__()


class Body:
    """The body of one answer, as it comes.

    Args:
        response: The answer; its head is read.
        idle: Seconds that it may be silent.

    Attributes:
        status: Of HTTP.
        headers: With names in small letters.
    """

    def __init__(self, response: httpx.Response, *, idle: float) -> None:
        self.status = response.status_code
        self.headers: Mapping[str, str] = dict(response.headers.items())
        self._response = response
        self._chunks = response.aiter_bytes()
        self._idle = idle

    async def read(self) -> bytes:
        """Read what comes next.

        Returns:
            Some bytes; none at the end.

        Raises:
            SilentError: Nothing came for too long.
        """
        try:
            async with asyncio.timeout(self._idle):
                return await anext(self._chunks, b"")
        except TimeoutError:
            raise SilentError(self._idle) from None

    async def read_all(self, most: int, first: bytes = b"") -> bytes | None:
        """Read to the end, but no endless body.

        Args:
            most: Bytes.
            first: What was read already.

        Returns:
            The body, or None where it is longer.
        """
        received = bytearray(first)
        while chunk := await self.read():
            received += chunk
            if len(received) > most:
                return None
        return bytes(received)

    async def read_what_comes(self, most: int) -> bytes:
        """Read a body that is only of use: its status says enough.

        Args:
            most: Bytes.

        Returns:
            What came of it until it ended, broke off or grew too long.
        """
        received = bytearray()
        with contextlib.suppress(SilentError, httpx.HTTPError):
            while len(received) < most and (chunk := await self.read()):
                received += chunk
        return bytes(received)

    async def drain(self) -> None:
        """Read the last bytes after a whole answer.

        They are few, and a connection on which they are left cannot be used again.
        """
        with contextlib.suppress(TimeoutError, SilentError, httpx.HTTPError):
            async with asyncio.timeout(_LINGER):
                for _ in range(_MOST_LAST_CHUNKS):
                    if not await self.read():
                        return

    async def aclose(self) -> None:
        """Give the connection back, or close it where the body is not at its end."""
        await self._response.aclose()


class Transport:
    """Sends requests to one address.

    Its connections are shared by all calls on one event loop, and closed when the
    loop ends.

    Args:
        url: The address.
    """

    def __init__(self, url: httpx.URL) -> None:
        self._url = url
        self._pools: WeakKeyDictionary[asyncio.AbstractEventLoop, _Pool] = (
            WeakKeyDictionary()
        )

    async def send(self, make: Callable[[], httpx.Request], *, idle: float) -> Body:
        """Send a request, and read the head of the answer.

        Args:
            make: Makes the request, anew for each time that it is sent.
            idle: Seconds that the answer may be silent once it has begun.

        Returns:
            The answer, to be closed by the caller.

        Raises:
            NotBegunError: No answer can have been begun, at two tries.
            NetworkError: One may have been.
            RemoteProtocolError: Likewise.
        """
        return Body(await self._send_again(make), idle=idle)

    async def _send_again(self, make: Callable[[], httpx.Request]) -> httpx.Response:
        pool = await self._pool()
        async for attempt in tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(NotBegunError),
            stop=tenacity.stop_after_attempt(_TRIES),
            wait=tenacity.wait_random(0.05, 0.5),
            reraise=True,
        ):
            with attempt:
                return await pool.send(make())
        raise AssertionError  # tenacity gives a result or raises

    async def _pool(self) -> "_Pool":
        loop = asyncio.get_running_loop()
        pool = self._pools.get(loop)
        if pool is None:
            # Reading the certificates takes 20 ms: not on the loop.
            transport = await asyncio.to_thread(_open_transport, self._url)
            pool = self._pools.get(loop)
            if pool is None:
                pool = self._pools[loop] = _Pool(transport)
                await pool.close_with_loop()
        return pool

    async def aclose(self) -> None:
        """Close the connections of the running loop; a later call opens new ones."""
        pool = self._pools.pop(asyncio.get_running_loop(), None)
        if pool is not None:
            await pool.aclose()


class _Pool:
    """The connections of one event loop."""

    def __init__(self, transport: httpx.AsyncHTTPTransport) -> None:
        self._transport = transport
        self._keeper = _keep(transport)

    async def send(self, request: httpx.Request) -> httpx.Response:
        """Send *request*, and read the head of the answer.

        Returns:
            The answer, to be closed by the caller.

        Raises:
            NotBegunError: The request may be sent again.
            NetworkError: It may not, as it may have been begun.
            RemoteProtocolError: Likewise.
        """
        is_new = False

        async def trace(event: str, _: Mapping[str, Any]) -> None:
            nonlocal is_new
            is_new = is_new or event.startswith("connection.connect_")

        request.extensions["trace"] = trace
        try:
            return await self._transport.handle_async_request(request)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise NotBegunError from error
        except (httpx.NetworkError, httpx.RemoteProtocolError) as error:
            # The other side closes idle connections when it likes. On a new one
            # it may have begun to work, and to bill.
            if is_new:
                raise
            raise NotBegunError from error

    async def close_with_loop(self) -> None:
        """Have the connections closed when the loop ends.

        A trick: a loop that ends closes the asynchronous generators that were begun
        on it, and it has no other hook. A context around the worker would be
        cleaner, but a task's body knows of none.
        """
        await anext(self._keeper)

    async def aclose(self) -> None:
        await self._keeper.aclose()


async def _keep(transport: httpx.AsyncHTTPTransport) -> AsyncGenerator[None]:
    # No method: a pool in a cycle with it would be closed by the collector of
    # garbage, its sockets first.
    try:
        yield
    finally:
        await transport.aclose()


def _open_transport(url: httpx.URL) -> httpx.AsyncHTTPTransport:
    proxy = None
    if not urllib.request.proxy_bypass(url.host):
        proxies = urllib.request.getproxies()
        proxy = proxies.get(url.scheme) or proxies.get("all")
    if proxy and "://" not in proxy:
        proxy = f"http://{proxy}"
    return httpx.AsyncHTTPTransport(
        verify=url.scheme == "https", limits=_LIMITS, proxy=proxy or None
    )
