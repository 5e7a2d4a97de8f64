"""``taskflow reset``: show what is there, and delete it when that is confirmed."""

import click

from taskflow._client.flow import TaskFlow
from taskflow._client.reset import Inventory, pass_over
from taskflow._protocol import consistency
from taskflow.cli import text
from taskflow.cli.exit_codes import FAILED, REFUSED, EndError
from taskflow.cli.options import json_option, with_flow
from taskflow.errors import ScriptError


@click.command("reset")
@click.option("--confirm", is_flag=True, help="Delete it; there is no way back.")
@click.option(
    "--all-data",
    is_flag=True,
    help="FLUSHALL: every key of every database, other applications' too.",
)
@click.option("--force", is_flag=True, help="Although workers are alive.")
@json_option
@with_flow
def reset_command(
    flow: TaskFlow, *, confirm: bool, all_data: bool, force: bool, as_json: bool
) -> int:
    """Show what a reset would delete; with --confirm, delete it.

    Deletes the keys of this prefix that are ours by name and by type, tasks in
    every state among them, and leaves all other keys of the server alone. Never
    asks, and is never run by another command.
    """  # noqa: DOC201, DOC501 - this text is the command's help
    found = flow.connection.run(pass_over(flow.connection, delete=False))
    alive = [worker.id for worker in flow.workers.list() if worker.alive]
    if not as_json:
        _show(flow, found, alive, all_data=all_data)
    if not confirm:
        if as_json:
            text.as_json(_shape(flow, found, alive, None))
        else:
            click.echo("\nNothing was deleted. To delete it: --confirm")
        return 0
    if alive and not force:
        message = (
            f"nothing was deleted: {text.many(len(alive), 'worker')} alive; stop them "
            "first (taskflow workers drain ID), or add --force"
        )
        raise EndError(message, REFUSED)
    if all_data:
        flow.connection.server.erase()
        gone = found
    else:
        gone = flow.connection.run(pass_over(flow.connection, delete=True))
    left = flow.connection.run(pass_over(flow.connection, delete=False)).total
    if as_json:
        text.as_json(_shape(flow, found, alive, gone))
    elif all_data:
        click.echo("\nDeleted: all data of the server.")
    else:
        click.echo(f"\nDeleted: {text.many(gone.total, 'key')}.")
    if left:
        click.echo(f"{text.many(left, 'key')} written meanwhile: still there", err=True)
    return FAILED if left and not force else 0


def _show(
    flow: TaskFlow, found: Inventory, alive: list[str], *, all_data: bool
) -> None:
    connection = flow.connection
    text.facts(
        (
            ("server", connection.server.display),
            ("prefix", connection.keys.prefix or "(none)"),
            ("workers alive", ", ".join(alive) or "none"),
        )
    )
    click.echo()
    try:
        text.table(("STATE", "TASKS"), list(flow.queues.status().states.items()))
    except ScriptError as error:
        click.echo(f"tasks cannot be counted: {text.clean(error)}")
    click.echo()
    kinds = [(kind, number) for kind, number in found.counts.items() if number]
    text.table(("KEYS OF OURS", "COUNT"), [*kinds, ("together", found.total)])
    if all_data:
        click.echo(
            "\nALL DATA of this server, every database, other applications' too: "
            f"{_keyspace(flow)}"
        )
    else:
        where = "under this prefix" if connection.keys.prefix else "of this database"
        click.echo(f"\n{text.many(found.others, 'other key')} {where} will stay")


def _keyspace(flow: TaskFlow) -> str:
    connection = flow.connection
    told = connection.runner.send(consistency.server_facts(connection.keys)).told
    databases = [
        f"{name} {value.partition(',')[0]}"
        for name, value in told.items()
        if name.startswith("db") and name[2:].isdecimal()
    ]
    empty = "nothing is there" if told else "how much cannot be told"
    return ", ".join(databases) or empty


def _shape(
    flow: TaskFlow, found: Inventory, alive: list[str], gone: Inventory | None
) -> dict[str, object]:
    connection = flow.connection
    return {
        "server": connection.server.display,
        "prefix": connection.keys.prefix,
        "workers_alive": alive,
        "found": found.counts,
        "others": found.others,
        "deleted": gone and gone.counts,
    }
