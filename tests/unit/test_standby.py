"""What a standby process renews, when, and how; by a clock of the tests."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import asdict

from taskflow._protocol import settle
from taskflow._protocol.keys import Keys
from taskflow._servers import resp
from taskflow._servers.redis import RedisServer
from taskflow._servers.route import Route
from taskflow._servers.sentinel import SentinelServer
from taskflow._worker import standby, standby_rules, standby_server
from taskflow._worker.lease_table import MOST_ENTRIES, LeaseReader, LeaseTable, Pair
from taskflow._worker.leases import Leases
from taskflow._worker.standby import Standby
from taskflow._worker.standby_rules import ProcessState, Renewer, Server
from taskflow._worker.standby_server import RedisServer as StandbyServer
from tests.support.processes import wait_until
from tests.support.stub_server import OK, stub_server

PEM = Path(__file__).parent.parent / "tls" / "localhost.pem"
LEASE = 15.0
LIMIT = 60.0
BURN = "while True: pass"
ON_LINUX = pytest.mark.skipif(
    sys.platform != "linux", reason="there is no standby process elsewhere"
)

pytestmark = ON_LINUX


@pytest.fixture
def table() -> Iterator[LeaseTable]:
    """Give an empty table, as the worker has it."""
    made = LeaseTable(LIMIT)
    yield made
    made.close()


def shown(table: LeaseTable) -> list[Pair]:
    """Read the leases that another process sees."""
    return sorted(pair for _, pair in LeaseReader(table.descriptor).leases())


# The table.


def test_another_process_reads_what_a_worker_holds(table: LeaseTable) -> None:
    """From the start of the table on, and without what was dropped."""
    leases = Leases()
    leases.add([("a", "1:w:1")])
    leases.show(table)
    leases.add([("b", "2:w:1"), ("c", "3:w:1")])
    leases.drop([("b", "2:w:1")])

    assert [(b"a", b"1:w:1"), (b"c", b"3:w:1")] == shown(table)
    leases.add([("d", "4:w:1")])
    assert [b"a", b"c", b"d"] == [pair[0] for pair in shown(table)]
    leases.show(None)
    leases.drop([("a", "1:w:1")])
    assert 3 == len(shown(table))


def test_a_lease_is_renewed_until_the_hard_limit_of_its_task(
    table: LeaseTable,
) -> None:
    """Until its task begins, that is the limit of the worker."""
    leases = Leases()
    leases.show(table)
    before = time.monotonic()
    leases.add([("a", "1:w:1"), ("b", "2:w:1")])
    leases.limit(("b", "2:w:1"), 7.0)
    leases.limit(("c", "3:w:1"), 8.0)  # lost meanwhile
    until = {pair[0]: at for at, pair in LeaseReader(table.descriptor).leases()}

    assert before + LIMIT <= until[b"a"] <= time.monotonic() + LIMIT
    assert 7.0 == until[b"b"]


def test_leases_that_do_not_fit_are_left_to_the_heartbeat(table: LeaseTable) -> None:
    """The others have a place, and a place that is free again is used again."""
    pairs = [(f"id-{each}", f"{each}:worker:1-1") for each in range(MOST_ENTRIES + 5)]
    table.add([("id", "t" * 250)])
    table.add(pairs)

    assert MOST_ENTRIES == len(shown(table))
    table.remove(pairs)
    assert [] == shown(table)
    table.add(pairs[-5:])
    assert {pair[0].encode() for pair in pairs[-5:]} == {e[0] for e in shown(table)}


# The rules.


class FakeServer(Server):
    """Keeps what is renewed, and may not answer.

    Attributes:
        renewed: The ids, one list for each renewal.
        strays: What the server has leased to the worker, which does not know it.
        is_away: Whether it gives no answer.
        connections: How many were opened.
        is_open: Whether the last of them is.
    """

    def __init__(self) -> None:
        self.renewed: list[list[str]] = []
        self.strays: list[Pair] = []
        self.is_away = self.is_open = False
        self.connections = 0

    def connect(self) -> Server:
        """Open a connection."""
        self.connections += 1
        self.is_open = True
        return self

    def renew(self, pairs: list[Pair]) -> None:
        """Keep *pairs*."""
        if self.is_away:
            raise ConnectionRefusedError
        self.renewed.append([task_id.decode() for task_id, _ in pairs])

    def unknown(self, known: list[Pair]) -> list[Pair]:
        """Give the strays."""
        return [pair for pair in self.strays if pair not in known]

    def close(self) -> None:
        """Close the connection."""
        self.is_open = False


class Process(ProcessState):
    """A worker process that is stopped when the test says so."""

    def __init__(self) -> None:
        super().__init__(0)
        self.is_running = True

    def runs(self) -> bool:
        """Tell whether it runs."""
        return self.is_running


class Stage:
    """A standby process without its process.

    Attributes:
        beat_at: When the last heartbeat was answered.
    """

    def __init__(self, table: LeaseTable) -> None:
        self.table, self.beat_at = table, table.beat_at
        self.server, self.process = FakeServer(), Process()
        reader = LeaseReader(table.descriptor)
        self.renewer = Renewer(reader, self.process, LEASE, LIMIT)
        self.renewer.use(self.server.connect)

    def at(self, *seconds: float) -> list[list[str]]:
        """Check at *seconds* since the last heartbeat; give what was renewed then."""
        self.server.renewed.clear()
        for each in seconds:
            self.renewer.check(self.beat_at + each)
        return list(self.server.renewed)


@pytest.fixture
def stage(table: LeaseTable) -> Stage:
    """Give one whose worker holds two tasks; one has a hard limit of 20 s."""
    table.add([("long", "1:w:1"), ("short", "2:w:1")])
    table.limit(("long", "1:w:1"), table.beat_at + LIMIT)
    table.limit(("short", "2:w:1"), table.beat_at + 20.0)
    return Stage(table)


def test_leases_are_renewed_three_times_in_each_while_the_worker_is_unresponsive(
    stage: Stage, table: LeaseTable
) -> None:
    """From a little after its next heartbeat is due on."""
    both = ["long", "short"]

    assert [] == stage.at(0.0, 5.0, 6.0)
    assert [both] == stage.at(6.1, 8.0, 11.0)
    assert [both, both] == stage.at(11.2, 16.3)
    assert 6 == table.renewed()
    assert (1, True) == (stage.server.connections, stage.server.is_open)
    stage.beat_at += 18.0
    table.beat(stage.beat_at)
    assert [] == stage.at(0.1, 6.0)
    assert not stage.server.is_open
    assert [both] == stage.at(6.1)


def test_a_task_that_is_past_its_hard_limit_by_a_lease_is_renewed_no_longer(
    stage: Stage,
) -> None:
    """A worker that is deadlocked cannot end it; others may have it."""
    assert [["long", "short"]] == stage.at(34.9)
    assert [["long"]] == stage.at(40.0)
    assert [["long"]] == stage.at(74.9)
    assert [] == stage.at(80.0, 90.0)


def test_a_worker_that_is_stopped_loses_its_leases(stage: Stage) -> None:
    """Its tasks begin again elsewhere; once it continues, they are renewed."""
    stage.process.is_running = False

    assert [] == stage.at(8.0, 10.0)
    stage.process.is_running = True
    assert 1 == len(stage.at(10.5))


def test_a_server_that_is_away_is_asked_again_at_every_check(stage: Stage) -> None:
    """A lease may end before the next renewal would be due."""
    stage.server.is_away = True

    assert [] == stage.at(8.0, 8.1)
    stage.server.is_away = False
    assert 1 == len(stage.at(8.2))
    assert 3 == stage.server.connections


def test_leases_of_a_claim_whose_reply_is_unread_are_renewed(stage: Stage) -> None:
    """The event loop waits for the interpreter too, and crashes are counted."""
    stage.server.strays = [(b"short", b"2:w:1"), (b"stray", b"3:w:1")]

    assert [["long", "short"], ["stray"]] == stage.at(8.0)
    assert [["long"], ["stray"]] == stage.at(70.0)
    assert [] == stage.at(76.0)


def test_nothing_is_renewed_before_the_worker_has_named_its_server(
    stage: Stage, table: LeaseTable
) -> None:
    """It does so with its first answered heartbeat."""
    unnamed = Renewer(LeaseReader(table.descriptor), stage.process, LEASE, LIMIT)
    unnamed.check(stage.beat_at + 8.0)

    assert [] == stage.server.renewed


# Whether the worker process runs.


@pytest.mark.parametrize("has_proc", [True, False], ids=["proc", "no-proc"])
def test_a_stopped_process_is_told_from_one_that_computes(
    monkeypatch: pytest.MonkeyPatch, has_proc: bool
) -> None:
    """By its state, or by its processor time where ``/proc`` is not mounted."""
    if not has_proc:
        monkeypatch.setattr(standby_rules, "process_state", lambda pid: "")
    process = subprocess.Popen([sys.executable, "-c", BURN])
    try:
        state = ProcessState(process.pid)
        wait_until(state.runs)
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        state.runs()  # it may have computed since the last look
        time.sleep(0.05)
        assert not state.runs()
        process.send_signal(signal.SIGCONT)
        wait_until(state.runs)
    finally:
        process.kill()
        process.wait()

    assert not state.runs()


def test_a_system_that_cannot_tell_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker logs it when it starts."""
    assert "" == standby_rules.obstacle()
    monkeypatch.setattr(standby_rules, "process_state", lambda pid: "")
    assert "" == standby_rules.obstacle()

    def refuse(clock: int) -> float:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(time, "clock_gettime", refuse)
    assert "Invalid argument" in standby_rules.obstacle()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "it is not supported on darwin" == standby_rules.obstacle()


