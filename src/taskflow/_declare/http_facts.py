"""What exceptions of HTTP clients carry: a status, and a Retry-After."""

import contextlib
import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from taskflow._declare.duration import LONGEST, to_seconds
from taskflow._declare.error_groups import parts_of

_CLOCKS_AGREE = 2.0  # seconds


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status that *error* carries, or None.

    Looks at ``status_code``, ``response.status_code`` and ``status``, as httpx,
    requests, aiohttp, urllib and most API clients name it.
    """
    for holder, name in (
        (error, "status_code"),
        (_look(error, "response"), "status_code"),
        (error, "status"),
    ):
        status = _look(holder, name)
        if isinstance(status, int) and not isinstance(status, bool):
            return status
    return None


def retry_after_of(error: BaseException, now: datetime) -> float | None:
    """Return the seconds that *error* asks to wait, or None.

    ``retry_after`` in seconds (or a timedelta) comes first; else the header
    Retry-After of ``response``, or of the error itself, in seconds or as an
    HTTP date, which is relative to the response's own Date where the two clocks
    differ by two seconds or more. Of a group, the longest counts.

    Args:
        error: What the function raised.
        now: The time, aware, where there is no Date.

    Returns:
        0 to ten years, in seconds.

    Source:
        RFC 9110, section 10.2.3.
    """
    told = (_own_retry_after(part, now) for part in parts_of(error))
    return max((each for each in told if each is not None), default=None)


def _own_retry_after(error: BaseException, now: datetime) -> float | None:
    told = to_seconds(_look(error, "retry_after"))
    if isinstance(told, int | float) and not isinstance(told, bool):
        return _bounded(told)
    for holder in (_look(error, "response"), error):
        headers = _look(holder, "headers")
        text = _header(headers, "Retry-After")
        if text is None:
            continue
        if text.isascii() and text.isdigit():
            return _bounded(float(text))
        until = _http_date(text)
        if until is not None:
            sent = _http_date(_header(headers, "Date") or "")
            # Date has whole seconds: where the two clocks agree, ours is finer.
            if sent is None or abs((sent - now).total_seconds()) < _CLOCKS_AGREE:
                sent = now
            return _bounded((until - sent).total_seconds())
    return None


def _look(holder: object, name: str) -> Any:
    """Return an attribute, or None; a property that raises has nothing to say."""
    with contextlib.suppress(Exception):
        return getattr(holder, name, None)
    return None


def _bounded(seconds: float) -> float | None:
    try:
        told = float(seconds)
    except OverflowError:  # a whole number may be longer than every float
        told = math.inf if seconds > 0 else 0.0
    return None if math.isnan(told) else min(max(0.0, told), LONGEST)


def _header(headers: Any, name: str) -> str | None:
    """Return a header of any client's mapping, however it writes the name."""
    for each in (name, name.lower()):
        with contextlib.suppress(Exception):
            text = headers.get(each)
            if isinstance(text, str) and text.strip():
                return text.strip()
    return None


def _http_date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError, OverflowError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
