"""Do the same faults to taskflow and to its peers, and print who loses what.

``python tests/benchmarks/faults.py [--only celery,taskflow] [--case kill,freeze]``
makes an environment of its own for each peer (below ``.nox/peers``), runs its workers
and producers on a server of its own, and prints a table for each case:

kill
    A worker runs as many tasks as it may, another is idle. The first is killed with
    all its processes. Time-outs are the peer's own, or what its documentation asks for.
freeze
    The first worker stands still until the other has run its tasks, then it goes on:
    whose result is kept? Time-outs are as short as the peer allows.
replies
    A proxy loses some of the server's replies with their connections: those to a
    producer, then those to a worker. Time-outs are as short as the peer allows.

A log that the bodies write says what ran; no peer is asked. Nothing is gated.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import venv
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from machine import HERE, Server, WorkerProcess, server
from peers import PEERS, Peer

sys.path.append(str(HERE.parent))

from proxy import Proxy

ENVIRONMENTS = HERE.parent.parent / ".nox" / "peers"
OTHERS_ARE_UP = 1000  # the number of the first task that tells that a worker is up
CALLS = 400
PRODUCER_LOSS = 0.03
WORKER_LOSS = 0.05
QUIET = 8.0
STARTS_WITHIN = 4.0


class Row:
    """One line of the run log.

    Attributes:
        word: ``start`` or ``end``.
        number: Of the task.
        worker: Its name.
        at: Unix time, in seconds.
    """

    def __init__(self, line: str) -> None:
        self.word, number, self.worker, at = line.split()
        self.number, self.at = int(number), float(at)


class Bench:
    """A peer on a server of its own, and what its bodies wrote."""

    def __init__(self, name: str, server: Server, folder: Path) -> None:
        self.peer: Peer = PEERS[name]
        self.name = name
        self.server = server
        self._folder = folder
        self._log = folder / "run.log"
        self._log.touch()
        self._bin = environment(name, self.peer)
        self._workers: list[subprocess.Popen[bytes]] = []
        self._probes = OTHERS_ARE_UP

    def _environment(self, url: str, worker: str, *, short: bool) -> dict[str, str]:
        path = os.pathsep.join([str(self._bin), os.environ["PATH"]])
        return {
            **{
                name: value for name, value in os.environ.items() if name != "REDIS_URL"
            },
            "PATH": path,
            "PYTHONPATH": str(HERE),
            "FAULT_URL": url,
            "RUN_LOG": str(self._log),
            "WORKER_NAME": worker,
            "FAULT_SHORT": "1" if short else "",
            "TASKFLOW_URL": url,
            "REDIS_URL": url,
        }

    def worker(
        self, name: str, *, url: str = "", short: bool = False
    ) -> "subprocess.Popen[bytes]":
        """Start a worker in a process group of its own."""
        program, *arguments = self.peer.command
        with (self._folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [str(self._bin / program), *arguments],
                env=self._environment(url or self.server.url, name, short=short),
                cwd=self._folder,
                stdout=log,
                stderr=log,
            )
        self._workers.append(process)
        return process

    def _command(self, *words: str, url: str, told: str, short: bool) -> str:
        done = subprocess.run(
            [str(self._bin / "python"), "-m", f"peers.{self.name}", *words],
            env=self._environment(url, "producer", short=short),
            cwd=self._folder,
            input=told,
            stdout=subprocess.PIPE,
            stderr=(self._folder / "producer.log").open("ab"),
            text=True,
            check=False,
            timeout=600,
        )
        return done.stdout

    def enqueue(
        self,
        first: int,
        count: int,
        seconds: float,
        *,
        url: str = "",
        short: bool = False,
    ) -> dict[int, str]:
        """Enqueue tasks one by one; give the ids of those whose enqueue returned."""
        words = ("enqueue", str(first), str(count), str(seconds))
        told = self._command(*words, url=url or self.server.url, told="", short=short)
        pairs = (line.split() for line in told.splitlines())
        return {int(number): found for number, found in pairs if found[0] != "!"}

    def results(self, ids: dict[int, str], *, short: bool) -> dict[int, str]:
        """Ask the peer for results; ``-`` where there is none."""
        told = "".join(f"{number} {each}\n" for number, each in ids.items())
        answer = self._command("results", url=self.server.url, told=told, short=short)
        pairs = (line.split() for line in answer.splitlines())
        return {int(number): found for number, found in pairs}

    def rows(self, word: str) -> list[Row]:
        """Read the log."""
        rows = map(Row, self._log.read_text("ascii").splitlines())
        return [row for row in rows if row.word == word]

    def numbers(self, word: str, worker: str = "") -> Counter[int]:
        """Count what began, or ended, by number, without the probes."""
        return Counter(
            row.number
            for row in self.rows(word)
            if row.number < OTHERS_ARE_UP and worker in {"", row.worker}
        )

    def is_served(self, patience: float, *, short: bool = False) -> bool:
        """Tell whether somebody runs a task that is enqueued now."""
        self._probes += 1
        number = self._probes
        self.enqueue(number, 1, 0.0, short=short)
        return wait(
            lambda: number in {row.number for row in self.rows("end")}, patience
        )

    def quiet(self, patience: float) -> None:
        """Wait until nothing has been written for a while."""
        ends = time.monotonic() + patience
        while time.monotonic() < ends:
            silent = time.time() - self._log.stat().st_mtime
            if silent > QUIET:
                return
            time.sleep(0.5)

    def close(self) -> None:
        """End every process."""
        for each in self._workers:
            tell(each, signal.SIGCONT)
            tell(each, signal.SIGKILL)
            each.wait()


def tell(process: "subprocess.Popen[bytes]", number: int) -> None:
    """Send a signal to a worker and to all that it has started."""
    for pid in WorkerProcess(process.pid).pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def wait(condition: Callable[[], bool], patience: float) -> bool:
    """Look until *condition* holds; tell whether it came to."""
    ends = time.monotonic() + patience
    while not condition():
        if time.monotonic() > ends:
            return False
        time.sleep(0.1)
    return True


def environment(name: str, peer: Peer) -> Path:
    """Install a peer; give the folder of its programs."""
    if not peer.requires:
        return Path(sys.executable).parent
    folder = ENVIRONMENTS / name
    done = folder / "installed.txt"
    if not done.exists() or done.read_text("utf-8") != repr(peer.requires):
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, *peer.requires], check=True)
        done.write_text(repr(peer.requires), "utf-8")
    return folder / "bin"


def kill(bench: Bench, patience: float) -> dict[str, Any]:
    """Kill a worker that runs all it may, beside an idle one."""
    slots = bench.peer.slots
    first = bench.worker("a")
    assert bench.is_served(60.0), "no worker came up"
    bench.enqueue(1, slots, 9.0)
    wait(lambda: len(bench.numbers("start")) == slots, 4.0)
    bench.worker("b")
    time.sleep(STARTS_WITHIN)
    tell(first, signal.SIGKILL)
    killed = time.time()
    hit = set(bench.numbers("start")) - set(bench.numbers("end"))

    def again() -> dict[int, float]:
        return {r.number: r.at for r in bench.rows("start") if r.at > killed}

    is_all = wait(lambda: hit <= again().keys(), patience)
    wait(lambda: hit <= bench.numbers("end").keys(), 30.0 if is_all else 10.0)
    waits = [at - killed for number, at in again().items() if number in hit]
    return {
        "running": len(hit),
        "began again": len(waits),
        "the last after": f"{max(waits):.1f} s" if waits else "-",
        f"not ended in {patience:.0f} s": len(hit - bench.numbers("end").keys()),
    }


def freeze(bench: Bench, patience: float) -> dict[str, Any]:
    """Let a worker stand still until another has run its tasks."""
    slots = bench.peer.slots
    first = bench.worker("a", short=True)
    assert bench.is_served(60.0, short=True), "no worker came up"
    bench.worker("b", short=True)
    time.sleep(STARTS_WITHIN)
    ids = bench.enqueue(1, 2 * slots, 4.0, short=True)
    wait(lambda: len(bench.numbers("start")) == 2 * slots, 20.0)
    tell(first, signal.SIGSTOP)
    hit = set(bench.numbers("start", "a")) - set(bench.numbers("end", "a"))
    is_all = wait(lambda: hit <= bench.numbers("end", "b").keys(), patience)
    taken = hit & bench.numbers("end", "b").keys()
    before = bench.results({each: ids[each] for each in taken}, short=True)
    tell(first, signal.SIGCONT)
    wait(lambda: hit <= bench.numbers("end", "a").keys(), 15.0)
    time.sleep(3.0)
    late = taken & bench.numbers("end", "a").keys()
    after = bench.results({each: ids[each] for each in taken}, short=True)
    changed = [each for each in taken if before.get(each) != after.get(each)]
    return {
        "frozen": len(hit),
        "run by the other": len(taken) if is_all or taken else "none",
        "ended late all the same": len(late),
        "results overwritten by the late run": len(changed) if taken else "-",
    }


def replies(bench: Bench, patience: float) -> dict[str, Any]:
    """Lose replies of the server: to a producer, then to a worker."""
    proxy = Proxy(bench.server.socket, seed=1)
    try:
        bench.worker("a", short=True)
        assert bench.is_served(60.0, short=True), "no worker came up"
        proxy.loss = PRODUCER_LOSS
        stored = bench.enqueue(1, CALLS, 0.0, url=proxy.url, short=True)
        proxy.heal()
        bench.quiet(30.0)
        ran = bench.numbers("start")
        twice = sum(times > 1 for times in ran.values())
    finally:
        proxy.close()
    return {
        "enqueues that raised": CALLS - len(stored),
        "acknowledged and never run": len(stored.keys() - ran.keys()),
        "one enqueue, run twice": twice,
    }


def losses(bench: Bench, patience: float) -> dict[str, Any]:
    """Lose replies of the server to a worker."""
    proxy = Proxy(bench.server.socket, seed=1)
    try:
        worker = bench.worker("a", url=proxy.url, short=True)
        assert bench.is_served(60.0, short=True), "no worker came up"
        proxy.loss = WORKER_LOSS
        ids = bench.enqueue(1, CALLS, 0.02, short=True)
        wait(lambda: ids.keys() <= bench.numbers("end").keys(), 30.0)
        proxy.heal()
        has_ended = worker.poll() is not None
        is_served = bench.is_served(30.0, short=True)
        if not is_served:
            bench.worker("b", short=True)
            bench.is_served(60.0, short=True)
        wait(lambda: ids.keys() <= bench.numbers("end").keys(), patience)
        began, ended = bench.numbers("start"), bench.numbers("end")
    finally:
        proxy.close()
    served = "goes on" if is_served else "has ended" if has_ended else "stands still"
    return {
        "replies lost": proxy.lost,
        "never ended": len(ids.keys() - ended.keys()),
        "run twice": sum(times > 1 for times in began.values()),
        "the worker": served,
    }


CASES: dict[str, Callable[[Bench, float], dict[str, Any]]] = {
    "kill": kill,
    "freeze": freeze,
    "replies": replies,
    "losses": losses,
}


@contextlib.contextmanager
def bench_of(name: str) -> Iterator[Bench]:
    """Give a peer on an empty server; end all its processes."""
    with (
        tempfile.TemporaryDirectory(prefix="tf-", ignore_cleanup_errors=True) as folder,
        server(Path(folder)) as redis,
    ):
        bench = Bench(name, redis, Path(folder))
        try:
            yield bench
        finally:
            bench.close()
            if os.environ.get("FAULT_LOGS"):
                for log in Path(folder).glob("*.log"):
                    shutil.copy(
                        log, Path(os.environ["FAULT_LOGS"]) / f"{name}-{log.name}"
                    )


def version(name: str, peer: Peer) -> str:
    """Say which version of a peer is installed."""
    asked = "asynctaskflow" if name == "taskflow" else name
    code = f"from importlib.metadata import version; print(version({asked!r}))"
    python = environment(name, peer) / "python"
    return subprocess.run(
        [str(python), "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def table(case: str, found: dict[str, dict[str, Any]]) -> str:
    """Give the Markdown of one case."""
    columns = list(next(iter(found.values())))
    settings = "its time-out" if case == "kill" else "set"
    lines = [
        f"| {case} | {settings} | {' | '.join(columns)} |",
        "|---" * (2 + len(columns)) + "|",
    ]
    for name, row in found.items():
        peer = PEERS[name]
        told = peer.recovers if case == "kill" else peer.shortened
        values = " | ".join(str(row.get(column, "-")) for column in columns)
        lines.append(f"| {name} {version(name, peer)} | {told} | {values} |")
    return "\n".join(lines)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description="The same faults to all")
    parser.add_argument("--only", default=",".join(PEERS))
    parser.add_argument("--case", default=",".join(CASES))
    parser.add_argument("--patience", type=float, default=100.0)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for case in chosen.case.split(","):
        found[case] = {}
        for name in chosen.only.split(","):
            with bench_of(name) as bench:
                try:
                    found[case][name] = CASES[case](bench, chosen.patience)
                except AssertionError as error:
                    print(f"{case}: {name}: {error}", file=sys.stderr)
                    continue
            print(case, name, found[case][name], file=sys.stderr, flush=True)
        if found[case]:
            print(f"\n{table(case, found[case])}", flush=True)
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1), "utf-8")


if __name__ == "__main__":
    main()
