"""Clients that take their time, and those that take more than their share."""

import asyncio
import contextlib
import re
import socket
import threading

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from taskflow_summarize import _head_timeout, create_app
from taskflow_summarize._api_settings import ApiSettings
from taskflow_summarize._head_timeout import HeadTimeoutProtocol
from taskflow_summarize.routers import (
    KeyEntry,
    Level,
    Limits,
    allow_all,
    create_router,
    key_access,
    make_key,
)

STREAM = "/api/v1/queues/status/stream"
LATE = 10.0


@contextlib.contextmanager
def served(app, http):
    """Serve *app* on a free port, as ``taskflow api`` does; give the port."""
    config = uvicorn.Config(app, http=http, ws="none", log_config=None)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(params=["httptools", "h11"])
def port(request, monkeypatch):
    """Give the port of a service that waits a short time for a head."""
    monkeypatch.setattr(_head_timeout, "HEAD_SECONDS", 0.3)
    chosen = uvicorn.config.HTTP_PROTOCOLS[request.param]
    kind = uvicorn.importer.import_from_string(chosen)
    monkeypatch.setattr(_head_timeout, "AutoHTTPProtocol", kind)

    async def app(scope, receive, send):
        if scope["type"] != "http":
            return
        if scope["path"] == "/slow":
            await asyncio.sleep(0.8)
        await receive()
        headers = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})

    with served(app, HeadTimeoutProtocol) as number:
        yield number


def read_all(client):
    """Read until the service closes the connection."""
    client.settimeout(LATE)
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := client.recv(65_536):
            found += piece
    return found


@pytest.mark.parametrize(
    "beginning", [b"", b"G", b"GET / HTTP/1.1\r\nHost: localhost\r\nX-"]
)
def test_a_head_that_does_not_come_is_not_waited_for(port, beginning):
    """The connection is closed, whatever has come of it."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(beginning)

        assert read_all(client).startswith(b"HTTP/1.1 408 ")


def test_a_byte_now_and_then_does_not_keep_a_connection(port):
    """The time is that of the whole head."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(0.05)
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        answer = b""
        for number in range(200):
            with contextlib.suppress(TimeoutError):
                answer = client.recv(1000)
                break
            client.sendall(b"X-%d: 1\r\n" % number)

    assert answer.startswith(b"HTTP/1.1 408 ")


def test_the_next_head_on_a_connection_is_waited_for_as_long(port):
    """Also after a request that was answered."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        client.settimeout(LATE)
        first = client.recv(1000)
        client.sendall(b"GET / HTTP/1.1\r\n")
        rest = read_all(client)

    assert first.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 408 " in first + rest


def test_a_handler_may_take_longer_than_a_head(port):
    """And what is sent meanwhile waits for it."""
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=LATE) as client:
        answers = [client.get("/slow"), client.post("/slow", content=b"x" * 100_000)]

    assert [200, 200] == [each.status_code for each in answers]


@pytest.mark.parametrize("path", ["/api/v1/tasks/", "/api/v1/tasks/summarize/"])
async def test_a_body_that_does_not_come_is_not_waited_for(flow, path):
    """The answer says so, and ends the connection."""
    app = FastAPI()
    limits = Limits(body_seconds=0.2)
    app.include_router(create_router(flow, access=allow_all, limits=limits))

    async def drip():
        yield b'{"content": "'
        while True:
            await asyncio.sleep(0.01)
            yield b"x"

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
        headers = {"Content-Type": "application/json"}
        answer = await client.post(path, content=drip(), headers=headers)
    await flow.connection.aclose()

    assert (408, "request_timeout") == (answer.status_code, answer.json()["code"])
    assert "close" == answer.headers["connection"]


async def test_one_key_does_not_take_the_streams_of_others(flow):
    """The next one is told what to do; those of another key are open."""
    keys = {name: make_key(name, Level.READ) for name in ("ada", "bob")}
    access = key_access(KeyEntry.parse(entry) for _, entry in keys.values())
    settings = ApiSettings(max_streams=5, max_streams_per_key=3)
    app = create_app(flow, access=access, settings=settings)
    statuses = await many(app, [keys["ada"][0]] * 8 + [keys["bob"][0]] * 4)
    ada, bob = statuses[:8], statuses[8:]
    again = await many(app, [keys["ada"][0]] * 3)
    await flow.connection.aclose()

    opened = [[status for status, _ in each].count(200) for each in (ada, bob)]
    told = [text for status, text in (*ada, *bob) if status == 429]
    assert opened in ([3, 2], [2, 3])
    assert all("without a stream" in text for text in told)
    per_key = re.compile("for '(ada|bob)'.*MAX_STREAMS_PER_KEY", re.DOTALL)
    assert any(per_key.search(text) for text in told)
    assert any("TASKFLOW_API_MAX_STREAMS)" in text for text in told)
    assert [200] * 3 == [status for status, _ in again]


async def many(app, keys):
    """Open a stream with each key in the same moment; give how each was answered."""
    opened = [asyncio.get_running_loop().create_future() for _ in keys]
    gone = asyncio.Event()

    async def follow(key, answered):
        body = b""
        status = 0

        async def receive():
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            nonlocal body, status
            if message["type"] == "http.response.start":
                status = message["status"]
            body += message.get("body", b"")
            if body and not answered.done():
                answered.set_result((status, body.decode()))

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET",
            "path": STREAM,
            "raw_path": STREAM.encode(),
            "root_path": "",
            "scheme": "http",
            "query_string": b"",
            "headers": [(b"host", b"t"), (b"x-api-key", key.encode())],
            "client": ("127.0.0.1", 1),
            "server": ("t", 80),
        }
        await app(scope, receive, send)

    async with asyncio.TaskGroup() as group:
        for key, answered in zip(keys, opened, strict=True):
            group.create_task(follow(key, answered))
        answers = await asyncio.gather(*opened)
        gone.set()
    return answers
