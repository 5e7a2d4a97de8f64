"""A model, through OpenRouter or a server that speaks like it.

Every answer is asked for as a stream: one that is given up half-way is not paid for
to its end, and silence in the middle of it is seen within seconds. A server that
sends it whole all the same is understood.
"""

import asyncio
import contextlib
import json
import math
import time
from collections.abc import Callable, Generator
from datetime import UTC, datetime
from http import HTTPStatus
from importlib.metadata import version
from typing import Final
from weakref import WeakKeyDictionary

import httpx

from taskflow_summarize._provider import (
    Completion,
    CompletionRequest,
)
from taskflow_summarize._providers._json import parse_object
from taskflow_summarize._providers._sse import (
    MOST_LINE_BYTES,
    EventParser,
    LineTooLongError,
)
from taskflow_summarize._providers.answers import AnswerReader, read_answer
from taskflow_summarize._providers.bodies import Draft, Shape
from taskflow_summarize._providers.catalogue import ModelFacts, read_models
from taskflow_summarize._providers.failures import NAME, Refusal, read_refusal
from taskflow_summarize._providers.transport import (
    Body,
    NotBegunError,
    SilentError,
    Transport,
)
from taskflow_summarize._settings import SummarizeSettings
from taskflow_summarize.errors import (
    BadAnswerError,
    ProviderError,
    ProviderTimeoutError,
    UnavailableError,
)

_CONNECT_TIMEOUT: Final = 5.0
_MOST_ANSWER_BYTES: Final = 8 * 1_048_576
_MOST_REFUSAL_BYTES: Final = 1_048_576
_MOST_STREAM_BYTES: Final = 128 * 1_048_576  # each token comes in some 300 bytes
_MOST_SENDINGS: Final = 5
_DEFAULT_CONTEXT_TOKENS: Final = 65_536
_FACTS_LAST: Final = 3600.0  # seconds
_NO_FACTS_LAST: Final = 60.0
_FACTS_TIMEOUT: Final = 15.0
_EVENT_STREAM: Final = "text/event-stream"
_FIELDS: Final = (b":", b"data", b"event", b"id:", b"retry:")
_BLANK: Final = b"\xef\xbb\xbf \t\r\n"

_OnText = Callable[[str], None]


