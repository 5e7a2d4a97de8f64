"""One message lists the mistakes in all settings, whoever declared them."""

import subprocess
import sys
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import pytest

from taskflow.errors import ConfigurationError
from taskflow.settings import check_settings

OPEN = {"TASKFLOW_API_HOST": "0.0.0.0"}  # noqa: S104 - of which the service complains


def problems_of(
    part: str, environ: dict[str, str], dotenv: Path | None = None
) -> list[str]:
    """Return the lines of the error that stops *part*."""
    with pytest.raises(ConfigurationError) as caught:
        check_settings(part, environ, dotenv=dotenv)
    return list(caught.value.problems)


@pytest.mark.parametrize("part", ["worker", "api"])
def test_one_message_names_mistakes_of_the_library_and_of_both_plugins(part: str):
    """A value each of the core, the summariser and the service, for either start."""
    environ = {
        "MAX_RETRIES": "many",
        "OPENROUTER_TIMEOUT": "soon",
        "TASKFLOW_API_PORT": "http",
    }

    assert [
        "MAX_RETRIES='many': must be a whole number from 0 to 1000",
        "TASKFLOW_API_PORT='http': must be a whole number from 0 to 65535",
        (
            "OPENROUTER_TIMEOUT='soon': must be a duration such as 30, 30s, 5m, 2h or "
            "500ms, from 100ms to 1h"
        ),
    ] == problems_of(part, environ)


def test_a_plugins_key_is_not_shown():
    """Also where it is what is wrong."""
    problems = problems_of("worker", {"OPENROUTER_API_KEY": "sk-canary sk-canary"})

    assert [
        (
            "OPENROUTER_API_KEY=<not shown>: must be printable ASCII characters without "
            "spaces"
        )
    ] == problems


def test_a_contradiction_in_the_services_settings_stops_the_service_only():
    """Containers share a file; a worker need not know who may use the API."""
    check_settings("worker", OPEN)

    assert "lets other machines in" in problems_of("api", OPEN)[0]


def test_a_contradiction_is_told_where_something_else_stops_the_start():
    """Whoever mends one mistake would meet the other next."""
    environ = {**OPEN, "MAX_RETRIES": "many", "SUMMARIZE_PROVIDER": "openrouter"}

    assert 3 == len(problems_of("worker", environ))


def test_a_contradiction_that_a_worker_reads_stops_it():
    """It would not run a single task."""
    environ = {"SUMMARIZE_PROVIDER": "openrouter"}

    assert [
        "SUMMARIZE_PROVIDER='openrouter' needs OPENROUTER_API_KEY to be set"
    ] == problems_of("worker", environ)


def test_the_file_is_read_for_plugins_too(tmp_path: Path):
    """And a line of it that is no assignment stops the start."""
    dotenv = tmp_path / ".env"
    dotenv.write_text("OPENROUTER_TIMEOUT=soon\n")
    assert "OPENROUTER_TIMEOUT='soon'" in problems_of("api", {}, dotenv)[0]

    dotenv.write_text("one two\n")
    assert [f"{dotenv}: line 1 is not NAME=value"] == problems_of("api", {}, dotenv)


def test_variables_that_nobody_knows_never_stop_a_start():
    """The earlier system refused its own example file for them."""
    check_settings("api", {"TASKFLOW_WHATEVER": "1", "API_TITLE": "x"})


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("nowhere_at_all:X", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("pathlib:Path", "it is no class of settings"),
    ],
)
def test_a_broken_entry_point_is_named(
    monkeypatch: pytest.MonkeyPatch, value: str, why: str
):
    """By its name, where it points to, and why it fails."""
    point = EntryPoint("shop", value, "taskflow.settings")
    monkeypatch.setattr(
        "importlib.metadata.entry_points",
        lambda **_: [*entry_points(group="taskflow.settings"), point],
    )

    assert [f"settings 'shop' ({value}): {why}"] == problems_of("worker", {})


def test_a_worker_and_the_service_stop_with_one_message(tmp_path: Path):
    """As typed: two wrong variables, one of the core and one of a plugin."""
    environ = {"MAX_RETRIES": "many", "OPENROUTER_TIMEOUT": "soon", "PATH": ""}
    for command in ("worker", "api"):
        ended = subprocess.run(
            [sys.executable, "-m", "taskflow", command],
            cwd=tmp_path,
            env=environ,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )

        assert 1 == ended.returncode
        assert "MAX_RETRIES='many'" in ended.stderr
        assert "OPENROUTER_TIMEOUT='soon'" in ended.stderr
        assert "Traceback" not in ended.stderr
