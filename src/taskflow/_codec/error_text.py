"""Text of exceptions, which run code of their own when they are asked for it."""

import traceback

MOST_CHARACTERS_OF_A_NAME = 200

LONGEST_REASON_BYTES = 2000
"""Of what a model's own code raised, in the message of a `PayloadError`."""

_HEAD_LINES = 12

_name_of = type.__dict__["__name__"].__get__


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
