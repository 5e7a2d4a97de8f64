"""Lanes, dead letters and the audit log over HTTP."""

import asyncio
import json

import pytest

from taskflow.testing import arun_until_idle

QUEUES = "/api/v1/queues"


async def store(client, name, options=None, **args):
    """Store a call and give its id."""
    body = {"name": name, "args": args, "options": options or {}}
    answer = await client.post("/api/v1/tasks/", json=body)
    return answer.json()["task_id"]


async def bury(client, flow, count):
    """Give the ids of *count* dead letters, the oldest first."""
    ids = []
    for number in range(count):
        ids.append(await store(client, "dies", number=number))
        await arun_until_idle(flow)
    return ids


async def test_the_status_has_the_shape_of_the_seed(client, flow):
    """Queues, states, the ratio; and what the seed did not think of."""
    await bury(client, flow, 1)
    await store(client, "add", x=1)
    status = (await client.get(f"{QUEUES}/status")).json()

    assert {"primary": 1, "retry": 0, "scheduled": 0, "dlq": 1, "parked": 0} == status[
        "queues"
    ]
    assert {
        "PENDING": 1,
        "ACTIVE": 0,
        "SCHEDULED": 0,
        "COMPLETED": 0,
        "FAILED": 0,
        "DLQ": 1,
        "CANCELLED": 0,
    } == status["states"]
    assert 0.3 == status["retry_ratio"]
    assert {"primary": 1, "retry": 0} == status["served"]
    assert status["oldest_age"]["primary"] >= 0
    assert status["now"].endswith("Z")


@pytest.mark.parametrize("queue", ["primary", "retry", "scheduled", "active", "dlq"])
async def test_each_queue_can_be_listed(client, flow, queue):
    """By the name it has in the status; what is elsewhere is not in it."""
    await bury(client, flow, 1)
    first, second = [await store(client, "add", x=number) for number in (1, 2)]
    items = (await client.get(f"{QUEUES}/{queue}/tasks")).json()["items"]

    found = [item["task_id"] for item in items]
    expected = {"primary": [first, second], "dlq": found[:1]}.get(queue, [])
    assert expected == found  # what waits in its order: the next one first
    assert (queue == "dlq") == bool(found and items[0]["state"] == "DLQ")


async def test_an_unknown_queue_is_refused(client):
    """With the names there are."""
    answer = await client.get(f"{QUEUES}/secondary/tasks")

    assert 422 == answer.status_code
    assert "'primary'" in answer.json()["detail"]


async def test_a_lane_is_held_back_and_goes_on(client, flow):
    """Nothing is claimed from it meanwhile; the audit log says who did it."""
    paused = (await client.post(f"{QUEUES}/primary/pause")).json()
    task_id = await store(client, "add", x=1)
    await arun_until_idle(flow)
    waiting = (await client.get(f"/api/v1/tasks/{task_id}")).json()["state"]
    resumed = (await client.post(f"{QUEUES}/primary/resume")).json()
    await arun_until_idle(flow)
    done = (await client.get(f"/api/v1/tasks/{task_id}")).json()["state"]
    audit_log = (await client.get("/api/v1/audit-log/")).json()["items"]

    assert ({"paused": ["primary"]}, {"paused": []}) == (paused, resumed)
    assert ("PENDING", "COMPLETED") == (waiting, done)
    assert {("pause", "127.0.0.1"), ("resume", "127.0.0.1")} <= {
        (entry["event"], entry["actor"]) for entry in audit_log
    }


async def test_dead_letters_are_listed_and_grouped(client, flow):
    """The newest first, with cause and error; one group for one kind."""
    ids = await bury(client, flow, 2)
    page = (await client.get(f"{QUEUES}/dlq")).json()
    groups = (await client.get(f"{QUEUES}/dlq/groups")).json()["groups"]
    fingerprint = groups[0]["fingerprint"]
    same = (await client.get(f"{QUEUES}/dlq?fingerprint={fingerprint}")).json()

    assert ids[::-1] == [item["task_id"] for item in page["items"]]
    assert (2, 2) == (page["total"], page["examined"])
    assert [(2, "dies", "ValueError", ids[1])] == [
        (group["count"], group["task_name"], group["error_type"], group["newest_id"])
        for group in groups
    ]
    assert page["items"] == same["items"]


async def test_a_group_is_counted_and_brought_back(client, flow):
    """A preview moves nothing."""
    await bury(client, flow, 3)
    groups = (await client.get(f"{QUEUES}/dlq/groups")).json()["groups"]
    chosen = {"fingerprint": groups[0]["fingerprint"]}
    preview = await client.post(
        f"{QUEUES}/dlq/requeue", json={**chosen, "preview": True}
    )
    done = await client.post(f"{QUEUES}/dlq/requeue", json=chosen)
    status = (await client.get(f"{QUEUES}/status")).json()["queues"]

    assert {"matched": 3, "requeued": 0, "held": {}} == preview.json()
    assert {"matched": 3, "requeued": 3, "held": {}} == done.json()
    assert (3, 0) == (status["retry"], status["dlq"])


