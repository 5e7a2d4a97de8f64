"""A system that gives no more than so many threads, as a container's pids.max does."""

import threading
from typing import Any

import pytest

from taskflow._worker.executors.threads import NAME


class ThreadLimit:
    """Lets only so many threads for bodies be alive at a time; all others start.

    Attributes:
        most: So many.
        refused: How often one was refused.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
        self.most = most
        self.refused = 0
        start = threading.Thread.start

        def start_or_not(thread: Any) -> None:
            if thread.name.startswith(NAME) and self.alive() >= self.most:
                self.refused += 1
                message = "can't start new thread"
                raise RuntimeError(message)
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", start_or_not)

    def alive(self) -> int:
        """Count the threads for bodies."""
        return sum(each.name.startswith(NAME) for each in threading.enumerate())
