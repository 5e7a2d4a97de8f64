"""``taskflow-worker``: run tasks until told to stop."""

import asyncio
import gc
import importlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
from attrs import evolve

from taskflow._declare.ports import use
from taskflow._settings import (
    LogSettings,
    Settings,
    WorkerSettings,
    check_settings,
    export_dotenv,
    ignored_settings,
    load_settings,
    mask_url,
)
from taskflow._worker.executor import Engine
from taskflow._worker.executors.local import LocalEngine
from taskflow._worker.supervisor import (
    Supervisor,
    WorkerProcesses,
    python_command,
    watch_lifeline,
)
from taskflow._worker.worker import Worker
from taskflow.cli import logs
from taskflow.cli.app_loading import App, load_app, refuse_name_clash
from taskflow.cli.config import misspelt
from taskflow.cli.exit_guard import ExitGuard
from taskflow.errors import ConfigurationError
from taskflow.observers.logging import log_events

_logger = logging.getLogger("taskflow.worker")


_PLACE = (
    click.option(
        "--app",
        metavar="MODULE[:ATTRIBUTE]",
        help="A host's TaskFlow or Registry, served beside the installed plugins.",
    ),
    click.option("--url", help="Where tasks are kept; else the app's, or REDIS_URL."),
    click.option("--prefix", help="Stands before every Redis key, such as '{myapp}:'."),
)
_LOG = (
    click.option(
        "--log-level",
        type=click.Choice(
            ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], case_sensitive=False
        ),
        help="Least severity that is logged; else LOG_LEVEL.",
    ),
    click.option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        help="How lines are logged; else TASKFLOW_LOG_FORMAT.",
    ),
    click.option(
        "--env-file",
        type=click.Path(path_type=Path),
        default=Path(".env"),
        show_default=True,
        help="Read settings from this file too, if it is there.",
    ),
)


