"""Whether the server is away: told once when it goes and once when it is back."""

import time

from taskflow._events import Events, ServerBack, ServerLost


class Outage:
    """One outage at a time, whichever loop meets it first; used on the loop."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._since: float | None = None

    def begin(self, message: str) -> None:
        """Somebody got no answer."""
        if self._since is None:
            self._since = time.monotonic()
            self._events.emit(ServerLost(message))

    def end(self) -> None:
        """Somebody got an answer."""
        if self._since is not None:
            self._events.emit(ServerBack(time.monotonic() - self._since))
            self._since = None
