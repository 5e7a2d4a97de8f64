"""A model, through OpenRouter or a server that speaks like it.

The transport of httpx is used and not its client. ``httpx.AsyncClient`` logs the
address of every call at INFO into the host's logs, and apart from its private
methods the only way to keep it quiet would be to change the host's logging. What
the client would have added is little here, as there is one address: its proxy is
looked up once, no redirect is followed, and there are no cookies.

One call is tried again here only where no answer can have been begun, and so
nothing can have been billed: the connection could not be made, or it was an old
one that had been closed meanwhile. Every other failure is the queue's to retry.
"""

import asyncio
import json
import urllib.request
from collections.abc import AsyncGenerator, Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Final
from weakref import WeakKeyDictionary

import httpx
import tenacity

from taskflow_summarize._provider import (
    Completion,
    CompletionRequest,
    Summary,
    SummaryRequest,
)
from taskflow_summarize._providers.abstractive import summarize_by_model
from taskflow_summarize._providers.answers import NAME, read_answer
from taskflow_summarize._settings import SummarizeSettings
from taskflow_summarize.errors import (
    BadAnswerError,
    ProviderTimeoutError,
    UnavailableError,
)

_CONNECT_TIMEOUT: Final = 5.0
_MOST_ANSWER_BYTES: Final = 8 * 1_048_576
_TRIES: Final = 2
_CONTEXT_TOKENS: Final = 65_536
_TEMPERATURE: Final = 0.2
_LIMITS: Final = httpx.Limits(
    max_connections=100, max_keepalive_connections=20, keepalive_expiry=30.0
)


class OpenRouterProvider:
    """A model behind an API.

    Its connections are shared by all calls on one event loop, and closed when
    the loop ends.

    Args:
        settings: Those of the plugin; the key must be set.
    """

    name = NAME

    def __init__(self, settings: SummarizeSettings) -> None:
        self._settings = settings
        self._url = httpx.URL(f"{settings.base_url}/chat/completions")
        self._pools: WeakKeyDictionary[asyncio.AbstractEventLoop, _Pool] = (
            WeakKeyDictionary()
        )

    async def summarize(self, request: SummaryRequest) -> Summary:
        """Ask the model for a summary of one text.

        Args:
            request: The text and the budget.

        Returns:
            The summary, at most a quarter longer than the budget.

        Raises:
            ContentError: There is not one word in the text.
            ProviderError: There is no summary; the class says what to do.
        """
        most = self._settings.max_input_tokens
        return await summarize_by_model(self, request, max_input_tokens=most)

    @property
    def context_tokens(self) -> int:
        """Tokens of the model's window."""
        return _CONTEXT_TOKENS

    async def complete(
        self,
        request: CompletionRequest,
        *,
        on_text: Callable[[str], None] | None = None,
    ) -> Completion:
        """Have the model write one answer.

        Args:
            request: The messages and the budget.
            on_text: Called with each piece of the text.

        Returns:
            The whole answer.

        Raises:
            ProviderError: There is none; the class says what to do.
        """
        answer = await self._ask(request)
        if on_text is not None:
            on_text(answer.text)
        return answer

    async def prices(self) -> tuple[float, float] | None:
        """Say what the model costs: nothing is known of it."""
        return None

    async def _ask(self, request: CompletionRequest) -> Completion:
        body: dict[str, Any] = {
            "model": self._settings.model,
            "messages": list(request.messages),
            "max_completion_tokens": request.max_tokens,
            "temperature": _TEMPERATURE,
            "stream": False,
            # On by default for small models, where it drops the middle of the text.
            "plugins": [{"id": "context-compression", "enabled": False}],
            "provider": {"data_collection": self._settings.data_collection},
        }
        content = json.dumps(body, ensure_ascii=False).encode()
        try:
            async with asyncio.timeout(self._settings.timeout):
                status, headers, received = await self._send(content)
        except (TimeoutError, httpx.TimeoutException) as error:
            reason = f"no answer within {self._settings.timeout:g} s"
            raise ProviderTimeoutError(NAME, reason) from error
        except httpx.DecodingError as error:
            reason = "the answer cannot be decompressed"
            raise BadAnswerError(NAME, reason) from error
        except (_NotBegunError, httpx.TransportError) as error:
            met = error.__cause__ if isinstance(error, _NotBegunError) else error
            reason = f"no answer: {type(met).__name__}"
            raise UnavailableError(NAME, reason) from error
        return read_answer(status, headers, received, now=datetime.now(UTC))

    async def _send(self, content: bytes) -> tuple[int, Mapping[str, str], bytes]:
        """Send the request and read the whole answer."""
        pool = await self._pool()
        async for attempt in tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(_NotBegunError),
            stop=tenacity.stop_after_attempt(_TRIES),
            wait=tenacity.wait_random(0.05, 0.5),
            reraise=True,
        ):
            with attempt:
                response = await pool.send(self._request(content))
                try:
                    received = await _read(response)
                finally:
                    await response.aclose()
                return response.status_code, dict(response.headers.items()), received
        raise AssertionError  # tenacity gives a result or raises

    def _request(self, content: bytes) -> httpx.Request:
        limits = httpx.Timeout(self._settings.timeout, connect=_CONNECT_TIMEOUT)
        return httpx.Request(
            "POST",
            self._url,
            content=content,
            headers={
                "Authorization": f"Bearer {self._settings.api_key}",
                "Content-Type": "application/json",
                "Accept": "application/json",
                "Accept-Encoding": "gzip, deflate",
                "User-Agent": f"asynctaskflow/{version('asynctaskflow')}",
                "X-OpenRouter-Title": "asynctaskflow",
            },
            extensions={"timeout": limits.as_dict()},
        )

    async def _pool(self) -> "_Pool":
        loop = asyncio.get_running_loop()
        pool = self._pools.get(loop)
        if pool is None:
            # Reading the certificates takes 20 ms: not on the loop.
            transport = await asyncio.to_thread(_open_transport, self._url)
            pool = self._pools.get(loop)
            if pool is None:
                pool = self._pools[loop] = _Pool(transport)
                await pool.close_with_loop()
        return pool

    async def aclose(self) -> None:
        """Close the connections of the running loop; a later call opens new ones."""
        pool = self._pools.pop(asyncio.get_running_loop(), None)
        if pool is not None:
            await pool.aclose()


