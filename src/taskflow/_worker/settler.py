"""Outcomes waiting for the server: each is sent until it is answered."""

import itertools
from collections import deque
from collections.abc import Sequence
from itertools import islice

from taskflow._protocol import settle
from taskflow._protocol.batch import fitting
from taskflow._protocol.keys import Keys
from taskflow._protocol.operation import Operation
from taskflow._protocol.record import Outcome
from taskflow._protocol.settle import SettleWord


def settles(
    keys: Keys, outcomes: Sequence[Outcome], *, now_ms: int
) -> list[Operation[list[SettleWord]]]:
    """Describe settling *outcomes*, however many they are."""
    operations: list[Operation[list[SettleWord]]] = []
    rest = list(outcomes)
    while rest:
        count = fitting(len(each.detail) for each in rest[: settle.MOST_PER_CALL])
        operations.append(settle.settle(keys, rest[:count], now_ms=now_ms))
        del rest[:count]
    return operations


class Settler:
    """Keeps outcomes in the order they came, and gives them out in batches.

    What was given out is either confirmed or put back; an outcome is never
    dropped while its worker lives, however long the server is away.
    """

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._waiting: deque[Outcome] = deque()
        self._batches: list[Sequence[Outcome]] = []
        self._underway = 0

    @property
    def waiting(self) -> int:
        """Outcomes that nobody is sending."""
        return len(self._waiting)

    @property
    def unconfirmed(self) -> int:
        """Outcomes that the server has not answered for, waiting or underway."""
        return len(self._waiting) + self._underway

    def outstanding(self) -> list[Outcome]:
        """Outcomes that are not confirmed; in any thread, while the loop is blocked."""
        batches = self._batches.copy()
        return [*itertools.chain.from_iterable(batches), *self._waiting.copy()]

    def add(self, outcome: Outcome) -> None:
        """Take an outcome."""
        self._waiting.append(outcome)

    def take(self, most: int, most_bytes: int) -> list[Outcome]:
        """Give out outcomes, the oldest first.

        Args:
            most: Of them, 1 to 100.
            most_bytes: Of their results and errors together.

        Returns:
            As many as fit, but at least one; none if none waits.
        """
        sizes = (len(each.detail) for each in islice(self._waiting, most))
        batch = [self._waiting.popleft() for _ in range(fitting(sizes, most_bytes))]
        self._batches.append(batch)
        self._underway += len(batch)
        return batch

    def operation(
        self, batch: Sequence[Outcome], *, now_ms: int
    ) -> Operation[list[SettleWord]]:
        """Describe settling *batch*."""
        return settle.settle(self._keys, batch, now_ms=now_ms)

    def confirm(self, batch: Sequence[Outcome]) -> None:
        """The server has answered for *batch*."""
        self._forget(batch)

    def put_back(self, batch: Sequence[Outcome]) -> None:
        """The server gave no answer for *batch*: it goes first again."""
        self._forget(batch)
        self._waiting.extendleft(reversed(batch))

    def _forget(self, batch: Sequence[Outcome]) -> None:
        self._batches = [each for each in self._batches if each is not batch]
        self._underway -= len(batch)
