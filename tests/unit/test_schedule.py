"""When a task runs by itself: ticks, time zones, daylight saving, missed ticks."""

import re
from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

import taskflow
from taskflow import Registry
from taskflow._declare.schedule import MOST_MISSED, Schedule, cron, every
from taskflow.errors import RegistryError, TaskNameTakenError


def at(text: str) -> datetime:
    """Give a time in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def body(day: str = "") -> None:
    """Do nothing."""


def schedule(when, missed="last") -> Schedule:
    """Give a schedule of some task."""
    return Schedule("s", Registry().task(name="t")(body), when, missed)


@pytest.mark.parametrize(
    ("expression", "tz", "after", "tick"),
    [
        ("0 9 * * mon-fri", "UTC", "2026-11-20 09:00", "2026-11-23 09:00"),
        ("0 9 * * *", "Europe/Berlin", "2026-11-20 07:00", "2026-11-20 08:00"),
        ("0 9 * * *", "Europe/Berlin", "2026-07-20 06:00", "2026-07-20 07:00"),
        ("*/15 * * * *", "Asia/Kathmandu", "2026-01-01 00:00", "2026-01-01 00:15"),
        ("@daily", "America/New_York", "2026-01-01 00:00", "2026-01-01 05:00"),
        ("@hourly", "UTC", "2026-01-01 00:00:00.001", "2026-01-01 01:00"),
        ("@weekly", "UTC", "2026-11-23 00:00", "2026-11-29 00:00"),
        ("@monthly", "UTC", "2026-11-23 00:00", "2026-12-01 00:00"),
        ("@Yearly", "UTC", "2026-11-23 00:00", "2027-01-01 00:00"),
        ("0 0 29 2 *", "UTC", "2026-01-01 00:00", "2028-02-29 00:00"),
    ],
)
def test_an_expression_ticks_in_its_time_zone(expression, tz, after, tick):
    """The first tick is after the moment, never at it."""
    assert at(tick) == cron(expression, tz).after(at(after))


@pytest.mark.parametrize(
    ("expression", "after", "ticks"),
    [
        # 2026-03-29 02:00 CET -> 03:00 CEST: 02:30 is not there.
        ("30 2 * * *", "2026-03-28 12:00", ["2026-03-29 01:00", "2026-03-30 00:30"]),
        # 2026-10-25 03:00 CEST -> 02:00 CET: 02:30 is there twice.
        ("30 2 * * *", "2026-10-24 12:00", ["2026-10-25 00:30", "2026-10-26 01:30"]),
        ("30 2 * * *", "2026-10-25 01:10", ["2026-10-26 01:30"]),
        (
            "0 * * * *",
            "2026-10-24 23:30",
            ["2026-10-25 00:00", "2026-10-25 01:00", "2026-10-25 02:00"],
        ),
        ("0 * * * *", "2026-03-29 00:30", ["2026-03-29 01:00", "2026-03-29 02:00"]),
    ],
)
def test_daylight_saving_neither_loses_nor_doubles_a_tick(expression, after, ticks):
    """A fixed time ticks once a day, an hourly one every real hour."""
    when, moment, found = cron(expression, "Europe/Berlin"), at(after), []
    for _ in ticks:
        moment = when.after(moment)
        found.append(moment)

    assert list(map(at, ticks)) == found


def test_an_interval_ticks_by_the_epoch():
    """So every worker comes to the same ticks, whenever it began."""
    ten = every(10)

    assert at("2026-01-01 00:00:10") == ten.after(at("2026-01-01 00:00:00"))
    assert at("2026-01-01 00:00:10") == ten.after(at("2026-01-01 00:00:09.999"))
    assert at("2026-01-01 00:00:10") == next(ten.until(at("2026-01-01 00:00:10")))
    assert "every 0:01:30" == str(every(timedelta(seconds=90)))


MOMENTS = st.integers(1_577_836_800_000, 2_051_222_400_000).map(
    lambda ms: datetime.fromtimestamp(ms / 1000, UTC)
)
WHENS = st.one_of(
    st.floats(0.1, 100_000).map(every),
    st.builds(
        cron,
        st.sampled_from(
            ["* * * * *", "*/7 * * * *", "30 2 * * *", "0 0 1 * *", "15 3 * * sun"]
        ),
        st.sampled_from(
            ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]
        ),
    ),
)


@given(WHENS, MOMENTS)
def test_ticks_go_forward_and_are_found_again_going_back(when, moment):
    """What comes next is later, and is the last one once it has come."""
    tick = when.after(moment)

    assert moment < tick
    assert tick == next(when.until(tick))
    assert tick > next(when.until(tick - timedelta(milliseconds=1)))
    assert tick < when.after(tick)


@pytest.mark.parametrize(
    ("missed", "now", "ticks"),
    [
        ("last", "2026-01-01 00:00:00.2", ["00:00"]),
        ("all", "2026-01-01 00:00:00.2", ["00:00"]),
        ("skip", "2026-01-01 00:00:00.2", ["00:00"]),
        ("last", "2026-01-01 03:30", ["03:00"]),
        ("all", "2026-01-01 03:30", ["00:00", "01:00", "02:00", "03:00"]),
        ("skip", "2026-01-01 03:30", []),
        ("skip", "2026-01-01 03:00:30", ["03:00"]),
    ],
)
def test_missed_ticks_are_made_as_the_policy_says(missed, now, ticks):
    """Whatever it says, the next one to wait for is in the future."""
    hourly = schedule(cron("@hourly", "UTC"), missed)
    made, following = hourly.due(at("2026-01-01 00:00"), at(now))

    assert [at(f"2026-01-01 {tick}") for tick in ticks] == made
    assert hourly.when.after(at(now)) == following


def test_a_year_of_missed_ticks_costs_no_year():
    """The latest thousand are made, none is counted one by one."""
    often = schedule(every(0.1), "all")
    made, following = often.due(at("2025-01-01 00:00"), at("2026-01-01 00:00"))

    assert MOST_MISSED == len(made)
    assert at("2026-01-01 00:00") == made[-1]
    assert made == sorted(made)
    assert made[-1] < following


@pytest.mark.parametrize(
    ("declare", "told"),
    [
        (lambda r: r.cron("61 * * * *"), "Bad minute"),
        (lambda r: r.cron("0 0 31 2 *"), "'0 0 31 2 *' is wrong"),
        (lambda r: r.cron("x"), "minute, hour, day of month"),
        (lambda r: r.cron("* * * * *", tz="Mars/Olympus"), "'Europe/Berlin'"),
        (lambda r: r.cron("* * * * *", tz="../etc"), "no time zone"),
        (lambda r: r.cron("*/90 * * * *"), "every(timedelta(minutes=90))"),
        (lambda r: r.cron("0 1,*/36 * * *"), "'*/36' goes past the last hour, 23"),
        (lambda r: r.cron("9-17/20 * * * *"), "it ticks at 9 alone"),
        (lambda r: r.cron("50/10 * * * *"), "it ticks at 50 alone"),
        (lambda r: r.cron("*/90 * * * * *"), "every(timedelta(seconds=90))"),
        (lambda r: r.cron("0 0 1 */13 *"), "'*/13' goes past the last month, 12"),
        (
            lambda r: r.cron("@daily", tz=timezone(timedelta(hours=2))),
            "a fixed offset is 'Etc/GMT-2'",
        ),
        (lambda r: r.cron("@daily", tz=None), "tz=None has no name"),
        (lambda r: r.every(0), "0.1 s to 366 days, got 0"),
        (lambda r: r.every(float("nan")), "got nan"),
        (lambda r: r.every(timedelta(days=400)), "366 days"),
        (lambda r: r.every(1, name="a b")(TASK), "'a b' may hold"),
        (lambda r: r.every(1, missed="some")(TASK), "last, all, skip"),
        (lambda r: r.every(1)(body), "above @task"),
    ],
)
def test_what_makes_no_sense_is_refused_where_it_is_written(declare, told):
    """With the value and the way out."""
    with pytest.raises(RegistryError) as caught:
        declare(Registry())

    assert told in str(caught.value)


TASK = Registry().task(name="t")(body)


def test_a_decorated_task_is_still_the_task():
    """Schedules are the registry's; two of one task need two names."""
    registry = Registry()

    @registry.cron("@daily", arguments={"day": "today"})
    @registry.every(3600, name="hourly")
    @registry.task(name="report")
    def report(day: str = "") -> str:
        return day

    assert "x" == report("x")
    assert [("hourly", "every 1:00:00"), ("report", "0 0 * * * (UTC)")] == [
        (each.name, str(each.when)) for each in registry.schedules()
    ]
    assert report.call(day="today") == registry.schedules()[1].call()
    with pytest.raises(RegistryError, match="give this one a name"):
        registry.every(60)(report)


