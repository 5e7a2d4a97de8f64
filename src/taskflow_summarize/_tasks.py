"""The tasks: what a host enqueues and a worker runs."""

import functools
import random
from typing import Any, Final, Literal

from taskflow import Context, Registry, RetryPolicy, RetryRule
from taskflow.errors import ConfigurationError
from taskflow_summarize._content import check_content
from taskflow_summarize._provider import Provider, Summary, SummaryRequest
from taskflow_summarize._providers.extractive import ExtractiveProvider
from taskflow_summarize._settings import current_settings
from taskflow_summarize.errors import (
    AccountError,
    BadAnswerError,
    ContentError,
    OptionError,
    ProviderTimeoutError,
    RateLimitedError,
    RequestRefusedError,
    UnavailableError,
)

FEWEST_WORDS: Final = 10
MOST_WORDS: Final = 2000
_WEEK: Final = 604_800.0

registry = Registry()
"""The tasks of this plugin; `plugin.register` includes it."""


def _spread(_: Any) -> float:
    """Draw a wait for a request that came too soon and was not told when to come."""
    return random.uniform(20.0, 60.0)  # noqa: S311 - no secret hangs on it


# A Retry-After comes before all of these waits. What does not count uses no attempt:
# the text is not at fault, and a full account or a new key lets it pass. Only
# *max_age* ends such a task, so it is long; the others end by *max_retries*.
RETRY_POLICY: Final = RetryPolicy(
    max_retries=5,
    max_age=_WEEK,
    rules=(
        RetryRule(
            on=(ContentError, OptionError, RequestRefusedError, ConfigurationError),
            dead_letter=True,
        ),
        RetryRule(on=AccountError, wait=300.0, counts=False),
        RetryRule(on=RateLimitedError, wait=_spread, counts=False),
        RetryRule(on=ProviderTimeoutError, wait=(2.0, 5.0, 10.0, 30.0, 60.0)),
        RetryRule(on=UnavailableError, wait=(5.0, 10.0, 30.0, 60.0, 120.0)),
        RetryRule(on=BadAnswerError, wait=(5.0, 15.0, 60.0)),
    ),
)


@registry.task(name="summarize_text", retry=RETRY_POLICY)
async def summarize_text(
    ctx: Context,
    content: str,
    max_words: int = 120,
    provider: Literal["auto", "openrouter", "extractive"] = "auto",
) -> str:
    """Summarise a text.

    The record's annotations say how it was done: ``provider``, ``method``,
    ``language``, ``words``, ``source_words``, and where there are any ``model``,
    ``truncated``, ``condensed_to`` and ``generation_id``. Its usage has
    ``prompt_tokens``, ``completion_tokens`` and ``cost`` in US dollars.

    Args:
        ctx: Given by the worker.
        content: The text, with or without markup, in any language.
        max_words: Most words of the summary, 10 to 2000.
        provider: Who does it; ``auto`` as the settings say.

    Returns:
        The summary; the text itself, without its markup, where it is not longer
        than the summary may be.

    Raises:
        ContentError: The text is empty, binary, damaged or too long.
        OptionError: *max_words* is out of its bounds.
        ProviderError: The provider gave no summary; `RETRY_POLICY` says what
            follows.
        ConfigurationError: A setting is wrong, or an extra is not installed.
    """
    if not FEWEST_WORDS <= max_words <= MOST_WORDS:
        name, bound = "max_words", f"from {FEWEST_WORDS} to {MOST_WORDS}"
        raise OptionError(name, bound, max_words)
    settings = current_settings()
    check_content(content, max_bytes=settings.max_content_bytes)
    chosen = settings.provider_in_force if provider == "auto" else provider
    summary = await _provider(chosen).summarize(SummaryRequest(content, max_words))
    _report(ctx, summary)
    return summary.text


@functools.cache
def _provider(name: str) -> Provider:
    """Return the one provider of this process called *name*."""
    if name == "extractive":
        return ExtractiveProvider()
    if current_settings().api_key is None:
        problem = "the provider 'openrouter' needs OPENROUTER_API_KEY to be set"
        raise ConfigurationError(problem)
    try:
        from taskflow_summarize._providers.openrouter import OpenRouterProvider
    except ModuleNotFoundError as error:
        problem = (
            f"the provider 'openrouter' needs {error.name!r}: "
            "pip install 'asynctaskflow[summarize]'"
        )
        raise ConfigurationError(problem) from error
    return OpenRouterProvider(current_settings())


def forget_settings() -> None:
    """Read the settings, and make the providers, anew at the next use."""
    current_settings.cache_clear()
    _provider.cache_clear()


def _report(ctx: Context, summary: Summary) -> None:
    facts: dict[str, Any] = {
        "provider": summary.provider,
        "method": summary.method,
        "language": summary.language,
        "words": summary.words,
        "source_words": summary.source_words,
        "model": summary.model,
        "truncated": summary.is_truncated or None,
        "condensed_to": summary.condensed_to,
        "generation_id": summary.generation_id,
    }
    ctx.annotate(**{name: fact for name, fact in facts.items() if fact is not None})
    if summary.prompt_tokens or summary.completion_tokens:
        ctx.usage(
            prompt_tokens=summary.prompt_tokens,
            completion_tokens=summary.completion_tokens,
        )
    if summary.cost is not None:
        ctx.usage(cost=summary.cost)
