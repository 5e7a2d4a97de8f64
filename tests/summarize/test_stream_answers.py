"""A streamed answer is believed where it is whole, and only there."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskflow_summarize._fake_bodies import events_of
from taskflow_summarize._provider import Completion
from taskflow_summarize._providers._sse import EventParser
from taskflow_summarize._providers.answers import AnswerReader, read_answer
from taskflow_summarize.errors import (
    AccountError,
    BadAnswerError,
    ContentRefusedError,
    EmptyAnswerError,
    ProviderError,
    RateLimitedError,
    RequestRefusedError,
    UnavailableError,
)
from taskflow_summarize.testing import completion

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
CANARY = "canary-8042"


def piece(text: str | None = None, finish: str | None = None, **more: Any) -> Any:
    """Make one piece of an answer."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return {"choices": [choice], **more}


def read(events: Iterable[Any]) -> Completion:
    """Read a stream to its end."""
    reader = AnswerReader({}, now=NOW)
    for each in events:
        reader.take_event(each if isinstance(each, str) else json.dumps(each))
    return reader.finish(is_stream=True)


def failure(events: Iterable[Any]) -> ProviderError:
    """Read a stream that holds no answer."""
    with pytest.raises(ProviderError) as raised:
        read(events)
    return raised.value


def test_the_pieces_together_are_the_text() -> None:
    """With the name, the model and what it cost, wherever these come."""
    used = {
        "prompt_tokens": 9,
        "completion_tokens": 3,
        "completion_tokens_details": {"reasoning_tokens": 1},
        "cost": 0.5,
    }
    expected = Completion(
        text="The tide turns.",
        model="maker/model",
        prompt_tokens=9,
        completion_tokens=3,
        reasoning_tokens=1,
        cost=0.5,
        generation_id="gen-1",
    )

    assert expected == read(
        [
            {"id": "gen-1", "model": "maker/model", "choices": [{"delta": {}}]},
            piece("The "),
            piece("tide"),
            piece(" turns."),
            piece("", "stop"),
            {"choices": [], "usage": used},
            "[DONE]",
        ]
    )


def test_usage_may_come_with_a_last_piece() -> None:
    """Recordings have it there; the documentation has it alone."""
    end = piece("", "stop", usage={"completion_tokens": 3})

    assert 3 == read([piece("Yes."), end]).completion_tokens


@pytest.mark.parametrize("finish", ["stop", "eos", "tool_calls"])
def test_whatever_it_stopped_for_it_is_whole(finish: str) -> None:
    """Servers have words of their own."""
    assert Completion("Yes.") == read([piece("Yes."), piece(None, finish)])


@pytest.mark.parametrize(
    "events",
    [
        [piece("The tide", "length")],
        [piece("The tide", "max_tokens")],
        [
            piece("The tide", "length"),
            piece(None, error={"code": 400, "message": "Token limit reached"}),
        ],
        [
            piece("The tide", "length"),
            piece(None, error={"code": 400, "message": "something"}),
        ],
        [
            piece("The tide"),
            piece(None, "error", error={"code": 400, "message": "token limit reached"}),
        ],
        [
            piece("The tide"),
            {"error": {"code": 400, "metadata": {"error_type": "max_tokens_exceeded"}}},
        ],
        [piece("The tide", "length"), piece("", "stop")],
    ],
)
def test_the_end_of_the_tokens_is_no_failure(events: list[Any]) -> None:
    """Also where it is said once more, as an error of the request."""
    assert Completion("The tide", is_truncated=True) == read(events)


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([piece("The tide")], BadAnswerError),
        ([piece("The tide"), "[DONE]"], BadAnswerError),
        ([], BadAnswerError),
        (["[DONE]"], BadAnswerError),
        ([piece("The"), '{"choices": [{"del'], BadAnswerError),
        ([piece("The"), "tide"], BadAnswerError),
        ([piece("The"), "[1]"], BadAnswerError),
        ([piece("", "stop")], EmptyAnswerError),
        ([piece(" \n", "stop")], EmptyAnswerError),
        ([{"choices": None}, piece(None, "stop")], EmptyAnswerError),
        ([piece(None, "length")], EmptyAnswerError),
        ([piece("I cannot", "content_filter")], ContentRefusedError),
        ([{"choices": [{"delta": {"refusal": CANARY}}]}], ContentRefusedError),
        ([piece("The", "error")], UnavailableError),
        ([piece("The"), {"error": {"code": 502}}], UnavailableError),
        ([piece("The"), {"error": {"code": "server_error"}}], UnavailableError),
        ([piece("The"), {"error": {"code": 429}}], RateLimitedError),
        ([piece("The"), {"error": {"code": "rate_limit_exceeded"}}], RateLimitedError),
        ([piece("The"), {"error": {"code": 402}}], AccountError),
        ([piece("The"), {"error": CANARY}], UnavailableError),
        ([piece("The"), {"error": {"code": 400, "message": "x"}}], RequestRefusedError),
        ([piece("The", "stop"), {"error": {"code": 400}}], RequestRefusedError),
        (
            [{"choices": [{"error": {"code": 503, "message": CANARY}}]}],
            UnavailableError,
        ),
    ],
)
def test_a_stream_that_failed_is_of_its_class(
    events: list[Any], expected: type[ProviderError]
) -> None:
    """Half a text is no summary, and no word of it is repeated."""
    met = failure(events)

    assert expected is type(met)
    assert CANARY not in f"{met} {vars(met)}"


