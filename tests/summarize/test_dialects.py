"""A request has the keys that its server knows, and others it does without."""

from typing import Any

import pytest

from taskflow_summarize._provider import CompletionRequest
from taskflow_summarize._settings import SummarizeSettings
from taskflow_summarize.errors import (
    AccountError,
    ContentRefusedError,
    ProviderError,
    RateLimitedError,
    RequestRefusedError,
    TextTooLongError,
)
from taskflow_summarize.testing import SUMMARY, FakeOpenRouter, Reply
from tests.summarize.canary import KEY

openrouter = pytest.importorskip("taskflow_summarize._providers.openrouter")

MESSAGE = {"role": "user", "content": "Tides?"}
SCHEMA = {
    "type": "object",
    "properties": {"summary": {"type": "string"}},
    "required": ["summary"],
    "additionalProperties": False,
}
PLAIN = CompletionRequest((MESSAGE,), 1000)
STRUCTURED = CompletionRequest((MESSAGE,), 1000, SCHEMA)
COMMON = {"messages": [MESSAGE], "temperature": 0.2, "stream": True}
OWN = {
    "plugins": [{"id": "context-compression", "enabled": False}],
    "provider": {"data_collection": "deny"},
}
OTHERS = {"stream_options": {"include_usage": True}}
FORMAT = {
    "type": "json_schema",
    "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA},
}


def provider(dialect: str = "openrouter", **changes: Any) -> Any:
    """Make a provider for the server that *dialect* is of."""
    settings = SummarizeSettings(api_key=KEY, dialect=dialect, **changes)
    return openrouter.OpenRouterProvider(settings)


async def bodies(
    *replies: Reply,
    request: CompletionRequest = PLAIN,
    expected: type[ProviderError] | None = None,
    **changes: Any,
) -> list[dict[str, Any]]:
    """Ask once, and say what was sent for it."""
    fake = FakeOpenRouter(*replies)
    async with fake.serve() as url:
        made = provider(base_url=url, **changes)
        if expected is None:
            assert SUMMARY == (await made.complete(request)).text
        else:
            with pytest.raises(ProviderError) as raised:
                await made.complete(request)
            assert expected is type(raised.value)
    return [asked.body for asked in fake.requests]


def refusal(status: int, message: str = "no", **error: Any) -> Reply:
    """Refuse a request."""
    return Reply({"error": {"code": status, "message": message, **error}}, status)


async def test_openrouter_is_sent_its_own_keys() -> None:
    """No compression behind our back, and no company that keeps the text."""
    (body,) = await bodies(model="maker/model")

    assert {
        **COMMON,
        **OWN,
        "model": "maker/model",
        "max_completion_tokens": 1000,
    } == body


async def test_another_server_is_sent_what_all_know() -> None:
    """Of several models the first; and it is asked to say what it used."""
    (body,) = await bodies(dialect="openai", model="qwen,llama")

    assert {
        **COMMON,
        **OTHERS,
        "model": "qwen",
        "max_completion_tokens": 1000,
    } == body


async def test_openrouter_falls_back_to_other_models_itself() -> None:
    """It is told their names, in order."""
    (body,) = await bodies(model="a/b, c/d, e/f")

    assert ("a/b", ["c/d", "e/f"]) == (body["model"], body["models"])


async def test_elsewhere_a_model_that_is_not_there_is_followed_by_the_next() -> None:
    """Until there is none left."""
    gone = refusal(404, code="model_not_found")
    sent = await bodies(gone, gone, dialect="openai", model="a,b,c")
    lost = await bodies(
        gone, gone, dialect="openai", model="a,b", expected=RequestRefusedError
    )

    assert ["a", "b", "c"] == [body["model"] for body in sent]
    assert ["a", "b"] == [body["model"] for body in lost]


async def test_a_schema_is_asked_for_strictly() -> None:
    """And only of hosts that know what it is."""
    (body,) = await bodies(request=STRUCTURED)

    assert FORMAT == body["response_format"]
    assert {"data_collection": "deny", "require_parameters": True} == body["provider"]


@pytest.mark.parametrize(
    "reply",
    [
        refusal(404, "No endpoints found that can handle the requested parameters"),
        refusal(404, availability={"code": "constraint_filtered"}),
        refusal(400, "response_format is not supported"),
        refusal(400, param="response_format"),
        refusal(422),
    ],
    ids=str,
)
async def test_a_schema_that_is_refused_is_left_out(reply: Reply) -> None:
    """Once; whoever asked for it reads what comes."""
    first, second = await bodies(reply, request=STRUCTURED)
    await bodies(reply, reply, request=STRUCTURED, expected=RequestRefusedError)

    assert FORMAT == first["response_format"]
    assert {**COMMON, **OWN, "max_completion_tokens": 1000} == {
        key: value for key, value in second.items() if key != "model"
    }


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply.too_long(), TextTooLongError),
        (refusal(403, metadata={"reasons": ["x"]}), ContentRefusedError),
        (Reply.rate_limited(3), RateLimitedError),
        (Reply.bad_key(), AccountError),
    ],
)
async def test_a_refusal_that_no_change_helps_is_not_tried_again(
    reply: Reply, expected: type[ProviderError]
) -> None:
    """Neither with the schema nor without."""
    sent = await bodies(reply, request=STRUCTURED, expected=expected)

    assert 1 == len(sent)


async def test_an_older_server_is_asked_in_older_words() -> None:
    """What it has refused once is not sent to it again."""
    fake = FakeOpenRouter(
        refusal(400, "Unsupported parameter: 'max_completion_tokens'"),
        Reply({"detail": [{"loc": ["body", "stream_options"], "msg": "extra"}]}, 422),
        refusal(400, param="temperature"),
    )
    async with fake.serve() as url:
        made = provider("openai", base_url=url, model="old")
        await made.complete(PLAIN)
        await made.complete(PLAIN)
    *_, fourth, fifth = [request.body for request in fake.requests]

    assert {
        "model": "old",
        "messages": [MESSAGE],
        "max_tokens": 1000,
        "stream": True,
    } == fourth
    assert (fourth, 5) == (fifth, len(fake.requests))


async def test_a_server_that_refuses_everything_is_asked_five_times_at_most() -> None:
    """A parameter is left out once."""
    reply = refusal(400, "temperature")
    sent = await bodies(
        reply, reply, dialect="openai", model="m", expected=RequestRefusedError
    )

    assert 2 == len(sent)


async def test_a_request_that_is_too_dear_is_sent_with_what_the_credit_affords() -> (
    None
):
    """Nothing was written for the first one."""
    dear = refusal(402, "You requested up to 1000 tokens, but can only afford 266.")
    sent = await bodies(dear)
    lost = await bodies(dear, refusal(402, "can only afford 20"), expected=AccountError)

    assert [1000, 266] == [body["max_completion_tokens"] for body in sent]
    assert 2 == len(lost)


async def test_openrouter_is_told_whose_calls_these_are() -> None:
    """Nobody else is."""
    fake = FakeOpenRouter()
    async with fake.serve() as url:
        known = {"app_title": "Diary", "app_url": "https://diary.example"}
        for made in (
            provider(base_url=url, **known),
            provider("openai", base_url=url, **known),
        ):
            await made.complete(PLAIN)
    first, second = [request.headers for request in fake.requests]

    assert ("Diary", "https://diary.example") == (
        first["x-openrouter-title"],
        first["http-referer"],
    )
    assert not {"x-openrouter-title", "http-referer"} & set(second)
