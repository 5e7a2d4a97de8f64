"""The operator's commands, run in this process against each kind of server."""

import io
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import taskflow
from taskflow import TaskFlow, TaskState, Upstream
from taskflow._client.audit_log import AuditLog
from taskflow._declare import ports
from taskflow.cli import commands, doctor, exit_codes
from taskflow.errors import PluginError, ServerFullError
from taskflow.testing import run_until_idle

HOSTILE = "\x1b]0;owned\x07\x1b[2J\u202etxt\x9b31m"

APP = """
import taskflow

registry = taskflow.Registry()


@registry.task(name="add")
def add(x: int, y: int = 1) -> int:
    return x + y


@registry.task(name="greet")
def greet(who: str) -> str:
    return f"hello {who}"
"""


class Stdin(io.StringIO):
    """What a person or a pipe types."""

    terminal = False

    def isatty(self) -> bool:
        """Whether a person does."""
        return self.terminal


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, read as JSON."""
        return json.loads(self.out)


Cli = Callable[..., Ended]

registry = taskflow.Registry()


@registry.task(name="add")
def add(x: int, y: int = 1) -> int:
    """Add."""
    return x + y


@registry.task(name="die", retry=taskflow.RetryPolicy(max_retries=0))
def die(why: str) -> None:
    """Fail for good."""
    raise ValueError(why)


@registry.task(name="mourn", retry=taskflow.RetryPolicy(max_retries=0))
def mourn(why: str) -> None:
    """Fail for good, for another reason."""
    raise LookupError(why)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Stand in an empty folder with a host's module, without settings."""
    (tmp_path / "host_app.py").write_text(APP, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("REDIS_URL", "TASKFLOW_APP", "TASKFLOW_PREFIX", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    yield tmp_path
    sys.modules.pop("host_app", None)


@pytest.fixture
def flow(server_url: str) -> Iterator[TaskFlow]:
    """Give a flow on each kind of server."""
    with TaskFlow(server_url, registry=registry) as made:
        yield made


@pytest.fixture
def cli(
    here: Path,
    server_url: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Cli:
    """Give a function that runs a command against the server of `flow`."""

    def run(*arguments: str, stdin: str = "", url: str | None = server_url) -> Ended:
        at = [] if url is None else ["--url", url]
        monkeypatch.setattr("sys.stdin", Stdin(stdin))
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            exit_codes.run(commands.taskflow, "taskflow", [*arguments, *at])
        shown = capsys.readouterr()
        code = ended.value.code
        assert isinstance(code, int)
        return Ended(code, shown.out, shown.err)

    return run


# A command's task in memory would end with the command.
on_a_lasting_server = pytest.mark.parametrize("server_url", ["embedded"], indirect=True)


def dead(flow: TaskFlow, *reasons: str) -> list[str]:
    """Leave dead letters behind; give their ids."""
    ids = [flow.enqueue(die.call(why)).id for why in reasons]
    run_until_idle(flow)
    return ids


# Storing calls.


@on_a_lasting_server
def test_a_call_is_stored_and_its_id_printed(cli: Cli, flow: TaskFlow) -> None:
    """The id alone on standard output, for scripts."""
    ended = cli("enqueue", "add", "x=2", "y=3", "--app", "host_app:registry")

    record = flow.tasks.get(ended.out.strip())
    assert (0, "") == (ended.code, ended.err)
    assert ("add", b'{"x":2,"y":3}') == (record.name, record.payload)


@on_a_lasting_server
def test_a_value_is_json_else_text(cli: Cli, flow: TaskFlow) -> None:
    """What is no JSON needs no quotes; text that is JSON needs them."""
    plain = cli("enqueue", "greet", "who=a=b c", "--app", "host_app:registry")
    quoted = cli("enqueue", "greet", 'who="7"', "--app", "host_app:registry")

    payloads = [flow.tasks.get(each.out.strip()).payload for each in (plain, quoted)]
    assert [b'{"who":"a=b c"}', b'{"who":"7"}'] == payloads


@on_a_lasting_server
@pytest.mark.parametrize("where", ["-", '{"x": 4, "y": 5}'], ids=["stdin", "option"])
def test_arguments_come_as_json_too(cli: Cli, flow: TaskFlow, where: str) -> None:
    """And what stands beside it wins."""
    ended = cli(
        "enqueue",
        "add",
        "y=6",
        "--json-args",
        where,
        "--app=host_app:registry",
        stdin='{"x": 4, "y": 5}',
    )

    assert b'{"x":4,"y":6}' == flow.tasks.get(ended.out.strip()).payload


@on_a_lasting_server
def test_the_options_of_a_call_are_stored(cli: Cli, flow: TaskFlow) -> None:
    """Delay, key, limits: as from Python."""
    options = ["--delay=2h", "--key=k", "--expires=1d", "--max-retries=7"]
    arguments = ["enqueue", "add", "x=1", "--app=host_app:registry", "--json"]
    options += ["--timeout=30s"]
    first = cli(*arguments, *options)
    second = cli(*arguments, *options)

    record = flow.tasks.get(first.json["task_id"])
    spec = record.spec
    assert spec is not None
    assert ("add:k", 7, 30.0) == (record.key, spec.max_retries, spec.timeout)
    assert TaskState.SCHEDULED is record.state
    assert record.expires_at is not None
    same = {"task_id": record.id, "state": "SCHEDULED"}
    assert (same | {"created": True}, same | {"created": False}) == (
        first.json,
        second.json,
    )


@on_a_lasting_server
@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["x=two"], 2, "Expected `int`, got `str` - at $.x"),
        (["x=1", "z=1"], 2, "unknown field z"),
        (["x"], 2, "'x' is not ARG=VALUE"),
        (["--json-args", "[1]"], 2, "--json-args must be an object"),
        (["--json-args", "{"], 2, "--json-args is no JSON"),
        (["x=1", "--delay", "soon"], 2, "a duration such as 30"),
        (["x=1", "--delay", "-5"], 2, "must not be negative"),
        (["x=1", "--key", ""], 2, "key must be 1 to 200 characters"),
        (["x=1", "--wait", "0"], 6, "has not ended within 0 s"),
    ],
)
def test_a_call_that_cannot_be_made_says_why(
    cli: Cli, arguments: list[str], code: int, told: str
) -> None:
    """One sentence, and a code that scripts can see."""
    ended = cli("enqueue", "add", *arguments, "--app", "host_app:registry")

    assert (code, "") == (ended.code, ended.out)
    assert told.replace("`", "") in ended.err.replace("`", "")


