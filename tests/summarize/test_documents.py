"""Documents of any length by a model: divided, paid for once, bounded, kept in form."""

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
from attrs import evolve

from taskflow import Registry, TaskFlow, TaskState
from taskflow.testing import ManualClock, arun_until_idle
from taskflow_summarize import _documents, _progress, _summaries
from taskflow_summarize._documents import MOST_PARTS
from taskflow_summarize._failed import choose_error
from taskflow_summarize._ledger import Ledger
from taskflow_summarize._progress import Emitter
from taskflow_summarize._prompt import scrub
from taskflow_summarize._provider import Completion, CompletionRequest
from taskflow_summarize._summaries import SummaryResult
from taskflow_summarize._tasks import registry, summarize_document, summarize_text
from taskflow_summarize._upstream import OPENROUTER
from taskflow_summarize.errors import (
    BudgetExceededError,
    ContentRefusedError,
    EmptyAnswerError,
    RateLimitedError,
    TextTooLongError,
    UnavailableError,
)
from taskflow_summarize.samples import load_samples
from taskflow_summarize.testing import SUMMARY, FakeOpenRouter, Reply

pytest.importorskip("httpx")

TIDES = next(sample.text for sample in load_samples() if sample.name == "tides")
LONG = "\n\n".join(f"Chapter {number}. {TIDES}" for number in range(1, 6))


@pytest.fixture
def clock() -> ManualClock:
    """Stand still."""
    return ManualClock()


