"""What most commands have in common: where the tasks are, and arguments."""

import functools
import getpass
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import click
from attrs import frozen

from taskflow._client.flow import TaskFlow
from taskflow._settings import Settings, export_dotenv, load_settings, read_duration
from taskflow.cli.app_loading import App, load_app, load_host
from taskflow.cli.exit_codes import USAGE, EndError
from taskflow.cli.text import clean
from taskflow.errors import TaskFlowError

Command = Callable[..., Any]
Decorator: TypeAlias = Callable[[Command], Command]

_OPTIONS = (
    click.option(
        "--app",
        metavar="MODULE[:ATTRIBUTE]",
        help="A host's TaskFlow or Registry; else TASKFLOW_APP.",
    ),
    click.option("--url", help="Where tasks are kept; else the app's, or REDIS_URL."),
    click.option("--prefix", help="Stands before every Redis key, such as '{myapp}:'."),
    click.option(
        "--env-file",
        type=click.Path(path_type=Path),
        default=Path(".env"),
        show_default=True,
        help="Read settings from this file too, if it is there.",
    ),
)

json_option: Decorator = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON, for programs."
)
limit_option: Decorator = click.option(
    "--limit",
    type=click.IntRange(1, 200),
    default=50,
    show_default=True,
    help="Most entries to show.",
)
cursor_option: Decorator = click.option(
    "--cursor", default="", help="Continue where the page before ended."
)


def duration(value: str) -> float:
    """Read a duration as people write it: 30, 30s, 5m, 2h.

    Returns:
        Seconds.

    Raises:
        BadParameter: It is none, or negative.
    """
    try:
        seconds = read_duration(value)
    except ValueError as error:
        message = f"{value!r} must be {error}"
        raise click.BadParameter(message) from error
    if seconds < 0:
        message = f"{value!r} must not be negative"
        raise click.BadParameter(message)
    return seconds


@frozen
class Target:
    """Where the tasks are, as the options said it.

    Attributes:
        app: A host's flow or registry, or None.
        url: Of the server, or None.
        prefix: Of the keys, or None.
        env_file: A file of settings; need not be there.
    """

    app: str | None
    url: str | None
    prefix: str | None
    env_file: Path

    def settings(self) -> tuple[Settings, str | None]:
        """Return the settings in force, and the path of the host's app."""
        settings = load_settings(dotenv=self.env_file)
        return settings, self.app or settings.worker.app

    def open(self) -> TaskFlow:
        """Return the flow; the app is imported only when it says where tasks are.

        Raises:
            EndError: The app cannot be imported, or says half of where they are.
        """
        settings, path = self.settings()
        export_dotenv(self.env_file)
        return self._of_host(path) or TaskFlow(
            self.url, prefix=self.prefix, settings=settings
        )

    def _of_host(self, path: str | None) -> TaskFlow | None:
        if path is None or self.url is not None:
            return None
        host = _imported(lambda: load_host(path), path)
        if not isinstance(host, TaskFlow):
            return None
        if self.prefix is not None:
            # The app's server with another prefix, or the settings' server? One
            # of them is the wrong one to reset.
            message = f"app {path!r} says where tasks are: beside --prefix, name --url"
            raise EndError(message, USAGE)
        return host

    def load(self) -> App:
        """Return the flow and the tasks: the default's, the plugins', the host's.

        Raises:
            EndError: The app cannot be imported, or says half of where they are.
        """
        settings, path = self.settings()
        export_dotenv(self.env_file)
        self._of_host(path)
        url, prefix = self.url, self.prefix

        def loading() -> App:
            return load_app(path, url=url, prefix=prefix, settings=settings)

        app: App = _imported(loading, path or "")
        return app


def _imported(loading: Callable[[], Any], path: str) -> Any:
    try:
        return loading()
    except TaskFlowError:
        raise
    except Exception as error:
        message = f"app {path!r} cannot be imported: {type(error).__name__}: {error}"
        raise EndError(message) from error


def _with_options(function: Command) -> Command:
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def with_flow(function: Command) -> Command:
    """Give a command the flow as its first argument, and the options that name it.

    A group that is a command by itself hands what it was told to its subcommand,
    so that ``workers --url X drain ID`` drains where X is.

    Returns:
        The command with the options.
    """

    @functools.wraps(function)
    def opened(
        *,
        app: str | None,
        url: str | None,
        prefix: str | None,
        env_file: Path,
        **rest: Any,
    ) -> Any:
        context = click.get_current_context()
        if context.invoked_subcommand is not None:
            told = {"app": app, "url": url, "prefix": prefix, "env_file": env_file}
            context.default_map = {context.invoked_subcommand: told}
            return None
        with Target(app, url, prefix, env_file).open() as flow:
            return function(flow, **rest)

    return _with_options(opened)


def with_app(function: Command) -> Command:
    """Give a command the flow and the tasks as its first argument; see `with_flow`."""

    @functools.wraps(function)
    def opened(
        *,
        app: str | None,
        url: str | None,
        prefix: str | None,
        env_file: Path,
        **rest: Any,
    ) -> Any:
        loaded = Target(app, url, prefix, env_file).load()
        with loaded.flow:
            return function(loaded, **rest)

    return _with_options(opened)


def read_arguments(pairs: Sequence[str], json_text: str | None) -> dict[str, Any]:
    """Read arguments of a task from ``ARG=VALUE`` and from a JSON object.

    Args:
        pairs: A value is JSON, else text.
        json_text: A JSON object, ``-`` for standard input, or None.

    Returns:
        Values by name; what stands in *pairs* wins.

    Raises:
        EndError: It is nothing of the kind.
    """
    given = {} if json_text is None else _object(json_text)
    for pair in pairs:
        name, separator, text = pair.partition("=")
        if not separator or not name:
            message = f"{pair!r} is not ARG=VALUE"
            raise EndError(message, USAGE)
        given[name] = _value(text)
    return given


def _value(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return text


def _refuse(word: str) -> Any:
    raise ValueError(word)  # NaN and Infinity are no JSON, so they are text


def _object(text: str) -> dict[str, Any]:
    source = sys.stdin.read() if text == "-" else text
    try:
        found = json.loads(source, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        message = f"--json-args is no JSON: {error}"
        raise EndError(message, USAGE) from error
    if not isinstance(found, dict):
        message = '--json-args must be an object, such as \'{"url": "https://..."}\''
        raise EndError(message, USAGE)
    return found  # pyright: ignore[reportUnknownVariableType]


def note(flow: TaskFlow, event: str, **told: Any) -> None:
    """Write down who did what; the deed is done, so this never fails it."""
    try:
        flow.audit_log.record(event, actor=_actor(), **told)
    except TaskFlowError as error:
        click.echo(f"not written to the audit log: {clean(error)}", err=True)


def _actor() -> str:
    try:
        return f"cli:{getpass.getuser()}"
    except (OSError, KeyError, ImportError):
        return "cli"