@on_a_lasting_server
def test_an_unknown_task_is_answered_with_those_that_are_known(cli: Cli) -> None:
    """Those of the plugins too."""
    ended = cli("enqueue", "subtrakt", "--app", "host_app:registry")

    assert 3 == ended.code
    assert "unknown task 'subtrakt'; registered here: 'add', 'greet'" in ended.err
    assert "'summarize_text'" in ended.err


@on_a_lasting_server
def test_a_key_that_is_held_by_another_call_is_refused(cli: Cli) -> None:
    """As everywhere; nothing is stored."""
    cli("enqueue", "add", "x=1", "--key=k", "--app=host_app:registry")
    ended = cli("enqueue", "add", "x=2", "--key=k", "--app=host_app:registry")

    assert 4 == ended.code
    assert "key 'k' is held by task" in ended.err


@on_a_lasting_server
def test_what_ended_already_is_printed_by_wait(cli: Cli, flow: TaskFlow) -> None:
    """The result instead of the id."""
    arguments = ["enqueue", "add", "x=2", "--key=k", "--app=host_app:registry"]
    task_id = cli(*arguments).out.strip()
    run_until_idle(flow)

    ended = cli(*arguments, "--wait", "5")
    as_json = cli(*arguments, "--wait", "5", "--json")

    assert (0, "3\n") == (ended.code, ended.out)
    assert task_id in ended.err
    expected = {"task_id": task_id, "state": "COMPLETED", "created": False}
    assert expected | {"result": 3} == as_json.json


def test_nothing_is_stored_in_a_memory_that_ends_with_the_command(cli: Cli) -> None:
    """It would be lost without a word."""
    ended = cli("enqueue", "add", "x=1", "--app=host_app:registry", url="memory://")

    assert 2 == ended.code
    assert "ends with this process" in ended.err


def test_an_app_that_cannot_be_imported_is_one_sentence(cli: Cli, here: Path) -> None:
    """Its traceback helps nobody at a prompt."""
    (here / "broken_app.py").write_text("1 / 0\n", encoding="utf-8")
    ended = cli("list", "--app", "broken_app:flow", url=None)

    assert 1 == ended.code
    assert "app 'broken_app:flow' cannot be imported: ZeroDivisionError" in ended.err
    assert "Traceback" not in ended.err


