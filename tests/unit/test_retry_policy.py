"""When to try again, and when not to: every branch, replayable."""

import email.message
import random
import urllib.error
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import tenacity

from taskflow import RetryPolicy, RetryRule
from taskflow._declare.http_facts import retry_after_of, status_of
from taskflow._declare.retry_policy import (
    Failure,
    GiveUp,
    RetryIn,
    decide,
    full_jitter_delay,
)
from taskflow.errors import ConfigurationError, Retry, Snooze

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


def group(*errors: BaseException) -> BaseException:
    """Raise several at once, the last of them one level deeper."""
    *first, last = errors
    return BaseExceptionGroup("all", [*first, BaseExceptionGroup("inner", [last])])


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
    assert RetryIn(
        full_jitter_delay(1, rng=random.Random(1)), uses_attempt=True
    ) == decided(RetryPolicy())


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

    assert [RetryIn(each, uses_attempt=True) for each in delays] == [
        decided(policy, ValueError("no"), attempts=n) for n in (1, 2, 3)
    ]


def test_attempts_and_age_have_their_ends() -> None:
    """After the last retry, or past the age; whichever comes first."""
    policy = RetryPolicy(wait=1)

    assert RetryIn(1.0, uses_attempt=True) == decided(policy, attempts=3)
    assert GiveUp("exhausted") == decided(policy, attempts=4)
    assert GiveUp("max_age") == decided(policy, age=7201.0)


