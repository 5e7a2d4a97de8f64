"""What is accepted as a text: checked before any work is done for it."""

import re
from typing import Final

from taskflow_summarize.errors import ContentError

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
