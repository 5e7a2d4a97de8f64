"""The small parts of a worker: gate, outage, settler, supervisor, log lines."""

import json
import logging
import random
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from taskflow._events import (
    Events,
    ServerBack,
    ServerLost,
    TaskCompleted,
    TaskParked,
    TaskSnoozed,
    TaskStarted,
    UpstreamStateChanged,
    WorkerStarted,
    WorkerStopped,
)
from taskflow._protocol.keys import Keys
from taskflow._protocol.record import Outcome
from taskflow._protocol.upkeep import LONGEST_TRIP_MS
from taskflow._settings import LogSettings
from taskflow._worker import upkeep
from taskflow._worker.batches import OutcomeQueue
from taskflow._worker.outage import Outage
from taskflow._worker.progress import ProgressBuffer
from taskflow._worker.reap_gate import ReapGate
from taskflow._worker.supervisor import Supervisor, WorkerProcesses
from taskflow.cli import logs
from taskflow.observers.logging import (
    JsonFormatter,
    SparedLines,
    TextFormatter,
    log_events,
)
from tests.support.processes import wait_until


class StubReports(ProgressBuffer):
    """Gathers reports, and has nobody who stores them."""

    def _ask(self) -> None:
        pass


def test_the_gate_is_closed_for_two_beats_after_anything_odd(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At the start, after an outage, and after a pause of our own."""
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    gate = ReapGate(beat=5.0)
    seen: list[bool] = []
    for step in (0.0, 4.0, 4.0, 2.5, 1.0, 30.0, 4.0, 4.0, 2.5):
        now += step
        gate.answered()
        seen.append(gate.is_open())
    gate.hold()
    seen.append(gate.is_open())

    assert [False, False, False, True, True, False, False, False, True, False] == seen


def test_the_gate_is_closed_while_nobody_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A reap that waits on its way to the server would run the moment it returns."""
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    gate = ReapGate(beat=1.0)
    seen: list[bool] = [gate.is_open()]
    for step, is_answered in (
        *((1.0, True), (1.0, True), (1.0, True)),  # all is well after two beats
        *((1.2, False), (0.1, False), (9.0, False)),  # too long without an answer
        *((0.0, True), (1.0, True), (0.9, True), (0.2, True)),  # two beats again
    ):
        now += step
        if is_answered:
            gate.answered()
        seen.append(gate.is_open())

    assert [False, False, False, True] == seen[:4]
    assert [True, False, False] == seen[4:7]
    assert [False, False, False, True] == seen[7:]


def test_a_reap_of_short_leases_may_run_for_half_a_beat(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the beat before it, that is less than until the first lease ends."""
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    gate = ReapGate(beat=1.0)
    gate.heard(1_700_000_000_000)

    assert 1_700_000_000_500 == gate.latest_ms()


def test_a_reap_says_until_when_it_may_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the server's clock, once that is known."""
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    gate = ReapGate(beat=5.0)
    assert 0 == gate.latest_ms()

    gate.heard(1_700_000_000_000)
    now += 3.0

    assert 1_700_000_003_000 + LONGEST_TRIP_MS == gate.latest_ms()


def test_the_gate_is_closed_for_a_lease_after_a_step_of_the_servers_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The living do not know of it, and renew when their next beat is due."""
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    gate = ReapGate(beat=1.0)
    seen: list[bool] = []
    for number in range(8):
        now += 1.0
        gate.answered()
        gate.heard(1_700_000_000_000, jumped=number == 3)
        seen.append(gate.is_open())

    assert [False, False, True, False, False, False, True, True] == seen


async def test_a_reap_that_is_planned_while_the_servers_clock_is_set_is_void() -> None:
    """The heartbeat's thread may hear of it between any two steps of the loop."""

    class Set(ReapGate):
        def is_open(self) -> bool:
            self.heard(1_700_000_000_000 + 3_600_000, jumped=True)
            return True

    gate, sent = Set(beat=5.0), list[Any]()
    gate.heard(1_700_000_000_000)

    async def send(operation: Any) -> list[Any]:
        sent.append(operation)
        return []

    context = upkeep.UpkeepContext(
        *(SimpleNamespace(send=send), Keys(), Events(), 3, 0.0, lambda: 0, gate),
        random.Random(1),
    )
    await upkeep.reap(context)

    (operation,) = sent
    *_, latest_ms = operation.args
    assert 0 < latest_ms < 1_700_000_000_000 + 60_000


def test_an_outage_is_told_once_when_it_begins_and_once_when_it_ends() -> None:
    """Whichever loop meets it first."""
    events, told = Events(), list[Any]()
    events.subscribe(told.append)
    outage = Outage(events)
    for step in (outage.end, outage.end):
        step()
    for _ in range(3):
        outage.begin("refused")
    outage.end()
    outage.end()

    assert [ServerLost("refused"), ServerBack] == [told[0], type(told[1])]
    assert 2 == len(told)


def test_an_observer_that_raises_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and the next one hears the event."""
    events, told = Events(), list[Any]()

    def bad(event: Any) -> None:
        message = "no"
        raise RuntimeError(message)

    events.subscribe(bad, ServerLost)
    events.subscribe(told.append, ServerLost)
    events.emit(ServerLost("x"))

    assert [ServerLost("x")] == told
    assert "an observer failed" in caplog.text
    assert not events.wants(TaskStarted)


def test_an_outcome_is_kept_until_it_is_confirmed() -> None:
    """Put back, it goes first again."""
    settler = OutcomeQueue(Keys())
    outcomes = [Outcome(str(n), "t", "release", b"") for n in range(150)]
    for each in outcomes:
        settler.add(each)

    batch = settler.take(100, 1)
    settler.put_back(batch)
    again = settler.take(100, 1)

    assert outcomes[:100] == batch == again
    assert (50, 150) == (settler.waiting, settler.unconfirmed)
    settler.confirm(again)
    assert 50 == settler.unconfirmed


def test_a_batch_of_outcomes_is_no_larger_than_its_bytes_or_one() -> None:
    """A larger batch might not arrive in time, and is sent whole."""
    settler = OutcomeQueue(Keys())
    sizes = [600_000, 400_000, 48_576, 1, 3_000_000, 1]
    for size in sizes:
        settler.add(Outcome("id", "t", "complete", b"x" * size))

    batches = [settler.take(100, 1 << 20) for _ in range(4)]

    assert [[600_000, 400_000, 48_576], [1], [3_000_000], [1]] == [
        [len(each.detail) for each in batch] for batch in batches
    ]


def test_reports_that_gathered_are_stored_in_notes_of_bounded_size() -> None:
    """In their order, each in one note, and the facts in the first."""
    reports = StubReports()
    reports.progress(b"{}")
    texts = ["x" * 60_000] * 20 + [str(n) for n in range(250)]
    for each in texts:
        reports.emit(each)
    notes = reports.take(b"1")
    reports.emit("last")

    assert [17, 100, 100, 53] == [len(each.chunks) for each in notes]
    assert texts == [chunk for each in notes for chunk in each.chunks]
    assert [(1, b"{}", b"1"), *((n, b"", b"") for n in (2, 3, 4))] == [
        (each.number, each.progress, each.checkpoint) for each in notes
    ]
    assert [[5], []] == [[note.number for note in reports.take()] for _ in range(2)]


def test_output_that_nobody_can_store_does_not_fill_the_memory() -> None:
    """While the server is away, the newest 500 chunks are kept, as the server keeps."""
    reports = StubReports()
    for number in range(2_000):
        reports.emit(str(number))

    chunks = [chunk for note in reports.take() for chunk in note.chunks]
    assert [str(number) for number in range(1_500, 2_000)] == chunks


def test_a_supervisor_starts_again_what_ends_and_kills_what_stays(
    tmp_path: Path,
) -> None:
    """And its code says that not all went well."""
    told: list[str] = []
    body = (
        "import signal, sys, time, pathlib\n"
        f"mark = pathlib.Path({str(tmp_path)!r}, 'mark')\n"
        "first = not mark.exists(); mark.touch()\n"
        "sys.exit(3) if first else signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"pathlib.Path({str(tmp_path)!r}, 'deaf').touch()\n"
        "time.sleep(60)\n"
    )
    processes = WorkerProcesses(
        command=[sys.executable, "-c", body], count=1, grace=0.5, environment={}
    )

    def tell(sentence: str) -> None:
        told.append(sentence)
        if len([each for each in told if "started" in each]) == 2:
            wait_until((tmp_path / "deaf").exists)
            supervisor.ask_stop()
            supervisor.ask_stop()

    supervisor = Supervisor(processes, tell)

    assert 1 == supervisor.run()
    assert any("ended with code 3" in each for each in told)
    assert any("did not stop: killed" in each for each in told)


def lines(
    formatter: logging.Formatter, *events: Any, level: int = logging.DEBUG
) -> list[str]:
    """Log *events* and give the lines."""
    logger = logging.Logger("test", level)  # noqa: LOG001 - in no hierarchy
    written: list[str] = []

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            written.append(self.format(record))

    handler = Keeper()
    handler.setFormatter(formatter)
    logger.addHandler(handler)
    source = Events()
    log_events(source, logger)
    for event in events:
        source.emit(event)
    try:
        int("no")
    except ValueError:
        logger.exception("it broke")
    return written


def test_a_text_line_names_every_fact_and_cannot_be_forged() -> None:
    """Line breaks and direction marks in a name stay in their line."""
    first, second, third = lines(
        TextFormatter(),
        TaskCompleted("1", "evil\nname\u202e", 1, 0.25),
        WorkerStarted("w", {"concurrency": 3}),
    )

    assert first.endswith(
        r'INFO    test task completed id=1 name="evil\nname\u202e" attempt=1 seconds=0.250'
    )
    assert second.endswith("worker started worker=w")
    assert third.splitlines()[-1].startswith("  ValueError: invalid literal")


@pytest.mark.parametrize(
    ("environment", "is_terminal", "has_colors"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, True, False),
    ],
)
def test_a_terminal_has_colors_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    is_terminal: bool,
    has_colors: bool,
) -> None:
    """Of the level alone, and only where something is wrong."""
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal, raising=False)
    monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setattr(logging.root, "setLevel", lambda level: None)
    logs.configure(LogSettings())
    (handler,) = logging.root.handlers
    records = [
        logging.LogRecord("test", level, "", 0, "told", (), None)
        for level in (logging.INFO, logging.ERROR)
    ]
    info, error = map(handler.format, records)

    assert "\x1b" not in info
    assert has_colors == ("\x1b[31mERROR  \x1b[0m test told" in error)


def test_what_still_runs_is_in_the_line_only_if_something_does() -> None:
    """An empty list is no fact."""
    first, second, _ = lines(
        TextFormatter(), WorkerStopped("w", 0), WorkerStopped("w", 2, ("thread: a",))
    )

    assert first.endswith("worker stopped worker=w released=0")
    assert "thread: a" in second


def test_a_json_line_is_one_object() -> None:
    """With the facts beside the message."""
    first, second = (
        json.loads(line) for line in lines(JsonFormatter(), ServerLost("gone"))
    )

    assert ("server lost", "gone", "ERROR") == (
        first["event"],
        first["message"],
        first["level"],
    )
    assert "Traceback" in second["traceback"]


def parked(number: int) -> TaskParked:
    """Give the event of a task that its upstream would not have."""
    return TaskParked(str(number), "fetch", "api", "status 503")


def test_a_thousand_parked_tasks_have_one_line() -> None:
    """The first is written, and the turn of the upstream says how many were not."""
    logger = logging.Logger("few", logging.INFO)  # noqa: LOG001 - in no hierarchy
    written: list[tuple[str, int]] = []

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            facts: dict[str, Any] = vars(record)["facts"]
            written.append((vars(record)["event"], facts["parked"]))

    logger.addHandler(Keeper())
    events = Events()
    log_events(events, logger)
    for number in range(1000):
        events.emit(parked(number))
    events.emit(UpstreamStateChanged("api", "open", "failures", "10 of 10 calls", 60.0))

    assert [("task parked", 1), ("upstream state changed", 999)] == written


def test_each_parked_task_has_its_line_for_those_who_look_closely() -> None:
    """At DEBUG nothing is held back."""
    written = lines(TextFormatter(), *map(parked, range(5)))

    assert 5 == sum("test task parked id=" in line for line in written)


def test_tasks_of_an_unknown_name_have_few_lines() -> None:
    """One for each name; a body that snoozes has one each time."""
    unknown = [
        TaskSnoozed(
            f"t{at}", "new", 1.0, "a worker does not know 'new'", is_unknown=True
        )
        for at in range(1000)
    ]
    snoozed = [TaskSnoozed(f"s{at}", "polls", 1.0, "later") for at in range(3)]

    written = lines(TextFormatter(), *unknown, *snoozed, level=logging.INFO)

    assert 1 == sum("name=new" in line for line in written)
    assert "snoozed=1" in written[0]
    assert 3 == sum("name=polls" in line for line in written)


def test_lines_about_parked_tasks_come_again_after_a_while() -> None:
    """Each stands for those since the one before, of its upstream alone."""
    now = [0.0]
    spared = SparedLines(10.0, clock=lambda: now[0])
    first = [spared.take("a"), spared.take("a"), spared.take("b"), spared.take("a")]
    now[0] = 10.0

    assert ([1, 0, 1, 0], 3) == (first, spared.take("a"))
    assert (0, 0) == (spared.rest("a"), spared.rest("never seen"))


def test_an_event_that_would_not_be_written_is_not_even_built() -> None:
    """The hot path asks before it builds."""
    logger = logging.Logger("quiet", logging.ERROR)  # noqa: LOG001 - in no hierarchy
    events = Events()
    log_events(events, logger)

    assert (False, True) == (events.wants(TaskCompleted), events.wants(ServerLost))
