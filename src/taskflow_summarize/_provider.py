"""The contract: what a model is asked, and what it answers."""

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
