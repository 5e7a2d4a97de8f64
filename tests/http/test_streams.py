"""Streams over HTTP: what is sent while something happens, and while nothing does."""

import asyncio
import re

import httpx
import pytest
from fastapi import FastAPI

import taskflow
from taskflow_summarize.routers import Limits, allow_all, create_router
from taskflow_summarize.routers import _streams as streams

STATUS = "/api/v1/queues/status"


@pytest.fixture
def short(flow):
    """Give a service whose streams end soon."""
    app = FastAPI()
    limits = Limits(stream_seconds=2.2)
    app.include_router(create_router(flow, access=allow_all, limits=limits))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://t")


async def test_an_idle_stream_looks_once_a_second_and_says_nothing(
    flow, short, monkeypatch, events_of
):
    """It does not spin, and a hundred of them share one look."""
    looks = 0
    ask = flow.queues.astatus

    async def counted():
        nonlocal looks
        looks += 1
        return await ask()

    monkeypatch.setattr(flow.queues, "astatus", counted)
    async with short as client:
        answers = await asyncio.gather(
            *(client.get(f"{STATUS}/stream") for _ in range(20))
        )
    await flow.connection.aclose()

    assert {1} == {len(events_of(answer.text)) for answer in answers}
    assert 2 <= looks <= 4


async def test_a_change_is_told_within_two_seconds(flow, short, events_of):
    """And each only once."""
    registry = taskflow.Registry()

    @registry.task(name="wait")
    def wait() -> None:
        """Do nothing."""

    async with short as client:
        stream = asyncio.create_task(client.get(f"{STATUS}/stream"))
        await asyncio.sleep(0)
        await flow.aenqueue(wait.call())
        told = events_of((await stream).text)
    await flow.connection.aclose()

    counts = [data["queues"]["primary"] for _, data, _ in told]
    assert 1 == counts[-1]
    assert counts == sorted(set(counts)) or len(told) == len(
        {str(data | {"now": ""}) for _, data, _ in told}
    )


async def test_silence_is_broken_by_a_comment(flow, short, monkeypatch):
    """So that no proxy gives up on the connection."""
    monkeypatch.setattr(streams, "KEEP_ALIVE", 1)
    async with short as client:
        text = (await client.get(f"{STATUS}/stream")).text
    await flow.connection.aclose()

    assert ": ping" in text


async def test_a_stream_goes_on_when_the_server_comes_back(
    flow, short, monkeypatch, events_of
):
    """It says that the server is away, and the counts again afterwards."""
    from taskflow.errors import ServerUnavailableError

    ask, failures = flow.queues.astatus, iter([True])

    async def failing_once():
        if next(failures, False):
            message = "no answer"
            raise ServerUnavailableError(message)
        return await ask()

    monkeypatch.setattr(flow.queues, "astatus", failing_once)
    async with short as client:
        told = events_of((await client.get(f"{STATUS}/stream")).text)
    await flow.connection.aclose()

    assert ["unavailable", "status"] == [name for name, _, _ in told]


async def test_every_time_is_in_utc_and_says_so(client, flow):
    """No clock of any machine's own zone is mixed in."""
    await client.post(
        "/api/v1/tasks/",
        json={"name": "add", "args": {"x": 1}, "options": {"delay": 60}},
    )
    texts = [
        (await client.get(path)).text
        for path in (STATUS, "/api/v1/tasks/", "/health", "/health/workers")
    ]
    times = re.findall(r"\d{4}-\d\d-\d\dT[^\"]+", "".join(texts))

    assert times
    assert {"Z"} == {time[-1] for time in times}
