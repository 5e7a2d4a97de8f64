"""``taskflow demo`` and ``taskflow summarize``: the whole thing, with no server.

Both start an embedded server in a folder of their own and a real worker process
beside it, and remove both at the end.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Generator, Sequence
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from taskflow import Call, QueueStatus, TaskFlow, TaskHandle, TaskState
from taskflow.cli.text import block, clean
from taskflow.errors import ResultError
from taskflow_summarize import _demo
from taskflow_summarize._content import check_options
from taskflow_summarize._prompt import STYLES, Style
from taskflow_summarize._tasks import summarize_text
from taskflow_summarize.errors import OptionError

STEADY = 150
FLAKY = 60
DEMO_PATIENCE = 120.0
"""Seconds after which a demo that has not finished is a failure."""

_LOG_TAIL = 20
_STOP_PATIENCE = 15.0
_LINE_EVERY = 0.5


@contextlib.contextmanager
def _stage(*arguments: str, concurrency: int = 10) -> Generator[TaskFlow]:
    """Keep a server and a worker process while the context lasts."""
    folder = Path(tempfile.mkdtemp(prefix="taskflow-demo-"))
    url = f"embedded://{folder / 'data'}"
    log = folder / "worker.log"
    command = [sys.executable, "-m", "taskflow", "worker", "--url", url, *arguments]
    reading, writing = os.pipe()  # closes if this process is killed: the worker ends
    try:
        with _exits_when_told(), TaskFlow(url) as flow, log.open("wb") as lines:
            flow.queues.status()  # the server runs from here on
            worker = subprocess.Popen(  # noqa: S603 - our own command
                [*command, "--concurrency", str(concurrency), "--log-level", "INFO"],
                stderr=lines,
                stdout=lines,
                env={
                    **os.environ,
                    "PYTHONUNBUFFERED": "1",
                    "TASKFLOW_LIFELINE": str(reading),
                },
                pass_fds=[reading],
            )
            try:
                yield flow
            except _WorkerGoneError:
                tail = log.read_text(encoding="utf-8", errors="replace").splitlines()
                click.echo(block("\n".join(tail[-_LOG_TAIL:]), indent=""), err=True)
                raise
            finally:
                _end(worker)
    finally:
        os.close(reading)
        os.close(writing)
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _exits_when_told() -> Generator[None]:
    """Let SIGTERM and SIGHUP end the program as Ctrl-C does, with what it started."""

    def end(number: int, frame: object) -> None:
        del frame
        raise SystemExit(128 + number)

    before = {
        each: signal.signal(each, end) for each in (signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _WorkerGoneError(click.ClickException):
    """The worker process did not do its work."""


def _end(worker: "subprocess.Popen[bytes]") -> None:
    worker.send_signal(signal.SIGTERM)
    try:
        worker.wait(_STOP_PATIENCE)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.wait()


def _samples() -> list[tuple[str, str]]:
    """Return names and texts of what ships with the package, by name."""
    folder = resources.files("taskflow_summarize") / "samples"
    texts = [each for each in folder.iterdir() if each.name.endswith(".txt")]
    return sorted((each.name, each.read_text(encoding="utf-8")) for each in texts)


@click.command()
@click.option("--once", is_flag=True, help="Run the work once, print it, and end.")
@click.option(
    "--max-words",
    default=60,
    show_default=True,
    type=click.IntRange(10, 2000),
    help="Length of each summary.",
)
def demo(once: bool, max_words: int) -> None:  # noqa: FBT001 - click passes it by name
    """Summarise real texts, retry what fails, and keep what dies.

    Needs no server, no key and no network: starts an embedded Valkey and a
    worker process, and removes both. Without --once, new work keeps coming
    until Ctrl-C, and the dashboard shows it.
    """
    click.echo("starting an embedded server and a worker process ...")
    with _stage("--app", "taskflow_summarize._demo:registry") as flow:
        summaries = _enqueue_demo(flow, max_words)
        _wait_for(flow, len(summaries) + STEADY + FLAKY + 1)
        _print_summaries(flow, summaries)
        _print_outcome(flow)
        if not once:
            _go_on(flow)


def _enqueue_demo(flow: TaskFlow, max_words: int) -> list[tuple[str, TaskHandle[str]]]:
    calls = [_demo.flaky.call(number=number) for number in range(FLAKY)]
    flow.enqueue_many(calls)
    flow.enqueue(_demo.doomed.call(invoice=4711))
    summaries = [
        (name, flow.enqueue(_offline(text, max_words))) for name, text in _samples()
    ]
    flow.enqueue_many([_demo.steady.call(number) for number in range(STEADY)])
    return summaries


def _offline(text: str, max_words: int) -> Call[str]:
    """Make a call that needs no network, whatever keys there are."""
    offline = summarize_text.options(upstream=False)
    return offline.call(text, max_words=max_words, provider="extractive")


def _ended(status: QueueStatus) -> int:
    return sum(count for state, count in status.states.items() if state.is_final)


def _wait_for(flow: TaskFlow, wanted: int) -> None:
    """Show live how the work goes, until *wanted* tasks have ended."""
    deadline = time.monotonic() + DEMO_PATIENCE
    with _display() as show:
        while True:
            status = flow.queues.status()
            show(status)
            if _ended(status) >= wanted:
                return
            if time.monotonic() > deadline:
                message = f"only {_ended(status)} of {wanted} tasks ended"
                raise _WorkerGoneError(message)
            time.sleep(0.1)


@contextlib.contextmanager
def _display() -> Generator[Callable[[QueueStatus], None]]:
    """Show a status: a live table where the terminal can, else lines."""
    try:
        from rich.live import Live
    except ImportError:
        live = None
    else:
        live = Live(refresh_per_second=10) if sys.stdout.isatty() else None
    if live is None:
        yield _LineDisplay().show
        return

    def show(status: QueueStatus) -> None:
        live.update(_table(status))

    with live:
        yield show


class _LineDisplay:
    """One line whenever the counts have changed, at most twice a second."""

    def __init__(self) -> None:
        self._last = ""
        self._shown_at = 0.0

    def show(self, status: QueueStatus) -> None:
        line = (
            f"  waiting {status.primary} new + {status.retry} retries"
            f", running {status.states[TaskState.ACTIVE]}"
            f", scheduled {status.scheduled}"
            f", completed {status.states[TaskState.COMPLETED]}"
            f", dead {status.dlq}"
        )
        if line != self._last and time.monotonic() - self._shown_at > _LINE_EVERY:
            click.echo(line)
            self._last, self._shown_at = line, time.monotonic()


def _table(status: QueueStatus) -> Any:
    from rich.table import Table

    table = Table(title="taskflow demo", min_width=48)
    table.add_column("state")
    table.add_column("tasks", justify="right")
    table.add_row("waiting: new", str(status.primary))
    table.add_row("waiting: retries", str(status.retry))
    for state in (
        TaskState.ACTIVE,
        TaskState.SCHEDULED,
        TaskState.COMPLETED,
        TaskState.DLQ,
    ):
        table.add_row(state.value.lower(), str(status.states[state]))
    table.add_section()
    served = f"{status.served_primary} new + {status.served_retry} retries"
    table.add_row("served in the last minute", served)
    return table


def _print_summaries(
    flow: TaskFlow, summaries: Sequence[tuple[str, TaskHandle[str]]]
) -> None:
    for name, handle in summaries:
        facts = flow.tasks.get(handle.id).annotations
        told = ", ".join(
            f"{label} {facts[label]}"
            for label in ("language", "method", "model")
            if facts.get(label)
        )
        click.echo()
        click.secho(clean(f"{name}{f'  ({told})' if told else ''}"), bold=True)
        try:
            summary = handle.result(timeout=5)
        except ResultError as error:
            click.echo(f"  {clean(error)}", err=True)
            continue
        click.echo(_wrapped(summary))


def _wrapped(text: str) -> str:
    """Indent and wrap *text*; its lines, such as points of a list, stay apart."""
    width = min(100, shutil.get_terminal_size().columns)
    return "\n".join(
        textwrap.fill(
            clean(line),
            width,
            initial_indent="  ",
            subsequent_indent="    " if line.startswith("- ") else "  ",
        )
        for line in text.expandtabs(4).replace("\r\n", "\n").split("\n")
    )


def _print_outcome(flow: TaskFlow) -> None:
    status = flow.queues.status()
    click.echo()
    click.secho("lanes", bold=True)
    ratio = status.served_ratio
    click.echo(
        f"  claims served: {status.served_primary} new, {status.served_retry} retries"
        + ("" if ratio is None else f" ({ratio:.0%} retries)")
        + f"; while both lanes wait, retries get {status.retry_ratio:.0%}"
    )
    click.secho("states", bold=True)
    counts = [f"{state} {count}" for state, count in status.states.items() if count]
    click.echo(f"  {', '.join(counts)}")
    click.secho("dead letters", bold=True)
    for group in flow.dlq.groups():
        click.echo(
            f"  {group.count} x {clean(group.task_name)}: {clean(group.error_type)}: "
            f"{clean(group.error_message)} (cause {group.cause})"
        )


@contextlib.contextmanager
def _dashboard(url: str) -> Generator[str | None]:
    """Serve the dashboard while the context lasts; give its address, if it can be."""
    if find_spec("uvicorn") is None or find_spec("sse_starlette") is None:
        yield None
        return
    command = [sys.executable, "-m", "taskflow", "dashboard", "--port", "0"]
    serving = subprocess.Popen(  # noqa: S603 - our own command
        [*command, "--url", url, "--log-level", "ERROR"],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = serving.stderr.readline() if serving.stderr else ""
        found = re.search(r"http://\S+", line)
        yield found[0] if found else None
    finally:
        serving.terminate()
        serving.communicate()


def _go_on(flow: TaskFlow) -> None:
    """Keep new work coming until Ctrl-C."""
    click.echo("\nnew work keeps coming; Ctrl-C ends it")
    number = STEADY
    with (
        contextlib.suppress(KeyboardInterrupt),
        _dashboard(flow.connection.display) as address,
        _display() as show,
    ):
        if address:
            click.secho(f"dashboard: {address}", bold=True)
        while True:
            flow.enqueue_many(
                [
                    *(_demo.steady.call(number + each) for each in range(8)),
                    *(_demo.flaky.call(number=number + each) for each in range(2)),
                ]
            )
            number += 8
            for _ in range(5):
                show(flow.queues.status())
                time.sleep(0.1)


@click.command()
@click.argument(
    "files", nargs=-1, required=True, metavar="FILE...", type=click.File("rb")
)
@click.option(
    "--max-words",
    default=120,
    show_default=True,
    type=click.IntRange(10, 2000),
    help="Length of each summary.",
)
@click.option(
    "--style", default="paragraph", show_default=True, type=click.Choice(STYLES)
)
@click.option(
    "--language",
    default="auto",
    show_default=True,
    metavar="CODE",
    help="Language to write in; models only.",
)
@click.option("--focus", default="", help="What you want to know; models only.")
def summarize(
    files: tuple[Any, ...], max_words: int, style: Style, language: str, focus: str
) -> None:
    """Summarise text files; - reads standard input.

    Offline unless OPENROUTER_API_KEY is set. Needs no server: starts an
    embedded one and a worker process, and removes both.
    """
    # A file's text is a task's argument here, and may be as large as the
    # summariser takes; JSON writes some characters as six.
    os.environ.setdefault("TASKFLOW_MAX_PAYLOAD_BYTES", str(16 * 1024 * 1024))
    _check(max_words, language, focus)
    wish: dict[str, Any] = {"style": style, "language": language, "focus": focus}
    calls = [
        (each.name, summarize_text.call(_text(each), max_words=max_words, **wish))
        for each in files
    ]
    with _stage(concurrency=4) as flow:
        handles = [(name, flow.enqueue(call)) for name, call in calls]
        failed = False
        for name, handle in handles:
            if len(handles) > 1:
                click.secho(clean(name), bold=True)
            try:
                click.echo(_wrapped(handle.result(timeout=600)))
            except ResultError as error:
                click.echo(clean(f"{name}: {error}"), err=True)
                failed = True
    if failed:
        sys.exit(1)


def _check(max_words: int, language: str, focus: str) -> None:
    try:
        check_options(max_words=max_words, language=language, focus=focus)
    except OptionError as error:
        raise click.UsageError(str(error)) from error


def _text(file: Any) -> str:
    try:
        text: str = file.read().decode("utf-8")
    except UnicodeDecodeError as error:
        message = f"{file.name}: not UTF-8 text: {error}"
        raise click.ClickException(message) from error
    return text