def test_an_app_says_where_its_tasks_are(
    cli: Cli, here: Path, flow: TaskFlow, server_url: str
) -> None:
    """So an operator need not know, nor say it twice."""
    text = f"import taskflow\nflow = taskflow.TaskFlow({server_url!r})\n"
    (here / "own_app.py").write_text(text, encoding="utf-8")
    (here / ".env").write_text("TASKFLOW_APP=own_app:flow\n", encoding="utf-8")
    flow.enqueue(add.call(1))

    by_option = cli("list", "--app", "own_app:flow", "--json", url=None)
    by_file = cli("list", "--json", url=None)

    half = cli("list", "--prefix", "x:", url=None)
    enqueued = cli("enqueue", "add", "--prefix", "x:", url=None)

    assert [1, 1] == [len(each.json["items"]) for each in (by_option, by_file)]
    assert [2, 2] == [each.code for each in (half, enqueued)]
    assert "app 'own_app:flow' says where tasks are: beside --prefix" in half.err
    sys.modules.pop("own_app", None)


# Looking at tasks.


def test_tasks_are_listed_for_people_and_for_programs(cli: Cli, flow: TaskFlow) -> None:
    """The same tasks; the shape of the HTTP API."""
    handle = flow.enqueue(add.call(1))
    shown, told = cli("list"), cli("list", "--json")

    header, row = shown.out.splitlines()
    assert ["ID", "STATE", "LANE", "NAME", "ATTEMPTS", "AGE", "ERROR"] == header.split()
    assert [handle.id, "PENDING", "primary", "add", "0"] == row.split()[:5]
    assert {"items", "next_cursor", "examined"} == set(told.json)
    (item,) = told.json["items"]
    created = item.pop("created_at")
    assert created.endswith("Z")
    assert {
        "task_id": handle.id,
        "name": "add",
        "state": "PENDING",
        "lane": "primary",
        "suspect": False,
        "attempts": 0,
        "crashes": 0,
        "finished_at": None,
        "due_at": None,
        "error_type": "",
        "error_message": "",
        "fingerprint": "",
        "cause": "",
    } == item


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--state", "dlq"], 1),
        (["--state", "PENDING"], 1),
        (["--name", "die"], 1),
        (["--lane", "retry"], 0),
        (["--error", "valueerror"], 1),
        (["--since", "1h"], 2),
        (["--until", "1h"], 0),
        (["--until", "2999-01-01"], 2),
        (["--limit", "1"], 1),
    ],
)
def test_tasks_are_listed_by_what_they_are(
    cli: Cli, flow: TaskFlow, options: list[str], found: int
) -> None:
    """State, name, lane, error, time."""
    dead(flow, "no")
    flow.enqueue(add.call(1))

    assert found == len(cli("list", "--json", *options).json["items"])


def test_a_list_goes_on_where_it_ended(cli: Cli, flow: TaskFlow) -> None:
    """The cursor of a page leads to the next."""
    ids = {flow.enqueue(add.call(each)).id for each in range(3)}
    first = cli("list", "--limit=2", "--json").json
    second = cli("list", "--limit=2", "--json", "--cursor", first["next_cursor"]).json
    people = cli("list", "--limit=2")

    both = first["items"] + second["items"]
    assert ids == {item["task_id"] for item in both}
    assert f"for more: --cursor '{first['next_cursor']}'" in people.err


@pytest.mark.parametrize(
    "options",
    [["--cursor", "nonsense|1"], ["--since", "soon"], ["--state", "GONE"]],
    ids=["cursor", "time", "state"],
)
def test_a_list_that_makes_no_sense_is_a_mistake_in_usage(
    cli: Cli, options: list[str]
) -> None:
    """Said in one sentence."""
    ended = cli("list", *options)

    assert 2 == ended.code
    assert "Error: Invalid value" in ended.err


def test_a_task_is_shown_whole(cli: Cli, flow: TaskFlow) -> None:
    """With its arguments, its timeline, and why it died."""
    (task_id,) = dead(flow, "no such thing")
    shown, told = cli("show", task_id), cli("dlq", "show", task_id, "--json").json

    for part in (
        task_id,
        "DLQ",
        '"why": "no such thing"',
        "ValueError: no such thing",
        "cause        exhausted",
        "traceback\n",
        "raise ValueError(why)",
    ):
        assert part in shown.out
    assert {"why": "no such thing"} == told["arguments"]
    assert ["enqueued", "started", "dead", "dlq"] == sorted(
        (entry["event"] for entry in told["timeline"]),
        key=["enqueued", "started", "dead", "dlq"].index,
    )
    assert "exhausted" == told["dead_letter"]["cause"]
    assert told["dead_letter"]["fingerprint"] == told["fingerprint"] != ""


