"""What a worker holds, where its supervisor can read it though the worker is mute.

A body that holds the interpreter's lock silences every thread of its process, the one
that renews leases too. So a worker under a supervisor keeps its leases in memory that
both share; the deputy (``deputy.py``) renews them while the worker cannot.

=====  ====================================================================
bytes  hold
=====  ====================================================================
0-7    time of the last beat that was answered: monotonic clock, a double
8      which of the two halves counts
16-23  length of the facts; 0 = nobody stands in
24-    the facts, JSON
4096-  two halves: generation, length, and a line ``id token`` for each lease
=====  ====================================================================

The worker writes the half that does not count and then turns to it, so what counts is
whole at any moment, also where the writer was silenced in the middle.
"""

import json
import mmap
import os
import struct
import sys
import time
from collections.abc import Iterable
from typing import Any, Final

from attrs import frozen

LEDGER: Final = "TASKFLOW_LEDGER"
"""Environment variable that names the worker's end of the shared memory."""

_HEADER: Final = 4096
_HALF: Final = 512 * 1024  # some 7,000 leases; what does not fit is left out
_BEAT: Final = struct.Struct("=d")
_LENGTH: Final = struct.Struct("=Q")
_COUNTS: Final = struct.Struct("=QQ")  # generation, length


@frozen
class Account:
    """What was read of a worker.

    Attributes:
        url: Of its server, with its password; None = the embedded one by default.
        prefix: Of every key.
        lease: Seconds.
        limit: Longest time that a body may take, in seconds; None = none.
        beat_at: Of its last beat that was answered, by the monotonic clock.
        held: Pairs of task id and token.
    """

    url: str | None
    prefix: str
    lease: float
    limit: float | None
    beat_at: float
    held: list[tuple[str, str]]


class Ledger:
    """Memory of one worker that its supervisor reads; one writer, one reader.

    Args:
        descriptor: Of the memory; not needed any more once this is made.

    Attributes:
        descriptor: The same.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._memory = mmap.mmap(descriptor, _HEADER + 2 * _HALF)
        self._generation = 0

    @classmethod
    def create(cls) -> "Ledger | None":
        """Make one, for a worker that is about to be started.

        Returns:
            It; None where there is no such memory, or no way to see a stopped child.

        Raises:
            OSError: The system gives no memory now, or a sandbox forbids it.
        """
        if sys.platform != "linux":
            return None
        descriptor = os.memfd_create("taskflow-ledger")
        try:
            os.ftruncate(descriptor, _HEADER + 2 * _HALF)
            return cls(descriptor)
        except OSError:
            os.close(descriptor)
            raise

    @classmethod
    def inherited(cls) -> "Ledger | None":
        """Find that of this process; None in one without a supervisor."""
        descriptor = os.environ.pop(LEDGER, "")
        if not descriptor.isdigit():
            return None
        ledger = cls(int(descriptor))
        ledger.close_descriptor()  # what bodies start shall not inherit it
        return ledger

    def introduce(
        self, url: str | None, prefix: str, *, lease: float, limit: float | None
    ) -> None:
        """Say once how the leases of this worker are renewed; see `Account`."""
        facts = {"url": url, "prefix": prefix, "lease": lease, "limit": limit}
        text = json.dumps(facts).encode()
        if len(text) > _HEADER - 24:
            return  # an address of many servers: nobody stands in
        self._memory[24 : 24 + len(text)] = text
        self.beat()
        _LENGTH.pack_into(self._memory, 16, len(text))

    def leave(self) -> None:
        """Say that the worker is over, though its process may last."""
        _LENGTH.pack_into(self._memory, 16, 0)

    def beat(self) -> None:
        """Note that a beat was answered."""
        _BEAT.pack_into(self._memory, 0, time.monotonic())

    def hold(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Note what is held now."""
        text = "\n".join(map(" ".join, pairs)).encode()
        if len(text) > _HALF - _COUNTS.size:
            text = text[: _HALF - _COUNTS.size].rpartition(b"\n")[0]
        half = 1 - self._memory[8]
        start = _HEADER + half * _HALF
        self._generation += 1
        _COUNTS.pack_into(self._memory, start, self._generation, len(text))
        start += _COUNTS.size
        self._memory[start : start + len(text)] = text
        self._memory[8] = half

    def read(self) -> Account | None:
        """Read what counts; None before the worker is there, and after it."""
        (length,) = _LENGTH.unpack_from(self._memory, 16)
        if not length:
            return None
        facts: dict[str, Any] = json.loads(self._memory[24 : 24 + length])
        (beat_at,) = _BEAT.unpack_from(self._memory, 0)
        start = _HEADER + self._memory[8] * _HALF
        counts = _COUNTS.unpack_from(self._memory, start)
        first = start + _COUNTS.size
        text = self._memory[first : first + counts[1]]
        if counts != _COUNTS.unpack_from(self._memory, start):
            return None  # it is written over just now, so its worker is not mute
        held = [
            (task_id, token)
            for line in text.decode().splitlines()
            for task_id, _, token in (line.partition(" "),)
        ]
        return Account(beat_at=beat_at, held=held, **facts)

    def close_descriptor(self) -> None:
        """Close the descriptor; the memory itself stays."""
        os.close(self.descriptor)
