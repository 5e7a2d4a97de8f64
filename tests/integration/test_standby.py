"""A standby process beside its worker: what it sends, and when it ends."""

import asyncio
import contextlib
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from attrs import asdict

from taskflow import Context, Registry, TaskFlow, Worker
from taskflow._events import WorkerStarted
from taskflow._servers.redis import RedisServer
from taskflow._settings import WorkerSettings
from taskflow._worker import standby as module
from taskflow._worker.standby import Standby
from taskflow._worker.standby_server import Connection, ReplyError
from taskflow._worker.standby_server import RedisServer as StandbyServer
from tests.support.keyspace import LEASE, Stage
from tests.support.processes import lives, wait_until
from tests.support.stub_server import OK, error, stub_server

PEM = Path(__file__).parent.parent / "tls" / "localhost.pem"

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="there is no standby process elsewhere"
)


# What it sends.


def connected(url: str) -> Connection:
    """Connect to *url* as the standby process does."""
    return Connection({**asdict(RedisServer(url).route()), "timeout": 5.0})


@pytest.fixture
def tls() -> ssl.SSLContext:
    """Give the server's side of TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(PEM)
    return context


def test_replies_of_every_kind_are_read() -> None:
    """An error is one of them."""
    replies = [b"+OK\r\n", b":3\r\n", b"$2\r\nab\r\n", b"$-1\r\n"]
    replies += [b"*2\r\n$1\r\na\r\n:1\r\n", error("NOSCRIPT no")]
    waiting = iter(replies)
    with stub_server(lambda command: next(waiting)) as stub:
        connection = connected(stub.url)
        *read, refusal = connection.send([("PING",)] * len(replies))
        connection.close()

    assert [b"OK", 3, b"ab", None, [b"a", 1]] == read
    assert refusal.is_missing
    assert [[b"SETNAME", b"taskflow"]] == stub.told


@pytest.mark.parametrize("reply", [None, b"*2\r\n:1\r\n"], ids=["none", "half"])
def test_a_connection_that_breaks_is_an_error(reply: bytes | None) -> None:
    """Half a reply is none."""
    waiting = iter([reply, None])
    with stub_server(lambda command: next(waiting)) as stub:
        connection = connected(stub.url)
        with pytest.raises(OSError):  # noqa: PT011 - of every kind
            connection.send([("PING",), ("PING",)])
        connection.close()


def test_a_login_that_is_refused_is_an_error() -> None:
    """Nothing is sent after it."""
    with stub_server(lambda command: error("WRONGPASS no")) as stub:
        url = stub.url.replace("redis://", "redis://:wrong@")
        with pytest.raises(ReplyError, match="WRONGPASS"):
            connected(url)

    assert ["AUTH"] == stub.commands


def test_tls_is_checked_as_the_url_says(tls: ssl.SSLContext) -> None:
    """Verification is on unless the URL turns it off."""
    with stub_server(lambda command: OK, tls) as stub:
        elsewhere = stub.url.replace("localhost", "127.0.0.1")
        trusted = f"ssl_ca_certs={PEM}"
        for url in (
            f"{stub.url}?{trusted}",
            f"{stub.url}?ssl_cert_reqs=none",
            f"{elsewhere}?{trusted}&ssl_check_hostname=false",
            f"{stub.url}?{trusted}&ssl_exclude_verify_flags=VERIFY_X509_TRUSTED_FIRST",
            f"{stub.url}?{trusted}&ssl_include_verify_flags=VERIFY_X509_TRUSTED_FIRST",
        ):
            connection = connected(url)
            assert [b"OK"] == connection.send([("PING",)])
            connection.close()
        for url in (stub.url, f"{elsewhere}?{trusted}"):
            with pytest.raises(ssl.SSLError):
                connected(url)


def lease_end(stage: Stage, task_id: str = "t1") -> float:
    """Give the end of a lease, ms."""
    return float(stage.client.zscore("tasks:active", task_id))


@pytest.fixture
def server(real_stage: Stage, redis_url: str) -> Iterator[StandbyServer]:
    """Give the real server, as the standby process of the stage's worker sees it."""
    route = RedisServer(redis_url).route()
    facts = Standby(real_stage.keys, "w", LEASE / 1000, 60.0).facts(route)
    made = StandbyServer(facts)
    yield made
    made.close()


