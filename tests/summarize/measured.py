"""The set of documents with abstracts, and what any summariser has to beat."""

import random
from pathlib import Path

from attrs import frozen

from taskflow_summarize._text.markup import to_plain
from taskflow_summarize._text.paragraphs import find_paragraphs
from taskflow_summarize._text.sentences import find_sentences
from taskflow_summarize._text.words import count_words, cut_to_words

MAX_WORDS = 100
"""The budget of every summary that is measured on the set."""

_FOLDER = Path(__file__).parent / "data"


@frozen
class Document:
    """A text, and the abstract that its authors wrote.

    Attributes:
        name: Such as ``nep-0019``.
        text: Without the abstract.
        abstract: At least 40 words.
    """

    name: str
    text: str
    abstract: str


def load_documents() -> list[Document]:
    """Read the set; see the README beside it."""
    return [
        Document(
            path.stem,
            path.read_text("utf-8"),
            (_FOLDER / "abstracts" / path.name).read_text("utf-8"),
        )
        for path in sorted(_FOLDER.glob("*.txt"))
    ]


def lead(text: str, max_words: int) -> str:
    """Return the beginning of the prose: what a summariser has to beat."""
    return cut_to_words(" ".join(_prose(text)), max_words)


def drawn(text: str, max_words: int, *, seed: int) -> str:
    """Return sentences drawn by lot until no other one fits, in their order."""
    sentences = [each for part in _prose(text) for each in find_sentences(part)]
    order = list(range(len(sentences)))
    random.Random(seed).shuffle(order)
    picked: list[int] = []
    left = max_words
    for index in order:
        words = count_words(sentences[index])
        if 0 < words <= left:
            picked.append(index)
            left -= words
    return " ".join(sentences[index] for index in sorted(picked))


def _prose(text: str) -> list[str]:
    return [
        each.text for each in find_paragraphs(to_plain(text)) if not each.is_heading
    ]
