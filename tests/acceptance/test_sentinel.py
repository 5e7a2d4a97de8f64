"""A primary, its replica and three sentinels: who follows, and what is lost."""

import asyncio
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskflow import Registry, TaskFlow, TaskState
from taskflow._servers.sentinel import SentinelServer
from taskflow.errors import (
    ServerRefusedError,
    ServerUnavailableError,
    TaskNotFoundError,
)
from tests.support.echo_scripts import echo, incr, publish
from tests.support.processes import Deployment
from tests.support.topologies import DOWN_AFTER, SentinelSet, nodes, wait_for

pytestmark = [pytest.mark.deep, pytest.mark.timeout(60)]

FOLLOWS_WITHIN = DOWN_AFTER + 5.0
PATIENT = 20.0
SECRET = "sentinels-only"  # noqa: S105 - of servers that the tests start
OTHER = "servers-only"

APP = """
import asyncio, os, time
from taskflow import Context, Registry

registry = Registry()

def log(*words):
    line = " ".join(map(str, words)) + f" {time.monotonic():.3f}\\n"
    file = os.open(os.environ["RUN_LOG"], os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    os.write(file, line.encode())
    os.close(file)

@registry.task(name="nap")
async def nap(ctx: Context, number: int, seconds: float) -> int:
    log("start", number, ctx.deliveries)
    await asyncio.sleep(seconds)
    log("end", number, ctx.deliveries)
    return number
"""

registry = Registry()


@registry.task(name="nap")
def nap(number: int, seconds: float) -> int:
    """Stand for the worker's task of this name."""
    raise NotImplementedError(number, seconds)


@pytest.fixture
def watched() -> Iterator[SentinelSet]:
    """Give a set whose servers may be killed."""
    with nodes() as start:
        yield SentinelSet(start)


@pytest.fixture(scope="module")
def guarded() -> Iterator[str]:
    """Give the URL of a set that asks for one password, its sentinels for another."""
    with nodes() as start:
        made = SentinelSet(start)
        yield made.guard(sentinels=SECRET, server=OTHER)


@pytest.mark.parametrize("engine", ["asyncio", "celery"])
def test_a_worker_follows_a_failover_and_loses_nothing_replicated(
    watched: SentinelSet, tmp_path: Path, engine: str
) -> None:
    """What ran is settled with the new primary, what waited runs there; each once."""
    if engine == "celery":
        pytest.importorskip("celery")
    deployment = Deployment(tmp_path, APP, registry, url=watched.url)
    try:
        deployment.worker("-c", "5", "--executor", engine)
        running = deployment.flow.enqueue_many([nap.call(n, 1.5) for n in range(5)])
        waiting = deployment.flow.enqueue_many(
            [nap.call(n, 0.05) for n in range(5, 30)]
        )
        wait_for(lambda: len(deployment.lines("start")) == 5)
        assert 1 == watched.primary.ask("WAIT", 1, 5000)

        killed_at = time.monotonic()
        watched.primary.kill()

        wait_for(lambda: deployment.count(TaskState.COMPLETED) == 30)
        results = [handle.result(timeout=1) for handle in [*running, *waiting]]
        begun = [at for _, _, at in deployment.lines("start") if at > killed_at]
        runs = Counter(name for name, _, _ in deployment.lines("start"))
        assert list(range(30)) == results
        assert min(begun) - killed_at <= FOLLOWS_WITHIN
        assert {1} == set(runs.values())
        assert "master" == watched.replica.role()
    finally:
        deployment.close()


@pytest.fixture
def deployment(watched: SentinelSet, tmp_path: Path) -> Iterator[Deployment]:
    """Give a place for workers of the set."""
    made = Deployment(tmp_path, APP, registry, url=watched.url)
    yield made
    made.close()


def findings(deployment: Deployment) -> dict[str, str]:
    """Tell what the doctor says of the tasks."""
    told: dict[str, str] = {}

    def is_told() -> bool:
        told.update({each.check: each.severity for each in deployment.flow.doctor()})
        return "homes" in told  # it found the primary

    wait_for(is_told)
    return {check: told[check] for check in ("homes", "records")}


def test_a_claim_that_a_failover_forgets_is_made_again(
    watched: SentinelSet, deployment: Deployment
) -> None:
    """With the same number; the first run goes on beside it, and cannot settle.

    The resume is forgotten as well: a person has to say it once more.
    """
    worker = deployment.worker("-c", "2", TASKFLOW_LEASE="30")
    wait_for(lambda: deployment.alive() == 1)
    deployment.flow.queues.pause("primary")
    handle = deployment.flow.enqueue(nap.call(7, 10.0))
    assert 1 == watched.primary.ask("WAIT", 1, 5000)
    watched.part()
    deployment.flow.queues.resume("primary")
    wait_for(lambda: deployment.lines("start"))

    watched.primary.kill()

    wait_for(lambda: handle.info().state is TaskState.PENDING)
    deployment.flow.queues.resume("primary")
    wait_for(lambda: len(deployment.lines("start")) == 2)
    (_, first, began), (_, second, again) = deployment.lines("start")
    assert (1, 1) == (first, second)
    assert again < began + 10.0
    wait_for(lambda: "lease lost" in deployment.said(worker))
    assert TaskState.ACTIVE is handle.info().state
    assert 7 == handle.result(timeout=20)
    # Times are written to the millisecond, and a sleep may end one early.
    assert again + 9.9 <= max(at for _, _, at in deployment.lines("end"))
    assert (1, 0) == (handle.info().deliveries, handle.info().crashes)
    assert {"homes": "ok", "records": "ok"} == findings(deployment)


