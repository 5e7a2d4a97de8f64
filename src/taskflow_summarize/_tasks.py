"""The tasks: what a host enqueues and a worker runs."""

import hashlib
import json
import random
from collections.abc import Mapping
from typing import Any, Final

from taskflow import Context, Registry, RetryPolicy, RetryRule
from taskflow.errors import ConfigurationError
from taskflow_summarize import _summaries
from taskflow_summarize._content import check_content, check_options
from taskflow_summarize._prompt import PROMPT_VERSION, Style
from taskflow_summarize._settings import current_settings
from taskflow_summarize._summaries import ProviderName, SummaryResult
from taskflow_summarize._upstream import OPENROUTER
from taskflow_summarize.errors import (
    AccountError,
    BadAnswerError,
    BudgetExceededError,
    ContentError,
    OptionError,
    ProviderTimeoutError,
    RateLimitedError,
    RequestRefusedError,
    UnavailableError,
)

_WEEK: Final = 604_800.0
_HOUR: Final = 3600.0

registry = Registry()
"""The tasks of this plugin; `plugin.register` includes it."""


def _spread(_: Any) -> float:
    """Draw a wait for a request that came too soon and was not told when to come."""
    return random.uniform(20.0, 60.0)  # noqa: S311 - no secret hangs on it


# "Too many requests", a rejected key and spent credit park the task for its upstream
# and use no attempt; their rules here are for a call that was made without it. A
# Retry-After comes before all of these waits.
RETRY_POLICY: Final = RetryPolicy(
    max_retries=5,
    max_age=_WEEK,
    rules=(
        RetryRule(
            on=(
                ContentError,
                OptionError,
                BudgetExceededError,
                RequestRefusedError,
                ConfigurationError,
            ),
            dead_letter=True,
        ),
        RetryRule(on=AccountError, wait=300.0, uses_attempt=False),
        RetryRule(on=RateLimitedError, wait=_spread, uses_attempt=False),
        RetryRule(on=ProviderTimeoutError, wait=(2.0, 5.0, 10.0, 30.0, 60.0)),
        RetryRule(on=UnavailableError, wait=(5.0, 10.0, 30.0, 60.0, 120.0)),
        RetryRule(on=BadAnswerError, wait=(5.0, 15.0, 60.0)),
    ),
)


@registry.task(
    name="summarize_text",
    retry=RETRY_POLICY,
    timeout=_HOUR,
    soft_timeout=_HOUR * 0.95,
    upstream=OPENROUTER,
)
async def summarize_text(
    ctx: Context,
    content: str,
    max_words: int = 120,
    provider: ProviderName = "auto",
    *,
    style: Style = "paragraph",
    language: str = "auto",
    focus: str = "",
) -> str:
    """Summarise a text.

    The record's annotations say how it was done: ``provider``, ``method``,
    ``language``, ``words``, ``source_words``, and where there are any ``model``,
    ``truncated``, ``degraded``, ``style``, ``strategy``, ``parts`` and
    ``generation_id``. Its usage has ``calls``, ``prompt_tokens``,
    ``completion_tokens`` and ``cost`` in US dollars, summed over all attempts. While
    it is written, the summary can be read as the task's output.

    Args:
        ctx: Given by the worker.
        content: The text, with or without markup, in any language.
        max_words: Most words of the summary, 10 to 2000.
        provider: Who does it; ``auto`` as the settings say.
        style: ``paragraph``, ``bullets``, ``headline`` or ``tldr``.
        language: Code of the language to write in, such as ``en``; ``auto``: that of
            the text. Offline summaries are always in that.
        focus: What the reader wants to know, at most 300 characters; models only.

    Returns:
        The summary; the text itself, without its markup, where it is not longer
        than the summary may be.

    Raises:
        ContentError: The text is empty, binary, damaged or too long.
        OptionError: Another argument is out of its bounds.
        ProviderError: The provider gave no summary; `RETRY_POLICY` says what
            follows.
        BudgetExceededError: It would cost more than it may.
        ConfigurationError: A setting is wrong, or an extra is not installed.
    """
    check_options(max_words=max_words, language=language, focus=focus)
    check_content(content, max_bytes=current_settings().max_content_bytes)
    wish = _summaries.wish_of(max_words, style, language, focus)
    made = await _summaries.summarize(ctx, content, wish, provider)
    ctx.annotate(**made.facts)
    return made.summary


@registry.task(
    name="summarize_document",
    retry=RETRY_POLICY,
    timeout=_HOUR,
    soft_timeout=_HOUR * 0.95,
    upstream=OPENROUTER,
)
async def summarize_document(
    ctx: Context,
    content: str,
    max_words: int = 120,
    provider: ProviderName = "auto",
    *,
    style: Style = "paragraph",
    language: str = "auto",
    focus: str = "",
    key_points: int = 0,
) -> SummaryResult:
    """Summarise a text; the result says how it was made. See `summarize_text`.

    Args:
        ctx: Given by the worker.
        content: The text, with or without markup, in any language.
        max_words: Most words of the summary, 10 to 2000.
        provider: Who does it; ``auto`` as the settings say.
        style: ``paragraph``, ``bullets``, ``headline`` or ``tldr``.
        language: Code of the language to write in; ``auto``: that of the text.
        focus: What the reader wants to know, at most 300 characters; models only.
        key_points: How many key points to list beside the summary, 0 to 20.

    Returns:
        The summary, its key points, and how it was made.

    Raises:
        ContentError: The text is empty, binary, damaged or too long.
        OptionError: Another argument is out of its bounds.
        ProviderError: The provider gave no summary.
        BudgetExceededError: It would cost more than it may.
        ConfigurationError: A setting is wrong, or an extra is not installed.
    """
    check_options(
        max_words=max_words, language=language, focus=focus, key_points=key_points
    )
    check_content(content, max_bytes=current_settings().max_content_bytes)
    wish = _summaries.wish_of(max_words, style, language, focus, key_points)
    made = await _summaries.summarize(ctx, content, wish, provider)
    ctx.annotate(**made.facts)
    return made


def needs_upstream(provider: str | None) -> bool:
    """Say whether a call with this provider may ask the service at all, as set here.

    Returns:
        False for one that shall not wait for the service:
        ``options(upstream=needs_upstream(...))``.
    """
    chosen = provider or "auto"
    if chosen == "auto":
        chosen = current_settings().provider_in_force
    return chosen == "openrouter"


def cache_key(arguments: Mapping[str, Any]) -> str:
    """Name a call by its arguments: the same text, asked for in the same way.

    Args:
        arguments: By name, as JSON has them.

    Returns:
        An idempotency key.
    """
    facts = json.dumps([PROMPT_VERSION, dict(sorted(arguments.items()))])
    return f"same-{hashlib.sha256(facts.encode()).hexdigest()[:32]}"


def forget_settings() -> None:
    """Read the settings, and make the providers, anew at the next use."""
    current_settings.cache_clear()
    _summaries.model_provider.cache_clear()
