"""When a task runs by itself: by a cron expression, or every so often."""

import re
import zoneinfo
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from hashlib import blake2b
from itertools import count, islice, takewhile
from typing import Any, Literal, TypeAlias, cast

from attrs import field, frozen
from cronsim import CronSim, CronSimError

from taskflow._codec import to_json
from taskflow._declare.cron_checks import useless_step
from taskflow._declare.duration import Seconds, to_seconds
from taskflow._declare.task import Call, Task
from taskflow.errors import RegistryError

Missed: TypeAlias = Literal["last", "all", "skip"]
MISSED: tuple[Missed, ...] = ("last", "all", "skip")

LATE = 60.0
"""Seconds after which a tick that nobody made counts as missed."""

MOST_MISSED = 1000
"""Missed ticks that are made up for, at most; the oldest are let go."""

SHORTEST = 0.1
"""Seconds between two ticks, at least."""

NAME_PATTERN = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_LONGEST = 366 * 86_400.0

# cronsim knows the five fields (and a sixth for seconds), not crontab's names.
_ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


@frozen
class Cron:
    """Ticks by a cron expression.

    Daylight saving, as Debian's cron has it: a fixed time in the hour that is left
    out ticks at the end of the gap, one in the hour that comes twice ticks once;
    expressions with ``*`` or ``*/n`` in hour or minute go on by real time.

    Attributes:
        expression: Five fields, or six with the seconds first to last as cronsim
            has them.
        zone: In which the fields are meant.
    """

    expression: str
    zone: str

    def after(self, moment: datetime) -> datetime:
        """Return the first tick after *moment*, in UTC."""
        # In the hour that comes twice cronsim begins with one that is over.
        return next(tick for tick in self._ticks(moment) if tick > moment)

    def until(self, moment: datetime) -> Iterator[datetime]:
        """Go back from the last tick that is not after *moment*.

        Returns:
            Ticks in UTC, the latest first.
        """
        ticks = self._ticks(moment + timedelta(seconds=1), reverse=True)
        return (tick for tick in ticks if tick <= moment)

    def _ticks(self, moment: datetime, *, reverse: bool = False) -> Iterator[datetime]:
        local = moment.astimezone(zoneinfo.ZoneInfo(self.zone))
        for tick in CronSim(self.expression, local, reverse=reverse):
            yield tick.astimezone(UTC)

    def __str__(self) -> str:
        return f"{self.expression} ({self.zone})"


@frozen
class Every:
    """Ticks every so many seconds, counted from the epoch.

    So every worker comes to the same ticks, and a restart does not shift them.

    Attributes:
        seconds: Between two ticks.
    """

    seconds: float

    def after(self, moment: datetime) -> datetime:
        """Return the first tick after *moment*, in UTC."""
        return self._tick(self._number(moment) + 1)

    def until(self, moment: datetime) -> Iterator[datetime]:
        """Go back from the last tick that is not after *moment*.

        Returns:
            Ticks in UTC, the latest first.
        """
        return map(self._tick, count(self._number(moment), -1))

    @property
    def _period_ms(self) -> int:
        return round(self.seconds * 1000)

    def _number(self, moment: datetime) -> int:
        return round(moment.timestamp() * 1000) // self._period_ms

    def _tick(self, number: int) -> datetime:
        return datetime.fromtimestamp(number * self._period_ms / 1000, UTC)

    def __str__(self) -> str:
        return f"every {timedelta(seconds=self.seconds)}"


