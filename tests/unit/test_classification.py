"""What the end of a call says of its upstream."""

import asyncio
import errno
import socket
import ssl
import urllib.error
from datetime import UTC, datetime, timedelta
from email.message import Message
from email.utils import format_datetime
from http.client import (
    BadStatusLine,
    CannotSendRequest,
    IncompleteRead,
    InvalidURL,
    RemoteDisconnected,
)

import pytest

from taskflow import CircuitBreakerError, Retry, Snooze, Upstream
from taskflow._declare.classification import (
    LONGEST_WAIT,
    REFUSED_SECONDS,
    TAP_SECONDS,
    classify,
)
from taskflow.errors import PayloadError

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


class StatusError(Exception):
    """An answer, as clients raise it."""

    def __init__(self, status: int, retry_after: str | None = None) -> None:
        super().__init__(status, retry_after)
        self.status_code = status
        self.headers = {} if retry_after is None else {"retry-after": retry_after}


class ResponseError(Exception):
    """An answer that hangs on the error."""

    def __init__(self, status: int) -> None:
        super().__init__("no")
        self.response = StatusError(status)


def foreign(module: str, name: str) -> BaseException:
    """Make an error of a client that is not installed."""
    kind = type(name, (Exception,), {"__module__": module})
    made: BaseException = type("Sub", (kind,), {})(name)
    return made


@pytest.mark.parametrize(
    ("error", "kind", "wait"),
    [
        (None, "success", 0.0),
        (TimeoutError(), "failure", 0.0),
        (ConnectionResetError(), "failure", 0.0),
        (socket.gaierror(), "failure", 0.0),
        (ssl.SSLError(), "failure", 0.0),
        (StatusError(408), "failure", 0.0),
        (StatusError(500), "failure", 0.0),
        (StatusError(599), "failure", 0.0),
        (ResponseError(502), "failure", 0.0),
        (StatusError(503, "7"), "failure", 7.0),
        (urllib.error.HTTPError("u", 503, "no", {}, None), "failure", 0.0),
        (foreign("httpx._exceptions", "TransportError"), "failure", 0.0),
        (foreign("aiohttp.client_exceptions", "ClientConnectionError"), "failure", 0.0),
        (foreign("requests.exceptions", "Timeout"), "failure", 0.0),
        (urllib.error.URLError("no route"), "failure", 0.0),
        (urllib.error.URLError(TimeoutError()), "failure", 0.0),
        (RemoteDisconnected(), "failure", 0.0),
        (IncompleteRead(b"half"), "failure", 0.0),
        (BadStatusLine("?"), "failure", 0.0),
        (OSError(errno.EHOSTUNREACH, "no route"), "failure", 0.0),
        (OSError(errno.ENETUNREACH, "no network"), "failure", 0.0),
        (InvalidURL("http://[x"), "neutral", 0.0),
        (CannotSendRequest(), "neutral", 0.0),
        (OSError(errno.ENOENT, "no file"), "neutral", 0.0),
        (urllib.error.HTTPError("http://x", 404, "", Message(), None), "neutral", 0.0),
        (urllib.error.HTTPError("http://x", 503, "", Message(), None), "failure", 0.0),
        (StatusError(429), "tap", TAP_SECONDS),
        (StatusError(429, "0"), "tap", 0.05),
        (StatusError(429, "3"), "tap", 3.0),
        (StatusError(429, "99999999"), "tap", LONGEST_WAIT),
        (
            StatusError(429, format_datetime(NOW + timedelta(seconds=4), usegmt=True)),
            "tap",
            4.0,
        ),
        (StatusError(401), "refused", REFUSED_SECONDS),
        (StatusError(401, "60"), "refused", 60.0),
        (StatusError(402), "refused", REFUSED_SECONDS),
        (StatusError(402, "15"), "tap", 15.0),
        (StatusError(400), "neutral", 0.0),
        (StatusError(403), "neutral", 0.0),
        (StatusError(404), "neutral", 0.0),
        (StatusError(422), "neutral", 0.0),
        (ValueError(), "neutral", 0.0),
        (FileNotFoundError(), "neutral", 0.0),
        (asyncio.CancelledError(), "neutral", 0.0),
        (Retry(), "neutral", 0.0),
        (Snooze(5), "neutral", 0.0),
        (PayloadError("no"), "neutral", 0.0),
        (CircuitBreakerError("api", 5.0), "shut", 0.0),
        (CircuitBreakerError("other", 5.0), "neutral", 0.0),
    ],
    ids=repr,
)
def test_an_end_says(error: BaseException | None, kind: str, wait: float) -> None:
    """A caller's fault says nothing; only the other side's health counts."""
    found = classify(Upstream("api"), error, now=NOW)

    assert (kind, wait) == (found.kind, found.wait)


