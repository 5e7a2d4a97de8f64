"""Who may do what over HTTP: levels, keys, other sites, this machine only."""

import httpx
import pytest
import pytest_asyncio

from taskflow.errors import ConfigurationError
from taskflow_summarize import create_app, create_router
from taskflow_summarize._api_settings import ApiSettings
from taskflow_summarize.routers import (
    PARTS,
    Grant,
    KeyEntry,
    Level,
    allow_all,
    key_access,
    make_key,
)
from taskflow_summarize.routers._route import level_of

READS = [("GET", "/api/v1/tasks/"), ("GET", "/health/workers"), ("GET", "/metrics")]
OPERATIONS = [
    ("POST", "/api/v1/tasks/"),
    ("POST", "/api/v1/tasks/summarize/"),
    ("POST", "/api/v1/tasks/x/retry"),
    ("POST", "/api/v1/tasks/x/cancel"),
    ("POST", "/api/v1/tasks/requeue-orphaned"),
    ("POST", "/api/v1/queues/dlq/requeue"),
]
ADMINISTRATION = [
    ("DELETE", "/api/v1/tasks/x"),
    ("POST", "/api/v1/queues/dlq/discard"),
    ("PATCH", "/api/v1/queues/dlq/x"),
    ("POST", "/api/v1/queues/retry/pause"),
]
PROBES = [("GET", "/live"), ("GET", "/ready"), ("GET", "/health")]

KEYS = {level: make_key(level.name.lower(), level) for level in Level if level}
ENTRIES = tuple(entry for _, entry in KEYS.values())


@pytest_asyncio.fixture
async def keyed(flow):
    """Give a client of a service that asks for keys."""
    app = create_app(flow, settings=ApiSettings(keys=ENTRIES))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://t") as made:
        yield made
    await flow.connection.aclose()


def bearer(level):
    """Give the headers that show the key of *level*."""
    return {"Authorization": f"Bearer {KEYS[level][0]}"}


@pytest.mark.parametrize(
    ("needed", "paths"),
    [
        (Level.READ, READS),
        (Level.OPERATE, OPERATIONS),
        (Level.ADMIN, ADMINISTRATION),
    ],
)
@pytest.mark.parametrize("level", list(Level))
async def test_each_path_needs_its_level(keyed, level, needed, paths):
    """Below it nothing is done: 401 for nobody, 403 for too little."""
    headers = bearer(level) if level else {}
    for method, path in paths:
        status = (await keyed.request(method, path, headers=headers)).status_code
        if level >= needed:
            assert status not in {401, 403}, (method, path)
        else:
            assert (401 if level is Level.NONE else 403) == status, (method, path)


async def test_probes_need_no_key(keyed):
    """A platform that restarts containers has none."""
    for method, path in PROBES:
        assert (await keyed.request(method, path)).status_code in {200, 503}


def test_every_path_says_which_level_it_needs(flow):
    """One that forgot would need the highest; none is forgotten."""
    router = create_router(flow, access=allow_all, parts=PARTS)
    silent = [
        route.path
        for route in router.routes
        if not hasattr(route.endpoint, "__taskflow_level__")
    ]

    assert [] == silent
    open_paths = {
        route.path for route in router.routes if level_of(route.endpoint) is Level.NONE
    }
    assert {"/live", "/ready", "/health"} == open_paths


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer nope"},
        {"Authorization": "Basic bm9wZTpub3Bl"},
        {"Authorization": "Bearer"},
        {"X-API-Key": "nope"},
        {"X-API-Key": ENTRIES[0].rpartition(":")[2]},
        {},
    ],
)
async def test_what_is_no_key_is_nobody(keyed, headers):
    """The digest in the settings is none either."""
    answer = await keyed.get("/api/v1/tasks/", headers=headers)

    assert (401, "unauthorized") == (answer.status_code, answer.json()["code"])
    assert "Bearer" == answer.headers["www-authenticate"]


async def test_both_headers_take_a_key(keyed):
    """As people are used to."""
    key = KEYS[Level.READ][0]

    for headers in ({"X-API-Key": key}, {"Authorization": f"bearer {key}"}):
        assert 200 == (await keyed.get("/api/v1/tasks/", headers=headers)).status_code


