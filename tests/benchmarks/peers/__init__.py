"""The peers of ``faults.py``: one module each, imported in the peer's own venv.

The runner reads `PEERS` and never imports the modules: their peers pin versions of
redis-py that exclude each other. ``python -m peers`` stands between the two.

What is set is the most reliable that was found in the peer's documentation or source;
each module's docstring says which, and where. Where a time-out decides how soon a
lost worker's tasks come back, it stays at its default, or is made short for a case
that says so (`SHORT`).
"""

import importlib
import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

URL = os.environ.get("FAULTS_URL", "")
SHORT = int(os.environ.get("FAULTS_SHORT", "0"))
"""Seconds to which the time-outs of a peer are cut; 0 leaves its defaults."""


@dataclass(frozen=True)
class Peer:
    """What the runner must know of a peer.

    Attributes:
        requirements: What pip installs; nothing where ours is used.
        shown: Distributions whose versions the tables name.
        slots: Bodies at a time of one worker process.
        processes: Worker processes of one machine.
        tasks: How many are enqueued while replies are lost.
        quiet: Seconds without a run after which no run is expected any more, with
            short time-outs.
    """

    requirements: tuple[str, ...]
    shown: tuple[str, ...]
    slots: int = 20
    processes: int = 1
    tasks: int = 500
    quiet: float = 25.0


PEERS = {
    "taskflow": Peer((), ("asynctaskflow", "redis")),
    # What was not acknowledged is looked for every 100 s.
    "celery": Peer(("celery[redis]",), ("celery", "kombu", "redis"), quiet=120.0),
    "dramatiq": Peer(("dramatiq[redis]",), ("dramatiq", "redis")),
    # A worker runs one task at a time, so a machine has several.
    "rq": Peer(("rq",), ("rq", "redis"), 1, processes=4, tasks=100, quiet=90.0),
    "huey": Peer(("huey[redis]",), ("huey", "redis")),
    "arq": Peer(("arq",), ("arq", "redis")),
    # It imports typing_extensions, and does not require it.
    "saq": Peer(("saq[redis]", "typing_extensions"), ("saq", "redis"), quiet=40.0),
    "taskiq": Peer(("taskiq", "taskiq-redis"), ("taskiq", "taskiq-redis", "redis")),
    "streaq": Peer(("streaq",), ("streaq", "coredis")),
    "bullmq": Peer(("bullmq", "ioredis"), ("bullmq", "ioredis")),
}


class Producer(Protocol):
    """Enqueues from one event loop, connected already."""

    async def enqueue(self, number: int) -> str:
        """Enqueue one body; give the name by which its result is found."""

    async def result(self, name: str) -> str | None:
        """Read the stored result, without waiting for one."""


class Adapter(Protocol):
    """What a module of this package offers."""

    def worker(self, slots: int) -> list[str]:
        """Return the command of one worker process, less its venv's folder."""

    def producer(self) -> AbstractAsyncContextManager[Producer]:
        """Connect a producer; also makes what the peer needs before its first call."""


Connected = AsyncIterator[Producer]


def load(name: str) -> Adapter:
    """Import the adapter of the peer *name*; reads ``FAULTS_URL``."""
    adapter: Any = importlib.import_module(f"peers.{name}")
    return adapter
