"""An external service that tasks call, and what guards it: declared values.

Declaring touches nothing. What is declared here is made known to the fleet by its
workers; the state is one for all of them and lives on the server.
"""

import re
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Protocol

from attrs import field, frozen

from taskflow._declare import ports
from taskflow._declare.duration import Seconds, problem_of, to_seconds
from taskflow._declare.ports import Pass
from taskflow._declare.retry_policy import Match, check_match
from taskflow.errors import ConfigurationError

NAME_PATTERN = re.compile(r"[A-Za-z0-9_.-]{1,128}")

_MOST = 10**9


class Listener(Protocol):
    """What a listener has: that of pybreaker's ``CircuitBreakerListener``.

    *cb* has ``name`` and ``current_state``; a state has ``name``, one of
    ``closed``, ``open`` and ``half-open``. Called in the process where a call is
    made, or where a turn becomes known; an error in it is logged and harms nothing.
    """

    def before_call(self, cb: Any, func: Any, *args: Any, **kwargs: Any) -> None:
        """Be told that a guard lets a call begin."""

    def success(self, cb: Any) -> None:
        """Be told that a call succeeded."""

    def failure(self, cb: Any, exc: BaseException) -> None:
        """Be told that a call failed."""

    def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
        """Be told that the breaker turned."""


def _needed(value: Seconds) -> float:
    return to_seconds(value) or 0.0


def _is_count(value: object, least: int = 1) -> bool:
    return type(value) is int and least <= value <= _MOST


@frozen(kw_only=True)
class CircuitBreaker:
    """When an upstream is shut because it fails, and how it is tried again.

    It opens when at least *min_calls* ended within *window* and at least
    *failure_rate* of them failed, or when *consecutive* failed in a row. After
    *reset_timeout* it is half-open: *probes* calls may try, fleet-wide. All succeed:
    closed. One fails: open again, for twice as long each time, up to
    *longest_reset*.

    Attributes:
        failure_rate: Share of failed calls, above 0 to 1; None =
            ``CIRCUIT_FAILURE_THRESHOLD``, 0.5.
        min_calls: Ended calls below which the share says nothing; None =
            ``CIRCUIT_VOLUME_THRESHOLD``, 10.
        window: Seconds that are looked back, in twenty steps.
        reset_timeout: Seconds from opening to the first probe; None =
            ``CIRCUIT_TIMEOUT``, 60.
        longest_reset: Seconds at most; None = five times *reset_timeout*.
        probes: Calls that may try while it is half-open.
        consecutive: Failures in a row that open it as well; None = that is not
            counted.

    Source:
        Nygard, "Release It!", 2nd edition, 2018, chapter 5: Circuit Breaker.
    """

    failure_rate: float | None = None
    min_calls: int | None = None
    window: float = field(default=60.0, converter=_needed)
    reset_timeout: float | None = field(default=None, converter=to_seconds)
    longest_reset: float | None = field(default=None, converter=to_seconds)
    probes: int = 1
    consecutive: int | None = None

    def __attrs_post_init__(self) -> None:
        problems = [
            *problem_of("window", self.window),
            *problem_of("reset_timeout", self.reset_timeout),
            *problem_of("longest_reset", self.longest_reset),
        ]
        rate: Any = self.failure_rate
        if rate is not None and not (isinstance(rate, int | float) and 0 < rate <= 1):
            problems.append(f"failure_rate must be above 0 and at most 1, got {rate!r}")
        for name in ("min_calls", "consecutive", "probes"):
            value = getattr(self, name)
            if value is None and name != "probes":
                continue
            if not _is_count(value):
                problems.append(f"{name} must be a whole number from 1, got {value!r}")
        if problems:
            raise ConfigurationError(problems)


