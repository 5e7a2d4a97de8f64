"""A password stays where it was given: a canary is looked for everywhere else."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from taskflow import TaskFlow
from tests.support import chaos_app
from tests.support.keyspace import dump
from tests.support.processes import Deployment, wait_until
from tests.support.service import service

CANARY = "canary-5d1f"
COMMANDS = (
    ("status",),
    ("doctor",),
    ("doctor", "--json"),
    ("config",),
    ("tasks", "list"),
    ("dlq", "list"),
    ("workers",),
    ("upstreams", "list"),
    ("status", "--json"),
    ("nonsense",),
)


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    """Give a server that asks for a password, which stands in every address."""
    app = Path(chaos_app.__file__).read_text(encoding="utf-8")
    made = Deployment(tmp_path, app, chaos_app.registry)
    client = made.flow.connection.server.sync_client()
    client.config_set("requirepass", CANARY)
    client.close()
    made.flow.close()
    made.url = made.url.replace("unix://", f"unix://:{CANARY}@")
    made.flow = TaskFlow(made.url, registry=chaos_app.registry)
    yield made
    made.close()


def said_by(url: str, *arguments: str, cwd: Path) -> str:
    """Run a command; give all that it says."""
    ran = subprocess.run(
        [sys.executable, "-m", "taskflow", *arguments],
        cwd=cwd,
        env={**os.environ, "REDIS_URL": url, "TASKFLOW_APP": "stage_app:registry"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return ran.stdout + ran.stderr


@pytest.mark.timeout(180)
def test_the_password_of_the_server_is_nowhere_else(
    deployment: Deployment, tmp_path: Path
) -> None:
    """In no command's words, no log, no answer of the API, and not in Redis."""
    pytest.importorskip("fastapi")
    right, wrong = deployment.url, deployment.url.replace(CANARY, f"{CANARY}-wrong")
    away = deployment.url.replace("/s", "/nowhere")
    told = [
        said_by(url, *command, cwd=tmp_path)
        for command in COMMANDS
        for url in (right, wrong, away)
        if url is right or command in {("status",), ("doctor",)}
    ]
    worker = deployment.worker("--log-level", "DEBUG")
    refused = deployment.worker("--url", wrong, "--log-level", "DEBUG")
    handle = deployment.flow.enqueue(chaos_app.works.call(0.0))
    assert 1 == handle.result(timeout=30)
    client = deployment.flow.connection.server.sync_client()
    told.append(repr(dump(client)))
    client.close()
    with service(tmp_path, right, TASKFLOW_ACCESS="open") as (process, address):
        told += [
            httpx.get(address + path).text
            for path in (
                "/health",
                "/health/workers",
                "/ready",
                "/api/v1/queues/status",
            )
        ]
        deployment.kill_server()
        told += [httpx.get(address + path).text for path in ("/health", "/ready")]
        told += process.lines
    wait_until(lambda: "server lost" in deployment.said(worker))
    told += [deployment.said(worker), deployment.said(refused), repr(deployment.flow)]

    assert all(told)
    assert [] == [each for each in told if CANARY in each]
