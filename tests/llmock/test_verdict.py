"""A server that nobody here wrote breaks in every way it knows, and judges us.

LLMock looks at every request and when it came: whether a wait was kept, whether what
cannot succeed was tried again, whether half a stream was taken for a whole one. Its
verdict must hold no finding, warnings included.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from llmock.scenarios import Fail, Match

from taskflow import (
    Registry,
    RetryPolicy,
    RetryRule,
    TaskFlow,
    TaskHandle,
    TaskState,
    Worker,
)
from taskflow.errors import TaskFailedError
from taskflow_summarize import _tasks
from taskflow_summarize._provider import CompletionRequest
from taskflow_summarize._providers.openrouter import OpenRouterProvider
from taskflow_summarize._settings import SummarizeSettings
from taskflow_summarize.errors import (
    AccountError,
    ProviderError,
    RateLimitedError,
    RequestRefusedError,
)
from taskflow_summarize.samples import load_samples

KEY = "sk-canary-5150"
TIDES = next(sample.text for sample in load_samples() if sample.name == "tides")
SCHEMA = {
    "type": "object",
    "properties": {"summary": {"type": "string"}},
    "required": ["summary"],
    "additionalProperties": False,
}
# The plugin's rules with shorter waits.
RULES = RetryPolicy(
    max_retries=5,
    rules=(
        RetryRule(on=(RequestRefusedError, AccountError), dead_letter=True),
        RetryRule(on=RateLimitedError, wait=1.0, uses_attempt=False),
        RetryRule(on=ProviderError, wait=(0.1, 0.3, 0.9)),
    ),
)


@pytest.fixture
def settings(llmock: Any, monkeypatch: pytest.MonkeyPatch) -> SummarizeSettings:
    """Name the server that breaks."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return SummarizeSettings(
        api_key=KEY,
        base_url=llmock.base_url(),
        model="gpt-4o-mini",
        timeout=3.0,
        idle_timeout=0.4,
    )


@contextlib.asynccontextmanager
async def working(registry: Registry) -> AsyncIterator[TaskFlow]:
    """Let a worker run, on a clock that goes."""
    async with TaskFlow("memory://", registry=registry) as flow:
        worker = Worker(flow)
        running = asyncio.create_task(worker.arun())
        try:
            yield flow
        finally:
            worker.stop()
            await running


@pytest_asyncio.fixture
async def ask(settings: SummarizeSettings) -> AsyncIterator[Any]:
    """Give a function that has the model asked by a task."""
    registry, provider = Registry(), OpenRouterProvider(settings)

    @registry.task(name="ask", retry=RULES)
    async def ask_model(text: str) -> str:
        request = CompletionRequest(({"role": "user", "content": text},), 500)
        return (await provider.complete(request)).text

    async with working(registry) as flow:

        async def enqueue(text: str = TIDES) -> TaskHandle[str]:
            return await flow.aenqueue(ask_model.call(text))

        yield enqueue