def test_a_result_is_shown(cli: Cli, flow: TaskFlow) -> None:
    """As JSON has it."""
    handle = flow.enqueue(add.call(20, 22))
    run_until_idle(flow)

    assert "\nresult\n  42\n" in cli("show", handle.id).out
    assert 42 == cli("show", handle.id, "--json").json["result"]


@pytest.mark.parametrize("command", [["show"], ["dlq", "show"], ["retry"], ["delete"]])
def test_a_task_that_is_not_there_has_a_code_of_its_own(
    cli: Cli, flow: TaskFlow, command: list[str]
) -> None:
    """Scripts need not read the sentence."""
    ended = cli(*command, "no-such-task")

    assert (3, "") == (ended.code, ended.out)
    assert "there is no task 'no-such-task'" in ended.err


def test_what_a_task_carries_does_not_reach_the_terminal_raw(
    cli: Cli, flow: TaskFlow
) -> None:
    """An escape sequence in an error is shown, not obeyed."""
    (task_id,) = dead(flow, HOSTILE)
    flow.audit_log.record("x", actor=HOSTILE, fact=HOSTILE)
    outputs = [
        cli(*command).out
        for command in (
            ["list"],
            ["list", "--json"],
            ["show", task_id],
            ["show", task_id, "--json"],
            ["dlq", "list"],
            ["dlq", "groups"],
            ["dlq", "groups", "--json"],
            ["dlq", "show", task_id],
            ["dlq", "export"],
            ["audit-log"],
            ["audit-log", "--json"],
        )
    ]

    for output in outputs:
        assert "owned" in output
        raw = {char for char in output if not char.isprintable()} - {"\n"}
        assert set() == raw


# Acting on tasks.


def test_tasks_are_retried_cancelled_and_deleted(cli: Cli, flow: TaskFlow) -> None:
    """Each by its id, and the audit log says who did it."""
    (task_id,) = dead(flow, "no")
    told = [cli(verb, task_id).out for verb in ("retry", "cancel", "delete")]

    assert [
        f"{task_id} PENDING\n",
        f"{task_id} CANCELLED\n",
        f"{task_id} deleted\n",
    ] == told
    entries = [
        entry
        for entry in cli("audit-log", "--json").json["items"]
        if entry["actor"].startswith("cli")
    ]
    assert ["delete", "cancel", "retry"] == [entry["event"] for entry in entries]
    assert {task_id} == {entry["facts"]["task_id"] for entry in entries}


def test_one_that_cannot_be_retried_does_not_stop_the_others(
    cli: Cli, flow: TaskFlow
) -> None:
    """The code is that of the first that failed."""
    waiting = flow.enqueue(add.call(1)).id
    flow.queues.pause("primary")
    (letter,) = [flow.enqueue(add.call(2)).id]
    flow.tasks.cancel(letter)

    ended = cli("retry", waiting, "gone", letter)

    assert (4, f"{letter} PENDING\n") == (ended.code, ended.out)
    assert [
        f"task '{waiting}' is PENDING: cannot retry it",
        "there is no task 'gone'",
    ] == ended.err.splitlines()


def test_a_running_task_is_deleted_by_force_only(cli: Cli, flow: TaskFlow) -> None:
    """Its worker would go on for nothing."""
    from taskflow._protocol.claim import LaneShare, claim

    handle = flow.enqueue(add.call(1))
    connection = flow.connection
    connection.runner.send(
        claim(
            connection.keys,
            slots=1,
            worker="w",
            nonce="1-1",
            lease_ms=60_000,
            share=LaneShare(),
            suspect=True,
        )
    )
    asked = cli("cancel", handle.id)
    refused = cli("delete", handle.id)
    forced = cli("delete", handle.id, "--force")

    assert f"{handle.id} ACTIVE, asked to stop\n" == asked.out
    assert (4, 0) == (refused.code, forced.code)
    assert "is ACTIVE: cannot delete it" in refused.err


