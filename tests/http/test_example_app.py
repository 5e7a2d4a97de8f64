"""The example of a host application does what its page says."""

import importlib.util
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType

import httpx
import pytest
import pytest_asyncio

import taskflow
from taskflow import Registry, TaskFlow
from taskflow._declare import ports
from taskflow.testing import arun_until_idle

FILE = Path(__file__).parents[2] / "examples" / "fastapi_app" / "shop.py"
ADA = {"Authorization": "Bearer token-of-ada"}
MONITOR = {"Authorization": "Bearer monitor"}


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import the example, its tasks in a registry of the test's own."""
    registry = Registry()
    monkeypatch.setenv("REDIS_URL", "memory://shop")
    monkeypatch.setattr(taskflow, "task", registry.task)
    monkeypatch.setattr(taskflow, "use", lambda flow: None)
    monkeypatch.setattr(
        taskflow, "TaskFlow", lambda: TaskFlow("memory://shop", registry=registry)
    )
    spec = importlib.util.spec_from_file_location("shop", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "shop", module)
    spec.loader.exec_module(module)
    return module


@pytest_asyncio.fixture
async def client(shop: ModuleType) -> AsyncIterator[httpx.AsyncClient]:
    """Give a client of the shop, whose tasks use its flow."""
    transport = httpx.ASGITransport(shop.app)
    with ports.using(shop.flow):
        async with httpx.AsyncClient(transport=transport, base_url="http://s") as made:
            yield made
    await shop.flow.aclose()


async def test_an_invoice_is_sent_once_and_can_be_followed(client, shop):
    """From the shop's own route to the mounted API."""
    headers = {"X-Email": "bob@example.com"}
    first = (await client.post("/orders/7/invoice", headers=headers)).json()
    again = (await client.post("/orders/7/invoice", headers=headers)).json()
    await arun_until_idle(shop.flow)
    record = (await client.get(first["status"], headers=MONITOR)).json()

    assert first == again
    assert ("COMPLETED", {"order": 7}) == (record["state"], record["annotations"])
    assert record["result"].startswith("invoice 7 to bob@example.com")


async def test_the_shops_rules_are_in_force(client):
    """Staff may act, the monitor may look, others see nothing; its page is its own."""
    path = "/jobs/api/v1/queues/retry/pause"
    statuses = [
        (await client.post(path, headers=headers)).status_code
        for headers in ({}, MONITOR, ADA)
    ]
    health = (await client.get("/health")).json()
    wrong = await client.post("/orders/7/invoice", headers={"X-Email": "bob"})

    assert [401, 403, 200] == statuses
    assert {"shop": "open"} == health
    assert {"detail": "X-Email must be an address"} == wrong.json()
