"""The services of the compose file as processes, with their health checks."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from stack import CREATE, PROFILES, Clone
from topology import Topology, seconds, topology

from service import curl, wait_for_state

pytestmark = pytest.mark.timeout(240)

# Slots of each worker, and workers.
SLOTS = {
    "development": [2],
    "production": [4, 4, 4],
    "high-throughput": [8, 8, 8, 8, 8],
    "memory-constrained": [2, 2],
}


def _workers(stack: Topology) -> list[dict[str, Any]]:
    answer = curl("curl http://localhost:8000/health/workers", stack.address("api"))
    workers: list[dict[str, Any]] = answer.json()["workers"]
    return [worker for worker in workers if worker["kind"] == "worker"]


def test_up_gives_a_system_that_works_and_down_ends_it(
    clone: Clone, tmp_path: Path
) -> None:
    """All five services: healthy, useful to the seed's commands, stopped in time."""
    with topology(clone.services(), tmp_path / "up") as stack:
        stack.wait_until_healthy(stack.start("redis"))
        others = [
            container
            for name in ("api", "worker", "scheduler", "frontend")
            for container in stack.start(name)
        ]
        stack.wait_until_healthy(others)

        made = curl(CREATE, stack.address("api"))
        ended = wait_for_state(
            stack.address("api"), made.json()["task_id"], "COMPLETED"
        )
        health = curl("curl http://localhost:8000/health", stack.address("api"))
        page = httpx.get(stack.address("frontend"), follow_redirects=True)
        workers = _workers(stack)
        shown = httpx.get(f"{stack.address('api')}/health/workers").json()
        stopped = {each.name: each.stop() for each in (*others, stack.running[0])}

    assert "This is a test document to summarize." == ended["result"]
    assert (200, "healthy") == (health.status_code, health.json()["status"])
    assert (200, True) == (page.status_code, "<html" in page.text)
    assert 3 == len(workers)
    assert ["scheduler"] == [
        each["kind"] for each in shown["workers"] if each["kind"] != "worker"
    ]
    for container in stack.running:
        allowed = seconds(container.service["stop_grace_period"])
        assert stopped[container.name] < allowed, container.name
        assert 0 == container.process.returncode, container.log
        assert "Traceback" not in container.log


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_yields_its_slots(clone: Clone, tmp_path: Path, name: str) -> None:
    """As many workers as it says, each with the slots that it says."""
    with topology(clone.profile(name), tmp_path / "up") as stack:
        stack.wait_until_healthy(stack.start("redis"))
        stack.wait_until_healthy([*stack.start("api"), *stack.start("worker")])

        workers = _workers(stack)

    assert SLOTS[name] == [worker["concurrency"] for worker in workers]
    assert {"healthy"} == {worker["status"] for worker in workers}


def test_a_check_fails_where_nothing_runs(clone: Clone, tmp_path: Path) -> None:
    """A health check that is always content would watch over nothing."""
    with topology(clone.profile("development"), tmp_path / "up") as stack:
        stack.wait_until_healthy(stack.start("redis"))
        others = [*stack.start("api"), *stack.start("worker")]
        stack.wait_until_healthy(others)
        for container in others:
            container.stop()

        checked = {each.name: stack.check(each).returncode for each in others}

    assert all(checked.values()), checked


def test_reset_asks_before_it_deletes(clone: Clone, tmp_path: Path) -> None:
    """Without ``--confirm`` it shows; with it, all is gone and workers work on."""
    environment = {"COMPOSE_PROFILES": "tools", "WORKER_REPLICAS": "1"}
    with topology(clone.services(**environment), tmp_path / "up") as stack:
        stack.wait_until_healthy(stack.start("redis"))
        stack.wait_until_healthy([*stack.start("api"), *stack.start("worker")])
        api = stack.address("api")
        before = curl(CREATE, api).json()["task_id"]
        wait_for_state(api, before, "COMPLETED")

        shown = stack.run("reset")
        still = httpx.get(f"{api}/api/v1/tasks/{before}")
        confirmed = stack.run("reset", "--confirm")
        gone = httpx.get(f"{api}/api/v1/tasks/{before}")
        after = curl(CREATE, api).json()["task_id"]
        wait_for_state(api, after, "COMPLETED")

    assert (0, 200) == (shown.returncode, still.status_code), shown
    assert "Nothing was deleted" in shown.stdout
    assert (0, 404) == (confirmed.returncode, gone.status_code), confirmed
