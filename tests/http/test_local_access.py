"""A service without keys: this machine may operate, the link's browser administer."""

import logging

import httpx
import pytest
import pytest_asyncio

from taskflow_summarize import create_app, create_dashboard
from taskflow_summarize._api_settings import ApiSettings
from taskflow_summarize.routers._local import LocalAccess

HOME = "http://127.0.0.1:3000"
CREATE = {
    "url": "/api/v1/tasks/summarize/",
    "json": {"content": "This is a test document to summarize."},
}


@pytest.fixture
def access():
    """Give an access function whose links are kept."""
    made = LocalAccess()
    made.links = []
    made.on_new_link = made.links.append
    return made


@pytest_asyncio.fixture
async def app(flow, access):
    """Give the service and the page, as ``taskflow dashboard`` serves them."""
    made = create_app(flow, access=access, settings=ApiSettings())
    made.include_router(create_dashboard(access=access))
    yield made
    await flow.connection.aclose()


def client_of(app, peer="127.0.0.1", version="HTTP/1.1", **options):
    """Give a client whose requests come from *peer*."""

    async def spoken(scope, receive, send):
        if scope["type"] == "http":
            scope["http_version"] = version.removeprefix("HTTP/")
            scope["server"] = ("127.0.0.1", 3000)
        await app(scope, receive, send)

    transport = httpx.ASGITransport(spoken, client=(peer, 1))
    return httpx.AsyncClient(transport=transport, base_url=HOME, **options)


async def test_the_seeds_bare_requests_work_and_nothing_is_deleted(app):
    """A shell of this machine creates and looks; it has no key, and is no admin."""
    async with client_of(app) as client:
        made = await client.post(**CREATE)
        seen = [
            (await client.get(path)).status_code
            for path in (
                "/health/workers",
                "/api/v1/queues/status",
                "/api/v1/queues/dlq",
                f"/api/v1/tasks/{made.json()['task_id']}",
            )
        ]
        reset = await client.post("/health/workers/reset-circuit-breaker")
        refused = [
            await client.delete(f"/api/v1/tasks/{made.json()['task_id']}"),
            await client.post("/api/v1/queues/retry/pause"),
            await client.post("/api/v1/queues/dlq/discard", json={}),
        ]

    assert 201 == made.status_code
    assert [200] * 4 == seen
    assert 200 == reset.status_code
    assert [403] * 3 == [each.status_code for each in refused]
    assert "'taskflow dashboard' prints" in refused[0].json()["detail"]


@pytest.mark.parametrize(
    "name",
    [
        *("Forwarded", "Via", "X-Real-IP", "X-Forwarded", "X-Forwarded-For"),
        *("X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port"),
        *("X-Forwarded-Server", "X-Forwarded-Prefix", "X-Forwarded-Client-Cert"),
        *("X-Forwarded-By", "Forwarded-For", "X-Original-Forwarded-For"),
        *("X-Original-Host", "X-Original-URL", "X-Rewrite-URL", "X-Client-IP"),
        *("Client-IP", "True-Client-IP", "X-Cluster-Client-IP", "X-ProxyUser-IP"),
        *("X-Originating-IP", "X-Remote-IP", "X-Remote-Addr", "X-Remote-User"),
        *("Remote-User", "X-Scheme", "X-Host", "X-URL-Scheme", "Front-End-Https"),
        *("X-Request-Start", "X-Auth-Request-User", "Proxy-Connection"),
        *("Max-Forwards", "CDN-Loop", "WL-Proxy-Client-IP", "SSL-Client-Verify"),
        *("CF-Connecting-IP", "CF-Ray", "CF-IPCountry", "CF-Visitor"),
        *("X-Amzn-Trace-Id", "X-Amz-Cf-Id", "CloudFront-Viewer-Address"),
        *("X-Envoy-External-Address", "X-Envoy-Expected-Rq-Timeout-Ms"),
        *("Fly-Client-IP", "Fly-Request-Id", "X-Azure-ClientIP", "X-Azure-FDID"),
        *("X-ARR-SSL", "X-WAWS-Unencoded-URL", "Disguised-Host"),
        *("X-AppEngine-User-IP", "X-Cloud-Trace-Context", "X-Goog-IAP-JWT-Assertion"),
        *("X-Vercel-Id", "X-NF-Client-Connection-IP", "X-Railway-Request-Id"),
        *("Fastly-Client-IP", "X-Varnish", "Akamai-Origin-Hop", "X-Akamai-Edgescape"),
        *("Incap-Client-IP", "X-Sucuri-ClientIP", "X-Kong-Request-Id", "l5d-dst"),
        *("X-Consumer-Username", "X-Traefik-Router", "X-Gateway-Id", "X-Served-By"),
        *("Tailscale-User-Login", "ngrok-skip-browser-warning", "X-Replit-User-Id"),
    ],
)
async def test_a_request_with_any_sign_of_a_proxy_is_refused(app, name):
    """Of a standard or of a vendor; the answer names it and the way out."""
    async with client_of(app) as client:
        answers = [
            await client.get("/api/v1/queues/status", headers={name: "1.2.3.4"}),
            await client.post(**CREATE, headers={name.upper(): ""}),
        ]

    assert [401, 401] == [each.status_code for each in answers]
    for each in answers:
        assert name.lower() in each.json()["detail"]
        assert "TASKFLOW_API_KEYS" in each.json()["detail"]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:3000", 200),
        ("127.0.0.1:8000", 200),
        ("[::1]:3000", 200),
        ("[::1]", 200),
        ("jobs.example.com", 401),
        ("localhost.example.com", 401),
        ("127.0.0.1.example.com", 401),
        ("127.0.0.1.", 401),
        ("localhost:3000@evil.example", 401),
        ("evil.example#localhost", 401),
        ("localhost, evil.example", 401),
        ("localhost/x", 401),
        ("localhost:port", 401),
        ("localhost:123456", 401),
        ("user@localhost", 401),
        ("127.0.0.2", 401),
        ("0.0.0.0", 401),  # noqa: S104 - a name, and not where to listen
        ("[::]", 401),
        ("::1", 401),
        ("2130706433", 401),
        ("", 401),
    ],
)
async def test_only_a_plain_name_of_this_machine_is_let_in(app, host, status):
    """A page of another site can point a name of its own at this machine."""
    async with client_of(app) as client:
        answer = await client.get("/api/v1/queues/status", headers={"Host": host})

    assert status == answer.status_code


