"""What the pages tell a reader to type exists."""

import re
from pathlib import Path

import click
import pytest

from taskflow.cli.commands import taskflow

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TYPED = re.compile(
    r"(?:`|^\$ |&& )taskflow ((?:[a-z][a-z-]*)(?: [a-z][a-z-]*)?)", re.MULTILINE
)
OPTION = re.compile(
    r"(?:`|^\$ )taskflow ([a-z][a-z -]*?)((?: --[a-z-]+(?:[ =][^`\s-][^`\s]*)?)+)",
    re.MULTILINE,
)


def named() -> list[tuple[str, str]]:
    """Give the commands that pages name, each with its page."""
    return sorted(
        {
            (words, path.relative_to(ROOT).as_posix())
            for path in PAGES
            if "_build" not in path.parts
            for words in TYPED.findall(path.read_text("utf-8"))
        }
    )


def find(words: str) -> click.Command | None:
    """Give the command that *words* begin with, or None."""
    first, _, second = words.partition(" ")
    context = click.Context(taskflow)
    command = taskflow.get_command(context, first)
    if isinstance(command, click.Group) and second:
        return command.get_command(click.Context(command), second)
    return command


def test_pages_name_commands() -> None:
    """The test below does not pass because it found nothing."""
    assert len(named()) > 40


@pytest.mark.parametrize(("words", "page"), named())
def test_a_command_that_a_page_names_exists(words: str, page: str) -> None:
    """Also those of plugins, and those of a group."""
    assert find(words) is not None, f"{page} names `taskflow {words}`"


def test_an_option_that_a_page_names_exists() -> None:
    """For the commands that have a name of one or two words."""
    wrong = []
    for path in PAGES:
        for words, options in OPTION.findall(path.read_text("utf-8")):
            command = find(words.strip())
            if command is None:
                continue
            known = {opt for each in command.params for opt in each.opts} | {"--help"}
            wrong += [
                f"{path.name}: taskflow {words} {option}"
                for option in re.findall(r"--[a-z-]+", options)
                if option not in known
            ]

    assert [] == wrong
