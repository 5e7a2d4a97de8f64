"""What the tests of the HTTP API share: an application, and a client for it."""

import json
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI

import taskflow
from taskflow import Registry, RetryPolicy, TaskFlow
from taskflow_summarize import create_app
from taskflow_summarize._api_settings import ApiSettings
from taskflow_summarize.plugin import register
from taskflow_summarize.routers import allow_all

registry = Registry()
register(registry)


@registry.task(name="add")
def add(x: int, y: int = 0) -> int:
    """Add two numbers."""
    return x + y


@registry.task(name="dies", retry=RetryPolicy(max_retries=0))
async def dies(number: int) -> None:
    """Fail for good."""
    message = f"row {number} is empty"
    raise ValueError(message)


@registry.task(name="tells")
async def tells(ctx: taskflow.Context, words: list[str]) -> int:
    """Emit words and report progress."""
    for number, word in enumerate(words, start=1):
        ctx.progress(number, total=len(words))
        ctx.emit(word)
    return len(words)


@pytest.fixture
def flow() -> Iterator[TaskFlow]:
    """Give a flow of the test's own; what servers mean is tested elsewhere."""
    with TaskFlow(f"memory://{uuid.uuid4().hex}", registry=registry) as made:
        yield made


@pytest.fixture
def app(flow: TaskFlow) -> FastAPI:
    """Give the standalone service, open to everybody."""
    return create_app(flow, access=allow_all, settings=ApiSettings())


@pytest_asyncio.fixture
async def client(app: FastAPI, flow: TaskFlow) -> AsyncIterator[httpx.AsyncClient]:
    """Give a client of the service, with no socket in between."""
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://t") as made:
        yield made
    await flow.connection.aclose()


@pytest.fixture
def events_of() -> Callable[[str], list[tuple[str, Any, str]]]:
    """Give a reader of a finished stream: name, data and id of each event."""

    def read(text: str) -> list[tuple[str, Any, str]]:
        found = []
        for block in text.replace("\r\n", "\n").split("\n\n"):
            fields = dict(
                line.split(": ", 1)
                for line in block.splitlines()
                if line and not line.startswith(":")
            )
            if fields:
                data = json.loads(fields["data"])
                found.append((fields["event"], data, fields.get("id", "")))
        return found

    return read
