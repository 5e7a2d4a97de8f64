"""``taskflow demo`` and ``taskflow summarize``: the whole thing, with no server.

Both start an embedded server in a folder of their own and a real worker process
beside it, and remove both at the end.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Generator, Sequence
from importlib import resources
from importlib.util import find_spec
from typing import Any

import click

from taskflow import Call, QueueStatus, TaskFlow, TaskHandle, TaskState
from taskflow.cli.text import clean
from taskflow.errors import ResultError, ResultTimeoutError
from taskflow_summarize import _demo
from taskflow_summarize._content import check_options
from taskflow_summarize._prompt import STYLES, Style
from taskflow_summarize._stage import Exits, Stage, WorkerGoneError, stage
from taskflow_summarize._tasks import summarize_text
from taskflow_summarize.errors import AccountError, OptionError

STEADY = 150
FLAKY = 60
DEMO_PATIENCE = 120.0
"""Seconds after which a demo that has not finished is a failure."""

PROVIDER_PATIENCE = 6.0
"""Seconds for which a provider that fails is tried again."""

_LINE_EVERY = 0.5


class _ProviderFailedError(click.ClickException):
    """The provider gives no summary, and waiting longer won't help."""


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
    with stage("--app", "taskflow_summarize._demo:registry") as here:
        flow = here.flow
        summaries = _enqueue_demo(flow, max_words)
        _wait_for(here, len(summaries) + STEADY + FLAKY + 1)
        _print_summaries(flow, summaries)
        _print_outcome(flow)
        if not once:
            _go_on(here)


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


def _wait_for(here: Stage, wanted: int) -> None:
    """Show live how the work goes, until *wanted* tasks have ended."""
    deadline = time.monotonic() + DEMO_PATIENCE
    with _display() as show:
        while True:
            status = here.flow.queues.status()
            show(status)
            if _ended(status) >= wanted:
                return
            here.check_worker()
            if time.monotonic() > deadline:
                message = f"only {_ended(status)} of {wanted} tasks ended"
                raise WorkerGoneError(message)
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
def _dashboard(url: str, exits: Exits) -> Generator[str | None]:
    """Serve the dashboard while the context lasts; give its address, if it can be."""
    if find_spec("uvicorn") is None or find_spec("sse_starlette") is None:
        yield None
        return
    command = [sys.executable, "-m", "taskflow", "dashboard", "--port", "0"]
    with contextlib.ExitStack() as stack:
        with exits.held():
            serving = subprocess.Popen(  # noqa: S603 - our own command
                [*command, "--url", url, "--log-level", "ERROR"],
                stderr=subprocess.PIPE,
                text=True,
            )
            stack.callback(serving.communicate)
            stack.callback(serving.terminate)
        line = serving.stderr.readline() if serving.stderr else ""
        found = re.search(r"http://\S+", line)
        yield found[0] if found else None


def _go_on(here: Stage) -> None:
    """Keep new work coming until Ctrl-C."""
    click.echo("\nnew work keeps coming; Ctrl-C ends it")
    number, flow = STEADY, here.flow
    with (
        contextlib.suppress(KeyboardInterrupt),
        _dashboard(flow.connection.display, here.exits) as address,
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
    embedded one and a worker process, and removes both. Ends with exit code 1 if the
    key is rejected, or if the provider has failed for some seconds.
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
    with stage(concurrency=4) as here:
        handles = [(name, here.flow.enqueue(call)) for name, call in calls]
        failed = False
        for name, handle in handles:
            if len(handles) > 1:
                click.secho(clean(name), bold=True)
            try:
                click.echo(_wrapped(_summary(here, handle)))
            except ResultError as error:
                click.echo(clean(f"{name}: {error}"), err=True)
                failed = True
    if failed:
        sys.exit(1)


def _summary(here: Stage, handle: TaskHandle[str]) -> str:
    """Wait for a summary, unless its provider keeps failing.

    Returns:
        The summary.

    Raises:
        _ProviderFailedError: A person has to act, or it has failed for too long.
    """
    failing_since: float | None = None
    while True:
        with contextlib.suppress(ResultTimeoutError):
            return handle.result(timeout=0.2)
        here.check_worker()
        record = here.flow.tasks.get(handle.id)
        if not record.error_type:
            continue
        now = time.monotonic()
        failing_since = now if failing_since is None else failing_since
        is_hopeless = record.error_type == AccountError.__name__
        # The error of an earlier attempt says nothing of one that runs.
        is_waiting = record.state is not TaskState.ACTIVE
        if is_hopeless or (is_waiting and now - failing_since > PROVIDER_PATIENCE):
            message = f"{record.error_type}: {record.error_message}"
            raise _ProviderFailedError(message)


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
