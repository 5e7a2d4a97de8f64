"""What the proof, or the repair, of all records comes to, in a sentence."""

from collections import Counter
from typing import Final

from taskflow._client.consistency import (
    Misplaced,
    Proof,
    Repair,
    RepairedRecord,
    mend,
    prove,
)
from taskflow._client.finding import Finding
from taskflow._client.flow_context import FlowContext
from taskflow._client.sansio import Plan
from taskflow._protocol.consistency import MendWord
from taskflow._protocol.states import TaskState

_DONE: Final[dict[MendWord, str]] = {
    "REQUEUED": "back in the retry lane",
    "PLACED": "in its one home again",
    "REMOVED": "entries without a record removed",
    "QUARANTINED": "quarantined as a dead letter",
    "FOREIGN": "left as it is",
}
_BY_WHOM = "look for other writers to these keys, or for what was lost in a failover"

_SHOWN: Final = 5


def findings_of_proof(connection: FlowContext) -> Plan[list[Finding]]:
    """Prove what must hold of every task; write nothing.

    Yields:
        What to ask the server.

    Returns:
        A finding about the homes and one about the records.
    """
    proof = yield from prove(connection)
    return [_homes(proof), _records(proof)]


def findings_of_repair(connection: FlowContext) -> Plan[list[Finding]]:
    """Mend what does not hold of a task.

    Yields:
        What to ask the server.

    Returns:
        A finding about the homes and one about the records.
    """
    done = yield from mend(connection)
    return [_mended(done), _amended(done)]


def _mended(done: Repair) -> Finding:
    if not done.mended:
        what = f"each of {done.records:,} records stands in its one home"
        return Finding("homes", "ok", what)
    left = [task_id for task_id, each in done.mended if each.word == "FOREIGN"]
    shown = "; ".join(
        f"{_standing(task_id, each.state, each.homes)}: {_DONE[each.word]}"
        for task_id, each in done.mended[:_SHOWN]
    )
    counts = Counter[MendWord](each.word for _, each in done.mended)
    totals = ", ".join(f"{count:,} {_DONE[word]}" for word, count in counts.items())
    what = f"of {done.records:,} records {totals}: {shown}"
    if len(done.mended) > _SHOWN:
        what += f"; and {len(done.mended) - _SHOWN:,} more"
    if left:
        do = f"look for other writers to task:{left[0]}; it is no task's record"
        return Finding("homes", "error", what, do)
    return Finding("homes", "note", what, _BY_WHOM)


def _amended(done: Repair) -> Finding:
    if not done.amended:
        what = f"each of {done.records:,} records is whole and agrees with the rest"
        return Finding("records", "ok", what)
    left = [each for each in done.amended if each.left]
    shown = "; ".join(map(_amendment, (left or list(done.amended))[:_SHOWN]))
    what = f"of {done.records:,} records {len(done.amended):,} put right: {shown}"
    if left:
        what = f"of {done.records:,} records {len(left):,} could not be put right: "
        do = f"taskflow show {left[0].id}, and once it has ended taskflow delete"
        return Finding("records", "error", what + shown, do)
    return Finding("records", "note", what, _BY_WHOM)


def _amendment(each: RepairedRecord) -> str:
    told = ", ".join(broken.what for broken in each.left) or ", ".join(each.words)
    return f"{each.id} ({told})"


def _standing(task_id: str, state: str, homes: tuple[str, ...]) -> str:
    return f"{task_id} ({state or 'no record'} in {', '.join(homes) or 'none'})"


def _homes(proof: Proof) -> Finding:
    astray = [each.seen for each in proof.misfits if not each.seen.is_home]
    if not astray:
        what = f"each of {proof.records:,} records stands in its one home"
        if proof.unproven:
            what = f"{proof.unproven:,} records could not be proven: look again"
            return Finding("homes", "unknown", what)
        return Finding("homes", "ok", what)
    shown = "; ".join(
        _standing(each.id, each.state, each.homes) for each in astray[:_SHOWN]
    )
    more = len(astray) + proof.unproven - _SHOWN
    what = (
        f"not in their one home: {shown}{f' and up to {more} more' if more > 0 else ''}"
    )
    lost = any(
        each.state
        in {TaskState.PENDING.value, TaskState.ACTIVE.value, TaskState.SCHEDULED.value}
        and not each.homes
        for each in astray
    )
    do = "taskflow doctor --repair"
    if lost:
        do += ", or taskflow requeue-orphaned for the lost alone"
    return Finding("homes", "error", what, do)


def _records(proof: Proof) -> Finding:
    torn = [each for each in proof.misfits if each.seen.is_home]
    told = [*map(_misfit, torn), *(f"{w}: {what}" for _, w, what in proof.groups)]
    if not told and proof.unproven:
        what = f"{proof.unproven:,} records could not be proven: look again"
        return Finding("records", "unknown", what)
    if not told:
        what = f"each of {proof.records:,} records is whole and agrees with the rest"
        return Finding("records", "ok", what)
    more = f"; and {len(told) - _SHOWN:,} more" if told[_SHOWN:] else ""
    what = f"{'; '.join(told[:_SHOWN])}{more}"
    return Finding("records", "error", what, "taskflow doctor --repair")


def _misfit(each: Misplaced) -> str:
    what = ", ".join(f"{broken.what} ({broken.rule})" for broken in each.broken)
    return f"{each.seen.id} {what}"