# What is sent.


def test_the_scripts_are_called_as_the_protocol_describes_them() -> None:
    """They are described twice, because this process imports nothing of the library."""
    keys = Keys("{p}:")
    pairs = [("a", "1:w:1"), ("b", "2:w:1")]
    extend = settle.extend(keys, pairs, lease_ms=15_000)
    unrenewed = settle.expiring_leases(keys, worker="w", horizon_ms=7_500)
    with stub_server(lambda command: OK) as stub:
        route = RedisServer(stub.url).route()
        server = StandbyServer(Standby(keys, "w", 15.0, LIMIT).facts(route))
        server.close()
    as_bytes = [(task_id.encode(), token.encode()) for task_id, token in pairs]
    packed = standby_server.packed

    assert resp.evalsha(extend) == packed(server.extend(as_bytes))
    assert resp.evalsha(unrenewed) == packed(server.unrenewed())


@pytest.mark.parametrize(
    ("url", "place", "tls", "login"),
    [
        ("redis://h:1/0", ("", "h", 1), None, ()),
        (
            "redis://user:p%40ss@h/3",
            *(("", "h", 6379), None),
            (("AUTH", "user", "p@ss"), ("SELECT", "3")),
        ),
        ("redis://:secret@h", ("", "h", 6379), None, (("AUTH", "secret"),)),
        ("redis://user@h", ("", "h", 6379), None, (("AUTH", "user", ""),)),
        ("unix:///run/s?db=2", ("/run/s", "localhost", 6379), None, (("SELECT", "2"),)),
        (
            f"rediss://h?ssl_ca_certs={PEM}&ssl_include_verify_flags=VERIFY_X509_STRICT",
            ("", "h", 6379),
            {
                "ssl_check_hostname": True,
                "ssl_ca_certs": str(PEM),
                "ssl_include_verify_flags": [32],
            },
            (),
        ),
    ],
)
def test_a_route_says_what_the_url_says(
    url: str, place: tuple[str, str, int], tls: Any, login: Any
) -> None:
    """It is all that another process needs to connect, and can be written as JSON."""
    route = RedisServer(url).route()

    assert Route(*place, tls, (*login, ("CLIENT", "SETNAME", "taskflow"))) == route
    assert json.dumps(asdict(route))


def test_a_server_that_was_not_found_yet_has_no_route() -> None:
    """Sentinels are asked with the first call."""
    server = SentinelServer("redis+sentinel://h:26379/mymaster")

    assert None is server.route()
    server._place = ("elsewhere", 7)
    route = server.route()
    assert route is not None
    assert ("elsewhere", 7) == (route.host, route.port)


def test_the_process_imports_little() -> None:
    """It is there for as long as the worker, and mostly waits."""
    program = standby._PROGRAM.replace("main()", "print(*sys.modules)")
    here = Path(standby.__file__).parent
    told = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program, here.parent, here],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(told.stdout.split())
    heavy = {"attrs", "json", "pathlib", "re", "redis", "socket", "ssl", "typing"}
    ours = {"lease_table", "standby_process", "standby_rules"}

    assert set() == heavy & loaded
    ours_loaded = {each for each in loaded if each.startswith("taskflow._worker.")}
    assert {f"taskflow._worker.{name}" for name in ours} == ours_loaded
