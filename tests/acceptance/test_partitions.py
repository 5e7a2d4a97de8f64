"""Networks that are cut: a worker in a network namespace of its own, and iptables.

The server and one worker have a namespace each, with one cable between them; another
worker reaches the server by its socket in the file system, which no rule can cut.
"""

import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

import chaos_app
import needs
from arena import Arena
from theatre import LEASE, SERVER, wait_until

ENGINE = ("--executor", "asyncio", "--concurrency", "20")
HOST = "10.77.0.1"  # within the namespaces alone
URL = f"redis://{HOST}:6379/0"

DROP = ("-j", "DROP")
LOSE = ("-m", "statistic", "--mode", "random", "--probability", "0.3", "-j", "DROP")
RESET = ("-p", "tcp", "-j", "REJECT", "--reject-with", "tcp-reset")
CUTS = {
    "black hole": (("INPUT", *DROP), ("OUTPUT", *DROP)),
    "answers lost": (("INPUT", *DROP),),
    "requests lost": (("OUTPUT", *DROP),),
    "reset": (("OUTPUT", *RESET),),
    "three in ten lost": (("INPUT", *LOSE), ("OUTPUT", *LOSE)),
}

pytestmark = pytest.mark.timeout(120)


class Network:
    """Two namespaces and the cable between them.

    Attributes:
        server: Words that start a program where the server is.
        worker: Words that start one at the other end.
    """

    def __init__(self) -> None:
        self._ip = needs.tool("ip", "iproute2")
        self._iptables = needs.tool("iptables", "iptables")
        name = f"tf-{uuid.uuid4().hex[:8]}"
        self._names = (f"{name}-s", f"{name}-w")
        self.server, self.worker = (
            (self._ip, "netns", "exec", each) for each in self._names
        )

    def lay(self) -> None:
        """Make the namespaces, and connect them."""
        server, worker = self._names
        for name in self._names:
            needs.done(self._ip, "netns", "add", name)
        ends = ("type", "veth", "peer", "name", "eth0", "netns", worker)
        needs.done(self._ip, "link", "add", "eth0", "netns", server, *ends)
        for number, name in enumerate(self._names, 1):
            inside = (self._ip, "-netns", name)
            address = f"10.77.0.{number}/24"
            needs.done(*inside, "address", "add", address, "dev", "eth0")
            needs.done(*inside, "link", "set", "eth0", "up")
        needs.done(*self.worker, self._iptables, "--list-rules")

    def cut(self, how: str) -> None:
        """Let the rules of `CUTS` hold, at the worker's end."""
        for rule in CUTS[how]:
            needs.done(*self.worker, self._iptables, "--append", *rule)

    def heal(self) -> None:
        """Let everything pass again."""
        needs.done(*self.worker, self._iptables, "--flush")

    def close(self) -> None:
        """Remove what there is of it."""
        for name in self._names:
            remove = (self._ip, "netns", "delete", name)
            subprocess.run(remove, check=False, capture_output=True)


@pytest.fixture
def network() -> Iterator[Network]:
    """Give a network of two ends."""
    for number in (needs.NET_ADMIN, needs.SYS_ADMIN):
        needs.capability(number, "make a network namespace")
    made = Network()
    try:
        made.lay()
        yield made
    finally:
        made.close()


@pytest.fixture
def arena(tmp_path: Path, network: Network) -> Iterator[Arena]:
    """Give a server at one end of the network, and nobody who works yet."""
    options = ("--port", "6379", "--bind", HOST, "--protected-mode", "no")
    made = Arena(tmp_path, server=(*network.server, SERVER), options=options)
    yield made
    made.close()


def far_worker(arena: Arena, network: Network) -> "subprocess.Popen[bytes]":
    """Start a worker at the other end."""
    return arena.worker("--url", URL, *ENGINE, under=network.worker)


def begun_by(arena: Arena, worker: "subprocess.Popen[bytes]") -> list[str]:
    """List the tasks that *worker* has begun."""
    return [row[1] for row in arena.rows("start") if int(row[4]) == worker.pid]


def second_runs(arena: Arena) -> dict[str, float]:
    """Say of tasks that began twice when (Unix time) they did so again."""
    begun: dict[str, list[float]] = {}
    for task_id, _, at in arena.lines("start"):
        begun.setdefault(task_id, []).append(at)
    return {each: sorted(times)[1] for each, times in begun.items() if len(times) > 1}


@pytest.mark.parametrize(
    ("how", "leases", "least"),
    [
        ("black hole", 1, 0),
        ("black hole", 3, 20),
        # What it still asks for is done, unheard: it may settle, or be given tasks.
        ("answers lost", 3, 0),
        ("requests lost", 1, 0),
        ("reset", 1, 0),
    ],
)
def test_a_partition_costs_a_second_run_and_no_task(
    arena: Arena, network: Network, how: str, leases: int, least: int
) -> None:
    """Not before the lease has ended; who is cut off begins nothing, and goes on later.

    It does not stop what it runs: an outage of the server, in which nothing shall be
    run again, looks the same to it.
    """
    far, near = far_worker(arena, network), arena.worker(*ENGINE)
    wait_until(lambda: arena.alive() == 2)
    arena.enqueue([chaos_app.aworks.call(1.5 * LEASE)] * 40)
    wait_until(lambda: len(arena.lines("start")) == 40)
    held = begun_by(arena, far)

    cut_at = time.time()
    network.cut(how)
    ends = dict(arena.client.zrange("tasks:active", 0, -1, withscores=True))
    arena.enqueue([chaos_app.works.call(0.1)] * 20)
    time.sleep(leases * LEASE)
    wait_until(lambda: len(second_runs(arena)) >= least)
    assert held == begun_by(arena, far)
    network.heal()
    arena.witness.excuse(far.pid, cut_at, time.time())

    arena.settle_down(60.0)
    figures = arena.judge()
    again = second_runs(arena)
    assert (60, 60 + len(again)) == (figures["COMPLETED"], figures["runs"])
    assert least <= len(again) <= figures["crashes"]
    assert again.keys() <= set(held)
    assert all(at * 1000 >= ends[each.encode()] for each, at in again.items())
    wait_until(lambda: not again or "lease lost" in arena.said(far))
    near.terminate()
    assert 0 == near.wait(30)
    arena.enqueue([chaos_app.works.call(0.0)] * 10)
    arena.settle_down(30.0)
    assert 70 == arena.judge()["COMPLETED"]
    assert set(arena.acknowledged[-10:]) <= set(begun_by(arena, far))


def test_a_network_that_loses_three_packets_in_ten_only_takes_longer(
    arena: Arena, network: Network
) -> None:
    """Each way; what a worker that is alone with it begins, it also ends."""
    worker = far_worker(arena, network)
    wait_until(lambda: arena.alive() == 1)
    network.cut("three in ten lost")

    seconds = [arena.rng.uniform(0.0, 1.0) for _ in range(100)]
    arena.enqueue([chaos_app.aworks.call(each) for each in seconds])
    arena.settle_down(90.0)

    assert 100 == arena.judge()["COMPLETED"]
    assert worker.poll() is None