def test_leases_are_renewed_where_the_server_does_not_hold_the_scripts(
    real_stage: Stage, server: StandbyServer
) -> None:
    """From now on for a whole lease; one that is lost is left alone."""
    claims = real_stage.claimed("t1", "t2", now_ms=0)
    real_stage.client.script_flush()
    before = lease_end(real_stage)
    time.sleep(0.05)
    server.renew([(b"t1", claims[0].token.encode()), (b"t2", b"9:w:9")])

    assert before < lease_end(real_stage)
    assert lease_end(real_stage, "t2") < lease_end(real_stage)


def test_leases_that_the_worker_has_not_heard_of_are_found(
    real_stage: Stage, server: StandbyServer
) -> None:
    """As soon as less than half of one is left, and only those of this worker."""
    claims = real_stage.claimed("t1", "t2", now_ms=0)
    pairs = [(each.id.encode(), each.token.encode()) for each in claims]

    assert [] == server.unknown([])
    seconds, _ = real_stage.client.time()
    soon = dict.fromkeys(["t1", "t2"], seconds * 1000 + 5000)
    real_stage.client.zadd("tasks:active", soon)
    assert sorted(pairs) == sorted(server.unknown([]))
    assert pairs[1:] == server.unknown(pairs[:1])
    server._facts["worker"] = "another"
    assert [] == server.unknown([])


# When it ends.


@pytest.fixture
async def flow(redis_url: str) -> AsyncIterator[TaskFlow]:
    """Give a flow of its own on a real server."""
    prefix = f"standby-{time.monotonic_ns()}:"
    async with TaskFlow(redis_url, prefix=prefix, registry=Registry()) as made:
        yield made


HOST = """
import asyncio, multiprocessing, os, sys, threading, time, taskflow

url, prefix, mode = sys.argv[1:]
registry = taskflow.Registry()
flow = taskflow.TaskFlow(url, prefix=prefix, registry=registry)


@registry.task(name="long")
async def long(ctx: taskflow.Context) -> int:
    print(worker._standby._process.pid, flush=True)
    await asyncio.sleep(60)
    return ctx.deliveries


worker = taskflow.Worker(flow, concurrency=1)


def serve():
    worker.run()


def close_by_hand():
    loop = asyncio.new_event_loop()
    task = loop.create_task(worker.arun())
    for _ in range(100):
        loop.run_until_complete(asyncio.sleep(0.05))
        if len(worker._leases):
            break
    loop.run_until_complete(asyncio.sleep(0.5))
    loop.close()
    kept.append((loop, task))
    time.sleep(60)


kept = []
if mode == "thread":
    threading.Thread(target=serve, daemon=True).start()
    time.sleep(60)
elif mode == "forked":
    threading.Thread(target=serve, daemon=True).start()
    while not len(worker._leases):
        time.sleep(0.01)
    child = os.fork()
    print("child", child or os.getpid(), flush=True)
    time.sleep(60)
elif mode == "daemonic":
    context = multiprocessing.get_context("fork")
    process = context.Process(target=serve, daemon=True)
    process.start()
    print("worker", process.pid, flush=True)
    time.sleep(60)
else:
    close_by_hand()
"""


class Host:
    """A program that embeds a worker with a short lease, and has begun its task.

    Attributes:
        standby: Process id of the standby process.
        pid: Of the process that runs the worker.
        told: Other process ids, by their names.
    """

    def __init__(self, flow: TaskFlow, redis_url: str, mode: str) -> None:
        prefix = flow.connection.keys.prefix
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOST, redis_url, prefix, mode],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "TASKFLOW_LEASE": "1"},
            text=True,
        )
        self.told: dict[str, int] = {}
        self.standby = 0
        wanted = {"forked": 3, "daemonic": 2}.get(mode, 1)
        assert self.process.stdout is not None
        for _ in range(wanted):
            *names, pid = self.process.stdout.readline().split()
            if names:
                self.told[names[0]] = int(pid)
            else:
                self.standby = int(pid)
        self.pid = self.told.get("worker", self.process.pid)

    def close(self) -> None:
        """End what is left."""
        for pid in (self.pid, *self.told.values()):
            if lives(pid):
                os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.communicate()


def other_worker(flow: TaskFlow) -> Worker:
    """Make a worker with a lease of one second, which runs the host's task."""

    @flow.registry.task(name="long")
    async def long(ctx: Context) -> int:
        return ctx.deliveries

    return Worker(flow, concurrency=1, settings=WorkerSettings(lease=1.0))


