"""Which sentences say what the text says: weights, centrality, choice.

Three steps, each with its source in the function that takes it: sentences become
unit vectors of TF-IDF weights; a sentence ranks by how much it has in common with
all others; and the best are picked one by one, each for what it adds to those
picked before. All of it is linear in the length of the text but the last, which
looks at a bounded number of candidates.
"""

import math
import re
from array import array
from collections import Counter
from collections.abc import Sequence
from operator import mul
from typing import Final

from attrs import frozen

from taskflow_summarize._text.sentences import ends_sentence
from taskflow_summarize._text.words import find_terms

_CANDIDATES: Final = 250
_RELEVANCE: Final = 0.5  # against novelty, in `choose`
_LEAST_LEFT: Final = 5  # words; a rest this small is not filled
_LONGEST_DIVERSE: Final = 2000  # words; a longer choice is by score alone

_OPENING: Final = 1.5  # for the first sentence of a paragraph
_LEANING: Final = 0.7  # for one that points back to what will not be there
_POINTING_BACK: Final = re.compile(
    r"(?:and|but|he|her|his|however|it|its|she|so|such|that|their|therefore|these"
    r"|they|this|those|thus|aber|also|daher|das|dies\w*|doch|er|es|ihr\w*|jedoch|sie"  # codespell:ignore
    r"|ce|cela|ces|cette|elle|elles|il|ils|leur|mais|donc|ese|eso|esta|este|esto"
    r"|pero|sin embargo|su|sus|essa|esso|essi|però|ma|perciò|questa|questo|tuttavia"
    r"|но|он|она|они|это|этот|эта|эти|поэтому)\b",
    re.IGNORECASE,
)

_SHORT_WORDS: Final = 5
_LONG_WORDS: Final = 45
_LETTERS: Final = 0.6
_LETTER: Final = re.compile(r"[^\W\d_]")
_QUESTION_MARKS: Final = ("?", "\uff1f", "\u061f")
_BOILERPLATE: Final = re.compile(
    r"copyright|©|\(c\) \d{4}|all rights reserved|https?://|www\.|cookies?\b"
    r"|subscribe|sign up|click here|newsletter|terms of (?:use|service)",
    re.IGNORECASE,
)


@frozen(slots=True)
class Sentence:
    """One sentence that may be picked.

    Attributes:
        text: As it stands in the source.
        words: Its length.
        is_opening: Whether a paragraph begins with it.
    """

    text: str
    words: int
    is_opening: bool = False


class Vectors:
    """Sentences as unit vectors of TF-IDF weights.

    A weight is the number of times the term is in the sentence, times the
    logarithm of (sentences / sentences that hold the term), so a word of every
    sentence weighs nothing and no list of stop words in any language is needed.

    Terms are numbers and vectors pairs of arrays, not dictionaries: the vectors of
    a text of 10 MB then take 35 MB.

    Source:
        Salton and Buckley, "Term-weighting approaches in automatic text
        retrieval", Information Processing & Management 24(5), 1988, applied to
        sentences as in Erkan and Radev (see `centralities`).
    """

    def __init__(self, texts: Sequence[str]) -> None:
        numbers: dict[str, int] = {}
        held: list[int] = []  # by how many sentences, for each term
        counted: list[tuple[array[int], array[float]]] = []
        for text in texts:
            counts = Counter(find_terms(text))
            terms = array("i")
            for term in counts:
                number = numbers.setdefault(term, len(numbers))
                if number == len(held):
                    held.append(0)
                held[number] += 1
                terms.append(number)
            counted.append((terms, array("d", counts.values())))
        rarity = [math.log(len(texts) / times) for times in held]
        self._size = len(numbers)
        self._vectors = [
            (terms, _to_unit(terms, weights, rarity)) for terms, weights in counted
        ]

    def centralities(self) -> list[float]:
        """Return how much each sentence has in common with all the others.

        Returns:
            For each sentence the sum of its cosines with every other one: its
            degree in the graph of similarities.

        Source:
            Erkan and Radev, "LexRank: Graph-based Lexical Centrality as Salience
            in Text Summarization", JAIR 22, 2004, section 3.1 (degree
            centrality), without a threshold. As the vectors have length one,
            the sum of the dot products with all sentences is the dot product with
            the sum of all sentences, so the matrix of n squared cosines is
            never made. The power iteration of their section 3.2 was measured on
            120 documents with human abstracts: 0.1 points more for three
            times the time.
        """
        total = [0.0] * self._size
        for terms, weights in self._vectors:
            for term, weight in zip(terms, weights, strict=True):
                total[term] += weight
        return [
            sum(map(mul, weights, map(total.__getitem__, terms))) - 1.0
            for terms, weights in self._vectors
        ]

    def as_mapping(self, index: int) -> dict[int, float]:
        """Return the vector of one sentence, by the numbers of its terms."""
        return dict(zip(*self._vectors[index], strict=True))


