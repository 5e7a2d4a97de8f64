"""Schedules over HTTP."""

import asyncio

import taskflow


async def test_a_schedule_is_listed_held_back_and_run(client, flow):
    """By a service that has none of its code."""
    registry = taskflow.Registry()

    @registry.cron("@daily", name="nightly", arguments={"x": 1})
    @registry.task(name="add")
    def add(x: int, y: int = 0) -> int:
        return x + y

    scheduler = taskflow.Worker(flow, registry=registry, claims=False)
    running = asyncio.create_task(scheduler.arun())
    path = "/api/v1/schedules/"
    async with asyncio.timeout(5):
        while not (await client.get(path)).json()["schedules"]:  # noqa: ASYNC110 - told by nobody
            await asyncio.sleep(0.01)
    paused = await client.post(f"{path}nightly/pause")
    (listed,) = (await client.get(path)).json()["schedules"]
    resumed = await client.post(f"{path}nightly/resume")
    made = await client.post(f"{path}nightly/run")
    unknown = await client.post(f"{path}nope/run")
    health = (await client.get("/health/workers")).json()
    scheduler.stop()
    await running

    assert {"name": "nightly", "paused": True} == paused.json()
    assert {"name": "nightly", "paused": False} == resumed.json()
    assert ("add", "0 0 * * * (UTC)", "last") == (
        listed["task"],
        listed["when"],
        listed["missed"],
    )
    assert listed["paused_at"] is not None
    assert (201, "PENDING") == (made.status_code, made.json()["state"])
    assert (404, "schedule_not_found", "nope") == (
        unknown.status_code,
        unknown.json()["code"],
        unknown.json()["name"],
    )
    # A scheduler is shown, and is no worker: nobody would run the task.
    assert (["scheduler"], 0, "degraded") == (
        [each["kind"] for each in health["workers"]],
        health["total"],
        health["status"],
    )
