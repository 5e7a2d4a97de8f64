"""The provider on the network, against a server that misbehaves on demand."""

import asyncio
import gzip
import logging
import pickle
import traceback

import pytest

from taskflow_summarize._prompt import Wish, completion_budget, make_messages
from taskflow_summarize._provider import Completion, CompletionRequest
from taskflow_summarize._settings import SummarizeSettings, current_settings
from taskflow_summarize.errors import (
    BadAnswerError,
    EmptyAnswerError,
    ProviderError,
    ProviderTimeoutError,
    RateLimitedError,
    UnavailableError,
)
from taskflow_summarize.samples import load_samples
from taskflow_summarize.testing import SUMMARY, FakeOpenRouter, Reply
from tests.summarize.canary import KEY

openrouter = pytest.importorskip("taskflow_summarize._providers.openrouter")
transport = pytest.importorskip("taskflow_summarize._providers.transport")

TIDES = next(sample.text for sample in load_samples() if sample.name == "tides")
REQUEST = CompletionRequest(
    make_messages(TIDES, Wish(), language="en"), completion_budget(120)
)


def provider() -> "openrouter.OpenRouterProvider":
    """Make the provider that the settings describe."""
    return openrouter.OpenRouterProvider(current_settings())


async def failure(
    made: "openrouter.OpenRouterProvider", request: CompletionRequest = REQUEST
) -> ProviderError:
    """Ask for a summary that does not come."""
    with pytest.raises(ProviderError) as raised:
        await made.complete(request)
    return raised.value


async def test_a_summary_is_asked_for_and_returned(server: FakeOpenRouter) -> None:
    """Everything that the record will say is in it."""
    expected = Completion(
        text=SUMMARY,
        model="maker/model-7b",
        prompt_tokens=900,
        completion_tokens=14,
        cost=0.00021,
        generation_id="gen-1755-abc",
    )

    assert expected == await provider().complete(REQUEST)


async def test_the_request_is_what_the_api_wants(server: FakeOpenRouter) -> None:
    """The whole text, no compression behind our back, a bound on what is written."""
    await provider().complete(REQUEST)
    (request,) = server.requests
    body = request.body
    messages = body.pop("messages")

    assert ("POST", "/api/v1/chat/completions") == (request.method, request.path)
    assert f"Bearer {KEY}" == request.headers["authorization"]
    assert {
        "model": "maker/model-7b",
        "max_completion_tokens": 1328,
        "temperature": 0.2,
        "stream": True,
        "plugins": [{"id": "context-compression", "enabled": False}],
        "provider": {"data_collection": "deny"},
    } == body
    assert TIDES in messages[1]["content"]


async def test_all_calls_of_a_loop_share_their_connections(
    server: FakeOpenRouter,
) -> None:
    """One after the other need one connection, five at once at most five."""
    made = provider()
    for _ in range(3):
        await made.complete(REQUEST)
    one_by_one = server.connections
    await asyncio.gather(*(made.complete(REQUEST) for _ in range(5)))
    await made.aclose()

    assert 1 == one_by_one
    assert server.connections <= 5


