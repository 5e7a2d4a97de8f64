"""Every shape of an answer that was seen or documented means one thing."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from taskflow_summarize._provider import Completion
from taskflow_summarize._providers.answers import read_answer
from taskflow_summarize._providers.failures import read_refusal
from taskflow_summarize.errors import (
    AccountError,
    BadAnswerError,
    ContentRefusedError,
    EmptyAnswerError,
    ProviderError,
    ProviderTimeoutError,
    RateLimitedError,
    RequestRefusedError,
    TextTooLongError,
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


def available(code: str, **said: Any) -> dict[str, Any]:
    """Make the body of an error that says whether the model can be had."""
    return {"error": {"code": 404, "availability": {"code": code, **said}}}


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
        (400, error(400, error_type="context_length_exceeded"), TextTooLongError),
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
        (402, error(402, "You can only afford 12 tokens"), AccountError),
        (402, error(402, "Prompt tokens limit exceeded: 9 > 5"), RequestRefusedError),
        (403, error(403, reasons=["x"], flagged_input=CANARY), ContentRefusedError),
        (403, error(403, limit_source="openrouter_key_limit"), AccountError),
        (403, error(403, provider_name="Maker"), UnavailableError),
        (404, error(404), RequestRefusedError),
        (405, b"", RequestRefusedError),
        (307, b"", RequestRefusedError),
        (408, error(408), ProviderTimeoutError),
        (413, b"<html>too large</html>", TextTooLongError),
        (422, error(422), RequestRefusedError),
        (429, error(429), RateLimitedError),
        (429, error("insufficient_quota"), AccountError),
        (429, b"not json", RateLimitedError),
        (401, error("invalid_api_key"), AccountError),
        (400, {"error": {"code": 400, "type": "insufficient_quota"}}, AccountError),
        (400, error(400, "maximum context length is 8192"), TextTooLongError),
        (400, error(400, error_type="string_too_long"), TextTooLongError),
        (400, {"object": "error", "message": "context length is 4"}, TextTooLongError),
        (400, error(400, error_type="refusal"), ContentRefusedError),
        (400, error(400, error_type="content_policy_violation"), ContentRefusedError),
        (403, error(403, patterns=["ignore all"]), ContentRefusedError),
        (403, error(403, limit_source="openrouter_guardrail_budget"), AccountError),
        (403, error(403, limit_source="openrouter_workspace_budget"), AccountError),
        (404, error(404, provider_name="Maker"), UnavailableError),
        (404, available("temporarily_unavailable"), UnavailableError),
        (404, available("any", retryable=True), UnavailableError),
        (404, available("constraint_filtered"), RequestRefusedError),
        (503, available("capacity_exhausted"), RateLimitedError),
        (503, available("any", retryable=False), RequestRefusedError),
        (400, error(400, error_type="provider_overloaded"), UnavailableError),
        (410, b"", RequestRefusedError),
        (412, error(412, error_type="precondition_failed"), RequestRefusedError),
        (425, b"", UnavailableError),
        (499, b"", ProviderTimeoutError),
        (520, b"<html>", UnavailableError),
        (204, b"", UnavailableError),
        (500, {"error": "a text"}, UnavailableError),
        (500, {"error": {"code": ["a"], "metadata": ["b"]}}, UnavailableError),
        (200, {"error": "a text"}, UnavailableError),
        (200, error(None, error_type="timeout"), ProviderTimeoutError),
        (200, error(402), AccountError),
        (200, error({"a": 1}, error_type=[1]), UnavailableError),
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
        (200, choice(message={"content": None, "refusal": "no"}), ContentRefusedError),
        (200, choice(message={"content": None, "reasoning": "hm"}), EmptyAnswerError),
        (200, {"id": None, "choices": None, "usage": None}, EmptyAnswerError),
        (200, completion(choices=[]), EmptyAnswerError),
        (200, completion(choices=["text"]), EmptyAnswerError),
        (200, completion(None), EmptyAnswerError),
        (200, completion(" \n"), EmptyAnswerError),
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
    ("status", "body", "amounts_to"),
    [
        (401, error(401), 401),
        (401, error(401, provider_name="Maker"), 502),
        (402, error(402), 402),
        (402, error(402, limit_source="openrouter_in_flight_budget"), 429),
        (402, error(402, "You can only afford 2666"), 400),
        (403, error(403, limit_source="openrouter_key_limit"), 402),
        (403, error(403, provider_name="Maker"), 502),
        (404, error(404), 404),
        (408, error(408), 408),
        (413, error(413), 413),
        (425, error(425), 503),
        (429, error(429), 429),
        (429, error("insufficient_quota"), 402),
        (429, error("context_length_exceeded"), 400),
        (429, error(429, error_type="provider_overloaded"), 503),
        (503, available("capacity_exhausted"), 429),
        (524, error(524), 524),
        (200, error(429), 429),
        (200, error("server_error"), 502),
    ],
)
def test_the_status_of_an_error_is_what_it_amounts_to(
    status: int, body: Any, amounts_to: int
) -> None:
    """A breaker reads it: 401 and 402 are of the account, 429 of the speed."""
    assert amounts_to == failure(body, status).status_code


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (choice(finish_reason="length", message={"content": ""}), True),
        (completion(" "), False),
    ],
)
def test_an_empty_answer_says_why_and_what_it_cost(
    body: dict[str, Any], expected: bool
) -> None:
    """It is billed like any other; a model that only thought needs more tokens."""
    met = failure(body)

    assert isinstance(met, EmptyAnswerError)
    assert (expected, 900, 14, 0.00021, False) == (
        met.is_truncated,
        met.prompt_tokens,
        met.completion_tokens,
        met.cost,
        met.counts_against_upstream,
    )


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        ({"cost": 0.5, "cost_details": {"upstream_inference_cost": 0.5}}, 0.5),
        ({"cost": 0.5, "is_byok": True}, 0.5),
        (
            {
                "cost": 0.5,
                "is_byok": True,
                "cost_details": {"upstream_inference_cost": 2.0},
            },
            2.5,
        ),
        ({"cost": None, "is_byok": True}, None),
    ],
)
def test_what_the_host_charges_by_a_key_of_your_own_is_a_cost(
    usage: dict[str, Any], cost: float | None
) -> None:
    """The service's share alone would look cheap."""
    assert cost == read(completion(usage=usage)).cost


