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
        model="maker/model",
        timeout=90.0,
        max_input_tokens=1000,
        data_collection="allow",
    )

    assert expected == load(
        SummarizeSettings,
        {
            "SUMMARIZE_PROVIDER": "OpenRouter",
            "SUMMARIZE_MAX_CONTENT_BYTES": "5000",
            "OPENROUTER_API_KEY": KEY,
            "OPENROUTER_BASE_URL": "http://127.0.0.1:9/v1/",
            "OPENROUTER_MODEL": "bare/model",
            "TASKFLOW_OPENROUTER_MODEL": "maker/model",
            "OPENROUTER_TIMEOUT": "1.5m",
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
            },
        )

    assert 8 == len(raised.value.problems)
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


def test_the_key_is_in_no_repr() -> None:
    """Whoever logs the settings does not log the key."""
    assert KEY not in repr(load(SummarizeSettings, {"OPENROUTER_API_KEY": KEY}))
