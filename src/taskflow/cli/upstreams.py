"""``taskflow upstreams``: the services that tasks call; open, close, reset."""

from typing import Any

import click

from taskflow._client.flow import TaskFlow
from taskflow._protocol.upstreams import UpstreamStatus
from taskflow.cli import serializers, text
from taskflow.cli.options import Decorator, duration, json_option, note, with_flow

name_argument: Decorator = click.argument("name", required=False)
all_option: Decorator = click.option(
    "--all", "everything", is_flag=True, help="All upstreams that are known."
)


@click.group("upstreams")
def upstreams_group() -> None:
    """See the services that tasks call; shut one, or let it be called again.

    NAME may be task:NAME, for the tasks of one name.
    """


@upstreams_group.command("list")
@json_option
@with_flow
def list_command(flow: TaskFlow, *, as_json: bool) -> None:
    """List the upstreams: whether they may be called, and what waits for them."""
    found = flow.upstreams.status()
    if as_json:
        text.as_json([serializers.upstream(each) for each in found])
        return
    text.table(
        ("UPSTREAM", "STATE", "WHY", "TRIED AGAIN", "FAILED", "RUNNING", "PARKED"),
        (
            (
                each.name,
                _state(each),
                each.reason or each.tap_reason or "-",
                text.moment(each.retry_at or each.tapped_until),
                f"{each.failures} of {each.calls}",
                _running(each),
                sum(each.parked.values()),
            )
            for each in found
        ),
    )


@upstreams_group.command("show")
@click.argument("name")
@json_option
@with_flow
def show_command(flow: TaskFlow, name: str, *, as_json: bool) -> None:
    """Show one upstream with all its figures."""
    found = flow.upstreams.get(name)
    if as_json:
        text.as_json(serializers.upstream(found))
        return
    text.facts(
        (
            ("name", found.name),
            ("state", _state(found)),
            ("shut by", found.shut_by or "-"),
            ("reason", found.reason or "-"),
            ("since", text.moment(found.since)),
            ("tried again", text.moment(found.retry_at)),
            ("tapped until", text.moment(found.tapped_until)),
            ("tap", found.tap_reason or "-"),
            ("failed", f"{found.failures} of {found.calls} calls"),
            ("running", _running(found)),
            ("probes", found.probes),
            ("rate", _rate(found)),
            *((f"parked, {lane}", count) for lane, count in found.parked.items()),
        )
    )


@upstreams_group.command("open")
@name_argument
@all_option
@click.option("--reason", default="", help="Shown wherever the upstream stands.")
@click.option(
    "--for",
    "expires",
    type=duration,
    default=None,
    help="Until a call may try it again, such as 30m; left out: until it is closed.",
)
@with_flow
def open_command(
    flow: TaskFlow,
    name: str | None,
    reason: str,
    expires: float | None,
    *,
    everything: bool,
) -> None:
    """Let no call of an upstream begin; its tasks wait."""
    chosen = _chosen(name, everything)
    changed = flow.upstreams.force_open(chosen, reason=reason, expires=expires)
    _told(flow, "open", changed, reason=reason)


@upstreams_group.command("close")
@name_argument
@all_option
@with_flow
def close_command(flow: TaskFlow, name: str | None, *, everything: bool) -> None:
    """Let an upstream be called again."""
    _told(flow, "close", flow.upstreams.force_close(_chosen(name, everything)))


@upstreams_group.command("reset")
@name_argument
@all_option
@with_flow
def reset_command(flow: TaskFlow, name: str | None, *, everything: bool) -> None:
    """As close, and forget what was counted: failures, tokens, permits."""
    _told(flow, "reset", flow.upstreams.reset(_chosen(name, everything)))


def _chosen(name: str | None, everything: bool) -> str | None:  # noqa: FBT001 - private
    if (name is None) != everything:
        message = "name one upstream, or say --all"
        raise click.UsageError(message)
    return name


def _told(flow: TaskFlow, verb: str, changed: tuple[str, ...], **facts: Any) -> None:
    words = {"open": "is shut", "close": "may be called", "reset": "is as new"}
    for name in changed:
        note(flow, f"upstream_{verb}", upstream=name, **facts)
        click.echo(f"{text.clean(name)} {words[verb]}")
    if not changed:
        click.echo("nothing to do")


def _state(found: UpstreamStatus) -> str:
    return "tapped" if found.state == "closed" and found.tapped_until else found.state


def _running(found: UpstreamStatus) -> str:
    most = found.concurrency
    return f"{found.running} of {most}" if most else str(found.running)


def _rate(found: UpstreamStatus) -> str:
    if found.limit is None or found.per is None or found.tokens is None:
        return "-"
    return f"{found.limit} in {found.per:g} s, {found.tokens:.0f} tokens left"
