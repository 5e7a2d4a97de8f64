"""A server, machines that work, and those that enqueue, of one peer of ``faults.py``.

What ran is read from the log of the bodies, and never asked of the peer.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from attrs import frozen
from machine import HERE, Server, server
from peers import PEERS
from peers.body import EXTRA

sys.path.insert(0, str(HERE.parents[1]))
from tests.support.proxy import Proxy

CACHE = HERE.parents[1] / ".nox" / "peers"
STARTUP = 60.0  # seconds that a worker may take until it has connected

stopping = threading.Event()
"""Set when the run is broken off: everybody who waits stops."""


class BrokenOffError(Exception):
    """The run has been broken off."""


def wait_until(condition: Callable[[], Any], patience: float) -> bool:
    """Look until *condition* holds; say whether it did within *patience* seconds."""
    deadline = time.monotonic() + patience
    while not condition():
        if stopping.wait(0.1):
            raise BrokenOffError
        if time.monotonic() > deadline:
            return False
    return True


def rest(seconds: float) -> None:
    """Wait, unless the run is broken off."""
    wait_until(lambda: False, seconds)


class Machine:
    """Processes that end and stop together, as those of one machine do.

    Each command has a session of its own, which what it forks stays in.
    """

    def __init__(
        self, commands: list[list[str]], folder: Path, environment: dict[str, str]
    ) -> None:
        self._folder = folder
        self._environment = environment
        self._started = [self._start(command) for command in commands]

    def _start(self, command: Any) -> "subprocess.Popen[bytes]":
        with (self._folder / f"{time.monotonic_ns()}.err").open("wb") as errors:
            return subprocess.Popen(
                command,
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                start_new_session=True,
            )

    def _family(self, *leaders: int) -> list[int]:
        sessions = {str(pid) for pid in leaders or [p.pid for p in self._started]}
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                # The name stands in parentheses and may hold spaces.
                stat = path.read_text("utf-8").rpartition(")")[2].split()
                if stat[3] in sessions and stat[0] != "Z":
                    found.append(int(path.parent.name))
        return sorted(found)

    def _send(self, number: int, *leaders: int) -> None:
        for pid in self._family(*leaders):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def revive(self) -> int:
        """Start again what has ended, as a supervisor would; say how many had."""
        ended = [each for each in self._started if each.poll() is not None]
        for each in ended:
            self._send(signal.SIGKILL, each.pid)
            self._started.remove(each)
            self._started.append(self._start(each.args))
        return len(ended)

    def freeze(self) -> None:
        """Stop every process, at once and without a word."""
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let every process go on."""
        self._send(signal.SIGCONT)

    def kill(self) -> None:
        """End every process, at once and without a word."""
        while self._family():
            self._send(signal.SIGKILL)
            for each in self._started:
                each.wait()

    def wait(self, patience: float) -> bool:
        """Wait until what was started has ended by itself."""
        return wait_until(
            lambda: all(each.poll() is not None for each in self._started), patience
        )


@frozen
class Run:
    """One run of a body.

    Attributes:
        name: Its result.
        started: When, on the clock of this machine that does not jump.
        ended: When, or None.
    """

    name: str
    started: float
    ended: float | None