def test_a_model_that_only_thought_is_told_from_one_that_had_nothing_to_say() -> None:
    """More tokens may help it."""
    thought = {"choices": [{"delta": {"reasoning": "hm"}, "finish_reason": "length"}]}
    met = failure([thought, {"choices": [], "usage": {"completion_tokens": 10}}])

    assert isinstance(met, EmptyAnswerError)
    assert (True, 10) == (met.is_truncated, met.completion_tokens)


def test_thoughts_that_ran_out_of_tokens_are_no_bad_request() -> None:
    """As a host of OpenRouter said it: its end twice, then an error and the usage."""
    thinking = {"index": 0, "delta": {"content": "", "reasoning": "We need"}}
    end = {"index": 0, "delta": {"content": ""}, "finish_reason": "length"}
    late = {
        "error": {"code": 400, "message": "Token limit reached"},
        "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": None}],
        "usage": {"prompt_tokens": 43, "completion_tokens": 10, "cost": 0},
    }
    met = failure([{"choices": [thinking]}, {"choices": [end]}, late, "[DONE]"])

    assert isinstance(met, EmptyAnswerError)
    assert (True, 43, 10, 0.0) == (
        met.is_truncated,
        met.prompt_tokens,
        met.completion_tokens,
        met.cost,
    )


def test_other_choices_than_the_first_are_left_out() -> None:
    """One was asked for."""
    second = {"choices": [{"index": 1, "delta": {"content": "No."}}]}

    assert "Yes." == read([piece("Yes."), second, piece(None, "stop")]).text


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1),
    st.integers(1, 40),
)
def test_any_text_in_any_pieces_comes_out_as_it_went_in(
    texts: list[str], size: int
) -> None:
    """Through the bytes, in whatever pieces the network makes of them."""
    whole = completion("".join(texts))
    data = b"".join(events_of(whole, texts))
    parser, reader = EventParser(), AnswerReader({}, now=NOW)
    said: list[str] = []
    for at in range(0, len(data), size):
        said += [reader.take_event(e) for e in parser.feed(data[at : at + size])]

    whole_text = "".join(texts).lstrip()
    assert reader.is_done
    if whole_text.strip():
        assert whole_text == reader.finish(is_stream=True).text
        assert whole_text == "".join(said) + reader.rest


def outcome(data: bytes) -> str:
    """Read bytes as a stream: the text, or the name of the error."""
    parser, reader = EventParser(), AnswerReader({}, now=NOW)
    try:
        for event in [*parser.feed(data), *parser.end()]:
            reader.take_event(event)
        return reader.finish(is_stream=True).text
    except ProviderError as error:
        return type(error).__name__


STREAM = b"".join(events_of(completion("The tide turns."), ["The ", "tide ", "turns."]))


def test_a_stream_that_ends_anywhere_gives_the_whole_text_or_none() -> None:
    """Never a part of it."""
    found = {outcome(STREAM[:cut]) for cut in range(len(STREAM) + 1)}

    assert {"The tide turns.", "BadAnswerError"} == found


@given(st.integers(0, len(STREAM) - 1), st.binary(max_size=3))
def test_damage_gives_a_text_or_an_error_of_ours(at: int, damage: bytes) -> None:
    """Nothing else comes out, whatever comes in."""
    outcome(STREAM[:at] + damage + STREAM[at + 1 :])


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["", "stop", "length", "error", "429", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *("choices", "delta", "message", "content", "finish_reason"),
                    *("error", "code", "metadata", "headers", "index", "usage"),
                    *("cost", "provider", "availability", "retry_after", "type"),
                    *("error_type", "limit_source", "resets_at", "reason", "text"),
                    *("id", "model", "refusal", "cost_details", "is_byok"),
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(JSON, st.sampled_from([200, 200, 400, 401, 402, 403, 404, 429, 500, 503]))
def test_any_json_is_an_answer_or_an_error_of_ours(data: Any, status: int) -> None:
    """Members of the wrong kind are members that are not there."""
    body, waits = json.dumps(data).encode(), 1.0
    try:
        read_answer(status, {}, body, now=NOW)
    except ProviderError as error:
        waits = error.retry_after or waits

    assert 0 < waits <= 86_400