def test_own_rules_come_first_and_in_this_order() -> None:
    """Ignored, failures, refusals; then what is true of everybody."""
    api = Upstream(
        "api", ignored=[503], failures=[range(500, 600), 429], refusals=[403, KeyError]
    )

    assert ["neutral", "failure", "failure", "refused", "refused", "neutral"] == [
        classify(api, error).kind
        for error in (
            StatusError(503),
            StatusError(500),
            StatusError(429),
            StatusError(403),
            KeyError("k"),
            StatusError(404),
        )
    ]


def test_a_reason_holds_nothing_of_what_was_sent() -> None:
    """What the service wrote may quote the request."""
    reasons = [
        classify(Upstream("api", refusals=[KeyError]), error).reason
        for error in (StatusError(401), StatusError(429), KeyError("sk-canary"))
    ]

    assert [
        "the key was rejected (401)",
        "too many requests (429)",
        "refused: KeyError",
    ] == reasons


class Unanswering(type):
    """A class that cannot say what is one of it."""

    def __instancecheck__(cls, instance: object) -> bool:
        """Raise."""
        raise RuntimeError


class Strange(Exception, metaclass=Unanswering):  # noqa: N818 - an odd one
    """Every rule that is for it fails when it is asked."""


def test_a_rule_that_fails_says_nothing_of_the_upstream() -> None:
    """The end of the call is not lost for it."""
    api = Upstream("api", failures=[Strange])

    assert "neutral" == classify(api, TimeoutError()).kind


def group(*errors: BaseException) -> BaseException:
    """Raise several at once, the last of them one level deeper."""
    *first, last = errors
    return BaseExceptionGroup("all", [*first, BaseExceptionGroup("inner", [last])])


@pytest.mark.parametrize(
    ("errors", "kind", "wait", "reason"),
    [
        ([TimeoutError()], "failure", 0.0, ""),
        ([ValueError(), ConnectionError()], "failure", 0.0, ""),
        ([ValueError(), KeyError()], "neutral", 0.0, ""),
        (
            [StatusError(429, "7"), StatusError(429, "77")],
            "tap",
            77.0,
            "too many requests (429)",
        ),
        (
            [TimeoutError(), StatusError(429, "77")],
            "failure",
            77.0,
            "too many requests (429)",
        ),
        (
            [TimeoutError(), StatusError(401)],
            "refused",
            REFUSED_SECONDS,
            "the key was rejected (401)",
        ),
        ([ValueError(), CircuitBreakerError("api", 5.0)], "shut", 0.0, ""),
        ([Snooze(5), StatusError(503)], "failure", 0.0, ""),
        ([asyncio.CancelledError(), asyncio.CancelledError()], "neutral", 0.0, ""),
    ],
    ids=repr,
)
def test_a_group_is_one_end(
    errors: list[BaseException], kind: str, wait: float, reason: str
) -> None:
    """The leaf that says most speaks for all, with the longest wait."""
    found = classify(Upstream("api"), group(*errors), now=NOW)

    assert (kind, wait, reason) == (found.kind, found.wait, found.reason)


def test_the_leaf_that_says_it_is_named() -> None:
    """So that people read of the timeout, and not of the group."""
    error = TimeoutError()

    assert error is classify(Upstream("api"), group(ValueError(), error)).error
    assert error is classify(Upstream("api"), error).error


def test_own_rules_look_at_every_leaf() -> None:
    """What one rule ignores, another may count."""
    api = Upstream("api", ignored=[503], failures=[KeyError])

    assert ["neutral", "failure", "failure"] == [
        classify(api, group(*errors)).kind
        for errors in (
            [StatusError(503)],
            [StatusError(503), KeyError()],
            [StatusError(503), StatusError(500)],
        )
    ]


def test_a_rule_that_fails_for_one_leaf_leaves_the_others() -> None:
    """Each leaf is looked at for itself."""
    api = Upstream("api", ignored=[KeyError, Strange])

    assert "neutral" == classify(api, group(KeyError(), TimeoutError())).kind
    assert "failure" == classify(Upstream("api"), group(KeyError(), OddError())).kind


class OddError(TimeoutError):
    """Has an attribute that cannot be read."""

    @property
    def retry_after(self) -> float:
        """Fail."""
        raise RuntimeError
