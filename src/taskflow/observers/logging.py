"""Events as structured log lines, through the standard library's logging.

The host's logging is never configured here: lines go to the logger
``taskflow.worker`` with the event's facts in ``record.facts``, and what becomes
of them is the host's business. The commands use `TextFormatter` and
`JsonFormatter`; a host may, too.
"""

import json
import logging
import re
import time
from collections.abc import Callable
from typing import Any

from attrs import fields

from taskflow._events import (
    DataLost,
    Event,
    Events,
    LeaseLost,
    LeaseReaped,
    LoopBlocked,
    ServerBack,
    ServerLost,
    TaskCancelled,
    TaskCompleted,
    TaskCrashed,
    TaskDeadLettered,
    TaskFailed,
    TaskParked,
    TaskReleased,
    TaskRetried,
    TaskSnoozed,
    TaskStarted,
    UpstreamTurned,
    WorkerStarted,
    WorkerStopped,
    WorkerStopping,
)

__all__ = ["LEVELS", "JsonFormatter", "TextFormatter", "log_events"]

LEVELS: dict[type, int] = {
    TaskStarted: logging.DEBUG,
    TaskCompleted: logging.INFO,
    TaskRetried: logging.WARNING,
    TaskSnoozed: logging.INFO,
    TaskCrashed: logging.ERROR,
    TaskDeadLettered: logging.ERROR,
    TaskFailed: logging.ERROR,
    TaskCancelled: logging.INFO,
    TaskReleased: logging.INFO,
    TaskParked: logging.INFO,
    UpstreamTurned: logging.WARNING,
    LeaseLost: logging.WARNING,
    LeaseReaped: logging.WARNING,
    ServerLost: logging.ERROR,
    ServerBack: logging.WARNING,
    DataLost: logging.ERROR,
    LoopBlocked: logging.WARNING,
    WorkerStarted: logging.INFO,
    WorkerStopping: logging.INFO,
    WorkerStopped: logging.INFO,
}
"""The level of each event."""

SPARED_EVERY = 10.0
"""Seconds between two lines about the parked tasks of an upstream, or about the tasks
of a name that this worker does not know."""

_WORD_START = re.compile(r"(?<!^)(?=[A-Z])")
_CONTROL = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"
)
_PLAIN = re.compile(r"[\w.:/@+-]+")


class SparedLines:
    """Lets one line stand for many tasks that wait for the same thing.

    Args:
        every: Seconds between two lines about the same thing.
        clock: Tells the time in seconds.
    """

    def __init__(
        self, every: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._every = every
        self._clock = clock
        self._next: dict[str, float] = {}
        self._unwritten: dict[str, int] = {}

    def take(self, subject: str) -> int:
        """Count a task; return how many the line that is due stands for, or 0."""
        now = self._clock()
        count = self._unwritten.pop(subject, 0) + 1
        if now < self._next.get(subject, now):
            self._unwritten[subject] = count
            return 0
        self._next[subject] = now + self._every
        return count

    def rest(self, subject: str) -> int:
        """Return how many no line has told of, and forget them."""
        return self._unwritten.pop(subject, 0)


def log_events(events: Events, logger: logging.Logger | None = None) -> None:
    """Write a line for every event whose level *logger* lets through now.

    An event that would not be written is not even built: choose the level
    before you call this. An upstream that refuses thousands of tasks has a line
    every 10 seconds, which says how many it stands for; its
    next turn says how many no line has told of. A name that the worker does not know
    has one line every 10 seconds too. At DEBUG there is one for each task.

    Args:
        events: Of a worker.
        logger: Left out: ``taskflow.worker``.
    """
    target = logger or logging.getLogger("taskflow.worker")
    kinds = [kind for kind, level in LEVELS.items() if target.isEnabledFor(level)]
    spared = SparedLines(
        every=0.0 if target.isEnabledFor(logging.DEBUG) else SPARED_EVERY
    )

    def write(event: Event, **more: int) -> None:
        kind = type(event)
        facts = _facts(event) | more
        target.log(LEVELS[kind], _title(kind), extra={"facts": facts})

    def observe(event: Event) -> None:
        if isinstance(event, TaskParked):
            count = spared.take(event.upstream)
            if count:
                write(event, parked=count)
        elif isinstance(event, TaskSnoozed) and event.is_unknown:
            count = spared.take(f"task:{event.name}")
            if count:
                write(event, snoozed=count)
        elif isinstance(event, UpstreamTurned):
            write(event, parked=spared.rest(event.name))
        else:
            write(event)

    if kinds:
        events.subscribe(observe, *kinds)


def _title(kind: type) -> str:
    return _WORD_START.sub(" ", kind.__name__).lower()


def _facts(event: Event) -> dict[str, Any]:
    if isinstance(event, WorkerStarted):
        return {"worker": event.worker, **event.facts}
    found = {each.name: getattr(event, each.name) for each in fields(type(event))}
    return {name: value for name, value in found.items() if value != ()}


def _stamp(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.msecs):03d}Z"


def _escape(text: str) -> str:
    return _CONTROL.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


def _show(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    text = str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """One line for people: time, level, logger, message, facts as ``name=value``.

    Control and direction characters are escaped, so that no text from a task
    can forge a line.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return *record* as one line, a traceback below it."""
        facts: dict[str, Any] = getattr(record, "facts", {})
        parts = [
            _stamp(record),
            f"{record.levelname:<7}",
            record.name,
            _escape(record.getMessage()),
            *(f"{name}={_escape(_show(value))}" for name, value in facts.items()),
        ]
        line = " ".join(parts)
        if record.exc_info:
            line = f"{line}\n{self.formatException(record.exc_info)}"
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, event, and the facts beside."""

    def format(self, record: logging.LogRecord) -> str:
        """Return *record* as one line of JSON."""
        facts: dict[str, Any] = getattr(record, "facts", {})
        line: dict[str, Any] = {
            "time": _stamp(record),
            "level": record.levelname,
            "logger": record.name,
            "event": record.getMessage(),
            **facts,
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=True, default=str)
