r"""Text as people paste it, to plain lines: HTML, Markdown, subtitles, controls.

Every step is one pass. A pattern of the kind ``<script.*?</script>`` is not used:
on a page with many openings and no end it reads the rest of the text once for
each of them, and 10 MB then take hours.

A heading keeps its place in the text as a line that begins with `HEADING`, a
control character that no input can bring along.
"""

import html
import re
import unicodedata
from collections.abc import Iterator
from typing import Final

from taskflow_summarize._text.words import word_set

HEADING: Final = "\x02"

# All controls but tab and newline, invisible marks of direction, soft hyphens.
_CONTROLS: Final = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u200b\u200e\u200f\u202a-\u202e"
    "\u2060-\u2064\u2066-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
_LINE_ENDS: Final = re.compile("\r\n?|[\x0b\x0c\x85\u2028]")

_HIDDEN: Final = word_set(
    "button canvas footer form iframe math nav noscript object pre script select "
    "style svg template textarea"
)
_HEADINGS: Final = word_set("h1 h2 h3 h4 h5 h6 title caption")
_BLOCKS: Final = word_set(
    "address article aside blockquote body br center dd details dialog div dl dt "
    "fieldset figcaption figure head header hgroup hr html legend li main menu ol "
    "p section summary table tbody td tfoot th thead tr ul"
)
_INLINE: Final = word_set(
    "a abbr acronym b bdi bdo big cite code data del dfn em font i img input ins "
    "kbd label link map mark meta q rp rt ruby s samp small source span strike "
    "strong sub sup time tt u var video audio wbr"
)
_KNOWN: Final = _HIDDEN | _HEADINGS | _BLOCKS | _INLINE
_TAG: Final = re.compile(r"<!--|-->|<!\w[^<>]*>|<(/?)([A-Za-z][A-Za-z0-9]*)\b[^<>]*>")
_PAGE: Final = re.compile(
    r"<(?:!doctype html|html|body|p|div|li|td|h[1-6])\b", re.IGNORECASE
)
_TAGS_OF_A_PAGE: Final = 3

_FENCE: Final = re.compile(r" {0,3}(```+|~~~+)")
_ATX_HEADING: Final = re.compile(r" {0,3}#{1,6}\s+(.*?)\s*#*$")
_UNDERLINE: Final = re.compile(r"\s*([=\-~^\"'`+*#_.:])\1{2,}\s*$")
_RULE: Final = re.compile(r"[\s*_\-=~+|#.:]+$")
_QUOTE: Final = re.compile(r"\s*(?:>\s?)+")
_TABLE_ROW: Final = re.compile(r"\s*\|.*\|\s*$")
_DIRECTIVE: Final = re.compile(r"\s*\.\. (?:\S.*::|_|\[|\|)")
_LITERAL: Final = re.compile(
    r"\s*\.\. (?:code|code-block|csv-table|figure|image|list-table|literalinclude|math"
    r"|parsed-literal|raw|sourcecode|table|toctree)::"
)
_DOCTEST: Final = re.compile(
    r"(?:\s+>>> |>>> (?:[\w.\[\], ]+\s?[=(]|\w+$|(?:from|import|def|class|for|with|if) |[@#]))"
)
_MARGIN: Final = re.compile(r"\s*(?:[-*+]\s+|\(?\d{1,3}[.)]\s+)?")
_LINK_TARGET: Final = re.compile(r"\s{0,3}\[[^\]\n]{1,200}\]:\s+\S")
_LEFT_OUT: Final = (_RULE, _TABLE_ROW, _DIRECTIVE, _LINK_TARGET)
_SUBTITLE_TIME: Final = re.compile(r"\s*\d{1,2}:\d\d(?::\d\d)?[.,]\d{3} --> ")
_NUMBER_LINE: Final = re.compile(r"\s*\d+\s*$")

