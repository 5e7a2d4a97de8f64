"""The audit log and the news, asked for in both ways."""

from collections.abc import Iterator

import pytest

import taskflow
from taskflow import TaskFlow


@pytest.fixture
def flow(server_url: str) -> Iterator[TaskFlow]:
    """Give a flow on each kind of server."""
    with TaskFlow(server_url) as made:
        yield made


def test_what_a_person_did_is_in_the_audit_log(flow):
    """Blocking: with the actor, the facts and the events of the scripts."""
    flow.queues.pause("retry")
    flow.audit_log.record("discard", actor="ada", count=3)
    newest, oldest = flow.audit_log.list(limit=2)

    assert ("discard", "ada", {"count": 3}) == (
        newest.event,
        newest.actor,
        newest.facts,
    )
    assert [oldest] == flow.audit_log.list(cursor=newest.id, limit=1)
    assert "paused" == oldest.event


async def test_news_and_audit_log_can_be_awaited(flow):
    """On a loop, the same answers."""
    registry = taskflow.Registry()

    @registry.task(name="stream")
    async def stream(ctx: taskflow.Context) -> None:
        ctx.emit("a")
        ctx.emit("b")

    handle = await flow.aenqueue(stream.call())
    await taskflow.Worker(flow, registry=registry).arun_until_idle()
    news = await flow.tasks.anews(handle.id)
    await flow.audit_log.arecord("looked", actor="ada")

    assert flow.tasks.news(handle.id) == news
    assert ["a", "b"] == [chunk.text for chunk in news.chunks]
    assert ["looked"] == [entry.event for entry in await flow.audit_log.alist(limit=1)]
