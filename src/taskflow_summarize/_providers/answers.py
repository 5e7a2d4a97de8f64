"""What an OpenRouter answer means: a summary's text, or which error.

Its errors come with an HTTP status, or inside an answer of status 200, or inside
the first choice beside half a text; the codes are numbers or words. This module
alone knows all that; it is pure, and a table of recorded shapes tests it.

Nothing of what the service wrote for people goes into an error: its sentences
quote the prompt (moderation does) or the account.
"""

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final, TypeAlias, cast

from taskflow_summarize._provider import Completion
from taskflow_summarize.errors import (
    AccountError,
    BadAnswerError,
    ContentRefusedError,
    ProviderError,
    ProviderTimeoutError,
    RateLimitedError,
    RequestRefusedError,
    UnavailableError,
)

_Json: TypeAlias = dict[str, Any]
_Kind: TypeAlias = tuple[type[ProviderError], str]

NAME: Final = "openrouter"
_LONGEST_WAIT: Final = 86_400.0
_CODE: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_AFFORD: Final = re.compile(r"can only afford|requires more credits", re.IGNORECASE)

_TOO_LONG: Final = (RequestRefusedError, "the text is too long for the model")
_INVALID: Final = (RequestRefusedError, "the request was refused as invalid")
_NO_MODEL: Final = (
    RequestRefusedError,
    "no such model, or none that the settings allow; see OPENROUTER_MODEL",
)
_REFUSED: Final = (ContentRefusedError, "the provider will not work on this text")
_KEY: Final = (AccountError, "the key was rejected; see OPENROUTER_API_KEY")
_CREDIT: Final = (AccountError, "the account has no credit left")
_TOO_DEAR: Final = (
    RequestRefusedError,
    "this one request costs more than the credit allows",
)
_CREDIT_IN_USE: Final = (RateLimitedError, "the credit is held by running requests")
_BUDGET: Final = (AccountError, "the budget set for this key is spent")
_TOO_MANY: Final = (RateLimitedError, "too many requests")
_DOWN: Final = (UnavailableError, "the service failed")
_OVERLOADED: Final = (UnavailableError, "the service is overloaded")
_RELAYED: Final = (UnavailableError, "the model's host failed")
_LATE: Final = (ProviderTimeoutError, "the service gave up waiting for the model")

_BY_TYPE: Final[Mapping[str, _Kind]] = {
    "authentication": _KEY,
    "content_policy_violation": _REFUSED,
    "context_length_exceeded": _TOO_LONG,
    "invalid_prompt": _INVALID,
    "invalid_request": _INVALID,
    "max_tokens_exceeded": _TOO_LONG,
    "not_found": _NO_MODEL,
    "payload_too_large": _TOO_LONG,
    "precondition_failed": _INVALID,
    "provider_overloaded": _OVERLOADED,
    "provider_unavailable": _RELAYED,
    "rate_limit_exceeded": _TOO_MANY,
    "refusal": _REFUSED,
    "server": _DOWN,
    "string_too_long": _TOO_LONG,
    "timeout": _LATE,
    "token_limit_exceeded": _TOO_LONG,
    "unprocessable": _INVALID,
}
_BY_STATUS: Final[Mapping[int, _Kind]] = {
    400: _INVALID,
    401: _KEY,
    402: _CREDIT,
    403: _REFUSED,
    404: _NO_MODEL,
    405: _INVALID,
    408: _LATE,
    410: _NO_MODEL,
    412: _INVALID,
    413: _TOO_LONG,
    415: _INVALID,
    422: _INVALID,
    425: _OVERLOADED,
    429: _TOO_MANY,
    503: _OVERLOADED,
    504: _LATE,
    522: _LATE,
    524: _LATE,
    529: _OVERLOADED,
}
_FAILURES: Final = range(400, 600)
_REFUSALS: Final = range(300, 500)
_DEFAULT_CREDIT_WAIT: Final = 15.0  # seconds
_MOST_SECONDS: Final = 1e11  # since 1970, in the year 5138; above are milliseconds


def read_answer(
    status: int, headers: Mapping[str, str], body: bytes, *, now: datetime
) -> Completion:
    """Read one whole answer.

    Args:
        status: Of HTTP.
        headers: With names in small letters.
        body: As it came.
        now: The time, aware; what a moment to wait for is counted from.

    Returns:
        The text that the model wrote.

    Raises:
        ProviderError: There is none; of the class that says what to do.
    """
    data = _parse(body)
    error = _find_error(status, headers, data, now)
    if error is not None:
        raise error
    choice = _first_choice(data)
    text = _object(choice.get("message")).get("content")
    usage = _object(data.get("usage"))
    details = _object(usage.get("completion_tokens_details"))
    return Completion(
        text=text if isinstance(text, str) else "",
        model=_word(data.get("model")),
        is_truncated=choice.get("finish_reason") == "length",
        prompt_tokens=int(_number(usage.get("prompt_tokens")) or 0),
        completion_tokens=int(_number(usage.get("completion_tokens")) or 0),
        reasoning_tokens=int(_number(details.get("reasoning_tokens")) or 0),
        cost=_number(usage.get("cost")),
        generation_id=_word(data.get("id")),
    )


