"""How the command finds its subcommands, and how it ends."""

import json
import re
import subprocess
import sys
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType

import click
import pytest
from click.testing import CliRunner

from taskflow import errors
from taskflow.cli import commands, exit_codes
from taskflow.cli.commands import OWN, taskflow

LOADED = """
import json, sys
from taskflow.cli import commands
try:
    commands.taskflow.main(args={arguments!r}, prog_name="taskflow")
except SystemExit:
    print(file=sys.stderr)
print(json.dumps([name for name in sys.modules]), file=sys.stderr)
"""


def loaded_by(*arguments: str) -> set[str]:
    """Run the command in a fresh interpreter; give the modules it imported."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED.format(arguments=list(arguments))],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_the_help_pays_for_no_command(arguments: list[str]) -> None:
    """Neither a server's client nor the modules of our own commands."""
    loaded = loaded_by(*arguments)

    targets = {own.target.partition(":")[0] for own in OWN.values()}
    heavy = {"redis", "rich", "dotenv", "fakeredis", "httpx", "fastapi"}
    assert set() == loaded & (targets | heavy | {"taskflow._worker.supervisor"})


@pytest.mark.parametrize("name", sorted(OWN))
def test_a_command_is_listed_with_the_first_sentence_of_its_help(name: str) -> None:
    """The list is written without loading them, and must not drift from them."""
    own = OWN[name]

    assert f"{own.help}." == (own.load().help or "").partition("\n")[0]


def test_the_list_holds_ours_and_the_plugins() -> None:
    """Sorted, each described."""
    shown = CliRunner().invoke(taskflow, ["--help"]).output

    listed = re.findall(r"(?m)^  (\S+)  ", shown.partition("Commands:\n")[2])
    plugged = {point.name for point in entry_points(group="taskflow.commands")}
    assert {"api", "demo", "summarize"} <= plugged
    assert sorted({*OWN, *plugged}) == listed


def test_a_mistyped_command_is_answered_with_the_right_one() -> None:
    """Ours are suggested although they are not loaded."""
    ended = CliRunner().invoke(taskflow, ["worekr"])

    assert 2 == ended.exit_code
    assert "No such command 'worekr'. Did you mean 'worker'?" in ended.output


ENDINGS = [
    (errors.ConfigurationError("no"), 1),
    (errors.PluginError("p", "no"), 1),
    (errors.TaskFailedError("1", "DLQ", "E", "no", 1), 1),
    (errors.PayloadError("no"), 2),
    (errors.TaskNotFoundError("1"), 3),
    (errors.UnknownTaskError("f", []), 3),
    (errors.IllegalMoveError("1", "ACTIVE", "retry"), 4),
    (errors.KeyConflictError("k", "1"), 4),
    (errors.ServerUnavailableError("away"), 5),
    (errors.ServerFullError("full"), 5),
    (errors.ServerRefusedError("login"), 5),
    (errors.ResultTimeoutError("1", 2.0), 6),
    (exit_codes.EndError("no", exit_codes.REFUSED), 4),
    (click.UsageError("no"), 2),
    (click.Abort(), 130),
    (KeyboardInterrupt(), 130),
]


@pytest.mark.parametrize(
    ("error", "code"), ENDINGS, ids=[type(error).__name__ for error, _ in ENDINGS]
)
def test_an_error_is_an_exit_code_and_one_sentence(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Scripts tell them apart by the code; nobody is shown a traceback."""

    def fail() -> None:
        raise error

    with pytest.raises(SystemExit) as ended:
        exit_codes.run(click.Command("x", callback=fail), "x", [])

    shown = capsys.readouterr()
    assert (code, "") == (ended.value.code, shown.out)
    assert "Traceback" not in shown.err


@pytest.mark.parametrize(
    "error",
    [
        errors.TaskFailedError("1", "DLQ", "E", "\x1b[2Jgone", 1),
        errors.ConfigurationError(["one", "\x1b[2Jgone"]),
        exit_codes.EndError("\x1b[2Jgone"),
    ],
    ids=["ours", "several lines", "the command's"],
)
def test_what_an_error_says_does_not_steer_the_terminal(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    """A task's error was written by anybody; its lines stay lines."""

    def fail() -> None:
        raise error

    with pytest.raises(SystemExit):
        exit_codes.run(click.Command("x", callback=fail), "x", [])

    shown = capsys.readouterr().err
    assert "\x1b" not in shown
    assert "\\x1b[2Jgone\n" in shown


@pytest.mark.parametrize(("answer", "code"), [(None, 0), (3, 3), ("text", 0)])
def test_a_command_ends_with_the_code_it_returns(answer: object, code: int) -> None:
    """Zero where it returns none."""
    with pytest.raises(SystemExit) as ended:
        exit_codes.run(click.Command("x", callback=lambda: answer), "x", [])

    assert code == ended.value.code


def test_the_worker_command_has_a_door_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``taskflow-worker`` is ``taskflow worker``."""
    monkeypatch.setattr(sys, "argv", ["taskflow-worker", "--help"])
    with pytest.raises(SystemExit) as ended:
        commands.worker()

    assert 0 == ended.value.code
    assert "Usage: taskflow-worker" in capsys.readouterr().out


PLUGGED = [
    EntryPoint("gone", "no_such_module:command", commands.GROUP),
    EntryPoint("wrong", "json:dumps", commands.GROUP),
    EntryPoint("hidden", "test_commands_plugged:hidden", commands.GROUP),
]


@pytest.fixture
def plugged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Install plugins whose commands are not what they should be."""
    module = ModuleType("test_commands_plugged")
    vars(module)["hidden"] = click.Command("hidden", hidden=True)
    monkeypatch.setitem(sys.modules, "test_commands_plugged", module)
    monkeypatch.setattr(commands, "entry_points", lambda group: PLUGGED)


@pytest.mark.usefixtures("plugged")
def test_a_plugins_command_that_cannot_be_loaded_stops_no_other() -> None:
    """It is listed with the reason, and refuses with it."""
    listed = CliRunner().invoke(taskflow, ["--help"])
    gone = CliRunner().invoke(taskflow, ["gone", "--any", "thing"])
    wrong = CliRunner().invoke(taskflow, ["wrong"])

    assert 0 == listed.exit_code
    assert "(cannot be loaded: ModuleNotFoundError" in listed.output
    assert "hidden" not in listed.output
    assert (1, 1) == (gone.exit_code, wrong.exit_code)
    assert "command 'gone' (no_such_module:command) cannot be loaded" in gone.output
    assert "it is no click command" in wrong.output