def test_the_first_rule_that_matches_counts() -> None:
    """By class, by status, by range, or by several of these."""
    policy = RetryPolicy(
        wait=1,
        rules=[
            RetryRule(on=KeyError, dead_letter=True),
            RetryRule(on=(402, range(500, 504), OSError), wait=[9]),
            RetryRule(on=429, uses_attempt=False),
        ],
    )

    assert GiveUp("permanent") == decided(policy, KeyError())
    assert RetryIn(9.0, uses_attempt=True) == decided(policy, http(503))
    assert RetryIn(9.0, uses_attempt=True) == decided(policy, FileNotFoundError())
    assert RetryIn(1.0, uses_attempt=True) == decided(policy, http(504))
    assert RetryIn(1.0, uses_attempt=False) == decided(policy, http(429), attempts=99)


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
        {"max_retries": 2.5},
        {"max_retries": True},
        {"max_age": "1h"},
        {"wait": "10"},
        {"wait": [1, None]},
        {"wait": float("nan")},
        {"wait": timedelta(days=4000)},
        {"rules": [ValueError]},
    ],
    ids=[
        *("retries", "age", "empty", "negative", "part-of-a-retry", "true", "text-age"),
        *("text", "none", "nan", "eleven-years", "no-rule"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    """Where it is written, and not when it is needed."""
    with pytest.raises(ConfigurationError):
        RetryPolicy(**wrong)


@pytest.mark.parametrize(
    "on", ["ValueError", int, (), [ValueError, "x"], None, True, 1.5]
)
def test_a_rule_that_no_failure_can_match_is_refused(on: Any) -> None:
    """A text, a class that is no exception, nothing at all."""
    with pytest.raises(ConfigurationError, match="on must be an exception class"):
        RetryRule(on=on)


def test_every_mistake_of_a_policy_is_told_at_once() -> None:
    """One start, one list."""
    with pytest.raises(ConfigurationError) as caught:
        RetryPolicy(max_retries=-1, max_age=0)

    assert (
        "max_retries must be a whole number, at least 0, got -1",
        "max_age must be seconds or a timedelta, above 0, at most 315360000, got 0",
    ) == caught.value.problems


def test_durations_may_be_timedeltas_and_a_rule_may_stand_alone() -> None:
    """They are kept as seconds, and in a tuple."""
    rule = RetryRule(on=[ValueError], wait=[timedelta(seconds=2), 3])
    policy = RetryPolicy(max_age=timedelta(hours=1), rules=rule)  # type: ignore[arg-type]

    assert (3600.0, (rule,)) == (policy.max_age, policy.rules)
    assert ((ValueError,), (2.0, 3.0)) == (rule.on, rule.wait)
    assert hash(rule) == hash(RetryRule(on=(ValueError,), wait=(2, 3)))


def test_a_failure_that_does_not_count_still_has_an_end_in_age() -> None:
    """A service that answers 429 for ever does not keep a task for ever."""
    policy = RetryPolicy(rules=[RetryRule(on=429, uses_attempt=False)])

    assert GiveUp("max_age") == decided(policy, http(429), age=7201.0)


def test_a_rule_without_a_wait_leaves_the_policys() -> None:
    """It may only say whether the attempt counts."""
    policy = RetryPolicy(wait=6, rules=[RetryRule(on=ValueError)])

    assert RetryIn(6.0, uses_attempt=True) == decided(policy)


def test_the_jitter_is_replayed_by_its_seed() -> None:
    """The same chance, the same schedule."""
    schedules = []
    for _ in range(2):
        rng = random.Random(5)
        schedules.append(
            [decided(RetryPolicy(), attempts=n, rng=rng) for n in (1, 2, 3)]
        )

    assert schedules[0] == schedules[1]
    assert 3 == len(set(schedules[0]))


def test_a_tenacity_wait_with_chance_of_its_own_stays_in_its_bounds() -> None:
    """It draws from ``random``, as in tenacity."""
    policy = RetryPolicy(wait=tenacity.wait_random(2, 4) + tenacity.wait_fixed(1))
    delays = [decided(policy) for _ in range(50)]

    assert all(isinstance(each, RetryIn) and 3 <= each.delay <= 5 for each in delays)


def test_a_tenacity_wait_sees_what_tenacity_would_show_it() -> None:
    """Attempt, exception and outcome of a real state."""
    seen: list[Any] = []

    def wait(state: tenacity.RetryCallState) -> float:
        assert state.outcome is not None
        seen.append((state.attempt_number, state.outcome.failed))
        seen.append(state.outcome.exception())
        return 1.5

    error = ValueError("no")

    assert RetryIn(1.5, uses_attempt=True) == decided(
        RetryPolicy(wait=wait), error, attempts=2
    )
    assert [(2, True), error] == seen


def raises(state: object) -> float:
    """Fail, as a wait may."""
    message = "no wait"
    raise RuntimeError(message)


@pytest.mark.parametrize(
    "wait",
    [raises, lambda _: float("nan"), lambda _: float("inf"), lambda _: "soon"],
    ids=["raises", "nan", "infinite", "text"],
)
def test_a_wait_that_fails_loses_no_task(
    wait: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The default is used instead, and the log says so."""
    expected = RetryIn(full_jitter_delay(1, rng=random.Random(1)), uses_attempt=True)

    assert expected == decided(RetryPolicy(wait=wait))
    assert ["taskflow.retry"] == [record.name for record in caplog.records]


def test_a_wait_is_never_below_zero_nor_above_ten_years() -> None:
    """The store could not keep it."""
    below, above = RetryPolicy(wait=lambda _: -1.0), RetryPolicy(wait=lambda _: 1e12)

    assert RetryIn(0.0, uses_attempt=True) == decided(below)
    assert RetryIn(315_360_000.0, uses_attempt=True) == decided(above)


class OddError(Exception):
    """Has properties that raise, as those of some clients do."""

    @property
    def response(self) -> Any:
        """Fail."""
        message = "the request has not been sent"
        raise RuntimeError(message)

    status_code = retry_after = headers = response


def test_an_exception_whose_properties_raise_is_a_failure_like_others() -> None:
    """Looking at it does no harm."""
    assert (None, None) == (status_of(OddError()), retry_after_of(OddError(), NOW))
    assert RetryIn(2.0, uses_attempt=True) == decided(RetryPolicy(wait=2), OddError())


def test_headers_are_read_wherever_clients_keep_them() -> None:
    """On the error itself, and in a message as urllib has them."""
    message = email.message.Message()
    message["retry-AFTER"] = "11"
    by_urllib = urllib.error.HTTPError("http://x", 503, "no", message, None)
    by_aiohttp = ValueError()
    by_aiohttp.headers = {"Retry-After": "12"}  # type: ignore[attr-defined]
    by_aiohttp.status = 429  # type: ignore[attr-defined]

    assert [(503, 11.0), (429, 12.0)] == [
        (status_of(each), retry_after_of(each, NOW)) for each in (by_urllib, by_aiohttp)
    ]
    by_urllib.close()


@pytest.mark.parametrize(
    ("text", "delay"),
    [
        ("9" * 400, 315_360_000.0),
        ("²", None),
        ("-5", None),
        ("1.5", None),
        ("Mon, 23 Nov 99999 12:01:00 GMT", None),
        ("Mon, 23 Nov 2026 12:00:30 -0000", 30.0),
        ("Mon, 23 Nov 2026 13:00:30 +0100", 30.0),
    ],
    ids=["huge", "superscript", "negative", "fraction", "year", "naive", "zone"],
)
def test_a_strange_retry_after_does_no_harm(text: str, delay: float | None) -> None:
    """It is bounded, or taken for none."""
    assert delay == retry_after_of(http(503, **{"Retry-After": text}), NOW)


def test_a_date_that_cannot_be_read_leaves_our_own_time() -> None:
    """The wait is counted from now."""
    error = http(
        503, **{"Retry-After": "Mon, 23 Nov 2026 12:00:30 GMT", "Date": "today"}
    )

    assert 30.0 == retry_after_of(error, NOW)


def test_a_retry_after_beyond_every_float_is_bounded() -> None:
    """A whole number may have any length."""
    error = ValueError()
    told: list[float | None] = []
    for value in (10**400, -(10**400)):
        error.retry_after = value  # type: ignore[attr-defined]
        told.append(retry_after_of(error, NOW))

    assert [315_360_000.0, 0.0] == told


def test_an_infinite_retry_after_is_bounded() -> None:
    """So is one on the error itself."""
    error = ValueError()
    error.retry_after = float("inf")  # type: ignore[attr-defined]

    assert 315_360_000.0 == retry_after_of(error, NOW)


def test_the_time_of_a_failure_is_now_where_none_is_given() -> None:
    """Aware, in UTC."""
    assert UTC == Failure(ValueError()).now.tzinfo


def test_rules_look_at_every_leaf_of_a_group_in_the_order_of_the_rules() -> None:
    """The first rule that is for one of them counts, wherever that one is."""
    policy = RetryPolicy(
        wait=1,
        rules=[
            RetryRule(on=KeyError, dead_letter=True),
            RetryRule(on=503, wait=9),
            RetryRule(on=(ValueError, KeyboardInterrupt), wait=5),
        ],
    )

    assert GiveUp("permanent") == decided(policy, group(ValueError(), KeyError()))
    assert RetryIn(9.0, uses_attempt=True) == decided(
        policy, group(ValueError(), http(503))
    )
    assert RetryIn(5.0, uses_attempt=True) == decided(
        policy, group(OSError(), KeyboardInterrupt())
    )
    assert RetryIn(1.0, uses_attempt=True) == decided(
        policy, group(OSError(), EOFError())
    )


def test_the_leaf_that_a_rule_is_for_decides() -> None:
    """The first leaf does where no rule is for any; a class of groups can have one."""
    first, second = OSError("first"), KeyError("second")
    both = group(first, second)
    rule = RetryRule(on=KeyError)
    for_groups = RetryRule(on=BaseExceptionGroup)

    assert (rule, second) == RetryPolicy(rules=[rule]).match(both)
    assert (None, first) == RetryPolicy().match(both)
    assert (for_groups, both) == RetryPolicy(rules=[for_groups]).match(both)


def test_the_longest_retry_after_in_a_group_counts() -> None:
    """Whichever leaf has it."""
    told = group(http(503, **{"Retry-After": "7"}), http(429, **{"Retry-After": "77"}))

    assert 77.0 == retry_after_of(told, NOW)
    assert RetryIn(77.0, uses_attempt=True) == decided(RetryPolicy(wait=1), told)


def test_a_wait_of_tenacitys_sees_the_leaf_that_decides() -> None:
    """And not the group around it."""
    wait = tenacity.wait_exception(lambda error: len(str(error)))
    policy = RetryPolicy(rules=[RetryRule(on=ValueError, wait=wait)])
    found = decided(policy, group(OSError(), ValueError("four")))

    assert RetryIn(4.0, uses_attempt=True) == found


def test_a_retry_that_the_function_raises_comes_before_the_rules() -> None:
    """Alone, or with what a rule makes permanent; of several, the longest."""
    policy = RetryPolicy(wait=1, rules=[RetryRule(on=Exception, dead_letter=True)])
    longest = Retry(delay=9)

    assert RetryIn(1.0, uses_attempt=True) == decided(policy, Retry())
    assert RetryIn(1.0, uses_attempt=True) == decided(
        policy, group(ValueError(), Retry())
    )
    assert (None, longest) == policy.match(group(Retry(3), longest, Retry()))
    assert GiveUp("permanent") == decided(policy, Snooze(1))


@pytest.mark.parametrize(
    "facts",
    [
        {"max_retries": 5, "wait": 3600, "max_age": 7200},
        {"max_retries": 3, "wait": [1, 10, 60], "max_age": 70},
        {"wait": 120, "max_age": 60},
        {
            "max_retries": 2,
            "rules": [RetryRule(on=OSError, wait=[50, 51])],
            "max_age": 100,
        },
    ],
    ids=["number", "schedule", "one-wait", "rule"],
)
def test_waits_that_do_not_fit_in_max_age_are_refused(facts: dict[str, Any]) -> None:
    """Where they are declared, and not cut short when they are needed."""
    with pytest.raises(ConfigurationError, match=r"add up to .* more than max_age"):
        RetryPolicy(**facts)


@pytest.mark.parametrize(
    "facts",
    [
        {"max_retries": 2, "wait": 3600, "max_age": 7200},
        {"max_retries": 0, "wait": 120, "max_age": 60},
        {"max_retries": 1, "wait": [1, 999], "max_age": 60},
        {"max_retries": 9, "max_age": 60},
        {"max_retries": 9, "wait": tenacity.wait_fixed(60), "max_age": 60},
        {
            "max_retries": 9,
            "rules": [RetryRule(on=429, wait=30, uses_attempt=False)],
            "max_age": 60,
        },
        {"max_retries": 2**31 - 1, "wait": 180, "max_age": timedelta(days=3650)},
    ],
    ids=["exact", "none", "unused", "jitter", "tenacity", "uncounted", "for-ever"],
)
def test_waits_that_may_fit_in_max_age_are_accepted(facts: dict[str, Any]) -> None:
    """What depends on chance, on the error, or on how often a service refuses."""
    assert RetryPolicy(**facts).max_age
