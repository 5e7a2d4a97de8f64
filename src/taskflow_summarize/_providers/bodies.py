"""What is sent to have one answer written, in two dialects.

OpenRouter has keys of its own; another server speaks OpenAI's dialect, and older
ones refuse some of its keys. A key that is refused is left out or renamed, and the
request is sent once more: nothing was written for the one that was refused.
"""

from typing import Any, Final

from attrs import evolve, frozen

from taskflow_summarize._provider import CompletionRequest
from taskflow_summarize._providers.failures import Refusal
from taskflow_summarize._settings import SummarizeSettings
from taskflow_summarize.errors import RequestRefusedError

_TEMPERATURE: Final = 0.2
_NEW_TOKENS: Final = "max_completion_tokens"
_OLD_TOKENS: Final = "max_tokens"
# A schema may be the reason also where the server does not say so: no host of the
# model takes one, or not this one.
_OF_SCHEMAS: Final = (None, "response_format")
_NOT_FOUND: Final = 404


@frozen
class Shape:
    """What a request may hold, as far as it is known of the server.

    Attributes:
        tokens_key: What the budget of tokens is called.
        left_out: Keys that the server has refused.
    """

    tokens_key: str = _NEW_TOKENS
    left_out: frozenset[str] = frozenset()


@frozen
class Draft:
    """One request, before it is sent.

    Attributes:
        request: What is asked.
        shape: What of it the server takes.
        models: Ids of models, the first one first. The others are for when it
            fails.
        is_schema_sent: Whether the schema is.
    """

    request: CompletionRequest
    shape: Shape
    models: tuple[str, ...]
    is_schema_sent: bool = True

    def body(self, settings: SummarizeSettings) -> dict[str, Any]:
        """Write it down.

        Args:
            settings: Those of the plugin.

        Returns:
            The body, as JSON has it.
        """
        is_structured = self.is_schema_sent and self.request.schema is not None
        made: dict[str, Any] = {
            "model": self.models[0],
            "messages": list(self.request.messages),
            self.shape.tokens_key: self.request.max_tokens,
            "temperature": _TEMPERATURE,
            "stream": True,
        }
        if is_structured:
            made["response_format"] = {
                "type": "json_schema",
                "json_schema": {
                    "name": "answer",
                    "strict": True,
                    "schema": self.request.schema,
                },
            }
        if settings.dialect_in_force == "openrouter":
            made |= _own_keys(settings, self.models[1:], is_structured=is_structured)
        else:
            # Without it they do not say what a streamed answer has used.
            made["stream_options"] = {"include_usage": True}
        return {k: v for k, v in made.items() if k not in self.shape.left_out}

    def after(self, refusal: Refusal, settings: SummarizeSettings) -> "Draft | None":
        """Say what to send after a refusal.

        Args:
            refusal: What came.
            settings: Those of the plugin.

        Returns:
            Another request that may be taken, or None where none is.
        """
        affordable = refusal.affordable
        if affordable is not None and affordable < self.request.max_tokens:
            return evolve(self, request=evolve(self.request, max_tokens=affordable))
        error = refusal.error
        # Not its subclasses: of those the text is the reason.
        if type(error) is not RequestRefusedError:
            return None
        sent = self.body(settings)
        if "response_format" in sent and refusal.parameter in _OF_SCHEMAS:
            return evolve(self, is_schema_sent=False)
        if refusal.parameter in sent:
            return evolve(self, shape=_without(self.shape, refusal.parameter))
        is_own = settings.dialect_in_force == "openrouter"
        if not is_own and error.status_code == _NOT_FOUND and self.models[1:]:
            return evolve(self, models=self.models[1:])
        return None


def _own_keys(
    settings: SummarizeSettings, fallbacks: tuple[str, ...], *, is_structured: bool
) -> dict[str, Any]:
    provider: dict[str, Any] = {"data_collection": settings.data_collection}
    if is_structured:
        # Else it may go to a host that ignores the schema.
        provider["require_parameters"] = True
    made: dict[str, Any] = {
        # On by default for small models, where it drops the middle of the text.
        "plugins": [{"id": "context-compression", "enabled": False}],
        "provider": provider,
    }
    if fallbacks:
        made["models"] = list(fallbacks)
    return made


def _without(shape: Shape, key: str | None) -> Shape:
    if key == _NEW_TOKENS:
        return evolve(shape, tokens_key=_OLD_TOKENS)
    return evolve(shape, left_out=shape.left_out | {str(key)})
