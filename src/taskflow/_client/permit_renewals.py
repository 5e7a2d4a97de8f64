"""Permits that this process holds, renewed for as long as it holds them.

A permit holds for one lease, so that a process that was killed, or cut off, frees
what it held within that time, and a call that takes longer keeps it. A thread renews,
because a blocked event loop must not cost a call its permit; it is there only while
something is held.
"""

import threading
import time
from collections.abc import Callable

from taskflow._declare.upstream import Upstream

_RENEWALS = 3
"""Renewals within one lease: two may be late or lost."""


class PermitRenewals:
    """The permits of guarded calls that run here; safe in any thread."""

    def __init__(self, renew: Callable[[Upstream, str], None]) -> None:
        self._renew = renew
        self._lock = threading.Lock()
        self._held: dict[str, Upstream] = {}
        self._thread: threading.Thread | None = None

    def hold(self, upstream: Upstream, ticket: str, lease: float) -> None:
        """Begin to renew *ticket*, which holds for *lease* seconds."""
        with self._lock:
            self._held[ticket] = upstream
            # In a child of a fork the thread is there by name only.
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._keep,
                    args=(lease / _RENEWALS,),
                    name="taskflow-permits",
                    daemon=True,
                )
                self._thread.start()

    def drop(self, ticket: str) -> None:
        """Renew *ticket* no more."""
        with self._lock:
            self._held.pop(ticket, None)

    def _keep(self, pause: float) -> None:
        while True:
            time.sleep(pause)
            with self._lock:
                held = list(self._held.items())
                if not held:
                    self._thread = None
                    return
            for ticket, upstream in held:
                self._renew(upstream, ticket)
