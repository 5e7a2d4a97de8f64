"""What must hold of every task, whoever wrote it and whenever it is looked at.

One checker: the doctor asks the server for a `Snapshot` of each task, the tests make
theirs of a whole keyspace at once, and `broken` judges both.

======  ==============================================================
rule    says
======  ==============================================================
I1      it stands in its one home, and without a record in none
I3      its counters are numbers
I4      leased is who has a token, for no longer than leases last
I9      its idempotency key ends when it has ended, and not before
I15     a dead letter has its text and its group, and nobody else has
I18     its record is whole
I19     its history is bounded
======  ==============================================================
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from taskflow._protocol.states import TaskState

_TOKEN = re.compile(r"\d+:[A-Za-z0-9_.-]+:\S+")
_STATES: Final = {state.value: state for state in TaskState}
_COUNTERS = ("attempts", "crashes", "age_ms")
_LONGEST_HISTORY = 20

NO_RECORD: Final = frozenset({"", "foreign"})
"""States of what has no record: nothing is there, or the key is somebody else's."""


class Letter(NamedTuple):
    """What a dead letter says, as far as it must agree with the rest.

    Attributes:
        cause: Why the task died.
        fingerprint: Of its error; names its group.
        attempts: As the letter has them, a text.
        crashes: Likewise.
        missing: Names of the fields that it should have and has not.
    """

    cause: str
    fingerprint: str
    attempts: str
    crashes: str
    missing: tuple[str, ...] = ()


class Snapshot(NamedTuple):
    """All that the server holds of one task in one moment.

    Attributes:
        id: Of the task.
        state: As its record has it; empty when there is none, ``nothing`` when the
            record has none, ``foreign`` when its key is no record.
        lane: ``primary``, ``retry`` or ``suspects``; empty without a record.
        parked: Name of the upstream for which it waits; empty when it waits for none.
        token: Of its last hand-out.
        counters: Attempts, crashes and age, as they are stored; empty is 0.
        missing: Names of the fields that every record has and this one has not.
        lines: Of its history.
        is_finished: Whether it says when it ended.
        lease_ends_ms: When its lease ends, in ms; None without one.
        key: Whether the idempotency key that it holds ``ends`` or ``stays``; empty
            when it holds none.
        letter: What its dead letter says, or None.
        groups: Fingerprints of the groups of dead letters in which it stands.
        tickets: Keys of the permits and probes that it holds.
        homes: Where it stands: a state, ``PENDING:`` and a lane (with the upstream
            before it, where it is parked), or ``tombstone:`` and such a lane for one
            that strikes out nothing. A list in which it stands twice is here twice.
    """

    id: str
    state: str = ""
    lane: str = ""
    parked: str = ""
    token: str = ""
    counters: tuple[str, str, str] = ("", "", "")
    missing: tuple[str, ...] = ()
    lines: int = 0
    is_finished: bool = False
    lease_ends_ms: int | None = None
    key: str = ""
    letter: Letter | None = None
    groups: tuple[str, ...] = ()
    tickets: tuple[str, ...] = ()
    homes: tuple[str, ...] = ()

    @property
    def home(self) -> str:
        """Where it must stand, given its state; empty: nowhere."""
        if self.state in NO_RECORD:
            return ""
        if self.state != TaskState.PENDING.value:
            return self.state
        return ":".join(filter(None, (self.state, self.parked, self.lane)))

    @property
    def is_home(self) -> bool:
        """Whether it stands there, and there alone."""
        return self.homes == ((self.home,) if self.home else ())


class Broken(NamedTuple):
    """An invariant that does not hold.

    Attributes:
        rule: Its number.
        where: Id of a task, or a key.
        what: Is wrong.
    """

    rule: str
    where: str
    what: str


