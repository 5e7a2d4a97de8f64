"""The task as a host uses it: enqueued, run by a worker, its record read."""

import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from taskflow import Context, Registry, TaskFlow, TaskState
from taskflow.errors import ConfigurationError
from taskflow.testing import ManualClock, arun_until_idle
from taskflow_summarize import plugin
from taskflow_summarize._settings import current_settings
from taskflow_summarize._tasks import registry, summarize_text
from taskflow_summarize.errors import ContentError, OptionError
from taskflow_summarize.samples import load_samples
from taskflow_summarize.testing import SUMMARY, FakeOpenRouter, Reply
from tests.summarize.canary import KEY

TIDES = next(sample.text for sample in load_samples() if sample.name == "tides")


@pytest.fixture
def clock() -> ManualClock:
    """Stand still."""
    return ManualClock()


@pytest_asyncio.fixture
async def flow(clock: ManualClock) -> AsyncIterator[TaskFlow]:
    """Keep tasks in memory."""
    async with TaskFlow("memory://", registry=registry, clock=clock) as made:
        yield made


async def run(flow: TaskFlow, clock: ManualClock, *waits: float, **options: Any) -> Any:
    """Enqueue one summary, let a worker run it, and again after each wait."""
    handle = await flow.aenqueue(summarize_text.call(TIDES, **options))
    await arun_until_idle(flow)
    for seconds in waits:
        clock.advance(seconds)
        await arun_until_idle(flow)
    return await flow.tasks.aget(handle.id)


async def test_without_a_key_a_text_is_summarised_offline(
    flow: TaskFlow, clock: ManualClock
) -> None:
    """And the record says how it was done."""
    record = await run(flow, clock, max_words=60)
    words = record.annotations.pop("words")

    assert (TaskState.COMPLETED, {}) == (record.state, record.usage)
    assert 30 <= words <= 60
    assert {
        "provider": "extractive",
        "method": "extractive",
        "language": "en",
        "source_words": 1505,
    } == record.annotations


async def test_with_a_key_a_model_is_asked(
    flow: TaskFlow, clock: ManualClock, server: FakeOpenRouter
) -> None:
    """Its name, the tokens and the cost are on the record."""
    pytest.importorskip("httpx")
    record = await run(flow, clock)

    assert (TaskState.COMPLETED, f'"{SUMMARY}"'.encode()) == (
        record.state,
        record.result,
    )
    assert {
        "calls": 1.0,
        "prompt_tokens": 900.0,
        "completion_tokens": 14.0,
        "cost": 0.00021,
    } == (record.usage)
    assert {
        "provider": "openrouter",
        "method": "abstractive",
        "language": "en",
        "words": 11,
        "source_words": 1505,
        "model": "maker/model-7b",
        "generation_id": "gen-1755-abc",
    } == record.annotations


async def test_a_call_can_name_its_provider(
    flow: TaskFlow, clock: ManualClock, server: FakeOpenRouter
) -> None:
    """Whatever the settings prefer."""
    record = await run(flow, clock, provider="extractive")

    assert "extractive" == record.annotations["provider"]
    assert [] == server.requests


async def test_a_service_that_fails_is_asked_again_later(
    flow: TaskFlow, clock: ManualClock, server: FakeOpenRouter
) -> None:
    """Five seconds after the first failure, ten after the second."""
    pytest.importorskip("httpx")
    server.replies.extend([Reply(status=503), Reply(status=502)])
    early = await run(flow, clock, 4.9)
    asked_early = len(server.requests)
    clock.advance(0.1)
    await arun_until_idle(flow)
    clock.advance(10.0)
    await arun_until_idle(flow)
    record = await flow.tasks.aget(early.id)

    assert (TaskState.SCHEDULED, 1) == (early.state, asked_early)
    assert (TaskState.COMPLETED, 2, 3) == (
        record.state,
        record.attempts,
        len(server.requests),
    )


async def test_a_rate_limit_uses_no_attempt_and_keeps_its_wait(
    flow: TaskFlow, clock: ManualClock, server: FakeOpenRouter
) -> None:
    """Ten in a row do not make a dead letter of a good text."""
    pytest.importorskip("httpx")
    limited = Reply(status=429, body={}, headers={"Retry-After": "30"})
    server.replies.extend([limited] * 10)
    record = await run(flow, clock, *[29.0, 1.0] * 10)

    assert (TaskState.COMPLETED, 0, 11) == (
        record.state,
        record.attempts,
        len(server.requests),
    )