@pytest.mark.parametrize(
    "body",
    [
        {"choices": [{"message": {"content": "Yes."}}]},
        {"choices": [{"delta": {"content": "Yes."}, "index": 0}]},
        {"choices": [{"message": {"content": [{"type": "text", "text": "Yes."}]}}]},
        {"id": None, "provider": {"choices": [{"message": {"content": "Yes."}}]}},
        {"choices": [{"message": {"content": "Yes.", "refusal": None}}]},
        {"choices": [{"message": {"content": "Yes."}}, {"index": 1, "message": 1}]},
    ],
)
def test_an_odd_answer_is_understood(body: dict[str, Any]) -> None:
    """All of these were seen."""
    assert "Yes." == read(body).text


def test_the_thinking_is_counted_and_the_name_comes_from_the_head_if_need_be() -> None:
    """Numbers that are none are left out."""
    usage = {
        "prompt_tokens": "many",
        "completion_tokens": 50,
        "completion_tokens_details": {"reasoning_tokens": 40},
        "cost": float("inf"),
    }
    answer = read(completion(id=None, usage=usage), headers={"x-generation-id": "g-1"})

    assert (0, 50, 40, None, "g-1") == (
        answer.prompt_tokens,
        answer.completion_tokens,
        answer.reasoning_tokens,
        answer.cost,
        answer.generation_id,
    )


@pytest.mark.parametrize(
    ("headers", "metadata", "seconds"),
    [
        ({"retry-after-ms": "1500", "retry-after": "9"}, {}, 1.5),
        ({"retry-after": "0"}, {"headers": {"Retry-After": 4}}, 4.0),
        ({"retry-after": "Mon, 32 Foo"}, {}, None),
        ({"x-ratelimit-reset": "30"}, {}, 30.0),
        ({"x-ratelimit-reset": "1e400"}, {}, None),
        ({}, {"headers": ["Retry-After"]}, None),
        ({}, {"limit_source": "openrouter_free_tier_daily"}, 43_200.0),
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


def test_what_the_credit_still_affords_is_told() -> None:
    """So that the request can be sent again with a smaller budget."""
    found = [
        read_refusal(402, {}, error(402, message), now=NOW).affordable
        for message in ("can only afford 2666", "can only afford 12", "no credit")
    ]

    assert [2666, None, None] == found


@pytest.mark.parametrize(
    ("status", "body", "parameter"),
    [
        (400, {"error": {"param": "max_completion_tokens"}}, "max_completion_tokens"),
        (400, error(400, "Unknown name: temperature"), "temperature"),
        (422, {"detail": [{"loc": ["body", "stream_options"]}]}, "stream_options"),
        (404, error(404, "no host supports response_format"), "response_format"),
        (400, error(400, "something else"), None),
        (429, error(429, "temperature"), None),
    ],
)
def test_a_parameter_that_is_refused_is_found(
    status: int, body: dict[str, Any], parameter: str | None
) -> None:
    """Wherever the server names it."""
    assert parameter == read_refusal(status, {}, body, now=NOW).parameter


def test_a_code_that_looks_like_a_key_is_not_kept() -> None:
    """A server may repeat it."""
    assert failure(error("sk-or-v1-8042"), 401).code is None


def test_a_permanent_error_asks_for_no_wait() -> None:
    """A Retry-After on it would bring it back in vain."""
    assert failure(error(400), 400, {"retry-after": "5"}).retry_after is None


def test_the_code_is_kept_where_it_is_a_plain_word() -> None:
    """It is what a person looks for; a sentence in its place is not kept."""
    assert ["overloaded", None] == [
        failure(error("overloaded"), 503).code,
        failure(error("your text was: x"), 503).code,
    ]
