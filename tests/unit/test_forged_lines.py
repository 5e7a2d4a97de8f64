"""No text from a task can be taken for a line of the log, or steer a terminal."""

import json
import logging
import random
import re

import pytest
from attrs import fields

from taskflow._codec import clean, continued, dedented, traceback_of
from taskflow._events import Events, TaskRetried
from taskflow._worker import outcome
from taskflow.observers.logging import LEVELS, JsonFormatter, TextFormatter, log_events
from taskflow_summarize import cli as summarize_cli

FORGED = "2026-12-01T00:00:00.000Z ERROR   taskflow.worker pwned"
BREAKS = [
    "\n",
    "\r",
    "\r\n",
    "\x0b",
    "\x0c",
    "\x1c",
    "\x1d",
    "\x1e",
    "\x85",
    "\u2028",
    "\u2029",
]
HARMFUL = [
    *BREAKS,
    "\x00",
    "\x07",
    "\x08",
    "\x1b[2J",
    "\x1b]0;title\x07",
    "\x7f",
    "\x9b31m",
    "\x9d0;title\x9c",
    "\u061c",
    "\u200e",
    "\u200f",
    "\u202a",
    "\u202e",
    "\u2066",
    "\u2069",
    "\ufeff",
    "\U000e0041",
    "\ud800",
]


def hostile(text):
    """Make an exception that says *text* wherever one can say something."""
    name = "" if text in {"\x00", "\ud800"} else text  # no class can be called so
    kind = type(f"Bad{name}Error", (ValueError,), {"__module__": f"m{text}"})
    error = kind(f"x{text}{FORGED}")
    error.add_note(f"note{text}{FORGED}")
    return error


def raised(text):
    """Raise, chain and group such exceptions; give what ``exc_info`` would be."""
    try:
        try:
            raise hostile(text)
        except ValueError as cause:
            message = f"g{text}{FORGED}"
            raise ExceptionGroup(message, [hostile(text)]) from cause
    except ExceptionGroup as error:
        return type(error), error, error.__traceback__


def record_of(text, **more):
    """Make a record with *text* in each of its parts."""
    record = logging.LogRecord(
        f"task{text}{FORGED}",
        logging.ERROR,
        "f.py",
        1,
        "failed: %s",
        (f"x{text}{FORGED}",),
        raised(text),
    )
    record.facts = {"name": f"n{text}{FORGED}", f"k{text}": 1, "list": [text, FORGED]}
    record.stack_info = f"Stack{text}{FORGED}"
    for name, value in more.items():
        setattr(record, name, value)
    return record


@pytest.mark.parametrize("text", HARMFUL, ids=ascii)
def test_an_entry_of_the_log_is_one_line_and_indented_ones(text):
    """Whatever the message, a name, a fact, an exception, its notes and causes say."""
    written = TextFormatter().format(record_of(text))
    first, *others = written.split("\n")

    assert re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z ERROR   task", first)
    assert [] == [line for line in others if not line.startswith("  ")]
    assert all(line.isprintable() for line in (first, *others))
    assert "Traceback (most recent call last):" in written


@pytest.mark.parametrize("text", HARMFUL, ids=ascii)
def test_a_traceback_that_was_formatted_before_is_no_exception(text):
    """Another handler's formatter leaves it in the record."""
    record = record_of(text)
    logging.Formatter().format(record)
    assert record.exc_text
    lines = TextFormatter().format(record).split("\n")[1:]

    assert [] == [line for line in lines if not line.startswith("  ")]
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("text", HARMFUL, ids=ascii)
def test_an_entry_in_json_is_one_line(text):
    """In ASCII; what the tasks say is inside of its strings."""
    written = JsonFormatter().format(record_of(text))
    told = json.loads(written)

    assert written.isascii()
    assert written.isprintable()
    assert FORGED in told["traceback"]
    assert FORGED in told["stack"]


def test_a_fact_does_not_hide_what_a_line_in_json_is_about():
    """A fact may have the name of a part."""
    record = record_of("")
    record.facts = {"time": "x", "level": "INFO", "logger": "x", "event": "x", "n": 1}
    told = json.loads(JsonFormatter().format(record))

    assert ("ERROR", f"task{FORGED}", 1) == (told["level"], told["logger"], told["n"])
    assert ["time", "level", "logger", "event"] == list(told)[:4]
    assert told["time"] != "x"


