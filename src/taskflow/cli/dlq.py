"""``taskflow dlq``: dead letters; see, group, edit, bring back, drop, export."""

import itertools
import json
import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TextIO

import click

from taskflow._client.dead_letters import DeadLetters
from taskflow._client.flow import TaskFlow
from taskflow._protocol.keys import FINGERPRINT_PATTERN
from taskflow.cli import serializers, text
from taskflow.cli.app_loading import App
from taskflow.cli.exit_codes import NOT_FOUND, REFUSED, USAGE, EndError
from taskflow.cli.options import (
    cursor_option,
    json_option,
    limit_option,
    note,
    read_arguments,
    with_app,
    with_flow,
)
from taskflow.cli.tasks import error_line, full_id, paged, show, tell_more

Command = Callable[..., Any]

_MOST_TOLD = 10  # held keys; a whole queue of them would fill the screen


@click.group("dlq")
def dlq_group() -> None:
    """See dead letters, mend them, bring them back or drop them."""


def _checked(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> str | None:
    del context, parameter
    if value is not None and not FINGERPRINT_PATTERN.fullmatch(value):
        message = f"{value!r} is none that a dead letter can have"
        raise click.BadParameter(message)
    return value


def _kind_options(function: Command) -> Command:
    for option in (
        click.option("--name", help="Dead letters of this task."),
        click.option(
            "--fingerprint", callback=_checked, help="Dead letters of this group."
        ),
    ):
        function = option(function)
    return function


def _bulk_options(function: Command) -> Command:
    for option in (
        click.option("--yes", is_flag=True, help="Do it, without being asked."),
        click.option("--all", "everything", is_flag=True, help="All dead letters."),
        _kind_options,
        click.argument("ids", nargs=-1, metavar="[ID]..."),
    ):
        function = option(function)
    return function


@dlq_group.command("list")
@_kind_options
@limit_option
@cursor_option
@json_option
@with_flow
def list_command(
    flow: TaskFlow,
    fingerprint: str | None,
    name: str | None,
    limit: int,
    cursor: str,
    *,
    as_json: bool,
) -> None:
    """List dead letters, the newest first."""
    found = paged(
        lambda: flow.dlq.list(
            fingerprint=fingerprint, name=name, cursor=cursor, limit=limit
        )
    )
    if as_json:
        text.as_json(serializers.page(found))
        return
    text.table(
        ("ID", "NAME", "CAUSE", "FINGERPRINT", "DIED", "ERROR"),
        (
            (
                item.id,
                item.name,
                item.cause,
                item.fingerprint,
                text.ago(item.finished_at),
                error_line(item.error_type, item.error_message),
            )
            for item in found.items
        ),
    )
    tell_more(found)


@dlq_group.command("groups")
@click.option(
    "--skip", type=click.IntRange(min=0), default=0, help="Groups to leave out."
)
@limit_option
@json_option
@with_flow
def groups_command(flow: TaskFlow, skip: int, limit: int, *, as_json: bool) -> None:
    """Group dead letters by what killed them, the latest death first."""
    found = flow.dlq.groups(skip=skip, limit=limit)
    if as_json:
        text.as_json(serializers.groups(found))
        return
    text.table(
        ("FINGERPRINT", "COUNT", "NAME", "CAUSE", "LAST DEATH", "ERROR"),
        (
            (
                group.fingerprint,
                group.count,
                group.task_name,
                group.cause,
                text.ago(group.last_died_at),
                error_line(group.error_type, group.error_message),
            )
            for group in found
        ),
    )
    if not found:
        click.echo("nothing found", err=True)


@dlq_group.command("show")
@click.argument("task_id", metavar="ID")
@json_option
@with_flow
def show_command(flow: TaskFlow, task_id: str, *, as_json: bool) -> None:
    """Show a dead letter whole, with its traceback."""
    show(flow.dlq.get(full_id(flow, task_id)), as_json=as_json)


@dlq_group.command("edit")
@click.argument("task_id", metavar="ID")
@click.argument("pairs", nargs=-1, metavar="[ARG=VALUE]...")
@click.option(
    "--json-args", metavar="OBJECT", help="Arguments as a JSON object; - reads it."
)
@with_app
def edit_command(
    app: App, task_id: str, pairs: tuple[str, ...], json_args: str | None
) -> None:
    """Replace arguments of a dead letter; the others stay.

    A value is JSON, else text. Checked against the task where it is known here:
    from an installed plugin, or from --app.
    """  # noqa: DOC501 - this text is the command's help
    arguments = read_arguments(pairs, json_args)
    if not arguments:
        message = "name what to replace: ARG=VALUE, or --json-args OBJECT"
        raise EndError(message, USAGE)
    flow = app.flow
    task_id = full_id(flow, task_id)
    letters = DeadLetters(flow.connection, app.registry)
    letters.edit(task_id, **arguments)
    note(flow, "edit", task_id=task_id, arguments=sorted(arguments))
    known = serializers.value(letters.get(task_id).payload)
    click.echo(text.block(json.dumps(known, indent=2, ensure_ascii=False), indent=""))


@dlq_group.command("requeue")
@_bulk_options
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    help="Tasks per second; else as fast as it goes.",
)
@with_flow
def requeue_command(flow: TaskFlow, rate: float | None, **chosen: Any) -> int:
    """Bring dead letters back to the retry lane, with fresh counts.

    By their ids, or those of --fingerprint and --name, or --all. What is not named
    by id is counted first, and brought back only with --yes or when you agree.
    """  # noqa: DOC201 - this text is the command's help
    held: dict[str, str] = {}

    def requeue(**which: Any) -> int:
        done = flow.dlq.requeue(**which, rate=rate)
        held.update(done.held)
        return done.count

    code = _bulk(flow, "requeue", "requeued", requeue, held, **chosen)
    for task_id, holder in itertools.islice(held.items(), _MOST_TOLD):
        click.echo(f"{task_id} not requeued: {holder} has taken its key", err=True)
    return code


