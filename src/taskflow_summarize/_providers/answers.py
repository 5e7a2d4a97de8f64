"""What an answer of OpenRouter says: whole, or as it is being written.

A whole answer is one JSON object with a ``message``; a streamed one is many, each
with a ``delta`` of it. Both are read by `AnswerReader`, as what can be wrong with
them is the same. It is pure; a table of recorded shapes tests it.
"""

from collections.abc import Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Final, TypeVar

from taskflow_summarize._provider import Completion
from taskflow_summarize._providers._json import (
    Json,
    as_count,
    as_list,
    as_number,
    as_object,
    as_word,
    parse_object,
)
from taskflow_summarize._providers.failures import (
    NAME,
    is_end_of_tokens,
    read_refusal,
)
from taskflow_summarize._providers.reasoning import ReasoningFilter
from taskflow_summarize.errors import (
    BadAnswerError,
    ContentRefusedError,
    EmptyAnswerError,
    ProviderError,
    UnavailableError,
)

ErrorT = TypeVar("ErrorT", bound=ProviderError)

_DONE: Final = "[DONE]"
_BAD: Final = 400
_LENGTH: Final = frozenset({"length", "max_tokens"})
_NO_TEXT: Final = "the answer holds no text"
_THOUGHT: Final = "the tokens that it may write ended before the text began"
_REFUSED: Final = "the provider will not work on this text"


class AnswerReader:
    """Reads one answer of status 200, piece after piece.

    Args:
        headers: Of the answer, with names in small letters.
        now: The time, aware; what a moment to wait for is counted from.

    Attributes:
        is_done: Whether the stream has said that nothing follows.
        rest: Text that came last and was held back until `finish`.
    """

    def __init__(self, headers: Mapping[str, str], *, now: datetime) -> None:
        self.is_done = False
        self.rest = ""
        self._headers = headers
        self._now = now
        self._texts: list[str] = []
        self._filter = ReasoningFilter()
        self._finish: str | None = None
        self._is_refused = False
        self._usage: Json = {}
        self._model: str | None = None
        self._id = as_word(headers.get("x-generation-id"))

    @property
    def is_finished(self) -> bool:
        """Whether the model has said that the text is whole."""
        return self._finish is not None

    def take_event(self, event: str) -> str:
        """Take the data of one event of a stream.

        Args:
            event: Its data.

        Returns:
            The text that it adds, often empty.

        Raises:
            BadAnswerError: It is not JSON: text may be missing.
        """
        if event.strip() == _DONE:
            self.is_done = True
            return ""
        data = parse_object(event)
        if data is None:
            reason = "a piece of the answer is no JSON object"
            error = BadAnswerError(NAME, reason, status_code=HTTPStatus.OK)
            raise self._billed(error)
        return self.take(data)

    def take(self, data: Json) -> str:
        """Take one object: a piece of an answer, or a whole one.

        Args:
            data: As it came.

        Returns:
            The text that it adds.

        Raises:
            ProviderError: It holds an error, or says that the answer failed.
        """
        choices = data.get("choices")
        if not isinstance(choices, list) and "choices" in as_object(
            data.get("provider")
        ):
            data = as_object(data.get("provider"))  # seen once: an answer inside
        self._usage = as_object(data.get("usage")) or self._usage
        self._model = as_word(data.get("model")) or self._model
        self._id = as_word(data.get("id")) or self._id
        text = ""
        try:
            self._check(data)
            for each in as_list(data.get("choices")):
                choice = as_object(each)
                if choice.get("index") in (None, 0):
                    text += self._take_choice(choice)
        except ProviderError as error:
            raise self._billed(error) from error.__cause__
        return text

    def finish(self, *, is_stream: bool) -> Completion:
        """Take the end of the answer.

        Args:
            is_stream: Whether it came in pieces: then its end must have been said,
                as nothing else tells it from one that broke off.

        Returns:
            The whole text, and what it cost.

        Raises:
            ContentRefusedError: The model declined.
            BadAnswerError: The answer is not whole.
            EmptyAnswerError: It is, and there is no text in it.
        """
        if self._is_refused:
            refused = ContentRefusedError(NAME, _REFUSED, status_code=HTTPStatus.OK)
            raise self._billed(refused)
        if is_stream and self._finish is None:
            reason = "the answer broke off"
            broken = BadAnswerError(NAME, reason, status_code=HTTPStatus.OK)
            raise self._billed(broken)
        self.rest = self._filter.end()
        self._texts.append(self.rest)
        details = as_object(self._usage.get("completion_tokens_details"))
        made = Completion(
            text="".join(self._texts),
            model=self._model,
            is_truncated=self._finish in _LENGTH,
            prompt_tokens=as_count(self._usage.get("prompt_tokens")),
            completion_tokens=as_count(self._usage.get("completion_tokens")),
            reasoning_tokens=as_count(details.get("reasoning_tokens")),
            cost=_cost(self._usage),
            generation_id=self._id,
        )
        if not made.text.strip():
            empty = EmptyAnswerError(
                NAME,
                _THOUGHT if made.is_truncated else _NO_TEXT,
                status_code=HTTPStatus.OK,
                is_truncated=made.is_truncated,
            )
            raise self._billed(empty)
        return made

    def _billed(self, error: ErrorT) -> ErrorT:
        """Let *error* say what the answer cost, though there is none."""
        error.is_billed = error.is_billed or bool(self._usage)
        error.prompt_tokens = as_count(self._usage.get("prompt_tokens"))
        error.completion_tokens = as_count(self._usage.get("completion_tokens"))
        error.cost = _cost(self._usage)
        return error

    def _check(self, data: Json) -> None:
        error = data.get("error")
        if not error:
            return
        # Some hosts say the end of the tokens once more, as an error of the request.
        is_late = self._finish in _LENGTH and as_object(error).get("code") == _BAD
        if is_late or is_end_of_tokens(as_object(error)):
            self._finish = "length"
            return
        raise read_refusal(HTTPStatus.OK, self._headers, data, now=self._now).error

    def _take_choice(self, choice: Json) -> str:
        self._check(choice)
        finish = choice.get("finish_reason")
        if finish == "error" and self._finish not in _LENGTH:
            reason = "the model stopped with an error"
            raise UnavailableError(NAME, reason, status_code=HTTPStatus.BAD_GATEWAY)
        # Not raised yet: what it cost comes with the end of the stream.
        self._is_refused = self._is_refused or finish == "content_filter"
        # A late error of the tokens must not be undone by a piece after it.
        if isinstance(finish, str) and self._finish is None:
            self._finish = finish
        said = as_object(choice.get("delta"))
        if not said and not self._texts:
            said = as_object(choice.get("message"))
        self._is_refused = self._is_refused or bool(said.get("refusal"))
        text = self._filter.feed(_text(said.get("content")))
        if self._filter.is_reset:
            self._texts.clear()
        if text:
            self._texts.append(text)
        return text


