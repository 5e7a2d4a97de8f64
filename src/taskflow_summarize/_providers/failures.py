"""What a refusal of OpenRouter means, or of a server that speaks like it.

Its errors come with an HTTP status, or inside an answer of status 200, or inside
the first choice beside half a text; the codes are numbers or words. This module
alone knows all that; it is pure, and a table of recorded shapes tests it.

Nothing of what the service wrote for people goes into an error: its sentences
quote the prompt (moderation does) or the account.

To add a shape: a row in one of the tables, and one in the table of its tests.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Final

from attrs import frozen

from taskflow_summarize._providers._json import Json, as_object
from taskflow_summarize._providers.waits import find_wait
from taskflow_summarize.errors import (
    AccountError,
    ContentRefusedError,
    ProviderError,
    ProviderTimeoutError,
    RateLimitedError,
    RequestRefusedError,
    TextTooLongError,
    UnavailableError,
)

NAME: Final = "openrouter"


@frozen
class _Kind:
    """What a failure is: its class, its words, and the status it amounts to."""

    cls: type[ProviderError]
    reason: str
    status: int


_INVALID: Final = _Kind(RequestRefusedError, "the request was refused as invalid", 400)
_NO_MODEL: Final = _Kind(
    RequestRefusedError,
    "no such model, or none that the settings allow; see OPENROUTER_MODEL",
    404,
)
_TOO_LONG: Final = _Kind(TextTooLongError, "the text is too long for the model", 400)
_REFUSED: Final = _Kind(
    ContentRefusedError, "the provider will not work on this text", 403
)
_KEY: Final = _Kind(AccountError, "the key was rejected; see OPENROUTER_API_KEY", 401)
_CREDIT: Final = _Kind(AccountError, "the account has no credit left", 402)
_BUDGET: Final = _Kind(AccountError, "the budget set for this key is spent", 402)
_TOO_DEAR: Final = _Kind(
    RequestRefusedError, "this one request costs more than the credit allows", 400
)
_CREDIT_IN_USE: Final = _Kind(
    RateLimitedError, "the credit is held by running requests", 429
)
_TOO_MANY: Final = _Kind(RateLimitedError, "too many requests", 429)
_DAY_SPENT: Final = _Kind(RateLimitedError, "the day's free requests are used up", 429)
_DOWN: Final = _Kind(UnavailableError, "the service failed", 500)
_OVERLOADED: Final = _Kind(UnavailableError, "the service is overloaded", 503)
_RELAYED: Final = _Kind(UnavailableError, "the model's host failed", 502)
_LATE: Final = _Kind(
    ProviderTimeoutError, "the service gave up waiting for the model", 504
)

# OpenRouter's error_type, OpenAI's code and type, and those of servers like it.
_BY_WORD: Final[Mapping[str, _Kind]] = {
    "authentication": _KEY,
    "authentication_error": _KEY,
    "billing_hard_limit_reached": _CREDIT,
    "content_filter": _REFUSED,
    "content_policy_violation": _REFUSED,
    "context_length_exceeded": _TOO_LONG,
    "engine_overloaded": _OVERLOADED,
    "exceed_context_size_error": _TOO_LONG,
    "insufficient_quota": _CREDIT,
    "invalid_api_key": _KEY,
    "invalid_prompt": _INVALID,
    "invalid_request": _INVALID,
    "max_tokens_exceeded": _TOO_LONG,
    "model_not_found": _NO_MODEL,
    "not_found": _NO_MODEL,
    "overloaded": _OVERLOADED,
    "overloaded_error": _OVERLOADED,
    "payload_too_large": _TOO_LONG,
    "payment_required": _CREDIT,
    "permission_denied": _REFUSED,
    "precondition_failed": _INVALID,
    "provider_overloaded": _OVERLOADED,
    "provider_unavailable": _RELAYED,
    "rate_limit_exceeded": _TOO_MANY,
    "refusal": _REFUSED,
    "server": _DOWN,
    "server_error": _DOWN,
    "string_too_long": _TOO_LONG,
    "timeout": _LATE,
    "token_limit_exceeded": _TOO_LONG,
    "unmapped": _DOWN,
    "unprocessable": _INVALID,
}
_BY_AVAILABILITY: Final[Mapping[str, _Kind]] = {
    "capacity_exhausted": _TOO_MANY,
    "constraint_filtered": _NO_MODEL,
    "temporarily_unavailable": _OVERLOADED,
}
_BY_STATUS: Final[Mapping[int, _Kind]] = {
    401: _KEY,
    402: _CREDIT,
    403: _REFUSED,
    404: _NO_MODEL,
    408: _LATE,
    410: _NO_MODEL,
    413: _TOO_LONG,
    425: _OVERLOADED,
    429: _TOO_MANY,
    499: _LATE,
    502: _RELAYED,
    503: _OVERLOADED,
    504: _LATE,
    522: _LATE,
    524: _LATE,
    529: _OVERLOADED,
}
_FAILURES: Final = range(400, 600)
_REFUSALS: Final = range(300, 500)
_SERVER_FAILURES: Final = range(500, 600)
# What these say of the account, of the caller's speed or of the service's health is
# false of a request that was refused.
_SPEAKING: Final = frozenset({401, 402, 408, 425, 429, 499})

_AFFORD: Final = re.compile(
    r"can only afford (\d{1,9})|requires more credits", re.IGNORECASE
)
_PROMPT_TOO_DEAR: Final = re.compile(r"prompt tokens limit exceeded", re.IGNORECASE)
_FEWEST_AFFORDED: Final = 64  # tokens; with fewer the account is as good as empty
_LONG: Final = re.compile(
    r"context (?:length|window|size)|prompt is too long|reduce the length",
    re.IGNORECASE,
)
_TOKENS_ENDED: Final = re.compile(
    r"(?:token limit|max(?:imum)?[ _]tokens) (?:was )?reached", re.IGNORECASE
)
_FREE_DAY: Final = re.compile(r"free-models-per-day", re.IGNORECASE)
_CODE: Final = re.compile(r"[A-Za-z][A-Za-z_.]{0,63}|\d{1,6}")  # holds no key
_OPTIONAL: Final = re.compile(
    r"max_completion_tokens|temperature|stream_options|response_format"
)
_UNPROCESSED: Final = frozenset({400, 404, 422})
_DEFAULT_CREDIT_WAIT: Final = 15.0  # seconds


@frozen
class Refusal:
    """An answer without a text.

    Attributes:
        error: To be raised; of the class that says what to do.
        affordable: Most tokens to be written that the credit covers, or None where
            that is not the reason.
        parameter: Of the request, that the server does not take, or None.
    """

    error: ProviderError
    affordable: int | None = None
    parameter: str | None = None


def read_refusal(
    status: int, headers: Mapping[str, str], data: Json, *, now: datetime
) -> Refusal:
    """Say what a refusal means.

    Args:
        status: Of HTTP; 200 where the error came inside an answer.
        headers: With names in small letters.
        data: The object with the member ``error``; empty where there is none.
        now: The time, aware; what a moment to wait for is counted from.

    Returns:
        The error, and what of the request could be changed to avoid it.
    """
    error = as_object(data.get("error"))
    metadata = as_object(error.get("metadata"))
    true_status = _true_status(status, error)
    message = str(error.get("message") or data.get("message") or "")
    afford = _AFFORD.search(message)
    afforded = int(afford[1] or 0) if afford else None
    kind = _kind(true_status, error, metadata, message)
    if kind is _TOO_DEAR and afforded is not None and afforded < _FEWEST_AFFORDED:
        kind = _CREDIT
    made = kind.cls(
        NAME,
        kind.reason,
        status_code=true_status if _fits(kind, true_status) else kind.status,
        retry_after=_wait(kind, headers, error, now),
        code=_code(error, metadata),
    )
    return Refusal(
        made,
        affordable=afforded if kind is _TOO_DEAR else None,
        parameter=_parameter(true_status, error, data),
    )


def is_end_of_tokens(error: Json) -> bool:
    """Say whether an error in the middle of an answer is only its end.

    Args:
        error: The member ``error`` of a piece.

    Returns:
        True where the budget of tokens was reached; some hosts say that so.
    """
    if "max_tokens_exceeded" in _words(error, as_object(error.get("metadata"))):
        return True
    is_bad_request = str(error.get("code")) == "400"
    return is_bad_request and bool(_TOKENS_ENDED.search(str(error.get("message"))))


def _true_status(status: int, error: Json) -> int:
    if status != HTTPStatus.OK:
        return status
    for value in (error.get("code"), error.get("http_status")):
        number = int(value) if isinstance(value, str) and value.isdigit() else value
        if isinstance(number, int) and number in _FAILURES:
            return number
    return HTTPStatus.BAD_GATEWAY


def _kind(status: int, error: Json, metadata: Json, message: str) -> _Kind:
    words = _words(error, metadata)
    special = _account(status, error, metadata, message)
    if special is not None:
        return special
    availability = as_object(error.get("availability"))
    kind = _BY_AVAILABILITY.get(str(availability.get("code")))
    kind = kind or next((_BY_WORD[w] for w in words if w in _BY_WORD), None)
    if kind is None and status in {403, 404} and _is_relayed(metadata):
        kind = _RELAYED
    kind = kind or _BY_STATUS.get(status)
    kind = kind or (_INVALID if status in _REFUSALS else _DOWN)
    is_permanent = availability.get("retryable") is False
    if is_permanent and issubclass(kind.cls, UnavailableError):
        return _NO_MODEL
    if kind is _NO_MODEL and availability.get("retryable") is True:
        return _OVERLOADED
    if kind is _INVALID and _LONG.search(message):
        return _TOO_LONG
    if kind is _TOO_MANY and _is_day_spent(metadata, message):
        return _DAY_SPENT
    return kind


def _account(status: int, error: Json, metadata: Json, message: str) -> _Kind | None:
    """Say what is wrong with the key or the credit, or None."""
    source = metadata.get("limit_source")
    if status == HTTPStatus.UNAUTHORIZED:
        # Of the model's host, whose key is not ours.
        return _RELAYED if _is_relayed(metadata) else _KEY
    if status == HTTPStatus.PAYMENT_REQUIRED:
        reason = metadata.get("reason") or error.get("reason")
        if reason == "weight_exceeds_budget":
            return _TOO_DEAR
        if source == "openrouter_in_flight_budget":
            return _CREDIT_IN_USE
        is_dear = _AFFORD.search(message) or _PROMPT_TOO_DEAR.search(message)
        return _TOO_DEAR if is_dear else _CREDIT
    if status == HTTPStatus.FORBIDDEN and source:
        return _BUDGET
    return None


def _words(error: Json, metadata: Json) -> list[str]:
    """List the service's own words for an error, the most telling first."""
    said = (
        metadata.get("error_type"),
        error.get("error_type"),
        error.get("code"),
        error.get("type"),
    )
    return [word for word in said if isinstance(word, str)]


