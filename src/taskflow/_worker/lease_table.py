"""The leases of a worker, in memory that its standby process reads.

The worker has a `LeaseTable`, its standby process a `LeaseReader`; so this module is
made of the standard library alone, and of those parts that take little memory.

=====  =====================================================================
bytes  hold
=====  =====================================================================
0-7    when the last answered heartbeat was sent: monotonic clock, a double
8-11   entries that have been used, counted from the first
12-15  leases that the standby process has renewed so far
16     1 while the worker runs
64-    entries of 256 bytes: until when to renew (a double, monotonic clock),
       length of the id (0 = free), length of the token, id, token
=====  =====================================================================

Nothing locks the memory. An entry that is read while it is written gives an id with a
token that is not its own, and the server renews nothing for those.
"""

import os
import struct
import time
from collections.abc import Iterable, Iterator
from mmap import mmap

# No ``Final``: ``typing`` takes 1 MB.
MOST_ENTRIES = 65_536
"""Leases that have a place. The heartbeat alone renews the others."""

Pair = tuple[bytes, bytes]
"""Task id and token."""

_BEAT = struct.Struct("=d")
_COUNT = struct.Struct("=I")
_HEAD = struct.Struct("=dHH")
_ID_SIZE = struct.Struct("=H")
_USED_AT = 8
_RENEWED_AT = 12
_RUNS_AT = 16
_FIRST = 64
_ENTRY_SIZE = 256
_SIZE = _FIRST + MOST_ENTRIES * _ENTRY_SIZE  # what is never written takes no room


class LeaseTable:
    """Memory in which the standby process reads what the worker holds.

    Every method but `beat` is called by one thread at a time.

    Args:
        limit: Hard limit of a task that has none of its own, in seconds.

    Attributes:
        descriptor: Of the memory.
        beat_at: When the last answered heartbeat was sent, by the monotonic clock.

    Raises:
        OSError: The system gives no memory, or a sandbox forbids it.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._starts: dict[tuple[str, str], int] = {}
        self._free: list[int] = []
        self._entry = _HEAD
        self._used = 0
        self.descriptor = os.memfd_create("taskflow-leases")
        try:
            os.ftruncate(self.descriptor, _SIZE)
            self._memory = mmap(self.descriptor, _SIZE)
        except OSError:
            os.close(self.descriptor)
            raise
        self._memory[_RUNS_AT] = 1
        self.beat(time.monotonic())

    def add(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Have the leases *pairs* renewed, until their tasks could have ended."""
        memory, starts, free = self._memory, self._starts, self._free
        until = time.monotonic() + self._limit
        entry = self._entry
        for pair in pairs:
            task_id, token = pair[0].encode(), pair[1].encode()
            size = _HEAD.size + len(task_id) + len(token)
            if size > _ENTRY_SIZE or pair in starts:
                continue
            if not free and not self._use_another():
                return  # the heartbeat alone renews what has no entry
            starts[pair] = start = free.pop()
            if size != entry.size:
                entry = struct.Struct(f"{_HEAD.format}{size - _HEAD.size}s")
            id_size = len(task_id)
            text = task_id + token
            entry.pack_into(memory, start, until, id_size, len(token), text)
        self._entry = entry

    def _use_another(self) -> bool:
        """Use an entry that has never been used, if there is one."""
        if self._used == MOST_ENTRIES:
            return False
        self._free.append(_FIRST + self._used * _ENTRY_SIZE)
        self._used += 1
        _COUNT.pack_into(self._memory, _USED_AT, self._used)
        return True

    def limit(self, pair: tuple[str, str], until: float) -> None:
        """Have the lease *pair* renewed until its task reaches its hard limit.

        Args:
            pair: Task id and token.
            until: Time of the monotonic clock.
        """
        start = self._starts.get(pair)
        if start is not None:
            _BEAT.pack_into(self._memory, start, until)

    def remove(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Have the leases *pairs* renewed no longer."""
        for pair in pairs:
            start = self._starts.pop(pair, None)
            if start is not None:
                _ID_SIZE.pack_into(self._memory, start + _BEAT.size, 0)
                self._free.append(start)

    def beat(self, sent_at: float) -> None:
        """Note that a heartbeat was answered that was sent at *sent_at*."""
        self.beat_at = sent_at
        _BEAT.pack_into(self._memory, 0, self.beat_at)

    def renewed(self) -> int:
        """Return how many leases the standby process has renewed so far."""
        (count,) = _COUNT.unpack_from(self._memory, _RENEWED_AT)
        return int(count)

    def close(self) -> None:
        """End the standby process, and have nothing renewed by it any longer."""
        self._memory[_RUNS_AT] = 0
        os.close(self.descriptor)


class LeaseReader:
    """What the standby process sees of the worker; it writes what it has renewed.

    Args:
        descriptor: Of the memory.
    """

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap(descriptor, _SIZE)

    def leases(self) -> Iterator[tuple[float, Pair]]:
        """Read the leases, each with the time until when it is renewed."""
        memory = self._memory
        (used,) = _COUNT.unpack_from(memory, _USED_AT)
        for place in range(min(used, MOST_ENTRIES)):
            start = _FIRST + place * _ENTRY_SIZE
            until, id_size, token_size = _HEAD.unpack_from(memory, start)
            if id_size:
                start += _HEAD.size
                end = start + id_size
                yield until, (memory[start:end], memory[end : end + token_size])

    def beat_at(self) -> float:
        """Read when the last answered heartbeat was sent, by the monotonic clock."""
        (seconds,) = _BEAT.unpack_from(self._memory, 0)
        return float(seconds)

    def is_over(self) -> bool:
        """Whether the worker has ended, though its process may last."""
        return not self._memory[_RUNS_AT]

    def count(self, renewed: int) -> None:
        """Add *renewed* to the leases renewed so far."""
        (before,) = _COUNT.unpack_from(self._memory, _RENEWED_AT)
        _COUNT.pack_into(self._memory, _RENEWED_AT, (before + renewed) % 2**32)
