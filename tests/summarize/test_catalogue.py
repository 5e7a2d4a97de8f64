"""What a model costs and holds is learnt from the service's list, if it has one."""

import asyncio
from typing import Any

import pytest

from taskflow.testing import ManualClock
from taskflow_summarize._provider import CompletionRequest
from taskflow_summarize._providers.catalogue import ModelFacts, read_models
from taskflow_summarize._settings import SummarizeSettings
from taskflow_summarize.testing import SUMMARY, FakeOpenRouter, listing

openrouter = pytest.importorskip("taskflow_summarize._providers.openrouter")

DEAR = {
    "prompt": "0.000003",
    "completion": "0.000015",
    "overrides": [{"min_tokens": 200000, "prompt": "0.000006"}, "odd"],
}
LIST = {
    "data": [
        listing("a/small"),
        listing("a/small:free", pricing={"prompt": "0", "completion": "0"}),
        listing("b/large", context_length=1_000_000, pricing=DEAR, top_provider=None),
        listing("c/auto", pricing={"prompt": "-1", "completion": "-1"}),
        {"id": "d/local", "max_model_len": 4096},
        listing("e/odd", pricing={"prompt": "free", "completion": True}),
        "no object",
    ]
}


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (("a/small",), ModelFacts(32768, (2e-7, 2e-6))),
        (("a/small:free",), ModelFacts(32768, (0.0, 0.0))),
        (("a/small:nitro",), ModelFacts(32768, None)),
        (("b/large",), ModelFacts(1_000_000, (6e-6, 1.5e-5))),
        (("b/large", "a/small"), ModelFacts(32768, (6e-6, 1.5e-5))),
        (("c/auto",), ModelFacts(32768, None)),
        (("d/local",), ModelFacts(4096, None)),
        (("e/odd",), ModelFacts(32768, None)),
        (("a/small", "unknown"), ModelFacts()),
        (("unknown",), ModelFacts()),
    ],
)
def test_a_model_is_found_in_the_list(
    ids: tuple[str, ...], expected: ModelFacts
) -> None:
    """Of several the dearest and the smallest, as any of them may answer."""
    assert expected == read_models(LIST, ids)


@pytest.mark.parametrize("data", [{}, {"data": None}, {"data": [1]}, {"data": {}}])
def test_an_odd_list_says_nothing(data: dict[str, Any]) -> None:
    """It fails nothing."""
    assert ModelFacts() == read_models(data, ("a/small",))


def provider(url: str, clock: ManualClock, **changes: Any) -> Any:
    """Make a provider whose list grows old by *clock*."""
    settings = SummarizeSettings(
        api_key="k", base_url=url, model="maker/model-7b", **changes
    )
    return openrouter.OpenRouterProvider(settings, clock=lambda: clock() / 1000)


async def test_the_list_is_read_once_an_hour() -> None:
    """By however many callers at once."""
    clock, fake = ManualClock(), FakeOpenRouter()
    async with fake.serve() as url:
        made = provider(url, clock)
        before = made.context_tokens
        prices = await asyncio.gather(*(made.prices() for _ in range(5)))
        asked_first = fake.listings
        clock.advance(3599)
        await made.prices()
        fake.models = [listing(pricing={"prompt": "1", "completion": "2"})]
        asked_early = fake.listings
        clock.advance(1)

        assert (1.0, 2.0) == await made.prices()

    assert {(2e-7, 2e-6)} == set(prices)
    assert (1, 1, 2) == (asked_first, asked_early, fake.listings)
    assert (65_536, 32_768) == (before, made.context_tokens)


async def test_a_list_that_is_away_is_asked_for_again_after_a_minute() -> None:
    """Meanwhile nothing is known, and nothing fails."""
    clock, fake = ManualClock(), FakeOpenRouter()
    fake.models = None
    async with fake.serve() as url:
        made = provider(url, clock)
        first = [await made.prices(), await made.prices()]
        asked = fake.listings
        answer = await made.complete(
            CompletionRequest(({"role": "user", "content": "Tides?"},), 100)
        )
        fake.models = [listing()]
        clock.advance(60)

        assert (2e-7, 2e-6) == await made.prices()

    assert ([None, None], 1, SUMMARY) == (first, asked, answer.text)


async def test_what_was_known_stays_known_while_the_list_is_away() -> None:
    """Prices of an hour ago are better than none."""
    clock, fake = ManualClock(), FakeOpenRouter()
    async with fake.serve() as url:
        made = provider(url, clock)
        known = await made.prices()
    clock.advance(3600)

    assert known == await made.prices()


async def test_the_window_of_the_settings_comes_first() -> None:
    """Somebody has measured it."""
    fake = FakeOpenRouter()
    async with fake.serve() as url:
        made = provider(url, ManualClock(), context_tokens=4096)
        await made.prices()

    assert 4096 == made.context_tokens
