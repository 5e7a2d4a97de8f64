"""A connection whose request does not come is closed: uvicorn waits for ever.

Thousands of connections that send a byte now and then would hold the service's file
descriptors. Idle connections between two requests are closed by uvicorn itself.
"""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.auto import AutoHTTPProtocol

HEAD_SECONDS: Final = 10.0
"""Within which the head of a request must have come, TLS and pauses included."""

_ANSWER: Final = (
    b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
)


class HeadTimeoutProtocol(asyncio.Protocol):
    """The protocol that uvicorn would choose, with a bound on the time of a head.

    Args:
        **options: What uvicorn gives to a protocol.
    """

    def __init__(self, **options: Any) -> None:
        choose: Any = AutoHTTPProtocol
        self._inner: Any = choose(**options)
        self._transport: Any = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for the first request."""
        self._transport = transport
        self._inner.connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Take *data*; wait for the rest of a head, or no longer."""
        inner = self._inner
        before = inner.cycle
        inner.data_received(data)
        if inner.cycle is not before:
            self._stop()
        elif before is None or before.response_complete:
            self._wait()

    def eof_received(self) -> bool | None:
        """Take note that nothing more comes."""
        kept: bool | None = self._inner.eof_received()
        return kept

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop()
        self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        """Wait until the client has read something."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Write again."""
        self._inner.resume_writing()

    def _wait(self) -> None:
        # Not once more for each byte that comes.
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(HEAD_SECONDS, self._give_up)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        if not self._transport.is_closing():
            self._transport.write(_ANSWER)
            self._transport.close()
