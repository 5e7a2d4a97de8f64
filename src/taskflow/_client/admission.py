"""Guards: calls of an upstream that begin in a body, or anywhere.

An upstream with limits is asked for leave at every call, in one trip. One that has
a breaker alone is asked at most five times a second while it is closed: what this
process knows of it is never older than `FRESH`, and every turn that it hears of
counts at once. A failure is reported when it happens, successes together, at most
five times a second.

Where the server is away, a call must not wait for it: the process decides by what
it knew last, within the limits that are declared, for itself alone.
"""

import contextlib
import random
import secrets
import threading
import time
from collections.abc import Iterable

from taskflow._client import pybreaker_compat
from taskflow._client.flow_context import FlowContext
from taskflow._client.permit_renewals import PermitRenewals
from taskflow._client.sansio import Pause, Plan
from taskflow._declare import ports
from taskflow._declare.classification import CallOutcome, classify
from taskflow._declare.error_groups import is_cancellation
from taskflow._declare.ports import Admission, Pass
from taskflow._declare.upstream import Upstream
from taskflow._protocol import upstreams
from taskflow._protocol.operation import Operation
from taskflow._protocol.upstreams import BreakerDefaults, PermitReply, ReleaseReply
from taskflow.errors import ServerError, ServerUnavailableError

FRESH = 0.2
"""Seconds for which a closed breaker is believed to be closed still."""

LONGEST_NAP = 0.25
"""Seconds between two looks of a call that waits for its turn."""

ALONE = 1.0
"""Seconds for which a server that did not answer is not asked again."""

FOR_GOOD = 86_400.0
"""Seconds for which one that waits for a person is believed to be open."""

_MOST_UNSENT = 100


def recovery_ms(lease: float) -> int:
    """Say for how long running calls may report permits that the server has lost.

    Args:
        lease: Seconds; permits are renewed, and workers beat, every third of it.

    Returns:
        Half of it, in ms.
    """
    return round(lease * 500)


class LocalState:
    """What this process knows of one upstream; guarded by the lock of `AdmissionControl`."""

    def __init__(self) -> None:
        self.state = "closed"
        self.epoch = 0
        self.retry_at = 0.0
        self.reason = ""
        self.fresh_until = 0.0
        self.unsent = 0
        self.sent_at = 0.0
        self.tat = 0.0
        self.running = 0
        self.row = 0


