"""Run the service and a worker as processes, and send what a shell would."""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

STARTS_WITHIN = 30.0
_ADDRESS = re.compile(r"http://\S+?:\d+")


class Process:
    """A command of ours that runs; its standard error is kept, line by line."""

    def __init__(self, *arguments: str, cwd: Path, **environment: str) -> None:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("OPENROUTER", "TASKFLOW", "REDIS", "SUMMARIZE"))
        }
        self.lines: list[str] = []
        self._news = threading.Condition()
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "taskflow", *arguments],
            cwd=cwd,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            env={**kept, "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1", **environment},
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.popen.stderr is not None
        with self.popen.stderr as lines:
            for line in lines:
                with self._news:
                    self.lines.append(line.rstrip("\n"))
                    self._news.notify_all()
        with self._news:
            self.lines.append("<ended>")
            self._news.notify_all()

    def line(self, pattern: str) -> str:
        """Wait for a line in which *pattern* is found; give what was found."""

        def found() -> "re.Match[str] | None":
            matches = (re.search(pattern, line) for line in self.lines)
            return next((match for match in matches if match), None)

        with self._news:
            self._news.wait_for(
                lambda: found() or "<ended>" in self.lines, STARTS_WITHIN
            )
            match = found()
        assert match, "\n".join(self.lines)
        return match[0]

    def stop(self, signum: int = signal.SIGTERM, within: float = 40.0) -> float:
        """Send *signum*; give the seconds until the process had ended."""
        before = time.monotonic()
        if self.popen.poll() is None:
            self.popen.send_signal(signum)
        self.popen.wait(within)
        return time.monotonic() - before


@contextlib.contextmanager
def running(*arguments: str, cwd: Path, **environment: str) -> Iterator[Process]:
    """Run a command of ours while the context lasts."""
    process = Process(*arguments, cwd=cwd, **environment)
    try:
        yield process
    finally:
        if process.popen.poll() is None:
            process.popen.kill()
        process.popen.wait()


@contextlib.contextmanager
def service(cwd: Path, url: str, **environment: str) -> Iterator[tuple[Process, str]]:
    """Run ``taskflow api`` on a free port; give the process and its address."""
    with running("api", "--port", "0", "--url", url, cwd=cwd, **environment) as process:
        yield process, process.line(_ADDRESS.pattern)


def curl(command: str, address: str) -> httpx.Response:
    """Send what a ``curl`` command line says, to *address* instead of its port."""
    _, *words = shlex.split(command.replace("\\\n", " "))
    method, headers, data, url = "GET", {}, None, ""
    rest = iter(words)
    for word in rest:
        if word == "-X":
            method = next(rest)
        elif word == "-H":
            name, _, value = next(rest).partition(": ")
            headers[name] = value
        elif word == "-d":
            data = next(rest)
        else:
            url = word.replace("http://localhost:8000", address)
    return httpx.request(method, url, headers=headers, content=data, timeout=10)


def wait_for_state(address: str, task_id: str, state: str) -> dict[str, Any]:
    """Follow a task until it is in *state*; give its record."""
    deadline = time.monotonic() + STARTS_WITHIN
    while True:
        found: dict[str, Any] = httpx.get(f"{address}/api/v1/tasks/{task_id}").json()
        if found["state"] == state:
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
