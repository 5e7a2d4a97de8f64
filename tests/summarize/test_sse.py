"""Events come out whole, wherever the network cuts the bytes."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskflow_summarize._providers._sse import EventParser, LineTooLongError

ODD = "one\u2028two\u2029three\u0085four \U0001f30a \u05e9"
STREAM = (
    b"\xef\xbb\xbf: OPENROUTER PROCESSING\r\n\r\n"
    b"data: first\ndata:second\n\n"
    b"event: x\rid: 1\rdata:  padded\r\r"
    b"data\n\n"
    b"data:\n\n"
    b"retry: 5\r\ndatum: no\r\ndata: " + ODD.encode() + b"\r\n\r\n\r\n"
    b"data: [DONE]\n\n"
)
EVENTS = ["first\nsecond", " padded", ODD, "[DONE]"]


def parse(*parts: bytes) -> list[str]:
    """Feed *parts* one after the other, to the end."""
    parser = EventParser()
    events = [event for part in parts for event in parser.feed(part)]
    return events + parser.end()


def test_a_stream_is_read_as_the_standard_says() -> None:
    """Comments, three ends of lines, a mark at the start, data in several lines."""
    assert EVENTS == parse(STREAM)


@pytest.mark.parametrize("cut", range(len(STREAM) + 1))
def test_every_place_to_cut_gives_the_same_events(cut: int) -> None:
    """In the middle of a letter, of a line's end, of the mark."""
    assert EVENTS == parse(STREAM[:cut], STREAM[cut:])


def test_one_byte_at_a_time_gives_the_same_events() -> None:
    """As a slow network does."""
    assert EVENTS == parse(*(STREAM[at : at + 1] for at in range(len(STREAM))))


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_cutting_in_many_places_gives_the_same_events(places: list[int]) -> None:
    """Empty pieces included."""
    cuts = [0, *sorted(places), len(STREAM)]
    pieces = [STREAM[a:b] for a, b in itertools.pairwise(cuts)]

    assert EVENTS == parse(*pieces)


@given(
    st.lists(st.text(min_size=1), max_size=5),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.integers(1, 7),
)
def test_any_json_comes_through_unharmed(texts: list[str], end: str, size: int) -> None:
    """Whatever stands in it, as JSON has no line ends of its own."""
    sent = [json.dumps({"t": text}, ensure_ascii=False) for text in texts]
    stream = "".join(f"data: {each}{end}{end}" for each in sent)
    data = stream.encode(errors="replace")
    pieces = [data[at : at + size] for at in range(0, len(data), size)]

    assert [each.encode(errors="replace").decode() for each in sent] == parse(*pieces)


@given(st.binary(max_size=300))
def test_no_bytes_are_too_strange(data: bytes) -> None:
    """They give events or none."""
    assert parse(data) == parse(*(data[at : at + 1] for at in range(len(data))))


def test_an_event_without_its_blank_line_is_given_at_the_end() -> None:
    """If its last line is whole; half a line is dropped."""
    assert ["a"] == parse(b"data: a\n")
    assert ["a"] == parse(b"data: a\ndata: b")
    assert [] == parse(b"data: a")


def test_a_line_that_does_not_end_is_refused() -> None:
    """Before it fills the memory, and however small the pieces are."""
    parser = EventParser(max_line_bytes=1000)
    assert ["x" * 994] == parser.feed(b"data: " + b"x" * 994 + b"\n\n")
    for _ in range(10):
        parser.feed(b"x" * 100)
    with pytest.raises(LineTooLongError):
        parser.feed(b"x")
    with pytest.raises(LineTooLongError):
        EventParser().feed(b"data: " + b"x" * 10_485_760 + b"\n\n")