# In a class that ends the match at once, so that a lone opening costs little.
_IMAGE: Final = re.compile(
    r"!\[[^\[\]\n]{0,500}\](?:\([^()\s]{0,2000}[^()\n]{0,300}\))"
)
_LINK: Final = re.compile(r"\[([^\[\]\n]{1,500})\]\([^()\s]{0,2000}[^()\n]{0,300}\)")
_STRONG: Final = re.compile(
    r"(?<!\w)(\*\*\*|\*\*|___|__)(?=\S)([^*_\n]{1,1000})(?<=\S)\1"
)
_EMPHASIS: Final = re.compile(
    r"(?<![\w*])([*_])(?=\S)([^*_\n]{1,1000})(?<=\S)\1(?![\w*])"
)
# Of reStructuredText too, where an underscore after it makes it a link.
_CODE: Final = re.compile(r"(`{1,2})([^`\n]{1,500}(?:\n[^`\n]{1,500})?)\1(?:__?\b)?")
_TARGET: Final = r"`([^`<>]{1,500}?)\s+<[^`<>\s]{1,2000}>`"
_NAMED_LINK: Final = re.compile(rf"{_TARGET}__?\b")
_NAMED_ROLE: Final = re.compile(rf":[a-z]{{2,12}}:{_TARGET}")
_FOOTNOTE: Final = re.compile(r" ?\[[#*]?[\w .-]{0,40}\]_(?!\w)")
_ROLE: Final = re.compile(r":[a-z]{2,12}:(?=`)")


def to_plain(content: str) -> str:
    r"""Strip *content* of markup.

    Args:
        content: Text, HTML, Markdown, reStructuredText or subtitles.

    Returns:
        Lines in NFC, with ``\n`` between them. Code blocks, tables, scripts,
        navigation and link targets are gone; headings begin with `HEADING`.

    Example:
        >>> to_plain("Read **this** [page](https://example.org).")
        'Read this page.'
    """
    lines = _drop_literals(strip_tags(content).split("\n"))
    text = "\n".join(_strip_lines(lines))
    return _strip_spans(text)


def strip_tags(content: str) -> str:
    r"""Strip *content* of HTML and of control characters alone.

    Args:
        content: Text, with HTML or without.

    Returns:
        Lines in NFC, with ``\n`` between them. Whether a line break counts depends
        on what it is: on a page it is a space, in a text with some tags it stays.
    """
    text = unicodedata.normalize("NFC", content)
    text = _LINE_ENDS.sub("\n", text).replace("\u2029", "\n\n")
    text = _CONTROLS.sub("", text)
    return _strip_tags(text) if "<" in text else text


def _strip_tags(text: str) -> str:
    is_page = _count_up_to(_PAGE, text, _TAGS_OF_A_PAGE) == _TAGS_OF_A_PAGE
    ends = _Ends(text.lower() if is_page else text)
    pieces: list[str] = []
    hidden_until = ""  # the end that brings the text back, or nothing
    depth = 0
    end = 0
    for tag in _TAG.finditer(text):
        name = (tag[2] or "").lower()
        if hidden_until:
            if hidden_until == tag[0] or hidden_until == name:
                depth += -1 if tag[1] or hidden_until == "-->" else 1
                if depth == 0:
                    hidden_until = ""
                    end = tag.end()
            continue
        if name and name not in _KNOWN:
            continue
        between = text[end : tag.start()]
        pieces.append(" ".join(between.split("\n")) if is_page else between)
        end = tag.end()
        if tag[0] == "<!--":
            hidden_until, depth = ("-->", 1) if ends.last("-->") >= end else ("", 0)
        elif name in _HIDDEN and not tag[1] and is_page:
            # One that never ends is not allowed to swallow the rest of the page.
            if ends.last(f"</{name}") >= end:
                hidden_until, depth = name, 1
        else:
            pieces.append(_in_place_of(name, closes=bool(tag[1]), is_page=is_page))
    if not hidden_until:
        pieces.append(text[end:])
    stripped = "".join(pieces)
    return html.unescape(stripped) if is_page else stripped