async def test_two_names_are_none(app):
    """A proxy and what is behind it may each take another one of them."""
    async with client_of(app) as client:
        headers = [("Host", "localhost"), ("Host", "evil.example")]
        answer = await client.get("/api/v1/queues/status", headers=headers)

    assert 401 == answer.status_code


@pytest.mark.parametrize(
    ("peer", "version", "status"),
    [
        ("127.0.0.1", "HTTP/1.1", 200),
        ("::1", "HTTP/2", 200),
        ("127.0.0.1", "HTTP/1.0", 401),
        ("10.0.0.7", "HTTP/1.1", 401),
        ("::ffff:10.0.0.7", "HTTP/1.1", 401),
        ("", "HTTP/1.1", 401),
    ],
)
async def test_http_1_0_and_other_machines_are_refused(app, peer, version, status):
    """Nginx speaks HTTP/1.0 to what it proxies, and says nothing else of itself."""
    async with client_of(app, peer, version) as client:
        answer = await client.get(
            "/api/v1/queues/status", headers={"Host": "127.0.0.1:3000"}
        )

    assert status == answer.status_code


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Request-ID": "1"},
        {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
        {"Idempotency-Key": "order-7"},
        {"X-Client-Version": "3"},
        {"Accept-Language": "de", "DNT": "1", "Sec-Fetch-Site": "same-origin"},
        {"User-Agent": "curl/8.0", "Accept": "*/*", "Connection": "keep-alive"},
    ],
)
async def test_what_clients_of_this_machine_send_is_no_sign_of_a_proxy(app, headers):
    """Tracing and identifiers are set by clients too."""
    async with client_of(app) as client:
        answer = await client.get("/api/v1/queues/status", headers=headers)

    assert 200 == answer.status_code


