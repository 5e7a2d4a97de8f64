"""Who acts on the keyspace, what each may do next, and what may go wrong.

A world is a keyspace and all that is outside of it: what each worker believes to
hold, which calls wait for a reply that was lost, which are late on their way, what
time it is, and how much more may go wrong. Every move leads from a world to a world.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from attrs import field, frozen

from taskflow import CircuitBreaker, Upstream
from taskflow._protocol import actions, dead_letters, upkeep, upstreams
from taskflow._protocol import settle as verbs
from taskflow._protocol.claim import LaneShare, claim
from taskflow._protocol.enqueue import enqueue
from taskflow._protocol.keys import Keys
from taskflow._protocol.operation import Operation
from taskflow._protocol.record import CallReport, Claim
from taskflow.errors import ServerError
from tests.explorer.store import Store, expire, write
from tests.support.keyspace import WHY, submission

KEYS: Final = Keys()
LEASE: Final = 15_000
START: Final = 1_700_000_000_000
SHARE: Final = LaneShare()
ENTRY: Final = {"attempt": 1}
MAX_CRASHES: Final = 3
RETRY_DELAY: Final = 15


class Call(NamedTuple):
    """A call that somebody makes.

    Attributes:
        who: Makes it.
        kind: Of the call, with the verb of a settle.
        target: The task; empty where it is none's in particular.
        number: Of the operation in the store.
        token: With which it was made, if with one.
    """

    who: str
    kind: str
    target: str
    number: int
    token: str = ""


class Actor(NamedTuple):
    """A worker, or the one client, as it sees things.

    Attributes:
        name: Of it.
        held: Claims whose bodies it runs.
        claims: Calls for tasks it has made.
        waits_for: A call whose reply did not come: it is sent again.
        is_done: Whether that call did something, and another time must do nothing;
            one that was refused, or found nothing, may find something then.
        after: The last task it has of a claim that comes in parts.
        is_asked: Whether a claim has told it that the upstream has no rules.
        begun: When each of its claims was answered (ms), by token and id.
    """

    name: str
    held: tuple[Claim, ...] = ()
    claims: int = 0
    waits_for: Call | None = None
    is_done: bool = False
    after: str = ""
    is_asked: bool = False
    begun: tuple[tuple[str, int], ...] = ()


class World(NamedTuple):
    """All there is in one moment.

    Attributes:
        keyspace: As the store keeps it.
        now: The server's time, ms.
        actors: The workers, and at the end the client.
        late: Calls on their way whose makers have given them up.
        left: What may still go wrong, and be done, by its name.
    """

    keyspace: bytes
    now: int
    actors: tuple[Actor, ...]
    late: tuple[Call, ...]
    left: tuple[tuple[str, int], ...]


class Step(NamedTuple):
    """One move: who called what, in which way, and what it led to.

    Attributes:
        label: For a trace, to be read by people.
        world: After it.
        call: That was carried out; None when nothing was.
        reply: As the operation gives it.
        is_repeat: Whether it had been carried out before by the same actor.
    """

    label: str
    world: World
    call: Call | None = None
    reply: Any = None
    is_repeat: bool = False


@frozen
class Setting:
    """What a search covers.

    Attributes:
        name: Of it.
        tasks: Options of each task that the client stores, in this order.
        left: What may go wrong and be done, and how often: ``runs`` (claims that are
            answered with tasks), ``ticks`` of the clock, ``losses`` of replies,
            ``deaths`` of workers, ``deeds`` of the client, ``wipes`` of all data.
        workers: Names of them.
        slots: Tasks that a worker runs at once.
        verbs: How a run may end.
        deeds: What the client does to tasks.
        breaker: Of the upstream ``api``; None = there is no upstream.
        concurrency: Of that upstream.
        ids: Of the tasks, in their order; one may come again.
        in_parts: Whether a claim that is sent again asks for one task at a time, as
            over a slow link.
    """

    name: str
    tasks: tuple[dict[str, Any], ...]
    left: dict[str, int]
    workers: str = "vw"
    slots: int = 1
    verbs: tuple[str, ...] = ("complete", "retry", "dead", "release")
    deeds: tuple[str, ...] = ()
    breaker: CircuitBreaker | None = None
    concurrency: int | None = None
    ids: tuple[str, ...] = ("t1", "t2", "t3")
    in_parts: bool = False


_ENDS: Final[dict[str, Callable[[Claim], Any]]] = {
    "complete": lambda held: verbs.complete(held, b"1"),
    "retry": lambda held: verbs.retry(
        held, WHY, delay=RETRY_DELAY, uses_attempt=True, entry=ENTRY
    ),
    "dead": lambda held: verbs.dead_letter(
        held, WHY, cause="permanent", uses_attempt=True, entry=ENTRY
    ),
    "fail": lambda held: verbs.fail(held, WHY, uses_attempt=True, entry=ENTRY),
    "cancel": lambda held: verbs.cancel(held, WHY, entry=ENTRY),
    "snooze": lambda held: verbs.snooze(held, delay=15, entry=ENTRY),
    "release": verbs.release,
    "park": lambda held: verbs.park(held, WHY, entry=ENTRY),
    "crash": lambda held: verbs.crash(
        held, "killed", max_crashes=MAX_CRASHES, entry=ENTRY
    ),
}
_SAYS: Final = {"complete": "success", "retry": "failure", "dead": "failure"}


@frozen
class Stage:
    """Makes worlds of worlds.

    Attributes:
        setting: What may happen.
        store: Where scripts run.
    """

    setting: Setting
    store: Store
    _numbers: dict[str, int] = field(factory=dict)
    _operations: dict[int, Operation[Any]] = field(factory=dict)

    def number(self, label: str, make: Callable[[], Operation[Any]]) -> int:
        """Give the number of the operation of that *label*, made once."""
        known = self._numbers.get(label)
        if known is None:
            operation = make()
            known = self._numbers[label] = self.store.prepare(operation)
            self._operations[known] = operation
        return known

    def begin(self) -> World:
        """Give the first world: nothing is stored but what an upstream may do."""
        actors = (*map(Actor, self.setting.workers), Actor("client"))
        left = tuple(sorted(self.setting.left.items()))
        world = World(write({}), START, actors, (), left)
        if self.setting.breaker is None:
            return world
        api = Upstream(
            "api",
            breaker=self.setting.breaker,
            concurrency=self.setting.concurrency,
        )
        rules = upstreams.pack_rules(api, upstreams.BreakerDefaults())
        number = self.number("declare", lambda: upstreams.declare(KEYS, "api", rules))
        self.number(
            "declare again",
            lambda: upstreams.declare(KEYS, "api", rules, recovery_ms=LEASE // 2),
        )
        return self.run(world, Call("", "declare", "", number))[0]

    def run(self, world: World, call: Call) -> tuple[World, Any]:
        """Carry *call* out, and decode its reply."""
        after, raw = self.store.run(world.keyspace, call.number, world.now)
        try:
            reply = self._operations[call.number].decode(raw)
        except ServerError as error:
            reply = type(error).__name__
        return world._replace(keyspace=after), reply

    def steps(self, world: World) -> Iterator[Step]:
        """Give all that may happen next."""
        for place, actor in enumerate(world.actors):
            if actor.waits_for is not None:
                yield self._again(world, place)
            else:
                for call in self._calls(world, actor):
                    yield from self._made(world, place, call)
            if actor.held or (actor.waits_for and place < len(world.actors) - 1):
                yield from self._death(world, place)
        for call in world.late:
            late = list(world.late)
            late.remove(call)
            after, reply = self.run(world._replace(late=tuple(late)), call)
            yield Step(f"{_label(call)} comes late", after, call, reply)
        for kind in ("reap", "promote"):
            call = Call("", kind, "", self.number(kind, _CHORES[kind]))
            after, reply = self.run(world, call)
            yield Step(kind, after, call, reply)
        ticked = _spend(world, "ticks")
        if ticked:
            now = world.now + LEASE
            after = ticked._replace(now=now, keyspace=expire(world.keyspace, now))
            yield Step("a lease's time passes", after)
        wiped = _spend(world, "wipes")
        if wiped:
            # What an actor sends again is new to the server.
            actors = tuple(each._replace(is_done=False) for each in wiped.actors)
            after = wiped._replace(keyspace=write({}), actors=actors)
            yield Step("the data is lost", after)

    def _calls(self, world: World, actor: Actor) -> Iterator[Call]:
        if actor.name == "client":
            yield from self._deeds(world, actor)
            return
        if actor.is_asked:
            number = self._numbers["declare again"]
            yield Call(actor.name, "declare", "", number)
        if len(actor.held) < self.setting.slots and dict(world.left)["runs"]:
            yield self._claim(actor)
        for held in actor.held:
            label = f"{held.id} {held.token}"
            lease = [(held.id, held.token)]
            number = self.number(
                f"extend {label}",
                lambda lease=lease: verbs.extend(KEYS, lease, lease_ms=LEASE),
            )
            yield Call(actor.name, "extend", held.id, number, held.token)
            for verb in self.setting.verbs:
                number = self.number(
                    f"{verb} {label} {held.epoch} {held.is_probe} {held.age_ms}",
                    lambda held=held, verb=verb: verbs.settle(
                        KEYS, [_outcome(held, verb)]
                    ),
                )
                yield Call(actor.name, f"settle {verb}", held.id, number, held.token)

    def _claim(self, actor: Actor, most_bytes: int = 1 << 20) -> Call:
        nonce, slots = f"1-{actor.claims + 1}", self.setting.slots - len(actor.held)
        if actor.after:
            slots = 0
        number = self.number(
            f"claim {actor.name} {nonce} {slots} {most_bytes} {actor.after}",
            lambda: claim(
                KEYS,
                worker=actor.name,
                nonce=nonce,
                slots=slots,
                lease_ms=LEASE,
                share=SHARE,
                suspect=not actor.after,
                most_bytes=most_bytes,
                after=actor.after,
            ),
        )
        return Call(actor.name, "claim", "", number)

    def _deeds(self, world: World, actor: Actor) -> Iterator[Call]:
        stored, deeds = actor.claims, dict(world.left).get("deeds", 0)
        if stored < len(self.setting.tasks):
            task_id = self.setting.ids[stored]
            batch = [submission(task_id, **self.setting.tasks[stored])]
            label = f"enqueue {stored} {task_id}"
            number = self.number(label, lambda: enqueue(KEYS, batch))
            yield Call("client", "enqueue", task_id, number)
        for task_id in sorted(set(self.setting.ids[:stored])) if deeds else ():
            for deed in self.setting.deeds:
                nonce = f"n{deeds}"
                number = self.number(
                    f"{deed} {task_id} {nonce}",
                    lambda deed=deed, task_id=task_id, nonce=nonce: _DEEDS[deed](
                        task_id, nonce
                    ),
                )
                target = "" if deed.startswith(("open", "close", "prune")) else task_id
                if target or task_id == "t1":
                    yield Call("client", deed, target, number)

    def _made(self, world: World, place: int, call: Call) -> Iterator[Step]:
        """Give the three fates of a call: answered, answered in vain, late."""
        paid = _spend(world, "deeds") if call.kind in _DEEDS else world
        if paid is None:
            return
        after, reply = self.run(paid, call)
        if call.kind == "claim" and reply.claims:
            paid = _spend(paid, "runs") or paid
            after = after._replace(left=paid.left)
        told = _told(after, place, call, reply)
        yield Step(_label(call), told, call, reply)
        hurt = _spend(paid, "losses")
        if hurt is None or call.kind == "extend":
            return
        actor = world.actors[place]._replace(waits_for=call)
        lost = hurt._replace(keyspace=after.keyspace)
        is_done = after.keyspace != paid.keyspace
        if call.kind == "claim":
            is_done = bool(reply.claims)
        lost = _with(lost, place, actor._replace(is_done=is_done))
        yield Step(f"{_label(call)}, its reply is lost", lost, call, reply)
        # The next one is another: nobody waits for what became of this.
        given_up = world.actors[place]
        if call.kind == "claim":
            given_up = given_up._replace(claims=given_up.claims + 1)
        late = _with(hurt._replace(late=(*hurt.late, call)), place, given_up)
        yield Step(f"{_label(call)} is held up", late)

    def _again(self, world: World, place: int) -> Step:
        actor = world.actors[place]
        call = actor.waits_for
        assert call is not None
        if call.kind == "claim" and self.setting.in_parts:
            call = self._claim(actor, most_bytes=1)
        after, reply = self.run(world, call)
        rested = _with(after, place, actor._replace(waits_for=None, is_done=False))
        told = _told(rested, place, call, reply)
        if told.actors[place].after:
            rest = told.actors[place]._replace(waits_for=call, is_done=actor.is_done)
            told = _with(told, place, rest)
        return Step(f"{_label(call)} again", told, call, reply, actor.is_done)

    def _death(self, world: World, place: int) -> Iterator[Step]:
        hurt = _spend(world, "deaths")
        if hurt is not None:
            name = world.actors[place].name
            reborn = Actor(name, claims=world.actors[place].claims + 1)
            after = _with(hurt, place, reborn)
            yield Step(f"{name} dies", after)


def _outcome(held: Claim, verb: str) -> Any:
    outcome = _ENDS[verb](held)
    if not held.upstream:
        return outcome
    verdict = _SAYS.get(verb, "neutral")
    return outcome._replace(
        report=CallReport(held.upstream, held.epoch, verdict, "", 0)
    )


_DEEDS: Final[dict[str, Callable[[str, str], Operation[Any]]]] = {
    "cancel": lambda task_id, _: actions.cancel(KEYS, task_id),
    "delete": lambda task_id, _: actions.delete(KEYS, task_id, force=False),
    "destroy": lambda task_id, _: actions.delete(KEYS, task_id, force=True),
    "requeue": lambda task_id, nonce: dead_letters.requeue(
        KEYS, [task_id], nonce=nonce
    ),
    "discard": lambda task_id, _: dead_letters.discard(KEYS, [task_id]),
    "open": lambda *_: upstreams.set_upstream(KEYS, "api", "open"),
    "close": lambda *_: upstreams.set_upstream(KEYS, "api", "close"),
    "prune completed": lambda *_: upkeep.prune(KEYS, KEYS.completed, keep_ms=1),
    "prune failed": lambda *_: upkeep.prune(KEYS, KEYS.failed, keep_ms=1),
    "prune cancelled": lambda *_: upkeep.prune(KEYS, KEYS.cancelled, keep_ms=1),
}
_CHORES: Final[dict[str, Callable[[], Operation[Any]]]] = {
    "reap": lambda: upkeep.reap(KEYS, max_crashes=MAX_CRASHES),
    "promote": lambda: upkeep.promote(KEYS),
}


def _told(world: World, place: int, call: Call, reply: Any) -> World:
    """Let the actor know what it was answered."""
    actor = world.actors[place]
    if call.kind == "claim":
        held = (*actor.held, *reply.claims)
        assert len(held) == len({each.token + each.id for each in held}), "given twice"
        is_part = reply.left_out == "claimed"
        known = actor._replace(
            held=held,
            # One that found nothing left no trace of its nonce, so that the next
            # may have the same, and the search has an end.
            claims=actor.claims + (not is_part and bool(reply.claims or actor.after)),
            after=reply.claims[-1].id if is_part else "",
            is_asked=bool(reply.undeclared),
            begun=tuple(
                (token, at)
                for token, at in (
                    *actor.begun,
                    *((each.token + each.id, world.now) for each in reply.claims),
                )
                if token in {each.token + each.id for each in held}
            ),
        )
    elif call.kind == "declare":
        known = actor._replace(is_asked=False)
    elif call.kind == "enqueue":
        known = actor._replace(claims=actor.claims + 1)
    elif call.kind.startswith("settle") or (
        call.kind == "extend" and reply[0] in {"STALE", "GONE"}
    ):
        held = tuple(each for each in actor.held if each.token != call.token)
        known = actor._replace(held=held)
    else:
        return world
    return _with(world, place, known)


def _with(world: World, place: int, actor: Actor) -> World:
    actors = list(world.actors)
    actors[place] = actor
    return world._replace(actors=tuple(actors))


def _spend(world: World, what: str) -> World | None:
    left = dict(world.left)
    if left.get(what, 0) == 0:
        return None
    left[what] -= 1
    return world._replace(left=tuple(sorted(left.items())))


def _label(call: Call) -> str:
    return " ".join(filter(None, (call.who, call.kind, call.target)))
