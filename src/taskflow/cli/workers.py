"""``taskflow workers``: which beat, what each runs, and asking one to stop."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import click

from taskflow._client.flow import TaskFlow
from taskflow._protocol.queue_status import WorkerStatus
from taskflow.cli import serializers, text
from taskflow.cli.exit_codes import NOT_FOUND, EndError
from taskflow.cli.options import json_option, note, with_flow


@click.group("workers", invoke_without_command=True)
@click.option("--all", "gone", is_flag=True, help="Those that stopped beating, too.")
@json_option
@with_flow
def workers_group(flow: TaskFlow, *, gone: bool, as_json: bool) -> None:
    """List the workers: how they are, and what each runs for how long."""
    now = flow.queues.status().now
    found = [worker for worker in flow.workers.list() if worker.alive or gone]
    if as_json:
        text.as_json(serializers.workers(found, now))
        return
    text.table(
        ("WORKER", "STATUS", "KIND", "RUNNING", "DONE", "FAILED", "LAST BEAT"),
        (_row(worker, now) for worker in found),
    )
    running = list(_running(found))
    if running:
        click.echo()
        text.table(("WORKER", "TASK", "NAME", "ATTEMPT", "FOR"), running)
    if not found:
        click.echo("no worker is alive", err=True)


def _row(worker: WorkerStatus, now: datetime) -> tuple[Any, ...]:
    info = worker.info
    slots = info.get("concurrency")
    running = len(info.get("running", ()))
    return (
        worker.id,
        worker.condition(now),
        worker.kind,
        f"{running} of {slots}" if slots else running,
        info.get("done", 0),
        info.get("failed", 0),
        text.ago(worker.last_beat_at, now),
    )


def _running(found: Iterable[WorkerStatus]) -> Iterable[tuple[Any, ...]]:
    for worker in found:
        for body in worker.info.get("running", ()):
            yield (
                worker.id,
                body.get("id", ""),
                body.get("name", ""),
                body.get("attempt", ""),
                text.span(body.get("seconds")),
            )


@workers_group.command("drain")
@click.argument("worker_id", metavar="ID")
@with_flow
def drain_command(flow: TaskFlow, worker_id: str) -> None:
    """Ask a worker to finish what it runs, claim nothing more, and stop.

    It hears of it with its next beat, within 5 s.
    """  # noqa: DOC501 - this text is the command's help
    if not flow.workers.drain(worker_id):
        message = f"no worker {worker_id!r} is alive; taskflow workers lists them"
        raise EndError(message, NOT_FOUND)
    note(flow, "drain", worker=worker_id)
    click.echo(f"{text.clean(worker_id)} was asked to finish and stop")