@pytest.mark.parametrize(
    "break_it",
    [
        lambda m: m.fail(408, times=2),
        lambda m: m.fail(500, times=3),
        lambda m: m.fail(502),
        lambda m: m.fail(503, times=2),
        lambda m: m.fail(503, retry_after=0.6),
        lambda m: m.fail(504),
        lambda m: m.fail(529, times=2),
        lambda m: m.rate_limit(times=3, retry_after=0.5),
        lambda m: m.rate_limit(retry_after=2.2),
        lambda m: m.delay(0.7),
        lambda m: m.delay(4.0),
        lambda m: m.slow_first_token(0.3),
        lambda m: m.disconnect(after_chunks=1),
        lambda m: m.disconnect(after_chunks=3, times=2),
        lambda m: m.truncate(after_chunks=1),
        lambda m: m.truncate(after_chunks=4, times=3),
        lambda m: m.corrupt(after_chunks=2),
        lambda m: m.stall(after_chunks=2, seconds=5.0),
        lambda m: m.rate_limit(retry_after=0.3).truncate().fail(503).corrupt(),
        lambda m: m.pace(20),
    ],
    ids=[
        *("408", "500", "502", "503", "503 with a wait", "504", "529", "429"),
        *("429 of two seconds", "late", "too late", "slow first word", "cut"),
        *("cut twice", "ended early", "ended early thrice", "corrupt", "stalled"),
        *("one after the other", "word by word"),
    ],
)
async def test_what_passes_is_waited_out(
    llmock: Any, ask: Any, break_it: Any, request: pytest.FixtureRequest
) -> None:
    """The task completes with the whole text, and the judge has nothing to say."""
    llmock.reply("The Moon raises the tides, and the coasts shape them.", times=None)
    break_it(llmock)
    handle = await ask()

    assert "The Moon raises the tides, and the coasts shape them." == (
        await handle.aresult(timeout=20)
    )

    # Where all was sent before the call was given up, the judge cannot see that it was.
    asked = {"corrupt": 2, "one after the other": 5}
    case = request.node.callspec.id
    llmock.assert_resilient(strict=case not in asked)
    assert len(llmock.requests) == asked.get(case, len(llmock.requests))


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
async def test_what_cannot_pass_is_not_tried_again(
    llmock: Any, ask: Any, status: int
) -> None:
    """It is a dead letter after one request."""
    llmock.fail(status, times=None)
    handle = await ask()
    with pytest.raises(TaskFailedError):
        await handle.aresult(timeout=20)

    assert TaskState.DLQ == (await handle.ainfo()).state
    assert 1 == len(llmock.requests)
    llmock.assert_resilient(strict=True)


async def test_a_text_that_is_too_long_is_not_tried_again(
    llmock: Any, ask: Any
) -> None:
    """It would be as long the next time; the error says what it is."""
    llmock.context_overflow()
    handle = await ask()
    with pytest.raises(TaskFailedError) as raised:
        await handle.aresult(timeout=20)

    assert raised.value.error_type.endswith("TextTooLongError")
    assert 1 == len(llmock.requests)
    llmock.assert_resilient(strict=True)


async def test_a_quota_is_kept_by_many_calls_at_once(llmock: Any, ask: Any) -> None:
    """Each waits as long as it was told."""
    llmock.limits(rpm=120)
    handles = [await ask(f"Text {number}. {TIDES}") for number in range(20)]
    texts = [await handle.aresult(timeout=25) for handle in handles]

    assert all(texts)
    llmock.assert_resilient(strict=True)


async def test_the_judge_is_awake(llmock: Any, settings: SummarizeSettings) -> None:
    """It finds fault with a client that takes half a stream for a whole one."""
    llmock.truncate(after_chunks=1)
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": ""}]}
    async with httpx.AsyncClient() as client:
        await client.post(f"{settings.base_url}/chat/completions", json=body)

    assert ["truncated_stream_accepted"] == [
        finding.code for finding in llmock.verdict().errors
    ]


async def test_an_answer_has_the_form_that_was_asked_for(
    llmock: Any, settings: SummarizeSettings
) -> None:
    """The server reads the schema and keeps to it."""
    request = CompletionRequest(({"role": "user", "content": TIDES},), 500, SCHEMA)
    answer = await OpenRouterProvider(settings).complete(request)

    assert ["summary"] == list(json.loads(answer.text))
    assert answer.prompt_tokens > 0
    assert answer.completion_tokens > 0
    llmock.assert_resilient(strict=True)


async def test_the_plugins_own_task_and_rules_find_no_fault(
    llmock: Any, settings: SummarizeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the waits that it really has."""
    monkeypatch.setenv("OPENROUTER_API_KEY", KEY)
    monkeypatch.setenv("OPENROUTER_BASE_URL", settings.base_url)
    _tasks.forget_settings()
    llmock.reply("The Moon raises the tides.", times=None)
    # For the model alone: the list of models is a convenience, and is not insisted on.
    llmock.add(Fail(429, retry_after=1.0, match=Match(stream=True))).truncate()
    async with working(_tasks.registry) as flow:
        handle = await flow.aenqueue(_tasks.summarize_text.call(TIDES))
        text = await handle.aresult(timeout=25)
    _tasks.forget_settings()

    assert "The Moon raises the tides." == text
    llmock.assert_resilient(strict=True)
