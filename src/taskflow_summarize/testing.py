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
from collections.abc import AsyncGenerator, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, Literal, cast

from attrs import evolve, field, frozen

from taskflow_summarize import _tasks
from taskflow_summarize._fake_bodies import (
    SUMMARY,
    completion,
    event,
    events_of,
    failed_chunk,
    listing,
)
from taskflow_summarize._fake_wire import (
    Receive,
    Scope,
    Send,
    converse,
    end_answer,
    read_body,
    send_answer,
    until_gone,
)

__all__ = [
    "SUMMARY",
    "AskedRequest",
    "FakeOpenRouter",
    "Reply",
    "completion",
    "listing",
]

_PIECES = 4


@frozen
class Reply:
    """One scripted answer; the class methods make those that are usual.

    Attributes:
        body: Of the answer, as JSON has it; bytes are sent as they are.
        status: Of HTTP.
        headers: To be sent with it.
        wait: Seconds before it begins.
        ends: ``well``; ``cut``: half of the body is sent; ``before``: the connection
            is closed without a word; ``never``: it is held open without one;
            ``silent``: likewise, after half of the body.
        pieces: Of text, when the request asks for a stream. With none, and no
            *events*, the answer comes whole: some servers know no streams.
        events: Of a stream, in place of those made of *body* and *pieces*: objects
            are sent as JSON, bytes as they are.
    """

    body: Any = field(factory=completion)
    status: int = 200
    headers: Mapping[str, str] = field(factory=dict[str, str])
    wait: float = 0.0
    ends: Literal["well", "cut", "before", "never", "silent"] = "well"
    pieces: tuple[str, ...] = ()
    events: tuple[Any, ...] = ()

    @classmethod
    def ok(cls, text: str | None = SUMMARY, **changes: Any) -> "Reply":
        """Answer well.

        Args:
            text: Of the model.
            **changes: To members of the answer: ``choices``, ``usage``, ``model``.

        Returns:
            The reply; as a stream, the text comes in a few pieces.
        """
        said = text or ""
        size = max(1, -(-len(said) // _PIECES))
        pieces = tuple(said[at : at + size] for at in range(0, len(said), size))
        return cls(completion(text, **changes), pieces=pieces)

    @classmethod
    def slow(cls, seconds: float) -> "Reply":
        """Answer well, after *seconds*."""
        return evolve(cls.ok(), wait=seconds)

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
    def failing_midway(cls, code: int | str = 502) -> "Reply":
        """Write half of a text, then say that it failed."""
        good = cls.ok()
        error = {"code": code, "message": "Provider returned error"}
        whole = completion(good.body["choices"][0]["message"]["content"][:10])
        whole["choices"][0].update(finish_reason="error", error=error)
        half = events_of(good.body, good.pieces)[:3]
        return cls(whole, events=(*half, failed_chunk(good.body, error)))

    @classmethod
    def out_of_tokens(cls, text: str = SUMMARY) -> "Reply":
        """Stop where the budget of tokens ends, behind *text*."""
        good = cls.ok(text)
        good.body["choices"][0]["finish_reason"] = "length"
        return good

    @classmethod
    def unfinished(cls) -> "Reply":
        """End a stream as if all were well, in the middle of the text."""
        good = cls.ok()
        return evolve(good, events=tuple(events_of(good.body, good.pieces)[:3]))

    @classmethod
    def refused(cls) -> "Reply":
        """Decline to work on the text."""
        body = completion("I cannot")
        body["choices"][0]["finish_reason"] = "content_filter"
        return cls(body, pieces=("I cannot",))

    @classmethod
    def too_long(cls) -> "Reply":
        """Refuse with 400: the text does not fit in the model's window."""
        metadata = {"error_type": "context_length_exceeded"}
        message = "This endpoint's maximum context length is 8192 tokens."
        error = {"code": 400, "message": message, "metadata": metadata}
        return cls({"error": error}, 400)

    @classmethod
    def garbled(cls) -> "Reply":
        """Answer with what is no JSON."""
        return cls(b'{"id": "gen-1", "choices": [{"mess')

    @classmethod
    def cut(cls) -> "Reply":
        """Send half of a good answer and close the connection."""
        return evolve(cls.ok(), ends="cut")

    @classmethod
    def hang_up(cls) -> "Reply":
        """Close the connection without a word."""
        return cls(None, ends="before")

    @classmethod
    def stall(cls) -> "Reply":
        """Say nothing, and keep the connection open."""
        return cls(None, ends="never")

    @classmethod
    def going_silent(cls) -> "Reply":
        """Send half of a good answer, then nothing, and keep the connection open."""
        return evolve(cls.ok(), ends="silent")

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
        requests: What was asked of the model, the oldest first.
        models: What ``GET /models`` lists; None = there is no such list.
        listings: How often it was asked for.
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
        self.models: list[dict[str, Any]] | None = [listing()]
        self.listings: int = 0
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
        data = await read_body(receive)
        if scope["method"] == "GET" and scope["path"].endswith("/models"):
            self.listings += 1
            found = None if self.models is None else {"data": self.models}
            await self._send(Reply(found or {}, 404 if found is None else 200), send)
            return
        self.requests.append(_asked(scope, data))
        reply = self.replies.popleft() if self.replies else Reply.ok()
        if reply.ends == "before":
            raise ConnectionError
        if reply.ends == "never":
            await until_gone(receive, self._over)
            raise ConnectionError
        if reply.wait:
            await asyncio.sleep(reply.wait)
        await self._send(reply, send, is_stream=self.requests[-1].wants_stream)
        if reply.ends == "silent":
            await until_gone(receive, self._over)
        if reply.ends != "well":
            raise ConnectionError

    async def _send(self, reply: Reply, send: Send, *, is_stream: bool = False) -> None:
        is_stream = is_stream and bool(reply.events or reply.pieces)
        parts, headers = _parts(reply, is_stream=is_stream), dict(reply.headers)
        if not is_stream:
            headers["Content-Length"] = str(sum(map(len, parts)))
        if reply.ends != "well":
            half = -(-len(parts) // 2)
            parts = [*parts[:half], parts[half][: len(parts[half]) // 2]]
        await send_answer(send, reply.status, headers, parts, is_stream=is_stream)
        if reply.ends == "well":
            await end_answer(send)

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
            task = asyncio.ensure_future(converse(self, reader, writer))
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
            given = {
                "OPENROUTER_API_KEY": key,
                "OPENROUTER_BASE_URL": url,
                "OPENROUTER_DIALECT": "openrouter",
            }
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


def _parts(reply: Reply, *, is_stream: bool) -> list[bytes]:
    """Cut the body into what is sent at a time, two parts at least."""
    if is_stream:
        made = [event(each) for each in reply.events]
        return [b"", *(made or events_of(reply.body, reply.pieces))]
    if isinstance(reply.body, bytes):
        return [b"", reply.body]
    return [b"", json.dumps(reply.body).encode()]


def _asked(scope: Scope, data: bytes) -> AskedRequest:
    headers = {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in scope["headers"]
    }
    body = json.loads(data) if data else None
    return AskedRequest(scope["method"], scope["path"], headers, body)
