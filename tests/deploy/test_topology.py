"""The services of the compose file as processes, with their health checks."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.deploy.stack import CREATE, Clone
from tests.deploy.topology import seconds, topology
from tests.support.machine import allow
from tests.support.service import curl, wait_for_state

pytestmark = pytest.mark.timeout(240)

# Slots of each worker, and workers.
SLOTS = {
    "development": [2],
    "production": [4, 4, 4],
    "high-throughput": [8, 8, 8, 8, 8],
    "memory-constrained": [2, 2],
}


# What the banner of each worker says of its pool.
POOLS = {
    "development": "prefetch x 1 (2 in hand), recycled after 1000 tasks or 200000 kB",
    "high-throughput": (
        "prefetch x 2 (16 in hand), recycled after 1000 tasks or 200000 kB"
    ),
    "memory-constrained": (
        "prefetch x 1 (2 in hand), recycled after 500 tasks or 100000 kB"
    ),
}


def _slots(shown: list[dict[str, Any]]) -> list[int]:
    return [each["concurrency"] for each in shown if each["kind"] == "worker"]


def test_up_gives_a_system_that_works_and_down_ends_it(
    clone: Clone, tmp_path: Path
) -> None:
    """All five services: healthy, useful to the seed's commands, stopped in time."""
    with topology(clone.profile("production"), tmp_path / "up") as stack:
        stack.wait_until_healthy(stack.start("redis"))
        names = ("api", "worker", "scheduler", "frontend")
        others = [each for name in names for each in stack.start(name)]
        stack.wait_until_healthy(others)
        api = stack.address("api")

        made = curl(CREATE, api)
        ended = wait_for_state(api, made.json()["task_id"], "COMPLETED")
        health = curl("curl http://localhost:8000/health", api)
        page = httpx.get(stack.address("frontend"), follow_redirects=True)
        shown = httpx.get(f"{api}/health/workers").json()["workers"]
        took = {each.name: each.stop() for each in (*others, stack.running[0])}
        checked = {each.name: stack.check(each).returncode for each in stack.running}

    assert "This is a test document to summarize." == ended["result"]
    assert (200, "healthy") == (health.status_code, health.json()["status"])
    assert (200, True) == (page.status_code, "<html" in page.text)
    assert SLOTS["production"] == _slots(shown)
    assert 1 == len([each for each in shown if each["kind"] == "scheduler"])
    for container in stack.running:
        allowed = seconds(container.service["stop_grace_period"])
        assert took[container.name] < allow(allowed), container.name
        assert 0 == container.process.returncode, container.log
        assert "Traceback" not in container.log
    # A check that is always content would watch over nothing.
    assert all(checked.values()), checked


@pytest.mark.deep
@pytest.mark.parametrize("name", [name for name in SLOTS if name != "production"])
def test_a_profile_yields_its_slots(clone: Clone, tmp_path: Path, name: str) -> None:
    """As many workers as it says, each with the slots that it says."""
    with topology(clone.profile(name), tmp_path / "up") as stack:
        stack.wait_until_healthy(stack.start("redis"))
        workers = stack.start("worker")
        stack.wait_until_healthy([*stack.start("api"), *workers])

        shown = httpx.get(f"{stack.address('api')}/health/workers").json()["workers"]

    assert SLOTS[name] == _slots(shown)
    assert {"celery"} == {each["executor"] for each in shown}
    assert [] == [each.name for each in workers if POOLS[name] not in each.log]
    assert {"healthy"} == {each["status"] for each in shown}


@pytest.mark.deep
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