def _find_error(
    status: int, headers: Mapping[str, str], data: _Json, now: datetime
) -> ProviderError | None:
    """Say what is wrong with an answer; None = there is a text in it."""
    if status != HTTPStatus.OK or data.get("error"):
        return _error(status, headers, data, now)
    choice = _first_choice(data)
    if choice.get("error"):
        return _error(status, headers, choice, now)
    finish = choice.get("finish_reason")
    if finish == "content_filter":
        return ContentRefusedError(NAME, _REFUSED[1], status_code=status)
    if finish == "error":
        reason = "the model stopped with an error"
        return UnavailableError(NAME, reason, status_code=HTTPStatus.BAD_GATEWAY)
    text = _object(choice.get("message")).get("content")
    if not isinstance(text, str) or not text.strip():
        reason = "the answer holds no text" if data else "the answer is no JSON object"
        return BadAnswerError(NAME, reason, status_code=status)
    return None


def _first_choice(data: _Json) -> _Json:
    choices = data.get("choices")
    if not isinstance(choices, list) or not choices:
        return {}
    return _object(cast("list[object]", choices)[0])


def _parse(body: bytes) -> _Json:
    try:
        return _object(json.loads(body))
    except (ValueError, RecursionError):
        return {}


def _object(value: object) -> _Json:
    return cast("_Json", value) if isinstance(value, dict) else {}


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) and value >= 0 else None


def _word(value: object) -> str | None:
    return value[:200] if isinstance(value, str) and value.isprintable() else None


def _error(
    status: int, headers: Mapping[str, str], data: _Json, now: datetime
) -> ProviderError:
    """Say which error the object *data* holds, that of HTTP or its own."""
    error = _object(data.get("error"))
    metadata = _object(error.get("metadata"))
    code = error.get("code")
    true_status = _true_status(status, error)
    cls, reason = _kind(true_status, error, metadata)
    retry_after = None
    if cls.is_retryable:
        retry_after = _wait(headers, error, metadata, now)
        if retry_after is None and (cls, reason) == _CREDIT_IN_USE:
            retry_after = _DEFAULT_CREDIT_WAIT
    said = metadata.get("error_type") or error.get("error_type")
    word = said if isinstance(said, str) else code if isinstance(code, str) else None
    return cls(
        NAME,
        reason,
        status_code=true_status,
        retry_after=retry_after,
        code=word if word and _CODE.fullmatch(word) else None,
    )


def _true_status(status: int, error: _Json) -> int:
    for value in (error.get("code"), error.get("http_status")):
        number = int(value) if isinstance(value, str) and value.isdigit() else value
        if status == HTTPStatus.OK and isinstance(number, int) and number in _FAILURES:
            return number
    return 502 if status == HTTPStatus.OK else status


def _kind(status: int, error: _Json, metadata: _Json) -> _Kind:  # noqa: PLR0911
    source = metadata.get("limit_source")
    is_relayed = "provider_name" in metadata and "reasons" not in metadata
    if status == HTTPStatus.PAYMENT_REQUIRED:
        if source == "openrouter_in_flight_budget":
            too_dear = metadata.get("reason") == "weight_exceeds_budget"
            return _TOO_DEAR if too_dear else _CREDIT_IN_USE
        return _TOO_DEAR if _AFFORD.search(str(error.get("message"))) else _CREDIT
    if status == HTTPStatus.FORBIDDEN and source:
        return _BUDGET
    if status == HTTPStatus.UNAUTHORIZED:
        # Of the model's host, whose key is not ours.
        return _RELAYED if is_relayed else _KEY
    said = metadata.get("error_type") or error.get("error_type") or error.get("code")
    if said == "model_not_found":
        return _NO_MODEL
    if said == "insufficient_quota":
        return _CREDIT
    if isinstance(said, str) and said in _BY_TYPE:
        return _BY_TYPE[said]
    if status in {403, 404} and is_relayed:
        return _RELAYED
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    return _INVALID if status in _REFUSALS else _DOWN


def _wait(
    headers: Mapping[str, str], error: _Json, metadata: _Json, now: datetime
) -> float | None:
    """Return the seconds that the answer asks to wait, at most a day, or None."""
    inner = {k.lower(): v for k, v in _object(metadata.get("headers")).items()}
    told = (
        _number(_object(error.get("availability")).get("retry_after"))
        or _seconds(headers.get("retry-after"), now)
        or _seconds(inner.get("retry-after"), now)
        or _until(headers.get("x-ratelimit-reset"), now)
        or _until(inner.get("x-ratelimit-reset"), now)
        or _until(metadata.get("resets_at"), now)
    )
    return None if told is None else min(told, _LONGEST_WAIT)


def _seconds(value: object, now: datetime) -> float | None:
    """Read a Retry-After: seconds, or a date of HTTP."""
    text = str(value).strip() if isinstance(value, str | int | float) else ""
    try:
        return _number(float(text))
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (aware - now).total_seconds())


def _until(value: object, now: datetime) -> float | None:
    """Read a moment: milliseconds or seconds since 1970, or an ISO date."""
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        try:
            moment = float(value)
        except ValueError:
            moment = _iso(str(value))
        if math.isfinite(moment) and moment > 0:
            seconds = moment / 1000 if moment > _MOST_SECONDS else moment
            return max(0.0, seconds - now.timestamp())
    return None


def _iso(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return 0.0
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return aware.timestamp()
