"""The service that lends the models, as the fleet guards it."""

from typing import Final

from attrs import evolve

from taskflow import RateLimit, Upstream
from taskflow_summarize._settings import SummarizeSettings
from taskflow_summarize.errors import (
    AccountError,
    BadAnswerError,
    EmptyAnswerError,
    UnavailableError,
)

OPENROUTER: Final = Upstream(
    "openrouter",
    rate_limit=RateLimit(230, per=10.0),
    concurrency=32,
    failures=(UnavailableError, BadAnswerError),
    ignored=(EmptyAnswerError,),
    refusals=(AccountError,),
    # A text that is summarised offline, or is short enough already, asks nobody.
    guards_only=True,
)
"""One account, one upstream: its limits are those of the key, whatever the model."""


def upstream_of(settings: SummarizeSettings) -> Upstream:
    """Return the upstream with the limits that the settings name."""
    return evolve(
        OPENROUTER,
        rate_limit=RateLimit(settings.max_calls, per=settings.max_calls_per),
        concurrency=settings.most_calls_underway,
    )
