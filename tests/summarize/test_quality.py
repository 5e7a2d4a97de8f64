"""The summaries of the texts that ship, against what a person wrote."""

from collections.abc import Callable
from pathlib import Path
from statistics import mean

import pytest

from taskflow_summarize._providers.extractive import extract
from taskflow_summarize.samples import load_samples
from tests.summarize.measured import MAX_WORDS, lead, load_documents
from tests.summarize.overlap import common_order, overlap

WITH_ABSTRACT = [sample for sample in load_samples() if sample.abstract]


def test_the_measure_counts_what_is_shared() -> None:
    """Three of four words each way; two of three pairs; an order kept."""
    made, reference = "the cat sat down", "the cat sat up"

    assert [75.0, pytest.approx(66.67, abs=0.01), 0.0] == [
        overlap(made, reference, n=1),
        overlap(made, reference, n=2),
        overlap("dogs", reference, n=1),
    ]
    assert [75.0, 50.0, 0.0] == [
        common_order(made, reference),
        common_order("sat the dog cat", reference),
        common_order("dogs", reference),
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


def measured(make: Callable[[str, int], str]) -> tuple[float, float, float]:
    """Return mean ROUGE-1, -2 and -L over the set."""
    rows = [
        (
            overlap(made, each.abstract, n=1),
            overlap(made, each.abstract, n=2),
            common_order(made, each.abstract),
        )
        for each in load_documents()
        for made in [make(each.text, MAX_WORDS)]
    ]
    first, second, longest = (mean(column) for column in zip(*rows, strict=True))
    return first, second, longest


def test_summaries_of_the_set_are_as_near_to_the_abstracts_as_is_documented() -> None:
    """Two points of ROUGE-1 above the beginning, and the figures of the guide."""
    ours = measured(lambda text, words: extract(text, max_words=words).text)
    beginnings = measured(lead)
    gains = [our - their for our, their in zip(ours, beginnings, strict=True)]
    guide = (Path(__file__).parents[2] / "docs/guide/summarize.md").read_text("utf-8")

    assert 28 == len(load_documents())
    assert gains[0] >= 2.0
    assert min(gains) >= 0.5
    assert f"| {' | '.join(f'{figure:.1f}' for figure in ours)} |" in guide
    assert f"| {' | '.join(f'{figure:.1f}' for figure in beginnings)} |" in guide
