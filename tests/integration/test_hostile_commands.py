"""Whatever is typed for an argument or an option, a command ends in words of ours.

Every command and each of its parameters is found by looking: a new one is tried from
its first day.
"""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from taskflow import TaskFlow
from taskflow.cli import commands, exit_codes
from tests.support.fuzz_strings import NASTY, foreign_keys, some
from tests.support.population import WORKER, populate, registry

PREFIX = "hostile:"
ENDLESS = {"api", "dashboard", "demo", "scheduler", "summarize", "worker"}
"""What serves until it is stopped, or reads files of one's own."""

ELSEWHERE = {"url", "output", "host", "port"}
"""What leads away from the server of the tests, or into its folders."""

SHARED = {"app", "env_file", "prefix"}
"""What every command has of the same make: tried once each."""

CODES = {
    *(0, exit_codes.FAILED, exit_codes.USAGE, exit_codes.NOT_FOUND),
    *(exit_codes.REFUSED, exit_codes.NO_SERVER, exit_codes.NOT_YET),
}


def found(command: click.Command, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Find each command that ends, and its parameters that take a value."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            if name not in ENDLESS:
                yield from found(below, *path, name)
        return
    for parameter in command.params:
        if not getattr(parameter, "is_flag", False) and parameter.name not in ELSEWHERE:
            yield path, parameter


FOUND = list(found(commands.taskflow))
COMMON = {each.name: (path, each) for path, each in FOUND if each.name in SHARED}
TRIED = [(path, each) for path, each in FOUND if each.name not in SHARED]


def can_be_typed(text: str) -> bool:
    """Tell whether a system can pass *text* on to a process."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


TEXTS = [*filter(can_be_typed, NASTY), "\udc80"]  # a byte that is no UTF-8


@pytest.fixture(scope="module")
def ids() -> dict[str, str]:
    """Give the ids of the tasks that stand on the server."""
    return {}


@pytest.fixture(scope="module")
def client(redis_url: str, ids: dict[str, str]) -> Iterator[Any]:
    """Give a client of a server where something of every kind stands."""
    with TaskFlow(redis_url, prefix=PREFIX, registry=registry) as flow:
        ids.update(asyncio.run(populate(flow)))
        made = flow.connection.server.sync_client()
        yield made
        made.flushdb()
        made.close()


@pytest.fixture(autouse=True)
def _here(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("TASKFLOW_PREFIX", PREFIX)
    monkeypatch.setenv("TASKFLOW_LEASE", "3600")  # nobody waits for renewals


def typed(path: tuple[str, ...], chosen: Any, text: str, dead: str) -> list[str]:
    """Give a line on which *text* stands for one parameter, and the rest is right."""
    command: Any = commands.taskflow
    for name in path:
        command = command.get_command(click.Context(command), name)
    good = {"ids": dead, "task_id": dead, "worker_id": WORKER, "lane": "retry"}
    good["name"] = {"schedules": "hourly", "enqueue": "add"}.get(path[0], "api")
    options = [f"{chosen.opts[0]}={text}"] if isinstance(chosen, click.Option) else []
    arguments = [
        text if each is chosen else good[each.name]
        for each in command.params
        if isinstance(each, click.Argument) and (each is chosen or each.required)
    ]
    if isinstance(chosen, click.Option) and not chosen.opts[0].startswith("--"):
        options = [chosen.opts[0], text]
    return [*path, *options, "--", *arguments]


@pytest.mark.parametrize(
    ("path", "chosen"),
    [*TRIED, *COMMON.values()],
    ids=[f"{' '.join(path)}-{each.name}" for path, each in (*TRIED, *COMMON.values())],
)
def test_a_command_ends_in_words_of_ours(
    client: Any,
    ids: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    path: tuple[str, ...],
    chosen: Any,
) -> None:
    """No traceback, nothing that steers a terminal, and no key of a strange kind."""
    for text in some(TEXTS):
        line = typed(path, chosen, text, ids["dead"])
        with pytest.raises(SystemExit) as ended:
            exit_codes.run(commands.taskflow, "taskflow", line)
        shown = "".join(capsys.readouterr())

        assert ended.value.code in CODES, line
        assert not set(shown) & {"\x1b", "\u202e", "\r"}, line
    keys = [each.decode(errors="backslashreplace") for each in client.scan_iter()]
    beside = [each for each in keys if not each.startswith(PREFIX)]
    assert chosen.name == "prefix" or [] == beside
    assert [] == foreign_keys(set(keys) - set(beside), PREFIX)
    if beside:
        client.delete(*beside)
