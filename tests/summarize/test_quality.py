"""The summaries of the texts that ship, against what a person wrote."""

from statistics import mean

import pytest
from overlap import overlap

from taskflow_summarize._providers.extractive import extract
from taskflow_summarize._text.markup import to_plain
from taskflow_summarize._text.paragraphs import find_paragraphs
from taskflow_summarize._text.words import cut_to_words
from taskflow_summarize.samples import load_samples

WITH_ABSTRACT = [sample for sample in load_samples() if sample.abstract]


def lead(text: str, max_words: int) -> str:
    """Return the beginning: what a summariser has to beat."""
    prose = [
        each.text for each in find_paragraphs(to_plain(text)) if not each.is_heading
    ]
    return cut_to_words(" ".join(prose), max_words)


def test_the_measure_counts_what_is_shared() -> None:
    """Three of four words each way; two of three pairs."""
    made, reference = "the cat sat down", "the cat sat up"

    assert [75.0, pytest.approx(66.67, abs=0.01), 0.0] == [
        overlap(made, reference, n=1),
        overlap(made, reference, n=2),
        overlap("dogs", reference, n=1),
    ]


@pytest.mark.parametrize("n", [1, 2])
def test_summaries_are_nearer_to_a_persons_than_the_beginning_is(n: int) -> None:
    """On average over texts in five languages and three budgets."""
    budgets = (90, 120, 160)
    ours, beginnings = (
        mean(
            overlap(make(sample.text, budget), sample.abstract or "", n=n)
            for sample in WITH_ABSTRACT
            for budget in budgets
        )
        for make in (lambda text, words: extract(text, max_words=words).text, lead)
    )

    assert len(WITH_ABSTRACT) >= 8
    assert ours > beginnings + 0.5
