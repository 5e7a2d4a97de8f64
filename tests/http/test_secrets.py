"""A key is seen by whom it is meant for, and by nobody else."""

import asyncio
import logging

import httpx
import pytest

import taskflow
from taskflow_summarize import create_app
from taskflow_summarize._api_settings import ApiSettings
from taskflow_summarize.routers import Level, make_key
from taskflow_summarize.testing import FakeOpenRouter, Reply
from tests.support.keyspace import dump

CANARY = "sk-or-v1-canary-9311"


@pytest.mark.parametrize(
    "reply",
    [
        Reply({"error": {"code": 400, "message": f"the key {CANARY} is odd"}}, 400),
        Reply({"error": {"code": 403, "message": CANARY}}, 403),
        Reply(CANARY.encode()),
    ],
    ids=["quoted in a refusal", "quoted as the reason", "quoted in garbage"],
)
async def test_the_key_is_in_no_record_log_or_page(
    client, flow, monkeypatch, caplog, reply
):
    """Also where the other side repeats it in its answer."""
    fake = FakeOpenRouter(*[reply] * 10)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    async with fake.stand_in(key=CANARY):
        body = {"content": "The tide rises. " * 80, "max_words": 20}
        with caplog.at_level(logging.DEBUG):
            made = await client.post("/api/v1/tasks/summarize/", json=body)
            task_id = made.json()["task_id"]
            worker = taskflow.Worker(flow)
            await asyncio.wait_for(worker.arun_until_idle(), 10)
            shown = [
                (await client.get(path)).text
                for path in (
                    f"/api/v1/tasks/{task_id}",
                    "/api/v1/tasks/",
                    "/api/v1/queues/dlq/groups",
                    "/api/v1/queues/dlq/export",
                    "/api/v1/audit-log/",
                    "/health/workers/diagnostics",
                )
            ]
        with flow.connection.server.sync_client() as server:
            shown.append(repr(dump(server)))
        await flow.connection.aclose()

    assert f"Bearer {CANARY}" == fake.requests[0].headers["authorization"]
    assert task_id in shown[0]
    assert CANARY not in "".join(shown) + caplog.text + made.text


@pytest.mark.parametrize("header", ["authorization", "x-api-key"])
async def test_a_key_of_the_api_is_in_no_record_log_or_answer(flow, caplog, header):
    """Neither one that is let in, nor one that is not: its name is, in the audit log."""
    key, entry = make_key("ada", Level.ADMIN)
    settings = ApiSettings(keys=(entry,))
    app = create_app(flow, settings=settings)
    told = [repr(settings)]
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
        with caplog.at_level(logging.DEBUG):
            for shown in (key, f"{key}x", key[:-1]):
                headers = {
                    header: shown if header == "x-api-key" else f"Bearer {shown}"
                }
                for method, path, body in (
                    ("POST", "/api/v1/tasks/", {"name": "add", "args": {"x": 1}}),
                    ("POST", "/api/v1/tasks/", {"name": "add", "args": {"x": "one"}}),
                    ("POST", "/api/v1/queues/retry/pause", None),
                    ("GET", "/api/v1/audit-log/", None),
                    ("GET", "/api/v1/tasks/nope", None),
                    ("GET", "/openapi.json", None),
                ):
                    answer = await client.request(
                        method, path, headers=headers, json=body
                    )
                    told += [answer.text, str(answer.headers)]
    with flow.connection.server.sync_client() as server:
        told.append(repr(dump(server)))
    await flow.connection.aclose()
    digest = entry.rpartition(":")[2]

    assert any('"ada"' in each for each in told)
    assert [] == [each for each in (*told, caplog.text) if key[:-1] in each]
    assert [] == [each for each in (*told[1:], caplog.text) if digest in each]