def _is_relayed(metadata: Json) -> bool:
    return "provider_name" in metadata and "reasons" not in metadata


def _is_day_spent(metadata: Json, message: str) -> bool:
    is_daily = metadata.get("limit_source") == "openrouter_free_tier_daily"
    return is_daily or bool(_FREE_DAY.search(message))


def _fits(kind: _Kind, status: int) -> bool:
    """Say whether the status that was sent says what the class says."""
    if issubclass(kind.cls, RequestRefusedError):
        return status in _REFUSALS and status not in _SPEAKING
    if issubclass(kind.cls, UnavailableError):
        return status in _SERVER_FAILURES or status == HTTPStatus.REQUEST_TIMEOUT
    return status == kind.status


def _wait(
    kind: _Kind, headers: Mapping[str, str], error: Json, now: datetime
) -> float | None:
    if not kind.cls.is_retryable:
        return None  # a wait on it would bring it back in vain
    told = find_wait(headers, error, now=now)
    if told is None and kind is _CREDIT_IN_USE:
        return _DEFAULT_CREDIT_WAIT
    if told is None and kind is _DAY_SPENT:
        day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        return (day + timedelta(days=1) - now).total_seconds()
    return told


def _code(error: Json, metadata: Json) -> str | None:
    word = next(iter(_words(error, metadata)), None)
    return word if word is not None and _CODE.fullmatch(word) else None


def _parameter(status: int, error: Json, data: Json) -> str | None:
    """Find which optional parameter was refused; servers name it as they like."""
    if status not in _UNPROCESSED:
        return None
    said = (error.get("param"), error.get("message"), data.get("detail"), data)
    for value in said:
        found = _OPTIONAL.search(str(value)[:4000])
        if found:
            return found[0]
    return None
