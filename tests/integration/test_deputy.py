"""A supervisor renews for a worker that is mute, and for no other."""

import os
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from taskflow._worker.deputy import Deputy, is_running
from taskflow._worker.leases import Leases
from taskflow._worker.ledger import LEDGER, Account, Ledger
from tests.support.keyspace import LEASE, Stage

SLEEP = "import time; time.sleep(60)"

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="no memory is shared elsewhere"
)


@pytest.fixture
def ledger() -> Ledger:
    """Give an empty one."""
    made = Ledger.create()
    assert made is not None
    return made


def introduce(ledger: Ledger, url: str = "redis://:secret@h/0") -> None:
    """Say what the tests' worker would."""
    ledger.introduce(url, "p:", lease=15.0, limit=60.0)


def test_what_a_worker_holds_is_read_by_another(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its leases, its last beat, and how they are renewed."""
    monkeypatch.setenv(LEDGER, str(os.dup(ledger.descriptor)))
    worker = Ledger.inherited()
    assert worker is not None
    assert None is Ledger.inherited() is ledger.read()
    leases = Leases(worker.hold)
    leases.add([("a", "1:w:1"), ("b", "2:w:1")])
    leases.drop([("b", "2:w:1")])
    before = time.monotonic()
    introduce(worker)
    account = ledger.read()

    assert account is not None
    assert before <= account.beat_at <= time.monotonic()
    assert account == Account(
        "redis://:secret@h/0", "p:", 15.0, 60.0, account.beat_at, [("a", "1:w:1")]
    )
    leases.drop([("a", "1:w:1")])
    assert [] == ledger.read().held


def test_more_leases_than_fit_are_left_out_whole(ledger: Ledger) -> None:
    """Those that are there can be renewed."""
    pairs = [(f"id-{each:032}", f"1:worker:{each}-1") for each in range(20_000)]
    introduce(ledger)
    ledger.hold(pairs)
    held = ledger.read().held

    assert 5_000 < len(held) < 20_000
    assert pairs[: len(held)] == held


def test_nobody_stands_in_where_the_address_is_too_long(ledger: Ledger) -> None:
    """As that of a hundred sentinels; the worker itself goes on as it is."""
    introduce(ledger, "redis+sentinel://" + ",".join(["host:26379"] * 500))

    assert None is ledger.read()


def lease_end(stage: Stage) -> float:
    """Give the end of the one lease there is, ms."""
    ((_, ends),) = stage.client.zrange("tasks:active", 0, -1, withscores=True)
    return float(ends)


@pytest.fixture
def account(real_stage: Stage) -> Account:
    """Give what a worker wrote that holds a task and has been mute for a while."""
    stage = real_stage
    held = stage.claimed("t1", now_ms=0)
    socket = stage.client.connection_pool.connection_kwargs["path"]
    pairs = [(each.id, each.token) for each in held]
    beat_at = time.monotonic() - 10.0
    return Account(f"unix://{socket}", "", LEASE / 1000, 60.0, beat_at, pairs)


def test_what_a_mute_worker_holds_is_renewed_and_said_once(
    real_stage: Stage, account: Account, caplog: pytest.LogCaptureFixture
) -> None:
    """From now on for a whole lease."""
    deputy = Deputy(list)
    before = lease_end(real_stage)
    time.sleep(0.05)
    deputy.look_after(os.getpid(), account)
    first = lease_end(real_stage)
    deputy.look_after(os.getpid(), account)

    assert before < first <= lease_end(real_stage)
    assert 1 == caplog.text.count("a body holds the interpreter")


def test_one_that_beats_that_is_silent_too_long_or_gone_is_left_alone(
    real_stage: Stage, account: Account
) -> None:
    """So is one that was stopped: its tasks are to begin again elsewhere."""
    sleeper: Any = subprocess.Popen([sys.executable, "-c", SLEEP])
    try:
        assert is_running(sleeper.pid)
        sleeper.send_signal(signal.SIGSTOP)
        deadline = time.monotonic() + 10.0
        while is_running(sleeper.pid):
            assert time.monotonic() < deadline
        before = lease_end(real_stage)
        deputy, now = Deputy(list), time.monotonic()
        for pid, seen in (
            (os.getpid(), {"beat_at": now - 0.4 * account.lease}),
            (os.getpid(), {"beat_at": now - 61.0}),
            (os.getpid(), {"held": []}),
            (sleeper.pid, {}),
            (2**22 + 1, {}),
        ):
            deputy.look_after(pid, account_with(account, **seen))
    finally:
        sleeper.kill()
        sleeper.wait()

    assert before == lease_end(real_stage)


def account_with(account: Account, **changes: Any) -> Account:
    """Give *account* with other facts."""
    names = ("url", "prefix", "lease", "limit", "beat_at", "held")
    return Account(**{name: getattr(account, name) for name in names} | changes)


def test_a_lease_that_is_lost_and_a_server_that_is_away_are_no_errors(
    real_stage: Stage, account: Account
) -> None:
    """The worker hears of both when it is not mute any more."""
    stale = account_with(account, held=[("t1", "9:w:9")])
    Deputy(list).look_after(os.getpid(), stale)
    away = account_with(account, url="redis://127.0.0.1:1/0")
    Deputy(list).look_after(os.getpid(), away)
