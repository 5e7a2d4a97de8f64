"""A long text to pieces that fit a model's window: lossless, at ends of sentences."""

import re
from collections.abc import Iterator
from typing import Final

from taskflow_summarize._text.sentences import find_sentences

_PARAGRAPH_END: Final = re.compile(r"\n[^\S\n]*\n\s*")
_SPACE: Final = str.maketrans(dict.fromkeys("\t\n\v\f\r", " "))
_BYTES_PER_TOKEN: Final = 3
_FULL: Final = 0.85
_TRANSLATED: Final = 4  # most bytes of UTF-8 in a character


def split_text(
    text: str, *, most_tokens: int, language: str | None = None
) -> list[str]:
    """Split *text* into pieces of at most *most_tokens*, about equally long.

    Args:
        text: Any text.
        most_tokens: Of one piece, as `estimate_tokens` estimates; at least 2.
        language: Its code, or None; for the ends of sentences.

    Returns:
        The pieces: one after the other they are the text, to the last blank. They
        end with a paragraph or a sentence where one ends near enough, else at a
        blank, and inside a word only where there is no blank.

    Example:
        >>> split_text("One went. Two came. Three left.", most_tokens=7)
        ['One went. Two came. ', 'Three left.']
    """
    budget = most_tokens * _BYTES_PER_TOKEN
    total = _size(text)
    if total <= budget:
        return [text]
    # Equal pieces, with room for a sentence: the last one is not a stub without
    # context.
    aim = total / -(-total // max(1, int(budget * _FULL)))
    pieces: list[str] = []
    current: list[str] = []
    size = done = 0
    for part in _parts(text, budget, language):
        added = _size(part)
        is_due = done + size + added / 2 > aim * (len(pieces) + 1)
        if current and (size + added > budget or is_due):
            pieces.append("".join(current))
            done += size
            current, size = [], 0
        current.append(part)
        size += added
    if current:
        pieces.append("".join(current))
    return pieces


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))


def _parts(text: str, budget: int, language: str | None) -> Iterator[str]:
    """Yield sentences with the blanks that follow, none above the budget."""
    for paragraph in _paragraphs(text):
        starts = [0]
        # Same length, so what is found there stands at the same place here.
        line = paragraph.translate(_SPACE)
        at = 0
        for sentence in find_sentences(line, language=language):
            found = line.find(sentence, at)
            if found > starts[-1]:
                starts.append(found)
            at = max(at, found + len(sentence))
        for start, end in zip(starts, [*starts[1:], len(paragraph)], strict=True):
            yield from _cut(paragraph[start:end], budget)


def _paragraphs(text: str) -> Iterator[str]:
    start = 0
    for match in _PARAGRAPH_END.finditer(text):
        yield text[start : match.end()]
        start = match.end()
    if start < len(text):
        yield text[start:]


def _cut(part: str, budget: int) -> Iterator[str]:
    """Cut what is too long, at a blank if there is one."""
    while _size(part) > budget:
        end = min(len(part), budget)
        while _size(part[:end]) > budget:
            end -= max(1, (_size(part[:end]) - budget) // _TRANSLATED)
        blank = part.rfind(" ", end // 2, end)
        end = blank + 1 if blank >= 0 else max(1, end)
        yield part[:end]
        part = part[end:]
    if part:
        yield part