@pytest_asyncio.fixture
async def flow(clock: ManualClock) -> AsyncIterator[TaskFlow]:
    """Keep tasks in memory; where time stands still, a rate would never let go on."""
    there = Registry()
    there.include(registry)
    there.add_upstream(evolve(OPENROUTER, rate_limit=None))
    async with TaskFlow("memory://", registry=there, clock=clock) as made:
        yield made


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let texts be divided into small parts."""

    def divide(**settings: str) -> None:
        for name, value in {
            "OPENROUTER_MAX_INPUT_TOKENS": "1000",
            "SUMMARIZE_PART_TOKENS": "1000",
            **settings,
        }.items():
            monkeypatch.setenv(name, value)

    return divide


async def run(flow: TaskFlow, content: str, **options: Any) -> Any:
    """Summarise *content* in a worker, and give the record."""
    handle = await flow.aenqueue(summarize_document.call(content, **options))
    await arun_until_idle(flow)
    return await handle.ainfo()


async def result(flow: TaskFlow, content: str, **options: Any) -> SummaryResult:
    """Summarise *content* in a worker, and give the result."""
    handle = await flow.aenqueue(summarize_document.call(content, **options))
    await arun_until_idle(flow)
    made: SummaryResult = await handle.aresult(timeout=0)
    return made


def prompts(server: FakeOpenRouter) -> list[str]:
    """Give what was asked."""
    return [each.body["messages"][1]["content"] for each in server.requests]


async def test_a_short_document_is_one_call(
    flow: TaskFlow, server: FakeOpenRouter
) -> None:
    """The result says how it was made."""
    made = await result(flow, TIDES)

    assert (SUMMARY, "single", 1, "en", "abstractive", "maker/model-7b") == (
        made.summary,
        made.strategy,
        made.parts,
        made.language,
        made.method,
        made.model,
    )
    assert 1 == len(server.requests)


async def test_a_long_document_is_summarised_part_by_part(
    flow: TaskFlow, server: FakeOpenRouter, small: Callable[..., None]
) -> None:
    """Every part is sent once, then the summaries in their order."""
    small()
    record = await run(flow, LONG)
    parts = [each for each in prompts(server) if "It is part" in each]
    (last,) = [each for each in prompts(server) if "summaries of the parts" in each]
    sent = "".join(
        each.split(">\n", 1)[1].rsplit("\n</document", 1)[0]
        for each in sorted(
            parts, key=lambda each: int(each.split("part ")[1].split()[0])
        )
    )

    assert LONG == sent
    assert len(parts) == last.count(SUMMARY) == record.annotations["parts"]
    assert ("map_reduce", "COMPLETED") == (record.annotations["strategy"], record.state)
    assert {"done": len(parts) + 1, "total": len(parts) + 1, "message": "written"} == (
        record.progress
    )
    assert {
        "calls": len(parts) + 1,
        "prompt_tokens": 900 * (len(parts) + 1),
        "completion_tokens": 14 * (len(parts) + 1),
        "cost": pytest.approx(0.00021 * (len(parts) + 1)),
    } == record.usage


async def test_only_so_many_parts_are_asked_for_at_a_time(
    flow: TaskFlow, server: FakeOpenRouter, small: Callable[..., None]
) -> None:
    """As the setting says."""
    small(SUMMARIZE_CONCURRENCY="2")
    server.replies.extend([Reply.slow(0.05)] * 12)
    await run(flow, LONG)

    assert server.connections <= 2


async def test_parts_that_are_finished_are_not_paid_for_again(
    flow: TaskFlow,
    clock: ManualClock,
    server: FakeOpenRouter,
    small: Callable[..., None],
) -> None:
    """The service fails half-way; the next attempt asks for the rest alone."""
    small(SUMMARIZE_CONCURRENCY="1")
    server.replies.extend([Reply.ok(), Reply.ok(), Reply.ok(), Reply.failing()])
    record = await run(flow, LONG)
    waiting, asked = record.state, len(server.requests)
    clock.advance(10)
    await arun_until_idle(flow)
    record = await flow.tasks.aget(record.id)
    parts = record.annotations["parts"]

    assert (TaskState.SCHEDULED, 4) == (waiting, asked)
    assert (TaskState.COMPLETED, parts + 2) == (record.state, len(server.requests))
    assert parts + 1 == record.usage["calls"]
    assert 1 == len(prompts(server)) - len(set(prompts(server)))


async def test_one_failing_part_lets_those_underway_finish(
    flow: TaskFlow,
    clock: ManualClock,
    server: FakeOpenRouter,
    small: Callable[..., None],
) -> None:
    """What is being written is paid for; it is kept."""
    small(SUMMARIZE_CONCURRENCY="4")
    server.replies.extend([Reply.failing(), *[Reply.slow(0.1)] * 3])
    record = await run(flow, LONG)
    first = record.usage["calls"]
    clock.advance(10)
    await arun_until_idle(flow)
    record = await flow.tasks.aget(record.id)

    assert (3, 1) == (first, record.attempts)
    assert record.annotations["parts"] + 1 == record.usage["calls"]


async def test_being_told_to_wait_parks_the_document_with_what_is_finished(
    flow: TaskFlow,
    clock: ManualClock,
    server: FakeOpenRouter,
    small: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """For an hour, which no worker waits for; no attempt is used."""
    monkeypatch.setattr(_documents, "_PATIENCE", 0.1)
    small(SUMMARIZE_CONCURRENCY="2")
    server.replies.extend([*[Reply.ok()] * 3, Reply.rate_limited(3600)])
    record = await run(flow, LONG)
    waiting, tapped = record.state, await flow.upstreams.aget("openrouter")
    clock.advance(3630)  # they are let go at a pace
    await arun_until_idle(flow)
    record = await flow.tasks.aget(record.id)
    asked = prompts(server)

    assert (TaskState.PENDING, 1) == (waiting, tapped.parked["primary"])
    assert (TaskState.COMPLETED, 0) == (record.state, record.attempts)
    assert record.annotations["parts"] + 1 == record.usage["calls"]
    assert 1 == len(asked) - len(set(asked))


async def test_a_service_that_is_shut_half_way_parks_the_document(
    flow: TaskFlow,
    clock: ManualClock,
    server: FakeOpenRouter,
    small: Callable[..., None],
) -> None:
    """What is finished is kept, and no attempt is used."""
    small(SUMMARIZE_CONCURRENCY="2")
    # Slow enough for a busy machine to shut it before all parts are written.
    server.replies.extend([*[Reply.ok()] * 3, *[Reply.slow(2.0)] * 20])
    handle = await flow.aenqueue(summarize_document.call(LONG))
    working = asyncio.ensure_future(arun_until_idle(flow))
    while len(server.requests) < 4:  # noqa: ASYNC110 - the fake has no event
        await asyncio.sleep(0.01)
    await flow.upstreams.aforce_open("openrouter", reason="away")
    server.replies.clear()
    await working
    record = await handle.ainfo()
    waiting, paid = record.state, record.usage["calls"]
    await flow.upstreams.aforce_close("openrouter")
    async with asyncio.timeout(20):
        while record.state is TaskState.PENDING:  # until guards have heard of it
            clock.advance(30)  # they are let go at a pace
            await arun_until_idle(flow)
            record = await handle.ainfo()

    assert (TaskState.PENDING, True) == (waiting, 3 <= paid < record.usage["calls"])
    assert (TaskState.COMPLETED, 0) == (record.state, record.attempts)
    assert record.annotations["parts"] + 1 == len(server.requests)


async def test_an_answer_without_text_is_paid_for_all_the_same(
    flow: TaskFlow, clock: ManualClock, server: FakeOpenRouter
) -> None:
    """The next attempt's answer comes on top of it."""
    server.replies.append(Reply.ok(""))
    record = await run(flow, TIDES)
    first = record.usage
    clock.advance(60)
    await arun_until_idle(flow)
    record = await flow.tasks.aget(record.id)

    assert {
        "calls": 1,
        "prompt_tokens": 900,
        "completion_tokens": 14,
        "cost": pytest.approx(0.00021),
    } == first
    assert (TaskState.COMPLETED, 2) == (record.state, record.usage["calls"])


