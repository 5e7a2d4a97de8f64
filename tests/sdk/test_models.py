"""What we send, and what our fake answers, is what OpenRouter's own client knows."""

import json
from typing import Any

import pytest
from openrouter import components

from taskflow_summarize._fake_bodies import events_of
from taskflow_summarize._provider import CompletionRequest
from taskflow_summarize._providers.bodies import Draft, Shape
from taskflow_summarize._settings import SummarizeSettings
from taskflow_summarize.testing import Reply, completion, listing

SCHEMA = {
    "type": "object",
    "properties": {"summary": {"type": "string"}},
    "required": ["summary"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("schema", [None, SCHEMA])
@pytest.mark.parametrize("model", ["openrouter/auto", "a/b, c/d, e/f:free, g/h"])
def test_every_key_of_a_request_is_known(model: str, schema: dict[str, Any]) -> None:
    """And nothing of it is lost on the way through their model."""
    settings = SummarizeSettings(api_key="k", model=model)
    messages = (
        {"role": "system", "content": "Summarise."},
        {"role": "user", "content": "Tides."},
    )
    request = CompletionRequest(messages, 500, schema)
    body = Draft(request, Shape(), settings.models).body(settings)
    read = components.ChatRequest.model_validate(body)
    kept = read.model_dump(by_alias=True, exclude_unset=True, mode="json")

    assert json.loads(json.dumps(body)) == {key: kept.get(key) for key in body}


@pytest.mark.parametrize(
    "reply", [Reply.ok(), Reply.out_of_tokens(), Reply.refused(), Reply(completion())]
)
def test_every_answer_of_the_fake_is_one(reply: Reply) -> None:
    """Whole."""
    components.ChatResult.model_validate(reply.body)


@pytest.mark.parametrize(
    "events",
    [
        events_of(completion("One two"), ["One ", "two"]),
        Reply.out_of_tokens().events,
        Reply.failing_midway().events,
        Reply.failing_midway(502).events,
        Reply.unfinished().events,
    ],
)
def test_every_piece_of_the_fakes_streams_is_one(events: list[Any]) -> None:
    """Those that say that it failed, too."""
    for event in events:
        data = event if isinstance(event, dict) else _data(event)
        if data is not None:
            components.ChatStreamChunk.model_validate(data)


def _data(event: bytes) -> Any:
    text = event.decode().removeprefix("data: ").strip()
    return json.loads(text) if text.startswith("{") else None


def test_the_list_of_models_is_one() -> None:
    """With the prices as texts."""
    components.Model.model_validate(listing())
