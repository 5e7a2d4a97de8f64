"""The worker's view of upstreams: makes them known, and hears of their turns.

Nothing here decides: the claim script does. What is heard is for people, for
listeners and for guards in bodies, which learn of a turn at once and not when they
next ask.
"""

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Any

from taskflow._client.guards import Gatekeeper
from taskflow._declare.upstream import Upstream
from taskflow._events import Events, UpstreamTurned
from taskflow._protocol import upstreams
from taskflow._protocol.keys import Keys
from taskflow._servers.runner import AsyncRunner
from taskflow._worker.hearing import hear
from taskflow.errors import ServerError

DECLARE_EVERY = 60.0
"""Seconds; a server that was emptied, or a reset, must not undo a declaration."""


class UpstreamWatch:
    """Declares the upstreams of one worker, and listens to the fleet's.

    Its upstreams are given with whether the worker declares them, or only has tasks
    that name them.
    """

    def __init__(
        self,
        runner: AsyncRunner,
        keys: Keys,
        served: Mapping[Upstream, bool],
        guards: Gatekeeper,
        events: Events,
        clock: Callable[[], int],
    ) -> None:
        self._runner = runner
        self._keys = keys
        self._served = {each.name: each for each in served}
        self._declared = {each.name for each in served if served[each]}
        self._guards = guards
        self._events = events
        self._clock = clock

    async def declare(self) -> None:
        """Make the upstreams known, with the rules that this worker has.

        Of one that it only names it has none: those of another worker stay.
        """
        operations = [
            upstreams.declare(
                self._keys,
                each.name,
                upstreams.pack_rules(each, self._guards.defaults),
                is_only_named=each.name not in self._declared,
                now_ms=self._clock(),
            )
            for each in self._served.values()
        ]
        for answer in await self._runner.send_all(operations):
            if isinstance(answer, ServerError):
                raise answer

    async def keep_declared(self) -> None:
        """Declare now and then, until cancelled."""
        while self._served:
            try:
                await self.declare()
                wait = DECLARE_EVERY
            except ServerError:
                wait = 1.0
            await asyncio.sleep(wait * random.uniform(0.8, 1.2))  # noqa: S311
        await asyncio.Event().wait()

    async def listen(self) -> None:
        """Hear the turns of all upstreams, until cancelled."""
        await hear(self._runner, self._keys.upstreams_channel(), self._take)

    def _take(self, turn: dict[str, Any]) -> None:
        name, state, by = str(turn["name"]), str(turn["state"]), str(turn["by"])
        retry = max(0.0, float(turn["retry_ms"]) - float(turn["now_ms"])) / 1000
        epoch, reason = int(turn["epoch"]), str(turn["reason"])
        served = self._served.get(name)
        if served is None and not name.startswith("task:"):
            served = Upstream(name)
        if served is not None:
            self._guards.hear_turn(served, state, epoch, retry, reason)
        self._events.emit(UpstreamTurned(name, state, by, reason, retry))