async def test_a_model_that_thinks_for_too_long_may_think_once_more(
    flow: TaskFlow, server: FakeOpenRouter
) -> None:
    """With twice the tokens, and no attempt used."""
    server.replies.append(Reply.out_of_tokens(""))
    record = await run(flow, TIDES)
    budgets = [each.body["max_completion_tokens"] for each in server.requests]

    assert (TaskState.COMPLETED, 0, 2) == (
        record.state,
        record.attempts,
        record.usage["calls"],
    )
    assert [budgets[0], 2 * budgets[0]] == budgets


async def test_what_failed_attempts_paid_counts_towards_the_cap(
    flow: TaskFlow,
    clock: ManualClock,
    server: FakeOpenRouter,
    small: Callable[..., None],
) -> None:
    """Answers without text cannot be asked for until the credit is spent."""
    small(SUMMARIZE_MAX_TOKENS="8000", OPENROUTER_MAX_INPUT_TOKENS="48000")
    usage = {"prompt_tokens": 3000, "completion_tokens": 900, "cost": 0.01}
    server.replies.extend([Reply.ok("", usage=usage)] * 6)
    record = await run(flow, TIDES)
    for _ in range(3):
        clock.advance(600)
        await arun_until_idle(flow)
    record = await flow.tasks.aget(record.id)

    assert ("BudgetExceededError", TaskState.DLQ) == (record.error_type, record.state)
    assert 2 == len(server.requests)


async def test_summaries_that_do_not_fit_are_summarised_in_groups(
    flow: TaskFlow, server: FakeOpenRouter, small: Callable[..., None]
) -> None:
    """And ever again, but not for ever."""
    small(OPENROUTER_MAX_INPUT_TOKENS="500", SUMMARIZE_PART_TOKENS="200")
    server.replies.extend([Reply.ok("A sentence of a summary stands here. " * 10)] * 60)
    made = await result(flow, LONG)

    assert SUMMARY in made.summary or "A sentence" in made.summary
    assert made.parts <= MOST_PARTS
    assert len(server.requests) > made.parts + 2


async def test_a_model_that_does_not_shorten_is_given_up_on(
    flow: TaskFlow, server: FakeOpenRouter, small: Callable[..., None]
) -> None:
    """Its texts are condensed, and the calls are bounded."""
    small(OPENROUTER_MAX_INPUT_TOKENS="500", SUMMARIZE_PART_TOKENS="200")
    server.replies.extend([Reply.ok("It goes on and on, and on it goes. " * 30)] * 500)
    record = await run(flow, LONG)

    assert TaskState.COMPLETED == record.state
    assert len(server.requests) < 3 * MOST_PARTS + 8


async def test_a_text_of_too_many_parts_is_condensed_first(
    flow: TaskFlow, server: FakeOpenRouter, small: Callable[..., None]
) -> None:
    """The most central sentences of each region go to the model."""
    small(OPENROUTER_MAX_INPUT_TOKENS="500", SUMMARIZE_PART_TOKENS="200")
    made = await result(flow, LONG * 4)

    assert ("hybrid", True) == (made.strategy, made.parts <= MOST_PARTS)


async def test_a_window_smaller_than_it_was_said_to_be(
    flow: TaskFlow, server: FakeOpenRouter
) -> None:
    """The text is divided and asked for once more."""
    error = {
        "error": {"code": 400, "metadata": {"error_type": "context_length_exceeded"}}
    }
    server.replies.append(Reply(error, 400))
    made = await result(flow, LONG * 3)

    assert ("map_reduce", True) == (made.strategy, made.parts > 1)