def _to_unit(
    terms: "array[int]", counts: "array[float]", rarity: Sequence[float]
) -> "array[float]":
    weights = array("d", map(mul, counts, map(rarity.__getitem__, terms)))
    length = math.sqrt(sum(map(mul, weights, weights)))
    return array("d", [w / length for w in weights]) if length else weights


def rank(sentences: Sequence[Sentence], vectors: Vectors) -> list[float]:
    """Score each sentence for how well it stands for the whole text.

    Args:
        sentences: In the order of the text.
        vectors: Theirs.

    Returns:
        Scores from 0 to 1, the best being 1 unless all are 0.

    Source:
        Centrality, times a bonus for an early position that falls from 2 to 1
        over the first sentences (Edmundson, "New Methods in Automatic
        Extracting", Journal of the ACM 16(2), 1969: the location method), times
        1.5 at the beginning of a paragraph (Baxendale, "Machine-Made Index for
        Technical Literature", IBM Journal 2(4), 1958: where 85 % of paragraphs
        have their topic sentence), times what `_fitness` takes off.
    """
    total = len(sentences)
    reach = max(3.0, 0.02 * total)
    raw = [
        max(0.0, centrality)
        * (1.0 + math.exp(-index / reach))
        * (_OPENING if sentence.is_opening else 1.0)
        * _fitness(sentence)
        for index, (centrality, sentence) in enumerate(
            zip(vectors.centralities(), sentences, strict=True)
        )
    ]
    best = max(raw, default=0.0)
    return [score / best for score in raw] if best else raw


def _fitness(sentence: Sentence) -> float:
    """Return 1 for a plain statement, less for what reads badly out of its place."""
    text = sentence.text
    fitness = 1.0
    if sentence.words < _SHORT_WORDS:
        fitness *= 0.3
    elif sentence.words > _LONG_WORDS:
        fitness *= 0.7
    if text.endswith(_QUESTION_MARKS) or not ends_sentence(text):
        fitness *= 0.5
    if len(_LETTER.findall(text)) < _LETTERS * len(text.replace(" ", "")):
        fitness *= 0.4
    if _POINTING_BACK.match(text):
        fitness *= _LEANING
    if _BOILERPLATE.search(text):
        fitness *= 0.2
    return fitness


def choose(
    sentences: Sequence[Sentence],
    scores: Sequence[float],
    vectors: Vectors,
    *,
    max_words: int,
) -> list[int]:
    """Pick sentences for a summary, each for what it adds to those before it.

    Args:
        sentences: In the order of the text.
        scores: Theirs, from `rank`.
        vectors: Theirs.
        max_words: Most words altogether.

    Returns:
        Indices in the order of the text; empty when no sentence is short enough.

    Source:
        Carbonell and Goldstein, "The Use of MMR, Diversity-Based Reranking for
        Reordering Documents and Producing Summaries", SIGIR 1998, with lambda
        0.5: half the score, less half the highest cosine with one already picked.
        From 0.4 to 0.85 the summaries of 28 documents with abstracts (see
        ``tests/benchmarks/summaries.py``) differ by 0.6 points of ROUGE-1 at most.
        Only the 250 best are looked at, or more where the sentences are so short
        that the budget could hold more. A choice of more than 2000 words, which
        is no summary but a text made shorter, goes by score alone.
    """
    order = sorted(range(len(sentences)), key=lambda i: (-scores[i], i))
    order = _distinct([i for i in order if sentences[i].words <= max_words], sentences)
    if max_words > _LONGEST_DIVERSE:
        return _fill(order, sentences, max_words)
    candidates = {
        index: vectors.as_mapping(index)
        for index in order[: max(_CANDIDATES, max_words // 4)]
    }
    nearest = dict.fromkeys(candidates, 0.0)
    picked: list[int] = []
    left = max_words
    while left >= min(_LEAST_LEFT, max_words):
        best = max(
            (index for index in candidates if sentences[index].words <= left),
            key=lambda i: (_RELEVANCE * scores[i] - (1 - _RELEVANCE) * nearest[i], -i),
            default=None,
        )
        if best is None:
            break
        vector = candidates.pop(best)
        picked.append(best)
        left -= sentences[best].words
        for index, other in candidates.items():
            cosine = sum(w * vector[t] for t, w in other.items() if t in vector)
            nearest[index] = max(nearest[index], cosine)
    return sorted(picked)


def _distinct(order: Sequence[int], sentences: Sequence[Sentence]) -> list[int]:
    """Leave out what repeats an earlier one to the letter: headers, footers."""
    seen: set[str] = set()
    distinct: list[int] = []
    for index in order:
        text = sentences[index].text.casefold()
        if text not in seen:
            seen.add(text)
            distinct.append(index)
    return distinct


def _fill(
    order: Sequence[int], sentences: Sequence[Sentence], max_words: int
) -> list[int]:
    picked: list[int] = []
    left = max_words
    for index in order:
        if sentences[index].words <= left:
            picked.append(index)
            left -= sentences[index].words
    return sorted(picked)
