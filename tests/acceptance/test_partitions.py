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

from tests.support import chaos_app, requirements
from tests.support.chaos import ChaosDeployment
from tests.support.processes import LEASE, SERVER, wait_until

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

pytestmark = [pytest.mark.deep, pytest.mark.timeout(120)]


class Network:
    """Two namespaces and the cable between them.

    Attributes:
        server: Words that start a program where the server is.
        worker: Words that start one at the other end.
    """

    def __init__(self) -> None:
        self._ip = requirements.tool("ip", "iproute2")
        self._iptables = requirements.tool("iptables", "iptables")
        name = f"tf-{uuid.uuid4().hex[:8]}"
        self._names = (f"{name}-s", f"{name}-w")
        self.server, self.worker = (
            (self._ip, "netns", "exec", each) for each in self._names
        )

    def lay(self) -> None:
        """Make the namespaces, and connect them."""
        server, worker = self._names
        for name in self._names:
            requirements.done(self._ip, "netns", "add", name)
        ends = ("type", "veth", "peer", "name", "eth0", "netns", worker)
        requirements.done(self._ip, "link", "add", "eth0", "netns", server, *ends)
        for number, name in enumerate(self._names, 1):
            inside = (self._ip, "-netns", name)
            address = f"10.77.0.{number}/24"
            requirements.done(*inside, "address", "add", address, "dev", "eth0")
            requirements.done(*inside, "link", "set", "eth0", "up")
        requirements.done(*self.worker, self._iptables, "--list-rules")

    def cut(self, how: str) -> None:
        """Let the rules of `CUTS` hold, at the worker's end."""
        for rule in CUTS[how]:
            requirements.done(*self.worker, self._iptables, "--append", *rule)

    def heal(self) -> None:
        """Let everything pass again."""
        requirements.done(*self.worker, self._iptables, "--flush")

    def close(self) -> None:
        """Remove what there is of it."""
        for name in self._names:
            remove = (self._ip, "netns", "delete", name)
            subprocess.run(remove, check=False, capture_output=True)


@pytest.fixture
def network() -> Iterator[Network]:
    """Give a network of two ends."""
    for number in (requirements.NET_ADMIN, requirements.SYS_ADMIN):
        requirements.capability(number, "make a network namespace")
    made = Network()
    try:
        made.lay()
        yield made
    finally:
        made.close()


@pytest.fixture
def deployment(tmp_path: Path, network: Network) -> Iterator[ChaosDeployment]:
    """Give a server at one end of the network, and nobody who works yet."""
    options = ("--port", "6379", "--bind", HOST, "--protected-mode", "no")
    made = ChaosDeployment(tmp_path, server=(*network.server, SERVER), options=options)
    yield made
    made.close()


def far_worker(
    deployment: ChaosDeployment, network: Network
) -> "subprocess.Popen[bytes]":
    """Start a worker at the other end."""
    return deployment.worker("--url", URL, *ENGINE, under=network.worker)


def begun_by(
    deployment: ChaosDeployment, worker: "subprocess.Popen[bytes]"
) -> list[str]:
    """List the tasks that *worker* has begun."""
    return [row[1] for row in deployment.rows("start") if int(row[4]) == worker.pid]


def second_runs(deployment: ChaosDeployment) -> dict[str, float]:
    """Say of tasks that began twice when (Unix time) they did so again."""
    begun: dict[str, list[float]] = {}
    for task_id, _, at in deployment.lines("start"):
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
    deployment: ChaosDeployment, network: Network, how: str, leases: int, least: int
) -> None:
    """Not before the lease has ended; who is cut off begins nothing, and goes on later.

    It does not stop what it runs: an outage of the server, in which nothing shall be
    run again, looks the same to it.
    """
    far, near = far_worker(deployment, network), deployment.worker(*ENGINE)
    wait_until(lambda: deployment.alive() == 2)
    deployment.enqueue([chaos_app.aworks.call(1.5 * LEASE)] * 40)
    wait_until(lambda: len(deployment.lines("start")) == 40)
    held = begun_by(deployment, far)

    cut_at = time.time()
    network.cut(how)
    ends = dict(deployment.client.zrange("tasks:active", 0, -1, withscores=True))
    deployment.enqueue([chaos_app.works.call(0.1)] * 20)
    time.sleep(leases * LEASE)
    wait_until(lambda: len(second_runs(deployment)) >= least)
    assert held == begun_by(deployment, far)
    network.heal()
    deployment.monitor.excuse(far.pid, cut_at, time.time())

    deployment.settle_down(60.0)
    figures = deployment.judge()
    again = second_runs(deployment)
    assert (60, 60 + len(again)) == (figures["COMPLETED"], figures["runs"])
    assert least <= len(again) <= figures["crashes"]
    assert again.keys() <= set(held)
    assert all(at * 1000 >= ends[each.encode()] for each, at in again.items())
    wait_until(lambda: not again or "lease lost" in deployment.said(far))
    near.terminate()
    assert 0 == near.wait(30)
    deployment.enqueue([chaos_app.works.call(0.0)] * 10)
    deployment.settle_down(30.0)
    assert 70 == deployment.judge()["COMPLETED"]
    assert set(deployment.acknowledged[-10:]) <= set(begun_by(deployment, far))


def test_a_network_that_loses_three_packets_in_ten_only_takes_longer(
    deployment: ChaosDeployment, network: Network
) -> None:
    """Each way; what a worker that is alone with it begins, it also ends."""
    worker = far_worker(deployment, network)
    wait_until(lambda: deployment.alive() == 1)
    network.cut("three in ten lost")

    seconds = [deployment.rng.uniform(0.0, 1.0) for _ in range(100)]
    deployment.enqueue([chaos_app.aworks.call(each) for each in seconds])
    deployment.settle_down(90.0)

    assert 100 == deployment.judge()["COMPLETED"]
    assert worker.poll() is None
