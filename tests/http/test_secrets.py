"""The provider's key is seen by the provider, and by nobody else."""

import asyncio
import logging

import pytest

import taskflow
from taskflow_summarize.testing import FakeOpenRouter, Reply

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
            await asyncio.wait_for(worker.run_until_idle(), 10)
            shown = [
                (await client.get(path)).text
                for path in (
                    f"/api/v1/tasks/{task_id}",
                    "/api/v1/tasks/",
                    "/api/v1/queues/dlq/groups",
                    "/api/v1/queues/dlq/export",
                    "/api/v1/journal/",
                    "/health/workers/diagnostics",
                )
            ]
        await flow.connection.aclose()

    assert f"Bearer {CANARY}" == fake.requests[0].headers["authorization"]
    assert task_id in shown[0]
    assert CANARY not in "".join(shown) + caplog.text + made.text