class _Ends:
    """Remembers where each end stands last; a search for every tag is quadratic."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._found: dict[str, int] = {}

    def last(self, mark: str) -> int:
        if mark not in self._found:
            self._found[mark] = self._text.rfind(mark)
        return self._found[mark]


def _count_up_to(pattern: re.Pattern[str], text: str, limit: int) -> int:
    found = 0
    for _ in pattern.finditer(text):
        found += 1
        if found == limit:
            break
    return found


def _in_place_of(name: str, *, closes: bool, is_page: bool) -> str:
    if name in _HEADINGS:
        return "\n\n" if closes else f"\n\n{HEADING}"
    if name == "br":
        return "\n"
    if name in _BLOCKS and is_page:
        return "\n\n"
    return ""


def _strip_lines(lines: list[str]) -> Iterator[str]:
    fence = ""
    is_subtitle = any(_SUBTITLE_TIME.match(line) for line in lines[:20])
    fenced = _matched_fences(lines)
    start = _end_of_front_matter(lines)
    for index in range(start, len(lines)):
        line = lines[index]
        opening = _FENCE.match(line) if fenced else None
        if opening:
            mark = opening[1][:3]
            if fence in {"", mark}:
                fence = "" if fence else mark
                yield ""
                continue
        if fence:
            continue
        if is_subtitle and (_SUBTITLE_TIME.match(line) or _NUMBER_LINE.match(line)):
            continue
        following = lines[index + 1] if index + 1 < len(lines) else ""
        yield _strip_line(line, following)


def _drop_literals(lines: list[str]) -> list[str]:
    """Leave out what reStructuredText sets as code: indented below ``::``, and >>>."""
    kept: list[str] = []
    margin = -1  # of the line that announced a block; -1 = there is none
    is_doctest = False
    for line in lines:
        if not line or line.isspace():
            is_doctest = False
            kept.append("")
            continue
        if margin >= 0 and len(line) - len(line.lstrip()) > margin:
            continue
        margin = -1
        is_doctest = is_doctest or _DOCTEST.match(line) is not None
        if is_doctest:
            continue
        if _LITERAL.match(line):
            margin = len(line) - len(line.lstrip())
        elif line.rstrip().endswith("::") and not _DIRECTIVE.match(line):
            margin = _end_of_margin(line)
            line = line.rstrip()[:-1]  # noqa: PLW2901 - one colon is the reader's
        kept.append(line)
    return kept


def _end_of_margin(line: str) -> int:
    found = _MARGIN.match(line)
    return found.end() if found else 0


def _matched_fences(lines: list[str]) -> bool:
    """Tell whether every fence has an end; else none of them is taken for one."""
    fences = sum(1 for line in lines if _FENCE.match(line))
    return fences > 0 and fences % 2 == 0


def _end_of_front_matter(lines: list[str]) -> int:
    if not lines or lines[0].rstrip() != "---":
        return 0
    for index, line in enumerate(lines[1:60], start=1):
        if line.rstrip() in {"---", "..."}:
            return index + 1
        if line.strip() and not re.match(r"[\s#-]|[\w-]+:", line):
            return 0
    return 0


def _strip_line(line: str, following: str) -> str:
    if not line or line.isspace():
        return ""
    heading = _ATX_HEADING.match(line)
    if heading:
        return HEADING + heading[1]
    if any(each.match(line) for each in _LEFT_OUT):
        return ""
    underline = _UNDERLINE.match(following)
    if underline and len(following.strip()) >= min(len(line.strip()), 20) - 2:
        return HEADING + line.strip()
    if ">" in line[:20]:
        quote = _QUOTE.match(line)
        return line[quote.end() :] if quote else line
    return line


def _strip_spans(text: str) -> str:
    if "](" in text:
        text = _IMAGE.sub("", text)
        text = _LINK.sub(r"\1", text)
    if "]_" in text:
        text = _FOOTNOTE.sub("", text)
    if "`" in text:
        text = _NAMED_ROLE.sub(r"\1", _NAMED_LINK.sub(r"\1", text))
        text = _ROLE.sub("", text)
        text = _CODE.sub(r"\2", text)
    if "*" in text or "_" in text:
        text = _STRONG.sub(r"\2", text)
        text = _EMPHASIS.sub(r"\2", text)
    return text
