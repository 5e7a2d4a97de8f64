"""``taskflow config`` says what is in force and where it comes from."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from taskflow.cli.config import config_command

KEY = "sk-or-v1-canary-7720"


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let no variable of the machine join in."""
    for name in ("MAX_RETRIES", "REDIS_URL", "OPENROUTER_API_KEY", "TASKFLOW_LEASE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(f"TASKFLOW_{name}", raising=False)
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(config_command, list(arguments), standalone_mode=False)


def settings(*arguments: str) -> dict[str, dict[str, object]]:
    """Give what it prints for programs, by variable."""
    printed = json.loads(run("--json", *arguments).stdout)
    return {row["variable"]: row for row in printed["settings"]}


def test_a_value_comes_with_the_place_that_sets_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The environment, a line of a file, or nobody."""
    (tmp_path / "mine.env").write_text("# ours\nTASKFLOW_LEASE=20s\nMAX_RETRIES=9\n")
    monkeypatch.setenv("MAX_RETRIES", "7")
    found = settings("--env-file", "mine.env")

    assert ("7", "MAX_RETRIES (environment)") == (
        found["MAX_RETRIES"]["value"],
        found["MAX_RETRIES"]["source"],
    )
    assert ("20.0", "TASKFLOW_LEASE (mine.env:2)", "15.0") == (
        found["TASKFLOW_LEASE"]["value"],
        found["TASKFLOW_LEASE"]["source"],
        found["TASKFLOW_LEASE"]["default"],
    )
    assert "default" == found["REDIS_URL"]["source"]


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a password in an address nor a key, in either form."""
    monkeypatch.setenv("REDIS_URL", f"redis://worker:{KEY}@db:6379/0")
    monkeypatch.setenv("OPENROUTER_API_KEY", KEY)

    for form in ((), ("--json",)):
        shown = run(*form)
        assert 0 == shown.return_value
        assert KEY not in shown.output
        assert "redis://worker:***@db:6379/0" in shown.output


def test_every_mistake_is_listed_and_ends_with_1(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The library's, the service's and the plugin's; and what is misspelt."""
    monkeypatch.setenv("MAX_RETRIES", "many")
    monkeypatch.setenv("TASKFLOW_API_PORT", "x")
    monkeypatch.setenv("OPENROUTER_TIMEOUT", "soon")
    monkeypatch.setenv("TASKFLOW_LEESE", "3")
    shown = run()

    assert 1 == shown.return_value
    for name in ("MAX_RETRIES='many'", "TASKFLOW_API_PORT='x'", "OPENROUTER_TIMEOUT="):
        assert f"wrong: {name}" in shown.stderr
    assert (
        "TASKFLOW_LEESE (environment) is read by nobody; did you mean" in shown.stderr
    )
    printed = json.loads(run("--json").stdout)
    assert (3, 1) == (len(printed["problems"]), len(printed["unread"]))
