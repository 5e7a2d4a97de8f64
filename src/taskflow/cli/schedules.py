"""``taskflow schedules``: what runs by itself, hold it back, run it now."""

import click

from taskflow._client.flow import TaskFlow
from taskflow.cli import serializers, text
from taskflow.cli.options import Decorator, json_option, note, with_flow

name_argument: Decorator = click.argument("name")


@click.group("schedules")
def schedules_group() -> None:
    """See what runs by itself, hold it back, run it now."""


@schedules_group.command("list")
@json_option
@with_flow
def list_command(flow: TaskFlow, *, as_json: bool) -> None:
    """List the schedules, the next tick first."""
    found = flow.schedules.list()
    if as_json:
        text.as_json(serializers.schedules(found))
        return
    text.table(
        ("SCHEDULE", "TASK", "WHEN", "NEXT", "LAST", "LAST TASK", ""),
        (
            (
                each.name,
                each.task,
                each.when,
                text.moment(each.next_at),
                text.moment(each.last_at),
                each.last_task_id or "-",
                "paused" if each.paused_at else "",
            )
            for each in found
        ),
    )


@schedules_group.command("pause")
@name_argument
@with_flow
def pause_command(flow: TaskFlow, name: str) -> None:
    """Let the ticks of a schedule pass until it is resumed."""
    flow.schedules.pause(name)
    note(flow, "pause", schedule=name)
    click.echo(f"{name} is paused")


@schedules_group.command("resume")
@name_argument
@with_flow
def resume_command(flow: TaskFlow, name: str) -> None:
    """Let a schedule go on with its next tick."""
    flow.schedules.resume(name)
    note(flow, "resume", schedule=name)
    click.echo(f"{name} goes on")


@schedules_group.command("run")
@name_argument
@with_flow
def run_command(flow: TaskFlow, name: str) -> None:
    """Enqueue what a schedule runs, now, and print the task's id."""
    task_id = flow.schedules.run(name)
    note(flow, "run", schedule=name, task_id=task_id)
    click.echo(task_id)


@schedules_group.command("remove")
@name_argument
@with_flow
def remove_command(flow: TaskFlow, name: str) -> None:
    """Forget a schedule whose code is gone.

    A worker that still serves it makes it known again.
    """
    flow.schedules.remove(name)
    note(flow, "remove", schedule=name)
    click.echo(f"{name} is forgotten")
