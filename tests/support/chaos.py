"""Workers that reach their server by a proxy each, and what is done to them.

What was done is counted, what was acknowledged is kept, and in the end everything
is judged by the run log, the records, the server's append-only file, what a monitor saw
of the processes, and the checker of the invariants.
"""

import os
import random
import signal
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from attrs import evolve
from redis import Redis

from taskflow import TaskState
from taskflow._protocol import scripts
from taskflow.errors import (
    IllegalMoveError,
    ServerFullError,
    ServerUnavailableError,
    TaskNotFoundError,
)
from tests.support import chaos_app
from tests.support.aof import Moves, commands, moves
from tests.support.invariants import broken
from tests.support.keyspace import dump
from tests.support.process_monitor import (
    LostLease,
    ProcessMonitor,
    children,
    is_running,
    reason_missing,
    worker_of,
)
from tests.support.processes import LEASE, Deployment, wait_until
from tests.support.proxy import Proxy, Side

GOES_ON = (TaskState.PENDING, TaskState.ACTIVE, TaskState.SCHEDULED)
TRAPPED = ("claim", "settle", "extend", "heartbeat", "reap")


class ProxiedWorker:
    """A worker process, started again when it dies, and its way to the server."""

    def __init__(
        self, deployment: "ChaosDeployment", *arguments: str, **environment: str
    ) -> None:
        self.proxy = Proxy(deployment.data / "s", seed=deployment.rng.randrange(10**6))
        self._deployment = deployment
        self._arguments = arguments
        self._environment = environment
        self.start()

    def start(self) -> None:
        """Start the process."""
        self.process = self._deployment.worker(
            *("--url", self.proxy.url, "--log-level", "WARNING"),
            *self._arguments,
            way=self.proxy,
            **self._environment,
        )

    @property
    def pid(self) -> int:
        """Of the process."""
        return self.process.pid

    @property
    def is_alive(self) -> bool:
        """Whether the process has not ended."""
        return self.process.poll() is None

    def signal(self, number: int) -> None:
        """Send a signal, if there is anybody to hear it."""
        if self.is_alive:
            self.process.send_signal(number)

    def kill(self) -> None:
        """End the process as a crash of its machine would."""
        self.signal(signal.SIGKILL)
        self.process.wait()

    def children(self) -> list[int]:
        """List the processes that it has started."""
        return children(self.pid)

    def trap(self, script: str, side: Side) -> None:
        """Kill the process when it calls *script* next."""
        self.proxy.trap(
            scripts.load(script).sha, side, lambda: self.signal(signal.SIGKILL)
        )


