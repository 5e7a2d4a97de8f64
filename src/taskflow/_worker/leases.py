"""Which tasks this worker holds: shared by the loop and the heartbeat's thread."""

import threading
from collections.abc import Collection, Iterable
from typing import Protocol

_DISOWNED_KEPT = 1_000


class Table(Protocol):
    """Where another process reads the leases; called by one thread at a time."""

    def add(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Show *pairs*."""

    def limit(self, pair: tuple[str, str], until: float) -> None:
        """Show when the task of *pair* reaches its hard limit."""

    def remove(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Show *pairs* no longer."""


class Leases:
    """Pairs of task id and token; every method is safe in any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: set[tuple[str, str]] = set()
        self._disowned: dict[tuple[str, str], None] = {}  # the oldest first
        self._table: Table | None = None

    def show(self, table: Table | None) -> None:
        """Keep *table* equal to what is held, from now on."""
        with self._lock:
            self._table = table
            if table is not None:
                table.add(self._held)

    def limit(self, pair: tuple[str, str], until: float) -> None:
        """Note when the task of *pair* reaches its hard limit (monotonic clock)."""
        with self._lock:
            if self._table is not None:
                self._table.limit(pair, until)

    def add(self, pairs: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
        """Hold these, from now on.

        Returns:
            Those among them that were disowned: they are not held, and not to be run.
        """
        new = set(pairs)
        with self._lock:
            refused = new.intersection(self._disowned)
            accepted = new - refused if refused else new
            self._held.update(accepted)
            if self._table is not None:
                self._table.add(accepted)
        return refused

    def drop(self, pairs: Collection[tuple[str, str]]) -> None:
        """Hold these no longer."""
        with self._lock:
            self._held.difference_update(pairs)
            if self._table is not None:
                self._table.remove(pairs)

    def disown(self, pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """Never hold these, so that they can be handed back; unless they are held.

        The claim that brings one of them may be answered just now: whichever comes
        first stands, so that no task is both run here and handed back.

        Returns:
            Those that are not held.
        """
        with self._lock:
            disowned = [pair for pair in pairs if pair not in self._held]
            self._disowned.update(dict.fromkeys(disowned))
            while len(self._disowned) > _DISOWNED_KEPT:
                del self._disowned[next(iter(self._disowned))]
        return disowned

    def snapshot(self) -> list[tuple[str, str]]:
        """Return what is held now."""
        with self._lock:
            return list(self._held)

    def __len__(self) -> int:
        return len(self._held)
