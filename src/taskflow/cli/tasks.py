"""``taskflow list``, ``show``, ``retry``, ``cancel``, ``delete``: single tasks."""

import contextlib
import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from taskflow._client.flow import TaskFlow
from taskflow._client.ids import find_ids
from taskflow._client.tasks import TaskFilter
from taskflow._protocol.inspect import Page
from taskflow._protocol.record import DeadLetterRecord, TaskRecord
from taskflow._protocol.states import TaskState
from taskflow._settings import read_duration
from taskflow.cli import serializers, text
from taskflow.cli.exit_codes import USAGE, EndError, code_of
from taskflow.cli.options import (
    Decorator,
    cursor_option,
    json_option,
    limit_option,
    note,
    with_flow,
)
from taskflow.errors import TaskFlowError, TaskNotFoundError

_SHORTEST = 4  # characters: an empty variable of a shell must not name a task
_WHOLE = 36  # characters of a UUID


def moment(value: str) -> datetime:
    """Read a time, or a duration before now.

    Returns:
        An aware time; one without a zone is this machine's local time.

    Raises:
        BadParameter: It is neither.
    """
    with contextlib.suppress(ValueError, OverflowError):
        return datetime.now(UTC) - timedelta(seconds=read_duration(value))
    try:
        return datetime.fromisoformat(value).astimezone()
    except (ValueError, OverflowError, OSError) as error:
        message = (
            f"{value!r} is neither a time such as 2026-01-31T12:00 nor a duration "
            "before now such as 2h"
        )
        raise click.BadParameter(message) from error


ids_argument: Decorator = click.argument(
    "ids", nargs=-1, required=True, metavar="ID..."
)


@click.command("list")
@click.option(
    "--state",
    type=click.Choice([state.value for state in TaskState], case_sensitive=False),
    help="Only tasks in this state.",
)
@click.option("--name", help="Only calls of this task.")
@click.option(
    "--lane", type=click.Choice(["primary", "retry"]), help="Only tasks of this lane."
)
@click.option("--parked", is_flag=True, help="Only tasks that wait for an upstream.")
@click.option("--error", help="Only tasks whose last error's type or text has this.")
@click.option("--since", type=moment, help="Stored then or later: a time, or 2h (ago).")
@click.option("--until", type=moment, help="Stored before then.")
@limit_option
@cursor_option
@json_option
@with_flow
def list_command(
    flow: TaskFlow,
    state: str | None,
    limit: int,
    cursor: str,
    *,
    as_json: bool,
    parked: bool,
    **wanted: Any,
) -> None:
    """List tasks, the running ones first.

    Looks at about 1,000 tasks at most; where there are more, the last line says
    how to go on.
    """
    chosen = _filter(state, parked=parked, **wanted)
    found = paged(lambda: flow.tasks.list(chosen, cursor=cursor, limit=limit))
    if as_json:
        text.as_json(serializers.page(found))
        return
    now = datetime.now(UTC)
    text.table(
        ("ID", "STATE", "LANE", "NAME", "ATTEMPTS", "AGE", "ERROR"),
        (
            (
                item.id,
                item.state,
                "suspect" if item.suspect else item.lane,
                item.name,
                item.attempts,
                text.span(max(0.0, (now - item.created_at).total_seconds())),
                error_line(item.error_type, item.error_message),
            )
            for item in found.items
        ),
    )
    tell_more(found)


def _filter(state: str | None, *, parked: bool, **wanted: Any) -> TaskFilter:
    if parked and state not in {None, TaskState.PENDING}:
        message = "a parked task is PENDING"
        raise click.UsageError(message)
    return TaskFilter(
        state=None if state is None else TaskState(state),
        is_parked=parked or None,
        **wanted,
    )


def paged(read: Callable[[], Page]) -> Page:
    """Read a page; a cursor of another list is a mistake in usage.

    Returns:
        The page.

    Raises:
        BadParameter: It is.
    """
    try:
        return read()
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def tell_more(found: Page) -> None:
    """Say on standard error whether there is more, and how to go on."""
    if found.next_cursor:
        click.echo(
            f"{text.many(found.examined, 'task')} looked at; "
            f"for more: --cursor '{found.next_cursor}'",
            err=True,
        )
    elif not found.items:
        click.echo("nothing found", err=True)


def error_line(error_type: str, message: str) -> str:
    """Return type and message of an error on one line; empty where there is none."""
    return f"{error_type}: {message}" if error_type or message else ""


@click.command("show")
@click.argument("task_id", metavar="ID")
@json_option
@with_flow
def show_command(flow: TaskFlow, task_id: str, *, as_json: bool) -> None:
    """Show a task whole: state, arguments, result, timeline, dead letter."""
    show(flow.tasks.get(full_id(flow, task_id)), as_json=as_json)


