"""Every shape of an answer that was seen or documented means one thing."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from taskflow_summarize._provider import Completion
from taskflow_summarize._providers.answers import read_answer
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
from taskflow_summarize.testing import SUMMARY, completion

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
CANARY = "canary-8042"


def read(
    body: Any, status: int = 200, headers: dict[str, str] | None = None
) -> Completion:
    """Read one answer at noon."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_answer(status, headers or {}, data, now=NOW)


def failure(
    body: Any, status: int = 200, headers: dict[str, str] | None = None
) -> ProviderError:
    """Read one answer that is none."""
    with pytest.raises(ProviderError) as raised:
        read(body, status, headers)
    return raised.value


def error(code: Any, message: str = CANARY, **metadata: Any) -> dict[str, Any]:
    """Make the body of an error."""
    return {"error": {"code": code, "message": message, "metadata": metadata}}


def choice(**changes: Any) -> dict[str, Any]:
    """Make a body whose only choice is changed."""
    made = completion()
    made["choices"][0].update(changes)
    return made


def test_a_good_answer_is_read_whole() -> None:
    """The text, who wrote it, and what it cost."""
    expected = Completion(
        text=SUMMARY,
        model="maker/model-7b",
        is_truncated=False,
        prompt_tokens=900,
        completion_tokens=14,
        cost=0.00021,
        generation_id="gen-1755-abc",
    )

    assert expected == read(completion())


def test_what_an_answer_leaves_out_is_not_made_up() -> None:
    """Older servers say no cost; some say no usage at all."""
    answer = read({"choices": [{"message": {"content": "Yes."}}], "error": None})

    assert Completion("Yes.") == answer


def test_a_text_that_ran_out_of_tokens_is_truncated() -> None:
    """It is kept, and marked."""
    assert read(choice(finish_reason="length")).is_truncated


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, error(400), RequestRefusedError),
        (400, error("model_not_found"), RequestRefusedError),
        (400, error(400, error_type="context_length_exceeded"), RequestRefusedError),
        (401, error(401), AccountError),
        (401, error(401, provider_name="Maker"), UnavailableError),
        (402, error(402), AccountError),
        (402, error(402, limit_source="openrouter_in_flight_budget"), RateLimitedError),
        (
            402,
            error(
                402,
                limit_source="openrouter_in_flight_budget",
                reason="weight_exceeds_budget",
            ),
            RequestRefusedError,
        ),
        (402, error(402, "You can only afford 2666"), RequestRefusedError),
        (403, error(403, reasons=["x"], flagged_input=CANARY), ContentRefusedError),
        (403, error(403, limit_source="openrouter_key_limit"), AccountError),
        (403, error(403, provider_name="Maker"), UnavailableError),
        (404, error(404), RequestRefusedError),
        (405, b"", RequestRefusedError),
        (307, b"", RequestRefusedError),
        (408, error(408), ProviderTimeoutError),
        (413, b"<html>too large</html>", RequestRefusedError),
        (422, error(422), RequestRefusedError),
        (429, error(429), RateLimitedError),
        (429, error("insufficient_quota"), AccountError),
        (429, b"not json", RateLimitedError),
        (500, error(500), UnavailableError),
        (502, b"<html>bad gateway</html>", UnavailableError),
        (503, error(503), UnavailableError),
        (504, b"", ProviderTimeoutError),
        (524, b"", ProviderTimeoutError),
        (529, error("overloaded"), UnavailableError),
        (200, error(429), RateLimitedError),
        (200, error(401), AccountError),
        (200, error("502"), UnavailableError),
        (200, error("server_error"), UnavailableError),
        (200, error("rate_limit_exceeded"), RateLimitedError),
        (200, choice(error={"code": 429, "message": CANARY}), RateLimitedError),
        (200, choice(error={"code": "x"}, finish_reason="error"), UnavailableError),
        (200, choice(finish_reason="error"), UnavailableError),
        (200, choice(finish_reason="content_filter"), ContentRefusedError),
        (200, {"id": None, "choices": None, "usage": None}, BadAnswerError),
        (200, completion(choices=[]), BadAnswerError),
        (200, completion(choices=["text"]), BadAnswerError),
        (200, completion(None), BadAnswerError),
        (200, completion(" \n"), BadAnswerError),
        (200, b"", BadAnswerError),
        (200, b"null", BadAnswerError),
        (200, b"[1]", BadAnswerError),
        (200, b"<html>hello</html>", BadAnswerError),
        (200, b'{"choices": [', BadAnswerError),
        (200, b"[" * 100_000, BadAnswerError),
        (200, b"\xff\xfe\xfa", BadAnswerError),
    ],
)
def test_an_answer_without_a_summary_is_of_its_class(
    status: int, body: Any, expected: type[ProviderError]
) -> None:
    """The class decides what follows, and no word of the answer is repeated."""
    met = failure(body, status)

    assert expected is type(met)
    assert CANARY not in f"{met} {vars(met)}"
    assert met.status_code is not None


@pytest.mark.parametrize(
    ("headers", "metadata", "seconds"),
    [
        ({"retry-after": "30"}, {}, 30.0),
        ({"retry-after": "1.5"}, {}, 1.5),
        ({"retry-after": "Mon, 23 Nov 2026 12:01:00 GMT"}, {}, 60.0),
        ({"retry-after": "Mon, 23 Nov 2026 11:00:00 GMT"}, {}, None),
        ({"retry-after": "99999999"}, {}, 86_400.0),
        ({"retry-after": "-5"}, {}, None),
        ({"retry-after": "nan"}, {}, None),
        ({"retry-after": "soon"}, {}, None),
        ({"x-ratelimit-reset": str(1795435200000 + 90_000)}, {}, 90.0),
        ({"x-ratelimit-reset": str(1795435200 + 90)}, {}, 90.0),
        ({}, {"headers": {"X-RateLimit-Reset": str(1795435200000 + 90_000)}}, 90.0),
        ({}, {"headers": {"Retry-After": "7"}}, 7.0),
        ({}, {"resets_at": "2026-11-23T12:02:00Z"}, 120.0),
        ({}, {"resets_at": "never"}, None),
        ({}, {}, None),
    ],
)
def test_the_wait_that_is_asked_for_is_found(
    headers: dict[str, str], metadata: dict[str, Any], seconds: float | None
) -> None:
    """In seconds, as a date, in milliseconds; in the head or in the body."""
    met = failure(error(429, **metadata), 429, headers)

    assert seconds == (None if met.retry_after is None else round(met.retry_after, 3))


def test_credit_that_is_in_use_comes_back_soon() -> None:
    """Also where the answer does not say when."""
    body = error(402, limit_source="openrouter_in_flight_budget")

    assert 15.0 == failure(body, 402).retry_after


def test_a_permanent_error_asks_for_no_wait() -> None:
    """A Retry-After on it would bring it back in vain."""
    assert failure(error(400), 400, {"retry-after": "5"}).retry_after is None


def test_the_code_is_kept_where_it_is_a_plain_word() -> None:
    """It is what a person looks for; a sentence in its place is not kept."""
    assert ["overloaded", None] == [
        failure(error("overloaded"), 503).code,
        failure(error("your text was: x"), 503).code,
    ]
