"""The heartbeat's thread: it outlives whatever goes wrong in it."""

import threading
import uuid
from typing import Any

import pytest

from taskflow._protocol.keys import Keys
from taskflow._servers.memory import MemoryServer
from taskflow._worker.heartbeat import Heartbeat, HeartbeatSettings
from taskflow._worker.leases import Leases


class Deaf:
    """Hears nothing."""

    def __getattr__(self, name: str) -> Any:
        """Give what ignores its arguments."""
        return lambda *args, **facts: None


def test_a_beat_that_fails_is_logged_and_followed_by_the_next(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A dead thread would cost the worker every lease, without a word."""
    server = MemoryServer(f"memory://{uuid.uuid4().hex}")
    beats, went_on = 0, threading.Event()

    def describe() -> bytes:
        nonlocal beats
        beats += 1
        if beats == 1:
            message = "changed size during iteration"
            raise RuntimeError(message)
        went_on.set()
        return b"{}"

    heartbeat = Heartbeat(
        HeartbeatSettings(Keys(), "w", 0.3, lambda: 0),
        server.runner(),
        Leases(),
        Deaf(),
        describe,
    )
    heartbeat.start()

    assert went_on.wait(10)
    heartbeat.stop()
    server.close()
    assert "a beat failed" in caplog.text
