"""What a model thought is no summary, however its server sends it."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskflow_summarize._providers.answers import AnswerReader
from taskflow_summarize._providers.reasoning import ReasoningFilter
from taskflow_summarize.errors import (
    BadAnswerError,
    ContentRefusedError,
    EmptyAnswerError,
    ProviderError,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
USAGE = {"prompt_tokens": 900, "completion_tokens": 14, "cost": 0.5}

THOUGHTS = [
    ("<think>Okay.</think>\n\nTides.", "Tides."),
    ("<THINK>\nOkay.\n</Think>Tides.", "Tides."),
    ("<thinking>a</thinking><reasoning>b</reasoning> Tides.", "Tides."),
    ("<think>a <think>b</think> c</think>Tides.", "Tides."),
    ("<thought>a</thought>Tides.", "Tides."),
    ("Okay, the user wants tides.\n</think>\n\nTides.", "Tides."),
    ("◁think▷Okay.◁/think▷Tides.", "Tides."),
    ("Tides. <think>Is it?</think>Rise.", "Tides. Rise."),
    ("a < b and c > d, <b>bold</b>, x<", "a < b and c > d, <b>bold</b>, x<"),
    ("<thinker> is a name, <th", "<thinker> is a name, <th"),
    ("<think>Okay, and no end", ""),
    ("  <think>Okay, and no end", ""),
    ("Put it in <thinking> tags, they say.", "Put it in <thinking> tags, they say."),
    ("a <think>b</think> c <think>d <think>e", "a  c <think>d <think>e"),
    ("", ""),
]


def said(pieces: list[str]) -> tuple[str, str]:
    """Filter *pieces*: what was shown meanwhile, and what is left in the end."""
    filter_, shown, kept = ReasoningFilter(), "", ""
    for piece in pieces:
        text = filter_.feed(piece)
        kept = text if filter_.is_reset else kept + text
        shown += text
    rest = filter_.end()
    return shown + rest, kept + rest


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(("text", "summary"), THOUGHTS)
def test_reasoning_is_left_out(text: str, summary: str, size: int) -> None:
    """In whatever pieces it comes; and is not shown meanwhile, if it was opened."""
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    shown, kept = said(pieces)

    assert summary == kept
    if not text.startswith("Okay"):
        assert summary == shown


@given(st.lists(st.text(st.characters(exclude_characters="<◁"), max_size=9)))
def test_other_text_passes_with_halves_of_characters_joined(texts: list[str]) -> None:
    """A lone half is replaced."""
    whole = "".join(texts)
    data = whole.encode("utf-16-le", "surrogatepass")
    shown, kept = said([chr(unit) for unit in memoryview(data).cast("H")])

    assert data.decode("utf-16-le", "replace").lstrip() == kept == shown
    kept.encode()


def reader_of(*choices: dict[str, Any], usage: Any = USAGE) -> AnswerReader:
    """Read pieces of a stream, the usage last."""
    reader = AnswerReader({}, now=NOW)
    for each in choices:
        reader.take({"choices": [{"index": 0, **each}]})
    reader.take({"choices": [], "usage": usage})
    return reader


@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning": "Okay."},
        {"reasoning_content": "Okay."},
        {"reasoning_details": [{"type": "reasoning.text", "text": "Okay."}]},
        {"content": [{"type": "thinking", "thinking": "Okay."}]},
        {"content": [{"type": "reasoning", "text": "Okay."}]},
    ],
)
def test_a_field_of_reasoning_is_no_answer(fields: dict[str, Any]) -> None:
    """Alone it is an empty answer, which is paid for."""
    end = {"delta": {}, "finish_reason": "stop"}
    with pytest.raises(EmptyAnswerError) as met:
        reader_of({"delta": fields}, end).finish(is_stream=True)
    assert (900, 14, 0.5) == bill(met.value)

    text = {"delta": {"content": "Tides."}}
    assert (
        "Tides." == reader_of({"delta": fields}, text, end).finish(is_stream=True).text
    )


def bill(error: ProviderError) -> tuple[int, int, float | None]:
    """Say what *error* cost."""
    return error.prompt_tokens, error.completion_tokens, error.cost


@pytest.mark.parametrize(
    ("choices", "kind"),
    [
        (
            [{"delta": {"content": "<think>a"}, "finish_reason": "stop"}],
            EmptyAnswerError,
        ),
        (
            [{"delta": {"content": "T"}, "finish_reason": "content_filter"}],
            ContentRefusedError,
        ),
        ([{"delta": {"refusal": "No."}, "finish_reason": "stop"}], ContentRefusedError),
        ([{"delta": {"content": "T"}}], BadAnswerError),
    ],
)
def test_what_was_paid_is_counted_when_the_answer_is_refused(
    choices: list[dict[str, Any]], kind: type[ProviderError]
) -> None:
    """Empty, filtered, declined or cut off."""
    with pytest.raises(kind) as met:
        reader_of(*choices).finish(is_stream=True)

    assert (900, 14, 0.5) == bill(met.value)
