"""The commands as a person types them, each in a process of its own."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

pytestmark = pytest.mark.timeout(240)


def run(
    *arguments: str, cwd: Path, stdin: bytes = b"", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run ``python -m taskflow`` with *arguments*, its texts decoded."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OPENROUTER", "TASKFLOW", "REDIS", "SUMMARIZE"))
    }
    ended = subprocess.run(
        [sys.executable, "-m", "taskflow", *arguments],
        cwd=cwd,
        input=stdin,
        capture_output=True,
        timeout=100,
        check=False,
        env={**kept, "PYTHONUTF8": "1", **environment},
    )
    return subprocess.CompletedProcess(
        ended.args, ended.returncode, ended.stdout.decode(), ended.stderr.decode()
    )


def test_the_demo_summarises_retries_and_keeps_what_dies(tmp_path: Path) -> None:
    """One command, no server, no key: real summaries, lanes, states, exit code 0."""
    ended = run("demo", "--once", cwd=tmp_path)

    assert (0, "") == (ended.returncode, ended.stderr)
    assert "tides.en.txt  (language en, method extractive)" in ended.stdout
    assert "salt.de.txt  (language de, method extractive)" in ended.stdout
    assert "COMPLETED 221, DLQ 1" in ended.stdout
    assert "1 x demo.doomed: LookupError: invoice 4711" in ended.stdout
    # In the last minute, which a busy machine takes longer than.
    assert re.search(r"claims served: [1-9]\d* new, [1-9]\d* retries", ended.stdout)
    assert [] == list(tmp_path.iterdir())


def heeding_ctrl_c() -> None:
    """Undo what a shell does for what it runs in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_the_demo_goes_on_and_shows_its_dashboard(tmp_path: Path) -> None:
    """Until Ctrl-C, which ends the server, the worker and the dashboard too."""
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "taskflow", "demo"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        preexec_fn=heeding_ctrl_c,  # noqa: PLW1509 - no thread runs here
    ) as demo:
        assert demo.stdout is not None
        address = next(
            line.split()[1] for line in demo.stdout if line.startswith("dashboard: ")
        )
        with httpx.Client(follow_redirects=True) as browser:
            page = browser.get(address)
            session = browser.get(page.url.join("dashboard/session")).json()
            status = browser.get(page.url.join("api/v1/queues/status")).json()
        demo.send_signal(signal.SIGINT)
        demo.stdout.read()
    with pytest.raises(httpx.ConnectError):
        httpx.get(address)

    assert "?token=" in address
    assert (200, "admin") == (page.status_code, session["level"])
    assert status["states"]["COMPLETED"] >= 200
    assert 0 == demo.returncode


def test_summarize_prints_the_summary_of_each_file(tmp_path: Path) -> None:
    """The user's own files, each under its name, and standard input too."""
    text = "The bridge carries the road. The river runs below it. " * 30
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")

    ended = run(
        "summarize",
        "a.txt",
        "-",
        "--max-words",
        "12",
        cwd=tmp_path,
        stdin=text.encode(),
    )

    assert 0 == ended.returncode
    assert ended.stdout.startswith("a.txt\n  The bridge carries the road.")
    assert 2 == ended.stdout.count("The bridge carries the road.")


def test_summarize_prints_each_point_of_a_list_on_a_line_of_its_own(
    tmp_path: Path,
) -> None:
    """Wrapping does not make one paragraph of them."""
    text = "The tide rises at noon. The tide falls at dusk. The harbour sleeps. " * 9
    ended = run(
        *("summarize", "-", "--style", "bullets", "--max-words", "10"),
        cwd=tmp_path,
        stdin=text.encode(),
    )

    assert (0, "") == (ended.returncode, ended.stderr)
    assert ["  - The tide rises at noon.", "  - The tide falls at dusk."] == (
        ended.stdout.splitlines()
    )


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"\xff\xfe\x00binary", "not UTF-8 text"), (b"   \n", "it is empty")],
    ids=["binary", "blank"],
)
def test_summarize_says_what_is_wrong_with_a_file(
    tmp_path: Path, content: bytes, told: str
) -> None:
    """One sentence and a code that scripts can see; no traceback."""
    (tmp_path / "a.txt").write_bytes(content)

    ended = run("summarize", "a.txt", cwd=tmp_path)

    assert 1 == ended.returncode
    assert told in ended.stderr
    assert "Traceback" not in ended.stderr


def test_summarize_takes_a_file_as_large_as_the_summariser_does(
    tmp_path: Path,
) -> None:
    """Larger than what a task's arguments may be elsewhere."""
    text = "The bridge carries the road over the river. " * 30_000
    (tmp_path / "large.txt").write_text(text, encoding="utf-8")

    ended = run("summarize", "large.txt", "--max-words", "12", cwd=tmp_path)

    assert (0, "") == (ended.returncode, ended.stderr)
    assert "The bridge carries the road over the river." in ended.stdout


def test_what_stands_in_a_dotenv_file_reaches_the_plugins(tmp_path: Path) -> None:
    """The commands read it, and so its mistakes are found at the start."""
    (tmp_path / ".env").write_text("SUMMARIZE_PROVIDER=nobody\n", encoding="utf-8")

    ended = run("worker", "--url", "redis://127.0.0.1:1", cwd=tmp_path)

    assert 1 == ended.returncode
    assert "SUMMARIZE_PROVIDER='nobody'" in ended.stderr


def test_a_mistyped_command_is_answered_with_the_right_one(tmp_path: Path) -> None:
    """A person who mistypes is helped, not lectured."""
    ended = run("worekr", cwd=tmp_path)

    assert 2 == ended.returncode
    assert "Did you mean 'worker'?" in ended.stderr


def test_the_help_lists_the_plugins_commands(tmp_path: Path) -> None:
    """What a plugin brings stands beside our own."""
    ended = run("--help", cwd=tmp_path)

    listed = [line.split()[0] for line in ended.stdout.splitlines() if "  " in line]
    assert {"demo", "summarize", "worker"} <= set(listed)


def test_every_wrong_setting_is_named_at_once(tmp_path: Path) -> None:
    """A start that cannot work lists all mistakes, each with value and bound."""
    ended = run(
        "worker",
        cwd=tmp_path,
        MAX_RETRIES="many",
        RESULT_TTL="-1",
        REDIS_URL="http://x",
    )

    assert 1 == ended.returncode
    assert "MAX_RETRIES='many'" in ended.stderr
    assert "RESULT_TTL='-1'" in ended.stderr
    assert "Traceback" not in ended.stderr