def test_an_id_may_be_shortened_where_it_is_unique(cli: Cli, flow: TaskFlow) -> None:
    """To its beginning or its end; several of one beginning are refused, and named."""
    first, second = (flow.enqueue(die.call("no")).id for _ in range(2))
    shown = cli("show", first[-6:], "--json").json
    several = cli("cancel", first[-6:], first[:8])
    gone = cli("cancel", "ffff")
    cancelled = cli("cancel", second[-6:])
    whole = cli("delete", first)

    assert first == shown["task_id"]
    assert (2, "") == (several.code, several.out)
    assert f"'{first[:8]}' fits 2 ids, such as " in several.err
    assert (3, "there is no task 'ffff'\n") == (gone.code, gone.err)
    assert (0, f"{second} CANCELLED\n") == (cancelled.code, cancelled.out)
    assert (0, f"{first} deleted\n") == (whole.code, whole.out)


@pytest.mark.parametrize("length", [0, 3])
@pytest.mark.parametrize("verb", ["delete", "cancel"])
def test_an_id_is_not_shortened_to_nothing(
    cli: Cli, flow: TaskFlow, verb: str, length: int
) -> None:
    """Even where one task is all there is: ``taskflow delete "$ID"`` without an ID."""
    task_id = flow.enqueue(die.call("no")).id
    ended = cli(verb, task_id[:length])

    assert (3, f"there is no task '{task_id[:length]}'\n") == (ended.code, ended.err)
    assert TaskState.PENDING is flow.tasks.get(task_id).state


def test_a_dead_letter_named_by_the_end_of_its_id(cli: Cli, flow: TaskFlow) -> None:
    """As every other task."""
    first, second = dead(flow, "no", "nay")
    shown = cli("dlq", "show", first[-6:], "--json").json
    edited = cli("dlq", "edit", first[-6:], "why=because")
    ended = cli("dlq", "requeue", first[-6:], second)

    assert first == shown["task_id"]
    assert {"why": "because"} == edited.json
    assert (0, "2 requeued\n") == (ended.code, ended.out)


def test_orphans_are_brought_back(cli: Cli, flow: TaskFlow) -> None:
    """What stands in no home waits again."""
    ended = cli("requeue-orphaned")

    assert (0, "0 found, 0 requeued\n") == (ended.code, ended.out)


# Dead letters.


def test_dead_letters_are_listed_and_grouped(cli: Cli, flow: TaskFlow) -> None:
    """By what killed them."""
    ids = dead(flow, "no", "no")
    flow.enqueue(mourn.call("gone"))
    run_until_idle(flow)
    groups = cli("dlq", "groups", "--json").json["groups"]
    fingerprint = flow.dlq.get(ids[0]).dead_letter.fingerprint  # type: ignore[union-attr]
    listed = cli("dlq", "list", "--fingerprint", fingerprint, "--json").json["items"]

    assert {("die", 2), ("mourn", 1)} == {
        (group["task_name"], group["count"]) for group in groups
    }
    assert set(ids) == {item["task_id"] for item in listed}
    assert 1 == len(cli("dlq", "list", "--name", "mourn", "--json").json["items"])
    assert fingerprint in cli("dlq", "groups").out
    assert ids[0] in cli("dlq", "list").out


@pytest.mark.parametrize("verb", ["requeue", "discard"])
def test_a_bulk_action_says_how_many_and_waits_for_a_yes(
    cli: Cli, flow: TaskFlow, verb: str
) -> None:
    """A typo must not move ten thousand tasks."""
    dead(flow, "no", "nay")
    refused = cli("dlq", verb, "--all")
    before = flow.dlq.count()
    done = cli("dlq", verb, "--name", "die", "--yes")

    assert (4, "", 2) == (refused.code, refused.out, before)
    assert f"2 dead letters to be {verb.rstrip('e')}ed\n" in refused.err
    assert "nothing was done; to do it, add --yes" in refused.err
    assert (0, f"2 {verb.rstrip('e')}ed\n", 0) == (
        done.code,
        done.out,
        flow.dlq.count(),
    )


@pytest.mark.parametrize(
    "selection",
    [[], ["one", "--all"], ["--all", "--name", "die"]],
    ids=["nothing", "ids and all", "all and name"],
)
def test_a_bulk_action_is_on_one_selection(cli: Cli, selection: list[str]) -> None:
    """What contradicts itself is refused before anything is counted."""
    ended = cli("dlq", "discard", *selection, "--yes")

    assert 2 == ended.code
    assert "name ids, or --fingerprint and/or --name, or --all" in ended.err