async def test_a_dead_letter_whose_key_was_taken_stays(client, flow):
    """Named alone it is a conflict; among others it is told beside them."""
    once = {"key": "order-7", "key_ttl": 0}
    old = await store(client, "dies", once, number=7)
    (other,) = await bury(client, flow, 1)
    taken = await store(client, "dies", once, number=7)
    one = await client.post(f"{QUEUES}/dlq/requeue", json={"ids": [old]})
    same = await client.post(f"/api/v1/tasks/{old}/retry")
    both = await client.post(f"{QUEUES}/dlq/requeue", json={"ids": [old, other]})

    assert (409, "key_conflict", taken) == (
        one.status_code, one.json()["code"], one.json()["task_id"],
    )  # fmt: skip
    assert (409, taken) == (same.status_code, same.json()["task_id"])
    assert {"matched": 2, "requeued": 1, "held": {old: taken}} == both.json()


async def test_dead_letters_come_back_at_a_pace(client, flow):
    """The answer comes at once; the rest goes on in the background."""
    await bury(client, flow, 3)
    body = {"everything": True, "rate": 50}
    answer = await client.post(f"{QUEUES}/dlq/requeue", json=body)
    async with asyncio.timeout(5):
        while (await flow.queues.astatus()).retry < 3:  # noqa: ASYNC110 - told by nobody
            await asyncio.sleep(0.01)

    assert {"matched": 3, "requeued": 0, "held": {}} == answer.json()


async def test_dead_letters_are_dropped(client, flow):
    """Some by id, the rest by the task's name; each is FAILED then."""
    ids = await bury(client, flow, 3)
    some = await client.post(f"{QUEUES}/dlq/discard", json={"ids": ids[:1]})
    rest = await client.post(f"{QUEUES}/dlq/discard", json={"name": "dies"})
    status = (await client.get(f"{QUEUES}/status")).json()["states"]

    assert {"matched": 1, "discarded": 1} == some.json()
    assert {"matched": 2, "discarded": 2} == rest.json()
    assert (3, 0) == (status["FAILED"], status["DLQ"])


@pytest.mark.parametrize("verb", ["requeue", "discard"])
@pytest.mark.parametrize(
    "body",
    [{}, {"ids": []}, {"ids": ["a"], "everything": True}, {"rate": 0}, {"id": "a"}],
)
async def test_a_bulk_action_names_one_choice(client, verb, body):
    """Nothing is guessed, and all of them has to be said."""
    answer = await client.post(f"{QUEUES}/dlq/{verb}", json=body)

    assert 422 == answer.status_code


async def test_a_dead_letter_is_edited_brought_back_and_works(client, flow):
    """Arguments are checked against the task's annotations."""
    (task_id,) = await bury(client, flow, 1)
    path = f"{QUEUES}/dlq/{task_id}"
    wrong = await client.patch(path, json={"arguments": {"number": "x"}})
    right = await client.patch(path, json={"arguments": {"number": 9}})
    unknown = await client.patch(f"{QUEUES}/dlq/nope", json={"arguments": {"a": 1}})

    assert (422, 200, 404) == (
        wrong.status_code,
        right.status_code,
        unknown.status_code,
    )
    assert {"number": 9} == right.json()["arguments"]
    assert "DLQ" == right.json()["state"]


async def test_dead_letters_are_exported_whole(client, flow):
    """One JSON object a line, with arguments and traceback."""
    ids = await bury(client, flow, 2)
    answer = await client.get(f"{QUEUES}/dlq/export")
    lines = [json.loads(line) for line in answer.text.splitlines()]
    none = await client.get(f"{QUEUES}/dlq/export?name=add")

    assert ids[::-1] == [line["task_id"] for line in lines]
    assert [{"number": 1}, {"number": 0}] == [line["arguments"] for line in lines]
    assert "ValueError" in lines[0]["dead_letter"]["traceback"]
    assert (200, "") == (none.status_code, none.text)


async def test_the_audit_log_is_paged(client, flow):
    """The newest first, without a gap."""
    for number in range(3):
        await flow.audit_log.arecord("looked", actor="ada", number=number)
    first = (await client.get("/api/v1/audit-log/?limit=2")).json()
    rest = (
        await client.get(f"/api/v1/audit-log/?cursor={first['next_cursor']}")
    ).json()

    assert [2, 1] == [entry["facts"]["number"] for entry in first["items"]]
    assert [0] == [entry["facts"]["number"] for entry in rest["items"]]
    assert rest["next_cursor"] is None


async def test_the_figures_are_in_prometheus_own_format(client, flow):
    """Parsed by its own reader."""
    from prometheus_client.parser import text_string_to_metric_families

    await store(client, "add", x=1)
    answer = await client.get("/metrics")
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }

    assert 1 == samples["taskflow_tasks", "PENDING"]
    assert 1 == samples["taskflow_lane_waiting", "primary"]
    assert 0.3 == samples["taskflow_retry_ratio",]
