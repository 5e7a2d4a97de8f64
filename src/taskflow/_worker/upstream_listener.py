"""The worker's view of upstreams: declares them, and listens to their state changes.

Nothing here decides: the claim script does. The server parks the tasks of an upstream
whose rules it does not have, and the worker that is told so declares it in its next
trip. State changes are for people, for listeners and for guards in task functions,
which learn of one at once and not when they next ask.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from taskflow._client.admission import AdmissionControl
from taskflow._client.flow_context import FlowContext
from taskflow._declare.registry import Registry
from taskflow._declare.upstream import Upstream
from taskflow._events import Events, UpstreamStateChanged
from taskflow._protocol import upstreams
from taskflow._protocol.operation import Operation
from taskflow._protocol.record import Claim
from taskflow._servers.runner import AsyncRunner
from taskflow._worker.pubsub import listen_to
from taskflow.errors import ServerError

DECLARE_EVERY = 60.0
"""Seconds; declared rules take the place of defaults that another process set for an
upstream that it only names."""

RENEW_EVERY = 1.0
"""Seconds between two renewals of the permits of calls that outlived the data."""


class UpstreamListener:
    """Declares the upstreams of one worker, and listens to those of all workers.

    Args:
        runner: Sends operations and listens.
        connection: To the server.
        registry: What the worker serves: upstreams that it declares, and others that
            its tasks only name.
        guards: What guards in task functions ask.
        events: For state changes.
        recovery_ms: For which running calls may report permits that the server has
            lost.
    """

    def __init__(
        self,
        runner: AsyncRunner,
        connection: FlowContext,
        registry: Registry,
        guards: AdmissionControl,
        events: Events,
        recovery_ms: int,
    ) -> None:
        self._runner = runner
        self._keys = connection.keys
        self._served = {each.name: each for each in registry.upstreams()}
        self._declared = {each.name for each in registry.upstreams(declared=True)}
        self._guards = guards
        self._events = events
        self._clock = connection.clock
        self._recovery_ms = recovery_ms
        self._opened: set[str] = set()
        self._outlived: dict[str, Claim] = {}
        self._losses = 0
        self._woken = asyncio.Event()

    @property
    def opened(self) -> tuple[str, ...]:
        """Upstreams that an operator has opened, as far as this worker heard."""
        return tuple(sorted(self._opened))

    async def declare(self, *, is_first: bool = False) -> None:
        """Make the upstreams known, with the rules that this worker has.

        Of one that it only names it has none: those of another worker stay.

        Args:
            is_first: Whether no call can have been before, as in a test.
        """
        await self._declare(self._served, 0, is_first=is_first)

    async def declare_again(self, names: Sequence[str]) -> None:
        """Declare upstreams whose rules the server does not have.

        If it had them before, it has lost its data, and calls may still be running.
        So may those of an upstream that is not ours, which another worker declares.
        """
        seen = {name for name in names if self._may_run(name)}
        await self._declare(seen, self._recovery_ms)
        await self._declare([name for name in names if name not in seen], 0)

    def _may_run(self, name: str) -> bool:
        return name not in self._served or self._guards.has_seen(name)

    async def _declare(
        self, names: Iterable[str], recovery_ms: int, *, is_first: bool = False
    ) -> None:
        declared = list(names)
        await self._send(
            [
                upstreams.declare(
                    self._keys,
                    name,
                    upstreams.pack_rules(self._upstream(name), self._guards.defaults),
                    is_only_named=name not in self._declared,
                    recovery_ms=recovery_ms,
                    is_first=is_first,
                    now_ms=self._clock(),
                )
                for name in declared
            ]
        )
        self._guards.saw(declared)

    def _upstream(self, name: str) -> Upstream:
        return self._served.get(name) or Upstream(name)

    async def _send(self, operations: Sequence[Operation[Any]]) -> None:
        for answer in await self._runner.send_all(operations):
            if isinstance(answer, ServerError):
                raise answer

    def recover(self, running: Iterable[Claim]) -> None:
        """Declare everything again: the server has lost its data.

        Args:
            running: Claims whose functions run here. Each that calls an upstream keeps
                a permit until it has ended, though its lease is lost.
        """
        self._guards.forget()
        self._opened.clear()
        self._outlived.update((f"guard:{each.id}", each) for each in running)
        self._losses += 1
        self._woken.set()

    async def keep_declared(self, running: Callable[[], Collection[Claim]]) -> None:
        """Declare now and then, and at once after a loss of data, until cancelled.

        Args:
            running: Gives the claims whose functions run here, those that lost their
                lease too.
        """
        recovered = 0
        while True:
            losses = self._losses
            has_lost = losses > recovered
            try:
                await self._declare(self._served, self._recovery_ms if has_lost else 0)
                await self._hold_permits({each.id for each in running()})
                recovered, wait = losses, DECLARE_EVERY
            except ServerError:
                wait = 1.0
            if self._outlived:
                wait = min(wait, RENEW_EVERY)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait * random.uniform(0.8, 1.2)):  # noqa: S311
                    await self._woken.wait()
            self._woken.clear()

    async def _hold_permits(self, running: Collection[str]) -> None:
        """Renew the permits of calls that outlived the data, until they have ended."""
        ended = [
            ticket for ticket, each in self._outlived.items() if each.id not in running
        ]
        await self._send(
            [
                upstreams.release_permit(
                    self._keys,
                    self._outlived[ticket].upstream,
                    ticket=ticket,
                    epoch=-1,
                    outcome="neutral",
                    now_ms=self._clock(),
                )
                for ticket in ended
            ]
        )
        for ticket in ended:
            del self._outlived[ticket]
        await self._send(
            [
                self._guards.renewal(self._upstream(each.upstream), ticket)
                for ticket, each in self._outlived.items()
            ]
        )

    async def listen(self) -> None:
        """Hear the state changes of all upstreams, until cancelled."""
        await listen_to(self._runner, self._keys.upstreams_channel(), self._take)

    def _take(self, turn: dict[str, Any]) -> None:
        name, state, by = str(turn["name"]), str(turn["state"]), str(turn["by"])
        retry = max(0.0, float(turn["retry_ms"]) - float(turn["now_ms"])) / 1000
        epoch, reason = int(turn["epoch"]), str(turn["reason"])
        served = self._served.get(name)
        if served is None and not name.startswith("task:"):
            served = Upstream(name)
        if state == "open" and by == "person":
            self._opened.add(name)
        else:
            self._opened.discard(name)
        if served is not None:
            self._guards.on_state_change(served, state, epoch, retry, reason)
        self._events.emit(UpstreamStateChanged(name, state, by, reason, retry))
