"""Tasks over HTTP: what a client sends, what it gets, and what is refused."""

import asyncio
from datetime import UTC, datetime, timedelta, timezone

import pytest

from taskflow.testing import arun_until_idle

TASKS = "/api/v1/tasks/"


async def stored(client, name="add", **args):
    """Store a call and give its id."""
    body = {"name": name, "args": args or {"x": 1}}
    answer = await client.post(TASKS, json=body)
    assert 201 == answer.status_code, answer.text
    return answer.json()["task_id"]


async def test_a_summary_is_created_run_and_read(client, flow):
    """The way of the seed: post, work, get; the result is the summary itself."""
    answer = await client.post(f"{TASKS}summarize/", json={"content": "A short text."})
    made = answer.json()
    await arun_until_idle(flow)
    found = (await client.get(f"{TASKS}{made['task_id']}")).json()

    assert (201, "PENDING", True) == (
        answer.status_code,
        made["state"],
        made["created"],
    )
    assert ("COMPLETED", "A short text.") == (found["state"], found["result"])
    assert ["enqueued", "started", "completed"] == [
        entry["event"] for entry in found["timeline"]
    ]
    assert {"content": "A short text."} == found["arguments"]


@pytest.mark.parametrize("path", ["summarize", "summarize/", ""])
async def test_the_last_slash_does_not_matter(client, path):
    """No redirect, which a POST would not survive."""
    body = {"content": "A text."} if path else {"name": "add", "args": {"x": 1}}
    answer = await client.post(f"/api/v1/tasks/{path}", json=body)

    assert 201 == answer.status_code


@pytest.mark.parametrize("content", ["", " \n\t ", "\x00\x01binary", None, 5, ["x"]])
async def test_what_is_no_text_is_refused_and_nothing_is_stored(client, content):
    """With a reason, and no piece of the content."""
    answer = await client.post(f"{TASKS}summarize/", json={"content": content})
    listed = (await client.get(TASKS)).json()

    assert (422, "invalid_arguments") == (answer.status_code, answer.json()["code"])
    assert "application/problem+json" == answer.headers["content-type"]
    assert [] == listed["items"]


async def test_any_registered_task_can_be_called_by_name(client, flow):
    """Arguments are checked against its annotations."""
    task_id = await stored(client, x=2, y=3)
    await arun_until_idle(flow)

    assert 5 == (await client.get(f"{TASKS}{task_id}")).json()["result"]


@pytest.mark.parametrize(
    ("body", "code", "word"),
    [
        ({"name": "add", "args": {"x": "2"}}, "invalid_arguments", "$.x"),
        ({"name": "add", "args": {"x": 2, "z": 3}}, "invalid_arguments", "z"),
        ({"name": "add", "args": {}}, "invalid_arguments", "x"),
        ({"name": "nope"}, "unknown_task", "nope"),
        ({"name": "a b"}, "invalid_arguments", "body.name"),
        ({"name": "add", "more": 1}, "invalid_arguments", "body.more"),
        ({"name": "add", "options": {"delay": -1}}, "invalid_arguments", "delay"),
        ([], "invalid_arguments", "body"),
    ],
)
async def test_a_wrong_call_is_refused_with_the_place(client, body, code, word):
    """What is wrong, and where; never a server error."""
    answer = await client.post(TASKS, json=body)
    problem = answer.json()

    assert (422, 422, code) == (answer.status_code, problem["status"], problem["code"])
    assert word in str(problem)


async def test_options_reach_the_task(client, flow):
    """A delayed task is SCHEDULED, with its own limits."""
    options = {"delay": 60, "max_retries": 7, "timeout": 9.5, "expires": 3600}
    body = {"name": "add", "args": {"x": 1}, "options": options}
    made = (await client.post(TASKS, json=body)).json()
    found = (await client.get(f"{TASKS}{made['task_id']}")).json()

    assert "SCHEDULED" == made["state"] == found["state"]
    assert (7, 9.5) == (found["max_retries"], found["timeout"])
    assert found["due_at"] is not None
    assert found["expires_at"] is not None


