"""Each script that writes is called, its reply is lost, and the call is sent again.

Every case runs twice on an empty server: once as it is, and once through a proxy that
cuts the connection when the reply comes. The keyspaces must be the same.

A script that writes and has no case here fails `test_every_script_that_writes_is_here`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from taskflow._protocol.operation import Operation
from taskflow._servers.redis import RedisServer
from tests.support.keyspace import Stage
from tests.support.proxy import Proxy
from tests.support.script_calls import CASES, KEYS, SAME
from tests.support.writing_scripts import FOLDER, NAMES, WRITERS


@pytest.fixture
def proxy(redis_socket: Path) -> Iterator[Proxy]:
    """Give a proxy before the real server."""
    made = Proxy(redis_socket)
    yield made
    made.close()


@pytest.fixture
def lossy(redis_server: RedisServer, proxy: Proxy) -> Iterator[Any]:
    """Give a runner that sends through the proxy."""
    server = RedisServer(proxy.url)
    runner = server.runner(patience=20.0)
    yield runner
    runner.close()
    server.close()


def answer(runner: Any, operation: Operation[Any]) -> Any:
    """Send *operation*; give its answer, or the class of its error."""
    (found,) = runner.send_all([operation])
    return type(found) if isinstance(found, Exception) else found


def audit_log(found: dict[str, Any]) -> list[Any]:
    """Take the audit log out of a keyspace."""
    told: list[Any] = found.pop("tasks:events", [])
    return told


@pytest.mark.parametrize("name", CASES)
def test_a_call_whose_reply_was_lost_is_sent_again_without_harm(
    name: str, real_stage: Stage, proxy: Proxy, lossy: Any
) -> None:
    """The keyspace is that of a call whose reply came; the answer is as true."""
    case, stage, lost = CASES[name], real_stage, []
    first = answer(stage.runner, case.make(stage))
    expected = stage.dump()
    stage.client.flushdb()
    operation = case.make(Stage(stage.client, stage.runner, KEYS))
    proxy.trap(operation.script.sha, "after", lambda: lost.append(name))

    second = answer(lossy, operation)

    found = stage.dump()
    assert [name] == lost
    assert (first if case.again is SAME else case.again) == second
    if case.tells:
        told, again = audit_log(expected), audit_log(found)
        assert told[-1:] * 2 == again[-2:]
        assert told == again[:-1]
        for keyspace in (expected, found):
            keyspace.get("upstream:api", {}).pop("epoch", None)
    assert expected == found


def test_every_script_that_writes_is_here() -> None:
    """A new one fails this test until it has a case; one that only reads needs none."""
    assert WRITERS == {name.partition(":")[0] for name in CASES}


@pytest.mark.parametrize("name", sorted(set(NAMES) - WRITERS))
def test_a_script_that_is_taken_for_a_reader_says_that_it_moves_nothing(
    name: str,
) -> None:
    """So that none is left out above because it was taken for a reader."""
    header = (FOLDER / f"{name}.lua").read_text("utf-8").partition("\n\n")[0]
    (moves,) = [line for line in header.splitlines() if line.startswith("-- Moves")]

    assert moves.endswith(" none")


def test_what_writes_is_found_in_the_text() -> None:
    """A writer and a reader of each sort, by name."""
    assert {"claim", "extend", "delete_keys", "watch"} <= WRITERS
    assert not {"get", "status", "expiring_leases", "inspect_task"} & WRITERS