@frozen
class Schedule:
    """A task that runs by itself.

    Attributes:
        name: Under which it is stored and shown.
        task: What runs.
        when: Its ticks.
        missed: What becomes of ticks that nobody made: ``last`` runs the latest of
            them, ``all`` each (the latest 1,000), ``skip`` none.
        arguments: By name, as JSON has them.
    """

    name: str
    task: Task[..., Any, Any]
    when: Cron | Every
    missed: Missed = "last"
    arguments: Mapping[str, Any] = field(factory=dict[str, Any])

    def call(self) -> Call[Any]:
        """Make the call of one tick.

        Returns:
            A value; nothing is stored.

        Raises:
            PayloadError: The task does not take the arguments.
        """
        return self.task.call_from_json(self.arguments)

    @property
    def digest(self) -> str:
        """What tells two definitions of one name apart."""
        told = [self.task.name, str(self.when), self.missed, dict(self.arguments)]
        return blake2b(to_json(told), digest_size=12).hexdigest()

    def due(self, tick: datetime, now: datetime) -> tuple[list[datetime], datetime]:
        """Say which ticks to make, when *tick* is the next one that nobody made.

        Args:
            tick: Not after *now*.
            now: The server's time.

        Returns:
            Ticks to make, the oldest first, and the tick to wait for then.
        """
        following = self.when.after(tick)
        ticks = [tick]
        if following <= now:  # more than one was missed
            missed = takewhile(lambda each: each >= tick, self.when.until(now))
            ticks = list(islice(missed, MOST_MISSED if self.missed == "all" else 1))
            following = self.when.after(now)
        if self.missed == "skip" and (now - ticks[0]).total_seconds() > LATE:
            return [], following
        return ticks[::-1], following


def schedule_of(
    task: Any,
    when: Cron | Every,
    *,
    name: str | None,
    arguments: Mapping[str, Any] | None,
    missed: Missed,
) -> Schedule:
    """Make the schedule of *task*.

    Returns:
        The schedule.

    Raises:
        RegistryError: It is no task, or an option makes no sense.
    """
    if not isinstance(task, Task):
        message = f"{task!r} is no task: put the schedule above @task, not below it"
        raise RegistryError(message)
    declared = cast("Task[..., Any, Any]", task)
    chosen = declared.name if name is None else name
    if not NAME_PATTERN.fullmatch(chosen):
        message = (
            f"schedule name {chosen!r} may hold 1 to 128 letters, digits, '_', '.', '-'"
        )
        raise RegistryError(message)
    if missed not in MISSED:
        message = f"missed must be one of {', '.join(MISSED)}, got {missed!r}"
        raise RegistryError(message)
    return Schedule(chosen, declared, when, missed, dict(arguments or {}))


def cron(expression: str, zone: str | tzinfo) -> Cron:
    """Check a cron expression and a time zone.

    Args:
        expression: Five fields, six with seconds, or a name such as ``@daily``.
        zone: Its name, or a `zoneinfo.ZoneInfo` that has one.

    Returns:
        Its ticks.

    Raises:
        RegistryError: One of them is wrong; says which and why.
    """
    known = _ALIASES.get(expression.strip().lower(), expression.strip())
    zone = _zone_name(zone)
    try:
        made = Cron(known, str(zoneinfo.ZoneInfo(zone)))
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        message = (
            f"there is no time zone {zone!r} here; name one such as 'Europe/Berlin' "
            "(pip install tzdata brings them where the system has none)"
        )
        raise RegistryError(message) from error
    try:
        made.after(datetime(2026, 1, 1, tzinfo=UTC))
    except (CronSimError, StopIteration) as error:
        message = (
            f"cron expression {expression!r} is wrong: {str(error) or 'no tick'}; "
            "the fields are minute, hour, day of month, month, day of week"
        )
        raise RegistryError(message) from error
    problem = useless_step(known)
    if problem:
        message = f"cron expression {expression!r} is wrong: {problem}"
        raise RegistryError(message)
    return made


def _zone_name(zone: object) -> str:
    """Name a time zone, so that it can be stored and shown.

    Returns:
        Its name; whether there is such a zone isn't checked.

    Raises:
        RegistryError: It has no name.
    """
    if isinstance(zone, str):
        return zone
    if zone is UTC:
        return "UTC"
    # zoneinfo says `key`, pytz says `zone`.
    name = getattr(zone, "key", None) or getattr(zone, "zone", None)
    if isinstance(name, str):
        return name
    message = (
        f"tz={zone!r} has no name: pass ZoneInfo('Europe/Berlin') or 'Europe/Berlin'; "
        "a fixed offset is 'Etc/GMT-2' (for UTC+2: its signs are reversed)"
    )
    raise RegistryError(message)


def every(interval: Seconds) -> Every:
    """Check an interval.

    Returns:
        Its ticks.

    Raises:
        RegistryError: It is out of bounds.
    """
    seconds = to_seconds(interval)
    if seconds is None or not SHORTEST <= seconds <= _LONGEST:
        message = f"every must be from {SHORTEST} s to 366 days, got {interval!r}"
        raise RegistryError(message)
    return Every(seconds)