def broken(seen: Snapshot, *, now_ms: int, lease_ms: int) -> list[Broken]:
    """Judge what was seen of a task.

    Args:
        seen: In one moment.
        now_ms: The server's time then.
        lease_ms: The longest lease that is given.

    Returns:
        All that is broken; empty when nothing is.
    """
    found = [*_placement(seen), *_letter(seen)]
    if seen.state not in NO_RECORD:
        found += _record(seen)
        found += _lease(seen, now_ms + lease_ms)
        found += _key(seen)
    return [Broken(rule, seen.id, what) for rule, what in found]


def broken_group(fingerprint: str, *, members: int, is_listed: bool) -> list[Broken]:
    """Judge a group of dead letters.

    Args:
        fingerprint: Of its letters.
        members: How many it has.
        is_listed: Whether it stands among the groups.

    Returns:
        What is broken; empty when nothing is.
    """
    if is_listed == bool(members):
        return []
    what = "is listed and empty" if is_listed else "is not listed"
    return [Broken("I15", fingerprint, f"a group of {members} letters {what}")]


def _placement(seen: Snapshot) -> Iterator[tuple[str, str]]:
    if not seen.is_home:
        if seen.home:
            yield "I1", f"is {seen.home} and stands in {list(seen.homes)}"
        else:
            yield "I1", f"stands in {list(seen.homes)} without a record"
    is_active = seen.state == TaskState.ACTIVE.value
    if is_active and seen.parked:
        yield "I1", "runs and is parked"
    if seen.tickets and not is_active:
        yield "I1", f"is {seen.state or 'gone'} and holds {list(seen.tickets)}"


def _record(seen: Snapshot) -> Iterator[tuple[str, str]]:
    for name, count in zip(_COUNTERS, seen.counters, strict=True):
        if count and not count.isdecimal():
            yield "I3", f"has {count!r} {name}"
    for name in seen.missing:
        yield "I18", f"has no {name}: its record is half one"
    if seen.lines > _LONGEST_HISTORY:
        yield "I19", f"has a history of over {_LONGEST_HISTORY} lines"
    state = _STATES.get(seen.state)
    if state is not None and state.is_final and not seen.is_finished:
        yield "I18", "has ended and does not say when"


def _lease(seen: Snapshot, latest_ms: int) -> Iterator[tuple[str, str]]:
    if seen.lease_ends_ms is None:
        return
    if not _TOKEN.fullmatch(seen.token):
        yield "I4", "is leased and has no token"
    if seen.lease_ends_ms > latest_ms:
        late = seen.lease_ends_ms - latest_ms
        yield "I4", f"is leased for {late} ms longer than leases last"


def _key(seen: Snapshot) -> Iterator[tuple[str, str]]:
    state = _STATES.get(seen.state)
    if not seen.key or state is None:
        return
    if state in {TaskState.FAILED, TaskState.CANCELLED}:
        yield "I9", f"is {seen.state} and holds its key"
        return
    if (seen.key == "ends") is not state.is_final:
        word = "never expires" if state.is_final else "expires"
        yield "I9", f"is {seen.state} and its key {word}"


def _letter(seen: Snapshot) -> Iterator[tuple[str, str]]:
    letter = seen.letter
    if (TaskState.DLQ.value in seen.homes) is not (letter is not None):
        yield "I15", "is a dead letter without a text, or the reverse"
    if letter is None:
        if seen.groups:
            yield "I15", f"stands in {sorted(seen.groups)} and is no dead letter"
        return
    if seen.groups != (letter.fingerprint,):
        groups = sorted(seen.groups)
        yield "I15", f"stands in {groups} and its letter says {letter.fingerprint!r}"
    if letter.missing:
        yield "I15", f"its dead letter has no {', '.join(letter.missing)}"
    if letter.cause == "corrupt" or seen.state in NO_RECORD:
        return
    told = (letter.attempts or "0", letter.crashes or "0")
    if told != (seen.counters[0] or "0", seen.counters[1] or "0"):
        yield "I15", f"its dead letter says {told}, attempts and crashes"
