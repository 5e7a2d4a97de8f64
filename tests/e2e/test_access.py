"""Who may look, who may act, and what becomes of the page when the service goes."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from fastapi import FastAPI
from playwright.sync_api import Browser, expect
from starlette.types import ASGIApp, Receive, Scope, Send

from taskflow import TaskFlow
from taskflow_summarize import create_dashboard, create_router
from taskflow_summarize.routers import Level, allow_all, make_key
from tests.e2e.browsing import PATIENCE, Serve, Watch

expect.set_options(timeout=PATIENCE)

READER = make_key("ada", Level.READ)
ADMIN = make_key("root", Level.ADMIN)


@pytest.fixture(scope="module")
def guarded(serve: Serve) -> str:
    """Give a dashboard that wants a key."""
    return serve(TASKFLOW_API_KEYS=f"{READER[1]},{ADMIN[1]}")[1]


def test_a_key_is_asked_for_and_one_that_is_not_known_is_refused(
    watch: Watch, guarded: str, stocked: dict[str, str]
) -> None:
    """Nothing is shown before a key that is known; it lasts as long as the tab."""
    page = watch(guarded).open()
    dialog = page.get_by_role("dialog", name="API key")
    expect(dialog).to_be_visible()
    expect(page.get_by_role("heading", name="Who is there?")).to_be_visible()
    dialog.get_by_label("Key", exact=True).fill("wrong")
    dialog.get_by_role("button", name="Use this key").click()
    expect(dialog).to_contain_text("This key is not known.")
    dialog.get_by_label("Key", exact=True).fill(ADMIN[0])
    page.keyboard.press("Enter")
    expect(page.get_by_text("Completed")).to_be_visible()
    expect(page.get_by_text("root (admin)")).to_be_visible()
    page.reload()
    expect(page.get_by_text("Completed")).to_be_visible()
    kept = page.evaluate(
        "[localStorage.length, sessionStorage.length, document.cookie]"
    )
    page.get_by_role("button", name="Forget key").click()
    expect(page.get_by_role("dialog", name="API key")).to_be_visible()

    assert [0, 1, ""] == kept
    assert 0 == page.evaluate("sessionStorage.length")


def test_a_reader_is_offered_nothing_that_changes_something(
    watch: Watch, guarded: str, stocked: dict[str, str]
) -> None:
    """Buttons that the level may not use are not there."""
    page = watch(guarded).open()
    page.get_by_role("dialog").get_by_label("Key", exact=True).fill(READER[0])
    page.keyboard.press("Enter")
    expect(page.get_by_text("Completed")).to_be_visible()
    offered: list[list[str]] = []
    views = ("#/", "#/upstreams", "#/dead-letters", f"#/tasks/{stocked['hostile']}")
    for view in views:
        page.goto(f"{guarded}/{view}")
        expect(page.locator("main table").first).to_be_visible()
        offered.append(page.locator("main button").all_inner_texts())

    assert [[], [], [], []] == offered


def test_the_link_is_exchanged_for_a_cookie_that_no_script_can_read(
    browser: Browser, serve: Serve, stocked: dict[str, str]
) -> None:
    """Without it the page operates, and says what opens the rest."""
    process, address = serve()
    link = process.line(r"http://\S+token=\S+")
    with browser.new_context() as context:
        page = context.new_page()
        asked: list[dict[str, str]] = []
        page.on("request", lambda request: asked.append(request.all_headers()))
        page.goto(address)
        expect(
            page.get_by_text("open the link that 'taskflow dashboard'")
        ).to_be_visible()
        expect(page.get_by_role("button", name="Pause")).to_have_count(0)
        page.goto(link)
        expect(page.get_by_role("button", name="Pause").first).to_be_visible()
        page.goto(f"{address}/#/tasks/{stocked['hostile']}")
        expect(page.get_by_role("button", name="Delete")).to_be_visible()
        visible = page.evaluate("[document.cookie, location.href, document.referrer]")
        (cookie,) = context.cookies()

    token = link.partition("token=")[2]
    assert "" == visible[0]
    assert token not in "".join(visible)
    assert (True, "Strict") == (cookie["httpOnly"], cookie["sameSite"])
    assert [] == [each for each in asked if token in each.get("referer", "")]


def _stripped(app: ASGIApp, prefix: str) -> ASGIApp:
    """Do what a proxy does that takes *prefix* off and says nothing of it."""

    async def proxied(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = scope["path"].removeprefix(prefix)
            scope = {**scope, "path": path, "raw_path": path.encode()}
        await app(scope, receive, send)

    return proxied


@contextlib.contextmanager
def _served(app: ASGIApp) -> Iterator[str]:
    config = uvicorn.Config(app, port=0, log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline = time.monotonic() + 10
        while not server.started:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)


@pytest.mark.parametrize("kind", ["prefixes", "mount", "proxy"])
def test_the_page_finds_the_api_wherever_both_are(
    kind: str, watch: Watch, url: str, stocked: dict[str, str]
) -> None:
    """Under prefixes of a host, in a mounted application, behind a proxy."""
    with TaskFlow(url) as flow:
        host = FastAPI()
        host.include_router(create_router(flow, access=allow_all), prefix="/api/tf")
        page_router = create_dashboard(access=allow_all, api_prefix="/api/tf")
        host.include_router(page_router, prefix="/admin/tasks")
        app: ASGIApp = host
        at = "/admin/tasks"
        if kind == "mount":
            outer = FastAPI()
            outer.mount("/inner", host)
            app, at = outer, "/inner/admin/tasks"
        elif kind == "proxy":
            app, at = _stripped(host, "/ext"), "/ext/admin/tasks"
        with _served(app) as address:
            page = watch(f"{address}{at}").open()
            expect(page.locator("svg.flow a.completed")).to_contain_text("41")
            page.goto(f"{address}{at}/#/tasks/{stocked['done']}")
            expect(page.get_by_role("heading", name="Result")).to_be_visible()
            page.close()


def test_the_service_ends_at_once_with_the_page_open_and_the_page_says_so(
    watch: Watch, serve: Serve, stocked: dict[str, str]
) -> None:
    """SIGTERM ends it within 2 s; the figures stay, and are no longer called live."""
    process, address = serve()
    watched = watch(address)
    watched.allowed.append("net::ERR")
    page = watched.open()
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    seconds = process.stop(signal.SIGTERM)
    expect(page.get_by_role("status")).to_contain_text("Connection lost")
    expect(page.get_by_text("not live")).to_be_visible()
    expect(page.locator("svg.flow a.completed")).to_contain_text("41")
    with_port = address.rpartition(":")[2]
    serve("--port", with_port)
    expect(page.get_by_text("live", exact=True)).to_be_visible(timeout=20_000)
    expect(page.get_by_role("status")).not_to_contain_text("Connection lost")

    assert 0 == process.popen.returncode
    assert 2.0 > seconds