@frozen
class RateLimit:
    """How many calls may begin within a time: a token bucket.

    In any window of t seconds at most *burst* + *limit* x t / *per* begin, on all
    workers together.

    Attributes:
        limit: Tokens that come back within *per*; a call takes its weight, 1 unless
            it says otherwise.
        per: Seconds.
        burst: Tokens that the bucket holds; None = a twentieth of *limit*, at
            least 1.

    Source:
        The generic cell rate algorithm (ITU-T I.371), which is a token bucket that
        keeps one time instead of a count.
    """

    limit: int
    per: float = field(default=1.0, converter=_needed)
    burst: int | None = None

    def __attrs_post_init__(self) -> None:
        problems = [*problem_of("per", self.per)]
        if not _is_count(self.limit):
            problems.append(f"limit must be a whole number from 1, got {self.limit!r}")
        if self.burst is not None and not _is_count(self.burst):
            problems.append(f"burst must be a whole number from 1, got {self.burst!r}")
        if problems:
            raise ConfigurationError(problems)

    @property
    def bucket(self) -> int:
        """Tokens that the bucket holds."""
        return max(1, self.limit // 20) if self.burst is None else self.burst


def _matches(given: Any) -> tuple[Match, ...]:
    if isinstance(given, list | tuple):
        return tuple(check_match(each) for each in given)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return (check_match(given),)


def _listeners(given: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(given)


@frozen
class Upstream:
    """An external service, with the guards that the whole fleet keeps.

    While it is shut, saturated or tapped, tasks that name it wait parked: no attempt
    is used and no slot is held. The claim script decides, so no worker starts one.

    Attributes:
        name: Letters, digits, ``_ . -``, at most 128; not ``task``.
        breaker: When it is shut; None = never by itself.
        rate_limit: How many calls may begin; None = any number.
        concurrency: How many calls may be underway; None = any number.
        failures: Exceptions and HTTP statuses that count as its failure, besides
            those that always do: timeouts, connection errors, 408 and 5xx.
        ignored: Exceptions and HTTP statuses that say nothing of it, whatever they
            look like.
        refusals: Exceptions and HTTP statuses by which it refuses our key or our
            credit, besides 401 and 402: it is shut until a person has acted, or a
            call that tries it now and then succeeds.
        guards_only: The ends of tasks say nothing of it; only guards inside of
            bodies do. For bodies that call it now and then.
        listeners: Objects like pybreaker's ``CircuitBreakerListener``.

    Example:
        >>> api = Upstream("example-api", rate_limit=RateLimit(230, per=10.0))
        >>> api.rate_limit.bucket
        11
    """

    name: str
    breaker: CircuitBreaker | None = field(factory=CircuitBreaker, kw_only=True)
    rate_limit: RateLimit | None = field(default=None, kw_only=True)
    concurrency: int | None = field(default=None, kw_only=True)
    failures: tuple[Match, ...] = field(default=(), converter=_matches, kw_only=True)
    ignored: tuple[Match, ...] = field(default=(), converter=_matches, kw_only=True)
    refusals: tuple[Match, ...] = field(default=(), converter=_matches, kw_only=True)
    guards_only: bool = field(default=False, kw_only=True)
    listeners: tuple[Any, ...] = field(
        default=(), converter=_listeners, kw_only=True, repr=False
    )

    def __attrs_post_init__(self) -> None:
        problems: list[str] = []
        if not NAME_PATTERN.fullmatch(str(self.name)) or self.name == "task":
            problems.append(
                f"upstream name {self.name!r} may hold 1 to 128 letters, digits, "
                "'_', '.', '-', and may not be 'task'"
            )
        if self.concurrency is not None and not _is_count(self.concurrency):
            problems.append(
                f"concurrency must be a whole number from 1, got {self.concurrency!r}"
            )
        for name, kind in (("breaker", CircuitBreaker), ("rate_limit", RateLimit)):
            value = getattr(self, name)
            if value is not None and not isinstance(value, kind):
                problems.append(f"{name} must be a {kind.__name__}, got {value!r}")
        if problems:
            raise ConfigurationError(problems)

    def guard(self, *, weight: float = 1, timeout: Seconds | None = None) -> "Guard":
        """Guard one call: ``with`` in a function, ``async with`` in a coroutine.

        It waits for its turn where the rate or the number of calls is limited, and
        reports how the call ended. Inside the body of a task of this upstream the
        claim has paid for the first call already. Calls run side by side; no lock is
        held meanwhile.

        Args:
            weight: Tokens of the rate limit that the call takes; from 0.
            timeout: Seconds or a timedelta to wait for its turn at most; None = for
                ever.

        Returns:
            A context, to be entered once.

        Raises:
            ConfigurationError: *weight* or *timeout* is out of bounds.
        """
        seconds = to_seconds(timeout)
        problems = (
            *weight_problem(weight),
            *problem_of("timeout", seconds, zero=True),
        )
        if problems:
            raise ConfigurationError(problems)
        return Guard(self, weight, seconds)


def weight_problem(weight: object) -> tuple[str, ...]:
    """Say what is wrong with a weight: one sentence, or none."""
    if (
        isinstance(weight, int | float)
        and not isinstance(weight, bool)
        and 0 <= weight <= _MOST
    ):
        return ()
    return (f"weight must be a number from 0 to {_MOST}, got {weight!r}",)


class Guard:
    """One call of an upstream; see `Upstream.guard`.

    Entering it raises ``CircuitBreakerError`` where the upstream is shut, or where
    its turn does not come within the time it may wait.
    """

    def __init__(
        self, upstream: Upstream, weight: float, timeout: float | None
    ) -> None:
        self._upstream = upstream
        self._weight = weight
        self._timeout = timeout
        self._pass: Pass | None = None

    def __enter__(self) -> None:
        port = ports.gate()
        self._pass = port.enter(self._upstream, self._weight, self._timeout)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._pass is not None:
            self._pass.port.leave(self._upstream, self._pass, exc)

    async def __aenter__(self) -> None:
        port = ports.gate()
        self._pass = await port.aenter(self._upstream, self._weight, self._timeout)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._pass is not None:
            await self._pass.port.aleave(self._upstream, self._pass, exc)
