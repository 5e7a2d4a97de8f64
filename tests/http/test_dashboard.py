"""The files of the dashboard: how they are served, and what they never do."""

import re
from importlib import resources

import httpx
import pytest
from fastapi import FastAPI

from taskflow_summarize.dashboard import POLICY, create_dashboard
from taskflow_summarize.routers import Grant, Level, allow_all

FILES = sorted(
    each.name
    for each in (resources.files("taskflow_summarize.dashboard") / "page").iterdir()
)


def client_of(app: FastAPI) -> httpx.AsyncClient:
    """Give a client of *app* with no socket in between."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://t")


def dashboard(prefix: str = "", api_prefix: str = "") -> FastAPI:
    """Give an application that serves the page under *prefix*."""
    app = FastAPI()
    app.include_router(
        create_dashboard(access=allow_all, api_prefix=api_prefix), prefix=prefix
    )
    return app


@pytest.mark.parametrize("path", ["/", "/dashboard/app.js", "/dashboard/session"])
async def test_every_answer_has_the_strict_headers(path: str) -> None:
    """The page, its files and the session say what browsers have to know."""
    async with client_of(dashboard()) as client:
        answer = await client.get(path)

    expected = {
        "content-security-policy": POLICY,
        "cross-origin-resource-policy": "same-origin",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
    }

    assert 200 == answer.status_code
    assert expected == {name: answer.headers.get(name) for name in expected}


async def test_a_file_that_has_not_changed_is_not_sent_again() -> None:
    """Its tag is asked for, and answered with nothing."""
    async with client_of(dashboard()) as client:
        first = await client.get("/dashboard/style.css")
        tag = {"If-None-Match": first.headers["etag"]}
        again = await client.get("/dashboard/style.css", headers=tag)
        head = await client.head("/")

    assert ("no-cache", "text/css; charset=utf-8") == (
        first.headers["cache-control"],
        first.headers["content-type"],
    )
    assert (304, b"") == (again.status_code, again.content)
    assert 200 == head.status_code


@pytest.mark.parametrize("name", ["nothing.js", "..%2f__init__.py", "__init__.py"])
async def test_nothing_but_the_files_of_the_page_is_served(name: str) -> None:
    """Other names, whatever they look like, are not found."""
    async with client_of(dashboard()) as client:
        answer = await client.get(f"/dashboard/{name}")

    assert 404 == answer.status_code


@pytest.mark.parametrize(
    ("prefix", "api_prefix", "way"),
    [
        ("", "", "./"),
        ("", "/api", "./api/"),
        ("/tf", "", "../"),
        ("/a/b", "/c", "../../c/"),
        ("/tf", '/"><script>', "../&quot;&gt;&lt;script&gt;/"),
    ],
)
@pytest.mark.parametrize("root", ["", "/outer"])
async def test_the_way_to_the_api_is_relative_and_escaped(
    prefix: str, api_prefix: str, way: str, root: str
) -> None:
    """It is right wherever the application itself is mounted."""
    app = dashboard(prefix, api_prefix)
    if root:
        outer = FastAPI()
        outer.mount(root, app)
        app = outer
    async with client_of(app) as client:
        page = (await client.get(f"{root}{prefix}/")).text

    assert [way] == re.findall(r'<meta name="taskflow-api" content="([^"]*)">', page)


async def test_the_session_says_what_the_reader_may_do() -> None:
    """The page offers no more than that."""
    app = FastAPI()
    grant = Grant(Level.OPERATE, "ada")
    app.include_router(create_dashboard(access=lambda _: grant))
    async with client_of(app) as client:
        answer = await client.get("/dashboard/session")

    assert {"level": "operate", "actor": "ada"} == answer.json()
    assert "no-store" == answer.headers["cache-control"]


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".js")])
def test_no_script_parses_markup_or_text_as_code(name: str) -> None:
    """What strangers wrote has no way to become more than text."""
    script = (
        resources.files("taskflow_summarize.dashboard") / "page" / name
    ).read_text("utf-8")
    dangers = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|srcdoc\s*=|"
        r"\beval\(|new Function|DOMParser|createContextualFragment|setHTML"
    )

    assert [] == re.findall(dangers, script)


def test_the_page_has_no_inline_script_and_loads_nothing_from_elsewhere() -> None:
    """Every address in it is relative; the policy would refuse the rest."""
    page = (
        resources.files("taskflow_summarize.dashboard") / "page" / "index.html"
    ).read_text("utf-8")
    inline = re.findall(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=", page)
    addresses = re.findall(r'(?:src|href)="([^"]*)"', page)

    assert [] == inline
    assert [True] * len(addresses) == [
        each.startswith("dashboard/") for each in addresses
    ]
