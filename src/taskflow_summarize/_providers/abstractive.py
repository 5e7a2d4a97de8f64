"""Summaries that a model writes: one text, one call."""

import asyncio

from taskflow_summarize._prompt import (
    clean_answer,
    completion_budget,
    estimate_tokens,
    make_messages,
)
from taskflow_summarize._provider import (
    Completion,
    CompletionRequest,
    ModelProvider,
    Summary,
    SummaryRequest,
)
from taskflow_summarize._providers.extractive import Extract, extract
from taskflow_summarize._text.words import count_words
from taskflow_summarize.errors import BadAnswerError


async def summarize_by_model(
    model: ModelProvider, request: SummaryRequest, *, max_input_tokens: int
) -> Summary:
    """Ask a model for a summary of one text.

    A text that is within the budget already is given back without a call. One
    that is longer than *max_input_tokens* is shortened to its most central
    sentences first.

    Args:
        model: Who writes.
        request: The text and the budget.
        max_input_tokens: Most tokens of text that are sent, as estimated.

    Returns:
        The summary, at most a quarter longer than the budget.

    Raises:
        ContentError: There is not one word in the text.
        ProviderError: There is no summary; the class says what to do.
    """
    made = await asyncio.to_thread(
        extract, request.content, max_words=request.max_words
    )
    if made.is_whole:
        return Summary(
            text=made.text,
            provider=model.name,
            method="passthrough",
            language=made.language,
            words=made.words,
            source_words=made.source_words,
        )
    text, condensed_to = await asyncio.to_thread(
        _fit, request.content, made.source_words, max_input_tokens
    )
    messages = make_messages(text, max_words=request.max_words, language=made.language)
    answer = await model.complete(
        CompletionRequest(tuple(messages), completion_budget(request.max_words))
    )
    return _summary(model.name, answer, request, made, condensed_to)


def _fit(content: str, source_words: int, most: int) -> tuple[str, int | None]:
    """Shorten *content* to what may be sent; None = it need not be."""
    tokens = estimate_tokens(content)
    if tokens <= most:
        return content, None
    short = extract(content, max_words=max(1, int(source_words * most / tokens)))
    return short.text, short.words


def _summary(
    provider: str,
    answer: Completion,
    request: SummaryRequest,
    made: Extract,
    condensed_to: int | None,
) -> Summary:
    text, is_cut = clean_answer(
        answer.text, max_words=request.max_words, language=made.language
    )
    if not text:
        reason = "the answer holds no text"
        raise BadAnswerError(provider, reason)
    return Summary(
        text=text,
        provider=provider,
        method="abstractive",
        language=made.language,
        words=count_words(text),
        source_words=made.source_words,
        model=answer.model,
        is_truncated=answer.is_truncated or is_cut,
        condensed_to=condensed_to,
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens,
        cost=answer.cost,
        generation_id=answer.generation_id,
    )
