"""One object for each event loop: runners, and what gathers their calls."""

import asyncio
import threading
import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerLoop(Generic[T]):
    """Makes an object for each event loop that asks for one.

    The object goes with its loop. A loop that was closed by hand, with connections
    left open, is kept alive by them; so its object is dropped when the next loop asks.

    Args:
        make: Makes the object of the running loop.
        drop: Frees what the object of a closed loop holds.
    """

    def __init__(
        self, make: Callable[[], T], drop: Callable[[T], None] = lambda _: None
    ) -> None:
        self._make = make
        self._drop = drop
        self._lock = threading.Lock()
        self._known: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, T] = (
            weakref.WeakKeyDictionary()
        )

    def get(self) -> T:
        """Return the object of the running loop, made now if there is none."""
        loop = asyncio.get_running_loop()
        found = self._known.get(loop)
        if found is None:
            self.drop_closed()
            found = self._make()
            with self._lock:
                self._known[loop] = found
        return found

    def drop_closed(self) -> None:
        """Drop the objects of loops that are closed."""
        with self._lock:
            closed = [each for each in self._known if each.is_closed()]
            dropped = [self._known.pop(each) for each in closed]
        for each in dropped:
            self._drop(each)

    def pop(self) -> T | None:
        """Forget the object of the running loop, and return it."""
        with self._lock:
            return self._known.pop(asyncio.get_running_loop(), None)

    def __len__(self) -> int:
        return len(self._known)
