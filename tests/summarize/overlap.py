"""How much of a person's summary is in one that a program made.

Source:
    Lin, "ROUGE: A Package for Automatic Evaluation of Summaries",  codespell:ignore
    ACL 2004: the N-measure, the overlap of n-grams counted with their repetitions,
    and the L-measure, the longest common subsequence. Words are not stemmed, so
    that it is the same in every language.
"""

from collections import Counter
from collections.abc import Sequence

from taskflow_summarize._text.words import find_tokens


def overlap(summary: str, reference: str, *, n: int) -> float:
    """Return the F1 of their n-grams, 0 to 100."""
    made = _grams(find_tokens(summary), n)
    wanted = _grams(find_tokens(reference), n)
    return _f1((made & wanted).total(), made.total(), wanted.total())


def common_order(summary: str, reference: str) -> float:
    """Return the F1 of their longest common subsequence of words, 0 to 100."""
    made, wanted = find_tokens(summary), find_tokens(reference)
    return _f1(_longest(made, wanted), len(made), len(wanted))


def _f1(shared: int, made: int, wanted: int) -> float:
    if not shared:
        return 0.0
    precision, recall = shared / made, shared / wanted
    return 200 * precision * recall / (precision + recall)


def _grams(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def _longest(first: Sequence[str], second: Sequence[str]) -> int:
    row = [0] * (len(second) + 1)
    for word in first:
        before = 0
        for place, other in enumerate(second, 1):
            above = row[place]
            row[place] = before + 1 if word == other else max(above, row[place - 1])
            before = above
    return row[-1]
