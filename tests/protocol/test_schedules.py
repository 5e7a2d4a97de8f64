"""Schedules: each tick is made once, by whichever worker comes first."""

from datetime import timedelta

import pytest
from attrs import evolve

from taskflow import Registry
from taskflow._codec import Spec, encode_spec, to_json
from taskflow._declare.schedule import Schedule, every
from taskflow._protocol.lenient import moment
from taskflow._protocol.schedules import (
    SchedulePoll,
    ScheduleStatus,
    ScheduleUpsert,
    Tick,
    TickReply,
    list_schedules,
    pause_schedule,
    poll,
    template,
    tick,
    upsert_schedules,
)
from taskflow.errors import ScheduleNotFoundError, ServerError
from tests.support.keyspace import NOW

FIRST = moment(NOW + 10_000)
SECOND = moment(NOW + 20_000)


def body() -> None:
    """Do nothing."""


TASK = Registry().task(name="f")(body)
TEN = Schedule("ten", TASK, every(10))
OTHER = Schedule("ten", TASK, every(20))
SPEC = encode_spec(Spec(name="f", tick_ms=NOW + 10_000))


def announced(stage, schedule=TEN, first=FIRST):
    """Make a schedule known; say whether its definition is new."""
    told = ScheduleUpsert(schedule, schedule.digest, b"{}", TASK.spec, first)
    ((is_new, _),) = stage.send(upsert_schedules(stage.keys, [told], now_ms=NOW))
    return is_new


def ticked(stage, task_id="t1", schedule=TEN, due=FIRST, following=SECOND):
    """Make a tick; say what became of it."""
    (reply,) = stage.send(
        tick(
            stage.keys,
            [made(task_id, schedule, due, following)],
            now_ms=NOW + 10_000,
        )
    )
    return reply.word


def made(task_id, schedule=TEN, due=FIRST, following=SECOND):
    """Give a tick."""
    return Tick(
        schedule.name,
        schedule.digest,
        ms(due),
        ms(following),
        task_id,
        b"{}" if task_id else b"",
        SPEC if task_id else b"",
    )


def ms(moment):
    """Give a time in ms."""
    return round(moment.timestamp() * 1000)


KNOWN = {
    "digest": TEN.digest,
    "about": to_json({"task": "f", "when": "every 0:00:10", "missed": "last"}).decode(),
    "payload": "{}",
    "spec": TASK.spec.decode(),
}


def test_a_schedule_is_made_known(stage):
    """Its definition, and its first tick."""
    assert announced(stage)

    assert {
        "tasks:schedules": {"ten": NOW + 10_000},
        "schedule:ten": KNOWN,
    } == stage.dump()


def test_a_known_schedule_keeps_its_next_tick(stage):
    """A restart does not lose the ticks that were missed."""
    announced(stage)
    before = stage.dump()

    assert not announced(stage, first=SECOND)
    assert before == stage.dump()


def test_a_new_definition_takes_the_place_of_the_old_one(stage):
    """With ticks of its own; who has the old one makes no more."""
    announced(stage)
    assert announced(stage, OTHER, SECOND)

    assert {"ten": NOW + 20_000} == stage.dump()["tasks:schedules"]
    assert "PASSED" == ticked(stage, due=SECOND)


def test_a_tick_stores_a_task_and_moves_on(stage):
    """Record, home, marker, the next tick: all in one step."""
    announced(stage)
    assert "MADE" == ticked(stage)

    assert {
        "task:t1": {
            "state": "PENDING",
            "lane": "primary",
            "payload": "{}",
            "spec": SPEC.decode(),
            "created_ms": str(NOW + 10_000),
        },
        "tasks:pending:primary": ["t1"],
        "tasks:marker": {"work": 0},
        "tasks:schedules": {"ten": NOW + 20_000},
        "schedule:ten": KNOWN | {"last_ms": str(NOW + 10_000), "last_id": "t1"},
    } == stage.dump()


