"""What a test needs of its machine: without it the test is skipped.

Where ``CI`` is set it fails instead: tools can be installed there. Only what a process
may not do is no failure even then, since nothing that is installed would let it.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

NET_ADMIN, SYS_ADMIN = 12, 21
"""Capabilities, by their numbers in Linux."""


def missing(told: str) -> NoReturn:
    """Skip the test, or fail it; *told* says why."""
    if os.environ.get("CI") and sys.platform == "linux":
        pytest.fail(told)
    pytest.skip(told)


def tool(name: str, package: str) -> str:
    """Find the program *name*; give its path."""
    found = shutil.which(name)
    if found is None:
        missing(f"there is no {name} here: apt-get install {package}")
    return str(found)


def library(pattern: str, package: str) -> str:
    """Find the file below /usr/lib that fits *pattern*; give its path."""
    found = sorted(Path("/usr/lib").glob(pattern))
    if not found:
        missing(f"there is no {pattern} here: apt-get install {package}")
    return str(found[0])


def capability(number: int, purpose: str) -> None:
    """Make sure that this process may do what *number* allows."""
    held = 0
    if sys.platform == "linux":
        status = Path("/proc/self/status").read_text("ascii").splitlines()
        (line,) = (each for each in status if each.startswith("CapEff:"))
        held = int(line.split()[1], 16)
    if not held >> number & 1:
        pytest.skip(f"this process may not {purpose}: it takes root, on Linux")


def done(*command: str) -> None:
    """Run a command without which there is no test."""
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    if ended.returncode:
        missing(f"{' '.join(command)}: {ended.stderr.strip()}")