def test_dead_letters_named_by_id_need_no_yes(cli: Cli, flow: TaskFlow) -> None:
    """They were named; one that is none is said."""
    first, second = dead(flow, "no", "nay")
    ended = cli("dlq", "requeue", first, "gone", "--rate", "1000")

    assert (3, "1 requeued\n") == (ended.code, ended.out)
    assert "1 of them: no dead letter under this id" in ended.err
    assert [second] == [item.id for item in flow.dlq.list().items]


def test_a_dead_letter_whose_key_was_taken_stays(cli: Cli, flow: TaskFlow) -> None:
    """The message names the task that has taken it."""
    once = die.options(key="k", key_ttl=0)
    old = flow.enqueue(once.call("no"))
    (other,) = dead(flow, "no")
    newer = flow.enqueue(once.call("nay"))
    alone = cli("dlq", "requeue", old.id)
    both = cli("dlq", "requeue", old.id, other)

    assert (4, "") == (alone.code, alone.out)
    assert f"task '{newer.id}' has taken its key" in alone.err
    assert (4, "1 requeued\n") == (both.code, both.out)
    assert f"{old.id} not requeued: {newer.id} has taken its key\n" == both.err


def test_a_dead_letter_is_edited(cli: Cli, flow: TaskFlow) -> None:
    """The argument named is replaced, an argument called task_id too."""
    (task_id,) = dead(flow, "no")
    ended = cli("dlq", "edit", task_id, "why=because", "task_id=5")
    nothing = cli("dlq", "edit", task_id)

    assert {"why": "because", "task_id": 5} == ended.json
    assert 2 == nothing.code


def test_an_edit_is_checked_where_the_task_is_known(cli: Cli, flow: TaskFlow) -> None:
    """A wrong argument would only die again."""

    @registry.task(name="greet")
    def greet(who: int) -> None:
        raise taskflow.DeadLetter(str(who))

    task_id = flow.enqueue(greet.call(7)).id
    run_until_idle(flow)
    wrong = cli("dlq", "edit", task_id, "who=8", "--app=host_app:registry")
    right = cli("dlq", "edit", task_id, "who=eight", "--app=host_app:registry")

    assert (2, 0) == (wrong.code, right.code)
    assert {"who": "eight"} == right.json


def test_dead_letters_are_exported_one_to_a_line(
    cli: Cli, flow: TaskFlow, here: Path
) -> None:
    """Whole, to standard output or to a file."""
    ids = dead(flow, "no", "nay")
    shown = cli("dlq", "export", "--name", "die")
    cli("dlq", "export", "--output", "letters.ndjson")

    lines = [json.loads(line) for line in shown.out.splitlines()]
    assert set(ids) == {line["task_id"] for line in lines}
    assert {"no", "nay"} == {line["arguments"]["why"] for line in lines}
    assert shown.out == (here / "letters.ndjson").read_text(encoding="utf-8")


# Lanes and workers.


def test_the_lanes_are_counted(cli: Cli, flow: TaskFlow) -> None:
    """For people and for programs."""
    flow.enqueue(add.call(1))
    dead(flow, "no")
    told = cli("queues", "status", "--json").json

    assert {
        "primary": 0,
        "retry": 0,
        "scheduled": 0,
        "dlq": 1,
        "parked": 0,
    } == told["queues"]
    assert 1 == told["states"]["COMPLETED"]
    assert {"primary": None, "retry": None} == told["oldest_age"]
    assert "DLQ        1\n" in cli("queues", "status").out


def test_a_lane_is_paused_and_goes_on(cli: Cli, flow: TaskFlow) -> None:
    """And the status says so."""
    told = [cli("queues", "pause", "retry").out]
    paused = flow.queues.status().paused
    shown = cli("queues", "status").out
    told.append(cli("queues", "resume", "retry").out)

    assert ["retry is paused\n", "retry goes on\n"] == told
    assert (("retry",), ()) == (paused, flow.queues.status().paused)
    assert "paused" in shown