@pytest.mark.parametrize("text", BREAKS, ids=ascii)
def test_events_of_tasks_are_a_line_each(text):
    """Names, errors and reasons of tasks reach the log through their events."""
    written = []
    logger = logging.Logger("test", logging.DEBUG)  # noqa: LOG001 - in no hierarchy
    handler = logging.Handler()
    handler.emit = lambda record: written.append(TextFormatter().format(record))
    logger.addHandler(handler)
    events = Events()
    log_events(events, logger)
    name = f"n{text}{FORGED}"
    values = {"str": name, "int": 1, "float": 0.1, "bool": True}
    for kind in LEVELS:
        facts = {
            each.name: values.get(getattr(each.type, "__name__", ""), {name: name})
            for each in fields(kind)
        }
        if "error" in facts:
            facts["error"] = raised(text)[1]
        events.emit(kind(**facts))
    entries = [
        line for line in "\n".join(written).splitlines() if not line.startswith("  ")
    ]

    assert len(LEVELS) == len(entries)
    assert [] == [line for line in entries if " test " not in line]


@pytest.mark.parametrize("text", BREAKS, ids=ascii)
def test_a_traceback_in_a_message_is_indented_for_every_formatter(text, caplog):
    """A host's own formatter writes the message as it is."""

    class UnjudgedError(ValueError):
        def __str__(self):
            raise hostile(text)

    run = object()  # looked at only after the error's own code has failed
    with (
        caplog.at_level(logging.ERROR, "taskflow.worker"),
        pytest.raises(AttributeError),
    ):
        outcome.judge(run, UnjudgedError(), None, random.Random(0))
    assert [] == [
        line
        for record in caplog.records
        for line in record.getMessage().splitlines()[1:]
        if not line.startswith("  ")
    ]


@pytest.mark.parametrize("text", HARMFUL, ids=ascii)
def test_a_summary_cannot_steer_the_terminal(text):
    """A model wrote it, or whoever wrote what it read."""
    shown = summarize_cli._wrapped(f"one{text}{FORGED}\n- two{text}")

    assert all(line.isprintable() for line in shown.split("\n"))
    assert [] == [line for line in shown.split("\n") if line[:2].strip()]


def test_what_can_be_printed_stays_as_it_is():
    """Languages, emoji and what a traceback indents."""
    assert "naïve 日本語 🙂" == clean("naïve 日本語 🙂")
    told = 'Traceback:\n  File "x"\n    code'
    assert '  Traceback:\n    File "x"\n      code' == continued(f"{told}\n")
    assert told == dedented(continued(told)) == dedented(told)
    assert continued(told) == continued(continued(told))


@pytest.mark.parametrize("text", BREAKS, ids=ascii)
def test_a_failure_is_told_safely_by_an_applications_own_formatter(text):
    """It writes the message and the traceback as they are."""
    written = []
    logger = logging.Logger("test", logging.DEBUG)  # noqa: LOG001 - in no hierarchy
    handler = logging.Handler()
    formatter = logging.Formatter("%(levelname)s %(message)s")
    handler.emit = lambda record: written.append(formatter.format(record))
    logger.addHandler(handler)
    events = Events()
    log_events(events, logger)
    _, error, _ = raised(text)
    told = traceback_of(error, 10_000)
    events.emit(
        TaskRetried(
            *("id", f"n{text}{FORGED}", 1, 0.0, True, 3),
            *(f"E{text}{FORGED}", f"x{text}{FORGED}"),
            traceback=told,
            error=error,
        )
    )
    (entry,) = written
    first, second, *rest = entry.splitlines()

    assert first.startswith("WARNING task retried: E")
    assert second.strip() in {
        "Traceback (most recent call last):",
        "+ Exception Group Traceback (most recent call last):",
    }
    assert [] == [line for line in rest if not line.startswith("  ")]
    assert continued("a\nb") == continued(continued("a\nb"))
