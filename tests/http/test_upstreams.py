"""Upstreams over HTTP."""

import pytest

import taskflow
from taskflow.testing import arun_until_idle


@pytest.fixture
async def shut(flow):
    """Let an upstream be declared, shut by hand, and have one task parked."""
    registry = taskflow.Registry()

    @registry.task(name="fetch", upstream=taskflow.Upstream("api", concurrency=3))
    async def fetch() -> None:
        pass

    await arun_until_idle(flow, registry=registry)
    await flow.upstreams.aforce_open("api", reason="they asked us")
    await flow.aenqueue(fetch.call())
    await arun_until_idle(flow, registry=registry)


async def test_upstreams_are_listed(client, shut):
    """With their state, the reason and what waits."""
    (listed,) = (await client.get("/api/v1/upstreams/")).json()["upstreams"]
    read = (await client.get("/api/v1/upstreams/api")).json()

    assert listed == read
    assert ("api", "open", "person", "they asked us", 3, 1) == (
        read["name"],
        read["state"],
        read["shut_by"],
        read["reason"],
        read["concurrency"],
        read["parked"]["primary"],
    )


async def test_parked_tasks_are_counted_and_listed(client, shut):
    """Apart from those that wait for a worker."""
    counts = (await client.get("/api/v1/queues/status")).json()
    parked = (await client.get("/api/v1/queues/parked/tasks")).json()
    primary = (await client.get("/api/v1/queues/primary/tasks")).json()

    assert (1, 0, 1) == (
        counts["queues"]["parked"],
        counts["queues"]["primary"],
        counts["states"]["PENDING"],
    )
    assert ["fetch"] == [each["name"] for each in parked["items"]]
    assert [] == primary["items"]


async def test_an_upstream_is_closed_opened_and_reset(client, flow, shut):
    """Each deed is in the audit log, with who did it."""
    closed = (await client.post("/api/v1/upstreams/api/close")).json()
    again = (await client.post("/api/v1/upstreams/api/close")).json()
    opened = await client.post(
        "/api/v1/upstreams/api/open", json={"reason": "stop", "expires": 60}
    )
    held = await flow.upstreams.aget("api")
    reset = (await client.post("/api/v1/upstreams/api/reset")).json()
    audit_log = (await client.get("/api/v1/audit-log/")).json()["items"]
    deeds = [each["event"] for each in audit_log if each["actor"]]

    assert (["api"], []) == (closed["upstreams"], again["upstreams"])
    assert (200, "shut: api") == (opened.status_code, opened.json()["message"])
    assert ("stop", True) == (held.reason, held.retry_at is not None)
    assert ["api"] == reset["upstreams"]
    assert {"upstream_close", "upstream_open", "upstream_reset"} <= set(deeds)


async def test_the_seeds_commands_steer_all(client, flow, shut):
    """Reset and open, without a name."""
    reset = (await client.post("/health/workers/reset-circuit-breaker")).json()
    opened = (await client.post("/health/workers/open-circuit-breaker")).json()
    one = await client.post("/health/workers/reset-circuit-breaker?name=nobody")

    assert ["api"] == reset["reset"] == opened["upstreams"]
    assert "open" == (await flow.upstreams.aget("api")).state
    assert (404, "upstream_not_found") == (one.status_code, one.json()["code"])


async def test_health_tells_of_shut_upstreams(client, flow, shut):
    """How many to anybody, which to those who may read; readiness does not suffer."""
    health = (await client.get("/health")).json()
    ready = (await client.get("/ready?workers=false")).status_code
    (listed,) = (await client.get("/health/workers/diagnostics")).json()["upstreams"]
    await flow.upstreams.aforce_close("api")
    await flow.upstreams.aforce_open("task:mail")
    after = (await client.get("/health")).json()["components"]["upstreams"]

    assert ("degraded", 200) == (health["status"], ready)
    assert {
        "status": "degraded",
        "detail": "1 shut; what needs them waits",
    } == health["components"]["upstreams"]
    assert ("api", "open", 1) == (
        listed["name"],
        listed["state"],
        listed["parked"]["primary"],
    )
    assert "healthy" == after["status"]


async def test_the_figures_of_upstreams_are_among_the_metrics(client, flow, shut):
    """State, what is parked, what runs, and how often it turned."""
    from prometheus_client.parser import text_string_to_metric_families

    answer = await client.get("/metrics")
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    status = await flow.upstreams.aget("api")

    assert [0, 0, 1] == [
        samples["taskflow_upstream_state", state, "api"]
        for state in ("closed", "half-open", "open")
    ]
    assert [1, 0] == [
        samples["taskflow_upstream_parked", lane, "api"]
        for lane in ("primary", "retry")
    ]
    assert status.epoch == samples["taskflow_upstream_turns_total", "api"] > 0
    assert 0 == samples["taskflow_upstream_running", "api"]
    assert 0 == samples["taskflow_upstream_tapped", "api"]
    assert ("taskflow_upstream_tokens", "api") not in samples


async def test_tasks_of_a_name_are_held_back(client, flow):
    """By the name task:NAME."""
    held = await client.post("/api/v1/upstreams/task:mail/open")
    found = await flow.upstreams.aget("task:mail")

    assert (200, "open") == (held.status_code, found.state)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/api/v1/upstreams/nobody/open", {}, 404),
        ("/api/v1/upstreams/api/open", {"expires": -1}, 422),
        ("/api/v1/upstreams/api/open", {"wrong": 1}, 422),
        ("/api/v1/upstreams/no%2Fname/close", None, 404),
        ("/api/v1/upstreams/a%20b/close", None, 422),
    ],
)
async def test_what_makes_no_sense_is_refused(client, shut, path, body, status):
    """With a problem, and nothing is done."""
    answer = await client.post(path, json=body)

    assert status == answer.status_code
    assert "application/problem+json" == answer.headers["content-type"]
