"""Settings of the plugin: defaults, bounds, units."""

import functools
from collections.abc import Iterator
from typing import ClassVar, Final
from urllib.parse import urlsplit

from attrs import frozen

from taskflow.settings import (
    Address,
    Checked,
    Choice,
    Duration,
    Ratio,
    Secret,
    Text,
    WholeNumber,
    load,
    option,
)

_MIB: Final = 1_048_576
_MODEL: Final = r"[\x21-\x2b\x2d-\x7e]{1,200}"  # no comma
_OWN_HOST: Final = "openrouter.ai"


@frozen
class _BaseUrl(Address):
    """An address to which paths are added."""

    def read(self, value: object) -> str:
        return super().read(value).rstrip("/")


@frozen
class SummarizeSettings(Checked):
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
        model: A model's id, sent as it is; up to three more, separated by commas,
            are for when it fails. ``OPENROUTER_MODEL``.
        timeout: Seconds for one call, from 100 ms to 1 h. ``OPENROUTER_TIMEOUT``.
        idle_timeout: Seconds that an answer which has begun may be silent, from
            100 ms to 1 h. ``OPENROUTER_IDLE_TIMEOUT``.
        context_tokens: Tokens of the model's window, 1024 to 100 million; None = as
            the service's list of models says, and 65536 where it does not.
            ``OPENROUTER_CONTEXT_TOKENS``.
        max_input_tokens: Most tokens of text in one call, as estimated, 500 to
            a million; a longer text is summarised part by part.
            ``OPENROUTER_MAX_INPUT_TOKENS``.
        max_calls: Calls of the service that may begin within *max_calls_per*, on all
            workers together, 1 to a million. ``OPENROUTER_MAX_CALLS``.
        max_calls_per: Seconds, from 100 ms to a day. ``OPENROUTER_MAX_CALLS_PER``.
        most_calls_underway: Calls at a time on all workers together, 1 to 10,000.
            ``OPENROUTER_CONCURRENCY``.
        part_tokens: Most tokens of one part of a document that is summarised part by
            part, 200 to a million. ``SUMMARIZE_PART_TOKENS``.
        concurrency: Parts of one document at a time, 1 to 64.
            ``SUMMARIZE_CONCURRENCY``.
        max_cost: Most US dollars for one task, over all its attempts, 0.0001 to
            10,000. It is looked at before each call, where the model's prices are
            known, and against what was paid where not. ``SUMMARIZE_MAX_COST``.
        max_tokens: Most tokens for one task, read and written, 2000 to a billion.
            ``SUMMARIZE_MAX_TOKENS``.
        cache_ttl: Seconds for which the same text, asked for in the same way over
            HTTP, is the same task, up to 30 days; 0 = it is always a new one.
            ``SUMMARIZE_CACHE_TTL``.
        fallback: ``none``, or ``extractive``: a text that the model refuses, or that
            would cost too much, is summarised offline. ``SUMMARIZE_FALLBACK``.
        data_collection: ``deny`` or ``allow``: whether the text may go to companies
            that keep it. ``OPENROUTER_DATA_COLLECTION``.
        dialect: ``openrouter``, ``openai`` (its keys only, for any server that
            speaks like it), or ``auto``: the former where *base_url* is on
            openrouter.ai. ``OPENROUTER_DIALECT``.
        app_title: Name of your application, shown to OpenRouter only.
            ``OPENROUTER_APP_TITLE``.
        app_url: Its address, likewise; None = not shown. ``OPENROUTER_APP_URL``.
    """

    read_by: ClassVar[tuple[str, ...]] = ("worker", "api")

    provider: str = option(
        "auto", Choice(("auto", "openrouter", "extractive")), "SUMMARIZE_PROVIDER"
    )
    max_content_bytes: int = option(
        2 * _MIB, WholeNumber(1024, 64 * _MIB, "bytes"), "SUMMARIZE_MAX_CONTENT_BYTES"
    )
    # Characters that a header may hold; another one would make an HTTP library
    # complain, with the whole key in its message.
    api_key: str | None = option(
        None,
        Secret(r"[\x21-\x7e]{1,1000}", "printable ASCII characters without spaces"),
        "OPENROUTER_API_KEY",
    )
    base_url: str = option(
        "https://openrouter.ai/api/v1",
        _BaseUrl(
            r"https?://[\x21-\x3f\x41-\x7e]{1,2000}",  # no "@"
            "a URL such as https://openrouter.ai/api/v1, no user in it",
        ),
        "OPENROUTER_BASE_URL",
    )
    model: str = option(
        "openrouter/auto",
        Text(
            rf"{_MODEL}(, *{_MODEL}){{0,3}}",
            "a model's id such as openrouter/auto, or up to four separated by commas",
        ),
        "OPENROUTER_MODEL",
    )
    timeout: float = option(120.0, Duration(0.1, 3600.0), "OPENROUTER_TIMEOUT")
    idle_timeout: float = option(30.0, Duration(0.1, 3600.0), "OPENROUTER_IDLE_TIMEOUT")
    context_tokens: int | None = option(
        None, WholeNumber(1024, 100_000_000, "tokens"), "OPENROUTER_CONTEXT_TOKENS"
    )
    max_input_tokens: int = option(
        48_000, WholeNumber(500, 1_000_000, "tokens"), "OPENROUTER_MAX_INPUT_TOKENS"
    )
    max_calls: int = option(230, WholeNumber(1, 1_000_000), "OPENROUTER_MAX_CALLS")
    max_calls_per: float = option(
        10.0, Duration(0.1, 86_400.0), "OPENROUTER_MAX_CALLS_PER"
    )
    most_calls_underway: int = option(
        32, WholeNumber(1, 10_000), "OPENROUTER_CONCURRENCY"
    )
    part_tokens: int = option(
        12_000, WholeNumber(200, 1_000_000, "tokens"), "SUMMARIZE_PART_TOKENS"
    )
    concurrency: int = option(4, WholeNumber(1, 64), "SUMMARIZE_CONCURRENCY")
    max_cost: float = option(0.5, Ratio(0.0001, 10_000.0), "SUMMARIZE_MAX_COST")
    max_tokens: int = option(
        2_000_000, WholeNumber(2000, 1_000_000_000, "tokens"), "SUMMARIZE_MAX_TOKENS"
    )
    cache_ttl: float = option(
        0.0,
        Duration(1.0, 30 * 86_400.0, zero="always a new task"),
        "SUMMARIZE_CACHE_TTL",
    )
    fallback: str = option("none", Choice(("none", "extractive")), "SUMMARIZE_FALLBACK")
    data_collection: str = option(
        "deny", Choice(("deny", "allow")), "OPENROUTER_DATA_COLLECTION"
    )
    dialect: str = option(
        "auto", Choice(("auto", "openrouter", "openai")), "OPENROUTER_DIALECT"
    )
    app_title: str = option(
        "asynctaskflow",
        Text(r"[\x20-\x7e]{1,200}", "up to 200 printable ASCII characters"),
        "OPENROUTER_APP_TITLE",
    )
    app_url: str | None = option(
        None,
        Address(r"https?://[\x21-\x7e]{1,500}", "a URL such as https://example.com"),
        "OPENROUTER_APP_URL",
    )

    @property
    def provider_in_force(self) -> str:
        """``openrouter`` or ``extractive``: what ``auto`` comes to."""
        if self.provider != "auto":
            return self.provider
        return "extractive" if self.api_key is None else "openrouter"

    @property
    def models(self) -> tuple[str, ...]:
        """The ids in *model*, the first one first."""
        return tuple(part.strip() for part in self.model.split(","))

    @property
    def dialect_in_force(self) -> str:
        """``openrouter`` or ``openai``: what ``auto`` comes to."""
        if self.dialect != "auto":
            return self.dialect
        host = urlsplit(self.base_url).hostname or ""
        is_own = host == _OWN_HOST or host.endswith(f".{_OWN_HOST}")
        return "openrouter" if is_own else "openai"

    def _conflicts(self) -> Iterator[str]:
        if self.provider == "openrouter" and self.api_key is None:
            yield "SUMMARIZE_PROVIDER='openrouter' needs OPENROUTER_API_KEY to be set"


@functools.cache
def current_settings() -> SummarizeSettings:
    """Return the settings of this process, read once.

    Raises:
        ConfigurationError: At least one value is wrong.
    """
    return load(SummarizeSettings)