class Stage:
    """A server and a log of their own for one peer and one case.

    Args:
        name: Of the peer.
        folder: For the log, and what the processes write to their standard error.
        server: Nothing else uses it.
        seconds: That each body takes.
        short: Seconds to which the peer's time-outs are cut; 0 leaves its defaults.
    """

    def __init__(
        self, name: str, folder: Path, server: Server, *, seconds: float, short: int
    ) -> None:
        self.name = name
        self.peer = PEERS[name]
        self.url = server.url
        self.proxy = Proxy(server.socket, seed=1)
        self._server = server
        self._folder = folder
        self._log = folder / "run.log"
        self._sent = folder / "sent.log"
        self._log.touch()
        self._sent.touch()
        self._machines: list[Machine] = []
        self._environment = {
            **environment(name),
            "FAULTS_LOG": str(self._log),
            "FAULTS_SENT": str(self._sent),
            "FAULTS_SECONDS": str(seconds),
            "FAULTS_SHORT": str(short),
        }

    def _start(self, *arguments: str, url: str, times: int = 1) -> Machine:
        command = program(self.name, *arguments)
        told = {**self._environment, "FAULTS_URL": url}
        made = Machine([command] * times, self._folder, told)
        self._machines.append(made)
        return made

    def _connections(self) -> set[str]:
        return {each["id"] for each in self._server.client.client_list()}

    def work(self, url: str = "") -> Machine:
        """Start a machine with workers, and wait until each has connected."""
        before = self._connections()
        made = self._start(
            *("work", self.name, str(self.peer.slots)),
            url=url or self.url,
            times=self.peer.processes,
        )

        def connected() -> bool:
            return len(self._connections() - before) >= self.peer.processes

        assert wait_until(connected, STARTUP), "it does not connect"
        rest(1.5)
        return made

    def produce(
        self, first: int, count: int, *, pace: float = 0.0, url: str = ""
    ) -> Machine:
        """Let a process enqueue the numbers from *first* on."""
        numbers = (str(first), str(count), str(pace))
        return self._start("produce", self.name, *numbers, url=url or self.url)

    def bustle(self) -> None:
        """Let other tasks come and go, every two seconds, until the end."""
        self.produce(EXTRA, 1_000_000, pace=2.0)

    def _lines(self) -> list[list[str]]:
        # The last line may be half there.
        whole, _, _ = self._log.read_text("utf-8").rpartition("\n")
        return [line.split() for line in whole.splitlines()]

    def runs(self, *, extra: bool = False) -> dict[int, list[Run]]:
        """Read what ran, in the order in which it began; *extra* work, or the rest."""
        begun: dict[str, tuple[int, float]] = {}
        ended: dict[str, float] = {}
        for word, number, name, _pid, at in self._lines():
            if (int(number) >= EXTRA) is not extra:
                continue
            if word == "start":
                begun[name] = int(number), float(at)
            else:
                ended[name] = float(at)
        found: dict[int, list[Run]] = defaultdict(list)
        for name, (number, at) in begun.items():
            found[number].append(Run(name, at, ended.get(name)))
        return found

    def sent(self) -> tuple[set[int], set[int]]:
        """Read which enqueues were acknowledged, and which raised."""
        rows = [line.split() for line in self._sent.read_text("utf-8").splitlines()]
        told = [(row[0], int(row[1])) for row in rows if int(row[1]) < EXTRA]
        acknowledged = {number for word, number in told if word == "sent"}
        return acknowledged, {number for _, number in told} - acknowledged

    def results(self) -> dict[int, str | None]:
        """Read the stored results of what was acknowledged."""
        told = subprocess.run(
            program(self.name, "results", self.name),
            env={**self._environment, "FAULTS_URL": self.url},
            cwd=self._folder,
            check=True,
            capture_output=True,
            timeout=120,
        )
        return {int(number): name for number, name in json.loads(told.stdout).items()}

    def close(self) -> None:
        """End everything."""
        for each in self._machines:
            each.kill()
        self.proxy.close()


@contextlib.contextmanager
def staged(name: str, folder: Path, *, seconds: float, short: int) -> Iterator[Stage]:
    """Set a stage while the context lasts."""
    folder.mkdir(parents=True)
    # The path of a socket must be short.
    with (
        tempfile.TemporaryDirectory(prefix="tf-") as data,
        server(Path(data)) as made,
    ):
        stage = Stage(name, folder, made, seconds=seconds, short=short)
        try:
            yield stage
        finally:
            stage.close()


def program(name: str, *arguments: str) -> list[str]:
    """Return the command that does something in the venv of the peer *name*."""
    if name == "bullmq":
        return ["node", str(HERE / "peers" / "bullmq.js"), *arguments]
    ours = name == "taskflow"
    python = sys.executable if ours else str(CACHE / name / "bin" / "python")
    return [python, "-m", "peers", *arguments]


def environment(name: str) -> dict[str, str]:
    """Return the environment of every process of the peer *name*."""
    modules = str(CACHE / name / "node_modules")
    return {
        **os.environ,
        "NODE_PATH": modules,
        "PYTHONPATH": str(HERE),
        "LOG_LEVEL": "WARNING",
    }


def install(name: str) -> dict[str, str]:
    """Install the newest version of the peer *name* where it is missing.

    Returns:
        What is installed, and in which version.
    """
    folder, wanted = CACHE / name, PEERS[name].requirements
    uv = shutil.which("uv")
    done = folder / "installed"
    if wanted and not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        if name == "bullmq":
            steps = [["npm", "install", "--silent", "--prefix", str(folder), *wanted]]
        elif uv is not None:
            python = str(folder / "bin" / "python")
            steps = [
                [uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder],
                [uv, "pip", "install", "--quiet", "--python", python, *wanted],
            ]
        else:
            python = str(folder / "bin" / "python")
            steps = [
                [sys.executable, "-m", "venv", "--clear", str(folder)],
                [python, "-m", "pip", "install", "--quiet", *wanted],
            ]
        for step in steps:
            subprocess.run(step, check=True)
        done.touch()
    told = subprocess.run(
        program(name, "versions", name),
        env=environment(name),
        check=True,
        capture_output=True,
    )
    versions: dict[str, str] = json.loads(told.stdout)
    return versions
