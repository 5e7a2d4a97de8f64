"""Find what a valid cron expression does that its author may not expect.

A step counts from the start of its field and begins anew there, so ``*/90`` minutes is
hourly and ``*/7`` minutes is uneven. ``every`` counts from the epoch and is neither.
"""

import re
from collections.abc import Iterator

_MINUTE, _HOUR, _DAY, _MONTH, _WEEKDAY = range(5)
# Name, first and last value, and the argument of timedelta that `every` takes instead.
_FIELDS = (
    ("minute", 0, 59, "minutes"),
    ("hour", 0, 23, "hours"),
    ("day of month", 1, 31, "days"),
    ("month", 1, 12, ""),
    ("day of week", 0, 6, "days"),
)
_SECOND = ("second", 0, 59, "seconds")
_STEP = re.compile(r"(?P<first>\*|\d+)(?:-(?P<last>\d+))?/(?P<step>\d+)")
_FIXED = re.compile(r"[\d,]+")


def useless_step(expression: str) -> str:
    """Find a step that is never taken, because it is as long as its range.

    Args:
        expression: Valid, of five or six fields.

    Returns:
        What is wrong and the way out; empty if nothing is.
    """
    for (name, low, high, unit), part, found in _steps(expression):
        step = int(found["step"])
        first = low if found["first"] == "*" else int(found["first"])
        last = int(found["last"] or high)
        if step > last - first + (found["first"] == "*"):  # */60 and */24 are right
            problem = f"the step {step} in {part!r} goes past the last {name}, {last}"
            return f"{problem}, so it ticks at {first} alone{_instead(step, unit)}"
    return ""


def surprises(expression: str) -> list[str]:
    """Describe what a valid expression of five or six fields does unexpectedly.

    Returns:
        A sentence for each, with the way out.
    """
    fields = expression.split()[-5:]
    found = [
        f"{part!r} counts from {low} and begins anew there, so the last wait is "
        f"{_rest(name, int(step['step']), high - low + 1)}{_instead(step['step'], unit)}"
        for (name, low, high, unit), part, step in _steps(expression)
        if step["first"] == "*"
        and int(step["step"]) > 1
        and (name == "day of month" or (high - low + 1) % int(step["step"]))
    ]
    if fields[_MINUTE] == "*" and _FIXED.fullmatch(fields[_HOUR]):
        found.append(
            f"'*' in minute ticks every minute of hour {fields[_HOUR]}: for one tick "
            f"write '0 {fields[_HOUR]}'"
        )
    day, weekday = fields[_DAY], fields[_WEEKDAY]
    if not day.startswith("*") and not weekday.startswith("*"):
        found.append(
            f"day of month {day!r} and day of week {weekday!r} are alternatives: it "
            "ticks on each day that matches either, as in every cron; use '*' for one"
        )
    if day in {"29", "30", "31"} and fields[_MONTH] == "*":
        found.append(
            f"months without a day {day} are left out: the last day of each is 'L'"
        )
    return found


def _steps(
    expression: str,
) -> Iterator[tuple[tuple[str, int, int, str], str, re.Match[str]]]:
    fields = expression.split()
    known = _FIELDS if len(fields) == len(_FIELDS) else (_SECOND, *_FIELDS)
    for about, field in zip(known, fields, strict=True):
        for part in field.split(","):
            found = _STEP.fullmatch(part)
            if found is not None:
                yield about, part, found


def _rest(name: str, step: int, values: int) -> str:
    if name == "day of month":
        return "shorter at the end of each month"
    return f"{values % step} instead of {step}"


def _instead(step: int | str, unit: str) -> str:
    if not unit:
        return ""
    return f"; for one tick every {step} {unit} use every(timedelta({unit}={step}))"