class _NotBegunError(Exception):
    """The request failed, and no answer to it can have been begun."""


class _Pool:
    """The connections of one event loop."""

    def __init__(self, transport: httpx.AsyncHTTPTransport) -> None:
        self._transport = transport
        self._keeper = self._keep()

    async def send(self, request: httpx.Request) -> httpx.Response:
        """Send *request*, and read the head of the answer.

        Returns:
            The answer, to be closed by the caller.

        Raises:
            _NotBegunError: The request may be sent again.
            NetworkError: It may not, as it may have been begun.
            RemoteProtocolError: Likewise.
        """
        is_new = False

        async def trace(event: str, _: Mapping[str, Any]) -> None:
            nonlocal is_new
            is_new = is_new or event.startswith("connection.connect_")

        request.extensions["trace"] = trace
        try:
            return await self._transport.handle_async_request(request)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise _NotBegunError from error
        except (httpx.NetworkError, httpx.RemoteProtocolError) as error:
            # The other side closes idle connections when it likes. On a new one
            # it may have begun to work, and to bill.
            if is_new:
                raise
            raise _NotBegunError from error

    async def close_with_loop(self) -> None:
        """Have the connections closed when the loop ends.

        A trick: a loop that ends closes the asynchronous generators that were begun
        on it, and it has no other hook. A context around the worker would be
        cleaner, but a task's body knows of none.
        """
        await anext(self._keeper)

    async def _keep(self) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            await self._transport.aclose()

    async def aclose(self) -> None:
        await self._keeper.aclose()


def _open_transport(url: httpx.URL) -> httpx.AsyncHTTPTransport:
    proxy = None
    if not urllib.request.proxy_bypass(url.host):
        proxies = urllib.request.getproxies()
        proxy = proxies.get(url.scheme) or proxies.get("all")
    if proxy and "://" not in proxy:
        proxy = f"http://{proxy}"
    return httpx.AsyncHTTPTransport(
        verify=url.scheme == "https", limits=_LIMITS, proxy=proxy or None
    )


async def _read(response: httpx.Response) -> bytes:
    """Read the whole body, but no endless one."""
    received = bytearray()
    async for chunk in response.aiter_bytes():
        received += chunk
        if len(received) > _MOST_ANSWER_BYTES:
            reason = f"the answer is longer than {_MOST_ANSWER_BYTES} bytes"
            raise BadAnswerError(NAME, reason, status_code=response.status_code)
    return bytes(received)
