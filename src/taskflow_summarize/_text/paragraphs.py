"""Plain lines to paragraphs: undo the wrapping, keep apart what stands apart.

A line break is a space in wrapped prose and an end in a list, a heading or a
verse. What decides is the width of the page: in text that was wrapped, a line
that ends well before the margin is the last of its paragraph.
"""

import re
from collections.abc import Iterator
from typing import Final

from attrs import frozen

from taskflow_summarize._text.markup import HEADING
from taskflow_summarize._text.sentences import ends_sentence
from taskflow_summarize._text.words import count_words, is_dense

_ITEM: Final = re.compile(r"\s*(?:[-*+•‣⁃◦▪●·]\s+|\(?\d{1,3}[.)]\s+|\(?[a-z]\)\s+)")  # noqa: RUF001
_HYPHENATED: Final = re.compile(r"[^\W\d_]{2}-$")
_WIDEST_WRAPPED: Final = 120  # characters; longer lines are paragraphs
_SHORT_LINE: Final = 0.6  # of the width
_HEADING_WORDS: Final = 12
_SAMPLED_LINES: Final = 5000


@frozen
class Paragraph:
    """One paragraph on one line.

    Attributes:
        text: Its text, single spaces.
        is_heading: Whether it names what follows.
    """

    text: str
    is_heading: bool = False


def find_paragraphs(plain: str) -> list[Paragraph]:
    r"""Put the lines of *plain* together again.

    Args:
        plain: What `to_plain` gives.

    Returns:
        Paragraphs in order, none of them empty.

    Example:
        >>> [each.text for each in find_paragraphs("A line and\nits end.\n\nNext.")]
        ['A line and its end.', 'Next.']
    """
    lines = plain.split("\n")
    width = _width(lines)
    found: list[Paragraph] = []
    block: list[str] = []
    for line in lines:
        if line and not line.isspace():
            block.append(line)
        elif block:
            found.extend(_join(block, width))
            block = []
    if block:
        found.extend(_join(block, width))
    return found


def _width(lines: list[str]) -> int:
    """Return the margin the text was wrapped at; 0 when it was not."""
    step = max(1, len(lines) // _SAMPLED_LINES)
    lengths = sorted(len(line) for line in lines[::step] if line and not line.isspace())
    if not lengths:
        return 0
    width = lengths[len(lengths) * 9 // 10]
    return width if width <= _WIDEST_WRAPPED else 0


def _join(block: list[str], width: int) -> Iterator[Paragraph]:
    """Split the lines between two blank ones into paragraphs."""
    parts: list[str] = []
    previous = ""
    for line in block:
        if line.startswith(HEADING):
            yield from _made_of(parts)
            parts = []
            text = " ".join(line[len(HEADING) :].split())
            if text:
                yield Paragraph(text, is_heading=True)
            previous = ""
            continue
        item = _ITEM.match(line)
        if parts and (item or not _goes_on(previous, line, width)):
            yield from _made_of(parts)
            parts = []
        parts.append(line[item.end() :] if item else line)
        previous = line
    is_title = len(block) == len(parts) == 1 and parts[0] == block[0]
    yield from _made_of(parts, is_title=is_title)


def _goes_on(line: str, following: str, width: int) -> bool:
    if following.lstrip()[:1].islower() and not ends_sentence(line.rstrip()):
        return True
    return width > 0 and len(line) >= _SHORT_LINE * width


def _made_of(parts: list[str], *, is_title: bool = False) -> Iterator[Paragraph]:
    pieces: list[str] = []
    for part in parts:
        piece = " ".join(part.split())
        if not piece:
            continue
        if pieces:
            last = pieces[-1]
            if _HYPHENATED.search(last[-4:]) and piece[0].islower():
                pieces[-1] = last[:-1]
            elif not (is_dense(last[-1]) and is_dense(piece[0])):
                pieces.append(" ")
        pieces.append(piece)
    if not pieces:
        return
    text = "".join(pieces)
    is_heading = (
        is_title and not ends_sentence(text) and count_words(text) <= _HEADING_WORDS
    )
    yield Paragraph(text, is_heading)
