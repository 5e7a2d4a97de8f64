"""Which tasks this worker holds: shared by the loop and the heartbeat's thread."""

import threading
from collections.abc import Callable, Iterable


class Leases:
    """Pairs of task id and token; every method is safe in any thread.

    Args:
        mirror: Told after every change what is held now.
    """

    def __init__(
        self, mirror: Callable[[Iterable[tuple[str, str]]], None] | None = None
    ) -> None:
        self._lock = threading.Lock()
        self._held: set[tuple[str, str]] = set()
        self._mirror = mirror

    def add(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Hold these, from now on."""
        with self._lock:
            self._held.update(pairs)
            if self._mirror is not None:
                self._mirror(self._held)

    def drop(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Hold these no longer."""
        with self._lock:
            self._held.difference_update(pairs)
            if self._mirror is not None:
                self._mirror(self._held)

    def snapshot(self) -> list[tuple[str, str]]:
        """Return what is held now."""
        with self._lock:
            return list(self._held)

    def __len__(self) -> int:
        return len(self._held)
