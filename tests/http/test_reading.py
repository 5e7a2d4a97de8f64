"""Who only looks changes nothing: every GET, on something of every kind."""

import httpx
import pytest_asyncio

from taskflow import TaskFlow
from taskflow_summarize import create_app
from taskflow_summarize._api_settings import ApiSettings
from taskflow_summarize.routers import Level, Limits
from tests.support.fuzz_strings import foreign_keys, is_same
from tests.support.keyspace import dump
from tests.support.population import populate, registry

PREFIX = "reads-http:"
BESIDE = ("/openapi.json", "/docs", "/", "/nowhere")


@pytest_asyncio.fixture
async def flow(redis_url):
    """Give a flow under a prefix, on a real server."""
    with TaskFlow(redis_url, prefix=PREFIX, registry=registry) as made:
        yield made
        await made.connection.aclose()


async def test_no_get_writes(flow):
    """Not a field, not a time to live, no key of its own."""
    ids = await populate(flow)
    client = flow.connection.server.sync_client()
    before = dump(client)
    app = create_app(
        flow,
        access=lambda request: Level.READ,
        settings=ApiSettings(),
        limits=Limits(stream_seconds=0.0),
    )
    document = app.openapi()["paths"]
    asked = 0
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://t") as http:
        for path in (*BESIDE, *(each for each in document if "get" in document[each])):
            for name, task_id in ids.items():
                good = {"task_id": task_id, "queue": "dlq", "name": "api"}
                answer = await http.get(path.format_map(good))
                asked += answer.status_code == 200

                assert is_same(before, dump(client)), (path, name)
                if "{task_id}" not in path:
                    break
        for path in document:
            here = path.format_map(good | {"lane": "retry"})
            for method in ("HEAD", "OPTIONS", "TRACE"):
                await http.request(method, here)

            assert is_same(before, dump(client)), path
    client.close()

    assert [] == foreign_keys(before, PREFIX)
    assert asked > len(ids) + 15


async def test_a_preview_writes_nothing(flow):
    """What would be brought back or dropped is counted, and stays."""
    await populate(flow)
    client = flow.connection.server.sync_client()
    before = dump(client)
    app = create_app(flow, access=lambda request: Level.ADMIN, settings=ApiSettings())
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://t") as http:
        for verb in ("requeue", "discard"):
            answer = await http.post(
                f"/api/v1/queues/dlq/{verb}", json={"everything": True, "preview": True}
            )

            assert (200, 2) == (answer.status_code, answer.json()["matched"])
            assert is_same(before, dump(client)), verb
    client.close()
