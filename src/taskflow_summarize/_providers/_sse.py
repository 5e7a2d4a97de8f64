"""Server-sent events out of bytes, however the network cuts them.

Lines end where the standard says and nowhere else. The line splitting of ``str`` and
of httpx ends them at U+2028, U+2029 and U+0085 too, which JSON may hold as they are:
an event would be torn in two.
"""

import re
from typing import Final

_LINE_END: Final = re.compile(rb"\r\n|\r|\n")
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_DATA: Final = b"data"

MOST_LINE_BYTES: Final = 10 * 1_048_576
"""Longest line that is read; an endless one would fill the memory."""


class LineTooLongError(Exception):
    """A line has more bytes than are read."""


class EventParser:
    r"""Reads one stream of events.

    Of an event only its data is kept: chat completions say everything in it.

    Args:
        max_line_bytes: Longest line that is taken.

    Example:
        >>> parser = EventParser()
        >>> parser.feed(b": a comment\ndata: one\nda")
        []
        >>> parser.feed(b"ta: two\n\n")
        ['one\ntwo']

    Source:
        WHATWG HTML, section 9.2.6, "Interpreting an event stream".
    """

    def __init__(self, *, max_line_bytes: int = MOST_LINE_BYTES) -> None:
        self._max_line_bytes = max_line_bytes
        self._held = bytearray()  # a line whose end has not come
        self._data: list[bytes] = []
        self._is_first = True
        self._after_return = False

    def feed(self, received: bytes) -> list[str]:
        """Take the next bytes of the stream.

        Args:
            received: As they came; cut anywhere.

        Returns:
            The data of each event that they complete, in order.

        Raises:
            LineTooLongError: A line is too long; the stream is of no more use.
        """
        if not received:
            return []
        if self._after_return and received.startswith(b"\n"):
            received = received[1:]  # the second half of a line's end
        self._after_return = received.endswith(b"\r")
        *lines, rest = _LINE_END.split(received)
        events: list[str] = []
        for line in lines:
            self._hold(line)
            self._take_line(bytes(self._held), events)
            self._held.clear()
        self._hold(rest)
        return events

    def end(self) -> list[str]:
        """Take the end of the stream.

        The standard drops an event that no blank line completes. One whose lines are
        whole is given here: some servers leave out the last blank line.

        Returns:
            The data of the last event, if there is one.
        """
        events: list[str] = []
        self._dispatch(events)
        return events

    def _hold(self, part: bytes) -> None:
        self._held += part
        if len(self._held) > self._max_line_bytes:
            raise LineTooLongError

    def _take_line(self, line: bytes, events: list[str]) -> None:
        if self._is_first:
            self._is_first = False
            line = line.removeprefix(_BYTE_ORDER_MARK)
        if not line:
            self._dispatch(events)
            return
        name, _, value = line.partition(b":")
        if name == _DATA:
            self._data.append(value.removeprefix(b" "))

    def _dispatch(self, events: list[str]) -> None:
        if self._data:
            data = b"\n".join(self._data)
            self._data.clear()
            if data:
                events.append(data.decode(errors="replace"))
