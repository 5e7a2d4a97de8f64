"""What every worker does for the whole fleet: promote, reap, prune.

Bounded work per call, harmless in any number of workers, no leader. One small
loop each; a loop that meets an error waits and goes on.
"""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

from attrs import frozen

from taskflow._events import Events, LeaseReaped
from taskflow._protocol import upkeep
from taskflow._protocol.keys import Keys
from taskflow._servers.runner import AsyncRunner
from taskflow._worker.reap_gate import ReapGate
from taskflow.errors import ServerError

PROMOTE_EVERY = 1.0
REAP_EVERY = 0.5
PRUNE_EVERY = 10.0


@frozen
class UpkeepContext:
    """What the loops need.

    Attributes:
        runner: Sends operations on the loop.
        keys: Of the prefix in use.
        events: For what was reaped.
        max_crashes: Lost leases at which a task is poison.
        keep: Seconds that finished tasks are kept; 0 = for ever.
        clock: Gives the time that operations carry, in ms.
        gate: Says when tasks may be taken back.
        rng: Spreads the loops of many workers.
    """

    runner: AsyncRunner
    keys: Keys
    events: Events
    max_crashes: int
    keep: float
    clock: Callable[[], int]
    gate: ReapGate
    rng: Random


async def promote(context: UpkeepContext) -> float:
    """Bring due tasks to their lanes; return seconds until the next look."""
    operation = upkeep.promote(context.keys, now_ms=context.clock())
    reply = await context.runner.send(operation)
    return 0.0 if reply.moved == upkeep.MOST_PER_CALL else PROMOTE_EVERY


async def reap(context: UpkeepContext) -> float:
    """Take back what dead workers held; return seconds until the next look."""
    # Read before the gate is looked at: a step of the server's clock that is heard in
    # between, in the heartbeat's thread, makes this reap void.
    latest_ms = context.gate.latest_ms()
    if not context.gate.is_open():
        return REAP_EVERY
    now_ms = context.clock()
    operation = upkeep.reap(
        context.keys,
        max_crashes=context.max_crashes,
        latest_ms=0 if now_ms else latest_ms,
        now_ms=now_ms,
    )
    reaped = await context.runner.send(operation)
    for each in reaped:
        context.events.emit(LeaseReaped(each.id, each.where, each.worker))
    return 0.0 if len(reaped) == upkeep.MOST_PER_CALL else REAP_EVERY


async def prune(context: UpkeepContext) -> float:
    """Forget finished tasks whose time is over; return seconds until the next look."""
    if context.keep <= 0:
        return PRUNE_EVERY
    pruned = 0
    for home in (context.keys.completed, context.keys.failed, context.keys.cancelled):
        operation = upkeep.prune(
            context.keys,
            home,
            keep_ms=round(context.keep * 1000),
            now_ms=context.clock(),
        )
        pruned = max(pruned, await context.runner.send(operation))
    return 0.05 if pruned == upkeep.MOST_PER_CALL else PRUNE_EVERY


UpkeepJob = Callable[[UpkeepContext], Awaitable[float]]

ALL: tuple[UpkeepJob, ...] = (promote, reap, prune)


async def repeat(job: UpkeepJob, context: UpkeepContext) -> None:
    """Do *chore* again and again, until cancelled."""
    pause = PROMOTE_EVERY
    while True:
        await asyncio.sleep(pause * context.rng.uniform(0.8, 1.0))
        try:
            pause = await job(context)
        except ServerError:
            # The heartbeat tells of an outage; here it is enough to wait, and
            # to let the living renew their leases when it is over.
            context.gate.hold()
            pause = REAP_EVERY
