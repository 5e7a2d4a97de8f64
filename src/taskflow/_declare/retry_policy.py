"""How long until the next attempt, or none: a pure rule.

Time and chance are arguments, so a schedule can be replayed.
"""

import logging
import math
import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias, cast

from attrs import field, frozen

from taskflow._declare.duration import LONGEST, Seconds, problem_of, to_seconds
from taskflow._declare.error_groups import parts_of
from taskflow._declare.http_facts import retry_after_of, status_of
from taskflow.errors import ConfigurationError, Retry

_logger = logging.getLogger("taskflow.retry")

Schedule: TypeAlias = tuple[float, ...] | Callable[[Any], float] | None
"""Seconds before each retry, or what tenacity's waits are; None = full jitter."""

Wait: TypeAlias = Seconds | Sequence[Seconds] | Callable[[Any], float] | None
"""What a schedule can be made of: seconds, a sequence of seconds (the last one
repeats), or a tenacity ``wait_*`` object."""

Match: TypeAlias = type[BaseException] | int | range | Sequence["Match"]
"""An exception class, an HTTP status, a range of statuses, or several."""

_LONGEST_EXPONENT = 63


def full_jitter_delay(
    attempt: int, *, base: float = 1.0, cap: float = 300.0, rng: random.Random
) -> float:
    """Draw the wait before the attempt that follows failed attempt *attempt*.

    The draw is uniform on ``[0, min(cap, base * 2 ** (attempt - 1))]``, so tasks
    that failed together do not come back together.

    Args:
        attempt: Attempts made so far, counted from 1.
        base: Upper bound of the first wait, in seconds. Above zero.
        cap: Upper bound of every wait, in seconds. At least *base*.
        rng: Source of randomness; a seeded one replays a schedule.

    Returns:
        Seconds to wait, ``0.0 <= wait <= cap``.

    Raises:
        ValueError: *attempt* is below 1, or the bounds are out of order.

    Example:
        >>> full_jitter_delay(3, base=1.0, cap=60.0, rng=random.Random(7))
        1.295...

    Source:
        Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015:
        the "full jitter" form. The exponent is clamped at 63 so that no
        attempt count can overflow before *cap* applies.
    """
    if attempt < 1:
        message = f"attempt must be at least 1, got {attempt}"
        raise ValueError(message)
    if not 0 < base <= cap:
        message = f"0 < base <= cap must hold, got base={base}, cap={cap}"
        raise ValueError(message)
    exponent = min(attempt - 1, _LONGEST_EXPONENT)
    return rng.uniform(0.0, min(cap, base * 2**exponent))


def _check_wait(wait: Wait) -> Schedule:
    if wait is None or callable(wait):
        return wait
    several = isinstance(wait, Sequence) and not isinstance(wait, str)
    given = cast("Sequence[Seconds]", wait if several else [wait])
    schedule = [to_seconds(each) for each in given]
    if not schedule or any(
        each is None or problem_of("wait", each, zero=True) for each in schedule
    ):
        problem = (
            "wait must be seconds, a schedule of seconds or a tenacity wait, "
            f"got {wait!r}"
        )
        raise ConfigurationError(problem)
    return tuple(float(each) for each in schedule if each is not None)


def _total_wait(wait: Schedule, retries: int) -> float:
    """Add up the waits before *retries* retries; 0 if they are not known."""
    if wait is None or callable(wait):
        return 0.0
    repeats = max(0, retries - len(wait))
    return sum(wait[:retries]) + repeats * wait[-1]


def count_problem(name: str, count: int | None) -> tuple[str, ...]:
    """Say what is wrong with a number of retries: one sentence, or none."""
    if count is None or (type(count) is int and count >= 0):
        return ()
    return (f"{name} must be a whole number, at least 0, got {count!r}",)


def check_match(on: Any) -> Match:
    """Refuse what no failure can match; a list becomes a tuple."""
    if isinstance(on, type):
        kind = cast("type[Any]", on)
        if issubclass(kind, BaseException):
            return kind
    if isinstance(on, range) or type(on) is int:
        return on
    if isinstance(on, list | tuple) and on:
        several = cast("list[Any]", on)
        return tuple(check_match(each) for each in several)
    problem = (
        "on must be an exception class, an HTTP status, a range of statuses or "
        f"several of these, got {on!r}"
    )
    raise ConfigurationError(problem)