async def test_the_link_makes_its_browser_an_administrator(app, access, caplog):
    """By a cookie that no script reads and no other site sends; once."""
    caplog.set_level(logging.DEBUG)
    link = access.new_link(f"{HOME}/")
    token = link.partition("token=")[2]
    async with client_of(app) as client, client_of(app) as other:
        opened = await client.get(link)
        page = await client.get(f"{HOME}/")
        session = (await client.get("/dashboard/session")).json()
        paused = await client.post("/api/v1/queues/retry/pause")
        again = await other.get(link)
        stranger = (await other.get("/dashboard/session")).json()
        # The browser that was let in may open the used link again, as from its history.
        back = await client.get(link)

    cookie = opened.headers["set-cookie"].lower()
    assert (303, "./") == (opened.status_code, opened.headers["location"])
    assert cookie.startswith("taskflow-session-3000=")
    assert {"httponly", "samesite=strict", "path=/"} <= set(cookie.split("; "))
    assert "max-age" not in cookie
    assert token.lower() not in cookie
    assert "no-referrer" == opened.headers["referrer-policy"]
    assert "no-store" == opened.headers["cache-control"]
    assert (200, 200) == (page.status_code, paused.status_code)
    assert {"level": "admin", "actor": "127.0.0.1"} == session
    assert (401, 303) == (again.status_code, back.status_code)
    assert "has been used" in again.text
    assert "set-cookie" not in again.headers
    assert "operate" == stranger["level"]
    assert token not in page.text
    # The client's own log has the addresses that it asks for, and is not the service's.
    told = [each.getMessage() for each in caplog.records if each.name != "httpx"]
    assert [] == [text for text in told if token in text]


async def test_a_link_that_was_used_is_followed_by_another(app, access):
    """For a second browser; the first one stays where it is."""
    first = access.new_link(f"{HOME}/")
    async with client_of(app) as one, client_of(app) as two:
        await one.get(first)
        (second,) = access.links
        await two.get(second)
        levels = [
            (await each.get("/dashboard/session")).json()["level"]
            for each in (one, two)
        ]

    assert second.startswith(f"{HOME}/?token=")
    assert second != first
    assert ["admin", "admin"] == levels


@pytest.mark.parametrize(
    "token", ["", "wrong", "\u00e9\u20ac", "a" * 10_000, "%00", "token"]
)
async def test_a_token_that_is_none_lets_nobody_in(app, access, token):
    """And does not use up the one that is."""
    link = access.new_link(f"{HOME}/")
    async with client_of(app) as client:
        refused = await client.get("/", params={"token": token})
        looked = await client.head(link)
        level = (await client.get("/dashboard/session")).json()["level"]
        opened = await client.get(link)

    assert (401, 200) == (refused.status_code, looked.status_code)
    assert "operate" == level
    assert 303 == opened.status_code


async def test_without_a_link_no_token_is_right(flow):
    """The empty one neither."""
    access = LocalAccess()
    app = create_app(flow, access=access, settings=ApiSettings())
    app.include_router(create_dashboard(access=access))
    async with client_of(app) as client:
        statuses = [
            (await client.get("/", params={"token": each})).status_code
            for each in ("", "x")
        ]
    await flow.connection.aclose()

    assert [401, 401] == statuses


async def test_the_link_is_worth_nothing_through_a_proxy_or_elsewhere(app, access):
    """Neither the token nor a cookie that was stolen."""
    link = access.new_link(f"{HOME}/")
    async with client_of(app) as client:
        proxied = await client.get(link, headers={"X-Forwarded-For": "1.2.3.4"})
        await client.get(link)
        cookies = dict(client.cookies)
        through = await client.get("/api/v1/tasks/", headers={"Via": "1.1 x"})
    async with client_of(app, "10.0.0.7", cookies=cookies) as far:
        elsewhere = await far.get("/api/v1/tasks/")

    assert 401 == proxied.status_code
    assert "set-cookie" not in proxied.headers
    assert [401, 401] == [through.status_code, elsewhere.status_code]
    assert 1 == len(cookies)


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:5000"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://127.0.0.1:5000"},
        {"Origin": "null"},
    ],
)
async def test_a_page_at_another_port_cannot_use_the_cookie(app, access, headers):
    """To a browser, all ports of a machine are one site."""
    async with client_of(app) as client:
        await client.get(access.new_link(f"{HOME}/"))
        answer = await client.post("/api/v1/queues/retry/pause", headers=headers)

    assert (403, "cross_site") == (answer.status_code, answer.json()["code"])


async def test_only_the_newest_browsers_stay_signed_in(app, access):
    """The memory of the service is bounded."""
    async with client_of(app) as first:
        await first.get(access.new_link(f"{HOME}/"))
        for _ in range(32):
            async with client_of(app) as other:
                await other.get(access.new_link(f"{HOME}/"))
        level = (await first.get("/dashboard/session")).json()["level"]

    assert "operate" == level


async def test_the_page_is_told_why_it_may_not(app):
    """So that it can say the way out instead of asking for a key."""
    async with client_of(app) as client:
        near = (await client.get("/dashboard/session")).json()
        headers = {"CF-Ray": "1"}
        far = (await client.get("/dashboard/session", headers=headers)).json()

    assert "open the link" in near["why"]
    assert ("none", True) == (far["level"], "'cf-ray'" in far["why"])
