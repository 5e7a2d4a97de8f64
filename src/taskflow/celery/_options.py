"""What a Celery task says of retries and rates, in our words."""

import random
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

from attrs import frozen

from taskflow._declare.duration import LONGEST
from taskflow._declare.retry_policy import RetryPolicy, RetryRule
from taskflow._declare.upstream import RateLimit, Upstream
from taskflow.errors import RegistryError

FOR_EVER = 2**31 - 1
"""Retries of a task whose ``max_retries`` is None."""

_UNITS = {"s": 1, "m": 60, "h": 3600}


@frozen
class Backoff:
    """Celery's exponential wait, as tenacity's waits are called.

    Attributes:
        factor: Seconds before the first retry.
        most: Seconds at most.
        jitter: Whether the wait is drawn from 0 to what it would be.
    """

    factor: int
    most: int
    jitter: bool

    def __call__(self, state: Any) -> float:
        """Return the seconds to wait after attempt ``state.attempt_number``.

        Source:
            ``celery.utils.time.get_exponential_backoff_interval``.
        """
        exponent = min(state.attempt_number - 1, 63)
        wait = min(self.most, self.factor * 2**exponent)
        return random.uniform(0, wait) if self.jitter else float(wait)  # noqa: S311 - no secret


def policy_of(task: Any) -> RetryPolicy:
    """Translate what *task* says of retries.

    Celery retries what ``autoretry_for`` names and what the body asks for; all
    other errors end the task at once.

    Args:
        task: The Celery task.

    Returns:
        A policy that does the same.

    Raises:
        RegistryError: Its automatic retries cannot be read.
    """
    never = tuple(getattr(task, "dont_autoretry_for", ()))
    automatic = tuple(getattr(task, "autoretry_for", ()))
    if not automatic and "_orig_run" in vars(task):
        message = (
            f"{task.name!r} was given autoretry_for when it was registered, where it "
            "cannot be read; make it an attribute of the class, or adopt with retry="
        )
        raise RegistryError(message)
    special: dict[str, Any] = dict(getattr(task, "retry_kwargs", {}))
    most = special.get("max_retries", task.max_retries) if automatic else None
    most = task.max_retries if most is None else most
    # To Celery an exit is a lost worker, whose task it runs again only if it may.
    again = task.acks_late and task.reject_on_worker_lost
    rules = [
        RetryRule(on=(SystemExit, KeyboardInterrupt), wait=0.0, dead_letter=not again),
        RetryRule(on=never, dead_letter=True) if never else None,
        RetryRule(on=automatic, wait=_wait_of(task, special)) if automatic else None,
        RetryRule(on=Exception, dead_letter=True),
    ]
    return RetryPolicy(
        max_retries=FOR_EVER if most is None else most,
        wait=task.default_retry_delay,
        rules=tuple(rule for rule in rules if rule is not None),
        max_age=LONGEST,
    )


def _wait_of(task: Any, special: dict[str, Any]) -> Any:
    backoff = float(getattr(task, "retry_backoff", False))
    if backoff:
        return Backoff(
            int(max(1.0, backoff)),
            int(getattr(task, "retry_backoff_max", 600)),
            bool(getattr(task, "retry_jitter", True)),
        )
    return special.get("countdown", task.default_retry_delay)


def upstream_of(name: str, rate: Any) -> Upstream | None:
    """Translate a rate limit of Celery.

    Args:
        name: Of the task, and of the upstream.
        rate: Such as ``"10/m"``, a number per second, or None.

    Returns:
        An upstream with that rate, for the whole fleet; None where there is none.

    Raises:
        RegistryError: It cannot be read.
    """
    if not rate:
        return None
    count, _, unit = str(rate).partition("/")
    try:
        times = Fraction(count).limit_denominator(10_000)
        per = _UNITS[unit or "s"]
    except (ValueError, KeyError, ZeroDivisionError) as error:
        message = f"the rate limit {rate!r} of {name!r} cannot be read"
        raise RegistryError(message) from error
    if times <= 0:
        return None
    limit = RateLimit(times.numerator, per=per * times.denominator, burst=1)
    return Upstream(name, breaker=None, rate_limit=limit, guards_only=True)


def seconds_until(when: Any, app: Any) -> float | None:
    """Return the seconds that a ``countdown``, an ``eta`` or ``expires`` stands for.

    Args:
        when: Seconds, or a moment; without a zone it is UTC, or in the zone of an
            app whose ``enable_utc`` is off.
        app: The Celery app.

    Returns:
        From 0 to ten years; None for None.
    """
    if isinstance(when, datetime):
        if when.tzinfo is None:
            when = when.replace(tzinfo=UTC if app.conf.enable_utc else app.timezone)
        when = (when - datetime.now(UTC)).total_seconds()
    return None if when is None else min(max(0.0, float(when)), LONGEST)
