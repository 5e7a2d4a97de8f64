"""The line between a worker and a child of its pool: frames, both ways.

A frame is a tuple of numbers, texts and bytes. Nothing else can cross, so that no
object of a body's can break the worker that reads it: an exception that cannot be
rebuilt ends a Celery worker.

From the child:

- ``begin, number``: message *number* is being worked on.
- ``done, number, (verb, detail, report), event, seconds``: the next of its tasks
  has ended; *event* is its name and facts, or None.
- ``ended`` with the same, and ``done, number`` later: its body has ended, and what it
  reported is stored in between.
- ``back, number, begun``: it has begun that many of its tasks, and begins no more.

To the child, each followed by the signal `ALERT`:

- ``soft, token`` and ``cancel, token``: stop that body.
- ``cut, number``: begin no more of that message.
"""

import marshal
import signal
import socket
import struct
from typing import Any

Frame = tuple[Any, ...]

ALERT = signal.SIGUSR1
"""Makes a child read its line, whatever it does; Celery's soft limit has it too."""

_HEADER = struct.Struct(">I")
_CHUNK = 262_144


def pack(frame: Frame) -> bytes:
    """Return *frame* as it stands on the line."""
    body = marshal.dumps(frame)
    return _HEADER.pack(len(body)) + body


class Pipe:
    """One end of a line.

    Attributes:
        sock: The socket; not blocking.
        is_open: Whether the other end can be there still.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(0)
        self.sock = sock
        self.is_open = True
        self._received = bytearray()

    def receive(self) -> list[Frame]:
        """Read what has come; waits for nothing. Sets `is_open`."""
        while self.is_open:
            try:
                data = self.sock.recv(_CHUNK)
            except BlockingIOError:
                break
            except OSError:
                self.is_open = False
                break
            self._received += data
            if not data:
                self.is_open = False
            if len(data) < _CHUNK:
                break
        return self._frames()

    def _frames(self) -> list[Frame]:
        frames: list[Frame] = []
        received, start = self._received, 0
        while len(received) - start >= _HEADER.size:
            (length,) = _HEADER.unpack_from(received, start)
            end = start + _HEADER.size + length
            if len(received) < end:
                break
            # Only what a child of this very process and interpreter wrote.
            frames.append(marshal.loads(received[start + _HEADER.size : end]))  # noqa: S302
            start = end
        del received[:start]
        return frames

    def close(self) -> None:
        """Hang up."""
        self.is_open = False
        self.sock.close()
