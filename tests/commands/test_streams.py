"""Commands whose output nobody takes, and a demo that is told to end."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import children_of, lives, wait_until

# Of this process alone: other tests may have set what the commands read.
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith("TASKFLOW_") or name.startswith("TASKFLOW_TEST")
} | {"REDIS_URL": "memory://"}
COMMANDS = ["list", "workers", "dlq list", "doctor", "config", "list --json", "--help"]


def command(*arguments: str) -> list[str]:
    """Give the command line of a command."""
    return [sys.executable, "-m", "taskflow", *arguments]


@pytest.mark.parametrize(
    ("arguments", "closed"),
    [
        *((each, ">&-") for each in COMMANDS),
        *(("list", each) for each in ("2>&-", "<&-", ">&- 2>&- <&-")),
    ],
)
def test_a_closed_stream_is_no_error(arguments: str, closed: str) -> None:
    """What would be written there is lost, and nothing else."""
    done = subprocess.run(  # noqa: S602 - the shell closes the stream
        f"{sys.executable} -m taskflow {arguments} {closed}",
        shell=True,
        check=False,
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=60,
    )

    assert "Traceback" not in done.stderr
    assert done.returncode in ({0, 1} if arguments == "doctor" else {0})


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("arguments", ["list", "config", "--help"])
def test_an_output_that_is_full_is_said(arguments: str) -> None:
    """In a sentence, with an exit code."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command(*arguments.split()),
            check=False,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
            timeout=60,
        )

    assert 1 == done.returncode
    (line,) = done.stderr.splitlines()
    assert line.endswith("the output can't be written: No space left on device")


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
def test_a_demo_that_is_told_to_end_ends_its_children(signum: int) -> None:
    """And removes its folder, as with Ctrl-C."""
    demo = subprocess.Popen(
        command("demo"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        wait_until(lambda: len(children_of(demo.pid)) >= 2, 60)
        children = children_of(demo.pid)
        demo.send_signal(signum)
        demo.communicate(timeout=60)
        wait_until(lambda: not any(map(lives, children)), 20)
    finally:
        demo.kill()

    assert 128 + signum == demo.returncode
