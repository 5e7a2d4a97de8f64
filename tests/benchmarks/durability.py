"""What a server that is killed has forgotten of the tasks it acknowledged.

``python tests/benchmarks/durability.py [--rounds 3] [--seconds 3] [--only everysec]`` starts servers of
its own, lets eight threads enqueue, kills the server (``SIGKILL``, as a crash of its
process) and starts it again with what it kept; and for replication cuts the replica
off for a moment, kills the primary and asks the replica. It prints how many of the
acknowledged tasks are missing, and the enqueues a second of each mode in the same run.

A power cut is not measured: it may cost what the operating system had not written,
about a second with ``everysec``, nothing with ``always`` on a disk that keeps its word.
"""

import argparse
import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any

from machine import free_port, program
from redis import Redis
from redis.exceptions import RedisError

from taskflow import Registry, TaskFlow
from taskflow.errors import NotReplicatedError, ServerUnavailableError

THREADS = 8
CUT = 0.3  # seconds for which the replica hears nothing before the primary dies
MODES = {
    "appendonly, appendfsync always": (
        "--appendonly",
        "yes",
        "--appendfsync",
        "always",
    ),
    "appendonly, appendfsync everysec": ("--appendonly", "yes"),
    "snapshots, save 1 1": ("--save", "1 1"),
    "nothing": ("--save", ""),
}
registry = Registry()


@registry.task(name="f")
def body() -> None:
    """Do nothing."""


class Server:
    """A process of the server's program."""

    def __init__(self, *options: str) -> None:
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.port = free_port()
        self.options = options
        self.client: Any = Redis(port=self.port, retry=None)
        self.start()

    def start(self) -> None:
        """Start it, with what it kept; wait until it has read that."""
        saves = () if "--save" in self.options else ("--save", "")
        self.process = subprocess.Popen(
            [
                *(program(), "--port", str(self.port), "--bind", "127.0.0.1"),
                *("--dir", self.folder.name, *saves, *self.options),
            ],
            stdout=subprocess.DEVNULL,
        )
        while not self._answers():
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except (RedisError, OSError):
            return False

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """End it and delete what it kept."""
        self.kill()
        self.client.close()
        self.folder.cleanup()


def load(flow: TaskFlow, done: threading.Event) -> list[str]:
    """Enqueue until *done*; give the ids that were acknowledged."""
    acknowledged: list[str] = []

    def enqueue() -> None:
        while not done.is_set():
            try:
                acknowledged.append(flow.enqueue(body.call()).id)
            except NotReplicatedError:
                continue
            except ServerUnavailableError:
                return

    for _ in range(THREADS):
        threading.Thread(target=enqueue).start()
    return acknowledged


def missing(client: Any, ids: list[str]) -> int:
    """Count those that the server does not know."""
    there = 0
    for first in range(0, len(ids), 500):
        there += client.exists(*[f"task:{each}" for each in ids[first : first + 500]])
    return len(ids) - there


def restarted(options: tuple[str, ...], seconds: float) -> tuple[int, int]:
    """Kill a server under load; give how many were acknowledged, and are missing."""
    server, done = Server(*options), threading.Event()
    with TaskFlow(f"redis://127.0.0.1:{server.port}/0", registry=registry) as flow:
        ids = load(flow, done)
        time.sleep(seconds)
        server.kill()
        done.set()
        wait_for_threads()
        server.start()
        result = len(ids), missing(server.client, ids)
    server.close()
    return result


def promoted(durability: str, seconds: float) -> tuple[int, int]:
    """Lose a primary whose replica was cut off; ask the replica."""
    primary, done = Server("--repl-diskless-sync-delay", "0"), threading.Event()
    replica = Server("--replicaof", f"127.0.0.1 {primary.port}")
    while replica.client.info("replication")["master_link_status"] != "up":
        time.sleep(0.02)
    options: Any = {"durability": durability, "registry": registry}
    with TaskFlow(f"redis://127.0.0.1:{primary.port}/0", **options) as flow:
        ids = load(flow, done)
        time.sleep(seconds)
        replica.process.send_signal(signal.SIGSTOP)
        time.sleep(CUT)
        # What the kernel holds for the replica would reach it after the kill.
        primary.client.client_kill_filter(_type="replica")
        primary.kill()
        done.set()
        wait_for_threads()
        replica.process.send_signal(signal.SIGCONT)
        replica.client.execute_command("REPLICAOF", "NO", "ONE")
        result = len(ids), missing(replica.client, ids)
    primary.close()
    replica.close()
    return result


def wait_for_threads() -> None:
    """Let those that enqueue meet the end of their server."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join(20.0)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description="What a killed server has forgotten")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--only", default="", help="part of a mode's name")
    chosen = parser.parse_args()
    cases = {
        **{
            f"killed, started again: {name}": (restarted, options)
            for name, options in MODES.items()
        },
        "primary lost, its replica cut off before": (promoted, "server"),
        'the same, durability="replica"': (promoted, "replica"),
    }
    print("| what | acknowledged | missing | enqueues a second |\n|---|---|---|---|")
    for name, (measure, how) in cases.items():
        if chosen.only not in name:
            continue
        acknowledged = lost = 0
        for _ in range(chosen.rounds):
            got, gone = measure(how, chosen.seconds)  # type: ignore[operator]
            acknowledged, lost = acknowledged + got, lost + gone
        rate = acknowledged / chosen.rounds / chosen.seconds
        print(f"| {name} | {acknowledged:,} | {lost:,} | {rate:,.0f} |")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
