"""When this worker may take tasks back from others that seem dead.

A lease can end although its worker lives: the server was away, or stood still,
or its clock was set, or we ourselves were stopped. In all of these the living
renew first: nothing is taken back for two beats afterwards. Of a clock that was set they
do not know, and renew when their next beat is due: they have a beat more.

And nothing is sent, while the server may be away, that would take tasks back the
moment it returns. A lease lasts three beats and is renewed every beat, so none ends
before two beats without an answer. A reap is sent only within one and a quarter
beats of an answer, and says that it may run for half a beat: it is void before the
first lease of somebody who lives ends.
"""

import math
import threading
import time

from taskflow._protocol.upkeep import LONGEST_TRIP_MS

_LONG_GAP = 3.0
_ANSWERED_WITHIN = 1.25
_TRIP = 0.5
_AFTER_A_STEP = 3.0


class ReapGate:
    """Closed for two beats after anything that could have kept beats away.

    Args:
        beat: Seconds between two beats.
    """

    def __init__(self, beat: float) -> None:
        self._beat = beat
        self._turn = threading.Lock()
        self._open_at = time.monotonic() + 2 * beat
        self._looked_at: float | None = None
        self._answered_at: float | None = None
        self._offset_ms: float | None = None

    def hold(self, beats: float = 2.0) -> None:
        """Close for so many beats from now, unless it is closed for longer."""
        until = time.monotonic() + beats * self._beat
        with self._turn:  # the loop and the heartbeat's thread both hold it
            self._open_at = max(self._open_at, until)

    def answered(self) -> None:
        """Take note of a beat that was answered; one that was late closes it."""
        if self._silence() > self._beat * _ANSWERED_WITHIN:
            self.hold()
        self._answered_at = time.monotonic()

    def heard(self, now_ms: int, *, jumped: bool = False) -> None:
        """Take note of the server's time, told just now; one that was set closes it."""
        # In this order: nothing may be taken back by the new time while it is open.
        if jumped:
            self.hold(_AFTER_A_STEP)
        self._offset_ms = now_ms - time.monotonic() * 1000

    def is_open(self) -> bool:
        """Whether to reap now; a long gap since the last look closes it."""
        now = time.monotonic()
        if self._looked_at is not None and now - self._looked_at > max(
            self._beat, _LONG_GAP
        ):
            self.hold()
        self._looked_at = now
        is_answered = self._silence() <= self._beat * _ANSWERED_WITHIN
        return is_answered and now >= self._open_at

    def latest_ms(self) -> int:
        """Return until when a reap that is sent now may run; 0 = not known."""
        if self._offset_ms is None:
            return 0
        trip = min(LONGEST_TRIP_MS, self._beat * 1000 * _TRIP)
        return round(time.monotonic() * 1000 + self._offset_ms + trip)

    def _silence(self) -> float:
        """Seconds since a beat was answered."""
        if self._answered_at is None:
            return math.inf
        return time.monotonic() - self._answered_at
