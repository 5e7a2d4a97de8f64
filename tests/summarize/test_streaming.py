"""A model is asked for a stream, whatever comes of it."""

import asyncio
import json
from typing import Any

import pytest

from taskflow_summarize._provider import Completion, CompletionRequest
from taskflow_summarize._settings import current_settings
from taskflow_summarize.errors import (
    BadAnswerError,
    ContentRefusedError,
    EmptyAnswerError,
    ProviderError,
    ProviderTimeoutError,
    RequestRefusedError,
    TextTooLongError,
    UnavailableError,
)
from taskflow_summarize.testing import SUMMARY, FakeOpenRouter, Reply, completion
from tests.summarize.canary import KEY

openrouter = pytest.importorskip("taskflow_summarize._providers.openrouter")

REQUEST = CompletionRequest(({"role": "user", "content": "Tides?"},), 100)
GOOD = Completion(
    text=SUMMARY,
    model="maker/model-7b",
    prompt_tokens=900,
    completion_tokens=14,
    cost=0.00021,
    generation_id="gen-1755-abc",
)


def provider() -> Any:
    """Make the provider that the settings describe."""
    return openrouter.OpenRouterProvider(current_settings())


async def failure(made: Any = None, heard: list[str] | None = None) -> ProviderError:
    """Ask for an answer that does not come."""
    on_text = None if heard is None else heard.append
    asked = made or provider()
    with pytest.raises(ProviderError) as raised:
        await asked.complete(REQUEST, on_text=on_text)
    if made is None:
        # What is raised holds it in a cycle: the collector would find it open.
        await asked.aclose()
    return raised.value


async def test_the_text_is_heard_as_it_is_written(server: FakeOpenRouter) -> None:
    """Piece by piece, and whole at the end."""
    heard: list[str] = []
    answer = await provider().complete(REQUEST, on_text=heard.append)

    assert (GOOD, True) == (answer, server.requests[0].wants_stream)
    assert (SUMMARY, True) == ("".join(heard), len(heard) > 1)


async def test_a_piece_is_heard_before_the_next_is_there(
    server: FakeOpenRouter,
) -> None:
    """Nothing waits for the end of the answer."""
    server.replies.append(Reply.going_silent())
    heard = asyncio.Event()
    asked = asyncio.ensure_future(
        provider().complete(REQUEST, on_text=lambda _: heard.set())
    )
    await asyncio.wait_for(heard.wait(), 5)
    is_over = asked.done()
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked

    assert not is_over


async def test_a_call_that_is_given_up_closes_its_connection(
    server: FakeOpenRouter,
) -> None:
    """The model stops writing, and what it would have written is not billed."""
    made, heard = provider(), asyncio.Event()
    server.replies.append(Reply.going_silent())
    asked = asyncio.ensure_future(made.complete(REQUEST, on_text=lambda _: heard.set()))
    await asyncio.wait_for(heard.wait(), 5)
    asked.cancel()
    await asyncio.wait([asked])
    await made.complete(REQUEST)

    assert asked.cancelled()
    assert 2 == server.connections


@pytest.mark.parametrize(
    "reply",
    [
        Reply(completion()),
        Reply(completion(), headers={"Content-Type": "text/event-stream"}),
        Reply(b"\r\n  \n" + json.dumps(completion()).encode()),
    ],
    ids=["plain", "mislabelled", "after blanks"],
)
async def test_a_server_that_knows_no_streams_is_understood(
    server: FakeOpenRouter, reply: Reply
) -> None:
    """It answers whole; so is the text heard."""
    server.replies.append(reply)
    heard: list[str] = []

    assert GOOD == await provider().complete(REQUEST, on_text=heard.append)
    assert [SUMMARY] == heard


