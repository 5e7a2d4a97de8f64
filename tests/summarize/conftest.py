"""What the tests of the plugin share."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from taskflow_summarize import _tasks
from taskflow_summarize.testing import FakeOpenRouter
from tests.summarize.canary import KEY

VARIABLES = (
    "OPENROUTER_API_KEY",
    "OPENROUTER_APP_TITLE",
    "OPENROUTER_APP_URL",
    "OPENROUTER_BASE_URL",
    "OPENROUTER_CONTEXT_TOKENS",
    "OPENROUTER_DATA_COLLECTION",
    "OPENROUTER_DIALECT",
    "OPENROUTER_IDLE_TIMEOUT",
    "OPENROUTER_MAX_INPUT_TOKENS",
    "OPENROUTER_MODEL",
    "OPENROUTER_TIMEOUT",
    "SUMMARIZE_MAX_CONTENT_BYTES",
    "SUMMARIZE_PROVIDER",
)


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let no key, no proxy and no remembered setting of the machine join in."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(f"TASKFLOW_{name}", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    _tasks.forget_settings()
    yield
    _tasks.forget_settings()


@pytest_asyncio.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeOpenRouter]:
    """Run a misbehaving OpenRouter and have the settings name it."""
    monkeypatch.setenv("OPENROUTER_MODEL", "maker/model-7b")
    fake = FakeOpenRouter()
    async with fake.stand_in(key=KEY):
        yield fake
