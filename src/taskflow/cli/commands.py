"""The command ``taskflow`` and how it finds its subcommands.

A subcommand of ours is a line in `OWN`: where it is, and its help in one line.
Its module is imported when it is called, so that ``taskflow --help`` and a probe
that runs every few seconds do not pay for the others. Plugins add subcommands
by an entry point in the group ``taskflow.commands``, a click command; one is
imported only when it is called or described.
"""

from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

import click
from attrs import frozen

from taskflow.cli import exit_codes

GROUP = "taskflow.commands"


@frozen
class BuiltIn:
    """A subcommand of ours that is not imported yet.

    Attributes:
        target: ``module:attribute`` of the click command.
        help: The first sentence of its help, without the full stop.
    """

    target: str
    help: str

    def load(self) -> click.Command:
        """Import the command."""
        module, _, attribute = self.target.partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command


OWN: Final[dict[str, BuiltIn]] = {
    "cancel": BuiltIn(
        "taskflow.cli.tasks:cancel_command",
        "Stop tasks: at once while they wait, on request while they run",
    ),
    "config": BuiltIn(
        "taskflow.cli.config:config_command",
        "Show every setting in force, and where it comes from",
    ),
    "delete": BuiltIn(
        "taskflow.cli.tasks:delete_command",
        "Remove tasks with everything that belongs to them",
    ),
    "dlq": BuiltIn(
        "taskflow.cli.dlq:dlq_group",
        "See dead letters, mend them, bring them back or drop them",
    ),
    "doctor": BuiltIn(
        "taskflow.cli.doctor:doctor_command",
        "Check what loses tasks before it does, and prove where every record stands",
    ),
    "enqueue": BuiltIn(
        "taskflow.cli.enqueue:enqueue_command",
        "Store a call of the task NAME and print its id",
    ),
    "health": BuiltIn(
        "taskflow.cli.health:health", "Probe the workers or the API of this machine"
    ),
    "audit-log": BuiltIn(
        "taskflow.cli.audit_log:audit_log_command",
        "List rare events, the newest first: dead letters, pauses, who did what",
    ),
    "list": BuiltIn(
        "taskflow.cli.tasks:list_command", "List tasks, the running ones first"
    ),
    "queues": BuiltIn(
        "taskflow.cli.queues:queues_group",
        "See how much waits, and hold a lane back",
    ),
    "requeue-orphaned": BuiltIn(
        "taskflow.cli.tasks:requeue_orphaned_command",
        "Bring back tasks whose worker died, and those that stand in no home",
    ),
    "reset": BuiltIn(
        "taskflow.cli.reset:reset_command",
        "Show what a reset would delete; with --confirm, delete it",
    ),
    "retry": BuiltIn("taskflow.cli.tasks:retry_command", "Bring tasks back to work"),
    "scheduler": BuiltIn(
        "taskflow.cli.worker:scheduler_command",
        "Do what keeps the fleet going, and run no task, until told to stop",
    ),
    "schedules": BuiltIn(
        "taskflow.cli.schedules:schedules_group",
        "See what runs by itself, hold it back, run it now",
    ),
    "show": BuiltIn(
        "taskflow.cli.tasks:show_command",
        "Show a task whole: state, arguments, result, timeline, dead letter",
    ),
    "upstreams": BuiltIn(
        "taskflow.cli.upstreams:upstreams_group",
        "See the services that tasks call; shut one, or let it be called again",
    ),
    "worker": BuiltIn(
        "taskflow.cli.worker:worker_command", "Run tasks until told to stop"
    ),
    "workers": BuiltIn(
        "taskflow.cli.workers:workers_group",
        "List the workers: how they are, and what each runs for how long",
    ),
}


class Commands(click.Group):
    """Our own commands, and those that plugins bring."""

    def _plugged(self) -> dict[str, EntryPoint]:
        return {each.name: each for each in entry_points(group=GROUP)}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, sorted."""
        return sorted({*super().list_commands(ctx), *OWN, *self._plugged()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by its name; it is imported now."""
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        if cmd_name in OWN:
            return OWN[cmd_name].load()
        plugged = self._plugged().get(cmd_name)
        if plugged is None:
            return None
        try:
            command = plugged.load()
        except Exception as error:  # noqa: BLE001 - whatever its import does
            return _broken(plugged, f"{type(error).__name__}: {error}")
        if not isinstance(command, click.Command):
            return _broken(plugged, "it is no click command")
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a reader that went away is no error of it."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            return exit_codes.PIPE_CLOSED

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that *args* begin with; help the one who mistyped it."""
        typed, known = args[0], self.list_commands(ctx)
        if typed not in known and not typed.startswith("-"):
            close = get_close_matches(typed, known, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            ctx.fail(f"No such command {typed!r}.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """Write the list of commands; ours are described without their modules."""
        rows: list[tuple[str, str]] = []
        for name in self.list_commands(ctx):
            own = OWN.get(name)
            command = None if own else self.get_command(ctx, name)
            if own:
                rows.append((name, f"{own.help}."))
            elif command is not None and not command.hidden:
                rows.append((name, command.get_short_help_str(limit=72)))
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _broken(plugged: EntryPoint, why: str) -> click.Command:
    """Make a command that says why it cannot run; the others still can."""

    def refuse() -> None:
        message = f"command {plugged.name!r} ({plugged.value}) cannot be loaded: {why}"
        raise click.ClickException(message)

    return click.Command(
        plugged.name,
        callback=refuse,
        short_help=f"(cannot be loaded: {why})",
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="asynctaskflow", prog_name="taskflow")
def taskflow() -> None:
    """Background tasks that are not lost."""


def main() -> None:
    """Run the command ``taskflow``."""
    exit_codes.run(taskflow, "taskflow")


def worker() -> None:
    """Run the command ``taskflow-worker``."""
    exit_codes.run(OWN["worker"].load(), "taskflow-worker")
