"""A model provider that misbehaves on demand, for your tests and ours.

`FakeOpenRouter` is an ASGI application that speaks like OpenRouter's chat
completions. Serve it for real with `FakeOpenRouter.serve`, mount it anywhere, or give
it to ``httpx.ASGITransport``. It needs no key, no network and no third party.

What it answers is scripted, one `Reply` after the other; when the script is over it
answers well. Everything that was asked is kept, to be looked at.
"""

import asyncio
import contextlib
import json
import os
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, Literal, cast

from attrs import field, frozen

from taskflow_summarize import _tasks

__all__ = ["SUMMARY", "AskedRequest", "FakeOpenRouter", "Reply", "completion"]

SUMMARY = "Tides are raised by the Moon and shaped by the coasts."
"""What a good answer says, unless told otherwise."""

_PIECES = 4
_HEAD_END = b"\r\n\r\n"

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


def completion(text: str | None = SUMMARY, **changes: Any) -> dict[str, Any]:
    """Make the body of a good answer.

    Args:
        text: Of the model.
        **changes: To its members: ``choices``, ``usage``, ``model``.

    Returns:
        What OpenRouter sends, as JSON has it.
    """
    return {
        "id": "gen-1755-abc",
        "object": "chat.completion",
        "model": "maker/model-7b",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": text},
            }
        ],
        "usage": {"prompt_tokens": 900, "completion_tokens": 14, "cost": 0.00021},
        **changes,
    }