async def test_an_answer_that_was_cut_is_asked_for_with_more_room(
    flow: TaskFlow, server: FakeOpenRouter, small: Callable[..., None]
) -> None:
    """Once; of the summary that is shown, the end is trimmed instead."""
    small(SUMMARIZE_CONCURRENCY="1")
    cut = Reply.ok(
        "Half a sum",
        choices=[
            {"index": 0, "finish_reason": "length", "message": {"content": "Half"}}
        ],
    )
    server.replies.append(cut)
    record = await run(flow, LONG)
    budgets = [each.body["max_completion_tokens"] for each in server.requests]

    assert budgets[1] == 2 * budgets[0]
    assert TaskState.COMPLETED == record.state


async def test_the_summary_can_be_read_as_it_is_written(
    flow: TaskFlow, server: FakeOpenRouter, small: Callable[..., None]
) -> None:
    """The parts' summaries are not in the task's output; the last one is."""
    small()
    record = await run(flow, LONG)
    news = await flow.tasks.anews(record.id)

    assert SUMMARY == "".join(chunk.text for chunk in news.chunks).strip()


async def test_key_points_come_with_the_document(
    flow: TaskFlow, server: FakeOpenRouter
) -> None:
    """A structured answer is asked for, and read."""
    server.replies.append(
        Reply.ok('{"summary": "Tides turn.", "key_points": ["a", "b"]}')
    )
    made = await result(flow, TIDES, key_points=2)

    assert ("Tides turn.", ["a", "b"], "") == (
        made.summary,
        made.key_points,
        made.degraded,
    )
    assert server.requests[0].body["response_format"]["type"] == "json_schema"


async def test_an_answer_without_its_structure_is_still_a_summary(
    flow: TaskFlow, server: FakeOpenRouter
) -> None:
    """And the result says what is missing."""
    made = await result(flow, TIDES, key_points=2)

    assert (SUMMARY, [], "the model did not list its key points") == (
        made.summary,
        made.key_points,
        made.degraded,
    )


@pytest.mark.parametrize(
    ("setting", "value"),
    [("SUMMARIZE_MAX_TOKENS", "2000"), ("SUMMARIZE_MAX_COST", "0.0005")],
)
async def test_no_call_is_made_that_could_exceed_a_cap(
    flow: TaskFlow,
    server: FakeOpenRouter,
    small: Callable[..., None],
    setting: str,
    value: str,
) -> None:
    """The dead letter names the cap; what was spent is on the record."""
    small(SUMMARIZE_CONCURRENCY="1", **{setting: value})
    record = await run(flow, LONG)

    assert TaskState.DLQ == record.state
    assert f"{setting}=" in record.error_message
    assert record.usage.get("cost", 0) <= 0.0007
    assert len(server.requests) <= 3


@pytest.mark.parametrize(
    ("setting", "value"),
    [("SUMMARIZE_MAX_TOKENS", "12000"), ("SUMMARIZE_MAX_COST", "0.0025")],
)
async def test_a_document_too_large_for_its_cap_is_not_begun(
    flow: TaskFlow,
    server: FakeOpenRouter,
    small: Callable[..., None],
    setting: str,
    value: str,
) -> None:
    """Half of its parts would be money for nothing."""
    small(**{setting: value})
    record = await run(flow, LONG)

    assert TaskState.DLQ == record.state
    assert f"{setting}=" in record.error_message
    assert [] == server.requests


async def test_what_would_cost_too_much_can_be_summarised_offline(
    flow: TaskFlow, server: FakeOpenRouter, small: Callable[..., None]
) -> None:
    """Where the settings say so, and the result says it."""
    small(SUMMARIZE_MAX_TOKENS="2000", SUMMARIZE_FALLBACK="extractive")
    made = await result(flow, LONG)

    assert ("extractive", "BudgetExceededError") == (made.method, made.degraded)


def test_a_ledger_holds_what_is_underway() -> None:
    """Calls side by side cannot exceed a cap together."""
    ledger = Ledger(max_tokens=1000, max_cost=1.0, prices=(0.001, 0.001), spent={})
    held = ledger.hold(300, 200)
    with pytest.raises(BudgetExceededError, match="SUMMARIZE_MAX_TOKENS"):
        ledger.hold(300, 300)
    with pytest.raises(BudgetExceededError, match="SUMMARIZE_MAX_COST"):
        Ledger(max_tokens=9999, max_cost=0.5, prices=(0.001, 0.001), spent={}).hold(
            400, 200
        )
    ledger.release(held)
    ledger.pay(Completion("x", prompt_tokens=100, completion_tokens=50))

    assert {"tokens": 150, "cost": pytest.approx(0.15)} == ledger.spent
    assert (800, pytest.approx(0.8)) == ledger.hold(400, 400)