class ChaosDeployment(Deployment):
    """A deployment with the tasks of ``chaos_app.py``, in which things go wrong, by a seed.

    Args:
        folder: For the app and the logs.
        seed: Of every choice.
        **options: Of the deployment.

    Attributes:
        rng: Makes every choice.
        done: What was done to the players, and how often.
        acknowledged: Ids of the tasks whose enqueue returned.
        cancelled: Ids of tasks for which a cancel was asked.
        monitor: Sees what becomes of the processes.
    """

    def __init__(self, folder: Path, seed: int = 1, **options: Any) -> None:
        app = Path(chaos_app.__file__).read_text(encoding="utf-8")
        # What was written is read from the file, so it must not be written anew.
        ours = ("--auto-aof-rewrite-percentage", "0")
        options["options"] = (*ours, *options.get("options", ()))
        super().__init__(folder, app, chaos_app.registry, **options)
        self.rng = random.Random(seed)
        self.done: Counter[str] = Counter()
        self.acknowledged: list[str] = []
        self.cancelled: set[str] = set()
        self.players: list[ProxiedWorker] = []
        self._undo: list[tuple[float, Callable[[], Any]]] = []
        self.client: Any = Redis.from_url(self.url)
        self.monitor = ProcessMonitor(lambda: is_running(self.server.pid))
        self.monitor.start()

    def worker(
        self,
        *arguments: str,
        under: Sequence[str] = (),
        way: Proxy | None = None,
        **environment: str,
    ) -> "subprocess.Popen[bytes]":
        """Start a worker process, perhaps one that reaches the server by a proxy."""
        process = super().worker(*arguments, under=under, **environment)
        lease = float(environment.get("TASKFLOW_LEASE", LEASE))
        self.monitor.know(process.pid, lease, way)
        return process

    def play(self, *arguments: str, **environment: str) -> ProxiedWorker:
        """Start a worker that reaches the server by a proxy of its own."""
        player = ProxiedWorker(self, *arguments, **environment)
        self.players.append(player)
        return player

    def enqueue(self, calls: list[Any]) -> None:
        """Store tasks; what is not acknowledged is nobody's promise."""
        try:
            handles = self.flow.enqueue_many(calls)
        except (ServerFullError, ServerUnavailableError) as error:
            self.done[f"enqueue refused ({type(error).__name__})"] += 1
        else:
            self.acknowledged += [handle.id for handle in handles]

    def backlog(self) -> int:
        """Count what is not at its end; 0 where nobody can say."""
        try:
            states = self.flow.queues.status().states
        except ServerUnavailableError:
            return 0
        return sum(states[state] for state in GOES_ON)

    def do(self, name: str) -> None:
        """Do one thing to somebody."""
        self.done[name] += 1
        getattr(self, f"_do_{name}")(self.rng.choice(self.players))

    def tidy(self) -> None:
        """Undo what is due, and start again who has died."""
        now = time.monotonic()
        due = [each for each in self._undo if each[0] <= now]
        self._undo = [each for each in self._undo if each[0] > now]
        for _, undo in due:
            undo()
        for player in self.players:
            if not player.is_alive:
                player.start()

    def heal(self) -> None:
        """Undo everything."""
        self._undo = [(0.0, undo) for _, undo in self._undo]
        self.tidy()

    def _later(self, least: float, most: float, undo: Callable[[], Any]) -> None:
        self._undo.append((time.monotonic() + self.rng.uniform(least, most), undo))

    def _do_kill(self, player: ProxiedWorker) -> None:
        player.kill()

    def _do_kill_child(self, player: ProxiedWorker) -> None:
        pids = player.children()
        if pids:
            os.kill(self.rng.choice(pids), signal.SIGKILL)

    def _do_freeze(self, player: ProxiedWorker) -> None:
        player.signal(signal.SIGSTOP)
        self._later(0.5, 2.5 * LEASE, lambda: player.signal(signal.SIGCONT))

    def _do_stop(self, player: ProxiedWorker) -> None:
        player.signal(signal.SIGTERM)

    def _do_trap(self, player: ProxiedWorker) -> None:
        side: Side = "before" if self.rng.random() < 0.5 else "after"
        script = self.rng.choice(TRAPPED)
        self.done[f"trap {side} {script}"] += 1
        player.trap(script, side)

    def _do_cut(self, player: ProxiedWorker) -> None:
        player.proxy.cut()
        self._later(0.2, 2 * LEASE, player.proxy.heal)

    def _do_hold(self, player: ProxiedWorker) -> None:
        player.proxy.hold()
        self._later(0.2, 2 * LEASE, player.proxy.heal)

    def _do_hold_replies(self, player: ProxiedWorker) -> None:
        player.proxy.hold("reply")
        self._later(0.2, 2 * LEASE, player.proxy.heal)

    def _do_lose_replies(self, player: ProxiedWorker) -> None:
        player.proxy.loss = 0.2
        self._later(1.0, 3.0, player.proxy.heal)

    def _do_slow_down(self, player: ProxiedWorker) -> None:
        player.proxy.delay = self.rng.uniform(0.01, 0.3)
        self._later(1.0, 3.0, player.proxy.heal)

    def _do_kill_server(self, player: ProxiedWorker) -> None:
        del player
        self.kill_server()
        time.sleep(self.rng.uniform(0.0, 1.0))
        self.start_server()

    def _do_forget_scripts(self, player: ProxiedWorker) -> None:
        del player
        self.client.script_flush()

    def _do_kill_clients(self, player: ProxiedWorker) -> None:
        del player
        self.client.client_kill_filter(_type="normal", skipme=True)

    def _do_fill_memory(self, player: ProxiedWorker) -> None:
        del player
        self.client.config_set("maxmemory", 1)
        self._later(0.5, LEASE, lambda: self.client.config_set("maxmemory", 0))

    def _do_cancel(self, player: ProxiedWorker) -> None:
        del player
        if self.acknowledged:
            task_id = self.rng.choice(self.acknowledged[-100:])
            self.cancelled.add(task_id)
            try:
                self.flow.tasks.cancel(task_id)
            except (IllegalMoveError, ServerUnavailableError):
                self.done["cancel refused"] += 1

    def _do_pause(self, player: ProxiedWorker) -> None:
        del player
        lane = self.rng.choice(["primary", "retry"])
        self.flow.queues.pause(lane)
        self._later(0.1, 1.0, lambda: self.flow.queues.resume(lane))

    def settle_down(self, patience: float) -> None:
        """Undo everything, and wait until every task is at its end."""
        self.heal()

        def is_quiet() -> bool:
            self.tidy()
            return not self.backlog()

        wait_until(is_quiet, patience)

    def judge(self, *, clock_was_set: bool = False) -> dict[str, int]:
        """Hold everything against what was promised.

        Args:
            clock_was_set: The server's, so that its times say nothing here.

        Returns:
            Figures for a report.
        """
        figures: Counter[str] = Counter()
        starts, ends = self._log("start"), self._log("end")
        begun = Counter(task_id for task_id, _ in starts)
        bodies: dict[str, list[tuple[float, int]]] = defaultdict(list)
        for _, task_id, _, at, pid in self.rows("start"):
            bodies[task_id].append((float(at), int(pid)))
        for task_id in self.acknowledged:
            try:
                record = self.flow.tasks.get(task_id)
            except TaskNotFoundError:
                figures["lost"] += 1
                continue
            told = "\n".join([str(record), *map(str, record.history)])
            figures[str(record.state)] += 1
            figures["crashes"] += record.crashes
            figures["runs"] += begun[task_id]
            assert record.state not in GOES_ON, told
            assert begun[task_id] <= record.deliveries, told
            for lost in self._lost_leases(record, bodies[task_id]):
                if clock_was_set:
                    lost = evolve(lost, after=0.0, at=float("inf"))  # noqa: PLW2901
                monitor = self.monitor
                wrong = reason_missing(lost, monitor.lives, monitor.outages)
                assert wrong is None, f"{wrong}: {lost}\n{told}"
            if record.state is TaskState.COMPLETED:
                # Settled by a run that came to its end, and by that one alone.
                assert record.result is not None, told
                assert (task_id, int(record.result)) in ends, told
            elif record.state is TaskState.DLQ:
                crashes = [each for each in record.history if each.outcome == "crash"]
                assert (3, 3) == (record.crashes, len(crashes)), told
            else:
                assert task_id in self.cancelled, told
        figures["begun twice in one hand-out"] = sum(
            times - 1 for times in starts.values()
        )
        seconds, micros = self.client.time()
        now_ms = seconds * 1000 + micros // 1000
        wrong = broken(dump(self.client), now_ms=now_ms, lease_ms=round(LEASE * 1e3))
        assert [] == wrong
        written = self.moves()
        assert [] == written.wrong, written.wrong
        figures["hand-outs"] = written.handed_out
        figures["settled"] = written.settled.total()
        assert figures["hand-outs"] == figures["settled"], figures
        assert 0 == figures["lost"], figures
        assert 0 == figures["begun twice in one hand-out"], starts.most_common(3)
        return dict(figures)

    def moves(self) -> Moves:
        """Follow every task through what the server has written."""
        # While a disk is busy the server keeps for itself, up to 2 s, what it has
        # answered already.
        wait_until(lambda: not self.client.info("persistence")["aof_buffer_length"])
        found = self.client.config_get("*dir*")
        return moves(commands(Path(found["dir"]) / found["appenddirname"]), self.prefix)

    def _lost_leases(
        self, record: Any, bodies: list[tuple[float, int]]
    ) -> list[LostLease]:
        """Read from a task's history which of its leases were lost.

        Args:
            record: Of the task.
            bodies: When its body began, and in which process.

        Returns:
            The leases, each with the process in which the body began under it.
        """
        lost, before = [], record.created_at.timestamp()
        for entry in record.history:
            after, at = before, entry.at.timestamp()
            after = max(after, entry.facts.get("started_ms", 0) / 1000)
            before = at
            if entry.outcome == "crash":
                worker = worker_of(entry.facts["worker"])
                ran = [
                    pid
                    for when, pid in bodies
                    if after <= when <= at and worker in {pid, self.monitor.parent(pid)}
                ]
                body = ran[-1] if ran else None
                lost.append(LostLease(after, at, worker, "how" in entry.facts, body))
        return lost

    def _log(self, word: str) -> Counter[tuple[str, int]]:
        """Count the lines of the run log by task and hand-out."""
        return Counter((row[0], row[1]) for row in self.lines(word))

    def has_begun(self, pid: int) -> bool:
        """Tell whether a process has begun a task lately."""
        with self.log.open("rb") as lines:
            lines.seek(max(0, self.log.stat().st_size - 20_000))
            return f" {pid}\n".encode() in lines.read()

    def restarts(self, kills: list[tuple[int, float]]) -> list[float]:
        """Measure how long the tasks of killed workers waited.

        Args:
            kills: Which process was killed, and when (Unix time).

        Returns:
            Seconds from the kill until a task that it ran began again; of those that
            ran for the first time, because who crashed twice waits to run alone.
        """
        killed = dict(kills)
        ended = {(row[1], row[2]) for row in self.rows("end")}
        begun = self.rows("start")
        at = {(row[1], int(row[2])): float(row[3]) for row in begun}
        waits = []
        for _, task_id, delivery, _, pid in begun:
            is_first = int(delivery) == 1 and (task_id, delivery) not in ended
            if is_first and int(pid) in killed:
                later = at.get((task_id, int(delivery) + 1))
                if later is not None:
                    waits.append(later - killed[int(pid)])
        return waits

    def close(self) -> None:
        """End everything."""
        for player in self.players:
            player.signal(signal.SIGCONT)
            player.kill()
            player.proxy.close()
        self.monitor.stop()
        self.client.close()
        super().close()