class OpenRouterProvider:
    """A model behind an API.

    Its connections are shared by all calls on one event loop, and closed when the
    loop ends.

    Args:
        settings: Those of the plugin; the key must be set.
        clock: Seconds that grow steadily; how old the list of models is.
    """

    name = NAME

    def __init__(
        self,
        settings: SummarizeSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._url = httpx.URL(f"{settings.base_url}/chat/completions")
        self._models_url = httpx.URL(f"{settings.base_url}/models")
        self._transport = Transport(self._url)
        self._shape = Shape()
        self._facts = ModelFacts()
        self._facts_until = -math.inf
        self._clock = clock
        self._locks: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = (
            WeakKeyDictionary()
        )

    @property
    def context_tokens(self) -> int:
        """Tokens of the model's window.

        The setting's; without one, what the list of models said when `prices` was
        last asked; before that, a cautious default.
        """
        known = self._settings.context_tokens or self._facts.context_tokens
        return known or _DEFAULT_CONTEXT_TOKENS

    async def complete(
        self, request: CompletionRequest, *, on_text: _OnText | None = None
    ) -> Completion:
        """Have the model write one answer.

        A request that is refused for one of its optional parts is sent again
        without it: nothing was written for it, and nothing billed.

        Args:
            request: The messages and the budget.
            on_text: Called with each piece of the text as it is written, on the
                loop. The pieces together are the text of the answer.

        Returns:
            The whole answer.

        Raises:
            ProviderError: There is none; the class says what to do.
        """
        draft = Draft(request, self._shape, self._settings.models)
        left = _MOST_SENDINGS
        while True:
            left -= 1
            met = await self._write(draft, on_text)
            if isinstance(met, Completion):
                self._shape = draft.shape
                return met
            following = draft.after(met, self._settings) if left else None
            if following is None:
                try:
                    raise met.error
                finally:
                    # It would hold this frame, and this frame it: a cycle, with
                    # open connections in it once the provider is dropped.
                    del met
            draft = following

    async def _write(
        self, draft: Draft, on_text: _OnText | None
    ) -> Completion | Refusal:
        """Send one request and read the answer to it."""
        content = json.dumps(draft.body(self._settings), ensure_ascii=False).encode()
        timeout = self._settings.timeout
        with _translated(timeout):
            async with contextlib.AsyncExitStack() as stack:
                async with asyncio.timeout(timeout):
                    body = await self._send("POST", self._url, content, timeout)
                    stack.push_async_callback(body.aclose)
                    made = await _read(body, on_text)
                await body.drain()
        return made

    async def _send(
        self, method: str, url: httpx.URL, content: bytes | None, seconds: float
    ) -> Body:
        def make() -> httpx.Request:
            limits = httpx.Timeout(seconds, connect=_CONNECT_TIMEOUT)
            return httpx.Request(
                method,
                url,
                content=content,
                headers=self._headers(),
                extensions={"timeout": limits.as_dict()},
            )

        return await self._transport.send(make, idle=self._settings.idle_timeout)

    def _headers(self) -> dict[str, str]:
        made = {
            "Authorization": f"Bearer {self._settings.api_key}",
            "Content-Type": "application/json",
            "Accept": f"{_EVENT_STREAM}, application/json",
            "Accept-Encoding": "gzip, deflate",
            "User-Agent": f"asynctaskflow/{version('asynctaskflow')}",
        }
        if self._settings.dialect_in_force == "openrouter":
            made["X-OpenRouter-Title"] = self._settings.app_title
            if self._settings.app_url is not None:
                made["HTTP-Referer"] = self._settings.app_url
        return made

    async def prices(self) -> tuple[float, float] | None:
        """Say what the model costs, as the service's list of models says.

        The list is read once an hour, and what it says of the window is in
        `context_tokens` from then on. It never fails.

        Returns:
            US dollars for a token read and for a token written, the highest of all
            models that may answer, or None where they are not known.
        """
        lock = self._locks.setdefault(asyncio.get_running_loop(), asyncio.Lock())
        async with lock:
            if self._clock() >= self._facts_until:
                found = await self._find_facts()
                self._facts = self._facts if found is None else found
                lasts = _NO_FACTS_LAST if found is None else _FACTS_LAST
                self._facts_until = self._clock() + lasts
        return self._facts.prices

    async def _find_facts(self) -> ModelFacts | None:
        try:
            with _translated(_FACTS_TIMEOUT):
                async with (
                    asyncio.timeout(_FACTS_TIMEOUT),
                    contextlib.AsyncExitStack() as stack,
                ):
                    body = await self._send(
                        "GET", self._models_url, None, _FACTS_TIMEOUT
                    )
                    stack.push_async_callback(body.aclose)
                    received = await body.read_all(_MOST_ANSWER_BYTES)
        except ProviderError:
            return None
        if body.status != HTTPStatus.OK or received is None:
            return None
        data = await asyncio.to_thread(parse_object, received)
        return None if data is None else read_models(data, self._settings.models)

    async def aclose(self) -> None:
        """Close the connections of the running loop; a later call opens new ones."""
        await self._transport.aclose()


@contextlib.contextmanager
def _translated(timeout: float) -> Generator[None]:
    """Turn what the transport raises into errors of ours."""
    try:
        yield
    except SilentError as error:
        reason = f"no word within {error.seconds:g} s"
        raise ProviderTimeoutError(NAME, reason) from error
    except (TimeoutError, httpx.TimeoutException) as error:
        reason = f"no answer within {timeout:g} s"
        raise ProviderTimeoutError(NAME, reason) from error
    except httpx.DecodingError as error:
        reason = "the answer cannot be decompressed"
        raise BadAnswerError(NAME, reason) from error
    except (NotBegunError, httpx.TransportError) as error:
        met = error.__cause__ if isinstance(error, NotBegunError) else error
        reason = f"no answer: {type(met).__name__}"
        raise UnavailableError(NAME, reason) from error


async def _read(body: Body, on_text: _OnText | None) -> Completion | Refusal:
    """Read an answer, whole or as it is written."""
    now = datetime.now(UTC)
    if body.status != HTTPStatus.OK:
        received = await body.read_what_comes(_MOST_REFUSAL_BYTES)
        data = parse_object(received) or {}
        return read_refusal(body.status, body.headers, data, now=now)
    first = await body.read()
    while first and not first.strip(_BLANK):
        first = await body.read()
    reader = AnswerReader(body.headers, now=now)
    if _is_stream(body, first):
        return await _read_stream(body, first, reader, on_text)
    whole = await body.read_all(_MOST_ANSWER_BYTES, first)
    if whole is None:
        raise _too_long(_MOST_ANSWER_BYTES)
    made = read_answer(body.status, body.headers, whole, now=now)
    if on_text is not None:
        on_text(made.text)
    return made


def _is_stream(body: Body, first: bytes) -> bool:
    """Tell events from a whole answer; not every server labels them rightly."""
    begin = first.lstrip(_BLANK)
    if begin.startswith((b"{", b"[")):
        return False
    kind = body.headers.get("content-type", "")
    return kind.startswith(_EVENT_STREAM) or begin.startswith(_FIELDS)


async def _read_stream(
    body: Body, first: bytes, reader: AnswerReader, on_text: _OnText | None
) -> Completion:
    parser = EventParser()
    chunk, received = first, 0
    while chunk and not reader.is_done:
        received += len(chunk)
        if received > _MOST_STREAM_BYTES:
            raise _too_long(_MOST_STREAM_BYTES)
        try:
            events = parser.feed(chunk)
        except LineTooLongError:
            raise _too_long(MOST_LINE_BYTES) from None
        _take(events, reader, on_text)
        try:
            chunk = await body.read()
        except (SilentError, httpx.TransportError):
            if not reader.is_finished:
                raise
            chunk = b""  # it broke off behind the text
    _take(parser.end(), reader, on_text)
    made = reader.finish(is_stream=True)
    if reader.rest and on_text is not None:
        on_text(reader.rest)
    return made


def _take(events: list[str], reader: AnswerReader, on_text: _OnText | None) -> None:
    for event in events:
        if reader.is_done:
            return
        text = reader.take_event(event)
        if text and on_text is not None:
            on_text(text)


def _too_long(most: int) -> BadAnswerError:
    reason = f"the answer is longer than {most} bytes"
    return BadAnswerError(NAME, reason, status_code=HTTPStatus.OK)
