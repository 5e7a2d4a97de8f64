"""Prove what must hold of every task, in small steps; mend what does not.

Looks over the keyspace give candidates: each record is judged by what stands beside
it, and each entry of a home, a list or a group is looked up among the records. Tasks
move meanwhile, so a candidate proves nothing; each is then looked at once more, in one
step, and only what is broken in that one moment is reported, or mended.

The rules are those of `taskflow._protocol.invariants`, by which the tests judge too.
"""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

from attrs import define, field, frozen

from taskflow._client.flow_context import FlowContext
from taskflow._client.sansio import Plan
from taskflow._client.waiting_lists import WaitingList, waiting_lists
from taskflow._protocol import consistency, queue_status
from taskflow._protocol.consistency import (
    IndexPage,
    RecordScan,
    RepairedPlacement,
    TaskInspection,
    Tombstones,
)
from taskflow._protocol.invariants import Broken, Snapshot, broken, broken_group
from taskflow._protocol.queue_status import WorkerStatus
from taskflow._protocol.states import TaskState
from taskflow.errors import ScriptError

MOST_PROVEN = 50
"""Candidates that are looked at once more; one costs the length of the lists."""


@frozen
class Misplaced:
    """A task of which something does not hold.

    Attributes:
        seen: What the server held of it.
        broken: What does not hold.
    """

    seen: Snapshot
    broken: tuple[Broken, ...]


@frozen
class Proof:
    """What the proof came to.

    Attributes:
        records: How many were looked at.
        misfits: Tasks of which something does not hold.
        unproven: Candidates that were not looked at once more.
        groups: What does not hold of groups of dead letters.
    """

    records: int
    misfits: tuple[Misplaced, ...] = ()
    unproven: int = 0
    groups: tuple[Broken, ...] = ()


@frozen
class RepairedRecord:
    """What was put right of a task that stood where it must.

    Attributes:
        id: Of the task, or fingerprint of a group.
        words: What was put right.
        left: What is still broken.
    """

    id: str
    words: tuple[str, ...]
    left: tuple[Broken, ...] = ()


@frozen
class Repair:
    """What the repair came to.

    Attributes:
        records: How many were looked at.
        mended: Ids that stood where they must not, and what became of them.
        amended: Those of which something else did not hold.
    """

    records: int
    mended: tuple[tuple[str, RepairedPlacement], ...] = ()
    amended: tuple[RepairedRecord, ...] = ()


@define
class _Looks:
    """What the looks have gathered.

    Attributes:
        lease_ms: The longest lease that is given, in ms.
        upstreams: Names of those that may park tasks.
        suspicious: Ids that looked wrong, in the order in which they did.
        waiting: Ids of records that should stand in a list.
        listed: Ids that stand in a list.
        groups: Fingerprints of groups in which an id must not stand.
        odd: Groups that looked empty or unlisted.
        records: How many were looked at.
    """

    lease_ms: int
    upstreams: list[str]
    suspicious: dict[str, None] = field(factory=dict[str, None])
    waiting: set[str] = field(factory=set[str])
    listed: set[str] = field(factory=set[str])
    groups: dict[str, list[str]] = field(factory=dict[str, list[str]])
    odd: set[str] = field(factory=set[str])
    records: int = 0

    def suspect(self, *task_ids: str) -> None:
        """Look at these once more."""
        self.suspicious.update(dict.fromkeys(task_ids))

    def candidates(self) -> list[str]:
        """List whom to look at once more, without doubles."""
        self.suspect(*sorted(self.waiting - self.listed))
        return list(self.suspicious)


def prove(connection: FlowContext) -> Plan[Proof]:
    """Look over every record, home, list and group; write nothing.

    About 200 bytes of memory for each waiting task, and O(1) of the server's time
    for each record, in steps of a few milliseconds.

    Yields:
        What to ask the server.

    Returns:
        What was found.
    """
    looks = yield from _look(connection)
    candidates = looks.candidates()
    misfits: list[Misplaced] = []
    for task_id in candidates[:MOST_PROVEN]:
        misfit = yield from _judge(connection, looks, task_id)
        if misfit.broken:
            misfits.append(misfit)
    return Proof(
        looks.records,
        tuple(misfits),
        len(candidates[MOST_PROVEN:]),
        tuple((yield from _odd_groups(connection, looks))),
    )


