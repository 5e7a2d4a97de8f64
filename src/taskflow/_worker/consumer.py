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


@frozen
class Ask:
    """What a claim asks for.

    Attributes:
        slots: Most tasks, 1 to 100.
        suspect: Whether a suspect may be among them.
    """

    slots: int
    suspect: bool = False


class Consumer:
    """Describes the claims of one channel, one at a time.

    A claim whose reply was lost is sent again under the same nonce: the server
    answers with the tasks that it delivered then. A reply that took longer than half a
    lease is not trusted either, and is requested again. The repeat may ask for fewer
    bytes, so that a reply that was too large for the link arrives in parts.

    Attributes:
        unanswered: What was asked for and not answered yet, if anything: tasks may
            have been handed out for it.
    """

    def __init__(self, settings: ConsumerSettings, channel: int) -> None:
        self.unanswered: Ask | None = None
        self._settings = settings
        self._channel = channel
        # Not from 1: a worker that is run again, or started again under its old
        # id, must not be answered with the tasks of its last life.
        self._number = secrets.randbits(40)
        self._after = ""
        self._asked = self._sent = 0.0

    def operation(
        self, ask: Ask, *, most_bytes: int, now_ms: int, repeats: bool = False
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
