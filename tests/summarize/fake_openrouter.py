"""A server that speaks like OpenRouter and misbehaves on demand.

It is written on bare sockets, because what is tested is also what no HTTP server
does: closing without an answer, half an answer, none at all.
"""

import asyncio
import json
from collections import deque
from collections.abc import Mapping
from typing import Any, Self

from attrs import field, frozen

KEY = "sk-or-v1-canary-5150"
SUMMARY = "Tides are raised by the Moon and shaped by the coasts."


def completion(text: str | None = SUMMARY, **changes: Any) -> dict[str, Any]:
    """Make the body of a good answer, changed as the keywords say."""
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
    """One scripted answer.

    Attributes:
        body: Of the answer; JSON unless it is bytes.
        status: Of HTTP.
        headers: To be sent with it.
        does: ``answer``, ``hang up`` before an answer, ``stall`` for ever, or
            ``halve``: send half the body and hang up.
    """

    body: Any = field(factory=completion)
    status: int = 200
    headers: Mapping[str, str] = field(factory=dict)
    does: str = "answer"


class FakeOpenRouter:
    """The server; use it as an asynchronous context manager.

    Attributes:
        replies: What to answer, in order; a good answer when there is none left.
        requests: What was asked: method, path, headers and body of each.
        connections: How many were opened.
    """

    def __init__(self) -> None:
        self.replies: deque[Reply] = deque()
        self.requests: list[dict[str, Any]] = []
        self.connections = 0
        self.url = ""
        self._released = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/api/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._released.set()
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def _accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.connections += 1
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            while await self._answer(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        start, *lines = head.rstrip().split("\r\n")
        headers = {
            name.lower(): value for name, _, value in (x.partition(": ") for x in lines)
        }
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        method, path, _ = start.split(" ")
        self.requests.append(
            {
                "method": method,
                "path": path,
                "headers": headers,
                "body": json.loads(body),
            }
        )
        reply = self.replies.popleft() if self.replies else Reply()
        if reply.does == "hang up":
            return False
        if reply.does == "stall":
            await self._released.wait()
            return False
        sent = (
            reply.body
            if isinstance(reply.body, bytes)
            else json.dumps(reply.body).encode()
        )
        extra = "".join(f"{name}: {value}\r\n" for name, value in reply.headers.items())
        writer.write(
            f"HTTP/1.1 {reply.status} Whatever\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(sent)}\r\n{extra}\r\n".encode()
        )
        writer.write(sent[: len(sent) // 2] if reply.does == "halve" else sent)
        await writer.drain()
        return reply.does != "halve"
