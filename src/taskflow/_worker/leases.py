"""Which tasks this worker holds: shared by the loop and the heartbeat's thread."""

import threading
from collections.abc import Callable, Iterable

_DISOWNED_KEPT = 1_000


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
        self._disowned: dict[tuple[str, str], None] = {}  # the oldest first
        self._mirror = mirror

    def add(self, pairs: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
        """Hold these, from now on.

        Returns:
            Those among them that were disowned: they are not held, and not to be run.
        """
        new = set(pairs)
        with self._lock:
            refused = new.intersection(self._disowned)
            self._held.update(new - refused if refused else new)
            if self._mirror is not None:
                self._mirror(self._held)
        return refused

    def drop(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Hold these no longer."""
        with self._lock:
            self._held.difference_update(pairs)
            if self._mirror is not None:
                self._mirror(self._held)

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
