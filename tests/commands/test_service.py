"""``taskflow api`` as a process, with a worker beside it, on the embedded server."""

import json
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.support.machine import check_within
from tests.support.service import curl, running, service, wait_for_state

pytestmark = pytest.mark.timeout(240)

CREATE = """curl -X POST http://localhost:8000/api/v1/tasks/summarize/ \\
  -H "Content-Type: application/json" \\
  -d '{"content": "This is a test document to summarize."}'"""

ANSWERED = {
    "curl http://localhost:8000/health/workers": {"status", "workers"},
    "curl http://localhost:8000/health/workers/diagnostics": {"workers"},
    "curl http://localhost:8000/api/v1/queues/status": {
        "queues",
        "states",
        "retry_ratio",
    },
    "curl http://localhost:8000/api/v1/queues/dlq": {"items"},
    "curl http://localhost:8000/health": {"status", "components", "timestamp"},
    "curl -X POST http://localhost:8000/health/workers/reset-circuit-breaker": {
        "message"
    },
}


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Give the address of an embedded server of the test's own."""
    return f"embedded://{tmp_path / 'd'}"


def test_the_seeds_commands_are_answered(tmp_path: Path, url: str) -> None:
    """A task is created, worked on and read; each command gives what it promised."""
    with (
        service(tmp_path, url) as (_, address),
        running("worker", "--url", url, cwd=tmp_path) as worker,
    ):
        worker.line("ready|listening|worker")
        made = curl(CREATE, address)
        task_id = made.json()["task_id"]
        found = wait_for_state(address, task_id, "COMPLETED")
        shown = curl(f"curl http://localhost:8000/api/v1/tasks/{task_id}", address)
        answers = {command: curl(command, address) for command in ANSWERED}
        docs = httpx.get(f"{address}/docs")

    assert (201, "PENDING") == (made.status_code, made.json()["state"])
    assert "This is a test document to summarize." == found["result"]
    assert found == shown.json()
    assert 200 == docs.status_code
    for command, names in ANSWERED.items():
        assert 200 == answers[command].status_code, command
        assert names <= answers[command].json().keys(), command
    status = answers["curl http://localhost:8000/api/v1/queues/status"].json()
    assert 1 == status["states"]["COMPLETED"]
    workers = answers["curl http://localhost:8000/health/workers"].json()
    assert ("healthy", 1) == (workers["status"], workers["healthy"])


@pytest.mark.timed
def test_open_streams_do_not_keep_the_process_from_ending(
    tmp_path: Path, url: str
) -> None:
    """A page that is open for ever: SIGTERM ends the service within 2 s."""
    with (
        service(tmp_path, url) as (process, address),
        httpx.stream("GET", f"{address}/api/v1/queues/status/stream") as counts,
        httpx.stream("GET", f"{address}/api/v1/queues/status/stream") as more,
    ):
        first = next(counts.iter_lines())
        next(more.iter_lines())
        took = process.stop()
        process.line("<ended>")

    assert "event: status" == first
    check_within(took, 2.0)
    assert 0 == process.popen.returncode
    assert not [
        line for line in process.lines if "ERROR" in line or "Traceback" in line
    ]


@pytest.mark.timed
def test_a_task_is_created_in_under_a_tenth_of_a_second(
    tmp_path: Path, url: str
) -> None:
    """The median of fifty; the process knows nothing of Celery."""
    with service(tmp_path, url) as (_, address), httpx.Client() as client:
        took = []
        for number in range(50):
            before = time.monotonic()
            body = {"content": f"Text number {number}."}
            answer = client.post(f"{address}/api/v1/tasks/summarize/", json=body)
            took.append(time.monotonic() - before)
            assert 201 == answer.status_code

    check_within(sorted(took)[25], 0.1)


def test_the_service_does_not_import_celery() -> None:
    """Creating tasks is decoupled from what runs them."""
    code = (
        "import sys; from taskflow import TaskFlow; import taskflow_summarize as s;"
        "s.create_app(TaskFlow('memory://'));"
        "print(any(name.startswith('celery') for name in sys.modules))"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert "False" == told.stdout.strip()


@pytest.mark.parametrize(
    ("arguments", "environment", "told"),
    [
        (("--host", "0.0.0.0"), {}, ["TASKFLOW_API_KEYS", "TASKFLOW_ACCESS=open"]),  # noqa: S104
        ((), {"TASKFLOW_API_PORT": "x", "TASKFLOW_ACCESS": "y"}, ["PORT", "ACCESS"]),
    ],
    ids=["strangers", "two mistakes"],
)
def test_a_wrong_setting_stops_the_start(
    tmp_path: Path, arguments: tuple[str, ...], environment: dict[str, str], told: list
) -> None:
    """With everything that is wrong, and what to do."""
    with running("api", *arguments, cwd=tmp_path, **environment) as process:
        process.line("<ended>")

    text = "\n".join(process.lines)
    assert 0 != process.popen.returncode
    assert all(word in text for word in told), text
    assert "Traceback" not in text


def test_a_port_that_is_taken_is_said_in_one_sentence(tmp_path: Path, url: str) -> None:
    """With the way out."""
    with service(tmp_path, url) as (_, address):
        port = address.rpartition(":")[2]
        with running("api", "--port", port, "--url", url, cwd=tmp_path) as second:
            second.line("<ended>")

    text = "\n".join(second.lines)
    assert f"cannot listen on 127.0.0.1 port {port}" in text
    assert "Traceback" not in text


def test_a_made_key_opens_the_service(tmp_path: Path, url: str) -> None:
    """The entry goes into the settings, the key to its holder."""
    told = subprocess.run(
        [sys.executable, "-m", "taskflow", "api-key", "ada", "--level", "read"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    key, entry = (line.split()[1] for line in told.splitlines())
    with service(tmp_path, url, TASKFLOW_API_KEYS=entry) as (_, address):
        path = f"{address}/api/v1/queues/status"
        without = httpx.get(path)
        with_key = httpx.get(path, headers={"Authorization": f"Bearer {key}"})
        change = httpx.post(
            f"{address}/api/v1/queues/retry/pause", headers={"X-API-Key": key}
        )

    assert [401, 200, 403] == [
        answer.status_code for answer in (without, with_key, change)
    ]
    assert json.loads(change.text)["needed"] == "admin"
