"""Long texts to pieces: nothing lost, nothing too long, cut where one may cut."""
# ruff: noqa: RUF001 - the marks of many scripts

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from taskflow_summarize._chunking import split_text
from taskflow_summarize._prompt import estimate_tokens
from taskflow_summarize.samples import load_samples

ANY_TEXT = st.text(
    alphabet=st.characters(exclude_categories=["Cs"]), max_size=600
) | st.text(alphabet="ab. \n。！ي ก漢", max_size=600)


@given(ANY_TEXT, st.integers(2, 60))
@example("x" * 500, 2)
@example("😀" * 100, 2)
@example(" \n\n " * 100, 3)
def test_pieces_are_the_text(text: str, most: int) -> None:
    """One after the other, to the last blank; and none is too long."""
    pieces = split_text(text, most_tokens=most)

    assert text == "".join(pieces)
    assert all(estimate_tokens(piece) <= most for piece in pieces)
    assert all(pieces) or text == ""


@pytest.mark.parametrize(
    "sample",
    [each for each in load_samples() if each.name != "bees"],  # it has no full stops
    ids=lambda sample: sample.name,
)
def test_a_text_is_cut_at_ends_of_sentences(sample) -> None:
    """In each language that ships, and into pieces of about one length."""
    pieces = split_text(sample.text, most_tokens=400)
    sizes = [estimate_tokens(piece) for piece in pieces]

    assert sample.text == "".join(pieces)
    ends = [piece.rstrip()[-1] for piece in pieces]
    assert sum(end in '.!?…"”»)。！？」:;' for end in ends) >= 0.8 * len(ends)
    assert max(sizes) <= 400
    assert min(sizes) > 200


def test_wrapped_lines_are_no_ends_of_sentences() -> None:
    """A line break inside a sentence is a blank."""
    text = "The first sentence goes\nover two lines. The second\none as well.\n"

    assert [
        "The first sentence goes\nover two lines. ",
        "The second\none as well.\n",
    ] == split_text(text, most_tokens=15)


def test_a_word_without_end_is_cut() -> None:
    """A hundred kilobytes without a blank are no reason to fail."""
    pieces = split_text("x" * 100_000, most_tokens=1000)

    assert {"x"} == set("".join(pieces))
    assert 34 <= len(pieces) <= 42


def test_two_megabytes_take_no_time() -> None:
    """The time is linear in the length."""
    text = "A short sentence stands here. " * 70_000
    began = time.process_time()
    pieces = split_text(text, most_tokens=12_000)

    assert text == "".join(pieces)
    assert time.process_time() - began < 5
