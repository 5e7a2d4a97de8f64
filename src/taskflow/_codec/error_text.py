"""Text that others wrote: of exceptions, which run code of their own, and for lines.

What a task carries was written by anybody. In a line of a log or at a terminal, a
character that cannot be printed (a line break, an escape that recolours a terminal, a
mark that turns the direction of the text) is shown as its escape sequence in letters.
"""

import traceback

MOST_CHARACTERS_OF_A_NAME = 200

LONGEST_REASON_BYTES = 2000
"""Of what a model's own code raised, in the message of a `PayloadError`."""

_HEAD_LINES = 12

INDENT = "  "
"""Stands before each line that continues an entry of a log."""

_HEAD = "Traceback (most recent call last):"

_name_of = type.__dict__["__name__"].__get__


def clean(text: object) -> str:
    r"""Return *text* on one line, every character of it printable.

    Args:
        text: Anything; its ``str`` is shown.

    Returns:
        The text, with escapes in letters for what cannot be printed.

    Example:
        >>> clean("red: \x1b[31m")
        'red: \\x1b[31m'
    """
    raw = str(text)
    if raw.isprintable():
        return raw
    return "".join(
        char
        if char.isprintable()
        else char.encode("unicode_escape", "backslashreplace").decode("ascii")
        for char in raw
    )


def continued(text: str) -> str:
    """Return the lines of *text* so that none can be taken for an entry of a log."""
    lines = dedented(text.expandtabs(4).rstrip("\n")).split("\n")
    return "\n".join(f"{INDENT}{clean(line)}" for line in lines)


def safe_traceback(text: str) -> str:
    """Return a traceback for formatters that write it as it is; see `continued`."""
    head, _, rest = text.partition("\n")
    return f"{head}\n{continued(rest)}" if head == _HEAD and rest else continued(text)


def dedented(text: str) -> str:
    """Return *text* as it was before `continued` or `safe_traceback` indented it."""
    head, *rest = text.split("\n")
    is_indented = head.startswith(INDENT) or (head == _HEAD and bool(rest))
    if not is_indented or not all(line.startswith(INDENT) for line in rest):
        return text
    return "\n".join(
        (head.removeprefix(INDENT), *(line[len(INDENT) :] for line in rest))
    )


def class_name(value: object) -> str:
    """Return the name of *value*'s class, bounded, whatever its metaclass says."""
    name: str = _name_of(type(value))
    return bounded(name[:MOST_CHARACTERS_OF_A_NAME], 4 * MOST_CHARACTERS_OF_A_NAME)


def text_of(value: object, most: int) -> str:
    """Return ``str(value)`` in at most *most* bytes of UTF-8, whatever it raises."""
    try:
        text = str(value)
    except BaseException as failure:  # noqa: BLE001 - a __str__ that raises is data
        text = f"<str() raised {class_name(failure)}>"
    return bounded(text, most)


def traceback_of(error: BaseException, most: int) -> str:
    """Return the head and the end of *error*'s traceback, at most *most* bytes."""
    try:
        lines = traceback.format_exception(error, limit=-40)
    except BaseException as failure:  # noqa: BLE001 - formatting calls the error's code
        return f"<no traceback: {class_name(failure)}>"
    if len(lines) > 2 * _HEAD_LINES:
        lines = [*lines[:_HEAD_LINES], "  ...\n", *lines[-_HEAD_LINES:]]
    return bounded("".join(lines), most)


def bounded(text: str, most: int) -> str:
    """Cut the middle out of *text* if it is longer than *most* bytes of UTF-8.

    Returns:
        The text; lone surrogates, which UTF-8 doesn't have, are question marks.
    """
    # The method of str: a subclass may have its own.
    data = str.encode(text, "utf-8", "replace")
    if len(data) <= most:
        return data.decode()
    half = most // 2 - 8
    head = data[:half].decode(errors="ignore")
    return f"{head}\n...\n{data[-half:].decode(errors='ignore')}"