def mend(connection: FlowContext) -> Plan[Repair]:
    """Look over every record, home, list and group, and mend what is wrong.

    Costs what `prove` costs, and the length of the lists for each candidate.

    Yields:
        What to ask the server.

    Returns:
        What was done.
    """
    looks, keys = (yield from _look(connection)), connection.keys
    mended: list[tuple[str, RepairedPlacement]] = []
    amended: list[RepairedRecord] = []
    for task_id in looks.candidates():
        try:
            each: RepairedPlacement = yield consistency.repair_placement(
                keys, task_id, looks.upstreams, now_ms=connection.clock()
            )
            if each.word != "FINE":
                mended.append((task_id, each))
            if each.word != "FOREIGN":
                amended += yield from _amend(connection, looks, task_id)
        except ScriptError as error:
            # One that no script can read must not keep the others from being mended.
            amended.append(
                RepairedRecord(task_id, (), (Broken("I18", task_id, str(error)),))
            )
    for fingerprint in looks.odd:
        words = yield from _put_right(connection, looks, "", (fingerprint,))
        if words:
            amended.append(RepairedRecord(fingerprint, words))
    return Repair(looks.records, tuple(mended), tuple(amended))


def _amend(
    connection: FlowContext, looks: _Looks, task_id: str
) -> Plan[list[RepairedRecord]]:
    misfit = yield from _judge(connection, looks, task_id)
    if not misfit.broken:
        return []
    groups = looks.groups.get(task_id, ())
    words = yield from _put_right(connection, looks, task_id, groups)
    after = yield from _judge(connection, looks, task_id)
    return [RepairedRecord(task_id, words, after.broken)]


def _put_right(
    connection: FlowContext, looks: _Looks, task_id: str, fingerprints: Sequence[str]
) -> Plan[tuple[str, ...]]:
    words: list[str] = yield consistency.repair_record(
        connection.keys,
        task_id,
        looks.upstreams if task_id else (),
        fingerprints,
        lease_ms=looks.lease_ms,
        now_ms=connection.clock(),
    )
    return tuple(words)


def _judge(connection: FlowContext, looks: _Looks, task_id: str) -> Plan[Misplaced]:
    where: TaskInspection = yield consistency.inspect_task(
        connection.keys,
        task_id,
        looks.upstreams,
        looks.groups.get(task_id, ()),
        now_ms=connection.clock(),
    )
    found = broken(where.seen, now_ms=where.now_ms, lease_ms=looks.lease_ms)
    if any(each.rule == "I4" for each in found):
        # A worker may have come meanwhile that gives longer leases than all others.
        looks.lease_ms = max(looks.lease_ms, (yield from _longest_lease(connection)))
        found = broken(where.seen, now_ms=where.now_ms, lease_ms=looks.lease_ms)
    return Misplaced(where.seen, tuple(found))


def _odd_groups(connection: FlowContext, looks: _Looks) -> Plan[list[Broken]]:
    found: list[Broken] = []
    for fingerprint in list(looks.odd)[:MOST_PROVEN]:
        where: TaskInspection = yield consistency.inspect_task(
            connection.keys, "", (), (fingerprint,), now_ms=connection.clock()
        )
        members, is_listed = where.groups[fingerprint]
        found += broken_group(fingerprint, members=members, is_listed=is_listed)
    return found


def _longest_lease(connection: FlowContext) -> Plan[int]:
    """Find the longest lease that is given, in ms, by us or by a worker that beats."""
    beats: list[WorkerStatus] = yield queue_status.workers(
        connection.keys, now_ms=connection.clock()
    )
    return round(
        queue_status.longest_lease(connection.settings.worker.lease, beats) * 1000
    )