def test_an_included_registry_brings_its_schedules_or_nothing():
    """A clash of schedules leaves both as they were."""
    ours, theirs = Registry(), Registry()
    ours.every(1, name="tick")(ours.task(name="a")(body))

    def other() -> None:
        """Do nothing."""

    theirs.every(2, name="tick")(theirs.task(name="b")(other))
    with pytest.raises(TaskNameTakenError, match="tick"):
        ours.include(theirs)

    assert ("a",) == ours.names()
    both = Registry()
    both.include(theirs)
    both.include(theirs)
    assert theirs.schedules() == both.schedules()


def test_schedules_can_be_declared_for_the_default_registry():
    """By the names that users import."""
    assert taskflow.cron.__func__ is Registry.cron
    assert taskflow.every.__func__ is Registry.every


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("*/7 * * * *", "the last wait is 4 instead of 7; for one tick every 7"),
        ("*/45 0 * * *", "use every(timedelta(minutes=45))"),
        ("0 */5 * * *", "the last wait is 4 instead of 5"),
        ("0 0 */2 * *", "shorter at the end of each month"),
        ("0 0 1 */5 *", "the last wait is 2 instead of 5"),
        ("*/7 * * * * *", "use every(timedelta(seconds=7))"),
        ("* 2 * * *", "ticks every minute of hour 2: for one tick write '0 2'"),
        ("0 0 13 * 5", "'13' and day of week '5' are alternatives"),
        ("0 0 31 * *", "months without a day 31 are left out"),
    ],
)
def test_an_expression_that_misleads_is_warned_of(expression, told):
    """Where it is written."""
    with pytest.warns(UserWarning, match=re.escape(told)) as warned:
        Registry().cron(expression)

    assert [__file__] == [each.filename for each in warned]


@pytest.mark.parametrize(
    "expression",
    [
        *("* * * * *", "*/5 * * * *", "0 */6 * * *", "*/60 * * * *", "0 */24 * * *"),
        *("0 0 1 */3 *", "0 9-17/2 * * mon-fri", "5/10 * * * *", "* 9-17 * * *"),
        *("*/15 9 * * *", "0 0 L * *", "0 0 13 * *", "0 0 * * */7", "@daily"),
        *("*/30 * * * * *", "0 0 31 1,3 *", "*/1 * * * *"),
    ],
)
def test_an_expression_that_means_what_it_says_is_taken(expression, recwarn):
    """Without a warning."""
    Registry().cron(expression)

    assert [] == list(recwarn)


@pytest.mark.parametrize(
    ("zone", "name"),
    [
        (ZoneInfo("Europe/Berlin"), "Europe/Berlin"),
        (UTC, "UTC"),
        (SimpleNamespace(zone="Asia/Tokyo"), "Asia/Tokyo"),  # as pytz has it
    ],
)
def test_a_time_zone_may_be_an_object_that_has_a_name(zone, name):
    """The schedule keeps the name."""
    assert f"0 9 * * * ({name})" == str(cron("0 9 * * *", zone))
