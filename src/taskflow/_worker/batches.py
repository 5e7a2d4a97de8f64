"""What one trip to the server carries: a claim request and a batch of outcomes.

Both survive a trip that got no answer: the request is repeated under its nonce, the
outcomes are sent again.
"""

import itertools
import secrets
import time
from collections import deque
from collections.abc import Sequence
from itertools import islice

from attrs import frozen

from taskflow._protocol import claim, settle
from taskflow._protocol.batch import fitting
from taskflow._protocol.claim import ClaimReply, LaneShare
from taskflow._protocol.keys import Keys
from taskflow._protocol.operation import Operation
from taskflow._protocol.record import Claim, Outcome
from taskflow._protocol.settle import SettleWord


@frozen
class ClaimSettings:
    """What every claim of a worker says.

    Attributes:
        keys: Of the prefix in use.
        worker: Id of the worker.
        lease: Seconds.
        share: Of the retry lane.
    """

    keys: Keys
    worker: str
    lease: float
    share: LaneShare


@frozen
class ClaimRequest:
    """What a claim asks for.

    Attributes:
        slots: Most tasks, 1 to 100.
        suspect: Whether a suspect may be among them.
    """

    slots: int
    suspect: bool = False


class ClaimRequests:
    """Describes the claims of one channel, one at a time.

    A claim whose reply was lost is sent again under the same nonce: the server
    answers with the tasks that it delivered then. A reply that took longer than half a
    lease is not trusted either, and is requested again. The repeat may ask for fewer
    bytes, so that a reply that was too large for the link arrives in parts.

    Attributes:
        unanswered: What was asked for and not answered yet, if anything: tasks may
            have been handed out for it.
    """

    def __init__(self, settings: ClaimSettings, channel: int) -> None:
        self.unanswered: ClaimRequest | None = None
        self._settings = settings
        self._channel = channel
        # Not from 1: a worker that is run again, or started again under its old
        # id, must not be answered with the tasks of its last life.
        self._number = secrets.randbits(40)
        self._after = ""
        self._asked = self._sent = 0.0

    def operation(
        self, ask: ClaimRequest, *, most_bytes: int, now_ms: int, repeats: bool = False
    ) -> Operation[ClaimReply]:
        """Describe claiming what *ask* says.

        Args:
            ask: `unanswered`, if there is one.
            most_bytes: Of payloads in the reply, unless one alone is larger.
            now_ms: Time to use instead of the server's, in ms; 0 = the server's.
            repeats: Whether to ask only for what was delivered already.

        Returns:
            An operation whose reply `receive` takes.
        """
        self._sent = time.monotonic()
        if self.unanswered is None:
            self._asked = self._sent
        self.unanswered = ask
        # After a part of a claim has arrived, a server that has forgotten the claim
        # must not deliver that part again: under this nonce it runs here.
        repeats = repeats or bool(self._after)
        return claim.claim(
            self._settings.keys,
            worker=self._settings.worker,
            nonce=f"{self._channel}-{self._number}",
            slots=0 if repeats else ask.slots,
            lease_ms=round(self._settings.lease * 1000),
            share=self._settings.share,
            suspect=ask.suspect and not repeats,
            most_bytes=most_bytes,
            after=self._after,
            now_ms=now_ms,
        )

    def receive(self, reply: ClaimReply) -> list[Claim] | None:
        """Take the claims of *reply*; None when it came too late to trust."""
        if time.monotonic() - self._sent > self._settings.lease / 2:
            return None
        if reply.left_out == "claimed":
            self._after = reply.claims[-1].id
        else:
            self._number += 1
            self._after = ""
        return reply.claims

    def is_hopeless(self) -> bool:
        """Whether a lease has passed since the unanswered claim was first sent."""
        return time.monotonic() - self._asked > self._settings.lease


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


class OutcomeQueue:
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
