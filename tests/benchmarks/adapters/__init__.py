"""One file per peer: how to start its worker, and three ways to enqueue."""

import importlib
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, Protocol

Body = Literal["noop", "late", "nap"]

PEERS = ("taskflow", "taskiq")


class Producer(Protocol):
    """Enqueues from one event loop, connected already."""

    async def one(self, body: Body, argument: Any) -> None:
        """Enqueue one call, awaited."""

    async def many(self, body: Body, arguments: Sequence[Any]) -> bool:
        """Enqueue all at once; False where the peer has no such call."""


class Adapter(Protocol):
    """What a module of this package offers."""

    def worker(self, slots: int) -> list[str]:
        """Return the command of one worker process with *slots* bodies at a time."""

    def producer(self) -> AbstractAsyncContextManager[Producer]:
        """Connect a producer; also makes what the peer needs before its first call."""

    def one_by_one(self, argument: Any, number: int) -> float | None:
        """Enqueue *number* no-ops, each awaited or blocking: seconds it took.

        None where the peer's only way is that of its producer.
        """


Connected = AsyncIterator[Producer]


def load(name: str) -> Adapter:
    """Import the adapter of the peer *name*; reads ``BENCH_URL``."""
    adapter: Any = importlib.import_module(f"adapters.{name}")
    return adapter