@pytest.mark.parametrize(
    ("style", "check"),
    [
        ("bullets", lambda text: all(l.startswith("- ") for l in text.splitlines())),  # noqa: E741
        ("headline", lambda text: "\n" not in text and len(text.split()) <= 21),
        ("tldr", lambda text: len(text.split()) <= 50),
    ],
)
async def test_offline_summaries_have_their_form_too(
    flow: TaskFlow, style: str, check: Callable[[str], bool]
) -> None:
    """With key points from the text itself."""
    made = await result(flow, TIDES, style=style, key_points=3, provider="extractive")

    assert check(made.summary)
    assert 1 <= len(made.key_points) <= 3
    assert all(point in " ".join(TIDES.split()) for point in made.key_points)


async def test_offline_summaries_stay_in_their_language(flow: TaskFlow) -> None:
    """A wish for another one is not granted, and the result says so."""
    made = await result(flow, TIDES, language="fi", provider="extractive")

    assert ("en", "offline summaries stay in the language of the text") == (
        made.language,
        made.degraded,
    )


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"language": "xx"}, "language must be one of auto"),
        ({"focus": "x" * 301}, "focus must be at most 300"),
        ({"key_points": 21}, "key_points must be from 0 to 20"),
        ({"max_words": 5}, "max_words must be from 10 to 2000"),
    ],
)
async def test_a_wrong_option_is_permanent(
    flow: TaskFlow, options: dict[str, Any], problem: str
) -> None:
    """With its name and its bound."""
    record = await run(flow, TIDES, **options)

    assert TaskState.DLQ == record.state
    assert problem in record.error_message


async def test_a_text_task_gives_text_alone(
    flow: TaskFlow, server: FakeOpenRouter
) -> None:
    """As the seed shows it; how it was made is beside it."""
    handle = await flow.aenqueue(
        summarize_text.call(TIDES, style="bullets", focus="Moon")
    )
    await arun_until_idle(flow)

    assert f"- {SUMMARY}" == await handle.aresult(timeout=0)
    assert '"Moon"' in prompts(server)[0]


async def test_what_is_read_while_it_is_written_holds_no_foreign_address(
    flow: TaskFlow, server: FakeOpenRouter
) -> None:
    """However the pieces are cut: an address is shown if the text has it."""
    said = (
        "Tides rise ![a b](http://evil.example/i.png) and fall; see "
        "[here](https://evil.example/a), https://evil.example/b and "
        "https://good.example/tides. Well done!"
    )
    good = Reply.ok(said)
    server.replies.append(evolve(good, pieces=tuple(said)))
    content = f"{TIDES} See https://good.example/tides."
    handle = await flow.aenqueue(summarize_text.call(content))
    await arun_until_idle(flow)
    news = await flow.tasks.anews(handle.id)

    assert (
        "Tides rise  and fall; see here,  and https://good.example/tides. Well done!"
    ) == "".join(each.text for each in news.chunks)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 40, 1000])
