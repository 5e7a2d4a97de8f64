"""Health over HTTP: this process, the server behind it, the workers."""

import asyncio
import time

import httpx
import pytest

import taskflow
from taskflow import TaskFlow
from taskflow.testing import ManualClock
from taskflow_summarize import create_app
from taskflow_summarize._api_settings import ApiSettings
from taskflow_summarize.routers import Limits, allow_all, create_router
from tests.support.machine import check_within

NOWHERE = "redis://127.0.0.1:1/0"


def client_of(app):
    """Give a client of *app*."""
    transport = httpx.ASGITransport(app)
    return httpx.AsyncClient(transport=transport, base_url="http://t")


async def working(flow):
    """Start a worker and wait for its first beat."""
    worker = taskflow.Worker(flow, worker_id="w1")
    beats = asyncio.Event()
    worker.events.subscribe(lambda event: beats.set())  # the first is that it started
    task = asyncio.create_task(worker.arun())
    await beats.wait()
    return worker, task


async def test_without_a_worker_the_service_is_degraded_and_not_ready(client):
    """The tasks would wait; a fleet that is scaled to none may say it is fine."""
    health = await client.get("/health")
    ready = await client.get("/ready")
    alone = await client.get("/ready?workers=false")

    assert (200, "degraded") == (health.status_code, health.json()["status"])
    assert "healthy" == health.json()["components"]["redis"]["status"]
    assert (503, "not_ready") == (ready.status_code, ready.json()["status"])
    assert (200, "ready") == (alone.status_code, alone.json()["status"])


async def test_with_a_worker_all_is_well(client, flow):
    """It is listed with what it is, and what it runs."""
    started, may_end = asyncio.Event(), asyncio.Event()
    registry = taskflow.Registry()

    @registry.task(name="waits")
    async def waits() -> None:
        started.set()
        await may_end.wait()

    await flow.aenqueue(waits.call())
    worker = taskflow.Worker(flow, worker_id="w1", registry=registry, concurrency=3)
    task = asyncio.create_task(worker.arun())
    await started.wait()
    ready = await client.get("/ready")
    health = (await client.get("/health")).json()
    listed = (await client.get("/health/workers")).json()
    details = (await client.get("/health/workers/diagnostics")).json()
    may_end.set()
    worker.stop()
    await task

    assert (200, "healthy") == (ready.status_code, health["status"])
    assert ("healthy", 1, 1, 0) == (
        listed["status"],
        listed["total"],
        listed["healthy"],
        listed["stale"],
    )
    assert ("w1", "healthy", "worker", 3) == tuple(
        listed["workers"][0][name] for name in ("id", "status", "kind", "concurrency")
    )
    assert ["waits"] == details["workers"][0]["tasks"]


async def test_a_worker_that_says_nothing_is_stale():
    """It is shown, and it delays no answer."""
    clock, later = ManualClock(), ManualClock()
    later.advance(60)
    with (
        TaskFlow("memory://stale-worker", clock=clock) as flow,
        TaskFlow("memory://stale-worker", clock=later) as reader,
    ):
        worker, task = await working(flow)
        async with client_of(
            create_app(reader, access=allow_all, settings=ApiSettings())
        ) as client:
            listed = (await client.get("/health/workers")).json()
            ready = await client.get("/ready")
        worker.stop()
        await task
        await flow.connection.aclose()
        await reader.connection.aclose()

    assert (0, 1) == (listed["healthy"], listed["stale"])
    assert ("stale", 503) == (listed["workers"][0]["status"], ready.status_code)


async def test_without_redis_the_process_lives_and_says_so():
    """Live, not ready, unhealthy; what it is asked to store is refused."""
    flow = TaskFlow(NOWHERE)
    app = create_app(flow, access=allow_all, settings=ApiSettings())
    async with client_of(app) as client:
        stored = await client.post(
            "/api/v1/tasks/summarize/", json={"content": "A text."}
        )
        answers = {
            path: await client.get(path) for path in ("/live", "/ready", "/health")
        }
        status = await client.get("/api/v1/queues/status")
    flow.close()

    assert {"/live": 200, "/ready": 503, "/health": 503} == {
        path: answer.status_code for path, answer in answers.items()
    }
    assert ("unhealthy", "ServerUnavailableError") == (
        answers["/health"].json()["status"],
        answers["/health"].json()["components"]["redis"]["detail"],
    )
    assert (503, "server_unavailable") == (stored.status_code, stored.json()["code"])
    assert (503, "server_unavailable") == (status.status_code, status.json()["code"])


@pytest.mark.timed
async def test_without_redis_what_is_to_be_stored_is_refused_in_time():
    """A web request does not hang for what a worker would wait for."""
    flow = TaskFlow(NOWHERE)
    app = create_app(flow, access=allow_all, settings=ApiSettings())
    async with client_of(app) as client:
        before = time.monotonic()
        body = {"content": "A text."}
        stored = await client.post("/api/v1/tasks/summarize/", json=body)
        took = time.monotonic() - before
    flow.close()

    assert 503 == stored.status_code
    check_within(took, 1.5)


async def test_no_more_streams_are_open_than_may_be(flow):
    """The next one is told to come back."""
    from fastapi import FastAPI

    app = FastAPI()
    app.include_router(create_router(flow, access=allow_all, limits=Limits(streams=0)))
    async with client_of(app) as client:
        answer = await client.get("/api/v1/queues/status/stream")

    assert (429, "too_many_streams", "5") == (
        answer.status_code,
        answer.json()["code"],
        answer.headers["retry-after"],
    )


async def test_a_stream_tells_the_counts_and_ends_in_time(flow, events_of):
    """So that a client that has gone without a word holds nothing for ever."""
    from fastapi import FastAPI

    app = FastAPI()
    limits = Limits(stream_seconds=0.2)
    app.include_router(create_router(flow, access=allow_all, limits=limits))
    async with client_of(app) as client:
        answer = await client.get("/api/v1/queues/status/stream")
        status = (await client.get("/api/v1/queues/status")).json()
    await flow.connection.aclose()

    ((name, data, _),) = events_of(answer.text)
    assert "status" == name
    assert status | {"now": ""} == data | {"now": ""}


async def test_the_seeds_reset_is_answered(client):
    """There is no breaker yet, and so none that is open."""
    answer = await client.post("/health/workers/reset-circuit-breaker")

    assert (200, []) == (answer.status_code, answer.json()["reset"])


@pytest.mark.parametrize("path", ["/live", "/health", "/ready"])
async def test_a_probe_says_nothing_of_where_the_server_is(path):
    """Anybody may ask it."""
    flow = TaskFlow("redis://user:s3cret@127.0.0.1:1/0")
    app = create_app(flow, access=allow_all, settings=ApiSettings())
    async with client_of(app) as client:
        answer = await client.get(path)
    flow.close()

    assert "127.0.0.1" not in answer.text
    assert "s3cret" not in answer.text
