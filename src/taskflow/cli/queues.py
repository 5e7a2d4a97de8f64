"""``taskflow queues``: how much waits, and holding a lane back."""

import sys
import time
from typing import Literal, cast

import click

from taskflow._client.flow import TaskFlow
from taskflow._protocol.queue_status import QueueStatus
from taskflow.cli import serializers, text
from taskflow.cli.options import Decorator, duration, json_option, note, with_flow

lane_argument: Decorator = click.argument(
    "lane", type=click.Choice(["primary", "retry"])
)


@click.group("queues")
def queues_group() -> None:
    """See how much waits, and hold a lane back."""


@queues_group.command("status")
@click.option("--watch", is_flag=True, help="Show it again and again, until Ctrl-C.")
@click.option(
    "--every",
    type=duration,
    default=1.0,
    show_default="1s",
    help="How often --watch looks.",
)
@json_option
@with_flow
def status_command(flow: TaskFlow, every: float, *, watch: bool, as_json: bool) -> None:
    """Count the tasks in every lane and state.

    With --watch --json, one line of JSON each time.
    """
    while True:
        found = flow.queues.status()
        if as_json:
            text.as_json(serializers.status(found), indent=None if watch else 2)
        else:
            if watch and sys.stdout.isatty():
                click.clear()
            _show(found)
        if not watch:
            return
        sys.stdout.flush()
        time.sleep(max(0.1, every))


def _show(found: QueueStatus) -> None:
    text.table(
        ("LANE", "WAITING", "OLDEST", "SERVED/MIN", ""),
        (
            (
                "primary",
                found.primary,
                text.span(found.oldest_primary_age),
                found.served_primary,
                _paused(found, "primary"),
            ),
            (
                "retry",
                found.retry,
                text.span(found.oldest_retry_age),
                found.served_retry,
                _paused(found, "retry"),
            ),
        ),
    )
    click.echo()
    text.table(("STATE", "TASKS"), list(found.states.items()))
    click.echo()
    served = found.served_ratio
    text.facts(
        (
            ("retry share in force", f"{found.retry_ratio:.0%}"),
            ("served, last minute", "-" if served is None else f"{served:.0%}"),
            ("suspects", found.suspects),
            ("parked for an upstream", found.parked),
            ("at", text.moment(found.now)),
        )
    )


def _paused(found: QueueStatus, lane: str) -> str:
    return "paused" if lane in found.paused else ""


@queues_group.command("pause")
@lane_argument
@with_flow
def pause_command(flow: TaskFlow, lane: str) -> None:
    """Let no worker claim from a lane until it is resumed.

    What runs goes on, and new tasks are still stored.
    """
    flow.queues.pause(cast("Literal['primary', 'retry']", lane))
    note(flow, "pause", lane=lane)
    click.echo(f"{lane} is paused")


@queues_group.command("resume")
@lane_argument
@with_flow
def resume_command(flow: TaskFlow, lane: str) -> None:
    """Let workers claim from a lane again."""
    flow.queues.resume(cast("Literal['primary', 'retry']", lane))
    note(flow, "resume", lane=lane)
    click.echo(f"{lane} goes on")
