"""Errors of the plugin say what to do, and what an upstream may make of them."""

import inspect
import pickle
import re
from pathlib import Path

import pytest

from taskflow import Upstream
from taskflow._declare.classification import classify
from taskflow_summarize import errors
from taskflow_summarize.errors import (
    AccountError,
    BadAnswerError,
    ContentRefusedError,
    EmptyAnswerError,
    ProviderError,
    ProviderTimeoutError,
    RateLimitedError,
    RequestRefusedError,
    TextTooLongError,
    UnavailableError,
)

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "errors.md"
API = Upstream(
    "model",
    failures=(UnavailableError, BadAnswerError),
    ignored=(EmptyAnswerError,),
    refusals=(AccountError,),
)


def test_the_page_of_errors_shows_the_tree_of_the_plugin() -> None:
    """Line by line, and each of them in the table."""
    drawing = (errors.__doc__ or "").partition(".. code-block:: text")[2]
    tree = [line.strip(" ") for line in drawing.splitlines() if "Error" in line]
    section = PAGE.read_text("utf-8").partition("## Errors of the summariser")[2]
    tabled = re.findall(r"^\| .*? \| `(\w+)` \|", section, re.MULTILINE)
    real = {
        name
        for name, cls in vars(errors).items()
        if inspect.isclass(cls) and cls.__module__ == errors.__name__
    }

    assert [] == [line for line in tree if line not in section]
    assert real - {"SummarizeError", "ProviderError"} == set(tabled)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RequestRefusedError("model", "x", status_code=400), "neutral"),
        (ContentRefusedError("model", "x", status_code=403), "neutral"),
        (TextTooLongError("model", "x", status_code=413), "neutral"),
        (AccountError("model", "x", status_code=401), "refused"),
        (AccountError("model", "x", status_code=402, retry_after=60.0), "refused"),
        (RateLimitedError("model", "x", status_code=429, retry_after=3.0), "tap"),
        (UnavailableError("model", "x", status_code=502), "failure"),
        (UnavailableError("model", "x"), "failure"),
        (ProviderTimeoutError("model", "x"), "failure"),
        (BadAnswerError("model", "x", status_code=200), "failure"),
        (EmptyAnswerError("model", "x", status_code=200), "neutral"),
    ],
)
def test_a_breaker_makes_of_an_error_what_its_class_says(
    error: ProviderError, kind: str
) -> None:
    """Only what speaks against the service counts as a failure of it."""
    verdict = classify(API, error)

    assert kind == verdict.kind
    assert error.counts_against_upstream == (kind == "failure")


def test_an_empty_answer_keeps_its_cost_through_a_pickle() -> None:
    """Executors of other processes send it back."""
    met = EmptyAnswerError("model", "x", is_truncated=True)
    met.prompt_tokens, met.cost = 9, 0.5
    restored = pickle.loads(pickle.dumps(met))  # noqa: S301 - our own

    assert (str(met), vars(met)) == (str(restored), vars(restored))
