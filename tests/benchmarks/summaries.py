"""Measure the offline summaries against abstracts that people wrote.

    python tests/benchmarks/summaries.py [--rouge-score] [--documents]

Prints ROUGE-1, ROUGE-2 and ROUGE-L (F1) of summaries of 100 words over the set in
``tests/summarize/data``, beside those of the first 100 words and of sentences drawn
by lot, which are told from the same text by the same code. The gain in ROUGE-1 comes
with the interval that 95 % of 10,000 resamplings of the documents fall in. Needs no
network; ``--rouge-score`` measures with that package from PyPI, stems and all.
"""

import argparse
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean

sys.path.insert(0, str(Path(__file__).parents[2]))

from taskflow_summarize._providers.extractive import extract
from tests.summarize.measured import MAX_WORDS, Document, drawn, lead, load_documents
from tests.summarize.overlap import common_order, overlap

DRAWS = 20
RESAMPLINGS = 10_000

Scores = tuple[float, float, float]
Measure = Callable[[str, str], Scores]


def own_measure(made: str, abstract: str) -> Scores:
    """Measure without stems, as the tests do."""
    return (
        overlap(made, abstract, n=1),
        overlap(made, abstract, n=2),
        common_order(made, abstract),
    )


def their_measure() -> Measure:
    """Return the measure of the package rouge-score, with its stemmer."""
    from rouge_score.rouge_scorer import RougeScorer

    kinds = ("rouge1", "rouge2", "rougeL")
    scorer = RougeScorer(kinds, use_stemmer=True)

    def measure(made: str, abstract: str) -> Scores:
        scores = scorer.score(abstract, made)
        first, second, longest = (100 * scores[kind].fmeasure for kind in kinds)
        return first, second, longest

    return measure


def gain_interval(ours: list[float], theirs: list[float]) -> tuple[float, float]:
    """Return where 95 % of the mean differences of resampled documents lie."""
    rng = random.Random(1)
    gains = [our - their for our, their in zip(ours, theirs, strict=True)]
    means = sorted(mean(rng.choices(gains, k=len(gains))) for _ in range(RESAMPLINGS))
    return means[RESAMPLINGS // 40], means[-RESAMPLINGS // 40]


def show(name: str, rows: list[Scores]) -> None:
    """Print the means of one way to summarise."""
    columns = zip(*rows, strict=True)
    print(f"{name:<24}", *(f"{mean(column):7.2f}" for column in columns))


def main() -> int:
    """Measure, print, and end with 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rouge-score", action="store_true", help="with its stems")
    parser.add_argument("--documents", action="store_true", help="print each one")
    chosen = parser.parse_args()
    measure = their_measure() if chosen.rouge_score else own_measure
    documents = load_documents()

    started = time.process_time()
    summaries = [extract(each.text, max_words=MAX_WORDS) for each in documents]
    seconds = time.process_time() - started
    ours = [
        measure(made.text, each.abstract)
        for made, each in zip(summaries, documents, strict=True)
    ]
    first = [measure(lead(each.text, MAX_WORDS), each.abstract) for each in documents]
    lots = [by_lot(each, measure) for each in documents]

    print(f"{'of ' + str(len(documents)) + ' documents':<24}      R1      R2      RL")
    show("extractive", ours)
    show(f"first {MAX_WORDS} words", first)
    show("by lot", lots)
    low, high = gain_interval([row[0] for row in ours], [row[0] for row in first])
    print(f"gain in R1 over the first words, 95 %: {low:+.2f} to {high:+.2f}")
    words = sum(made.source_words for made in summaries)
    print(f"{1000 * seconds / words * 1000:.1f} ms of CPU for 1,000 words")
    if chosen.documents:
        for each, our, their in zip(documents, ours, first, strict=True):
            print(f"{each.name}  {our[0]:5.1f}  {their[0]:5.1f}")
    return 0


def by_lot(document: Document, measure: Measure) -> Scores:
    """Return the means of several draws."""
    rows = [
        measure(drawn(document.text, MAX_WORDS, seed=seed), document.abstract)
        for seed in range(DRAWS)
    ]
    first, second, longest = (mean(column) for column in zip(*rows, strict=True))
    return first, second, longest


if __name__ == "__main__":
    sys.exit(main())
