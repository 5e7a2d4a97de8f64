"""One text to one summary, by whoever the settings name; what it was like beside it."""

import asyncio
import functools
from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

from attrs import field, frozen

from taskflow import Context
from taskflow.errors import ConfigurationError
from taskflow_summarize._documents import Sizes, Writer, Written
from taskflow_summarize._failed import find_error
from taskflow_summarize._ledger import Ledger
from taskflow_summarize._progress import Finished
from taskflow_summarize._prompt import Style, Wish, clean_answer, read_points
from taskflow_summarize._provider import ModelProvider
from taskflow_summarize._providers.extractive import Extract, extract
from taskflow_summarize._settings import SummarizeSettings, current_settings
from taskflow_summarize._text.sentences import find_sentences
from taskflow_summarize._text.words import count_words, cut_to_words
from taskflow_summarize.errors import (
    BadAnswerError,
    BudgetExceededError,
    RequestRefusedError,
)

ProviderName: TypeAlias = Literal["auto", "openrouter", "extractive"]

_WORDS_PER_POINT: Final = 30


@frozen
class SummaryResult:
    """A summary, and how it was made.

    Attributes:
        summary: The text.
        key_points: Short sentences; empty where none were asked for, or none came.
        language: Code of the language of the summary, or None where it is not known.
        style: Its form: ``paragraph``, ``bullets``, ``headline`` or ``tldr``.
        words: Its length.
        source_words: Length of the text without its markup.
        method: ``extractive`` (sentences of the text), ``abstractive`` (written by a
            model) or ``passthrough`` (the text was short enough already).
        provider: ``openrouter`` or ``extractive``.
        model: The models that answered, separated by commas, or None.
        strategy: ``single``, ``map_reduce`` (part by part) or ``hybrid`` (part by
            part, of the most central sentences).
        parts: How many parts the text was divided into.
        truncated: Whether the model stopped in the middle, or the end was cut off.
        degraded: Why it is not what was asked for, or empty.
        generation_ids: The provider's names for the answers of the last attempt.
    """

    summary: str
    style: str
    words: int
    source_words: int
    method: str
    provider: str
    strategy: str = "single"
    parts: int = 1
    key_points: list[str] = field(factory=list[str])
    language: str | None = None
    model: str | None = None
    truncated: bool = False
    degraded: str = ""
    generation_ids: list[str] = field(factory=list[str])

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the record shows of it, without the text; only what says something."""
        facts: dict[str, Any] = {
            "provider": self.provider,
            "method": self.method,
            "language": self.language,
            "words": self.words,
            "source_words": self.source_words,
            "model": self.model,
            "truncated": self.truncated or None,
            "degraded": self.degraded or None,
            "style": None if self.style == "paragraph" else self.style,
        }
        if self.parts > 1:
            facts |= {"strategy": self.strategy, "parts": self.parts}
        if len(self.generation_ids) == 1:
            facts["generation_id"] = self.generation_ids[0]
        return {name: fact for name, fact in facts.items() if fact is not None}


async def summarize(
    ctx: Context, content: str, wish: Wish, provider: ProviderName
) -> SummaryResult:
    """Summarise *content*.

    Args:
        ctx: Of the task.
        content: The text, checked.
        wish: How the summary shall be.
        provider: Who does it; ``auto`` as the settings say.

    Returns:
        The summary. A text that is not longer than it may be is given back itself,
        where nothing but a shorter text was asked for.

    Raises:
        ContentError: There is not one word in it.
        RequestRefusedError: The provider will not do it, and no fallback is set.
        ProviderError: The provider gave no summary.
        BudgetExceededError: It would cost more than it may.
        ConfigurationError: A setting is wrong, or an extra is not installed.
    """
    settings = current_settings()
    chosen = settings.provider_in_force if provider == "auto" else provider
    made = await asyncio.to_thread(extract, content, max_words=wish.words)
    if made.is_whole and wish == Wish(max_words=wish.max_words):
        ctx.emit(made.text)
        return _result(made.text, wish, made, method="passthrough", provider=chosen)
    if chosen == "extractive":
        return await asyncio.to_thread(_offline, ctx, content, wish, made)
    try:
        return await _by_model(ctx, content, wish, made, settings)
    except Exception as error:
        refused = find_error(error, RequestRefusedError)
        cause = refused or find_error(error, BudgetExceededError)
        if cause is None or settings.fallback != "extractive":
            raise
        ctx.log.warning("summarised offline: %s", cause)
        why = type(cause).__name__
        return await asyncio.to_thread(_offline, ctx, content, wish, made, why)


async def _by_model(
    ctx: Context,
    content: str,
    wish: Wish,
    made: Extract,
    settings: SummarizeSettings,
) -> SummaryResult:
    model = model_provider()
    finished = Finished(ctx)
    ledger = Ledger(
        max_tokens=settings.max_tokens,
        max_cost=settings.max_cost,
        prices=await model.prices(),
        spent=finished.spent,
    )
    sizes = Sizes(settings.part_tokens, settings.max_input_tokens, settings.concurrency)
    writer = Writer(ctx, model, wish, sizes, ledger, finished)
    written = await writer.write(content, made.language)
    return _read(written, content, wish, made, model.name)


def _read(
    written: Written, content: str, wish: Wish, made: Extract, provider: str
) -> SummaryResult:
    answer, degraded = written.answer.text, ""
    points: tuple[str, ...] = ()
    if wish.key_points:
        read = read_points(answer, wish.key_points)
        if read is None:
            degraded = "the model did not list its key points"
        else:
            answer, points = read
    language = wish.language or made.language
    text, is_cut = clean_answer(answer, wish, language=language, source=content)
    if not text:
        reason = "the answer holds no text"
        raise BadAnswerError(provider, reason)
    return SummaryResult(
        summary=text,
        key_points=list(points),
        language=language,
        style=wish.style,
        words=count_words(text),
        source_words=made.source_words,
        method="abstractive",
        provider=provider,
        model=", ".join(written.models) or None,
        strategy=written.strategy,
        parts=written.parts,
        truncated=written.answer.is_truncated or is_cut,
        degraded=degraded,
        generation_ids=list(written.generation_ids),
    )


def _offline(
    ctx: Context, content: str, wish: Wish, made: Extract, why: str = ""
) -> SummaryResult:
    """Pick the sentences that stand for the whole, in the form that is wished."""
    text = made.text
    if wish.style == "bullets":
        text = "\n".join(f"- {each}" for each in _sentences(made))
    elif wish.style == "headline":
        text = cut_to_words(_sentences(made)[0], wish.words).rstrip(".。")
    points: list[str] = []
    if wish.key_points:
        most = _WORDS_PER_POINT * wish.key_points
        points = _sentences(extract(content, max_words=most))[: wish.key_points]
    degraded = why
    if wish.language and wish.language != made.language:
        degraded = degraded or "offline summaries stay in the language of the text"
    ctx.emit(text)
    return _result(
        text,
        wish,
        made,
        method="extractive",
        provider="extractive",
        key_points=points,
        degraded=degraded,
    )


def _sentences(made: Extract) -> list[str]:
    return [
        sentence
        for line in made.text.splitlines()
        for sentence in find_sentences(line, language=made.language)
    ]


def _result(
    text: str,
    wish: Wish,
    made: Extract,
    *,
    method: str,
    provider: str,
    key_points: list[str] | None = None,
    degraded: str = "",
) -> SummaryResult:
    return SummaryResult(
        summary=text,
        key_points=key_points or [],
        language=made.language,
        style=wish.style,
        words=count_words(text),
        source_words=made.source_words,
        method=method,
        provider=provider,
        truncated=made.is_cut,
        degraded=degraded,
    )


@functools.cache
def model_provider() -> ModelProvider:
    """Return the one lender of models of this process.

    Raises:
        ConfigurationError: There is no key, or the extra is not installed.
    """
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


def wish_of(
    max_words: int, style: Style, language: str, focus: str, key_points: int = 0
) -> Wish:
    """Make a wish of a task's arguments, checked by `check_options`."""
    return Wish(
        max_words=max_words,
        style=style,
        language=None if language == "auto" else language,
        focus=" ".join(focus.split()),
        key_points=key_points,
    )