async def test_a_key_is_changed_without_a_gap(flow):
    """Two keys of one name are in force at once."""
    old, new = make_key("ada", Level.READ), make_key("ada", Level.READ)
    access = key_access(KeyEntry.parse(entry) for _, entry in (old, new))
    app = create_app(flow, access=access, settings=ApiSettings())
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
        answers = [
            await client.get("/api/v1/audit-log/", headers={"X-API-Key": key})
            for key, _ in (old, new)
        ]
    await flow.connection.aclose()

    assert [200, 200] == [answer.status_code for answer in answers]


async def test_the_audit_log_names_the_holder_of_the_key(keyed):
    """Not the key, not its digest."""
    await keyed.post("/api/v1/queues/retry/pause", headers=bearer(Level.ADMIN))
    answer = await keyed.get("/api/v1/audit-log/", headers=bearer(Level.READ))

    assert ("pause", "admin") == (
        answer.json()["items"][0]["event"],
        answer.json()["items"][0]["actor"],
    )
    assert KEYS[Level.ADMIN][0] not in answer.text


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://proxy.example"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://t"}, 200),
        ({}, 200),
    ],
)
async def test_another_sites_page_changes_nothing(client, headers, status):
    """Where the browser says so; a shell's request says nothing and passes."""
    answer = await client.post("/api/v1/queues/retry/pause", headers=headers)
    look = await client.get("/api/v1/queues/status", headers=headers)

    assert (status, 200) == (answer.status_code, look.status_code)
    assert (["retry"] if status == 200 else []) == look.json()["paused"]


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ("read", 403),
        ("OPERATE", 403),
        (Level.ADMIN, 200),
        (Grant(Level.ADMIN, "ada"), 200),
        ("none", 401),
    ],
)
async def test_an_access_function_may_answer_in_several_ways(flow, answer, status):
    """A level, its name or a grant; also from a coroutine."""

    async def access(request):
        return answer

    app = create_app(flow, access=access, settings=ApiSettings())
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
        found = await client.post("/api/v1/queues/retry/pause")
    await flow.connection.aclose()

    assert status == found.status_code


@pytest.mark.parametrize("level", [Level.NONE, Level.READ])
async def test_a_grant_says_what_to_do_for_a_higher_level(flow, level):
    """An application's own way in, instead of a key."""
    grant = Grant(level, why="log in at /login")
    app = create_app(flow, access=lambda _: grant, settings=ApiSettings())
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
        answer = await client.post("/api/v1/queues/retry/pause")

    assert (401 if level is Level.NONE else 403) == answer.status_code
    assert answer.json()["detail"].endswith("log in at /login")


@pytest.mark.parametrize(
    ("peer", "host", "status"),
    [
        ("127.0.0.1", "localhost:8000", 200),
        ("127.0.0.1", "127.0.0.1:8000", 200),
        ("::1", "[::1]:8000", 200),
        ("127.0.0.1", "rebound.example", 401),
        ("10.0.0.7", "localhost", 401),
    ],
)
async def test_without_keys_only_this_machine_is_let_in(flow, peer, host, status):
    """By the address of the peer and the name it asked for."""
    app = create_app(flow, settings=ApiSettings())
    transport = httpx.ASGITransport(app, client=(peer, 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
        answer = await client.get("/api/v1/tasks/", headers={"Host": host})
    await flow.connection.aclose()

    assert status == answer.status_code


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"host": "::"}, "TASKFLOW_ACCESS=open"),
        ({"access": "keys"}, "TASKFLOW_API_KEYS"),
        ({"access": "open", "keys": ENTRIES}, "contradict"),
        ({"keys": ("ada:root:" + "0" * 64,)}, "number 1"),
    ],
)
def test_settings_that_would_let_strangers_in_are_refused(settings, word):
    """With the way out, and no key in the message."""
    with pytest.raises(ConfigurationError, match=word) as caught:
        ApiSettings(**settings)

    assert "0" * 64 not in str(caught.value)


@pytest.mark.parametrize("text", ["", "a:b", "a:b:c:d", "ada:root:00"])
def test_an_entry_that_is_none_is_refused(text):
    """Its text is not repeated."""
    with pytest.raises(ConfigurationError):
        KeyEntry.parse(text)
