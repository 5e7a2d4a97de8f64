"""``taskflow reset``, run in this process against each kind of server."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import taskflow
from taskflow import TaskFlow
from taskflow._protocol.upkeep import heartbeat
from taskflow.cli import commands, exit_codes

registry = taskflow.Registry()
Reset = Callable[..., tuple[int, str, str]]


@registry.task(name="add")
def add(x: int, y: int) -> int:
    """Add."""
    return x + y


@pytest.fixture
def reset(
    server_url: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Reset:
    """Give a function that runs the command; it gives code, output and errors."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            exit_codes.run(
                commands.taskflow,
                "taskflow",
                ["reset", "--url", server_url, *arguments],
            )
        shown = capsys.readouterr()
        code = ended.value.code
        assert isinstance(code, int)
        return code, shown.out, shown.err

    return run


def alive(flow: TaskFlow) -> None:
    """Let a worker beat."""
    connection = flow.connection
    connection.runner.send(
        heartbeat(
            connection.keys, worker="w-1", info=b"{}", ttl_ms=60_000, known="", new="d1"
        )
    )


def states(flow: TaskFlow) -> int:
    """Count the tasks in every state."""
    return sum(flow.queues.status().states.values())


def test_nothing_is_deleted_unless_that_is_confirmed(
    server_url: str, reset: Reset
) -> None:
    """What would be is shown, with the server and the prefix."""
    with TaskFlow(server_url, registry=registry) as flow:
        flow.enqueue_many([add.call(1, 1), add.call(2, 2)])
        code, out, err = reset()
        all_code, all_out, _ = reset("--all-data")
        left = states(flow)

    assert (0, 0, "", 2) == (code, all_code, err, left)
    assert f"server         {server_url}\n" in out
    assert "prefix         (none)\n" in out
    assert "PENDING    2\n" in out
    assert "records of tasks" in out
    assert out.endswith("Nothing was deleted. To delete it: --confirm\n")
    assert "ALL DATA of this server, every database" in all_out


def test_what_is_ours_is_deleted_and_what_is_not_stays(
    server_url: str, reset: Reset
) -> None:
    """Another application's keys, and those of another prefix."""
    with (
        TaskFlow(server_url, registry=registry) as flow,
        TaskFlow(server_url, registry=registry, prefix="other:") as other,
    ):
        flow.enqueue_many([add.call(each, each) for each in range(500)])
        flow.audit_log.record("x")
        other.enqueue(add.call(1, 1))
        client = flow.connection.server.sync_client()  # type: ignore[attr-defined]
        client.set("session:9", "alice")
        code, out, err = reset("--confirm")
        left = (states(flow), states(other), client.get("session:9"))
        client.close()

    assert (0, "") == (code, err)
    assert "Deleted: 50" in out
    assert (0, 1, b"alice") == left


def test_a_prefix_is_deleted_alone(server_url: str, reset: Reset) -> None:
    """What stands under no prefix stays."""
    with (
        TaskFlow(server_url, registry=registry) as flow,
        TaskFlow(server_url, registry=registry, prefix="{app}:") as other,
    ):
        flow.enqueue(add.call(1, 1))
        other.enqueue(add.call(1, 1))
        code, out, _ = reset("--prefix", "{app}:", "--confirm", "--json")
        left = states(flow), states(other)

    told = json.loads(out)
    assert (0, (1, 0)) == (code, left)
    assert ("{app}:", 1) == (told["prefix"], told["deleted"]["records of tasks"])


def test_all_data_of_the_server_goes_when_that_is_said(
    server_url: str, reset: Reset
) -> None:
    """Other applications' too: FLUSHALL, and it says so."""
    with TaskFlow(server_url, registry=registry) as flow:
        flow.enqueue(add.call(1, 1))
        client = flow.connection.server.sync_client()  # type: ignore[attr-defined]
        client.set("session:9", "alice")
        code, out, _ = reset("--all-data", "--confirm")
        left = client.dbsize()
        client.close()

    assert (0, 0) == (code, left)
    assert out.endswith("Deleted: all data of the server.\n")


@pytest.mark.parametrize("what", [[], ["--all-data"]], ids=["prefix", "all data"])
def test_a_reset_under_a_worker_is_refused(
    server_url: str, reset: Reset, what: list[str]
) -> None:
    """It would settle into nothing; with force it is done all the same."""
    with TaskFlow(server_url, registry=registry) as flow:
        flow.enqueue(add.call(1, 1))
        alive(flow)
        refused, _, told = reset(*what, "--confirm")
        kept = states(flow)
        forced, _, _ = reset(*what, "--confirm", "--force")
        left = states(flow)

    assert (4, 1, 0, 0) == (refused, kept, forced, left)
    assert "nothing was deleted: 1 worker alive" in told


def test_what_cannot_be_counted_can_still_be_reset(
    server_url: str, reset: Reset
) -> None:
    """A foreign key in the place of one of ours is named, and stays."""
    with TaskFlow(server_url, registry=registry) as flow:
        client = flow.connection.server.sync_client()  # type: ignore[attr-defined]
        client.set("tasks:failed", "foreign")
        flow.enqueue(add.call(1, 1))
        code, out, _ = reset("--confirm")
        left = client.keys()
        client.close()

    assert (0, [b"tasks:failed"]) == (code, left)
    assert "tasks cannot be counted" in out


def test_a_reset_has_nothing_to_say_to_a_server_that_is_away(
    reset: Reset,
) -> None:
    """As every command: a code of its own, one sentence."""
    code, out, err = reset("--url", "redis://127.0.0.1:1", "--confirm")

    assert (5, "") == (code, out)
    assert "the server gave no answer" in err
