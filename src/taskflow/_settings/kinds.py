"""What a setting may be: which text and values it takes, said in words.

A kind reads a variable's text or a caller's value, and shows one without its
secrets. To add a kind, add a class beside the others; its ``bound`` ends every
message about a value that does not fit.
"""

import math
import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Final, Protocol, TypeGuard

from attrs import frozen

from taskflow._settings.address import mask_url

_SHOWN_CHARACTERS: Final = 80
_HUGE: Final = 1e300

_UNIT_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_NUMBER: Final = re.compile(r"-?(?:\d+(?:\.\d*)?|\.\d+)", re.ASCII)
_WHOLE: Final = re.compile(r"-?\d{1,30}", re.ASCII)
_DURATION: Final = re.compile(r"(?:(?:\d+(?:\.\d*)?|\.\d+)(?:ms|[smhd]))+", re.ASCII)
_DURATION_PART: Final = re.compile(r"([\d.]+)(ms|[smhd])", re.ASCII)
_DURATION_WORDS: Final = "a duration such as 30, 30s, 5m, 2h or 500ms"


def read_duration(value: object) -> float:
    """Read a duration as people write it.

    Args:
        value: ``30``, ``30s``, ``5m``, ``2h``, ``7d``, ``500ms``, or several parts in
            one such as ``1m30s``; a number of seconds; or a ``timedelta``.

    Returns:
        Seconds. The sign is kept; the caller has the bounds.

    Raises:
        ValueError: *value* is nothing of that kind.

    Example:
        >>> read_duration("1m30s")
        90.0
    """
    if isinstance(value, timedelta):
        return value.total_seconds()
    seconds = _read_number(value)
    if seconds is not None:
        return seconds
    text = value.strip() if isinstance(value, str) else ""
    if not _DURATION.fullmatch(text):
        raise ValueError(_DURATION_WORDS)
    return sum(
        float(amount) * _UNIT_SECONDS[unit]
        for amount, unit in _DURATION_PART.findall(text)
    )


def _read_number(value: object) -> float | None:
    if isinstance(value, str):
        return float(value) if _NUMBER.fullmatch(value.strip()) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # float(10 ** 400) raises; what is that large is out of every bound.
    return float(value) if abs(value) < _HUGE else math.inf


class Kind(Protocol):
    """What a setting may be."""

    @property
    def bound(self) -> str:
        """What is accepted, in words that follow ``must be``."""
        ...

    def read(self, value: object) -> object:
        """Turn a variable's text, or a value, into the setting.

        Args:
            value: Text from the environment, or what a caller passed.

        Returns:
            The setting.

        Raises:
            ValueError: *value* is out of bounds or no such thing.
        """
        ...

    def show(self, value: object) -> str:
        """Say *value* in a message or a ``repr``, without its secrets."""
        ...


@frozen
class _Plain:
    """The part all kinds share: a value is shown as it is, but not at length."""

    def show(self, value: object) -> str:
        text = repr(value)
        if len(text) <= _SHOWN_CHARACTERS:
            return text
        return f"{text[:_SHOWN_CHARACTERS]}... ({len(text)} characters)"


@frozen
class WholeNumber(_Plain):
    low: int
    high: int
    unit: str = ""

    @property
    def bound(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        return f"a whole number from {self.low} to {self.high}{unit}"

    def read(self, value: object) -> int:
        if isinstance(value, str) and _WHOLE.fullmatch(value.strip()):
            value = int(value)
        if (
            isinstance(value, int)
            and not isinstance(value, bool)
            and self.low <= value <= self.high
        ):
            return value
        raise ValueError(self.bound)


@frozen
class Ratio(_Plain):
    low: float
    high: float

    @property
    def bound(self) -> str:
        return f"a number from {self.low} to {self.high}"

    def read(self, value: object) -> float:
        number = _read_number(value)
        if number is not None and self.low <= number <= self.high:
            return number
        raise ValueError(self.bound)


@frozen
class Duration(_Plain):
    low: float
    high: float
    zero: str = ""

    @property
    def bound(self) -> str:
        zero = f", or 0 ({self.zero})" if self.zero else ""
        return f"{_DURATION_WORDS}, from {_in_words(self.low)} to {_in_words(self.high)}{zero}"

    def read(self, value: object) -> float:
        try:
            seconds = read_duration(value)
        except ValueError:
            raise ValueError(self.bound) from None
        if (self.zero and seconds == 0) or self.low <= seconds <= self.high:
            return seconds
        raise ValueError(self.bound)


def _in_words(seconds: float) -> str:
    unit = next(
        unit
        for unit, size in sorted(_UNIT_SECONDS.items(), key=lambda item: -item[1])
        if seconds >= size or unit == "ms"
    )
    return f"{seconds / _UNIT_SECONDS[unit]:g}{unit}"


@frozen
class Choice(_Plain):
    options: tuple[str, ...]

    @property
    def bound(self) -> str:
        return "one of " + ", ".join(self.options)

    def read(self, value: object) -> str:
        folded = value.strip().casefold() if isinstance(value, str) else ""
        for option in self.options:
            if folded == option.casefold():
                return option
        raise ValueError(self.bound)


@frozen
class Text(_Plain):
    pattern: str
    bound: str

    def read(self, value: object) -> str:
        text = value.strip() if isinstance(value, str) else None
        if text is None or not re.fullmatch(self.pattern, text):
            raise ValueError(self.bound)
        return text


@frozen
class Address(Text):
    """A URL. Its password is never shown, and a text that is none not at all."""

    def show(self, value: object) -> str:
        if value is None:
            return "None"
        if isinstance(value, str) and re.fullmatch(self.pattern, value.strip()):
            return repr(mask_url(value.strip()))
        return "<not shown>"


@frozen
class Secret(Text):
    """A text that is never shown, right or wrong."""

    def show(self, value: object) -> str:
        return "None" if value is None else "<not shown>"


@frozen
class Words:
    """Texts separated by commas, each of one pattern; read as a tuple.

    What does not fit is told by its place and never shown: lists of keys are such
    settings.
    """

    pattern: str
    bound: str

    def read(self, value: object) -> tuple[str, ...]:
        parts = value.split(",") if isinstance(value, str) else value
        listed: tuple[object, ...] = tuple(parts) if _is_sequence(parts) else ("",)
        words = tuple(str(part).strip() for part in listed)
        for number, word in enumerate(words, start=1):
            if not re.fullmatch(self.pattern, word):
                message = f"{self.bound} (number {number} is not)"
                raise ValueError(message)
        return words

    def show(self, value: object) -> str:
        return "<not shown>" if value else "()"


def _is_sequence(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)
