"""The page of the commands says what ``--help`` says.

``python tests/unit/test_cli_page.py`` writes the part that is made of it.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from taskflow.cli import exit_codes
from taskflow.cli.commands import OWN

PAGE = Path(__file__).parent.parent.parent / "docs" / "reference" / "cli.md"
MARK = "<!-- written by: python tests/unit/test_cli_page.py -->\n"
METAVARS = {
    "FILENAME": "FILE",
    "FLOAT RANGE": "NUMBER",
    "INTEGER RANGE": "NUMBER",
    "MOMENT": "TIME",
}
COMMON = {"app", "url", "prefix", "env_file"}


def all_commands() -> Iterator[tuple[str, click.Command]]:
    """Give each command of ours, those of a group behind it."""
    for name in sorted(OWN):
        command = OWN[name].load()
        yield name, command
        if isinstance(command, click.Group):
            for inner in sorted(command.commands):
                yield f"{name} {inner}", command.commands[inner]


def usage(name: str, command: click.Command) -> str:
    """Give the line that one types."""
    arguments = [
        param.metavar or (param.name or "").upper()
        for param in command.params
        if isinstance(param, click.Argument)
    ]
    words = ["taskflow", name, *arguments]
    if isinstance(command, click.Group):
        words.append("COMMAND" if not command.invoke_without_command else "[COMMAND]")
    return " ".join([*words, "[OPTION]..."])


def option_row(option: click.Option) -> str:
    """Give the row of an option."""
    names = ", ".join(f"`{name}`" for name in option.opts)
    if isinstance(option.type, click.Choice):
        choices = " or ".join(f"`{choice}`" for choice in option.type.choices)
        names = f"{names} {choices}"
    elif not option.is_flag:
        name = option.metavar or option.type.name.upper()
        names += f" {METAVARS.get(name, name)}"
    default = ""
    if option.show_default:
        shown = option.show_default
        default = f" Default: {shown if isinstance(shown, str) else option.default}."
    return f"| {names} | {option.help or ''}{default} |"


def section(name: str, command: click.Command) -> str:
    """Write the section of a command."""
    options = [
        option_row(param)
        for param in command.params
        if isinstance(param, click.Option)
        and param.name not in COMMON
        and param.name != "as_json"
    ]
    table = ["| option | means |", "|---|---|", *options] if options else []
    paragraphs = [
        re.sub(r"\s*\n\s*", " ", paragraph).strip().replace(". ", ".\n")
        for paragraph in re.split(r"\n\s*\n", command.help or "")
    ]
    parts = [
        f"### {name}",
        f"```text\n{usage(name, command)}\n```",
        *paragraphs,
        "\n".join(table),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def written() -> str:
    """Write the part of the page that is made of the commands."""
    return "\n" + "\n".join(section(*each) for each in all_commands())


def test_the_page_has_every_command_and_every_option() -> None:
    """What is new at the prompt is on the page."""
    _, found, shown = PAGE.read_text(encoding="utf-8").partition(MARK)

    assert MARK == found
    assert written() == shown, "write it: python tests/unit/test_cli_page.py"


def test_the_page_has_every_exit_code() -> None:
    """And no other."""
    text = PAGE.read_text(encoding="utf-8")
    table = text.partition("## Exit codes")[2].partition("\n## ")[0]
    codes = {
        value
        for name, value in vars(exit_codes).items()
        if name.isupper() and isinstance(value, int)
    }

    assert sorted({0} | codes) == [
        int(code) for code in re.findall(r"(?m)^\| (\d+) ", table)
    ]


@pytest.mark.parametrize(
    ("name", "command"),
    list(all_commands()),
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_a_command_explains_itself_and_its_options(
    name: str, command: click.Command
) -> None:
    """A sentence for each; -h works as --help does everywhere."""
    silent = [
        param.name
        for param in command.params
        if isinstance(param, click.Option) and not param.help
    ]

    assert (command.help or "").strip()
    assert [] == silent


if __name__ == "__main__":
    head, mark, _ = PAGE.read_text(encoding="utf-8").partition(MARK)
    PAGE.write_text(head + mark + written(), encoding="utf-8")