@frozen
class RetryRule:
    """What is different for some failures.

    Attributes:
        on: Which: an exception class, an HTTP status, a range of statuses, or
            several of these.
        wait: An own schedule; None = the policy's.
        dead_letter: Make no further attempt.
        uses_attempt: Whether the attempt is counted; a failure that is not (429)
            never uses the last one.
    """

    on: Match = field(converter=check_match)
    wait: Schedule = field(default=None, converter=_check_wait)
    dead_letter: bool = False
    uses_attempt: bool = True

    def matches(self, error: BaseException, status: int | None) -> bool:
        """Whether this rule is for *error*, whose HTTP status is *status*."""
        return matches(self.on, error, status)


def matches(on: Match, error: BaseException, status: int | None) -> bool:
    if isinstance(on, type):
        return isinstance(error, on)
    if isinstance(on, range):
        return status is not None and status in on
    if isinstance(on, int):
        return status == on
    return any(matches(each, error, status) for each in on)


def _check_rules(rules: Sequence[RetryRule]) -> tuple[RetryRule, ...]:
    given = (rules,) if isinstance(rules, RetryRule) else tuple(rules)
    for rule in given:
        if not isinstance(rule, RetryRule):  # pyright: ignore[reportUnnecessaryIsInstance]
            problem = f"rules must be RetryRule, got {rule!r}"
            raise ConfigurationError(problem)
    return given


@frozen
class RetryPolicy:
    """When a failed attempt is followed by another, and how soon.

    A Retry-After that the exception carries (``retry_after`` seconds, or the
    header of its ``response``) wins over every schedule.

    Attributes:
        max_retries: Failed attempts that are followed by another; None = as
            the worker is set, 3 by default.
        wait: Seconds before each retry (the last one repeats), or a tenacity
            ``wait_*`` object; None = exponential with full jitter.
        rules: Looked through in order; the first that matches counts. Of an
            exception group, each rule is compared with every leaf. A `Retry` that
            the function raises comes before them.
        max_age: Seconds of run time and retry waits, added up since the first
            attempt or the last requeue, after which a failed attempt is not
            retried; None = as the worker is set. Other waiting does not count: in
            a lane, delayed, parked, snoozed.

    Raises:
        ConfigurationError: A value is out of bounds, or *max_retries* waits of a
            schedule add up to more than *max_age*.

    Example:
        >>> policy = RetryPolicy(max_retries=5, wait=[1, 10, 60])
        >>> policy.wait
        (1.0, 10.0, 60.0)
    """

    max_retries: int | None = None
    wait: Schedule = field(default=None, converter=_check_wait)
    rules: tuple[RetryRule, ...] = field(default=(), converter=_check_rules)
    max_age: float | None = field(default=None, converter=to_seconds)

    def __attrs_post_init__(self) -> None:
        problems = (
            *count_problem("max_retries", self.max_retries),
            *problem_of("max_age", self.max_age),
        )
        if not problems and self.max_age is not None:
            # An unknown number of retries is one at least.
            retries = 1 if self.max_retries is None else self.max_retries
            problems = self.age_problem(retries, self.max_age)
        if problems:
            raise ConfigurationError(problems)

    def age_problem(self, max_retries: int, max_age: float) -> tuple[str, ...]:
        """Say that the waits do not fit in *max_age*: one sentence, or none.

        Schedules of seconds are added up. Jitter and tenacity's waits depend on
        chance or on the error, so they are not looked at; neither are rules whose
        failures do not count, nor a *max_age* of ten years, which is no bound.

        Args:
            max_retries: In force, from 0.
            max_age: In force, seconds.

        Returns:
            The sentence, for people.
        """
        counted = (
            each for each in self.rules if each.uses_attempt and not each.dead_letter
        )
        longest = max(
            _total_wait(wait, max_retries)
            for wait in (self.wait, *(each.wait for each in counted))
        )
        if longest <= max_age or max_age >= LONGEST:
            return ()
        problem = (
            f"the waits of max_retries={max_retries} add up to {longest:g} s, more than "
            f"max_age={max_age:g}: the last retries would never run; raise max_age, or "
            "lower max_retries or the waits"
        )
        return (problem,)

    def match(self, error: BaseException) -> tuple[RetryRule | None, BaseException]:
        """Find the rule for *error*, and the exception in it that decides.

        Args:
            error: What the function raised.

        Returns:
            A `Retry` without a rule, if there is one in *error* (the longest of
            several); else the first rule that is for one of its parts, and that part;
            else no rule, and its first leaf.
        """
        parts = parts_of(error)
        asked = [part for part in parts if isinstance(part, Retry)]
        if asked:
            return None, max(asked, key=lambda each: each.delay or 0.0)
        for rule in self.rules:
            for part in parts:
                if rule.matches(part, status_of(part)):
                    return rule, part
        return None, parts[0]


