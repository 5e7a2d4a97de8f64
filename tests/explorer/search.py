"""Visit every world that a setting allows, and look each over.

A breadth-first search: the trace to what is found is a shortest one. Two worlds are
the same when they differ only in what no script and no actor decides by (texts for
people, times of the past).
"""

import re
from collections import Counter, deque
from collections.abc import Mapping
from typing import Any, Final

from attrs import define, field

from taskflow._protocol import upkeep, upstreams
from taskflow._protocol.claim import claim
from taskflow._protocol.settle import complete, settle
from taskflow._protocol.states import LEGAL_MOVES, TaskState
from tests.explorer.store import ScriptError, Store, expire, read
from tests.explorer.world import (
    KEYS,
    LEASE,
    MAX_CRASHES,
    RETRY_DELAY,
    SHARE,
    Call,
    Setting,
    Stage,
    Step,
    World,
)
from tests.support.invariants import broken

_FOR_PEOPLE: Final = re.compile(
    rb"(?<=[\x02\x03])(?:history|error|result|started_ms|finished_ms|since_ms"
    rb"|requeued|died_ms|traceback|served\d+|worker|reason|seen_ms)\x03[^\x03]*\x03"
)
_ENDS: Final = {
    "settle complete": {"COMPLETED"},
    "settle retry": {"SCHEDULED", "CANCELLED"},
    "settle dead": {"DLQ"},
    "settle fail": {"FAILED"},
    "settle cancel": {"CANCELLED"},
    "settle snooze": {"SCHEDULED", "CANCELLED"},
    "settle release": {"PENDING", "CANCELLED"},
    "settle park": {"PENDING", "CANCELLED"},
    "settle crash": {"PENDING", "DLQ", "CANCELLED"},
    "reap": {"PENDING", "DLQ", "CANCELLED"},
}
_COUNTED: Final = {"settle retry", "settle dead", "settle fail"}
_REMEMBERED: Final = _ENDS.keys() - {"settle complete", "settle release"}
_NEVER: Final = (ScriptError, LookupError, ValueError, TypeError, AttributeError)
_MAY_AGAIN: Final = {"prune", "set_upstream", "delete"}
"""What may find more to do when it is sent again: a task may be stored meanwhile."""
_SCRIPTS: Final = {
    "destroy": "delete",
    "open": "set_upstream",
    "close": "set_upstream",
    "declare": "set_upstream",
}
_CANCELS: Final = {"cancel", "settle cancel"}
_WAITING: Final = ("PENDING", "SCHEDULED", "ACTIVE")


class BrokenError(AssertionError):
    """Something does not hold; the message has the way there."""


