"""What is accepted as a text, and as a wish: checked before any work is done."""

import re
from typing import Final

from taskflow_summarize._text.language import NAMES
from taskflow_summarize.errors import ContentError, OptionError

FEWEST_WORDS: Final = 10
MOST_WORDS: Final = 2000
MOST_KEY_POINTS: Final = 20
LONGEST_FOCUS: Final = 300
LANGUAGES: Final = ("auto", *sorted(NAMES))

_SUSPECT: Final = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f\ufffd]")
_MOST_SUSPECT: Final = 0.1  # of the characters; a few are damage, many are no text


def check_content(content: str, *, max_bytes: int) -> None:
    """Refuse what cannot be a text.

    Args:
        content: The text.
        max_bytes: Most bytes of UTF-8.

    Raises:
        ContentError: It is blank, binary, damaged or too long; nothing of it is in
            the message.

    Example:
        >>> check_content("Good morning.", max_bytes=100)
    """
    if not content or content.isspace():
        reason = "it is empty"
        raise ContentError(reason)
    try:
        size = len(content) if content.isascii() else len(content.encode())
    except UnicodeEncodeError:
        reason = "it holds half a surrogate pair, which no text does"
        raise ContentError(reason) from None
    if size > max_bytes:
        reason = (
            f"it has {size} bytes of UTF-8, at most {max_bytes} are taken "
            "(SUMMARIZE_MAX_CONTENT_BYTES)"
        )
        raise ContentError(reason)
    suspect = len(_SUSPECT.findall(content))
    if "\x00" in content or suspect > _MOST_SUSPECT * len(content):
        reason = "it is binary data, not text"
        raise ContentError(reason)


def check_options(
    *, max_words: int, language: str = "auto", focus: str = "", key_points: int = 0
) -> None:
    """Refuse options that are out of their bounds.

    Args:
        max_words: Most words of the summary.
        language: Code of the language to write in, or ``auto``.
        focus: What the reader wants to know.
        key_points: How many key points to list.

    Raises:
        OptionError: One is out of its bounds; names it and the bound.

    Example:
        >>> check_options(max_words=120, language="it", focus="who paid?")
    """
    if not FEWEST_WORDS <= max_words <= MOST_WORDS:
        name, bound = "max_words", f"from {FEWEST_WORDS} to {MOST_WORDS}"
        raise OptionError(name, bound, max_words)
    if language not in LANGUAGES:
        name, bound = "language", f"one of {', '.join(LANGUAGES)}"
        raise OptionError(name, bound, language[:40])
    if len(focus) > LONGEST_FOCUS or "\x00" in focus:
        name, bound = "focus", f"at most {LONGEST_FOCUS} characters of text"
        raise OptionError(name, bound, f"{len(focus)} characters")
    if not 0 <= key_points <= MOST_KEY_POINTS:
        name, bound = "key_points", f"from 0 to {MOST_KEY_POINTS}"
        raise OptionError(name, bound, key_points)