def show(record: TaskRecord, *, as_json: bool) -> None:
    """Print *record*."""
    if as_json:
        text.as_json(serializers.detail(record))
        return
    spec = record.spec
    text.facts(
        (
            ("id", record.id),
            ("name", record.name or "(the record is corrupt)"),
            ("state", _state(record)),
            ("lane", "retry, suspect" if record.suspect else record.lane),
            ("attempts", f"{record.attempts} failed"),
            ("crashes", record.crashes or None),
            ("deliveries", record.deliveries),
            ("max retries", spec and spec.max_retries),
            ("timeout", spec and spec.timeout and text.span(spec.timeout)),
            ("key", record.key),
            ("created", text.moment(record.created_at)),
            ("started", record.started_at and text.moment(record.started_at)),
            ("finished", record.finished_at and text.moment(record.finished_at)),
            ("due", record.due_at and text.moment(record.due_at)),
            ("expires", record.expires_at and text.moment(record.expires_at)),
            ("parked for", record.parked_for),
            ("lease until", record.lease_until and text.moment(record.lease_until)),
            ("worker", record.worker),
            ("error", error_line(record.error_type, record.error_message)),
            ("progress", record.progress and _compact(record.progress)),
        )
    )
    _section("arguments", _pretty(record.payload))
    _section("result", _pretty(record.result))
    for name, known in (("usage", record.usage), ("annotations", record.annotations)):
        _section(name, json.dumps(known, indent=2, ensure_ascii=False) if known else "")
    _section("timeline", "\n".join(_timeline(record)))
    if record.dead_letter is not None:
        _dead_letter(record.dead_letter)


def _state(record: TaskRecord) -> str:
    asked = " (asked to stop)" if record.cancel_requested else ""
    return f"{record.state}{asked}"


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _pretty(stored: bytes | None) -> str:
    if not stored:
        return ""
    value = serializers.value(stored)
    if value is None and stored != b"null":
        return stored.decode(errors="replace")
    return value if isinstance(value, str) else _indented(value)


def _indented(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _timeline(record: TaskRecord) -> Iterable[str]:
    for entry in record.timeline:
        at, event, told = entry.at, entry.outcome, entry.facts
        facts = "  ".join(f"{name}={_compact(value)}" for name, value in told.items())
        yield f"{text.moment(at)}  {event:<10} {facts}"


def _section(title: str, body: str) -> None:
    if body:
        click.echo(f"\n{title}")
        click.echo(text.block(body))


def _dead_letter(letter: DeadLetterRecord) -> None:
    click.echo("\ndead letter")
    text.facts(
        (
            ("  cause", letter.cause),
            ("  fingerprint", letter.fingerprint),
            ("  died", text.moment(letter.died_at)),
            ("  worker", letter.worker),
            ("  error", error_line(letter.error_type, letter.error_message)),
        )
    )
    _section("traceback", letter.traceback.rstrip())


def full_id(flow: TaskFlow, given: str) -> str:
    """Complete the id of a task of which only the beginning or the end was typed.

    Returns:
        The id; *given* itself if it is whole or shorter than four characters, or if
        no id begins or ends with it.

    Raises:
        EndError: Several ids begin or end with it.
    """
    if not _SHORTEST <= len(given) < _WHOLE:
        return given
    found = flow.connection.run(find_ids(flow.connection, given))
    if given in found or not found:
        return given
    if len(found) > 1:
        message = (
            f"{given!r} fits {len(found)} ids, such as {found[0]} and {found[1]}; "
            "type more of it"
        )
        raise EndError(message, USAGE)
    return found[0]


def each(flow: TaskFlow, ids: Iterable[str], act: Callable[[str], str]) -> int:
    """Do something to each task; one that cannot be done does not stop the others.

    Args:
        flow: Where the tasks are.
        ids: Of the tasks; the beginning or the end of one will do.
        act: Does it, and says what it did.

    Returns:
        The exit code: that of the first that could not be done, else 0.
    """
    code = 0
    for task_id in [full_id(flow, given) for given in ids]:
        try:
            click.echo(text.clean(act(task_id)))
        except TaskFlowError as error:
            click.echo(text.clean(error), err=True)
            code = code or code_of(error)
    return code


@click.command("retry")
@ids_argument
@with_flow
def retry_command(flow: TaskFlow, ids: tuple[str, ...]) -> int:
    """Bring tasks back to work.

    Dead, failed and cancelled ones enter the retry lane with fresh counts;
    scheduled ones run now.
    """  # noqa: DOC201 - this text is the command's help

    def retry(task_id: str) -> str:
        flow.tasks.retry(task_id)
        note(flow, "retry", task_id=task_id)
        return f"{task_id} PENDING"

    return each(flow, ids, retry)


@click.command("cancel")
@ids_argument
@with_flow
def cancel_command(flow: TaskFlow, ids: tuple[str, ...]) -> int:
    """Stop tasks: at once while they wait, on request while they run."""

    def cancel(task_id: str) -> str:
        gone = flow.tasks.cancel(task_id)
        note(flow, "cancel", task_id=task_id)
        return f"{task_id} {'CANCELLED' if gone else 'ACTIVE, asked to stop'}"

    return each(flow, ids, cancel)


@click.command("delete")
@ids_argument
@click.option("--force", is_flag=True, help="Also while they run.")
@with_flow
def delete_command(flow: TaskFlow, ids: tuple[str, ...], *, force: bool) -> int:
    """Remove tasks with everything that belongs to them."""

    def delete(task_id: str) -> str:
        if not flow.tasks.delete(task_id, force=force):
            raise TaskNotFoundError(task_id)
        note(flow, "delete", task_id=task_id)
        return f"{task_id} deleted"

    return each(flow, ids, delete)


@click.command("requeue-orphaned")
@with_flow
def requeue_orphaned_command(flow: TaskFlow) -> int:
    """Bring back tasks whose worker died, and those that stand in no home.

    Looks at every record in small steps; what is queued or running is never
    queued twice.
    """  # noqa: DOC201 - this text is the command's help
    report = flow.tasks.requeue_orphaned()
    note(flow, "requeue_orphaned", found=report.found, requeued=report.requeued)
    click.echo(f"{report.found} found, {report.requeued} requeued")
    for error in report.errors:
        click.echo(text.clean(error), err=True)
    return 1 if report.errors else 0
