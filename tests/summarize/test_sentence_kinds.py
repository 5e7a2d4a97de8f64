"""Sentence ends of many kinds are found."""

import pytest

from taskflow_summarize._text.sentences import ends_sentence, find_sentences
from tests.summarize.sentence_kinds import KINDS, Kind


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_sentences_of_each_kind_are_found(kind: Kind) -> None:
    """Neither more nor fewer."""
    assert list(kind.sentences) == find_sentences(kind.text, language=kind.language)


@pytest.mark.parametrize(
    "sentence",
    [
        "I 💙 Rome very much.",
        "He met J. A. Smith and J. K. Lee.",
        "See Art. 5 and Tab. 7 and no. 8 of it.",
        "It rose by 3.5 percent in the U.S. Virgin Islands.",
        "The call is at 9 a.m. EST or at 3 p.m. CET.",
        "ผม ไป ที่ นั่น",
    ],
)
def test_what_only_looks_like_an_end_ends_nothing(sentence: str) -> None:
    """One sentence stays one."""
    assert [sentence] == find_sentences(sentence)


def test_an_emoji_ends_a_sentence() -> None:
    """As a writer means it."""
    assert ends_sentence("What a day 🎉")