@frozen
class Failure:
    """A failed attempt.

    Attributes:
        error: What the function raised; may be a group.
        now: The time, for a Retry-After in form of a date; aware.
    """

    error: BaseException
    now: datetime = field(factory=lambda: datetime.now(UTC))


@frozen
class RetryIn:
    """Make another attempt.

    Attributes:
        delay: Seconds until then.
        uses_attempt: Whether the failed attempt is counted.
    """

    delay: float
    uses_attempt: bool


@frozen
class GiveUp:
    """Make no further attempt.

    Attributes:
        cause: ``exhausted``, ``max_age`` or ``permanent``.
    """

    cause: str


def decide(
    policy: RetryPolicy,
    failure: Failure,
    *,
    attempts: int,
    age: float,
    max_retries: int,
    max_age: float,
    rng: random.Random,
) -> RetryIn | GiveUp:
    """Decide what follows a failed attempt.

    Args:
        policy: The task's.
        failure: The attempt.
        attempts: Attempts made so far, this one included, from 1.
        age: Seconds of run time and retry waits so far, this attempt included.
        max_retries: In force for this call.
        max_age: In force for this call, seconds.
        rng: Source of the jitter.

    Returns:
        When to try again, or why not to.
    """
    error = failure.error
    rule, decider = policy.match(error)
    if rule is not None and rule.dead_letter:
        return GiveUp("permanent")
    uses_attempt = rule is None or rule.uses_attempt
    if uses_attempt and attempts > max_retries:
        return GiveUp("exhausted")
    if age > max_age:
        return GiveUp("max_age")
    told = retry_after_of(error, failure.now)
    if told is not None:
        return RetryIn(told, uses_attempt=uses_attempt)
    wait = rule.wait if rule is not None and rule.wait is not None else policy.wait
    return RetryIn(_delay(wait, decider, attempts, rng), uses_attempt=uses_attempt)


def _delay(
    wait: Schedule, error: BaseException, attempts: int, rng: random.Random
) -> float:
    if wait is None:
        return full_jitter_delay(attempts, rng=rng)
    if not callable(wait):
        return wait[min(attempts, len(wait)) - 1]
    told = _ask(wait, error, attempts)
    return full_jitter_delay(attempts, rng=rng) if told is None else told


def _ask(
    wait: Callable[[Any], float], error: BaseException, attempts: int
) -> float | None:
    # One that fails is a mistake in a declaration, met long after it was made:
    # the task must not be lost for it.
    try:
        delay = float(wait(_retry_state(error, attempts)))
    except Exception:
        _logger.exception("the wait of a policy failed; the default one is used")
        return None
    if not math.isfinite(delay):
        _logger.error("the wait of a policy gave %r; the default one is used", delay)
        return None
    return min(max(0.0, delay), LONGEST)


def _retry_state(error: BaseException, attempts: int) -> Any:
    """Build what tenacity's waits look at."""
    import tenacity

    state = tenacity.RetryCallState(
        retry_object=tenacity.Retrying(), fn=None, args=(), kwargs={}
    )
    state.attempt_number = attempts
    state.set_exception((type(error), error, error.__traceback__))
    return state