def _look(connection: FlowContext) -> Plan[_Looks]:
    keys = connection.keys
    lists = yield from waiting_lists(connection, empty=True)
    lease_ms = yield from _longest_lease(connection)
    upstreams = sorted({each.upstream for each in lists if each.upstream})
    looks = _Looks(lease_ms, upstreams)
    yield from _over_records(connection, looks)
    for state in TaskState:
        if state is not TaskState.PENDING:
            yield from _over_home(connection, looks, keys.home(state), state)
    for each in lists:
        yield from _over_list(connection, looks, each)
    yield from _over_groups(connection, looks)
    yield from _over_tickets(connection, looks)
    return looks


def _over_records(connection: FlowContext, looks: _Looks) -> Plan[None]:
    cursor = "0"
    while True:
        step: RecordScan = yield consistency.scan_records(
            connection.keys, cursor, now_ms=connection.clock()
        )
        looks.records += len(step.sightings)
        looks.suspect(*step.strays)
        looks.odd.update(step.unlisted)
        for each in step.sightings:
            seen = each
            if each.state == TaskState.PENDING and not each.homes:
                # The lists are looked over later; until then it stands in its own.
                seen = each._replace(homes=(each.home,))
                looks.waiting.add(each.id)
            if broken(seen, now_ms=step.now_ms, lease_ms=looks.lease_ms):
                looks.suspect(each.id)
        cursor = step.cursor
        if cursor == "0":
            return


def _over_home(
    connection: FlowContext,
    looks: _Looks,
    home: str,
    state: TaskState,
    fingerprint: str = "",
) -> Plan[int]:
    """Look up what stands in a sorted set; return how many do."""
    first = 0
    while True:
        step: IndexPage = yield consistency.verify_index(
            connection.keys,
            home,
            state=state,
            fingerprint=fingerprint,
            first=first,
            now_ms=connection.clock(),
        )
        misfits = [each for each in step.misfits if not each.startswith("guard:")]
        looks.suspect(*misfits)
        if fingerprint:
            for each in misfits:
                looks.groups.setdefault(each, []).append(fingerprint)
        first += len(step.ids)
        if not step.ids:
            return first


def _over_groups(connection: FlowContext, looks: _Looks) -> Plan[None]:
    keys, dead = connection.keys, TaskState.DLQ
    listed: list[str] = []
    while True:
        step: IndexPage = yield consistency.verify_index(
            keys,
            keys.groups,
            state=dead,
            first=len(listed),
            now_ms=connection.clock(),
        )
        listed += step.ids
        if not step.ids:
            break
    for each in {*listed, *looks.odd}:
        try:
            count = yield from _over_home(
                connection, looks, keys.group(each), dead, each
            )
        except ScriptError:
            count = 0  # a key of a foreign type: nobody can stand there
        if not count:
            looks.odd.add(each)


def _over_tickets(connection: FlowContext, looks: _Looks) -> Plan[None]:
    keys = connection.keys
    for name in looks.upstreams:
        for home in (keys.permits(name), keys.probes(name)):
            # One of a foreign type holds nobody up: the next claim deletes it.
            with suppress(ScriptError):
                yield from _over_home(connection, looks, home, TaskState.ACTIVE)


def _over_list(connection: FlowContext, looks: _Looks, home: WaitingList) -> Plan[None]:
    first = 0
    entries: Counter[str] = Counter()
    while True:
        step: IndexPage = yield consistency.verify_index(
            connection.keys,
            home.key,
            state=TaskState.PENDING,
            lane=home.lane,
            upstream=home.upstream,
            first=first,
            now_ms=connection.clock(),
        )
        looks.suspect(*step.misfits)
        entries.update(step.ids)
        first += len(step.ids)
        if not step.ids:
            break
    all_struck: set[str] = set()
    cursor = "0"
    while True:
        struck: Tombstones = yield consistency.list_tombstones(
            connection.keys,
            home.tombstones(connection.keys),
            cursor,
            now_ms=connection.clock(),
        )
        all_struck.update(struck.ids)
        cursor = struck.cursor
        if cursor == "0":
            break
    entries.subtract(all_struck)
    for task_id, live in entries.items():
        is_again = live > 0 and (task_id in looks.listed or task_id in all_struck)
        if is_again or live not in {0, 1}:
            looks.suspect(task_id)
        if live > 0:
            looks.listed.add(task_id)
