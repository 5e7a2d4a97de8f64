"""The command ``taskflow`` and how it finds its subcommands.

Plugins add subcommands by an entry point in the group ``taskflow.commands``, a
click command; one is imported only when it is called or described.
"""

import sys
from importlib.metadata import EntryPoint, entry_points, version
from typing import Any

import click

from taskflow.cli.worker import worker_command
from taskflow.errors import TaskflowError

GROUP = "taskflow.commands"


class Commands(click.Group):
    """Our own commands, and those that plugins bring."""

    def _plugged(self) -> dict[str, EntryPoint]:
        return {each.name: each for each in entry_points(group=GROUP)}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, sorted."""
        return sorted({*super().list_commands(ctx), *self._plugged()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by its name; a plugin's is imported now."""
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
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
@click.version_option(version("asynctaskflow"), prog_name="taskflow")
def taskflow() -> None:
    """Background tasks that are not lost."""


taskflow.add_command(worker_command, "worker")


def _run(command: click.Command, name: str) -> None:
    """Run *command*; an error of ours is one clear sentence, not a traceback."""
    try:
        code: Any = command.main(prog_name=name, standalone_mode=False)
    except TaskflowError as error:
        click.echo(f"{name}: {error}", err=True)
        sys.exit(1)
    except click.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    sys.exit(code if isinstance(code, int) else 0)


def main() -> None:
    """Run the command ``taskflow``."""
    _run(taskflow, "taskflow")


def worker() -> None:
    """Run the command ``taskflow-worker``."""
    _run(worker_command, "taskflow-worker")
