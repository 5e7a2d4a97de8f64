"""Prove that every record stands in exactly one home, in small steps; mend it.

Two looks over the keyspace give candidates: each record is looked for in the
homes, and each entry of a home is looked up among the records. Tasks move
meanwhile, so a candidate proves nothing; each is then looked at once more, in one
step, and only what is wrong in that one moment is reported, or mended in that step.
"""

from collections import Counter

from attrs import field, frozen

from taskflow._client.connection import Connection
from taskflow._client.plan import Plan
from taskflow._client.waiting import WaitingList, waiting_lists
from taskflow._protocol import checkup
from taskflow._protocol.checkup import Census, Mended, Muster, Strikes, Whereabouts
from taskflow._protocol.states import TaskState

MOST_PROVEN = 50
"""Candidates that are looked at once more; one costs the length of the lists."""


@frozen
class HomesProof:
    """What the proof came to.

    Attributes:
        records: How many were looked at.
        misfits: Ids that were in no home or in several, and where they stood.
        unproven: Candidates that were not looked at once more.
    """

    records: int
    misfits: tuple[tuple[str, Whereabouts], ...]
    unproven: int


@frozen
class HomesRepair:
    """What the repair came to.

    Attributes:
        records: How many were looked at.
        mended: Ids that were wrong, and what became of them.
    """

    records: int
    mended: tuple[tuple[str, Mended], ...]


@frozen
class _Looks:
    """What the two looks have gathered.

    Attributes:
        candidates: Ids that looked wrong.
        waiting: Ids of records that should stand in a list.
        listed: Ids that stand in a list.
    """

    candidates: list[str] = field(factory=list[str])
    waiting: set[str] = field(factory=set[str])
    listed: set[str] = field(factory=set[str])


def prove_homes(connection: Connection) -> Plan[HomesProof]:
    """Look over every record and every home; write nothing.

    About 200 bytes of memory for each waiting task, and O(1) of the server's time
    for each record, in steps of about a millisecond.

    Yields:
        What to ask the server.

    Returns:
        What was found.
    """
    lists = yield from waiting_lists(connection, empty=True)
    records, candidates = yield from _look(connection, lists)
    misfits: list[tuple[str, Whereabouts]] = []
    for task_id in candidates[:MOST_PROVEN]:
        where: Whereabouts = yield checkup.whereabouts(
            connection.keys, task_id, now_ms=connection.clock()
        )
        if not where.is_home:
            misfits.append((task_id, where))
    return HomesProof(records, tuple(misfits), len(candidates[MOST_PROVEN:]))


def mend_homes(connection: Connection) -> Plan[HomesRepair]:
    """Look over every record and every home, and mend what is wrong.

    Costs what `prove_homes` costs, and the length of the lists for each candidate.

    Yields:
        What to ask the server.

    Returns:
        What was done.
    """
    lists = yield from waiting_lists(connection, empty=True)
    records, candidates = yield from _look(connection, lists)
    parking = sorted({each.upstream for each in lists if each.upstream})
    mended: list[tuple[str, Mended]] = []
    for task_id in candidates:
        each: Mended = yield checkup.mend(
            connection.keys, task_id, parking, now_ms=connection.clock()
        )
        if each.word != "FINE":
            mended.append((task_id, each))
    return HomesRepair(records, tuple(mended))


def _look(
    connection: Connection, lists: tuple[WaitingList, ...]
) -> Plan[tuple[int, list[str]]]:
    looks, keys = _Looks(), connection.keys
    records = yield from _over_records(connection, looks)
    for state in TaskState:
        if state is not TaskState.PENDING:
            yield from _over_home(connection, looks, keys.home(state), state)
    for each in lists:
        yield from _over_list(connection, looks, each)
    lost = sorted(looks.waiting - looks.listed)
    return records, list(dict.fromkeys([*looks.candidates, *lost]))


def _over_records(connection: Connection, looks: _Looks) -> Plan[int]:
    cursor, records = "0", 0
    while True:
        step: Census = yield checkup.census(
            connection.keys, cursor, now_ms=connection.clock()
        )
        records += step.records
        looks.candidates.extend(step.misfits)
        looks.waiting.update(step.waiting)
        cursor = step.cursor
        if cursor == "0":
            return records


def _over_home(
    connection: Connection, looks: _Looks, home: str, state: TaskState
) -> Plan[None]:
    first = 0
    while True:
        step: Muster = yield checkup.muster(
            connection.keys, home, state=state, first=first, now_ms=connection.clock()
        )
        looks.candidates.extend(step.misfits)
        first += len(step.ids)
        if not step.ids:
            return


def _over_list(connection: Connection, looks: _Looks, home: WaitingList) -> Plan[None]:
    first = 0
    entries: Counter[str] = Counter()
    while True:
        step: Muster = yield checkup.muster(
            connection.keys,
            home.key,
            state=TaskState.PENDING,
            lane=home.lane,
            upstream=home.upstream,
            first=first,
            now_ms=connection.clock(),
        )
        looks.candidates.extend(step.misfits)
        entries.update(step.ids)
        first += len(step.ids)
        if not step.ids:
            break
    all_struck: set[str] = set()
    cursor = "0"
    while True:
        struck: Strikes = yield checkup.strikes(
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
            looks.candidates.append(task_id)
        if live > 0:
            looks.listed.add(task_id)