class AdmissionControl:
    """Lets guarded calls begin, and hears how they ended; safe in any thread."""

    def __init__(self, connection: FlowContext) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._copies: dict[str, LocalState] = {}
        self._seen: set[str] = set()
        self._alone_until = 0.0
        self._renewals = PermitRenewals(self._renew)

    @property
    def defaults(self) -> BreakerDefaults:
        """What a declaration leaves to the settings."""
        known = self._connection.settings.upstream
        return BreakerDefaults(known.failure_rate, known.min_calls, known.reset_timeout)

    @property
    def _lease(self) -> float:
        return self._connection.settings.worker.lease

    @property
    def _recovery_ms(self) -> int:
        return recovery_ms(self._lease)

    def saw(self, names: Iterable[str]) -> None:
        """Take note that the server has the rules of these upstreams."""
        with self._lock:
            self._seen.update(names)

    def has_seen(self, name: str) -> bool:
        """Whether the server had the rules of this upstream."""
        return name in self._seen

    def forget(self) -> None:
        """Forget the state of all upstreams: the server has lost its data."""
        with self._lock:
            for copy in self._copies.values():
                copy.epoch, copy.fresh_until = -1, 0.0

    def enter(self, upstream: Upstream, weight: float, timeout: float | None) -> Pass:
        """Wait for the call's turn, blocking."""
        return self._connection.run(self._entering(upstream, weight, timeout))

    async def aenter(
        self,
        upstream: Upstream,
        weight: float,
        timeout: float | None,  # noqa: ASYNC109 - the blocking twin has it too
    ) -> Pass:
        """Wait for the call's turn."""
        return await self._connection.arun(self._entering(upstream, weight, timeout))

    def leave(
        self, upstream: Upstream, admitted: Pass, error: BaseException | None
    ) -> None:
        """Report how the call ended, blocking."""
        self._connection.run(self._leaving(upstream, admitted, error))

    async def aleave(
        self, upstream: Upstream, admitted: Pass, error: BaseException | None
    ) -> None:
        """Report how the call ended."""
        await self._connection.arun(self._leaving(upstream, admitted, error))

    def on_state_change(
        self, upstream: Upstream, state: str, epoch: int, retry: float, reason: str
    ) -> None:
        """Take note of a turn that the server has told.

        Args:
            upstream: Which.
            state: Its new state.
            epoch: Its new epoch.
            retry: Seconds until it is tried again; 0 = when a person says so.
            reason: For people.
        """
        with self._lock:
            copy = self._copy(upstream.name)
            if epoch <= copy.epoch:
                return
            old = copy.state
            self._note(copy, state, epoch, retry or FOR_GOOD, reason)
        pybreaker_compat.on_state_change(upstream, old, state)

    def _copy(self, name: str) -> LocalState:
        return self._copies.setdefault(name, LocalState())

    def _note(
        self, copy: LocalState, state: str, epoch: int, retry: float, reason: str = ""
    ) -> None:
        now = time.monotonic()
        copy.state, copy.epoch, copy.reason = state, epoch, reason
        copy.retry_at, copy.fresh_until = now + min(retry, FOR_GOOD), now + FRESH

    # Entering.

    def _entering(
        self, upstream: Upstream, weight: float, timeout: float | None
    ) -> Plan[Pass]:
        here = ports.scope.get()
        admission = here.admission if here is not None else None
        if admission is not None and admission.upstream != upstream.name:
            admission = None
        pybreaker_compat.tell_before(upstream)
        if admission is not None and admission.spend():
            return Pass(self, admission.task_id, admission.epoch, admission)
        known = self._known(upstream)
        if known is not None:
            return Pass(self, "", known, None)
        if time.monotonic() < self._alone_until:
            return self._decide_alone(upstream, weight)
        try:
            return (yield from self._ask(upstream, weight, timeout, admission))
        except ServerUnavailableError:
            self._alone_until = time.monotonic() + ALONE
            return self._decide_alone(upstream, weight)

    def _known(self, upstream: Upstream) -> int | None:
        """Decide by what is known; None = the server must be asked."""
        now = time.monotonic()
        with self._lock:
            copy = self._copy(upstream.name)
            if now >= copy.fresh_until:
                return None
            left, epoch, reason = copy.retry_at - now, copy.epoch, copy.reason
            is_open = copy.state == "open" and left > 0
            has_limits = upstream.rate_limit is not None or upstream.concurrency
            if not is_open and (
                has_limits or copy.state != "closed" or copy.unsent >= _MOST_UNSENT
            ):
                return None
        if is_open:
            raise pybreaker_compat.refusal(upstream.name, left, reason)
        return epoch

    def _ask(
        self,
        upstream: Upstream,
        weight: float,
        timeout: float | None,
        admission: Admission | None,
    ) -> Plan[Pass]:
        yield from self._flush(upstream)
        own = f"guard:{secrets.token_hex(8)}"
        deadline = None if timeout is None else time.monotonic() + timeout
        nap = 0.02
        while True:
            lent = admission is not None and admission.borrow()
            ticket = admission.task_id if admission is not None and lent else own
            reply = yield from self._request(
                upstream, ticket, weight, admission if lent else None
            )
            if reply.word == "IN":
                self._take_note(upstream, reply)
                if not lent:
                    self._renewals.hold(upstream, ticket, self._lease)
                return Pass(self, ticket, reply.epoch, admission if lent else None)
            left = None if deadline is None else deadline - time.monotonic()
            if reply.word == "SHUT":
                self._take_note(upstream, reply)
                raise pybreaker_compat.refusal(upstream.name, reply.wait, reply.reason)
            if left is not None and left <= 0:
                why = f"its turn did not come within {timeout:g} s"
                raise pybreaker_compat.refusal(upstream.name, reply.wait, why)
            pause = min(reply.wait, LONGEST_NAP, nap * random.uniform(0.5, 1.5))  # noqa: S311
            nap *= 2
            yield Pause(max(0.001, pause if left is None else min(pause, left)))

    def _request(
        self, upstream: Upstream, ticket: str, weight: float, lender: Admission | None
    ) -> Plan[PermitReply]:
        connection = self._connection
        is_in = False
        try:
            reply: PermitReply = yield upstreams.acquire_permit(
                connection.keys,
                upstream.name,
                ticket=ticket,
                weight=weight,
                lease_ms=round(self._lease * 1000),
                permit="lent" if lender is not None else "own",
                rules=upstreams.pack_rules(upstream, self.defaults),
                recovery_ms=self._recovery_ms if self.has_seen(upstream.name) else 0,
                now_ms=connection.clock(),
            )
            self.saw([upstream.name])
            is_in = reply.word == "IN"
            return reply
        finally:
            if lender is not None and not is_in:
                lender.give_back()

    def _renew(self, upstream: Upstream, ticket: str) -> None:
        """Let *ticket* hold for another lease, where it still holds."""
        connection = self._connection
        if not connection.is_open:
            return
        with contextlib.suppress(ServerError):
            connection.runner.send(self.renewal(upstream, ticket))

    def renewal(self, upstream: Upstream, ticket: str) -> Operation[PermitReply]:
        """Describe renewing the permit of a call that runs.

        Returns:
            An operation; a server that has lost its data stores the permit again.
        """
        connection = self._connection
        return upstreams.acquire_permit(
            connection.keys,
            upstream.name,
            ticket=ticket,
            weight=0,
            lease_ms=round(self._lease * 1000),
            permit="renewed",
            rules=upstreams.pack_rules(upstream, self.defaults),
            recovery_ms=self._recovery_ms,
            now_ms=connection.clock(),
        )

    def _take_note(self, upstream: Upstream, reply: PermitReply) -> None:
        with self._lock:
            copy = self._copy(upstream.name)
            old = copy.state
            self._note(copy, reply.state, reply.epoch, reply.wait, reply.reason)
        pybreaker_compat.on_state_change(upstream, old, reply.state)

    # Leaving.

    def _leaving(
        self, upstream: Upstream, admitted: Pass, error: BaseException | None
    ) -> Plan[None]:
        admission = admitted.admission
        self._renewals.drop(admitted.ticket)
        outcome = classify(upstream, error)
        with self._lock:
            state = self._copy(upstream.name).state
        pybreaker_compat.tell_end(upstream, outcome, error, state)
        if admission is not None:
            admission.give_back()
        here = ports.scope.get()
        own = here.admission if here is not None else None
        if own is not None and own.upstream == upstream.name:
            # Also one on a permit of its own speaks for the task's end. But one that
            # is cancelled does not know why: of a time limit, the task's end tells.
            own.has_reported |= not is_cancellation(error)
        if admitted.is_local:
            self._count_alone(upstream, outcome)
            return
        is_probe = admission is not None and admission.is_probe
        if outcome.kind == "success" and not is_probe and self._keeps(admitted):
            with self._lock:
                copy = self._copy(upstream.name)
                copy.unsent += 1
                if time.monotonic() - copy.sent_at < FRESH:
                    return
            yield from self._quietly(self._flush(upstream))
            return
        if outcome.kind in {"neutral", "shut"} and self._keeps(admitted):
            return
        yield from self._quietly(self._flush(upstream))
        yield from self._quietly(self._report(upstream, admitted, outcome))

    def _quietly(self, plan: Plan[None]) -> Plan[None]:
        """Carry out *plan*; where the server is away, what it says is lost."""
        if time.monotonic() < self._alone_until:
            return
        try:
            yield from plan
        except ServerUnavailableError:
            self._alone_until = time.monotonic() + ALONE

    @staticmethod
    def _keeps(admitted: Pass) -> bool:
        """Whether the server holds no permit of this call."""
        return not admitted.ticket.startswith("guard:")

    def _report(
        self, upstream: Upstream, admitted: Pass, outcome: CallOutcome
    ) -> Plan[None]:
        kind = "neutral" if outcome.kind == "shut" else outcome.kind
        connection = self._connection
        reply: ReleaseReply = yield upstreams.release_permit(
            connection.keys,
            upstream.name,
            ticket=admitted.ticket,
            epoch=admitted.epoch,
            outcome=kind,
            reason=outcome.reason,
            wait_ms=round(outcome.wait * 1000),
            now_ms=connection.clock(),
        )
        self._stands(upstream, reply)

    def _flush(self, upstream: Upstream) -> Plan[None]:
        """Send the successes that were counted here."""
        with self._lock:
            copy = self._copy(upstream.name)
            count, copy.unsent, epoch = copy.unsent, 0, copy.epoch
            copy.sent_at = time.monotonic()
        if not count:
            return
        connection = self._connection
        reply: ReleaseReply = yield upstreams.release_permit(
            connection.keys,
            upstream.name,
            ticket="",
            epoch=epoch,
            outcome="success",
            count=count,
            now_ms=connection.clock(),
        )
        self._stands(upstream, reply)

    def _stands(self, upstream: Upstream, reply: ReleaseReply) -> None:
        with self._lock:
            copy = self._copy(upstream.name)
            old = copy.state
            retry = FOR_GOOD if reply.retry is None else reply.retry
            self._note(copy, reply.state, reply.epoch, retry, reply.reason)
        pybreaker_compat.on_state_change(upstream, old, reply.state)

    # Alone.

    def _decide_alone(self, upstream: Upstream, weight: float) -> Pass:
        """Let a call begin, or refuse it, without the server."""
        now = time.monotonic()
        with self._lock:
            copy = self._copy(upstream.name)
            wait = copy.retry_at - now if copy.state == "open" else 0.0
            limit = upstream.rate_limit
            if limit is not None:
                interval = limit.per / limit.limit
                ahead = max(0.0, copy.tat - now)
                room = (limit.bucket - min(weight, limit.bucket)) * interval
                wait = max(wait, ahead - room)
            most = upstream.concurrency
            if most is not None and copy.running >= most:
                wait = max(wait, LONGEST_NAP)
            if wait <= 0:
                copy.running += 1
                if limit is not None:
                    copy.tat = max(now, copy.tat) + weight * limit.per / limit.limit
                return Pass(self, "", copy.epoch, is_local=True)
        why = "the server that keeps its state is away"
        raise pybreaker_compat.refusal(upstream.name, wait, why)

    def _count_alone(self, upstream: Upstream, outcome: CallOutcome) -> None:
        rules = upstream.breaker
        with self._lock:
            copy = self._copy(upstream.name)
            copy.running -= 1
            if outcome.wait > 0:
                copy.state, copy.retry_at = "open", time.monotonic() + outcome.wait
            elif outcome.kind == "success":
                copy.row, copy.state = 0, "closed"
            elif outcome.kind == "failure" and rules is not None:
                copy.row += 1
                least = rules.consecutive or rules.min_calls or self.defaults.min_calls
                if copy.row >= least:
                    reset = rules.reset_timeout or self.defaults.reset_timeout
                    copy.state, copy.row = "open", 0
                    copy.retry_at = time.monotonic() + reset
