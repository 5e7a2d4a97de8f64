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

from taskflow._codec import clean, continued, dedented, safe_traceback
from taskflow._declare.error_groups import parts_of
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
    UpstreamStateChanged,
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
    UpstreamStateChanged: logging.WARNING,
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

_MOST_ERRORS = 20
_LONGEST_TEXT = 100_000  # characters

# The SGR codes of ECMA-48: yellow, red, bold red.
_COLORS = {logging.WARNING: "33", logging.ERROR: "31", logging.CRITICAL: "1;31"}

_WORD_START = re.compile(r"(?<!^)(?=[A-Z])")
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
    # An application's dictConfig disables loggers that it doesn't name.
    target.disabled = False
    kinds = [kind for kind, level in LEVELS.items() if target.isEnabledFor(level)]
    spared = SparedLines(
        every=0.0 if target.isEnabledFor(logging.DEBUG) else SPARED_EVERY
    )

    def write(event: Event, **more: int) -> None:
        kind = type(event)
        target.disabled = False
        if not target.isEnabledFor(LEVELS[kind]):
            return
        title, facts = _title(kind), _facts(event) | more
        text = clean(_sentence(title, event, facts))
        error = getattr(event, "error", None)
        extra = {"facts": facts, "event": title}
        line = target.makeRecord(
            *(target.name, LEVELS[kind], __file__, 0, "%s", (text,)),
            exc_info=None if error is None else _exc_info(error),
            func="log_events",
            extra=extra,
        )
        # As stored with the task: bounded, and made without the error's own code. Every
        # formatter writes it as it is.
        told = getattr(event, "traceback", "").rstrip()
        line.exc_text = safe_traceback(told) if told else None
        target.handle(line)

    def observe(event: Event) -> None:
        if isinstance(event, TaskParked):
            count = spared.take(event.upstream)
            if count:
                write(event, parked=count)
        elif isinstance(event, TaskSnoozed) and event.is_unknown:
            count = spared.take(f"task:{event.name}")
            if count:
                write(event, snoozed=count)
        elif isinstance(event, UpstreamStateChanged):
            write(event, parked=spared.rest(event.name))
        else:
            write(event)

    if kinds:
        events.subscribe(observe, *kinds)


def _exc_info(error: BaseException) -> Any:
    """Return what handlers such as Sentry's read, unless the error's own code fails."""
    seen: dict[int, BaseException] = {}  # by identity: a class may have its own ==
    rest = [error]
    try:
        while rest and len(seen) < _MOST_ERRORS:
            each = rest.pop()
            if id(each) in seen:
                continue
            seen[id(each)] = each
            if len(str(each)) + len(repr(each)) > _LONGEST_TEXT:
                return None
            linked = (each.__cause__, each.__context__, *parts_of(each))
            rest += [part for part in linked if part is not None]
        return type(error), error, error.__traceback__
    except BaseException:  # noqa: BLE001 - an error's own code may raise anything
        return None


def _sentence(title: str, event: Event, facts: dict[str, Any]) -> str:
    """Say what happened and why, and then the facts as ``name=value``."""
    told = title
    facts = dict(facts)
    if "error_type" in facts:
        kind, message = facts.pop("error_type"), facts.pop("error_message", "")
        told += f": {kind}: {message}" if message else f": {kind}"
    elif isinstance(event, LoopBlocked) and event.culprit:
        told += f" by task {facts.pop('culprit')} at {facts.pop('place')}"
    elif isinstance(event, WorkerStarted):
        facts = {"worker": event.worker}
    return " ".join((told, *(f"{name}={_show(each)}" for name, each in facts.items())))


def _title(kind: type) -> str:
    return _WORD_START.sub(" ", kind.__name__).lower()


def _facts(event: Event) -> dict[str, Any]:
    if isinstance(event, WorkerStarted):
        return {"worker": event.worker, **event.facts}
    found = {
        each.name: getattr(event, each.name)
        for each in fields(type(event))
        if each.name not in {"error", "traceback"}
    }
    return {name: value for name, value in found.items() if value not in ((), "")}


def _stamp(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.msecs):03d}Z"


def _show(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    text = str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def _tracebacks(
    formatter: logging.Formatter, record: logging.LogRecord
) -> dict[str, str]:
    """Return the traceback and the stack that *record* carries, by their names."""
    found = {"traceback": record.exc_text or "", "stack": record.stack_info or ""}
    if record.exc_info and not record.exc_text:
        found["traceback"] = formatter.formatException(record.exc_info)
    return {name: text for name, text in found.items() if text}


class TextFormatter(logging.Formatter):
    """One line for people: time, level, logger, message, facts as ``name=value``.

    Characters that cannot be printed are escaped, and what follows the first line, such
    as a traceback, is indented, so that no text from a task can forge a line.

    Args:
        colored: Whether the level has a colour, for a terminal.
    """

    def __init__(self, *, colored: bool = False) -> None:
        super().__init__()
        self._colors = _COLORS if colored else {}

    def format(self, record: logging.LogRecord) -> str:
        """Return *record* as one line, with a traceback below it."""
        # The message of an event has its facts already.
        has_facts = hasattr(record, "event")
        facts: dict[str, Any] = {} if has_facts else getattr(record, "facts", {})
        message, _, more = record.getMessage().partition("\n")
        level = f"{record.levelname:<7}"
        color = self._colors.get(record.levelno)
        parts = [
            _stamp(record),
            level if color is None else f"\x1b[{color}m{level}\x1b[0m",
            clean(record.name),
            clean(message),
            *(f"{clean(name)}={clean(_show(value))}" for name, value in facts.items()),
        ]
        below = (more, *_tracebacks(self, record).values())
        return "\n".join((" ".join(parts), *map(continued, filter(None, below))))


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, event, and the facts beside."""

    def format(self, record: logging.LogRecord) -> str:
        """Return *record* as one line of JSON."""
        facts: dict[str, Any] = getattr(record, "facts", {})
        line: dict[str, Any] = {
            "time": _stamp(record),
            "level": record.levelname,
            "logger": record.name,
            "event": getattr(record, "event", None) or record.getMessage(),
        }
        told = {
            name: dedented(text) for name, text in _tracebacks(self, record).items()
        }
        # A fact of the same name does not hide what the line is about.
        line = {**line, **facts, **line, **told}
        return json.dumps(line, ensure_ascii=True, default=str)
