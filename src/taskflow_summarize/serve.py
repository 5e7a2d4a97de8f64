"""``taskflow api``, ``dashboard`` and ``api-key``: the service from a shell."""

import contextlib
import importlib
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import click
from attrs import evolve

from taskflow.cli.app_loading import load_app, refuse_name_clash
from taskflow.cli.logs import configure
from taskflow.errors import ConfigurationError
from taskflow.settings import (
    Settings,
    check_settings,
    export_dotenv,
    load,
    load_settings,
)
from taskflow_summarize._api_settings import ApiSettings

GRACE = 10
"""Seconds for requests underway when the process is asked to stop; streams end
at once."""


def _env_file(command: Any) -> Any:
    return click.option(
        "--env-file",
        type=click.Path(path_type=Path),
        default=Path(".env"),
        show_default=True,
        help="Read settings from this file too, if it is there.",
    )(command)


_PORT = click.IntRange(0, 65535)


def _service_options(command: Any) -> Any:
    """Add what both services are told, last option first."""
    for option in (
        _env_file,
        click.option("--log-level", help="Least severity shown; else LOG_LEVEL."),
        click.option(
            "--root-path", default="", help="Prefix that a proxy has stripped."
        ),
        click.option(
            "--prefix", help="Stands before every Redis key, such as '{myapp}:'."
        ),
        click.option(
            "--url", help="Where tasks are kept; else the app's, or REDIS_URL."
        ),
        click.option(
            "--app",
            metavar="MODULE[:ATTRIBUTE]",
            help="A host's TaskFlow or Registry, whose tasks may be created too.",
        ),
        click.option("--host", help="Address to listen on; else TASKFLOW_API_HOST."),
    ):
        command = option(command)
    return command


@click.command()
@_service_options
@click.option("--port", type=_PORT, help="Port; else TASKFLOW_API_PORT.")
def api(  # noqa: PLR0917 - click passes them by name
    host: str | None,
    port: int | None,
    app: str | None,
    url: str | None,
    prefix: str | None,
    root_path: str,
    log_level: str | None,
    env_file: Path,
) -> None:
    """Serve the HTTP API, on 127.0.0.1:8000 unless said otherwise.

    Needs no worker and no Celery; tasks are stored for whoever works. SIGTERM or
    Ctrl-C: open streams end, requests finish, and the process with them.
    """
    refuse_name_clash()
    settings, known = read_settings(env_file, host, port, log_level)
    loaded = load_app(
        app or settings.worker.app, url=url, prefix=prefix, settings=settings
    )
    _create = _import("taskflow_summarize.app").create_app
    run(
        _create(loaded.flow, settings=known, root_path=root_path),
        known,
        lambda page: click.echo(f"API: {page}docs", err=True),
    )
    loaded.flow.close()


@click.command()
@_service_options
@click.option(
    "--port",
    type=_PORT,
    default=3000,
    show_default=True,
    help="Port; 0 for any that is free.",
)
def dashboard(  # noqa: PLR0917 - click passes them by name
    host: str | None,
    port: int,
    app: str | None,
    url: str | None,
    prefix: str | None,
    root_path: str,
    log_level: str | None,
    env_file: Path,
) -> None:
    """Serve the dashboard with the HTTP API beside it, on 127.0.0.1:3000.

    The page is at /, the API below it as 'taskflow api' has it, and the same keys
    let people in. Without keys it prints a link that lets one browser of this
    machine do everything, and the next one when that was used. Needs no other
    process: it reads where tasks are kept.
    """
    refuse_name_clash()
    settings, known = read_settings(env_file, host, port, log_level)
    loaded = load_app(
        app or settings.worker.app, url=url, prefix=prefix, settings=settings
    )
    service = _import("taskflow_summarize.app")
    page = _import("taskflow_summarize.dashboard")
    access = service.access_of(known)
    application = service.create_app(
        loaded.flow, access=access, settings=known, root_path=root_path
    )
    application.include_router(page.create_dashboard(access=access))
    if isinstance(access, _import("taskflow_summarize.routers._local").LocalAccess):
        access.on_new_link = _show_dashboard
        run(application, known, lambda page: _show_dashboard(access.new_link(page)))
    else:
        run(application, known, _show_dashboard)
    loaded.flow.close()


def read_settings(
    env_file: Path, host: str | None, port: int | None, log_level: str | None
) -> tuple[Settings, ApiSettings]:
    """Read the settings of the service and of the library, and begin to log.

    Args:
        env_file: Read too, if it is there.
        host: Overrides the setting.
        port: Overrides the setting.
        log_level: Overrides the setting.

    Returns:
        Both.

    Raises:
        ConfigurationError: Something is wrong; all of it is listed.
    """
    export_dotenv(env_file)
    given = {"TASKFLOW_API_HOST": host, "TASKFLOW_API_PORT": port}
    chosen = {name: str(value) for name, value in given.items() if value is not None}
    check_settings("api", {**os.environ, **chosen}, dotenv=env_file)
    settings = load_settings()
    known = load(ApiSettings, {**os.environ, **chosen})
    log = settings.log
    configure(log if log_level is None else evolve(log, level=log_level.upper()))
    return settings, known


def _show_dashboard(link: str) -> None:
    with contextlib.suppress(OSError):  # nobody may read it any more
        click.echo(f"dashboard: {link}", err=True)


def run(app: Any, known: ApiSettings, show: Callable[[str], None]) -> None:
    """Serve *app* until told to stop.

    Args:
        app: An ASGI application.
        known: Where to listen.
        show: Given the address, with a slash at its end, once it is listened to.

    Raises:
        ConfigurationError: The server is not installed, or the port is taken.
    """
    uvicorn = _import("uvicorn")
    listening = _listen(known)
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    show(f"http://{shown}:{port}/")
    config = uvicorn.Config(
        app,
        http=_import("taskflow_summarize._head_timeout").HeadTimeoutProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=GRACE,
        # A proxy on this machine may say who its client is; nobody else.
        proxy_headers=True,
        forwarded_allow_ips="127.0.0.1",
        server_header=False,
    )
    # The server has its own handlers while it runs, and then raises what it caught
    # once more: that would end us before our connections are closed.
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, _heard)
    uvicorn.Server(config).run(sockets=[listening])


def _heard(signum: int, frame: FrameType | None) -> None:
    """Do nothing: the server has ended because of it already."""


def _listen(known: ApiSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in known.host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((known.host, known.port))
        listening.listen(1024)  # who reads the address below may come at once
    except OSError as error:
        listening.close()
        problem = (
            f"cannot listen on {known.host} port {known.port}: {error.strerror}; "
            "choose another with --port, or 0 for any that is free"
        )
        raise ConfigurationError(problem) from error
    return listening


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("taskflow"):
            raise
        problem = f"this needs {error.name!r}: pip install 'asynctaskflow[api]'"
        raise ConfigurationError(problem) from error


@click.command("api-key")
@click.argument("name")
@click.option(
    "--level",
    type=click.Choice(["read", "operate", "admin"]),
    default="operate",
    show_default=True,
    help="What its holder may do.",
)
def api_key(name: str, level: str) -> None:
    """Make a key for the API, and its entry for TASKFLOW_API_KEYS.

    The key is shown once and stored nowhere. Entries of several keys are separated
    by commas; to change a key, add the new entry before you take out the old one.
    """
    routers = _import("taskflow_summarize.routers")
    key, entry = routers.make_key(name, routers.Level.parse(level))
    ApiSettings(keys=(entry,))  # refuses a name that an entry cannot hold
    click.echo(f"key:   {key}")
    click.echo(f"entry: {entry}")
