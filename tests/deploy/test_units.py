"""The units for systemd, as systemd itself reads them."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from taskflow.settings import Duration
from tests.deploy.stack import FILES

UNITS = FILES / "systemd"
SERVICES = sorted(path.name for path in UNITS.glob("*.service"))
EXPOSED_AT_MOST = 2.0  # of 10, by the tool's own measure

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="systemd is Linux's"),
    pytest.mark.skipif(
        shutil.which("systemd-analyze") is None and "CI" not in os.environ,
        reason="systemd-analyze is not installed",
    ),
]


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Give a directory with the units, whose commands are those of this test."""
    for path in UNITS.glob("taskflow*.*"):
        text = path.read_text("utf-8")
        text = text.replace("/opt/taskflow/bin", sysconfig.get_path("scripts"))
        name = path.name.replace("@.", "@1.")
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def _analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("name", [*SERVICES, "taskflow.target"])
def test_systemd_finds_nothing_wrong_with_a_unit(installed: Path, name: str) -> None:
    """No unknown option, no command that is not there."""
    verified = _analyze("verify", str(installed / name.replace("@.", "@1.")))

    assert (0, "") == (verified.returncode, verified.stderr)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_may_do_little(installed: Path, name: str) -> None:
    """The tool that grades units grades each of them as well closed."""
    path = str(installed / name.replace("@.", "@1."))

    graded = _analyze(
        "security", "--offline=yes", f"--threshold={EXPOSED_AT_MOST * 10:.0f}", path
    )

    assert 0 == graded.returncode, graded.stdout


def test_a_worker_has_more_time_to_stop_than_it_uses() -> None:
    """The grace period of the example file ends before systemd kills."""
    worker = (UNITS / "taskflow-worker@.service").read_text("utf-8")
    variables = (UNITS / "taskflow.env").read_text("utf-8")

    (allowed,) = re.findall(r"^TimeoutStopSec=(\d+)$", worker, re.MULTILINE)
    (used,) = re.findall(r"^WORKER_STOP_GRACE_PERIOD=(\w+)$", variables, re.MULTILINE)

    assert Duration(0.0, 1e6).read(used) + 5 <= float(allowed)
