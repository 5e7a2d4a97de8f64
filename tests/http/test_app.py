"""The standalone service: its pages, its headers, and what no route takes."""

import hashlib
import re
from importlib import resources

import httpx
import pytest

import taskflow_summarize
from taskflow.errors import ConfigurationError
from taskflow_summarize import create_app, create_router
from taskflow_summarize._api_settings import ApiSettings
from taskflow_summarize.routers import PARTS, allow_all


async def test_the_documentation_comes_from_our_own_files(client):
    """The page names no other host, and everything it names is there."""
    page = await client.get("/docs")
    named = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    answers = [await client.get(f"/{path}") for path in named]

    assert named
    assert not [path for path in named if "//" in path]
    assert {200} == {answer.status_code for answer in answers}
    assert "'self'" in page.headers["content-security-policy"]


def test_files_of_others_are_as_they_were_published():
    """By the sums that stand beside them."""
    folder = resources.files("taskflow_summarize").joinpath("swagger")
    listed = folder.joinpath("VENDORED.md").read_text("utf-8")
    sums = dict(re.findall(r"^([0-9a-f]{64})  (\S+)$", listed, re.MULTILINE))

    assert {"swagger-ui-bundle.js", "swagger-ui.css"} == set(sums.values())
    for expected, name in sums.items():
        data = folder.joinpath(name).read_bytes()
        assert expected == hashlib.sha256(data).hexdigest()


async def test_what_no_route_takes_is_a_problem_too(client):
    """Also an unknown path and a method that is not there."""
    unknown = await client.get("/nothing")
    wrong = await client.put("/api/v1/queues/status")

    assert (404, "not_found") == (unknown.status_code, unknown.json()["code"])
    assert (405, "method_not_allowed") == (wrong.status_code, wrong.json()["code"])
    assert "nosniff" == unknown.headers["x-content-type-options"]


async def test_no_other_site_is_let_in_by_a_header(client):
    """Nothing says that pages of other sites may read the answers."""
    origin = {"Origin": "https://example.com"}
    answer = await client.get("/api/v1/queues/status", headers=origin)
    stream = await client.options("/api/v1/queues/status/stream", headers=origin)

    named = {*answer.headers, *stream.headers}
    assert not [name for name in named if name.startswith("access-control")]


def test_access_must_be_chosen(flow):
    """The error says how; everybody is let in only by that word."""
    with pytest.raises(ConfigurationError, match="allow_all"):
        create_router(flow)


@pytest.mark.parametrize("parts", [["tasks", "nope"], "nope"])
def test_an_unknown_part_is_refused(flow, parts):
    """With the parts there are."""
    with pytest.raises(ConfigurationError, match=r"'nope'.*'summarize'"):
        create_router(flow, access=allow_all, parts=parts)


@pytest.mark.parametrize("part", PARTS)
def test_each_part_can_be_mounted_alone(flow, part):
    """A host takes what it wants and keeps its own paths."""
    whole = create_router(flow, access=allow_all)
    alone = create_router(flow, access=allow_all, parts=[part])

    assert 0 < len(alone.routes) < len(whole.routes)


async def test_a_host_keeps_its_own_paths_and_errors(flow):
    """The routers touch neither its health page nor its validation errors."""
    from fastapi import FastAPI

    app = FastAPI()

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"mine": "yes"}

    @app.get("/number")
    async def number(value: int) -> int:
        return value

    router = create_router(flow, access=allow_all, parts=["tasks"])
    app.include_router(router, prefix="/jobs")
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
        own = await client.get("/health")
        wrong = await client.get("/number?value=x")
        ours = await client.get("/jobs/api/v1/tasks/nope")
    await flow.connection.aclose()

    assert {"mine": "yes"} == own.json()
    assert "detail" in wrong.json()
    assert "code" not in wrong.json()
    assert "task_not_found" == ours.json()["code"]


async def test_a_body_is_bounded_whatever_its_header_says(flow):
    """Read no further than the limit."""
    settings = ApiSettings(max_body_bytes=1024)
    app = create_app(flow, access=allow_all, settings=settings)

    async def endless():
        for _ in range(1000):
            yield b"x" * 100

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
        answer = await client.post("/api/v1/tasks/", content=endless())
    await flow.connection.aclose()

    assert (413, "body_too_large", 1024) == (
        answer.status_code,
        answer.json()["code"],
        answer.json()["limit"],
    )


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff\xfe", b"[1, 2", b'{"a": NaN}', b"null"]
)
async def test_a_body_that_is_no_json_object_is_refused(client, body):
    """With a problem, whatever the bytes."""
    headers = {"Content-Type": "application/json"}
    answer = await client.post("/api/v1/tasks/", content=body, headers=headers)

    assert (422, "invalid_arguments") == (answer.status_code, answer.json()["code"])


def test_a_name_that_is_not_there_is_an_ordinary_error():
    """Laziness does not change what a missing attribute is."""
    with pytest.raises(AttributeError, match="nope"):
        taskflow_summarize.nope  # noqa: B018