@define
class Search:
    """One search.

    Attributes:
        setting: What it covers.
        store: Where scripts run.
        drained: One in so many worlds is run to its end.
        most: Worlds at most.
        seen: Worlds that were visited.
        taken: Moves that were made.
        reached: What has happened: moves of tasks and words of replies.
        moved: Moves of tasks: the script, from and to.
        is_whole: Whether nothing is left: every order of calls was looked at.
    """

    setting: Setting
    store: Store
    drained: int = 97
    most: int = 10_000_000
    taken: int = 0
    reached: Counter[str] = field(factory=Counter)
    moved: set[tuple[str, str, str]] = field(factory=set)
    is_whole: bool = False
    _ways: dict[int, tuple[int, str]] = field(factory=dict)

    @property
    def happened(self) -> set[str]:
        """What has happened at least once: moves, words of replies, events."""
        return {*self.reached, *(each.decode() for each in self.store.told)}

    @property
    def seen(self) -> int:
        """How many worlds were visited."""
        return len(self._ways)

    def run(self) -> None:
        """Visit all worlds.

        Raises:
            BrokenError: Something does not hold.
        """
        stage = Stage(self.setting, self.store)
        world = stage.begin()
        first = _identity(world)
        self._ways[first] = (0, "")
        ahead = deque([(first, world)])
        while ahead and self.seen < self.most:
            at, world = ahead.popleft()
            try:
                for step in stage.steps(world):
                    self.taken += 1
                    self._look(world, step, at)
                    there = _identity(step.world)
                    if there not in self._ways:
                        self._ways[there] = (at, step.label)
                        ahead.append((there, step.world))
                        self._check(stage, step, there)
            except _NEVER as error:
                raise BrokenError(self._told(at, f"{error!r}")) from error
        self.is_whole = not ahead

    def _told(self, at: int, what: str) -> str:
        way: list[str] = []
        while at:
            at, label = self._ways[at]
            way.append(label)
        return f"{what}\n{self.setting.name}: " + " | ".join(reversed(way[:-1]))

    def _look(self, world: World, step: Step, at: int) -> None:
        if step.call is None:
            return
        try:
            self._compare(world, step, step.call)
        except AssertionError as error:
            way = f"{self._told(at, str(error))} | {step.label}"
            raise BrokenError(way) from error

    def _check(self, stage: Stage, step: Step, at: int) -> None:
        found = read(step.world.keyspace)
        wrong = broken(found, now_ms=step.world.now, lease_ms=LEASE)
        if wrong:
            raise BrokenError(self._told(at, f"{wrong}"))
        if at % self.drained == 0:
            undone = _drain(stage, step.world)
            if undone:
                raise BrokenError(self._told(at, f"never end: {undone}"))

    def _compare(self, world: World, step: Step, call: Call) -> None:
        """Look a move over: what it changed, and what it said of that."""
        same = step.world.keyspace == world.keyspace
        before, after = read(world.keyspace), read(step.world.keyspace)
        # What a claim handed out is remembered for four leases.
        is_forgotten = call.kind == "claim" and KEYS.worker(call.who) not in before
        may_write = is_forgotten or _script(call) in _MAY_AGAIN
        if step.is_repeat and not same and not may_write:
            assert _still(before) == _still(after), f"{call.kind} wrote again"
        self._heed_token(before, call, step.reply, is_same=same)
        moves = {} if same else _moves(before, after)
        for task_id, (old, new) in moves.items():
            word = f"{call.kind}: {old} -> {new}"
            self.reached[word] += 1
            self.moved.add((_script(call), old, new))
            assert _may(call, task_id, old, new), f"{task_id} {word}"
        self._heed_counts(before, after, call, moves, world.now)
        self._heed_reply(before, after, call, step)

    def _heed_token(
        self, before: Mapping[str, Any], call: Call, reply: Any, *, is_same: bool
    ) -> None:
        if not call.token:
            return
        record = before.get(KEYS.task(call.target))
        current = record and record.get("token") == call.token
        is_active = record and record["state"] == "ACTIVE"
        word = "GONE" if not record else "OK" if current else "STALE"
        if call.kind == "extend" and record:
            ok = "CANCEL" if "cancel" in record else "OK"
            word = ok if current and is_active else "STALE"
        self.reached[f"{call.kind} {word}"] += 1
        assert [word] == reply, f"{call.kind} said {reply}, and it is {word}"
        assert is_same or (current and is_active), f"{call.kind} wrote without a lease"

    def _heed_counts(
        self,
        before: Mapping[str, Any],
        after: Mapping[str, Any],
        call: Call,
        moves: Mapping[str, tuple[str, str]],
        at_ms: int,
    ) -> None:
        for task_id, (old, new) in moves.items():
            if "nothing" in {old, new}:
                continue
            was, now = before[KEYS.task(task_id)], after[KEYS.task(task_id)]
            grown = {name: _count(now, name) - _count(was, name) for name in _COUNTS}
            expected = dict.fromkeys(_COUNTS, 0)
            if call.kind == "requeue":
                kept = ("attempts", "crashes") if old == "SCHEDULED" else ()
                for name in {*_COUNTS} - {"deliveries", *kept}:
                    expected[name] = -_count(was, name)
            elif call.kind in {"reap", "settle crash"}:
                expected["crashes"] = 1
            elif call.kind in _COUNTED and new != "CANCELLED":
                delay_ms = RETRY_DELAY * 1000 if call.kind == "settle retry" else 0
                expected |= {"attempts": 1, "age_ms": delay_ms}
            elif new == "ACTIVE":
                expected["deliveries"] = 1
            assert expected == grown, f"{call.kind} of {task_id}: {grown}"
            lines = len(now.get("history", "").splitlines())
            lines -= len(was.get("history", "").splitlines())
            assert lines == (call.kind in _REMEMBERED), f"{lines} lines of history"
            if old == "SCHEDULED" and new == "PENDING" and call.kind != "requeue":
                due = before[KEYS.scheduled][task_id]
                assert due <= at_ms, "promoted before its time"
            if call.kind == "reap":
                assert now["token"] != was["token"], "a lost lease is still good"
            is_asked = "cancel" in was and old == "ACTIVE"
            assert not (is_asked and new in {"PENDING", "SCHEDULED"}), "it was to stop"
            assert (new == "CANCELLED") <= (is_asked or call.kind in _CANCELS)
            dies = new == "DLQ" and call.kind in {"reap", "settle crash"}
            most = MAX_CRASHES if dies else MAX_CRASHES - 1
            assert new != "PENDING" or _count(now, "crashes") <= most
            assert not dies or _count(now, "crashes") == MAX_CRASHES

    def _heed_reply(
        self,
        before: Mapping[str, Any],
        after: Mapping[str, Any],
        call: Call,
        step: Step,
    ) -> None:
        if call.kind == "claim":
            self._heed_claims(before, after, step)
        elif call.kind == "reap":
            for _, where, _ in step.reply:
                self.reached[f"reap {where}"] += 1
            ended = {
                each for each, end in before.get(KEYS.active, {}).items()
                if end <= step.world.now
            }  # fmt: skip
            assert ended == {each[0] for each in step.reply}, f"reaped {step.reply}"
        elif call.kind == "enqueue":
            (reply,) = step.reply
            assert KEYS.task(reply.id) in after or KEYS.task(reply.id) not in before
            # A call that comes late, when its task is gone and its key is not, finds
            # the key held by its own id, and stores nothing.
            is_there = KEYS.task(call.target) in after
            assert reply.created == (reply.id == call.target and is_there)
            self.reached[f"enqueue {'OK' if reply.created else 'EXISTS'}"] += 1
        elif call.kind == "extend":
            if step.reply[0] in {"OK", "CANCEL"}:
                ends = after[KEYS.active][call.target]
                assert step.world.now + LEASE == ends, f"renewed until {ends}"
        elif call.kind in {"cancel", "delete", "destroy", "requeue", "discard"}:
            self.reached[f"{call.kind} says {step.reply}"] += 1
            self._heed_deed(after, call, step.reply)

    def _heed_deed(self, after: Mapping[str, Any], call: Call, reply: Any) -> None:
        record = after.get(KEYS.task(call.target))
        if call.kind == "cancel" and reply is True:
            assert record["state"] == "CANCELLED", "it said that it was cancelled"
        elif call.kind == "cancel" and reply is False:
            assert record["state"] == "ACTIVE"
            assert "cancel" in record
        elif call.kind == "requeue" and reply == ["OK"]:
            assert not record.keys() & {"cancel", "expires_ms"} or "lane" in record

    def _heed_claims(
        self, before: Mapping[str, Any], after: Mapping[str, Any], step: Step
    ) -> None:
        assert len(step.reply.claims) <= self.setting.slots
        if step.reply.left_out:
            self.reached[f"claim leaves out {step.reply.left_out}"] += 1
        if step.reply.undeclared:
            self.reached["claim of an upstream without rules"] += 1
            assert "rules" not in before.get(KEYS.upstream("api"), {})
        for held in step.reply.claims:
            was, now = before[KEYS.task(held.id)], after[KEYS.task(held.id)]
            assert now["state"] == "ACTIVE"
            assert now["token"] == held.token
            self.reached[f"claim of {held.lane}"] += 1
            if was["state"] == "ACTIVE":
                assert was["token"] == held.token, "handed out while it runs"
                self.reached["claim repeated"] += 1
                continue
            assert "cancel" not in was, "handed out though it was asked to stop"
            due = before.get(KEYS.scheduled, {}).get(held.id, 0)
            assert due <= step.world.now, "handed out before its time"
            assert int(was.get("expires_ms", step.world.now + 1)) > step.world.now
            assert step.world.now + LEASE == after[KEYS.active][held.id]
            if held.upstream:
                self._heed_upstream(before, after, step.world.now)
                self._heed_running(step.world)

    def _heed_upstream(
        self, before: Mapping[str, Any], after: Mapping[str, Any], now: int
    ) -> None:
        found = before.get(KEYS.upstream("api"), {})
        assert "rules" in found, "handed out though its upstream has no rules"
        retry = int(found.get("retry_ms", 0))
        is_shut = found.get("state") == "open" and (retry == 0 or retry > now)
        assert not is_shut, "handed out though its upstream is open"
        most = self.setting.concurrency
        held = after.get(KEYS.permits("api"), {})
        assert most is None or len(held) <= most, f"{len(held)} calls underway"

    def _heed_running(self, world: World) -> None:
        """Count what runs, whatever the server knows of it; none has ended unheard."""
        most = self.setting.concurrency
        if "wipes" in self.setting.left and most is not None:
            running = [
                held.id
                for actor in world.actors
                for held in actor.held
                if held.upstream
                and world.now < dict(actor.begun)[held.token + held.id] + LEASE
            ]
            assert len(running) <= most, f"{running} run"