async def test_events_under_a_wrong_label_are_understood(
    server: FakeOpenRouter,
) -> None:
    """A gateway may put its own on everything."""
    good = Reply.ok()
    server.replies.append(
        Reply(good.body, pieces=good.pieces, headers={"Content-Type": "text/plain"})
    )

    assert GOOD == await provider().complete(REQUEST)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply.cut(), UnavailableError),
        (Reply.unfinished(), BadAnswerError),
        (Reply.failing_midway(), UnavailableError),
        (Reply.failing_midway("server_error"), UnavailableError),
        (Reply.refused(), ContentRefusedError),
        (Reply.too_long(), TextTooLongError),
        (Reply.garbled(), BadAnswerError),
        (Reply.ok(""), EmptyAnswerError),
        (Reply(events=(b"data: {no json\n\n",)), BadAnswerError),
        (Reply(events=(b"<html>hello</html>",)), BadAnswerError),
        (Reply(events=(b": nothing\n\n" * 20,)), BadAnswerError),
        (Reply(events=(b"data: " + b"x" * 11_000_000,)), BadAnswerError),
        (Reply(status=503, events=(b"data: {}\n\n",)), UnavailableError),
    ],
    ids=str,
)
async def test_a_stream_in_trouble_is_asked_for_once(
    server: FakeOpenRouter, reply: Reply, expected: type[ProviderError]
) -> None:
    """Half a text is none, and may have been billed."""
    server.replies.append(reply)
    met = await failure()

    assert expected is type(met)
    assert 1 == len(server.requests)


async def test_a_refusal_counts_though_its_body_breaks_off(
    server: FakeOpenRouter,
) -> None:
    """The status says enough."""
    server.replies.append(
        Reply(Reply.rate_limited(7).body, 429, {"Retry-After": "7"}, ends="cut")
    )
    met = await failure()

    assert (429, 7.0) == (met.status_code, met.retry_after)


async def test_an_answer_that_is_whole_may_break_off_behind_its_text(
    server: FakeOpenRouter,
) -> None:
    """What is missing is what it cost; asking again would cost more."""
    choice = {"index": 0, "delta": {"content": "Yes."}, "finish_reason": "stop"}
    events = ({"choices": [choice]}, b": x\n\n", b"data: [DONE]\n\n")
    server.replies.append(Reply(events=events, ends="cut"))

    assert Completion("Yes.") == await provider().complete(REQUEST)


async def test_silence_in_the_middle_is_a_timeout(
    server: FakeOpenRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long before the whole call is given up."""
    monkeypatch.setenv("OPENROUTER_IDLE_TIMEOUT", "200ms")
    server.replies.append(Reply.going_silent())
    async with asyncio.timeout(5):
        met = await failure()

    assert ProviderTimeoutError is type(met)
    assert "no word within 0.2 s" in str(met)


async def test_a_model_that_takes_its_time_is_not_silent(
    server: FakeOpenRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the answer begins, the whole time is its own."""
    monkeypatch.setenv("OPENROUTER_IDLE_TIMEOUT", "100ms")
    server.replies.append(Reply.slow(0.3))

    assert GOOD == await provider().complete(REQUEST)


async def test_streams_share_their_connections(server: FakeOpenRouter) -> None:
    """One that was read to its end serves the next call."""
    made = provider()
    for _ in range(5):
        await made.complete(REQUEST)

    assert (5, 1) == (len(server.requests), server.connections)


async def test_a_crowd_of_calls_leaves_connections_for_the_next(
    server: FakeOpenRouter,
) -> None:
    """However many there were, up to a hundred."""
    made = provider()
    for _ in range(3):
        server.replies.extend([Reply.slow(0.2)] * 50)
        await asyncio.gather(*(made.complete(REQUEST) for _ in range(50)))
    await made.aclose()

    assert (150, 50) == (len(server.requests), server.connections)


async def test_a_connection_that_hangs_behind_the_answer_delays_nobody(
    server: FakeOpenRouter,
) -> None:
    """It is closed, and the text is there."""
    end = {"choices": [{"delta": {"content": "Yes."}, "finish_reason": "stop"}]}
    events = (end, b"data: [DONE]\n\n", b": x\n\n", b": y\n\n", b": z\n\n")
    server.replies.append(Reply(events=events, ends="silent"))
    async with asyncio.timeout(5):
        assert Completion("Yes.") == await provider().complete(REQUEST)


async def test_a_refused_request_is_the_callers(server: FakeOpenRouter) -> None:
    """Nothing of it can be left out: it is refused for good."""
    server.replies.append(Reply({"error": {"code": 400}}, 400))
    met = await failure()

    assert (RequestRefusedError, 1) == (type(met), len(server.requests))


async def test_the_key_that_a_server_repeats_is_in_no_error(
    server: FakeOpenRouter,
) -> None:
    """Whatever part of its answer holds it."""
    said = {"code": KEY, "message": KEY, "type": KEY, "metadata": {"error_type": KEY}}
    for status in (200, 400, 401, 429, 500):
        server.replies.append(Reply({"error": said}, status))
        met = await failure()

        assert KEY not in f"{met} {met!r} {vars(met)}"
