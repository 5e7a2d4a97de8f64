"""The contract: what a provider is asked, and what it answers."""

from typing import Protocol

from attrs import frozen


@frozen
class SummaryRequest:
    """One text to be summarised.

    Attributes:
        content: The text, neither empty nor binary. Markup is allowed.
        max_words: Most words of the summary, 10 to 2000.
    """

    content: str
    max_words: int


@frozen
class Summary:
    """What became of a request.

    Attributes:
        text: The summary.
        provider: Who made it.
        method: ``extractive`` (sentences of the text), ``abstractive`` (written by a
            model) or ``passthrough`` (the text was short enough already).
        model: The model that answered, or None.
        language: Code of the text's language, or None where it is not known.
        words: Length of the summary.
        source_words: Length of the text without its markup.
        is_truncated: Whether the provider stopped in the middle, or the text was cut.
        condensed_to: Words that the text was shortened to before the model saw
            it, or None where the model saw all of it.
        prompt_tokens: Tokens read, 0 without a model.
        completion_tokens: Tokens written, 0 without a model.
        cost: US dollars, or None where the provider did not say.
        generation_id: The provider's name for this answer, or None.
    """

    text: str
    provider: str
    method: str
    language: str | None
    words: int
    source_words: int
    model: str | None = None
    is_truncated: bool = False
    condensed_to: int | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = None
    generation_id: str | None = None


class Provider(Protocol):
    """Who summarises. One object serves a whole process, several loops included."""

    @property
    def name(self) -> str:
        """What records and settings call it."""
        ...

    async def summarize(self, request: SummaryRequest) -> Summary:
        """Summarise one text.

        Args:
            request: The text and the budget.

        Returns:
            The summary, at most *max_words* long as its own counting goes.

        Raises:
            ContentError: There is nothing to summarise.
            ProviderError: There is no summary; the class says what to do.
        """
        ...