_COUNTS: Final = ("attempts", "crashes", "age_ms", "deliveries")


def _count(record: Mapping[str, str], name: str) -> int:
    if name == "deliveries":
        return int(record.get("token", "0").partition(":")[0])
    return int(record.get(name, 0))


def _identity(world: World) -> int:
    actors = tuple(
        (
            each.name,
            tuple((held.id, held.token, held.epoch) for held in each.held),
            each.claims,
            each.waits_for,
            each.is_done,
            each.after,
            each.is_asked,
        )
        for each in world.actors
    )
    plain = _FOR_PEOPLE.sub(b"", world.keyspace)
    return hash((plain, world.now, actors, world.late, world.left))


def _still(found: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if key != KEYS.marker}


def _states(found: Mapping[str, Any]) -> dict[str, str]:
    return {
        key[5:]: value["state"]
        for key, value in found.items()
        if key.startswith("task:")
    }


def _moves(
    before: Mapping[str, Any], after: Mapping[str, Any]
) -> dict[str, tuple[str, str]]:
    old, new = _states(before), _states(after)
    return {
        each: (old.get(each, "nothing"), new.get(each, "nothing"))
        for each in old.keys() | new.keys()
        if old.get(each) != new.get(each)
    }


def _script(call: Call) -> str:
    """Give the name of the script that a call is."""
    word = call.kind.partition(" ")[0]
    return _SCRIPTS.get(word, word)


