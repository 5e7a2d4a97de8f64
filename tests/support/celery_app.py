"""Tasks that try to break the pool of a Celery engine."""

import ctypes
import errno
import os
import signal
import time
from pathlib import Path
from typing import Any

from taskflow import Context, Registry, RetryPolicy

registry = Registry()
ONCE = RetryPolicy(max_retries=0)
_hoard: list[bytes] = []


@registry.task(name="quick")
def quick(x: int) -> int:
    """Return at once."""
    return x


@registry.task(name="naps")
def naps(seconds: float, ctx: Context) -> list[int]:
    """Sleep; say where, and how often it was begun."""
    time.sleep(seconds)
    return [os.getpid(), ctx.attempt, ctx.deliveries]


@registry.task(name="hangs", retry=ONCE)
def hangs(seconds: float) -> None:
    """Sleep and look at nothing."""
    time.sleep(seconds)


@registry.task(name="limited", timeout=1.0, retry=ONCE)
def limited() -> None:
    """Hang beyond the hard limit."""
    time.sleep(60)


@registry.task(name="deaf", soft_timeout=0.2, timeout=1.0, retry=ONCE)
def deaf() -> None:
    """Hang and take no notice of the soft limit."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            time.sleep(60)
        except TimeoutError:
            continue


@registry.task(name="heeds", soft_timeout=0.2, timeout=10.0, retry=ONCE)
def heeds() -> str:
    """Catch the soft limit as a Celery task does, and return what is done."""
    from celery.exceptions import SoftTimeLimitExceeded

    try:
        time.sleep(60)
    except SoftTimeLimitExceeded:
        return "half"
    return "whole"


WAYS = {
    "exit": lambda: os._exit(3),
    "segfault": lambda: ctypes.string_at(0),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "terminate": lambda: os.kill(os.getpid(), signal.SIGTERM) or time.sleep(5),
    "memory": lambda: _hoard.append(bytearray(os.urandom(1) * 10**15)),
}


@registry.task(name="dies_once", retry=ONCE)
def dies_once(way: str, ctx: Context) -> list[int]:
    """Take the process with it at the first hand-out."""
    if ctx.deliveries == 1:
        WAYS[way]()
    return [ctx.attempt, ctx.deliveries]


@registry.task(name="pill", retry=ONCE)
def pill() -> None:
    """Take the process with it, always."""
    os._exit(1)


@registry.task(name="leaks")
def leaks(megabytes: int) -> int:
    """Keep memory that is never freed; say in which process."""
    _hoard.append(os.urandom(1024) * 1024 * megabytes)
    return os.getpid()


@registry.task(name="sticky", timeout=30.0, retry=ONCE)
def sticky(flag: str) -> int:
    """Be quick, unless a file is there: then wait until it has gone."""
    while Path(flag).exists():
        time.sleep(0.02)
    return os.getpid()


def let_starts_fail(flag: Path) -> None:
    """Let children fail to start: as often as *flag* says, and with its error."""
    from billiard.process import BaseProcess

    from taskflow._worker.executors import celery

    start: Any = BaseProcess.start

    def start_or_fail(process: Any) -> None:
        name, left = (flag.read_text("utf-8") if flag.exists() else "EAGAIN 0").split()
        if int(left) > 0:
            flag.write_text(f"{name} {int(left) - 1}", "utf-8")
            number = getattr(errno, name)
            raise OSError(number, os.strerror(number))
        start(process)

    BaseProcess.start = start_or_fail
    celery.PATIENCE = 1.0


if "STARTS_FAIL" in os.environ:
    let_starts_fail(Path(os.environ["STARTS_FAIL"]))