def test_a_piece_is_passed_on_when_its_links_are_whole(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So what is shown is what the whole text would be, cleaned."""
    monkeypatch.setattr(_progress, "_EMIT_EVERY", 0.0)
    said = "Up ![x y](http://a/b c) [so](ftp://a) [1] data:text/x;y, http://c/d! 潮の高さ。"
    shown: list[str] = []

    class Stage:
        emit = staticmethod(shown.append)

    emitter = Emitter(Stage(), lambda piece: scrub(piece, "http://c/d"))  # type: ignore[arg-type]
    for start in range(0, len(said), size):
        emitter.write(said[start : start + size])
    emitter.flush()

    assert scrub(said, "http://c/d") == "".join(shown)


async def test_an_offline_call_does_not_wait_for_the_service(
    flow: TaskFlow, server: FakeOpenRouter
) -> None:
    """Neither does its end say anything of it."""
    await flow.aenqueue(summarize_text.call(TIDES))
    await arun_until_idle(flow)
    await flow.upstreams.aforce_open("openrouter", reason="away")
    offline = summarize_text.options(upstream=False)
    handle = await flow.aenqueue(offline.call(TIDES, provider="extractive"))
    parked = await flow.aenqueue(summarize_text.call(TIDES))
    async with asyncio.timeout(20):
        await arun_until_idle(flow)

    assert (TaskState.COMPLETED, TaskState.PENDING) == (
        (await handle.ainfo()).state,
        (await parked.ainfo()).state,
    )


class LentModel:
    """A model that fails as it is told to, and then answers."""

    name = "lent"
    context_tokens = 8000

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.asked: list[CompletionRequest] = []

    async def complete(
        self,
        request: CompletionRequest,
        *,
        on_text: Callable[[str], None] | None = None,
    ) -> Completion:
        """Fail, or write the summary."""
        del on_text
        self.asked.append(request)
        await asyncio.sleep(0)
        if self.errors:
            raise self.errors.pop(0)
        return Completion(SUMMARY)

    async def prices(self) -> tuple[float, float] | None:
        """Cost nothing."""


@pytest.fixture
def lend(monkeypatch: pytest.MonkeyPatch) -> Callable[..., LentModel]:
    """Let a model that fails in this way be the provider's."""

    def lend_one(*errors: BaseException) -> LentModel:
        model = LentModel(*errors)
        monkeypatch.setenv("OPENROUTER_API_KEY", "sk-lent")
        provider = functools.cache(lambda: model)
        monkeypatch.setattr(_summaries, "model_provider", provider)
        return model

    return lend_one


def grouped(error: Exception) -> ExceptionGroup[Exception]:
    """Put *error* beside another, two levels deep."""
    return ExceptionGroup("all", [ValueError(), ExceptionGroup("inner", [error])])


@pytest.mark.parametrize("wrap", [lambda error: error, grouped], ids=["alone", "group"])
async def test_a_text_beyond_the_window_is_divided_into_smaller_parts(
    flow: TaskFlow, lend: Callable[..., LentModel], wrap: Any
) -> None:
    """Whether the provider says so alone or beside other failures."""
    model = lend(wrap(TextTooLongError("lent", "too long", status_code=400)))
    made = await result(flow, LONG)

    assert "map_reduce" == made.strategy
    assert len(model.asked) > 2


@pytest.mark.parametrize("wrap", [lambda error: error, grouped], ids=["alone", "group"])
async def test_an_answer_cut_short_before_it_began_is_paid_and_asked_for_again(
    flow: TaskFlow, lend: Callable[..., LentModel], wrap: Any
) -> None:
    """With twice the tokens, also where other failures come with it."""
    empty = EmptyAnswerError("lent", "no text", is_truncated=True)
    empty.prompt_tokens = 900
    model = lend(wrap(empty))
    record = await run(flow, TIDES)

    assert ("COMPLETED", 900) == (record.state, record.usage["prompt_tokens"])
    first, second = (each.max_tokens for each in model.asked)
    assert 2 * first == second


@pytest.mark.parametrize("wrap", [lambda error: error, grouped], ids=["alone", "group"])
async def test_a_text_that_is_refused_is_summarised_offline(
    flow: TaskFlow,
    lend: Callable[..., LentModel],
    monkeypatch: pytest.MonkeyPatch,
    wrap: Any,
) -> None:
    """Where the settings say so; the reason is the refusal, not the group."""
    monkeypatch.setenv("SUMMARIZE_FALLBACK", "extractive")
    lend(wrap(ContentRefusedError("lent", "it will not")))
    record = await run(flow, TIDES)

    assert ("COMPLETED", "extractive", "ContentRefusedError") == (
        record.state,
        record.annotations["method"],
        record.annotations["degraded"],
    )


async def test_the_part_that_decides_is_not_the_one_that_failed_first(
    flow: TaskFlow, lend: Callable[..., LentModel], small: Callable[..., None]
) -> None:
    """A permanent failure of one part ends what no attempt can finish."""
    small(SUMMARIZE_CONCURRENCY="2")
    lend(
        UnavailableError("lent", "down", status_code=503),
        ContentRefusedError("lent", "it will not"),
    )
    record = await run(flow, LONG)

    assert ("DLQ", 1) == (record.state, record.attempts)
    assert "ContentRefusedError" == record.error_type


def test_the_longest_wait_that_a_part_asks_for_is_kept() -> None:
    """Where none of the failures is permanent; else the first of those."""
    failed = UnavailableError("lent", "down")
    soon = RateLimitedError("lent", "too many", retry_after=7.0)
    late = RateLimitedError("lent", "too many", retry_after=77.0)
    refused = ContentRefusedError("lent", "it will not")

    assert late is choose_error([failed, soon, late])
    assert refused is choose_error([late, refused])
    assert failed is choose_error([failed, ValueError()])