def _may(call: Call, task_id: str, old: str, new: str) -> bool:
    """Tell whether a call of that kind may move a task so."""
    script = _script(call)
    if call.target not in {"", task_id} or new not in _ENDS.get(call.kind, {new}):
        return False
    if call.kind == "delete" and old == "ACTIVE":
        return False
    # A claim lets what is due enter its lane, and may hand it out at once.
    two = script == "claim" and _is_legal(script, old, "PENDING")
    return _is_legal(script, old, new) or (two and _is_legal(script, "PENDING", new))


def _is_legal(script: str, old: str, new: str) -> bool:
    before, after = (
        None if each == "nothing" else TaskState(each) for each in (old, new)
    )
    return script in LEGAL_MOVES.get((before, after), ())


def _drain(stage: Stage, world: World) -> dict[str, str]:
    """Let one good worker do all that is left; give what it cannot end."""
    for turn in range(12):
        now = world.now + 8 * LEASE
        world = world._replace(now=now, keyspace=expire(world.keyspace, now))
        calls = [Call("", "reap", "", stage.number("reap", _reap))]
        if stage.setting.breaker is not None and turn == 0:
            calls.append(Call("", "close", "", stage.number("close", _close)))
        for call in calls:
            world, _ = stage.run(world, call)
        number = stage.store.prepare(_claim_all(turn))
        after, raw = stage.store.run(world.keyspace, number, world.now)
        world = world._replace(keyspace=after)
        reply = _claim_all(turn).decode(raw)
        if reply.undeclared:
            number = stage.number("declare", _close)
            world, _ = stage.run(world, Call("", "declare", "", number))
        for held in reply.claims:
            ended = settle(KEYS, [complete(held, b"1")])
            number = stage.store.prepare(ended)
            after, _ = stage.store.run(world.keyspace, number, world.now)
            world = world._replace(keyspace=after)
        left = {
            task_id: state
            for task_id, state in _states(read(world.keyspace)).items()
            if state in _WAITING
        }
        if not left:
            return {}
    return left


def _reap() -> Any:
    return upkeep.reap(KEYS, max_crashes=MAX_CRASHES)


def _close() -> Any:
    return upstreams.set_upstream(KEYS, "api", "close")


def _claim_all(turn: int) -> Any:
    return claim(
        KEYS,
        worker="z",
        nonce=f"9-{turn}",
        slots=10,
        lease_ms=LEASE,
        share=SHARE,
        suspect=True,
    )
