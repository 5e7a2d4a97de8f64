"""Whatever a request holds, the answer is no server error, and no key is made of it.

Every path is found in the OpenAPI document, and so is each of its parameters and
each field of its body: a new one is tried from its first day.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import pytest_asyncio
from fastapi.routing import APIRoute

from taskflow import TaskFlow
from taskflow_summarize import create_app
from taskflow_summarize._api_settings import ApiSettings
from taskflow_summarize.routers import (
    PARTS,
    KeyEntry,
    Level,
    Limits,
    allow_all,
    create_router,
    key_access,
    make_key,
)
from tests.support.fuzz_strings import NASTY, ODD, foreign_keys, is_same, some
from tests.support.keyspace import dump
from tests.support.population import populate, registry

PREFIX = "hostile-http:"
RAW = (
    b"\xff\xfe",
    b"\xef\xbb\xbf{}",
    b"[" * 100_000,
    b'{"a":' * 10_000,
    b'{"name":"anything","args":{"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}}",
    b'{"name":"add","args":{"x":' + b"9" * 5000 + b"}}",
    b'{"name":"add","args":{"x":NaN}}',
    b'{"name":"anything","args":{"a":1e999}}',
    b'{"name":"anything","args":{"a":"\\ud800"}}',
    b'{"name":"anything","args":{"\\ud800":1}}',
)
BASES: dict[str, dict[str, Any]] = {
    "CallBody": {"name": "anything"},
    "SummarizeBody": {"content": "The tide rises."},
    "EditBody": {"arguments": {"number": 1}},
    "RequeueBody": {"everything": True, "preview": True},
    "Selection": {"everything": True, "preview": True},
    "CallOptionsBody": {},
    "OpenBody": {},
}
DOCUMENT = create_app(
    TaskFlow("memory://never-opened"), access=allow_all, settings=ApiSettings()
).openapi()
OPERATIONS = [
    (method.upper(), path)
    for path, verbs in DOCUMENT["paths"].items()
    for method in verbs
]
IDS = [" ".join(each) for each in OPERATIONS]


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """Follow a reference; of several, the first that there is."""
    for each in (schema, *schema.get("anyOf", ())):
        if "$ref" in each:
            name = each["$ref"].rpartition("/")[2]
            return {"title": name, **DOCUMENT["components"]["schemas"][name]}
    return schema


def bodies(operation: dict[str, Any]) -> Iterator[bytes]:
    """Make bodies, each wrong in one place, of what the document says."""
    if "requestBody" not in operation:
        return
    yield from RAW
    shape = resolved(operation["requestBody"]["content"]["application/json"]["schema"])
    base = BASES[shape["title"]]
    for text in NASTY:
        yield json.dumps(text).encode()
        yield json.dumps(base | {text: text}).encode()
    for name, field in shape["properties"].items():
        for value in (*NASTY, *ODD):
            yield json.dumps(base | {name: value}).encode()
        inner = resolved(field)
        for option in inner.get("properties", ()):
            for value in (*NASTY, *ODD):
                yield json.dumps(base | {name: {option: value}}).encode()


@pytest.fixture(scope="module")
def flow(redis_url: str) -> Iterator[TaskFlow]:
    """Give a flow in which something of every kind stands."""
    with TaskFlow(redis_url, prefix=PREFIX, registry=registry) as made:
        yield made


@pytest.fixture(scope="module")
def ids(flow: TaskFlow) -> dict[str, str]:
    """Give the ids of the tasks in it."""
    return asyncio.run(populate(flow))


@pytest.fixture(scope="module")
def keyspace(flow: TaskFlow, ids: dict[str, str]) -> Iterator[Any]:
    """Give a plain client of the same server."""
    made = flow.connection.server.sync_client()
    yield made
    made.flushdb()
    made.close()


class Stranger:
    """Sends requests, and looks at the keyspace after each.

    Args:
        client: Of the service.
        keyspace: A plain client of its server.
    """

    def __init__(self, client: httpx.AsyncClient, keyspace: Any) -> None:
        self._client = client
        self._keyspace = keyspace
        self._known = dump(keyspace)

    async def send(self, method: str, path: str, **more: Any) -> int:
        """Send one request; give the status of the answer."""
        content = more.get("content")
        headers = {"content-type": "application/json"} if content is not None else {}
        headers |= more.pop("headers", {})
        answer = await self._client.request(method, path, headers=headers, **more)
        after = dump(self._keyspace)
        told = (method, path, more, answer.status_code, answer.text[:300])

        # Not being ready is what /ready is asked for, and 503 is how it says so.
        assert answer.status_code < 500 or path.startswith("/ready"), told
        assert answer.status_code < 400 or is_same(self._known, after), told
        assert [] == foreign_keys(after, PREFIX), told
        self._known = after
        return answer.status_code


@pytest_asyncio.fixture
async def stranger(flow: TaskFlow, keyspace: Any) -> AsyncIterator[Stranger]:
    """Give one who may do everything, and means no good."""
    app = create_app(
        flow,
        access=allow_all,
        settings=ApiSettings(),
        limits=Limits(stream_seconds=0.0),
    )
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://t") as made:
        yield Stranger(made, keyspace)
    await flow.connection.aclose()


def escaped(text: str) -> str:
    """Write a text for an address; what UTF-8 has not, as if it had."""
    return quote(text.encode("utf-8", "surrogatepass"), safe="")


def as_header(text: str) -> bytes:
    """Write a text for a header, which has no line breaks."""
    return text.encode("utf-8", "surrogatepass").translate(None, b"\r\n\0")


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("method", "path"), OPERATIONS, ids=IDS)
async def test_a_hostile_request_makes_no_key_and_no_server_error(
    stranger: Stranger, ids: dict[str, str], method: str, path: str
) -> None:
    """It is taken for what it is, or refused with nothing written."""
    operation = DOCUMENT["paths"][path][method.lower()]
    task_id = ids["dead"] if "/dlq/" in path else ids["waiting"]
    good = {"task_id": task_id, "queue": "primary", "lane": "retry", "name": "api"}
    here = path.format_map(good)

    async def attempt(parameter: dict[str, Any], text: str) -> None:
        name = parameter["name"]
        if parameter["in"] == "path":
            at = path.format_map(good | {name: escaped(text)})
            await stranger.send(method, at)
        elif parameter["in"] == "query":
            await stranger.send(method, f"{here}?{name}={escaped(text)}")
        else:
            content = b'{"name":"add","args":{"x":1}}' if method == "POST" else None
            headers = {name: as_header(text)}
            await stranger.send(method, here, headers=headers, content=content)

    for parameter in operation.get("parameters", ()):
        for text in NASTY:
            await attempt(parameter, text)
    for body in some(bodies(operation)):
        await stranger.send(method, here, content=body)


def test_every_path_is_in_the_document(flow: TaskFlow) -> None:
    """But for the twins without the last slash, which lead to the same handlers."""
    router = create_router(flow, access=allow_all, parts=PARTS)
    routes = [route for route in router.routes if isinstance(route, APIRoute)]
    shown = {route.endpoint for route in routes if route.include_in_schema}

    assert shown == {route.endpoint for route in routes}
    assert {route.path for route in routes if route.include_in_schema} == {
        path for _, path in OPERATIONS
    }


@pytest.mark.parametrize("header", ["authorization", "x-api-key"])
async def test_no_text_is_taken_for_a_key(flow: TaskFlow, header: str) -> None:
    """Whatever is shown instead of a key is nobody's."""
    entry = KeyEntry.parse(make_key("ada", Level.ADMIN)[1])
    app = create_app(flow, access=key_access([entry]), settings=ApiSettings())
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
        for text in (*NASTY, entry.digest, entry.name):
            for start in (b"", b"Bearer "):
                headers = {header: start + as_header(text)}
                answer = await client.get("/api/v1/tasks/", headers=headers)

                assert 401 == answer.status_code, text
    await flow.connection.aclose()
