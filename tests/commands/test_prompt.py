"""The operator's commands in processes of their own: codes, pipes, signals."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import taskflow

pytestmark = pytest.mark.timeout(240)

APP = """
import taskflow

registry = taskflow.Registry()


@registry.task(name="add")
def add(x: int, y: int) -> int:
    return x + y
"""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """Give a folder with a host's app in it."""
    (tmp_path / "host_app.py").write_text(APP, encoding="utf-8")
    return tmp_path


def heeding_ctrl_c() -> None:
    """Undo what a shell does for what it runs in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(*arguments: str, cwd: Path, **environment: str) -> "subprocess.Popen[str]":
    """Start ``python -m taskflow`` with *arguments*, without settings from outside."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("TASKFLOW", "REDIS"))
    }
    return subprocess.Popen(
        [sys.executable, "-m", "taskflow", *arguments],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**kept, "PYTHONUTF8": "1", **environment},
        preexec_fn=heeding_ctrl_c,  # noqa: PLW1509 - no thread runs here
    )


def run(*arguments: str, cwd: Path, **environment: str) -> tuple[int, str, str]:
    """Run it to its end; give its code, its output and its errors."""
    with start(*arguments, cwd=cwd, **environment) as process:
        out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_a_call_is_stored_run_and_its_result_printed(here: Path) -> None:
    """With no server installed: the embedded one in this folder, and a worker."""
    with start("worker", "--app", "host_app:registry", cwd=here) as worker:
        try:
            code, out, err = run(
                "enqueue",
                "add",
                "x=20",
                "y=22",
                "--app=host_app:registry",
                "--wait=30",
                cwd=here,
            )
            shown = run("show", err.strip(), "--json", cwd=here)
            workers = run("workers", "--json", cwd=here)
            refused = run("reset", "--confirm", cwd=here)
            healthy = run("doctor", cwd=here)
        finally:
            worker.send_signal(signal.SIGTERM)
            worker.communicate(timeout=60)

    assert (0, "42\n") == (code, out)
    assert 42 == json.loads(shown[1])["result"]
    assert 1 == json.loads(workers[1])["healthy"]
    assert 4 == refused[0]
    assert (0, "") == (healthy[0], healthy[2])


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["list"], 0, "nothing found"),
        (["enqueue", "add", "x=1", "y=two", "--app=host_app:registry"], 2, "$.y"),
        (["list", "--limit", "0"], 2, "--limit"),
        (["show", "nobody"], 3, "there is no task 'nobody'"),
        (["enqueue", "nothing"], 3, "unknown task 'nothing'"),
        (["list", "--url", "redis://127.0.0.1:1"], 5, "the server gave no answer"),
        (["list", "--url", "http://x"], 1, "'http://x' is no server"),
        (["list", "--app", "nowhere:flow"], 1, "there is no module 'nowhere'"),
    ],
    ids=lambda each: " ".join(each[:3]) if isinstance(each, list) else "",
)
def test_how_it_ended_is_a_code_and_one_sentence(
    here: Path, arguments: list[str], code: int, told: str
) -> None:
    """No traceback, whatever it was."""
    ended, out, err = run(*arguments, cwd=here)

    assert (code, "") == (ended, out.partition("ID  ")[0])
    assert told in err
    assert "Traceback" not in err


def test_a_reader_that_goes_away_ends_the_command_quietly(here: Path) -> None:
    """As ``| head`` does, while it writes and when it has written."""
    url = f"embedded://{here}/data"
    with taskflow.TaskFlow(url) as flow:
        flow.queues.status()
        endings: list[Any] = []
        for arguments, lines in (
            (["queues", "status", "--watch", "--json"], 1),
            (["list"], 0),
        ):
            process = start(*arguments, "--url", url, cwd=here)
            assert process.stdout is not None
            assert process.stderr is not None
            for _ in range(lines):
                assert json.loads(process.stdout.readline())
            process.stdout.close()
            err = process.stderr.read()
            process.stderr.close()
            endings.append((process.wait(60), err))

    assert (141, "") == endings[0]
    assert (141, "") == endings[1]


def test_what_is_watched_ends_with_ctrl_c(here: Path) -> None:
    """With the code of an interrupt, and no traceback."""
    with start("queues", "status", "--watch", "--json", cwd=here) as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        second = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)

    assert first["now"] < second["now"]
    assert (130, "") == (process.returncode, err.strip())


def test_the_shell_completes_commands_and_options(here: Path) -> None:
    """By click's own, as the page of the commands says."""

    def completed(words: str) -> set[str]:
        _, out, _ = run(
            cwd=here,
            _TASKFLOW_COMPLETE="bash_complete",
            COMP_WORDS=f"taskflow {words}",
            COMP_CWORD=str(len(words.split())),
        )
        return {line.partition(",")[2] for line in out.splitlines()}

    assert {"queues"} == completed("que")
    assert {"pause"} == completed("queues pau")
    assert {"primary"} == completed("queues pause pri")
    assert {"--fingerprint"} == completed("dlq discard --fi")


def test_an_output_that_knows_few_characters_is_no_error(here: Path) -> None:
    """What it cannot show is shown as letters."""
    with taskflow.TaskFlow(f"embedded://{here}/data") as flow:
        flow.audit_log.record("x", actor="漢")
        code, out, err = run(
            "audit-log",
            "--url",
            f"embedded://{here}/data",
            cwd=here,
            PYTHONUTF8="0",
            PYTHONIOENCODING="latin-1",
        )

    assert (0, "") == (code, err)
    assert "\\u6f22" in out