def read_answer(
    status: int, headers: Mapping[str, str], body: bytes, *, now: datetime
) -> Completion:
    """Read one whole answer.

    Args:
        status: Of HTTP.
        headers: With names in small letters.
        body: As it came.
        now: The time, aware; what a moment to wait for is counted from.

    Returns:
        The text that the model wrote, and what it cost.

    Raises:
        ProviderError: There is none; of the class that says what to do.
        BadAnswerError: It is no JSON.
    """
    data = parse_object(body)
    if status != HTTPStatus.OK:
        raise read_refusal(status, headers, data or {}, now=now).error
    if data is None:
        reason = "the answer is no JSON object"
        raise BadAnswerError(NAME, reason, status_code=status)
    reader = AnswerReader(headers, now=now)
    reader.take(data)
    return reader.finish(is_stream=False)


def _text(content: object) -> str:
    """Return what *content* says: a text, or a list of parts of one."""
    if isinstance(content, str):
        return content
    parts = [as_object(part) for part in as_list(content)]
    texts = [part.get("text") for part in parts if part.get("type") == "text"]
    return "".join(text for text in texts if isinstance(text, str))


def _cost(usage: Json) -> float | None:
    """Add up what the service and, with a key of your own, the host charged."""
    cost = as_number(usage.get("cost"))
    if cost is None or usage.get("is_byok") is not True:
        return cost
    details = as_object(usage.get("cost_details"))
    return cost + (as_number(details.get("upstream_inference_cost")) or 0.0)