@dlq_group.command("discard")
@_bulk_options
@with_flow
def discard_command(flow: TaskFlow, **chosen: Any) -> int:
    """Drop dead letters; each is FAILED from then on.

    By their ids, or those of --fingerprint and --name, or --all. What is not named
    by id is counted first, and dropped only with --yes or when you agree.
    """  # noqa: DOC201 - this text is the command's help
    return _bulk(flow, "discard", "discarded", flow.dlq.discard, **chosen)


def _bulk(
    flow: TaskFlow,
    event: str,
    done: str,
    act: Callable[..., int],
    held: Mapping[str, str] = MappingProxyType({}),
    *,
    ids: tuple[str, ...],
    fingerprint: str | None,
    name: str | None,
    everything: bool,
    yes: bool,
) -> int:
    by_kind = fingerprint is not None or name is not None
    if sum((bool(ids), by_kind, everything)) != 1:
        message = "name ids, or --fingerprint and/or --name, or --all"
        raise EndError(message, USAGE)
    which: dict[str, Any] = {"ids": [full_id(flow, given) for given in ids]}
    wanted = len(ids)
    if not ids:
        which = {"fingerprint": fingerprint, "name": name, "everything": everything}
        wanted = flow.dlq.count(fingerprint=fingerprint, name=name)
        click.echo(f"{text.many(wanted, 'dead letter')} to be {done}", err=True)
        if wanted and not yes:
            _agree()
    count = act(**which) if wanted else 0
    if count:
        told = {name: value for name, value in which.items() if value}
        note(flow, event, **told, count=count)
    click.echo(f"{count} {done}")
    unknown = wanted - count - len(held)
    if ids and unknown:
        click.echo(f"{unknown} of them: no dead letter under this id", err=True)
        return NOT_FOUND
    return REFUSED if held else 0


def _agree() -> None:
    """Ask on a terminal; elsewhere, refuse what was not agreed to.

    Raises:
        EndError: Nobody agreed; nothing was done.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        message = "nothing was done; to do it, add --yes"
        raise EndError(message, REFUSED)
    if not click.confirm("Do it?", err=True):
        message = "nothing was done"
        raise EndError(message, REFUSED)


@dlq_group.command("export")
@_kind_options
@click.option(
    "-o",
    "--output",
    type=click.File("w", encoding="utf-8", lazy=True),
    default="-",
    help="A file; else standard output.",
)
@with_flow
def export_command(
    flow: TaskFlow, fingerprint: str | None, name: str | None, output: TextIO
) -> None:
    """Write dead letters whole, one JSON object to a line, the newest first."""
    records = flow.dlq.export(fingerprint=fingerprint, name=name)
    output.writelines(
        f"{json.dumps(serializers.detail(record))}\n" for record in records
    )