def test_a_settling_that_a_failover_forgets_is_another_run(
    watched: SentinelSet, deployment: Deployment
) -> None:
    """Its worker does not know of the lease any more, and hands the task back."""
    deployment.worker("-c", "2")
    handle = deployment.flow.enqueue(nap.call(7, 1.0))
    wait_for(lambda: deployment.lines("start"))
    assert 1 == watched.primary.ask("WAIT", 1, 5000)
    watched.part()
    assert 7 == handle.result(timeout=10)
    unknown = deployment.flow.enqueue(nap.call(8, 0.0))

    watched.primary.kill()

    wait_for(handle.info)
    with pytest.raises(TaskNotFoundError):
        unknown.info()
    assert 7 == handle.result(timeout=20)
    runs = [number for name, number, _ in deployment.lines("start") if name == "7"]
    assert [1, 2] == runs
    assert {"homes": "ok", "records": "ok"} == findings(deployment)


def test_the_doctor_finds_and_mends_what_a_failover_has_broken(
    watched: SentinelSet, deployment: Deployment
) -> None:
    """With whoever is the primary; it says who that is."""
    handle = deployment.flow.enqueue(nap.call(7, 0.0))
    assert 1 == watched.primary.ask("WAIT", 1, 5000)
    watched.primary.kill()
    wait_for(lambda: watched.replica.role() == "master")
    watched.replica.client.delete("tasks:pending:primary")

    assert "error" == findings(deployment)["homes"]
    mended = deployment.flow.doctor(repair=True)

    assert watched.replica.address in "".join(each.what for each in mended)
    assert {"homes": "ok", "records": "ok"} == findings(deployment)
    deployment.worker("-c", "2")
    assert 7 == handle.result(timeout=20)


def test_every_runner_leaves_a_primary_that_hangs(watched: SentinelSet) -> None:
    """Its connections stay open and answer nothing; another has its place."""
    server = SentinelServer(f"{watched.url}?socket_timeout=1")
    blocking = server.runner(patience=PATIENT)
    waited: list[float] = []

    def in_a_thread(started: float) -> None:
        blocking.send(incr("k"))
        waited.append(time.monotonic() - started)

    async def on_a_loop() -> bytes | None:
        runner = server.async_runner(patience=PATIENT)
        async with runner.subscribe("news") as news:
            await runner.send(incr("k"))
            started = time.monotonic()
            watched.primary.process.send_signal(signal.SIGSTOP)
            thread = threading.Thread(target=in_a_thread, args=(started,))
            thread.start()
            await runner.send(incr("k"))
            waited.append(time.monotonic() - started)
            await asyncio.to_thread(thread.join)
            await news.next(0.1)  # listens anew where the server is now
            await runner.send(publish("news", "a"))
            return await news.next(PATIENT)

    blocking.send(incr("k"))

    assert b"a" == asyncio.run(on_a_loop())
    assert max(waited) <= FOLLOWS_WITHIN
    assert server.place == watched.replica.address
    assert b"4" == watched.replica.client.get("k")
    blocking.close()


@pytest.mark.timeout(60)
def test_a_primary_that_was_demoted_is_left(watched: SentinelSet) -> None:
    """By what is connected to it, and by who listens there."""
    with TaskFlow(watched.url, registry=registry) as flow:
        flow.enqueue(nap.call(1, 0.0))
        assert 1 == watched.primary.ask("WAIT", 1, 5000)

        # The primary hands over what it has, so nothing is lost; Valkey alone has it.
        def is_demoted() -> bool:
            if watched.primary.role() == "slave":
                return True
            # A busy machine makes it give up: once more, unless it is at it.
            words = ("SENTINEL", "FAILOVER", "mymaster", "COORDINATED")
            watched.sentinels[0].ask(*words)
            return False

        wait_for(is_demoted, 40.0)
        flow.connection.server.runner(patience=PATIENT).send(incr("k"))
        flow.enqueue(nap.call(2, 0.0))

        assert 2 == flow.queues.status().states[TaskState.PENDING]
        assert watched.replica.address == flow.connection.server.place


class TestSentinels:
    """Whom to ask, and what they may refuse."""

    def test_the_sentinels_password_is_not_the_servers(self, guarded: str) -> None:
        """Each gets its own, and neither is shown."""
        server = SentinelServer(guarded)

        assert b"x" == server.runner().send(echo("x"))
        assert "only" not in server.display

    def test_a_wrong_password_is_said_at_once(self, guarded: str) -> None:
        """Waiting would not help."""
        server = SentinelServer(guarded.replace(SECRET, "wrong"))

        with pytest.raises(ServerRefusedError, match="password"):
            server.runner(patience=PATIENT).send(echo("x"))

    def test_a_name_that_nobody_knows_is_said_at_once(self, guarded: str) -> None:
        """With the name, since it is most likely misspelt."""
        server = SentinelServer(guarded.replace("mymaster", "mimaster"))

        with pytest.raises(ServerRefusedError, match="no primary is called 'mimaster'"):
            server.runner(patience=PATIENT).send(echo("x"))

    def test_one_sentinel_that_lives_is_enough(self, guarded: str) -> None:
        """Whichever of those that the URL names."""
        dead = f"{OTHER}@127.0.0.1:1,"
        server = SentinelServer(guarded.replace(f"{OTHER}@", dead))

        assert b"x" == server.runner().send(echo("x"))

    def test_a_url_without_one_that_lives_says_whom_it_asked(self) -> None:
        """And that somebody may answer later."""
        server = SentinelServer("redis+sentinel://127.0.0.1:1,127.0.0.1:2/m")

        with pytest.raises(ServerUnavailableError, match=r"0\.1:1: .*0\.1:2: "):
            server.runner(patience=0.0).send(echo("x"))
