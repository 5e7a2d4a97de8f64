"""How many to claim, and under which name; nothing else."""

import secrets
import time

from attrs import frozen

from taskflow._protocol import claim
from taskflow._protocol.claim import ClaimReply, LaneShare
from taskflow._protocol.keys import Keys
from taskflow._protocol.operation import Operation
from taskflow._protocol.record import Claim


@frozen
class ConsumerSettings:
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


class Consumer:
    """Describes the claims of one channel, one at a time.

    A claim whose reply was lost is sent again under the same nonce: the
    server answers with the tasks it handed out then. A reply that took longer
    than half a lease is not trusted either, and is asked for again.
    """

    def __init__(self, settings: ConsumerSettings, channel: int) -> None:
        self._settings = settings
        self._channel = channel
        # Not from 1: a worker that is run again, or started again under its old
        # id, must not be answered with the tasks of its last life.
        self._number = secrets.randbits(40)
        self._sent = 0.0

    def operation(
        self, slots: int, *, suspect: bool, now_ms: int
    ) -> Operation[ClaimReply]:
        """Describe claiming up to *slots* tasks, 1 to 100."""
        self._sent = time.monotonic()
        return claim.claim(
            self._settings.keys,
            worker=self._settings.worker,
            nonce=f"{self._channel}-{self._number}",
            slots=slots,
            lease_ms=round(self._settings.lease * 1000),
            share=self._settings.share,
            suspect=suspect,
            now_ms=now_ms,
        )

    def receive(self, reply: ClaimReply) -> list[Claim] | None:
        """Take the claims of *reply*; None when it came too late to trust."""
        if time.monotonic() - self._sent > self._settings.lease / 2:
            return None
        self._number += 1
        return reply.claims