@frozen
class Reply:
    """One scripted answer; the class methods make those that are usual.

    Attributes:
        body: Of the answer, as JSON has it; bytes are sent as they are.
        status: Of HTTP.
        headers: To be sent with it.
        wait: Seconds before it begins.
        ends: ``well``; ``cut``: half of the body is sent; ``before``: the connection
            is closed without a word; ``never``: it is held open without one.
        pieces: Of text, when the request asks for a stream.
    """

    body: Any = field(factory=completion)
    status: int = 200
    headers: Mapping[str, str] = field(factory=dict[str, str])
    wait: float = 0.0
    ends: Literal["well", "cut", "before", "never"] = "well"
    pieces: tuple[str, ...] = ()

    @classmethod
    def ok(cls, text: str | None = SUMMARY, **changes: Any) -> "Reply":
        """Answer well.

        Args:
            text: Of the model.
            **changes: To members of the answer: ``choices``, ``usage``, ``model``.

        Returns:
            The reply; as a stream, the text comes in a few pieces.
        """
        words = (text or "").split(" ")
        size = max(1, -(-len(words) // _PIECES))
        parts = (words[at : at + size] for at in range(0, len(words), size))
        pieces = tuple(" ".join(part) + " " for part in parts)
        return cls(completion(text, **changes), pieces=pieces)

    @classmethod
    def slow(cls, seconds: float) -> "Reply":
        """Answer well, after *seconds*."""
        good = cls.ok()
        return cls(good.body, wait=seconds, pieces=good.pieces)

    @classmethod
    def rate_limited(cls, retry_after: float | datetime | None = None) -> "Reply":
        """Refuse with 429.

        Args:
            retry_after: Seconds, or the moment as an HTTP date; None = not said.

        Returns:
            The reply.
        """
        headers: dict[str, str] = {}
        if isinstance(retry_after, datetime):
            moment = retry_after.astimezone(UTC)
            headers["Retry-After"] = format_datetime(moment, usegmt=True)
        elif retry_after is not None:
            headers["Retry-After"] = f"{retry_after:g}"
        return cls._refusal(429, "Rate limit exceeded", headers)

    @classmethod
    def no_credit(cls) -> "Reply":
        """Refuse with 402: the account is empty."""
        return cls._refusal(402, "Insufficient credits")

    @classmethod
    def bad_key(cls) -> "Reply":
        """Refuse with 401: the key is not known."""
        return cls._refusal(401, "No auth credentials found")

    @classmethod
    def failing(cls, status: int = 503) -> "Reply":
        """Fail with *status*, from 500."""
        return cls._refusal(status, "Provider returned error")

    @classmethod
    def failing_inside(cls, code: int = 502) -> "Reply":
        """Answer 200 with an error in it, as a model that fails half-way does."""
        error = {"code": code, "message": "Provider returned error"}
        return cls({"error": error})

    @classmethod
    def garbled(cls) -> "Reply":
        """Answer with what is no JSON."""
        return cls(b'{"id": "gen-1", "choices": [{"mess')

    @classmethod
    def cut(cls) -> "Reply":
        """Send half of a good answer and close the connection."""
        good = cls.ok()
        return cls(good.body, ends="cut", pieces=good.pieces)

    @classmethod
    def hang_up(cls) -> "Reply":
        """Close the connection without a word."""
        return cls(None, ends="before")

    @classmethod
    def stall(cls) -> "Reply":
        """Say nothing, and keep the connection open."""
        return cls(None, ends="never")

    @classmethod
    def _refusal(
        cls, status: int, message: str, headers: Mapping[str, str] | None = None
    ) -> "Reply":
        error = {"code": status, "message": message}
        return cls({"error": error}, status, headers or {})


@frozen
class AskedRequest:
    """What was asked.

    Attributes:
        method: Of HTTP.
        path: Of the address.
        headers: Names in lower case.
        body: Its JSON, None where there was none.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any

    @property
    def wants_stream(self) -> bool:
        """Whether the answer shall come in pieces."""
        body = self.body
        return isinstance(body, dict) and cast("Any", body).get("stream") is True


class FakeOpenRouter:
    """The provider, as an ASGI application.

    Args:
        *replies: What to answer, in order.

    Attributes:
        replies: What is still to be answered; append to it at any time.
        requests: What was asked, the oldest first.
        connections: How many `serve` has accepted.
        url: The base URL while it is served, empty before.

    Example:
        >>> import asyncio, httpx
        >>> async def ask() -> list[int]:
        ...     fake = FakeOpenRouter(Reply.rate_limited(3), Reply.no_credit())
        ...     async with fake.serve() as url, httpx.AsyncClient() as client:
        ...         path = f"{url}/chat/completions"
        ...         body = {"model": "m", "messages": []}
        ...         answers = [await client.post(path, json=body) for _ in range(3)]
        ...     return [answer.status_code for answer in answers]
        >>> asyncio.run(ask())
        [429, 402, 200]
    """

    def __init__(self, *replies: Reply) -> None:
        self.replies: deque[Reply] = deque(replies)
        self.requests: list[AskedRequest] = []
        self.connections: int = 0
        self.url: str = ""
        self._over = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request.

        Args:
            scope: As ASGI has it.
            receive: As ASGI has it.
            send: As ASGI has it.

        Raises:
            ConnectionError: The script says that the connection ends here.
        """
        if scope["type"] != "http":
            return
        self.requests.append(await _asked(scope, receive))
        reply = self.replies.popleft() if self.replies else Reply.ok()
        if reply.ends == "before":
            raise ConnectionError
        if reply.ends == "never":
            await self._over.wait()
            raise ConnectionError
        if reply.wait:
            await asyncio.sleep(reply.wait)
        if self.requests[-1].wants_stream and reply.pieces:
            await _stream(reply, send)
        else:
            await _answer(reply, send)

    @contextlib.asynccontextmanager
    async def serve(
        self, *, host: str = "127.0.0.1", port: int = 0
    ) -> AsyncGenerator[str]:
        """Listen while the context lasts.

        Args:
            host: Address to listen on.
            port: Port; 0 = any that is free.

        Yields:
            The base URL, for ``OPENROUTER_BASE_URL``.
        """
        self._over = asyncio.Event()
        underway: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections += 1
            task = asyncio.ensure_future(self._converse(reader, writer))
            underway.add(task)
            task.add_done_callback(underway.discard)

        server = await asyncio.start_server(accept, host, port)
        try:
            name, number = server.sockets[0].getsockname()[:2]
            self.url = f"http://{name}:{number}/api/v1"
            yield self.url
        finally:
            self._over.set()
            server.close()
            for task in list(underway):
                task.cancel()
            await asyncio.gather(*underway, return_exceptions=True)
            await server.wait_closed()

    @contextlib.asynccontextmanager
    async def stand_in(self, *, key: str = "test") -> AsyncGenerator[str]:
        """Serve, and have the plugin's settings name this server meanwhile.

        The environment is put back at the end, and the settings are read anew.

        Args:
            key: To be shown as the account's.

        Yields:
            The base URL.
        """
        async with self.serve() as url:
            given = {"OPENROUTER_API_KEY": key, "OPENROUTER_BASE_URL": url}
            before = {name: os.environ.get(name) for name in given}
            os.environ.update(given)
            _tasks.forget_settings()
            try:
                yield url
            finally:
                for name, value in before.items():
                    if value is None:
                        del os.environ[name]
                    else:
                        os.environ[name] = value
                _tasks.forget_settings()

    async def _converse(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Answer the requests of one connection: the HTTP that a fake needs."""
        try:
            is_open = True
            while is_open:
                head = (await reader.readuntil(_HEAD_END)).decode("latin-1")
                scope = _scope(head)
                sender = _Sender(writer)
                await self(scope, _receiver(scope, reader), sender.send)
                is_open = not sender.closes
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

    async def receive() -> Message:
        return {"type": "http.request", "body": await reader.readexactly(length)}

    return receive


class _Sender:
    """Writes an answer to a connection, and remembers whether it ends it."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self.closes = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.closes = (b"connection", b"close") in message["headers"]
            lines = [f"HTTP/1.1 {message['status']} Whatever".encode()]
            lines += [b": ".join(pair) for pair in message["headers"]]
            self._writer.write(b"\r\n".join(lines) + _HEAD_END)
        else:
            self._writer.write(message["body"])
        await self._writer.drain()


async def _asked(scope: Scope, receive: Receive) -> AskedRequest:
    data, more = b"", True
    while more:
        message = await receive()
        data += message.get("body", b"")
        more = message.get("more_body", False)
    headers = {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in scope["headers"]
    }
    body = json.loads(data) if data else None
    return AskedRequest(scope["method"], scope["path"], headers, body)


async def _answer(reply: Reply, send: Send) -> None:
    body: bytes = (
        reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
    )
    await _begin(reply, send, "application/json", str(len(body)))
    if reply.ends == "cut":
        half = {"type": "http.response.body", "body": body[: len(body) // 2]}
        await send({**half, "more_body": True})
        raise ConnectionError
    await send({"type": "http.response.body", "body": body})


async def _begin(reply: Reply, send: Send, kind: str, length: str | None) -> None:
    headers = {"Content-Type": kind, **reply.headers}
    # Without a length the body ends where the connection does.
    headers |= {"Connection": "close"} if length is None else {"Content-Length": length}
    pairs = [
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in headers.items()
    ]
    await send(
        {"type": "http.response.start", "status": reply.status, "headers": pairs}
    )


async def _stream(reply: Reply, send: Send) -> None:
    """Send the text in pieces, as server-sent events, comments included."""
    await _begin(reply, send, "text/event-stream", None)
    events = [b": OPENROUTER PROCESSING\n\n"]
    for piece in reply.pieces:
        delta = {"choices": [{"index": 0, "delta": {"content": piece}}]}
        events.append(b"data: " + json.dumps(delta).encode() + b"\n\n")
    if reply.ends == "cut":
        events = [*events[: len(events) // 2 + 1], b'data: {"choices": [{"ind']
    else:
        events.append(b"data: [DONE]\n\n")
    for event in events:
        await send({"type": "http.response.body", "body": event, "more_body": True})
    if reply.ends == "cut":
        raise ConnectionError
    await send({"type": "http.response.body", "body": b""})