async def test_the_same_key_and_body_is_the_same_task(client):
    """200 and not 201 the second time; another body is a conflict."""
    key = {"Idempotency-Key": "order-7"}
    body = {"content": "A text."}
    path = f"{TASKS}summarize/"
    first = await client.post(path, json=body, headers=key)
    again = await client.post(path, json=body, headers=key)
    other = await client.post(path, json={"content": "Other."}, headers=key)

    assert (201, 200, 409) == (
        first.status_code,
        again.status_code,
        other.status_code,
    )
    assert first.json()["task_id"] == again.json()["task_id"]
    assert not again.json()["created"]
    assert ("key_conflict", first.json()["task_id"]) == (
        other.json()["code"],
        other.json()["task_id"],
    )


async def test_the_header_and_the_option_must_agree(client):
    """Two keys for one call are a mistake, not a choice."""
    body = {"name": "add", "args": {"x": 1}, "options": {"key": "a"}}
    wrong = await client.post(TASKS, json=body, headers={"Idempotency-Key": "b"})
    right = await client.post(TASKS, json=body, headers={"Idempotency-Key": "a"})

    assert (422, 201) == (wrong.status_code, right.status_code)


async def test_lists_are_paged_and_filtered(client, flow):
    """By state, name and lane; the pages together hold each task once."""
    ids = {await stored(client, x=number) for number in range(5)}
    await stored(client, "dies", number=1)
    seen, cursor = [], ""
    while True:
        parameters = {"name": "add", "limit": 2, "cursor": cursor}
        page = (await client.get(TASKS, params=parameters)).json()
        seen += [item["task_id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    await arun_until_idle(flow)
    dead = (await client.get(TASKS, params={"status": "dlq"})).json()["items"]
    done = (await client.get(TASKS, params={"status": "COMPLETED"})).json()["items"]

    assert sorted(ids) == sorted(seen)
    assert ["dies"] == [item["name"] for item in dead]
    assert 5 == len(done)
    assert "arguments" not in done[0]


async def test_a_time_with_any_zone_filters_as_meant(client):
    """An aware time of another zone finds what UTC finds."""
    await stored(client)
    zone = timezone(timedelta(hours=5, minutes=30))
    past = datetime.now(zone) - timedelta(minutes=1)
    future = datetime.now(UTC) + timedelta(minutes=1)

    async def found(**parameters):
        answer = await client.get(TASKS, params=parameters)
        return len(answer.json()["items"])

    assert 1 == await found(since=past.isoformat())
    assert 0 == await found(since=future.isoformat())
    assert 1 == await found(until=future.isoformat())
    # A plus sign that was not quoted arrives as a blank.
    answer = await client.get(f"{TASKS}?since={past.isoformat()}")
    assert 1 == len(answer.json()["items"])


@pytest.mark.parametrize(
    "query",
    [
        "since=2026-01-01T00:00:00",
        "since=yesterday",
        "status=RUNNING",
        "limit=0",
        "limit=201",
        "cursor=x%7Cy",
        "lane=suspects",
    ],
)
async def test_a_wrong_filter_is_refused(client, query):
    """A naive time, a foreign cursor and the like are not guessed at."""
    answer = await client.get(f"{TASKS}?{query}")

    assert (422, "invalid_arguments") == (answer.status_code, answer.json()["code"])


@pytest.mark.parametrize("task_id", ["nope", "a b", "x" * 64, "%00", "..%2F.."])
async def test_an_unknown_task_is_not_found(client, task_id):
    """Whatever is done with it."""
    path = f"{TASKS}{task_id}"
    for method, tail in (
        ("GET", ""),
        ("GET", "/events"),
        ("POST", "/retry"),
        ("POST", "/cancel"),
        ("DELETE", ""),
    ):
        answer = await client.request(method, f"{path}{tail}")
        assert 404 == answer.status_code, (method, tail, answer.text)


async def test_a_dead_letter_can_be_retried_and_a_completed_task_not(client, flow):
    """The states that allow it move; the others answer 409 with the state."""
    dead = await stored(client, "dies", number=1)
    done = await stored(client)
    await arun_until_idle(flow)
    back = await client.post(f"{TASKS}{dead}/retry")
    refused = await client.post(f"{TASKS}{done}/retry")
    twice = await client.post(f"{TASKS}{dead}/retry")

    assert (200, {"task_id": dead, "state": "PENDING"}) == (
        back.status_code,
        back.json(),
    )
    assert (409, "COMPLETED") == (refused.status_code, refused.json()["from_state"])
    assert (409, "PENDING") == (twice.status_code, twice.json()["from_state"])


async def test_a_waiting_task_is_cancelled_and_deleted(client):
    """Cancelled at once; gone when deleted."""
    task_id = await stored(client)
    cancelled = (await client.post(f"{TASKS}{task_id}/cancel")).json()
    again = await client.post(f"{TASKS}{task_id}/cancel")
    deleted = (await client.delete(f"{TASKS}{task_id}")).json()
    gone = await client.get(f"{TASKS}{task_id}")

    assert {"task_id": task_id, "state": "CANCELLED", "requested": False} == cancelled
    assert 200 == again.status_code  # what is done already is no conflict
    assert {"task_id": task_id, "deleted": True} == deleted
    assert 404 == gone.status_code


async def test_a_running_task_is_deleted_by_force_only(client, flow):
    """Its late settle then writes nothing: it does not come back."""
    import taskflow

    registry = taskflow.Registry()
    started, may_end = asyncio.Event(), asyncio.Event()

    @registry.task(name="add")
    async def waits(x: int, y: int = 0) -> int:
        started.set()
        await may_end.wait()
        return x

    task_id = await stored(client)
    worker = taskflow.Worker(flow, registry=registry)
    working = asyncio.create_task(worker.arun_until_idle())
    await started.wait()
    refused = await client.delete(f"{TASKS}{task_id}")
    asked = (await client.post(f"{TASKS}{task_id}/cancel")).json()
    forced = await client.delete(f"{TASKS}{task_id}", params={"force": "true"})
    may_end.set()
    await working
    gone = await client.get(f"{TASKS}{task_id}")

    assert (409, "ACTIVE") == (refused.status_code, refused.json()["from_state"])
    assert ("ACTIVE", True) == (asked["state"], asked["requested"])
    assert (200, 404) == (forced.status_code, gone.status_code)


async def test_nothing_is_orphaned_while_tasks_wait(client):
    """What waits is never queued twice."""
    await stored(client)
    report = (await client.post(f"{TASKS}requeue-orphaned")).json()
    status = (await client.get("/api/v1/queues/status")).json()

    assert {
        "found": 0,
        "requeued": 0,
        "errors": [],
        "message": "no task is orphaned",
    } == report
    assert 1 == status["queues"]["primary"]


async def test_a_record_that_a_foreign_hand_broke_can_still_be_read(client, flow):
    """A half-written hash is no server error."""
    broken = flow.connection.server.sync_client()
    broken.hset("task:half", mapping={"state": "COMPLETED", "result": "{no json"})
    broken.close()
    answer = await client.get(f"{TASKS}half")

    assert (200, "", None) == (
        answer.status_code,
        answer.json()["name"],
        answer.json()["result"],
    )


async def test_a_task_is_followed_to_its_end(client, flow, events_of):
    """Every chunk once, in order, then the end."""
    task_id = await stored(client, "tells", words=["a", "b", "c"])
    await arun_until_idle(flow)
    answer = await client.get(f"{TASKS}{task_id}/events")
    events = events_of(answer.text)
    second = next(name for kind, _, name in events if kind == "chunk")
    rest = await client.get(
        f"{TASKS}{task_id}/events", headers={"Last-Event-ID": second}
    )

    assert "text/event-stream" == answer.headers["content-type"].partition(";")[0]
    assert ["state", "chunk", "chunk", "chunk", "end"] == [each[0] for each in events]
    assert ["a", "b", "c"] == [
        data["text"] for kind, data, _ in events if kind == "chunk"
    ]
    assert {"done": 3, "total": 3} == {
        name: events[0][1]["progress"][name] for name in ("done", "total")
    }
    assert ["b", "c"] == [
        data["text"] for kind, data, _ in events_of(rest.text) if kind == "chunk"
    ]


async def test_a_foreign_place_in_a_stream_is_refused(client):
    """It is not sent to the server."""
    task_id = await stored(client)
    answer = await client.get(
        f"{TASKS}{task_id}/events", headers={"Last-Event-ID": "x y"}
    )

    assert 422 == answer.status_code