def _with(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Put *options* above a command, in their order."""

    def decorate(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


@click.command(
    "taskflow-worker", context_settings={"help_option_names": ["-h", "--help"]}
)
@_with(
    *_PLACE,
    click.option(
        "-c", "--concurrency", type=click.IntRange(min=1), help="Bodies at a time."
    ),
    click.option(
        "-e",
        "--executor",
        type=click.Choice(["asyncio", "celery"]),
        help="What runs the bodies; else TASKFLOW_EXECUTOR, else asyncio.",
    ),
    click.option(
        "-p",
        "--processes",
        type=click.IntRange(min=1),
        help="Worker processes, kept running by a supervisor.",
    ),
    *_LOG,
)
def worker_command(  # noqa: PLR0917 - click passes them by name
    app: str | None,
    url: str | None,
    prefix: str | None,
    concurrency: int | None,
    executor: str | None,
    processes: int | None,
    log_level: str | None,
    log_format: Any,
    env_file: Path,
) -> int:
    """Run tasks until told to stop.

    Serves every installed plugin, the tasks of the default registry, and those
    of --app. SIGTERM, SIGHUP or Ctrl-C: claim nothing more, finish what runs within
    WORKER_STOP_GRACE_PERIOD, release the rest, and exit. A second time: release now.
    """  # noqa: DOC201 - this text is the command's help
    refuse_name_clash()
    settings = _settings(
        env_file,
        {"concurrency": concurrency, "executor": executor, "processes": processes},
        log_level,
        log_format,
    )
    if settings.worker.processes > 1:
        logs.configure(settings.log)
        return _supervise(settings)
    export_dotenv(env_file)
    loaded = load_app(
        app or settings.worker.app, url=url, prefix=prefix, settings=settings
    )
    logs.configure(settings.log)
    for warning in misspelt(env_file):
        _logger.warning("%s", warning)
    ignored = ignored_settings(settings.worker.executor, dotenv=env_file)
    return _work(loaded, settings, ignored)


@click.command("scheduler")
@_with(*_PLACE, *_LOG)
def scheduler_command(
    app: str | None,
    url: str | None,
    prefix: str | None,
    log_level: str | None,
    log_format: Any,
    env_file: Path,
) -> int:
    """Do what keeps the fleet going, and run no task, until told to stop.

    Brings due tasks to their lanes, takes back what dead workers held, forgets
    what is old, and makes the ticks of schedules. Every worker does so too; a
    scheduler does it while no worker runs, or all are busy.
    """  # noqa: DOC201 - this text is the command's help
    refuse_name_clash()
    settings = _settings(env_file, {}, log_level, log_format)
    export_dotenv(env_file)
    loaded = load_app(
        app or settings.worker.app, url=url, prefix=prefix, settings=settings
    )
    logs.configure(settings.log)
    return _work(loaded, settings, (), claims=False)


def _settings(
    env_file: Path,
    given: Mapping[str, Any],
    log_level: str | None,
    log_format: Any,
) -> Settings:
    check_settings("worker", dotenv=env_file)
    settings = load_settings(dotenv=env_file)
    log = settings.log
    said = {name: value for name, value in given.items() if value is not None}
    worker = evolve(settings.worker, **said)
    log = LogSettings(
        level=(log_level or log.level).upper(), format=log_format or log.format
    )
    return evolve(settings, worker=worker, log=log)


def _supervise(settings: Settings) -> int:
    arguments = ["worker", *_without_processes(sys.argv[1:]), "--processes", "1"]
    supervisor = Supervisor(
        WorkerProcesses(
            command=python_command(*arguments),
            count=settings.worker.processes,
            grace=settings.worker.stop_grace_period + 5.0,
            environment=os.environ,
        ),
        tell=_logger.info,
    )
    signal.signal(signal.SIGTERM, supervisor.ask_stop)
    signal.signal(signal.SIGINT, supervisor.ask_stop)
    return supervisor.run()


def _without_processes(arguments: list[str]) -> list[str]:
    """Leave out what the supervisor reads itself, and our own name."""
    kept: list[str] = []
    skip = False
    for argument in arguments:
        if skip:
            skip = False
        elif argument in {"-p", "--processes"}:
            skip = True
        elif not argument.startswith(("--processes=", "-p")) and argument != "worker":
            kept.append(argument)
    return kept


def _work(
    app: App, settings: Settings, ignored: tuple[str, ...], *, claims: bool = True
) -> int:
    flow = app.flow
    server = flow.connection.server
    if not server.shared:
        problem = (
            f"a worker process cannot serve {server.display!r}: it lives in one "
            "process only; use embedded://PATH or redis://HOST"
        )
        raise ConfigurationError(problem)
    use(flow)
    engine = _engine(settings.worker) if claims else LocalEngine()
    worker = Worker(
        flow,
        registry=app.registry,
        settings=settings.worker,
        claims=claims,
        engine=engine,
    )
    click.echo(banner(app, worker, settings, ignored), err=True)
    if app.warning:
        _logger.warning("%s", app.warning)
    log_events(worker.events)
    guard = ExitGuard(worker, engine, settings.worker.stop_grace_period)
    # What was imported lives as long as the process: the garbage collector need not
    # look at it again and again.
    gc.collect()
    gc.freeze()

    def serve() -> None:
        guard.install()
        watch_lifeline(guard.stop)
        worker.run(loop_factory=_loop_factory())
        guard.code = 0

    try:
        engine.run(flow, worker.registry, worker.limits, serve)
    except Exception:
        if not worker.still_running:
            raise
        _logger.exception("the worker has failed")
    finally:
        guard.begin()
        flow.close()
        if worker.still_running:
            guard.end_now()
    return guard.code


def _engine(settings: WorkerSettings) -> Engine:
    if settings.executor != "celery":
        return LocalEngine()
    try:
        celery = importlib.import_module("taskflow._worker.executors.celery")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in {"billiard", "celery"}:
            raise
        problem = (
            f"TASKFLOW_EXECUTOR='celery' needs {error.name!r}, which is not installed: "
            "pip install 'asynctaskflow[celery]'"
        )
        raise ConfigurationError(problem) from error
    engine: Engine = celery.CeleryEngine(settings)
    return engine


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def banner(
    app: App, worker: Worker, settings: Settings, ignored: tuple[str, ...] = ()
) -> str:
    """Say what the worker is about to do, for people.

    Args:
        app: What it serves, and where.
        worker: The worker.
        settings: Those in force.
        ignored: Variables that are set and mean nothing to this executor.

    Returns:
        A few lines.
    """
    facts = worker.facts()
    names = facts["tasks"]
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if names[8:] else "")
    known, queue = settings.worker, settings.queue
    schedules = ", ".join(facts["schedules"][:8])
    lines = {
        facts["kind"]: f"{worker.id} (asynctaskflow {facts['version']}, "
        f"Python {facts['python']})",
        "server": mask_url(facts["server"])
        + (f", prefix {facts['prefix']!r}" if facts["prefix"] else ""),
        "executor": _executor(worker, known),
        "tasks": shown or "none: declare some with @taskflow.task and name --app",
        "plugins": ", ".join(app.plugins) or "none",
        "lanes": f"retry lane up to {queue.default_retry_ratio:.0%} while both wait",
        "limits": f"soft {_seconds(known.soft_time_limit)}, "
        f"hard {_seconds(known.time_limit)}, {queue.max_retries} retries, "
        f"lease {known.lease:g} s, grace {known.stop_grace_period:g} s",
    }
    if schedules:
        lines["schedules"] = schedules
    if not worker.slots:
        for name in ("executor", "tasks", "lanes", "limits"):
            del lines[name]
    if ignored:
        lines["ignored"] = (
            f"{', '.join(ignored)}: the {known.executor} executor has no children"
        )
    return "\n".join(f"  {name:<9} {text}" for name, text in lines.items())


def _executor(worker: Worker, settings: WorkerSettings) -> str:
    if settings.executor != "celery":
        return f"asyncio, concurrency {worker.slots}"
    ahead, tasks = settings.prefetch_multiplier, settings.max_tasks_per_child
    memory = settings.max_memory_per_child
    ends = [
        *([f"{tasks} task{'s'[tasks == 1 :]}"] if tasks else ()),
        *([f"{memory} kB"] if memory else ()),
    ]
    return (
        f"celery, prefork pool of {worker.slots}, prefetch x {ahead} "
        f"({worker.slots * ahead} in hand), "
        + (f"recycled after {' or '.join(ends)}" if ends else "never recycled")
    )


def _seconds(limit: float | None) -> str:
    return "none" if limit is None else f"{limit:g} s"
