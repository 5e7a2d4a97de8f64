"""How fast the machine is just now, for the few bounds that only wall time can judge.

A bound is written for a quiet machine. `allow` stretches it by what a small fixed piece
of work takes now, so that a busy machine is not taken for a slow program, and a slow
program is still found on a quiet one. Tests that use it are marked ``timed``: they are
tried once more, and both figures are printed.
"""

import statistics
import subprocess
import sys
import time
from typing import Final

QUIET: Final = 0.025
"""Seconds that `work` takes on two quiet cores of a cloud machine of 2025."""

_WORK: Final = [sys.executable, "-I", "-S", "-c", "sum(range(200_000))"]


def work() -> float:
    """Start a process that computes a little; returns the median seconds of five."""
    took = []
    for _ in range(5):
        began = time.perf_counter()
        subprocess.run(_WORK, check=True)
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def allow(seconds: float) -> float:
    """Stretch a bound to what it is on this machine just now.

    Args:
        seconds: The bound on a quiet machine.

    Returns:
        At least *seconds*.
    """
    slowness = max(1.0, work() / QUIET)
    allowed = seconds * slowness
    print(  # noqa: T201 - both figures of a repeated test
        f"allowed: {allowed:.3f} s, for {seconds:.3f} s and a machine {slowness:.1f} "
        "times slower than a quiet one"
    )
    return allowed


def check_within(took: float, seconds: float) -> None:
    """Fail if something took longer than *seconds* of a quiet machine."""
    print(f"took: {took:.3f} s")  # noqa: T201 - both figures of a repeated test
    allowed = allow(seconds)
    assert took < allowed, f"took {took:.3f} s, allowed {allowed:.3f} s"
