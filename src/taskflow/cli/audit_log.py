"""``taskflow audit-log``: rare events of the fleet, and what people did."""

import json

import click

from taskflow._client.flow import TaskFlow
from taskflow.cli import serializers, text
from taskflow.cli.options import cursor_option, json_option, limit_option, with_flow


@click.command("audit-log")
@limit_option
@cursor_option
@json_option
@with_flow
def audit_log_command(
    flow: TaskFlow, limit: int, cursor: str, *, as_json: bool
) -> None:
    """List rare events, the newest first: dead letters, pauses, who did what."""
    try:
        entries = flow.audit_log.list(cursor=cursor, limit=limit)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    if as_json:
        text.as_json(serializers.audit_log(entries, limit))
        return
    text.table(
        ("AT", "EVENT", "ACTOR", "FACTS"),
        (
            (
                text.moment(entry.at),
                entry.event,
                entry.actor or "-",
                "  ".join(
                    f"{name}={value if isinstance(value, str) else json.dumps(value)}"
                    for name, value in entry.facts.items()
                ),
            )
            for entry in entries
        ),
    )
    if len(entries) == limit:
        click.echo(f"for more: --cursor {entries[-1].id}", err=True)