@pytest.mark.parametrize("task_id", ["t1", "t2"], ids=["sent again", "second racer"])
def test_a_tick_is_made_once(stage, task_id):
    """A call whose reply was lost, and one that came second, write nothing."""
    announced(stage)
    ticked(stage)
    before = stage.dump()

    assert "PASSED" == ticked(stage, task_id)
    assert before == stage.dump()


def test_a_tick_can_be_let_pass(stage):
    """Nothing is stored; the next one is waited for."""
    announced(stage)

    assert "LET" == ticked(stage, "")
    assert {
        "tasks:schedules": {"ten": NOW + 20_000},
        "schedule:ten": KNOWN,
    } == stage.dump()


def test_a_paused_schedule_lets_its_ticks_pass(stage):
    """Until it is resumed."""
    announced(stage)
    stage.send(pause_schedule(stage.keys, "ten", "pause", now_ms=NOW))
    assert "PAUSED" == ticked(stage)
    paused = stage.send(list_schedules(stage.keys, now_ms=NOW)).schedules[0].paused_at
    stage.send(pause_schedule(stage.keys, "ten", "resume", now_ms=NOW))

    assert moment(NOW) == paused
    assert "MADE" == ticked(stage, due=SECOND, following=SECOND + timedelta(seconds=10))


def test_the_timetable_has_the_next_tick_first(stage):
    """With what was made last, and the time that ticks are compared with."""
    announced(stage)
    announced(stage, Schedule("soon", TASK, every(5)), moment(NOW + 5000))
    ticked(stage)
    table = stage.send(list_schedules(stage.keys, now_ms=NOW))

    assert moment(NOW) == table.now
    assert ["soon", "ten"] == [each.name for each in table.schedules]
    assert (
        ScheduleStatus(
            name="ten",
            task="f",
            when="every 0:00:10",
            missed="last",
            digest=TEN.digest,
            next_at=SECOND,
            last_at=FIRST,
            last_task_id="t1",
            paused_at=None,
        )
        == table.schedules[1]
    )


def test_a_look_writes_nothing(stage):
    """Timetable and template leave the keyspace as it was."""
    announced(stage)
    before = stage.dump()
    stage.send(list_schedules(stage.keys))

    assert (b"{}", TASK.spec, "") == stage.send(template(stage.keys, "ten"))
    assert before == stage.dump()


def test_a_removed_schedule_is_gone(stage):
    """With everything that belonged to it, but the line in the audit log."""
    announced(stage)
    stage.send(pause_schedule(stage.keys, "ten", "remove", now_ms=NOW))

    assert ["tasks:events"] == list(stage.dump())


@pytest.mark.parametrize("verb", ["pause", "resume", "remove"])
def test_a_schedule_that_is_not_there_is_said_so(stage, verb):
    """Nothing is written for it."""
    with pytest.raises(ScheduleNotFoundError, match="'ten'"):
        stage.send(pause_schedule(stage.keys, "ten", verb))
    with pytest.raises(ScheduleNotFoundError):
        stage.send(template(stage.keys, "ten"))

    assert {} == stage.dump()


def test_a_full_server_refuses_a_tick_whole(real_stage):
    """It is made when there is room again."""
    from taskflow.errors import ServerFullError

    stage = real_stage
    announced(stage)
    before = stage.dump()
    stage.client.config_set("maxmemory", 1)
    try:
        with pytest.raises(ServerFullError):
            ticked(stage)
        assert before == stage.dump()
    finally:
        stage.client.config_set("maxmemory", 0)

    assert "MADE" == ticked(stage)


