"""A real browser, in front of a real service, worker and server.

These tests run in a pytest process of their own (``pytest tests/e2e``, or ``nox -s
e2e``): Playwright's blocking interface leaves an event loop running in the thread,
and no coroutine test could run after one of these.
"""

import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, sync_playwright

import taskflow
from taskflow import TaskFlow, TaskState
from tests.e2e.browsing import PATIENCE, Serve, Watched
from tests.e2e.host import HOSTILE, registry
from tests.support import ROOT
from tests.support.service import Process, running

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
    None,
)
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip everything where there is no browser; in CI that is a failure."""
    if CHROMIUM is not None:
        return
    reason = "no Chromium here: apt-get install chromium"
    if os.environ.get("CI"):
        pytest.exit(reason, returncode=1)
    for item in items:
        item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Give the system's Chromium."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()


LINKS: dict[str, Callable[[], str]] = {}
"""Gives the next link of each service without keys, by its address."""


def _next_link(process: Process) -> Callable[[], str]:
    """Return what gives each link that *process* prints, once."""
    used: set[str] = set()

    def give() -> str:
        deadline = time.monotonic() + 30
        while True:
            links = re.findall(r"http://\S+token=\S+", "\n".join(process.lines))
            if links and links[-1] not in used:
                used.add(links[-1])
                return links[-1]
            assert time.monotonic() < deadline, process.lines
            time.sleep(0.01)

    return give


@pytest.fixture
def watch(browser: Browser) -> Iterator[Callable[..., Watched]]:
    """Give a maker of watched pages, which are judged at the end of the test."""
    made: list[tuple[BrowserContext, Watched]] = []

    def make(address: str, **options: object) -> Watched:
        context = browser.new_context(**options)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        watched = Watched(page, address)
        page.on("pageerror", lambda error: watched.complaints.append(str(error)))
        page.on(
            "console",
            lambda message: (
                watched.complaints.append(message.text)
                if message.type in {"error", "warning"}
                else None
            ),
        )
        page.on("request", lambda request: watched.requests.append(request.url))
        page.on("dialog", lambda dialog: watched.complaints.append(dialog.message))
        made.append((context, watched))
        if address in LINKS:
            page.goto(LINKS[address]())
        return watched

    yield make
    for context, watched in made:
        context.close()
        watched.verify()


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """Give a folder whose name is short: a server's socket is in it."""
    path = Path(tempfile.mkdtemp(prefix="tf-e2e-", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def flow(folder: Path) -> Iterator[TaskFlow]:
    """Give a flow on an embedded server, with a task in every state."""
    with TaskFlow(f"embedded://{folder / 'data'}", registry=registry) as made:
        made.queues.status()
        yield made


@pytest.fixture(scope="session")
def url(folder: Path) -> str:
    """Give the address of the embedded server."""
    return f"embedded://{folder / 'data'}"


@pytest.fixture(scope="session")
def serve(flow: TaskFlow, url: str, folder: Path) -> Iterator[Serve]:
    """Give a starter of ``taskflow dashboard``, on a free port."""
    del flow  # its server has to run
    with ExitStack() as stack:

        def start(*arguments: str, **environment: str) -> tuple[Process, str]:
            process = stack.enter_context(
                running(
                    *("dashboard", "--port", "0", "--url", url, *arguments),
                    cwd=folder,
                    **environment,
                )
            )
            address = process.line(r"http://\S+?:\d+")
            if "?token=" in process.line(r"http://\S+"):
                LINKS[address] = _next_link(process)
            return process, address

        yield start


@pytest.fixture(scope="session")
def worker(flow: TaskFlow, url: str, folder: Path) -> Iterator[Process]:
    """Run a worker that serves the tasks of `host`."""
    del flow
    with running(
        *(
            "worker",
            "--app",
            "tests.e2e.host:registry",
            "--url",
            url,
            "--concurrency",
            "8",
        ),
        cwd=folder,
        PYTHONPATH=str(ROOT),
        WORKER_STOP_GRACE_PERIOD="1s",
    ) as process:
        yield process


@pytest.fixture(scope="session")
def stocked(flow: TaskFlow, worker: Process) -> dict[str, str]:
    """Bring a task into every state; give an id for each kind of story."""
    del worker

    def call(name: str, *arguments: object, **options: object) -> taskflow.Call:
        return registry.get(name).options(**options).call(*arguments)

    done = flow.enqueue(call("echo", HOSTILE))
    hostile = flow.enqueue(call("hostile_error", HOSTILE))
    flow.enqueue_many([call("pay", number) for number in range(12)])
    flow.enqueue_many([call("import_row", number) for number in range(3)])
    flow.enqueue_many([call("add", number) for number in range(40)])
    slow = flow.enqueue(call("slow_report", 3600.0))
    retried = flow.enqueue(call("later"))
    flow.enqueue(call("quiet_failure"))
    flow.enqueue(call("add", 1, delay=7200.0))
    cancelled = flow.enqueue(call("add", 2, delay=7200.0))
    flow.tasks.cancel(cancelled.id)
    expected = {
        TaskState.COMPLETED: 41,
        TaskState.DLQ: 16,
        TaskState.SCHEDULED: 2,
        TaskState.FAILED: 1,
        TaskState.CANCELLED: 1,
        TaskState.ACTIVE: 1,
        TaskState.PENDING: 0,
    }
    wait_for_counts(flow, expected)
    return {
        "done": done.id,
        "hostile": hostile.id,
        "slow": slow.id,
        "retried": retried.id,
    }


def wait_for_counts(flow: TaskFlow, expected: dict[TaskState, int]) -> None:
    """Wait until as many tasks are in each state as expected."""
    deadline = time.monotonic() + 30
    while dict(flow.queues.status().states) != expected:
        assert time.monotonic() < deadline, flow.queues.status().states
        time.sleep(0.05)