def test_connections_are_closed_with_their_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One provider serves one loop after the other and leaves no socket behind."""
    made = None

    async def ask() -> str:
        nonlocal made
        fake = FakeOpenRouter()
        async with fake.serve():
            if made is None:
                made = openrouter.OpenRouterProvider(
                    SummarizeSettings(api_key=KEY, base_url=fake.url)
                )
            made._url = openrouter.httpx.URL(f"{fake.url}/chat/completions")
            return str((await made.complete(REQUEST)).text)

    # A socket that stays open is a ResourceWarning, and so a failure.
    assert [SUMMARY, SUMMARY] == [asyncio.run(ask()), asyncio.run(ask())]


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply(status=500, body=b"<html>"), UnavailableError),
        (Reply(body={"error": {"code": 503, "message": "x"}}), UnavailableError),
        (Reply(body={"id": None, "choices": None}), EmptyAnswerError),
        (Reply(body=b"<html>hello</html>"), BadAnswerError),
        (Reply(body=b"no gzip", headers={"Content-Encoding": "gzip"}), BadAnswerError),
        (Reply(ends="before"), UnavailableError),
        (Reply(ends="cut"), UnavailableError),
        (Reply(body=b" " * (9 * 1_048_576)), BadAnswerError),
    ],
    ids=str,
)
async def test_a_server_in_trouble_is_asked_once(
    server: FakeOpenRouter, reply: Reply, expected: type[ProviderError]
) -> None:
    """What may have been begun may be billed: the queue decides when to ask again."""
    server.replies.append(reply)
    met = await failure(provider())

    assert expected is type(met)
    assert 1 == len(server.requests)


async def test_a_compressed_answer_is_read(server: FakeOpenRouter) -> None:
    """Gzip is asked for, so it may come."""
    body = gzip.compress(b'{"choices": [{"message": {"content": "Yes."}}]}')
    server.replies.append(Reply(body=body, headers={"Content-Encoding": "gzip"}))

    assert "Yes." == (await provider().complete(REQUEST)).text


async def test_no_answer_in_time_is_a_timeout(
    server: FakeOpenRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the seconds of the setting, for the whole call."""
    monkeypatch.setenv("OPENROUTER_TIMEOUT", "200ms")
    server.replies.append(Reply(ends="never"))
    met = await failure(provider())

    assert ProviderTimeoutError is type(met)
    assert isinstance(met, TimeoutError)
    assert "no answer within 0.2 s" in str(met)


async def test_nobody_listening_is_unavailable() -> None:
    """A connection that cannot be made is tried twice, then it is the queue's."""
    gone = FakeOpenRouter()
    async with gone.serve():
        url = gone.url
    made = openrouter.OpenRouterProvider(SummarizeSettings(api_key=KEY, base_url=url))
    met = await failure(made)

    assert (UnavailableError, None) == (type(met), met.status_code)
    assert "ConnectError" in str(met)


async def test_an_old_connection_that_was_closed_is_replaced(
    server: FakeOpenRouter,
) -> None:
    """Servers close idle connections when they like; no attempt is lost for it."""
    made = provider()
    await made.complete(REQUEST)
    server.replies.append(Reply.hang_up())
    summary = await made.complete(REQUEST)

    assert SUMMARY == summary.text
    assert (3, 2) == (len(server.requests), server.connections)


async def test_the_wait_that_the_server_asks_for_is_on_the_error(
    server: FakeOpenRouter,
) -> None:
    """And the status: the retry policy looks for both."""
    server.replies.append(
        Reply(status=429, body={"error": {"code": 429}}, headers={"Retry-After": "17"})
    )
    met = await failure(provider())

    assert (RateLimitedError, 429, 17.0) == (
        type(met),
        met.status_code,
        met.retry_after,
    )


async def test_neither_key_nor_text_nor_address_is_in_a_log_or_an_error(
    server: FakeOpenRouter, caplog: pytest.LogCaptureFixture
) -> None:
    """Not at any level of any logger, nor in the chain of a traceback."""
    caplog.set_level(logging.DEBUG)
    made = provider()
    levels = {name: logging.getLogger(name).level for name in ("httpx", "httpcore")}
    server.replies.extend([Reply(), Reply(status=401), Reply(ends="cut")])
    await made.complete(REQUEST)
    errors = [await failure(made), await failure(made)]
    shown = "".join("".join(traceback.format_exception(each)) for each in errors)

    assert KEY not in caplog.text + shown + repr(made)
    assert "sandcastle" not in caplog.text + shown
    assert [] == [r for r in caplog.records if r.name.startswith("httpx")]
    assert levels == {name: logging.getLogger(name).level for name in levels}


async def test_an_error_survives_pickling(server: FakeOpenRouter) -> None:
    """Executors of other processes send it back."""
    server.replies.append(Reply(status=503, headers={"Retry-After": "4"}))
    met = await failure(provider())
    restored = pickle.loads(pickle.dumps(met))  # noqa: S301 - our own

    assert (str(met), vars(met)) == (str(restored), vars(restored))


def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """And is not for an address that the environment excepts."""
    monkeypatch.setenv("https_proxy", "proxy.example:3128")
    url = openrouter.httpx.URL("https://openrouter.ai/api/v1/chat/completions")
    local = openrouter.httpx.URL("https://127.0.0.1/v1/chat/completions")
    pools = [type(transport._open_transport(u)._pool).__name__ for u in (url, local)]

    assert ["AsyncHTTPProxy", "AsyncConnectionPool"] == pools