def test_many_schedules_are_announced_and_ticked_in_one_call(stage):
    """Each on its own: one that somebody else ticked does not stop the others."""
    soon = Schedule("soon", TASK, every(5))
    gone = Schedule("gone", TASK, every(5))
    told = [
        ScheduleUpsert(each, each.digest, b"{}", TASK.spec, FIRST)
        for each in (TEN, soon)
    ]
    known = stage.send(upsert_schedules(stage.keys, told, now_ms=NOW))
    again = stage.send(upsert_schedules(stage.keys, told, now_ms=NOW))
    ticks = [made("t1"), made("t2", gone), made("t3", soon), made("t4")]
    replies = stage.send(tick(stage.keys, ticks, now_ms=NOW + 10_000))

    assert [(True, NOW + 10_000)] * 2 == known
    assert [(False, NOW + 10_000)] * 2 == again
    assert [
        TickReply("MADE", (NOW + 20_000, TEN.digest)),
        TickReply("PASSED", None),
        TickReply("MADE", (NOW + 20_000, soon.digest)),
        TickReply("PASSED", (NOW + 20_000, TEN.digest)),
    ] == replies
    assert ["t1", "t3"] == stage.dump()["tasks:pending:primary"]


def test_ticks_of_one_schedule_are_made_one_after_the_other(stage):
    """Those that were missed are made up for in one call."""
    announced(stage)
    third = SECOND + timedelta(seconds=10)
    ticks = [made("t1"), made("t2", due=SECOND, following=third)]
    replies = stage.send(tick(stage.keys, ticks, now_ms=NOW + 20_000))

    assert ["MADE", "MADE"] == [each.word for each in replies]
    assert {"ten": NOW + 30_000} == stage.dump()["tasks:schedules"]


def test_a_poll_tells_the_next_ticks_and_how_many_schedules_there_are(stage):
    """Of those that it names; it writes nothing."""
    announced(stage)
    announced(stage, Schedule("soon", TASK, every(5)))
    before = stage.dump()
    found = stage.send(poll(stage.keys, ["ten", "none"], now_ms=NOW))
    nothing = stage.send(poll(stage.keys, [], now_ms=NOW))

    assert SchedulePoll(NOW, 2, [(NOW + 10_000, TEN.digest), None]) == found
    assert SchedulePoll(NOW, 2, []) == nothing
    assert before == stage.dump()


def test_a_schedule_of_a_foreign_type_stops_no_tick_of_the_others(stage):
    """It counts as gone, and is announced anew."""
    soon = Schedule("soon", TASK, every(5))
    announced(stage)
    announced(stage, soon)
    stage.client.delete("schedule:ten")
    stage.client.set("schedule:ten", "theirs")
    ticks = [made("t1"), made("t2", soon)]
    replies = stage.send(tick(stage.keys, ticks, now_ms=NOW + 10_000))
    states = stage.send(poll(stage.keys, ["ten"], now_ms=NOW)).states

    assert ["PASSED", "MADE"] == [each.word for each in replies]
    assert [None] == states == [replies[0].state]
    assert announced(stage)
    assert "MADE" == ticked(stage, "t3")


def test_a_home_of_a_foreign_type_refuses_a_tick_whole(stage):
    """No record is left without a home, and the tick is made later."""
    announced(stage)
    stage.client.set("tasks:pending:primary", "theirs")
    before = stage.dump()
    with pytest.raises(ServerError, match="WRONGTYPE"):
        ticked(stage)

    assert before == stage.dump()


def test_the_tasks_of_a_schedule_wait_for_its_upstream(stage):
    """As the definition in force says; a newer one may name none."""
    told = ScheduleUpsert(TEN, TEN.digest, b"{}", TASK.spec, FIRST, "1 api")
    stage.send(upsert_schedules(stage.keys, [told], now_ms=NOW))
    named = stage.send(template(stage.keys, "ten"))[2]
    calls = evolve(made("t1"), upstream="1 api")
    stage.send(tick(stage.keys, [calls], now_ms=NOW + 10_000))
    announced(stage, OTHER)

    assert ("1 api", "") == (named, stage.send(template(stage.keys, "ten"))[2])
    assert "1 api" == stage.dump()["task:t1"]["upstream"]
    assert ("api",) == stage.claim(5, now_ms=NOW + 10_000).undeclared
