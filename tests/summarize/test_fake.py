"""The provider that misbehaves on demand does what its script says."""

import asyncio
import json
import time
from datetime import UTC, datetime

import pytest

from taskflow_summarize.testing import SUMMARY, FakeOpenRouter, Reply

httpx = pytest.importorskip("httpx")

PATH = "/api/v1/chat/completions"
BODY = {"model": "m", "messages": []}


async def asked(*replies: Reply, **changes):
    """Give the answer to one request."""
    fake = FakeOpenRouter(*replies)
    async with fake.serve() as url, httpx.AsyncClient() as client:
        answer = await client.post(f"{url}/chat/completions", json=BODY | changes)
    assert [("POST", PATH, BODY | changes)] == [
        (request.method, request.path, request.body) for request in fake.requests
    ]
    return answer


@pytest.mark.parametrize(
    ("reply", "status", "headers"),
    [
        (Reply.ok(), 200, {}),
        (Reply.rate_limited(), 429, {}),
        (Reply.rate_limited(3), 429, {"retry-after": "3"}),
        (
            Reply.rate_limited(datetime(2026, 11, 23, 20, 0, tzinfo=UTC)),
            429,
            {"retry-after": "Mon, 23 Nov 2026 20:00:00 GMT"},
        ),
        (Reply.no_credit(), 402, {}),
        (Reply.bad_key(), 401, {}),
        (Reply.failing(), 503, {}),
        (Reply.failing(500), 500, {}),
        (Reply.failing_inside(), 200, {}),
    ],
)
async def test_an_answer_has_its_status_and_headers(reply, status, headers):
    """And JSON that a client can read."""
    answer = await asked(reply)

    assert status == answer.status_code
    assert headers.items() <= dict(answer.headers).items()
    assert (reply == Reply.ok()) == ("choices" in answer.json())


async def test_when_the_script_is_over_the_answers_are_good():
    """A test scripts what matters to it."""
    assert SUMMARY == (await asked()).json()["choices"][0]["message"]["content"]


async def test_an_answer_can_be_no_json():
    """With the status of a good one."""
    answer = await asked(Reply.garbled())

    assert 200 == answer.status_code
    with pytest.raises(json.JSONDecodeError):
        answer.json()


@pytest.mark.parametrize("reply", [Reply.cut(), Reply.hang_up()])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_connection_can_end_too_early(reply, stream):
    """In the middle of the answer, or before it."""
    with pytest.raises(httpx.RemoteProtocolError):
        await asked(reply, stream=stream)


async def test_a_slow_answer_takes_its_time():
    """At least as long as it says."""
    before = time.monotonic()
    await asked(Reply.slow(0.2))

    assert time.monotonic() - before >= 0.2


async def test_a_stalled_answer_never_comes():
    """Until the client gives up; and the server can still be left."""
    fake = FakeOpenRouter(Reply.stall())
    async with (
        asyncio.timeout(5),
        fake.serve() as url,
        httpx.AsyncClient(timeout=0.2) as client,
    ):
        with pytest.raises(httpx.ReadTimeout):
            await client.post(f"{url}/chat/completions", json=BODY)


def chunks_of(answer):
    """Read the events of a stream, less the last one."""
    lines = [line for line in answer.text.split("\n\n") if line]
    assert "data: [DONE]" == lines[-1]
    return [
        json.loads(line.removeprefix("data: "))
        for line in lines[:-1]
        if not line.startswith(":")
    ]


async def test_a_stream_comes_in_pieces():
    """Comments between them, and an end that can be recognised."""
    answer = await asked(Reply.ok("One two three four five."), stream=True)
    *pieces, end, usage = chunks_of(answer)
    texts = [piece["choices"][0]["delta"]["content"] for piece in pieces]

    assert "text/event-stream" == answer.headers["content-type"]
    assert answer.text.startswith(": OPENROUTER PROCESSING\n\n")
    assert ("One two three four five.", True) == ("".join(texts), len(texts) > 1)
    assert "stop" == end["choices"][0]["finish_reason"]
    assert ([], 14) == (usage["choices"], usage["usage"]["completion_tokens"])


async def test_a_stream_can_say_that_it_ran_out_of_tokens():
    """In its last piece."""
    *_, end, _ = chunks_of(await asked(Reply.out_of_tokens("One two"), stream=True))

    assert "length" == end["choices"][0]["finish_reason"]


@pytest.mark.parametrize("code", [502, "server_error"])
async def test_a_stream_can_fail_in_the_middle(code):
    """With an error in it, under the status of a good answer."""
    answer = await asked(Reply.failing_midway(code), stream=True)
    *_, last = [line for line in answer.text.split("\n\n") if line]
    data = json.loads(last.removeprefix("data: "))

    assert 200 == answer.status_code
    assert (code, "error") == (
        data["error"]["code"],
        data["choices"][0]["finish_reason"],
    )


async def test_a_stream_can_end_as_if_all_were_well():
    """Without a reason, in the middle of the text."""
    answer = await asked(Reply.unfinished(), stream=True)

    assert 'finish_reason": "stop' not in answer.text
    assert SUMMARY not in answer.text


async def test_a_stream_can_be_written_by_hand():
    """Objects are sent as JSON, bytes as they are."""
    reply = Reply(events=({"choices": []}, b": one\n\n", b"data: [DONE]\n\n"))
    answer = await asked(reply, stream=True)

    assert 'data: {"choices": []}\n\n: one\n\ndata: [DONE]\n\n' == answer.text


async def test_an_answer_can_fall_silent():
    """After half of it, until the client gives up."""
    fake = FakeOpenRouter(Reply.going_silent())
    async with (
        asyncio.timeout(5),
        fake.serve() as url,
        httpx.AsyncClient(timeout=0.2) as client,
    ):
        with pytest.raises(httpx.ReadTimeout):
            await client.post(f"{url}/chat/completions", json=BODY | {"stream": True})


@pytest.mark.parametrize("reply", [Reply.stall(), Reply.going_silent()])
async def test_silence_ends_when_the_client_leaves(reply):
    """A long test does not gather connections that nobody reads."""
    fake = FakeOpenRouter(reply)
    body = BODY | {"stream": True}
    async with fake.serve() as url:
        before = asyncio.all_tasks()
        async with httpx.AsyncClient(timeout=0.1) as client:
            with pytest.raises(httpx.ReadTimeout):
                await client.post(f"{url}/chat/completions", json=body)
        answering = asyncio.all_tasks() - before
        _, still = await asyncio.wait(answering, timeout=5)

    assert (1, set()) == (fake.connections, still)


async def test_models_are_listed_beside_the_script():
    """With their prices, as texts; a list that is not there is a 404."""
    fake = FakeOpenRouter(Reply.no_credit())
    async with fake.serve() as url, httpx.AsyncClient() as client:
        listed = (await client.get(f"{url}/models")).json()["data"]
        fake.models = None
        gone = await client.get(f"{url}/models")

    assert ["maker/model-7b"] == [model["id"] for model in listed]
    assert "0.0000002" == listed[0]["pricing"]["prompt"]
    assert (404, 2, [], 1) == (
        gone.status_code,
        fake.listings,
        fake.requests,
        len(fake.replies),
    )


async def test_it_can_be_asked_without_a_socket():
    """As any ASGI application."""
    fake = FakeOpenRouter(Reply.no_credit())
    transport = httpx.ASGITransport(fake)
    async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
        answer = await client.post(PATH, json=BODY, headers={"X-Title": "mine"})

    assert 402 == answer.status_code
    assert "mine" == fake.requests[0].headers["x-title"]
