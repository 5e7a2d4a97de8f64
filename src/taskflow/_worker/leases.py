"""Which tasks this worker holds: shared by the loop and the heartbeat's thread."""

import threading
from collections.abc import Iterable


class Leases:
    """Pairs of task id and token; every method is safe in any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: set[tuple[str, str]] = set()

    def add(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Hold these, from now on."""
        with self._lock:
            self._held.update(pairs)

    def drop(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Hold these no longer."""
        with self._lock:
            self._held.difference_update(pairs)

    def snapshot(self) -> list[tuple[str, str]]:
        """Return what is held now."""
        with self._lock:
            return list(self._held)

    def __len__(self) -> int:
        return len(self._held)
