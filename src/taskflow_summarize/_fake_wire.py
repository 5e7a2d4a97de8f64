"""The HTTP that a fake server needs, on a connection or as ASGI has it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

Scope: TypeAlias = dict[str, Any]
Message: TypeAlias = dict[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

_HEAD_END: Final = b"\r\n\r\n"


async def send_answer(
    send: Send,
    status: int,
    headers: Mapping[str, str],
    parts: Sequence[bytes],
    *,
    is_stream: bool,
) -> None:
    """Send the head and the parts of a body, all but its end.

    Args:
        send: As ASGI has it.
        status: Of HTTP.
        headers: To be sent.
        parts: Of the body, each sent alone.
        is_stream: Whether its length is not said before.
    """
    kind = "text/event-stream" if is_stream else "application/json"
    named = {"Content-Type": kind, **headers}
    pairs = [
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in named.items()
    ]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    for part in parts:
        await send({"type": "http.response.body", "body": part, "more_body": True})


async def end_answer(send: Send) -> None:
    """Send the end of a body."""
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def read_body(receive: Receive) -> bytes:
    """Read the whole body of a request."""
    data, more = b"", True
    while more:
        message = await receive()
        data += message.get("body", b"")
        more = message.get("more_body", False)
    return data


async def until_gone(receive: Receive, over: asyncio.Event) -> None:
    """Wait until the client has left, or until all is *over*."""
    ends: list[asyncio.Future[Any]] = [
        asyncio.ensure_future(receive()),
        asyncio.ensure_future(over.wait()),
    ]
    try:
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for end in ends:
            end.cancel()
        await asyncio.gather(*ends, return_exceptions=True)


async def converse(
    app: Callable[[Scope, Receive, Send], Awaitable[None]],
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    """Let an application answer the requests of one connection.

    Args:
        app: The application, as ASGI has it; a ``ConnectionError`` of it closes the
            connection.
        reader: What comes.
        writer: What goes.
    """
    try:
        while True:
            head = (await reader.readuntil(_HEAD_END)).decode("latin-1")
            scope = _scope(head)
            sender = _Sender(writer)
            await app(scope, _receiver(scope, reader), sender.send)
    except (ConnectionError, asyncio.IncompleteReadError):
        pass  # one of the two has closed it
    finally:
        writer.close()


def _scope(head: str) -> Scope:
    start, *lines = head.rstrip().split("\r\n")
    method, path, _ = start.split(" ")
    pairs = (line.partition(":") for line in lines)
    headers = [
        (name.strip().lower().encode("latin-1"), value.strip().encode("latin-1"))
        for name, _, value in pairs
    ]
    return {"type": "http", "method": method, "path": path, "headers": headers}


def _receiver(scope: Scope, reader: asyncio.StreamReader) -> Receive:
    length = int(dict(scope["headers"]).get(b"content-length", b"0"))

    is_read = False

    async def receive() -> Message:
        nonlocal is_read
        if is_read:
            await reader.read(1)  # nothing more comes until the answer is sent
            return {"type": "http.disconnect"}
        is_read = True
        return {"type": "http.request", "body": await reader.readexactly(length)}

    return receive


class _Sender:
    """Writes an answer to a connection, in chunks where its length is not said."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._is_chunked = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._begin(message)
        else:
            self._go_on(message["body"], is_last=not message.get("more_body", False))
        await self._writer.drain()

    def _begin(self, message: Message) -> None:
        pairs = list(message["headers"])
        self._is_chunked = b"content-length" not in dict(pairs)
        if self._is_chunked:
            pairs.append((b"transfer-encoding", b"chunked"))
        lines = [f"HTTP/1.1 {message['status']} Whatever".encode()]
        lines += [b": ".join(pair) for pair in pairs]
        self._writer.write(b"\r\n".join(lines) + _HEAD_END)

    def _go_on(self, body: bytes, *, is_last: bool) -> None:
        if not self._is_chunked:
            self._writer.write(body)
            return
        if body:
            self._writer.write(b"%x\r\n%b\r\n" % (len(body), body))
        if is_last:
            self._writer.write(b"0\r\n\r\n")
