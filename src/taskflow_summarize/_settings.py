"""Settings of the plugin: defaults, bounds, units; read from the environment.

As in the core, ``TASKFLOW_<NAME>`` comes before ``<NAME>``, an empty variable counts
as not set, and all mistakes are listed at once. The key never appears in a
``repr`` or a message, also not where it is what is wrong.
"""

import functools
import os
import re
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from attrs import field, frozen

from taskflow.errors import ConfigurationError

_OVERRIDE: Final = "TASKFLOW_"
_MIB: Final = 1_048_576
_UNITS: Final = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(ms|s|m|h|)", re.ASCII)
_WHOLE: Final = re.compile(r"\d{1,18}", re.ASCII)
# Characters that a header may hold; another one would make an HTTP library
# complain, with the whole key in its message.
_KEY: Final = re.compile(r"[\x21-\x7e]{1,1000}")
_MODEL: Final = re.compile(r"[\x21-\x7e]{1,200}")
_URL: Final = re.compile(r"https?://[\x21-\x3f\x41-\x7e]{1,2000}")  # no "@"

_T = TypeVar("_T")


@frozen
class SummarizeSettings:
    """How texts are summarised.

    Attributes:
        provider: ``openrouter``, ``extractive`` (offline), or ``auto``: the former
            where a key is set. ``SUMMARIZE_PROVIDER``.
        max_content_bytes: Most bytes of UTF-8 that a text may have, 1 KiB to
            64 MiB. ``SUMMARIZE_MAX_CONTENT_BYTES``.
        api_key: Of the OpenRouter account; None = there is none.
            ``OPENROUTER_API_KEY``.
        base_url: Where the API is, http or https, without a user part.
            ``OPENROUTER_BASE_URL``.
        model: Sent as it is. ``OPENROUTER_MODEL``.
        timeout: Seconds for one call, from 100 ms to 1 h. ``OPENROUTER_TIMEOUT``.
        max_input_tokens: Most tokens of text that are sent, as estimated, 500 to
            a million; a longer text is shortened to its most central sentences
            first. ``OPENROUTER_MAX_INPUT_TOKENS``.
        data_collection: ``deny`` or ``allow``: whether the text may go to companies
            that keep it. ``OPENROUTER_DATA_COLLECTION``.
    """

    provider: str = "auto"
    max_content_bytes: int = 2 * _MIB
    api_key: str | None = field(default=None, repr=False)
    base_url: str = "https://openrouter.ai/api/v1"
    model: str = "openrouter/auto"
    timeout: float = 120.0
    max_input_tokens: int = 48_000
    data_collection: str = "deny"

    @property
    def provider_in_force(self) -> str:
        """``openrouter`` or ``extractive``: what ``auto`` comes to."""
        if self.provider != "auto":
            return self.provider
        return "extractive" if self.api_key is None else "openrouter"


def load_settings(environ: Mapping[str, str] | None = None) -> SummarizeSettings:
    """Read the settings.

    Args:
        environ: Variables to read; None for those of the process.

    Returns:
        The settings, with defaults for all that is not set.

    Raises:
        ConfigurationError: At least one value is wrong; all of them are listed.

    Example:
        >>> load_settings({"OPENROUTER_TIMEOUT": "2m"}).timeout
        120.0
    """
    reader = _Reader(os.environ if environ is None else environ)
    base = SummarizeSettings()
    settings = SummarizeSettings(
        provider=reader.read(
            "SUMMARIZE_PROVIDER",
            _choice("auto", "openrouter", "extractive"),
            base.provider,
        ),
        max_content_bytes=reader.read(
            "SUMMARIZE_MAX_CONTENT_BYTES",
            _whole(1024, 64 * _MIB),
            base.max_content_bytes,
        ),
        api_key=reader.read(
            "OPENROUTER_API_KEY",
            _text(_KEY, "printable ASCII characters without spaces"),
            base.api_key,
            is_secret=True,
        ),
        base_url=reader.read(
            "OPENROUTER_BASE_URL",
            _text(_URL, "a URL such as https://openrouter.ai/api/v1, no user in it"),
            base.base_url,
            is_secret=True,
        ).rstrip("/"),
        model=reader.read(
            "OPENROUTER_MODEL",
            _text(_MODEL, "a model's id such as openrouter/auto"),
            base.model,
        ),
        timeout=reader.read("OPENROUTER_TIMEOUT", _seconds(0.1, 3600.0), base.timeout),
        max_input_tokens=reader.read(
            "OPENROUTER_MAX_INPUT_TOKENS",
            _whole(500, 1_000_000),
            base.max_input_tokens,
        ),
        data_collection=reader.read(
            "OPENROUTER_DATA_COLLECTION",
            _choice("deny", "allow"),
            base.data_collection,
        ),
    )
    if settings.provider == "openrouter" and settings.api_key is None:
        reader.problems.append(
            "SUMMARIZE_PROVIDER='openrouter' needs OPENROUTER_API_KEY to be set"
        )
    if reader.problems:
        raise ConfigurationError(reader.problems)
    return settings


@functools.cache
def current_settings() -> SummarizeSettings:
    """Return the settings of this process, read once.

    Raises:
        ConfigurationError: At least one value is wrong.
    """
    return load_settings()


class _Reader:
    """Reads variables one by one and remembers what is wrong."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.problems: list[str] = []

    def read(
        self,
        name: str,
        kind: Callable[[str], _T],
        default: _T,
        *,
        is_secret: bool = False,
    ) -> _T:
        for variable in (_OVERRIDE + name, name):
            text = self._environ.get(variable, "").strip()
            if not text:
                continue
            try:
                return kind(text)
            except ValueError as error:
                shown = "<not shown>" if is_secret else repr(text[:80])
                self.problems.append(f"{variable}={shown}: must be {error}")
                return default
        return default


def _choice(*options: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text.casefold() in options:
            return text.casefold()
        raise ValueError("one of " + ", ".join(options))

    return read


def _whole(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if _WHOLE.fullmatch(text) and low <= int(text) <= high:
            return int(text)
        message = f"a whole number from {low} to {high}"
        raise ValueError(message)

    return read


def _seconds(low: float, high: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        match = _DURATION.fullmatch(text)
        seconds = float(match[1]) * _UNITS[match[2]] if match else -1.0
        if low <= seconds <= high:
            return seconds
        message = f"a duration such as 30, 30s or 2m, from {low:g}s to {high:g}s"
        raise ValueError(message)

    return read


def _text(pattern: re.Pattern[str], words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if pattern.fullmatch(text):
            return text
        raise ValueError(words)

    return read
