"""``taskflow config``: every setting in force, and where it comes from."""

import difflib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
from attrs import fields, frozen

from taskflow._settings.environment import (
    FOR_PROCESS_POOLS,
    OVERRIDE,
    OWN,
    Source,
    find,
    find_sources,
    plugged_classes,
    read_class,
    spellings,
)
from taskflow._settings.kinds import Kind
from taskflow._settings.settings import Checked
from taskflow.cli import text
from taskflow.cli.exit_codes import FAILED

# Read by the compose file, or by our tests, and by no class of settings.
_READ_ELSEWHERE = frozenset(
    {"TASKFLOW_IMAGE", "TASKFLOW_BUILD_TARGET", *FOR_PROCESS_POOLS}
    | {OVERRIDE + name for name in FOR_PROCESS_POOLS}
)
_TESTS = "TASKFLOW_TEST_"
_NAMES = re.compile(r"(?: ``[A-Z_]+``[,.]?)+$")


@frozen
class Row:
    """One setting in force.

    Attributes:
        variable: The usual name of the variable that sets it.
        others: Its other names, without ``TASKFLOW_`` before them.
        value: As it can be shown; secrets are not.
        source: ``default``, or the variable and the place where it is set.
        may_be: What it accepts.
        default: As it can be shown.
        effect: A sentence.
    """

    variable: str
    others: tuple[str, ...]
    value: str
    source: str
    may_be: str
    default: str
    effect: str


def rows_of(cls: type[Checked], sources: Sequence[Source]) -> Iterator[Row]:
    """Say of each setting of *cls* what is in force.

    Args:
        cls: Declares the settings.
        sources: Where to look.

    Yields:
        One row for each, in the order of the class.
    """
    known, _, _ = read_class(cls, sources)
    effects = _effects(cls)
    for attribute in fields(cls):
        kind: Kind = attribute.metadata["kind"]
        variables: tuple[str, ...] = attribute.metadata["variables"]
        found = find(variables, sources)
        where = "default"
        if found is not None:
            line = found.source.lines.get(found.variable)
            place = found.source.name + (f":{line}" if line else "")
            where = f"{found.variable} ({place})"
        yield Row(
            variable=variables[0],
            others=variables[1:],
            value=_shown(kind, getattr(known, attribute.name)),
            source=where,
            may_be=kind.bound,
            default=_shown(kind, getattr(cls(), attribute.name)),
            effect=effects.get(attribute.name, ""),
        )


def _shown(kind: Kind, value: object) -> str:
    return "none" if value in {None, "", ()} else kind.show(value)


def _effects(cls: type[Checked]) -> dict[str, str]:
    """Read what each setting does from the docstring of its class.

    Returns:
        Sentences by the name of the attribute, without the names of variables that
        they end with.
    """
    effects: dict[str, str] = {}
    _, _, attributes = (cls.__doc__ or "").partition("Attributes:\n")
    name = ""
    for line in attributes.splitlines():
        words = line.strip()
        if line.startswith(" " * 8) and not line.startswith(" " * 9) and ":" in words:
            name, _, words = words.partition(":")
        if name:
            effects[name] = f"{effects.get(name, '')} {words.strip()}".strip()
    return {name: _NAMES.sub("", told) for name, told in effects.items()}


def misspelt(env_file: Path) -> list[str]:
    """Find taskflow's variables that aren't settings, in the environment and *env_file*.

    Args:
        env_file: Of settings; may be missing.

    Returns:
        A sentence for each.
    """
    sources = find_sources(os.environ, env_file, [])
    return list(strangers(sources, [*OWN, *plugged_classes([])]))


def strangers(
    sources: Sequence[Source], classes: Sequence[type[Checked]]
) -> Iterator[str]:
    """Name variables of ours that nobody reads; most are misspelt.

    Args:
        sources: Where to look.
        classes: Whose settings are read.

    Yields:
        A sentence for each.
    """
    read = {
        spelling
        for cls in classes
        for attribute in fields(cls)
        for spelling in spellings(attribute.metadata["variables"])
    }
    read |= _READ_ELSEWHERE
    for source in sources:
        for name in sorted(source.values):
            if not name.startswith(OVERRIDE) or name in read or name.startswith(_TESTS):
                continue
            near = difflib.get_close_matches(name, sorted(read), 1, 0.6)
            hint = f"; did you mean {near[0]}?" if near else ""
            yield f"{name} ({source.name}) is read by nobody{hint}"


@click.command("config")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@click.option(
    "--env-file",
    type=click.Path(path_type=Path),
    default=Path(".env"),
    show_default=True,
    help="Read settings from this file too, if it is there.",
)
def config_command(*, as_json: bool, env_file: Path) -> int:
    """Show every setting in force, and where it comes from.

    Those of plugins too. Secrets are never shown. What is wrong is listed, all of it,
    with exit code 1; variables of ours that nobody reads are named.
    """  # noqa: DOC201 - this text is the command's help
    problems: list[str] = []
    sources = find_sources(os.environ, env_file, problems)
    classes = [*OWN, *plugged_classes(problems)]
    rows: list[Row] = []
    for cls in classes:
        _, wrong, conflicts = read_class(cls, sources)
        problems += [*wrong, *conflicts]
        rows += rows_of(cls, sources)
    unread = list(strangers(sources, classes))
    if as_json:
        text.as_json(_shape(rows, problems, unread))
    else:
        text.table(
            ("SETTING", "VALUE", "FROM"),
            ((row.variable, row.value, row.source) for row in rows),
        )
        for problem in unread:
            click.echo(f"warning: {text.clean(problem)}", err=True)
        for problem in dict.fromkeys(problems):
            click.echo(f"wrong: {text.clean(problem)}", err=True)
    return FAILED if problems else 0


def _shape(
    rows: Sequence[Row], problems: Sequence[str], unread: Sequence[str]
) -> dict[str, Any]:
    return {
        "settings": [
            {
                "variable": row.variable,
                "others": list(row.others),
                "value": row.value,
                "source": row.source,
                "default": row.default,
                "may_be": row.may_be,
            }
            for row in rows
        ],
        "problems": list(dict.fromkeys(problems)),
        "unread": list(unread),
    }