@pytest.mark.parametrize("status", [401, 402])
async def test_a_rejected_key_or_spent_credit_waits_for_a_person(
    flow: TaskFlow, clock: ManualClock, server: FakeOpenRouter, status: int
) -> None:
    """For hours, with a reason that people can see; no text is lost over it."""
    pytest.importorskip("httpx")
    server.replies.extend([Reply(status=status, body={})] * 30)
    record = await run(flow, clock, *[300.0] * 29)
    shut = await flow.upstreams.aget("openrouter")
    clock.advance(300.0)
    await arun_until_idle(flow)
    paid = await flow.tasks.aget(record.id)

    assert ("open", "refused") == (shut.state, shut.shut_by)
    assert (TaskState.PENDING, 0) == (record.state, record.attempts)
    assert record.error_type.endswith("AccountError")
    assert f"status {status}" in record.error_message
    assert TaskState.COMPLETED == paid.state


@pytest.mark.parametrize("status", [400, 403, 404, 413])
async def test_a_request_that_is_refused_is_a_dead_letter_at_once(
    flow: TaskFlow, clock: ManualClock, server: FakeOpenRouter, status: int
) -> None:
    """Asking again would cost and change nothing."""
    pytest.importorskip("httpx")
    server.replies.extend([Reply(status=status, body={})] * 2)
    record = await run(flow, clock, 3600.0)

    # A text that is too long for the model is asked for once more, in halves.
    asked = 2 if status == 413 else 1
    assert (TaskState.DLQ, asked) == (record.state, len(server.requests))


async def test_neither_key_nor_text_reaches_the_error_of_a_record(
    flow: TaskFlow, clock: ManualClock, server: FakeOpenRouter
) -> None:
    """A dead letter is shown on a page; the payload is its only copy of the text."""
    pytest.importorskip("httpx")
    quoting = {"error": {"code": 403, "message": f"flagged: {TIDES[:80]} {KEY}"}}
    server.replies.append(Reply(status=403, body=quoting))
    record = await run(flow, clock)
    shown = f"{record.error_message} {record.history} {record.dead_letter}"

    assert KEY not in shown
    assert TIDES[:40] not in shown


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("", 120), ContentError),
        ((" \n", 120), ContentError),
        (("\x00", 120), ContentError),
        (("A text.", 9), OptionError),
        (("A text.", 2001), OptionError),
    ],
)
async def test_what_cannot_be_summarised_is_permanent(
    flow: TaskFlow, arguments: tuple[str, int], expected: type[Exception]
) -> None:
    """A clear error, no second attempt."""
    content, max_words = arguments
    with pytest.raises(expected):
        await summarize_text(content, max_words)
    handle = await flow.aenqueue(summarize_text.call(content, max_words))
    await arun_until_idle(flow)

    assert TaskState.DLQ == (await handle.ainfo()).state


async def test_a_text_above_the_limit_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The limit is the setting's, and named."""
    monkeypatch.setenv("SUMMARIZE_MAX_CONTENT_BYTES", "2000")
    with pytest.raises(ContentError, match="SUMMARIZE_MAX_CONTENT_BYTES"):
        await summarize_text(TIDES)


async def test_the_network_without_a_key_says_what_is_missing() -> None:
    """A call can name a provider that the settings do not allow."""
    with pytest.raises(ConfigurationError, match="needs OPENROUTER_API_KEY"):
        await summarize_text(TIDES, provider="openrouter")


async def test_a_missing_extra_says_what_to_install(
    server: FakeOpenRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one sentence, with the command."""
    name = "taskflow_summarize._providers.openrouter"
    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(ConfigurationError, match=r"asynctaskflow\[summarize\]"):
        await summarize_text(TIDES)


async def test_the_task_is_a_function_still() -> None:
    """Called in place it returns the summary; a context may be given."""
    context = Context(id="1", name="summarize_text")
    summary = await summarize_text.function(context, TIDES, max_words=30)

    assert summary == await summarize_text(TIDES, max_words=30)
    assert 0 < len(summary.split()) <= 30


def test_registering_twice_is_fine() -> None:
    """The plugin's tasks are there once."""
    there = Registry()
    plugin.register(there)
    plugin.register(there)

    assert ("summarize_document", "summarize_text") == there.names()
    assert ["openrouter"] == [each.name for each in there.upstreams()]


def test_a_wrong_setting_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is found when the plugin is registered, and nothing is."""
    monkeypatch.setenv("OPENROUTER_TIMEOUT", "soon")
    there = Registry()
    with pytest.raises(ConfigurationError, match="OPENROUTER_TIMEOUT='soon'"):
        plugin.register(there)

    assert () == there.names()


def test_declaring_reads_no_settings_and_no_httpx() -> None:
    """The import of the tasks has read nothing of the environment."""
    assert 0 == current_settings.cache_info().currsize