@pytest.mark.parametrize(
    "mode",
    [
        *("thread", "daemonic", "closed"),
        pytest.param("forked", marks=pytest.mark.timed),
    ],
)
@pytest.mark.timeout(180)
async def test_the_standby_process_ends_with_its_worker(
    flow: TaskFlow, redis_url: str, mode: str
) -> None:
    """Its worker is killed, or the event loop of its worker is closed by hand.

    Something that the host has forked may keep every pipe of the worker open. The
    leases end, and another worker runs the task.
    """
    other = other_worker(flow)
    handle = await flow.aenqueue(flow.registry.get("long").call())
    host = await asyncio.to_thread(Host, flow, redis_url, mode)
    working = asyncio.create_task(other.arun())
    try:
        if mode != "closed":
            assert lives(host.standby)
            os.kill(host.pid, signal.SIGKILL)
        await asyncio.to_thread(wait_until, lambda: not lives(host.standby))
        result = await handle.aresult(20)
    finally:
        other.stop()
        await working
        await asyncio.to_thread(host.close)

    assert 2 == result


async def test_a_standby_process_that_is_killed_is_replaced(
    flow: TaskFlow, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With the next heartbeat; and none is left when the worker has stopped."""
    monkeypatch.setattr(module, "RESTART_PAUSE", 0.0)
    worker = other_worker(flow)
    working = asyncio.create_task(worker.arun())
    pids: list[int] = []

    def has_another() -> bool:
        process = getattr(worker, "_standby", None) and worker._standby._process
        if process and process.pid not in pids:
            pids.append(process.pid)
        return bool(process) and worker._standby._route is not None

    await asyncio.to_thread(wait_until, has_another)
    os.kill(pids[0], signal.SIGKILL)
    await asyncio.to_thread(wait_until, lambda: has_another() and len(pids) == 2)
    assert [False, True] == [lives(each) for each in pids]
    worker.stop()
    await working

    assert f"standby process {pids[0]} ended with code -9" in caplog.text
    assert (False, 0) == (lives(pids[1]), tables())


@pytest.mark.parametrize("lacks", ["memory", "interpreter", "platform"])
async def test_a_worker_without_a_standby_process_says_so_and_works(
    flow: TaskFlow,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    lacks: str,
) -> None:
    """When it starts, and once."""

    def refuse(name: str) -> int:
        raise PermissionError(1, "Operation not permitted")

    if lacks == "memory":
        monkeypatch.setattr(os, "memfd_create", refuse)
    elif lacks == "interpreter":
        monkeypatch.setattr(module, "python_program", lambda: "/no/such/python")
    else:
        monkeypatch.setattr(module, "obstacle", lambda: "not here")
    worker = other_worker(flow)
    handle = await flow.aenqueue(flow.registry.get("long").call())
    working = asyncio.create_task(worker.arun())
    result = await handle.aresult(20)
    worker.stop()
    await working

    assert (1, 1) == (result, caplog.text.count("no standby process"))
    assert worker._standby.table is None
    assert 0 == tables()


async def test_a_scheduler_has_no_standby_process(flow: TaskFlow) -> None:
    """It holds no leases."""
    scheduler = Worker(flow, claims=False)
    working = asyncio.create_task(scheduler.arun())
    begun = asyncio.Event()
    scheduler.events.subscribe(lambda event: begun.set(), WorkerStarted)
    await asyncio.wait_for(begun.wait(), 10)
    scheduler.stop()
    await working

    assert None is scheduler._standby._process


async def test_what_a_standby_process_renewed_is_logged(
    flow: TaskFlow, caplog: pytest.LogCaptureFixture
) -> None:
    """By the worker, with its first heartbeat after that."""
    standby = Standby(flow.connection.keys, "w", 1.0, 60.0)
    await asyncio.to_thread(standby.start)
    table = standby.table
    assert table is not None
    route = flow.connection.server.route()
    table.add([("no-such-task", "1:w:1")])
    standby.beat(time.monotonic(), route)
    assert "no heartbeat" not in caplog.text
    await asyncio.to_thread(wait_until, table.renewed)
    await asyncio.sleep(0.2)
    standby.beat(time.monotonic(), route)
    await asyncio.to_thread(standby.close)

    assert 1 == caplog.text.count("the standby process renewed the leases")


def tables() -> int:
    """Count the tables of leases that this process has open."""
    count = 0
    for each in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # that of the folder itself
            count += "taskflow-leases" in str(each.readlink())
    return count
