"""Settings of the plugin."""

import pytest

from taskflow.errors import ConfigurationError
from taskflow.settings import load
from taskflow_summarize._settings import SummarizeSettings

KEY = "sk-or-v1-canary-5150"


def test_nothing_set_gives_the_defaults() -> None:
    """An empty variable counts as not set."""
    assert SummarizeSettings() == load(SummarizeSettings, {"OPENROUTER_API_KEY": " "})


def test_every_setting_is_read() -> None:
    """Ours comes before the bare name."""
    expected = SummarizeSettings(
        provider="openrouter",
        max_content_bytes=5000,
        api_key=KEY,
        base_url="http://127.0.0.1:9/v1",
        model="maker/model, maker/other:free",
        timeout=90.0,
        idle_timeout=10.0,
        context_tokens=8192,
        max_input_tokens=1000,
        data_collection="allow",
        dialect="openai",
        app_title="A diary",
        app_url="https://diary.example",
    )

    assert expected == load(
        SummarizeSettings,
        {
            "SUMMARIZE_PROVIDER": "OpenRouter",
            "SUMMARIZE_MAX_CONTENT_BYTES": "5000",
            "OPENROUTER_API_KEY": KEY,
            "OPENROUTER_BASE_URL": "http://127.0.0.1:9/v1/",
            "OPENROUTER_MODEL": "bare/model",
            "TASKFLOW_OPENROUTER_MODEL": "maker/model, maker/other:free",
            "OPENROUTER_TIMEOUT": "1.5m",
            "OPENROUTER_IDLE_TIMEOUT": "10",
            "OPENROUTER_CONTEXT_TOKENS": "8192",
            "OPENROUTER_DIALECT": "OpenAI",
            "OPENROUTER_APP_TITLE": "A diary",
            "OPENROUTER_APP_URL": "https://diary.example",
            "OPENROUTER_MAX_INPUT_TOKENS": "1000",
            "OPENROUTER_DATA_COLLECTION": "allow",
        },
    )


def test_every_mistake_is_listed_at_once_and_no_secret_is_shown() -> None:
    """Name, value and bound of each; a key or an address with a user is not shown."""
    with pytest.raises(ConfigurationError) as raised:
        load(
            SummarizeSettings,
            {
                "SUMMARIZE_PROVIDER": "oracle",
                "SUMMARIZE_MAX_CONTENT_BYTES": "5 MB",
                "OPENROUTER_API_KEY": f"{KEY}é",
                "OPENROUTER_BASE_URL": f"https://user:{KEY}@host/v1",
                "OPENROUTER_TIMEOUT": "2 weeks",
                "OPENROUTER_MAX_INPUT_TOKENS": "1",
                "OPENROUTER_MODEL": "two words",
                "OPENROUTER_DATA_COLLECTION": "maybe",
                "OPENROUTER_APP_TITLE": "Café",
                "OPENROUTER_APP_URL": "diary",
            },
        )

    assert 10 == len(raised.value.problems)
    assert KEY not in str(raised.value)
    assert "OPENROUTER_TIMEOUT='2 weeks': must be a duration" in str(raised.value)


def test_the_network_without_a_key_is_a_mistake() -> None:
    """It is said at the start, not by the first task."""
    with pytest.raises(ConfigurationError, match="needs OPENROUTER_API_KEY"):
        load(SummarizeSettings, {"SUMMARIZE_PROVIDER": "openrouter"})


@pytest.mark.parametrize(
    ("environ", "provider"),
    [
        ({}, "extractive"),
        ({"OPENROUTER_API_KEY": KEY}, "openrouter"),
        ({"OPENROUTER_API_KEY": KEY, "SUMMARIZE_PROVIDER": "extractive"}, "extractive"),
    ],
)
def test_a_key_switches_the_network_on(environ: dict[str, str], provider: str) -> None:
    """And the setting that names the provider comes first."""
    assert provider == load(SummarizeSettings, environ).provider_in_force


@pytest.mark.parametrize(
    ("model", "models"),
    [
        ("openrouter/auto", ("openrouter/auto",)),
        ("a/b,c/d:free, e/f", ("a/b", "c/d:free", "e/f")),
    ],
)
def test_a_model_may_have_others_behind_it(model: str, models: tuple[str, ...]) -> None:
    """Separated by commas, in their order."""
    assert models == SummarizeSettings(model=model).models


@pytest.mark.parametrize("model", ["a,b,c,d,e", "a,,b", ",a", "a,"])
def test_a_list_of_models_has_four_at_most_and_none_is_empty(model: str) -> None:
    """OpenRouter takes three beside the first."""
    with pytest.raises(ConfigurationError, match="OPENROUTER_MODEL"):
        load(SummarizeSettings, {"OPENROUTER_MODEL": model})


@pytest.mark.parametrize(
    ("environ", "dialect"),
    [
        ({}, "openrouter"),
        ({"OPENROUTER_BASE_URL": "https://eu.openrouter.ai/api/v1"}, "openrouter"),
        ({"OPENROUTER_BASE_URL": "https://notopenrouter.ai/api/v1"}, "openai"),
        ({"OPENROUTER_BASE_URL": "http://127.0.0.1:11434/v1"}, "openai"),
        ({"OPENROUTER_DIALECT": "openai"}, "openai"),
        (
            {
                "OPENROUTER_BASE_URL": "https://gateway.example/v1",
                "OPENROUTER_DIALECT": "openrouter",
            },
            "openrouter",
        ),
    ],
)
def test_the_address_tells_the_dialect(environ: dict[str, str], dialect: str) -> None:
    """Unless the setting says it: a gateway may pass OpenRouter's on."""
    assert dialect == load(SummarizeSettings, environ).dialect_in_force


def test_the_key_is_in_no_repr() -> None:
    """Whoever logs the settings does not log the key."""
    assert KEY not in repr(load(SummarizeSettings, {"OPENROUTER_API_KEY": KEY}))
