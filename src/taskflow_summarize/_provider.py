"""The contracts: what a model is asked and answers, and what a summariser is."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias

from attrs import frozen

Message: TypeAlias = Mapping[str, str]
"""One message of a conversation: its ``role`` and its ``content``."""


@frozen
class CompletionRequest:
    """One call of a model.

    Attributes:
        messages: What it is told, in order.
        max_tokens: Most tokens it may write, those it thinks with included.
        schema: JSON schema of the answer; None = plain text. A server that knows no
            schemas answers as it likes: whoever asks checks what came.
    """

    messages: tuple[Message, ...]
    max_tokens: int
    schema: Mapping[str, Any] | None = None


@frozen
class Completion:
    """What a model wrote.

    Attributes:
        text: The text, not blank.
        model: Which model wrote it, or None.
        is_truncated: Whether it stopped at the budget of tokens.
        prompt_tokens: Tokens read.
        completion_tokens: Tokens written, those it thought with included.
        reasoning_tokens: Tokens it thought with.
        cost: US dollars, or None where it is not said.
        generation_id: The service's name for it, or None.
    """

    text: str
    model: str | None = None
    is_truncated: bool = False
    prompt_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    cost: float | None = None
    generation_id: str | None = None


class ModelProvider(Protocol):
    """Who lends a model. One object serves a whole process, several loops included."""

    @property
    def name(self) -> str:
        """What records and settings call it."""
        ...

    @property
    def context_tokens(self) -> int:
        """Tokens of the model's window: what it reads and writes together."""
        ...

    async def complete(
        self,
        request: CompletionRequest,
        *,
        on_text: Callable[[str], None] | None = None,
    ) -> Completion:
        """Have the model write one answer.

        Args:
            request: The messages and the budget.
            on_text: Called with each piece of the text as it is written, on the
                loop. The pieces together are the text of the answer.

        Returns:
            The whole answer.

        Raises:
            ProviderError: There is none; the class says what to do.
        """
        ...

    async def prices(self) -> tuple[float, float] | None:
        """Say what the model costs; it never fails.

        Returns:
            US dollars for a token read and for a token written, or None where they
            are not known.
        """
        ...

    async def aclose(self) -> None:
        """Close the connections of the running loop; a later call opens new ones."""
        ...


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
