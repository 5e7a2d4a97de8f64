"""When to try again, and when not to: every branch, replayable."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import tenacity

from taskflow import RetryPolicy, RetryRule
from taskflow._declare.retry_policy import (
    Failure,
    GiveUp,
    RetryIn,
    decide,
    full_jitter_delay,
    retry_after_of,
    status_of,
)
from taskflow.errors import ConfigurationError

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def decided(
    policy: RetryPolicy, error: BaseException | None = None, **facts: Any
) -> RetryIn | GiveUp:
    """Decide with usual facts, where others are not given."""
    usual: dict[str, Any] = {
        "attempts": 1,
        "age": 0.0,
        "max_retries": 3,
        "max_age": 7200.0,
        "rng": random.Random(1),
    }
    return decide(policy, Failure(error or ValueError(), NOW), **{**usual, **facts})


def http(status: int, **headers: str) -> Exception:
    """Give an error as HTTP clients raise it."""
    error = RuntimeError(status)
    response = type("Response", (), {"status_code": status, "headers": headers})()
    error.response = response  # type: ignore[attr-defined]
    return error


def test_the_default_wait_is_drawn_below_a_doubling_bound() -> None:
    """Full jitter, replayed by its seed."""
    delays = [
        full_jitter_delay(n, cap=60.0, rng=random.Random(n)) for n in range(1, 100)
    ]

    assert all(0 <= d <= min(60.0, 2 ** (n - 1)) for n, d in enumerate(delays, 1))
    assert RetryIn(full_jitter_delay(1, rng=random.Random(1)), counts=True) == decided(
        RetryPolicy()
    )


@pytest.mark.parametrize(
    ("attempt", "base", "cap"), [(0, 1.0, 2.0), (1, 0.0, 2.0), (1, 3.0, 2.0)]
)
def test_bounds_out_of_order_are_refused(attempt: int, base: float, cap: float) -> None:
    """Rather than drawn from."""
    with pytest.raises(ValueError, match="must"):
        full_jitter_delay(attempt, base=base, cap=cap, rng=random.Random())


@pytest.mark.parametrize(
    ("wait", "delays"),
    [
        ([1, 5], [1.0, 5.0, 5.0]),
        (timedelta(minutes=1), [60.0, 60.0, 60.0]),
        (7, [7.0, 7.0, 7.0]),
        (tenacity.wait_fixed(2), [2.0, 2.0, 2.0]),
        (tenacity.wait_exponential(multiplier=1), [1.0, 2.0, 4.0]),
        (
            tenacity.wait_chain(tenacity.wait_fixed(1), tenacity.wait_fixed(9)),
            [1, 9, 9],
        ),
        (tenacity.wait_fixed(1) + tenacity.wait_fixed(2), [3.0, 3.0, 3.0]),
        (tenacity.wait_exception(lambda error: len(str(error))), [2.0, 2.0, 2.0]),
    ],
    ids=[
        *("schedule", "timedelta", "number", "fixed", "exponential", "chain"),
        *("sum", "exception"),
    ],
)
def test_a_wait_is_a_schedule_or_one_of_tenacitys(
    wait: Any, delays: list[float]
) -> None:
    """The last of a schedule repeats; tenacity's see a real state."""
    policy = RetryPolicy(wait=wait)

    assert [RetryIn(each, counts=True) for each in delays] == [
        decided(policy, ValueError("no"), attempts=n) for n in (1, 2, 3)
    ]


def test_attempts_and_age_have_their_ends() -> None:
    """After the last retry, or past the age; whichever comes first."""
    policy = RetryPolicy(wait=1)

    assert RetryIn(1.0, counts=True) == decided(policy, attempts=3)
    assert GiveUp("exhausted") == decided(policy, attempts=4)
    assert GiveUp("max_age") == decided(policy, age=7201.0)


def test_the_first_rule_that_matches_counts() -> None:
    """By class, by status, by range, or by several of these."""
    policy = RetryPolicy(
        wait=1,
        rules=[
            RetryRule(on=KeyError, dead_letter=True),
            RetryRule(on=(402, range(500, 504), OSError), wait=[9]),
            RetryRule(on=429, counts=False),
        ],
    )

    assert GiveUp("permanent") == decided(policy, KeyError())
    assert RetryIn(9.0, counts=True) == decided(policy, http(503))
    assert RetryIn(9.0, counts=True) == decided(policy, FileNotFoundError())
    assert RetryIn(1.0, counts=True) == decided(policy, http(504))
    assert RetryIn(1.0, counts=False) == decided(policy, http(429), attempts=99)


@pytest.mark.parametrize(
    ("headers", "delay"),
    [
        ({"Retry-After": "120"}, 120.0),
        ({"retry-after": " 7 "}, 7.0),
        ({"Retry-After": "Mon, 23 Nov 2026 12:01:00 GMT"}, 60.0),
        (
            {
                "Retry-After": "Mon, 23 Nov 2026 13:01:00 GMT",
                "Date": "Mon, 23 Nov 2026 13:00:30 GMT",
            },
            30.0,
        ),
        ({"Retry-After": "Mon, 23 Nov 2026 11:00:00 GMT"}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({}, None),
    ],
    ids=["seconds", "lower-case", "date", "own-date", "past", "nonsense", "none"],
)
def test_a_retry_after_is_read_in_both_forms(
    headers: dict[str, str], delay: float | None
) -> None:
    """RFC 9110, section 10.2.3."""
    assert delay == retry_after_of(http(503, **headers), NOW)


def test_a_retry_after_on_the_error_itself_wins_over_schedule_and_rule() -> None:
    """In seconds, or as a timedelta; not a number is nothing."""
    error = ValueError()
    policy = RetryPolicy(wait=1, rules=[RetryRule(on=ValueError, wait=2)])
    told: list[Any] = []
    for value in (3, timedelta(seconds=4), -1, float("nan"), True, "5"):
        error.retry_after = value  # type: ignore[attr-defined]
        told.append(decided(policy, error))

    assert [3.0, 4.0, 0.0, 2.0, 2.0, 2.0] == [each.delay for each in told]


def test_a_status_is_found_where_clients_keep_it() -> None:
    """httpx, requests and aiohttp name it differently."""
    on_error, on_status, as_bool = ValueError(), ValueError(), ValueError()
    on_error.status_code = 418  # type: ignore[attr-defined]
    on_status.status = 404  # type: ignore[attr-defined]
    as_bool.status = True  # type: ignore[attr-defined]

    assert [418, 404, 503, None, None] == [
        status_of(each)
        for each in (on_error, on_status, http(503), as_bool, KeyError())
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_retries": -1},
        {"max_age": 0},
        {"wait": []},
        {"wait": [1, -1]},
    ],
    ids=["retries", "age", "empty", "negative"],
)
def test_a_policy_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    """Where it is written, and not when it is needed."""
    with pytest.raises(ConfigurationError):
        RetryPolicy(**wrong)
