"""An embedded server and a worker process, for the time of one command."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any, Self

import click
from attrs import frozen

from taskflow import TaskFlow
from taskflow.cli.text import block

_LOG_TAIL = 20
_STOP_PATIENCE = 15.0


class WorkerGoneError(click.ClickException):
    """The worker process did not do its work."""


class Exits:
    """Lets SIGTERM and SIGHUP end the program as Ctrl-C does, with what it started."""

    def __init__(self) -> None:
        self._is_held = False
        self._number = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGTERM, signal.SIGHUP):
            self._before[number] = signal.signal(number, self._end)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _end(self, number: int, frame: object) -> None:
        del frame
        self._number = number
        self._exit()

    def _exit(self) -> None:
        if self._number and not self._is_held:
            raise SystemExit(128 + self._number)

    @contextlib.contextmanager
    def held(self) -> Generator[None]:
        """Exit only at the end of the block: a process that it starts isn't lost."""
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False
        self._exit()


@frozen
class Stage:
    """What runs for a command: where its tasks are, its worker, and its exit.

    Attributes:
        flow: On the embedded server.
        worker: The process.
        exits: Holds signals back while processes start.
    """

    flow: TaskFlow
    worker: "subprocess.Popen[bytes]"
    exits: Exits

    def check_worker(self) -> None:
        """Stop waiting for a worker that has ended.

        Raises:
            WorkerGoneError: It has.
        """
        code = self.worker.poll()
        if code is not None:
            message = f"the worker process ended with code {code}"
            raise WorkerGoneError(message)


@contextlib.contextmanager
def stage(*arguments: str, concurrency: int = 10) -> Generator[Stage]:
    """Keep a server and a worker process while the context lasts."""
    folder = Path(tempfile.mkdtemp(prefix="taskflow-demo-"))
    url = f"embedded://{folder / 'data'}"
    log = folder / "worker.log"
    command = [sys.executable, "-m", "taskflow", "worker", "--url", url, *arguments]
    command += ["--concurrency", str(concurrency), "--log-level", "INFO"]
    reading, writing = os.pipe()  # closes if this process is killed: the worker ends
    try:
        with (
            Exits() as exits,
            TaskFlow(url) as flow,
            log.open("wb") as lines,
            contextlib.ExitStack() as stack,
        ):
            with exits.held():
                flow.queues.status()  # the server runs from here on
                worker = subprocess.Popen(  # noqa: S603 - our own command
                    command,
                    stderr=lines,
                    stdout=lines,
                    env={
                        **os.environ,
                        "PYTHONUNBUFFERED": "1",
                        "TASKFLOW_LIFELINE": str(reading),
                    },
                    pass_fds=[reading],
                )
                stack.callback(_end, worker)
            try:
                yield Stage(flow, worker, exits)
            except WorkerGoneError:
                tail = log.read_text(encoding="utf-8", errors="replace").splitlines()
                click.echo(block("\n".join(tail[-_LOG_TAIL:]), indent=""), err=True)
                raise
    finally:
        os.close(reading)
        os.close(writing)
        shutil.rmtree(folder, ignore_errors=True)


def _end(worker: "subprocess.Popen[bytes]") -> None:
    worker.send_signal(signal.SIGTERM)
    try:
        worker.wait(_STOP_PATIENCE)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.wait()