def test_upstreams_are_listed_shut_and_let_go_on(cli: Cli, flow: TaskFlow) -> None:
    """One or all, with a reason and for a time; each deed is in the audit log."""
    for name in ("mail-api", "maps"):
        with ports.using(flow), Upstream(name, concurrency=3).guard():
            pass
    opened = cli("upstreams", "open", "maps", "--reason", "they move", "--for", "30m")
    listed = cli("upstreams", "list").out
    told = cli("upstreams", "show", "maps", "--json").json
    shown = cli("upstreams", "show", "maps").out
    closed = cli("upstreams", "close", "--all")
    again = cli("upstreams", "close", "--all")
    reset = cli("upstreams", "reset", "--all")
    deeds = {each.event for each in flow.audit_log.list()}

    assert "maps is shut\n" == opened.out
    assert ("open", "person", "they move") == (
        told["state"],
        told["shut_by"],
        told["reason"],
    )
    assert "they move" in listed
    assert "mail-api" in listed
    assert "0 of 3" in shown
    assert ("maps may be called\n", "nothing to do\n") == (closed.out, again.out)
    assert "mail-api is as new\nmaps is as new\n" == reset.out
    assert {"upstream_open", "upstream_close", "upstream_reset"} <= deeds


def test_parked_tasks_are_counted_and_listed_alone(cli: Cli, flow: TaskFlow) -> None:
    """Apart from those that wait for a worker, and from those that ended."""
    flow.upstreams.force_open("task:add")
    parked = flow.enqueue(registry.get("add").call(1, 2))
    ended = flow.enqueue(registry.get("die").call("x"))
    run_until_idle(flow)
    status = cli("queues", "status").out
    listed = cli("list", "--parked", "--json").json["items"]
    shown = cli("list", "--parked").out
    wrong = cli("list", "--parked", "--state", "ACTIVE")

    assert [parked.id] == [each["task_id"] for each in listed]
    assert (True, False) == (parked.id in shown, ended.id in shown)
    assert re.search(r"parked for an upstream +1", status)
    assert (2, True) == (wrong.code, "a parked task is PENDING" in wrong.err)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(("open",), 2), (("open", "maps", "--all"), 2), (("close", "nobody"), 3)],
)
def test_an_upstream_must_be_named(
    cli: Cli, flow: TaskFlow, arguments: tuple[str, ...], code: int
) -> None:
    """All of them only where that is said; and one that there is."""
    assert code == cli("upstreams", *arguments).code


def test_workers_are_listed_with_what_they_run(cli: Cli, flow: TaskFlow) -> None:
    """Alive, running what for how long; and one can be asked to stop."""
    from taskflow._codec import to_json
    from taskflow._protocol.upkeep import heartbeat

    connection = flow.connection
    running = {"id": "t1", "name": "add", "attempt": 2, "seconds": 75.0}
    info = {"concurrency": 4, "polled": 0.5, "done": 3, "running": [running]}
    operation = heartbeat(
        connection.keys,
        worker="w-1",
        info=to_json(info),
        ttl_ms=60_000,
        known="",
        new="d1",
    )
    none = cli("workers")
    connection.runner.send(operation)
    shown, told = cli("workers"), cli("workers", "--json").json
    drained, gone = cli("workers", "drain", "w-1"), cli("workers", "drain", "w-2")

    assert (0, "no worker is alive\n") == (none.code, none.err)
    assert "1 of 4" in shown.out
    assert "1m 15s" in shown.out
    assert ("healthy", 1) == (told["status"], told["healthy"])
    assert [running] == told["workers"][0]["running_tasks"]
    assert 4 == told["workers"][0]["concurrency"]
    assert (0, 3) == (drained.code, gone.code)
    assert "draining" in cli("workers").out


def test_what_a_group_was_told_is_told_to_its_subcommand(
    cli: Cli, server_url: str
) -> None:
    """Else it would act on another server than the one that was named."""
    ended = cli("workers", "--url", server_url, "drain", "w-2", url=None)
    away = cli("workers", "--url", "redis://127.0.0.1:1", "drain", "w-2", url=None)

    assert (3, 5) == (ended.code, away.code)


def test_a_server_that_is_away_has_a_code_of_its_own(cli: Cli) -> None:
    """One sentence, no traceback."""
    ended = cli("list", url="redis://127.0.0.1:1")

    assert (5, "") == (ended.code, ended.out)
    assert ended.err.startswith("taskflow: the server gave no answer")
    assert "Traceback" not in ended.err


def test_the_doctor_says_what_is_wrong_and_what_to_do(cli: Cli, flow: TaskFlow) -> None:
    """An error fails, a warning only when asked to; the same for programs."""
    nothing, strict = cli("doctor"), cli("doctor", "--strict")
    flow.enqueue(add.call(1))
    undone, told = cli("doctor"), cli("doctor", "--json")

    assert [0, 1, 1, 1] == [each.code for each in (nothing, strict, undone, told)]
    assert "warning  workers       no worker is alive\n" in nothing.out
    assert "do: start taskflow-worker\n" in undone.out
    assert not told.json["healthy"]
    assert {
        "check": "workers",
        "severity": "error",
        "what": "no worker is alive, and there is work: 1 PENDING",
        "do": "start taskflow-worker",
    } in told.json["findings"]


