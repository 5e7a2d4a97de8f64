"""What the end of a call says of its upstream: a pure rule.

A caller's mistake says nothing about the other side. Only what speaks against its
health opens a breaker; "too many requests" is a request to wait, and a rejected key
or spent credit wants a person.
"""

import asyncio
import errno
import logging
import socket
import ssl
from datetime import UTC, datetime
from typing import Final, Literal, TypeAlias

from attrs import evolve, field, frozen

from taskflow._codec import class_name
from taskflow._declare.error_groups import parts_of
from taskflow._declare.http_facts import retry_after_of, status_of
from taskflow._declare.retry_policy import Match, matches
from taskflow._declare.upstream import Upstream
from taskflow.errors import CircuitBreakerError, PayloadError, TaskSignal

_logger = logging.getLogger("taskflow.upstream")

Kind: TypeAlias = Literal["success", "failure", "neutral", "tap", "refused", "shut"]
"""``tap``: wait until it is over; ``refused``: our key or credit; ``shut``: the
breaker let no call begin."""

TAP_SECONDS: Final = 10.0
"""How long a 429 without a Retry-After closes the tap; each further one does again."""

REFUSED_SECONDS: Final = 300.0
"""How long a rejected key or spent credit shuts an upstream, until one task tries."""

_SHORTEST_WAIT: Final = 0.05

LONGEST_WAIT: Final = 86_400.0
"""Seconds; a longer Retry-After is looked at again after a day."""

_REASONS: Final = {
    401: "the key was rejected (401)",
    402: "the credit is spent (402)",
    429: "too many requests (429)",
    503: "unavailable for a while (503)",
}

# Of clients that do not use Python's own classes; by name, so that nothing is loaded.
_FOREIGN: Final = frozenset(
    {
        ("aiohttp", "ClientConnectionError"),
        ("aiohttp", "ClientPayloadError"),
        ("botocore", "HTTPClientError"),
        ("grpc", "FutureTimeoutError"),
        ("httpcore", "NetworkError"),
        ("httpcore", "ProtocolError"),
        ("httpcore", "TimeoutException"),
        ("httpx", "TransportError"),
        ("httpx2", "TransportError"),
        ("requests", "ConnectionError"),
        ("requests", "Timeout"),
        ("requests", "ChunkedEncodingError"),
        ("urllib3", "HTTPError"),
        ("urllib", "URLError"),
        ("http", "HTTPException"),
    }
)
_CALLERS_OWN: Final = frozenset(
    {
        ("urllib3", "LocationValueError"),
        ("http", "InvalidURL"),
        ("http", "CannotSendRequest"),
    }
)
"""What a library derives of its errors and is a mistake of the caller."""
_UNREACHABLE: Final = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH})
_SERVER_ERRORS: Final = range(500, 600)


@frozen
class CallOutcome:
    """What one ended call says of its upstream.

    Attributes:
        kind: In one word.
        wait: Seconds for which it shall not be called, of ``tap`` and ``refused``,
            and of a failure that said so.
        reason: For people, of ``tap`` and ``refused``; never what the error says,
            which may quote what was sent.
        error: What says so, of a group the leaf; None of a success.
    """

    kind: Kind
    wait: float = 0.0
    reason: str = ""
    error: BaseException | None = field(default=None, eq=False, repr=False)

    @property
    def parks(self) -> bool:
        """Whether the task waits for the upstream, with no attempt used."""
        return self.kind in {"tap", "refused", "shut"}


SUCCESS: Final = CallOutcome("success")
NEUTRAL: Final = CallOutcome("neutral")

_STRONGEST_FIRST: Final[tuple[Kind, ...]] = (
    "refused",
    "failure",
    "tap",
    "shut",
    "neutral",
)
"""Which of the leaves of an exception group speaks for all."""


def classify(
    upstream: Upstream, error: BaseException | None, *, now: datetime | None = None
) -> CallOutcome:
    """Say what the end of a call says of *upstream*.

    An exception group is one end, however many leaves it has: the leaf that says most
    decides, with the longest wait of all.

    Args:
        upstream: Its rules come first.
        error: What the call raised; None = it succeeded.
        now: The time, aware, for a Retry-After in form of a date.

    Returns:
        ``neutral`` for a caller's mistake, a cancellation, a signal of the body and
        whatever is no sign of the other side's health; where a rule, or the error
        itself, fails while it is asked, as well.

    Example:
        >>> classify(Upstream("api"), TimeoutError()).kind
        'failure'
        >>> classify(Upstream("api"), ValueError("no such city")).kind
        'neutral'
    """
    if error is None:
        return SUCCESS
    now = now or datetime.now(UTC)
    found = [
        evolve(_classify(upstream, part, now), error=part) for part in parts_of(error)
    ]
    found.sort(key=lambda each: _STRONGEST_FIRST.index(each.kind))
    return evolve(
        found[0],
        wait=max(each.wait for each in found),
        reason=next((each.reason for each in found if each.reason), ""),
    )


def _classify(upstream: Upstream, error: BaseException, now: datetime) -> CallOutcome:
    if isinstance(error, CircuitBreakerError):
        return CallOutcome("shut") if error.name == upstream.name else NEUTRAL
    if isinstance(error, TaskSignal | PayloadError | asyncio.CancelledError):
        return NEUTRAL
    try:
        told = retry_after_of(error, now)
        wait = None if told is None else min(max(told, _SHORTEST_WAIT), LONGEST_WAIT)
        return _by_rules(upstream, error, wait) or _by_status(error, wait)
    except Exception:
        _logger.exception("an error could not be judged for %r", upstream.name)
        return NEUTRAL


def _by_rules(
    upstream: Upstream, error: BaseException, wait: float | None
) -> CallOutcome | None:
    status = status_of(error)

    def is_among(rules: tuple[Match, ...]) -> bool:
        return any(matches(each, error, status) for each in rules)

    if is_among(upstream.ignored):
        return NEUTRAL
    if is_among(upstream.failures):
        return _failure(wait)
    if is_among(upstream.refusals):
        reason = _REASONS.get(status or 0) or f"refused: {class_name(error)}"
        return CallOutcome("refused", wait or REFUSED_SECONDS, reason)
    return None


def _by_status(error: BaseException, wait: float | None) -> CallOutcome:
    status = status_of(error)
    if status == 429:  # noqa: PLR2004 - as everybody knows it
        return CallOutcome("tap", wait or TAP_SECONDS, _REASONS[429])
    if status == 402 and wait is not None:  # noqa: PLR2004 - credit that comes back
        return CallOutcome("tap", wait, _REASONS[402])
    if status in {401, 402}:
        return CallOutcome("refused", wait or REFUSED_SECONDS, _REASONS[status])
    return _failure(wait) if _is_failure(error, status) else NEUTRAL


def _failure(wait: float | None) -> CallOutcome:
    return CallOutcome("failure", wait or 0.0, _REASONS[503] if wait else "")


def _is_failure(error: BaseException, status: int | None) -> bool:
    if status is not None:
        return status == 408 or status in _SERVER_ERRORS  # noqa: PLR2004
    if isinstance(
        error,
        TimeoutError | ConnectionError | socket.gaierror | ssl.SSLError,
    ):
        return True
    if isinstance(error, OSError) and error.errno in _UNREACHABLE:
        return True
    kinds = {
        (kind.__module__.partition(".")[0], kind.__name__)
        for kind in type(error).__mro__
    }
    return not kinds.isdisjoint(_FOREIGN) and kinds.isdisjoint(_CALLERS_OWN)
