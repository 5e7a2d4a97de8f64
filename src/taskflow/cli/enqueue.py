"""``taskflow enqueue``: store a call of any registered task."""

from typing import Any

import click

from taskflow._codec import from_json
from taskflow.cli import text
from taskflow.cli.app_loading import App
from taskflow.cli.exit_codes import USAGE, EndError
from taskflow.cli.options import duration, json_option, read_arguments, with_app
from taskflow.errors import ConfigurationError


@click.command("enqueue")
@click.argument("name")
@click.argument("pairs", nargs=-1, metavar="[ARG=VALUE]...")
@click.option(
    "--json-args", metavar="OBJECT", help="Arguments as a JSON object; - reads it."
)
@click.option("--delay", type=duration, help="Before the first run.")
@click.option("--key", help="The same key and arguments are the same task.")
@click.option("--expires", type=duration, help="A call that waits longer fails.")
@click.option(
    "--max-retries",
    type=click.IntRange(0, 1000),
    help="Failed attempts that are followed by another.",
)
@click.option("--timeout", type=duration, help="Hard time limit of an attempt.")
@click.option("--wait", type=duration, help="Wait so long, and print the result.")
@json_option
@with_app
def enqueue_command(
    app: App,
    name: str,
    pairs: tuple[str, ...],
    json_args: str | None,
    wait: float | None,
    *,
    as_json: bool,
    **options: Any,
) -> None:
    """Store a call of the task NAME and print its id.

    A value is JSON, else text: n=3 is a number, n='"3"' is text. The task must
    be known here: from an installed plugin, or from --app. With --wait, the
    result is printed instead of the id, and the id goes to standard error.
    """  # noqa: DOC501 - this text is the command's help
    flow = app.flow
    if not flow.connection.server.shared:
        message = (
            "a task in memory:// ends with this process; name a server that lasts: "
            "--url embedded://PATH or --url redis://HOST"
        )
        raise EndError(message, USAGE)
    task = app.registry.get(name)
    arguments = read_arguments(pairs, json_args)
    try:
        call = task.options(**options).call_from_json(arguments)
    except ConfigurationError as error:
        raise EndError(str(error), USAGE) from error
    handle = flow.enqueue(call)
    answer: dict[str, Any] = {
        "task_id": handle.id,
        "state": "SCHEDULED" if options["delay"] else "PENDING",
        "created": handle.created,
    }
    if not handle.created:
        click.echo("this key was taken by the same call before", err=True)
        answer["state"] = str(handle.info().state)
    if wait is None:
        if as_json:
            text.as_json(answer)
        else:
            click.echo(handle.id)
        return
    click.echo(handle.id, err=True)
    result = flow.result(handle.id, from_json, wait)
    if as_json:
        text.as_json(answer | {"state": "COMPLETED", "result": result})
    elif isinstance(result, str):
        click.echo(text.block(result, indent=""))
    else:
        text.as_json(result)