def test_the_doctor_mends_when_it_is_asked_to(cli: Cli, flow: TaskFlow) -> None:
    """It says what it did, and a second time there is nothing to do."""
    lost = flow.enqueue(add.call(1))
    client = flow.connection.server.sync_client()
    client.delete("tasks:pending:primary")
    found, mended, well = cli("doctor"), cli("doctor", "--repair"), cli("doctor")
    waiting = client.lrange("tasks:pending:retry", 0, -1)
    client.close()

    assert "do: taskflow doctor --repair" in found.out
    assert f"{lost.id} (PENDING in none): back in the retry lane" in mended.out
    assert [lost.id.encode()] == waiting
    assert "each of 1 records stands in its one home" in well.out


def test_the_doctor_can_be_asked_when_the_server_is_away(cli: Cli) -> None:
    """That is when it is asked."""
    ended = cli("doctor", url="redis://:secret@127.0.0.1:1")

    assert 1 == ended.code
    assert "the server gave no answer" in ended.out
    assert "secret" not in ended.out + ended.err


@pytest.mark.parametrize(
    ("answer", "code", "left"), [("y\n", 0, 0), ("n\n", 4, 1)], ids=["yes", "no"]
)
def test_a_bulk_action_asks_on_a_terminal(
    cli: Cli,
    flow: TaskFlow,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    code: int,
    left: int,
) -> None:
    """A person is asked, once the number is on the screen."""
    dead(flow, "no")
    monkeypatch.setattr(Stdin, "terminal", True)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    ended = cli("dlq", "discard", "--all", stdin=answer)

    assert (code, left) == (ended.code, flow.dlq.count())
    assert "1 dead letter to be discarded\n" in ended.err
    assert "Do it? [y/N]" in ended.err + ended.out


def test_a_corrupt_record_is_shown_as_it_is(cli: Cli, flow: TaskFlow) -> None:
    """Whatever a foreign hand wrote into it."""
    client = flow.connection.server.sync_client()  # type: ignore[attr-defined]
    fields = {"state": "FAILED", "payload": "{\x1b[2J", "spec": "?", "result": "?"}
    client.hset("task:bad", mapping=fields)
    client.zadd("tasks:failed", {"bad": 1_700_000_000_000})
    client.close()
    shown, told = cli("show", "bad"), cli("show", "bad", "--json").json

    assert (0, "") == (shown.code, shown.err)
    assert "(the record is corrupt)" in shown.out
    assert "  {\\x1b[2J\n" in shown.out
    assert (None, None) == (told["arguments"], told["result"])


def test_the_audit_log_is_paged(cli: Cli, flow: TaskFlow) -> None:
    """The id of the last entry leads to the next."""
    for number in range(3):
        flow.audit_log.record(f"event{number}", number=number)
    first = cli("audit-log", "--limit", "2")
    cursor = first.err.split()[-1]
    second = cli("audit-log", "--cursor", cursor)
    wrong = cli("audit-log", "--cursor", "nonsense")

    assert ["event2", "event1"] == [
        line.split()[3] for line in first.out.splitlines()[1:]
    ]
    assert "number=0" in second.out
    assert (2, "") == (wrong.code, wrong.out)


def test_a_deed_that_cannot_be_written_down_is_done_all_the_same(
    cli: Cli, flow: TaskFlow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The audit log serves the deed and not the other way round."""

    def full(*_: object, **__: object) -> None:
        message = "full"
        raise ServerFullError(message)

    handle = flow.enqueue(add.call(1))
    monkeypatch.setattr(AuditLog, "record", full)
    ended = cli("cancel", handle.id)

    assert (0, f"{handle.id} CANCELLED\n") == (ended.code, ended.out)
    assert "not written to the audit log: full\n" == ended.err


def test_a_plugin_that_cannot_be_loaded_is_a_finding(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker would not start; the doctor does."""

    def broken(_: object) -> None:
        name, reason = "shop", "no module named shop"
        raise PluginError(name, reason)

    monkeypatch.setattr(doctor, "load_plugins", broken)
    ended = cli("doctor")

    assert 1 == ended.code
    assert "error    plugins       plugin 'shop' failed to load" in ended.out
