"""How much of a person's summary is in one that a program made.

Source:
    Lin, "ROUGE: A Package for Automatic Evaluation of Summaries",  codespell:ignore
    ACL 2004: the N-measure, the overlap of n-grams counted with their repetitions.
    Words are not stemmed, so that it is the same in every language.
"""

from collections import Counter
from collections.abc import Sequence

from taskflow_summarize._text.words import find_tokens


def overlap(summary: str, reference: str, *, n: int) -> float:
    """Return the F1 of their n-grams, 0 to 100."""
    made = _grams(find_tokens(summary), n)
    wanted = _grams(find_tokens(reference), n)
    shared = (made & wanted).total()
    if not shared:
        return 0.0
    precision, recall = shared / made.total(), shared / wanted.total()
    return 200 * precision * recall / (precision + recall)


def _grams(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
