"""A call of each script that writes, in each way that it is meant to be called."""

from collections.abc import Callable
from typing import Any

from attrs import frozen

from taskflow import CircuitBreaker, Registry, Upstream
from taskflow._codec import Spec, encode_spec
from taskflow._declare.schedule import Schedule, every
from taskflow._protocol import schedules, upstreams
from taskflow._protocol import settle as verbs
from taskflow._protocol.actions import cancel, delete, drain, pause
from taskflow._protocol.claim import claim
from taskflow._protocol.consistency import (
    RepairedPlacement,
    repair_placement,
    repair_record,
)
from taskflow._protocol.dead_letters import discard, edit, requeue
from taskflow._protocol.enqueue import enqueue
from taskflow._protocol.inspect import moment, watch
from taskflow._protocol.keys import KINDS, Keys
from taskflow._protocol.operation import Operation
from taskflow._protocol.record import CallReport
from taskflow._protocol.reset import DeletedKeys, delete_keys
from taskflow._protocol.settle import ProgressReport, extend, report_progress, settle
from taskflow._protocol.task_events import audit_append
from taskflow._protocol.upkeep import PromoteReply, heartbeat, promote, prune, reap
from taskflow._protocol.upstreams import BreakerDefaults
from taskflow.errors import ScheduleNotFoundError
from tests.support.keyspace import LEASE, NOW, SHARE, WHY, Stage, record, submission

KEYS = Keys()
LATE = NOW + LEASE + 1
API = Upstream("api", breaker=CircuitBreaker(consecutive=1), concurrency=2)
RULES = upstreams.pack_rules(API, BreakerDefaults())
TEN = Schedule("ten", Registry().task(name="f")(lambda: None), every(10))
FIRST = moment(NOW + 10_000)
PASSED = [schedules.TickReply("PASSED", (NOW + 20_000, TEN.digest))]
SPEC = encode_spec(Spec(name="f"))
SAME = object()


@frozen
class Case:
    """A call whose reply is lost.

    Attributes:
        make: Prepares a server and gives the call.
        again: What the second call answers: the same as the first, or what is true
            now that the first has been.
        tells: Whether the audit log has a line of each call; and an upstream turns with
            each.
    """

    make: Callable[[Stage], Operation[Any]]
    again: Any = SAME
    tells: bool = False


def of_one(operation: Callable[[Any], Operation[Any]], **options: Any) -> Any:
    """Prepare one task that waits, and call *operation* with its id."""

    def make(stage: Stage) -> Operation[Any]:
        stage.enqueue("t1", **options)
        return operation("t1")

    return make


def of_running(operation: Callable[[Any], Operation[Any]], **options: Any) -> Any:
    """Prepare one task that runs, and call *operation* with its claim."""

    def make(stage: Stage) -> Operation[Any]:
        stage.send(upstreams.declare(KEYS, "api", RULES, now_ms=NOW))
        stage.enqueue("t1", "t2", **options)
        return operation(stage.claim().claims[0])

    return make


def settled(move: Callable[[Any], Any], **options: Any) -> Any:
    """Prepare one task that runs, and settle it by *move*."""
    return of_running(
        lambda held: settle(KEYS, [move(held)], now_ms=NOW + 1), **options
    )


def of_dead(operation: Callable[[Any], Operation[Any]]) -> Any:
    """Prepare one dead letter, and call *operation* with its id."""

    def make(stage: Stage) -> Operation[Any]:
        (held,) = stage.claimed("t1")
        stage.send(settle(KEYS, [dead(held)], now_ms=NOW))
        return operation("t1")

    return make


def dead(held: Any) -> Any:
    """Give the outcome of a run that ends in the dead letters."""
    return verbs.dead_letter(held, WHY, cause="permanent", uses_attempt=True, entry={})


def failed_call(held: Any) -> Any:
    """Give the outcome of a call that failed, which opens its upstream."""
    outcome = verbs.retry(held, WHY, delay=2, uses_attempt=True, entry={})
    return outcome._replace(report=CallReport("api", held.epoch, "failure", "no", 0))


def crashed(times: int) -> Any:
    """Prepare a task that crashed so often, and is to crash once more."""

    def make(stage: Stage) -> Operation[Any]:
        stage.enqueue("t1")
        for _ in range(times):
            stage.claim()
            stage.send(reap(KEYS, max_crashes=3, now_ms=LATE))
        stage.claim()
        return reap(KEYS, max_crashes=3, now_ms=LATE)

    return make


def of_schedule(operation: Operation[Any]) -> Any:
    """Prepare a schedule, and call *operation*."""

    def make(stage: Stage) -> Operation[Any]:
        stage.send(announced())
        return operation

    return make


def announced() -> Operation[Any]:
    """Give the call that makes the schedule known."""
    told = schedules.ScheduleUpsert(TEN, TEN.digest, b"{}", TEN.task.spec, FIRST)
    return schedules.upsert_schedules(KEYS, [told], now_ms=NOW)


def tick(task_id: str) -> Operation[Any]:
    """Give the call that makes a tick, or lets it pass."""
    payload, spec = (b"{}", SPEC) if task_id else (b"", b"")
    made = schedules.Tick(
        *("ten", TEN.digest, NOW + 10_000, NOW + 20_000, task_id, payload, spec)
    )
    return schedules.tick(KEYS, [made], now_ms=NOW + 10_000)


def of_api(*before: Operation[Any]) -> Any:
    """Prepare an upstream, call all but the last, and give that one."""

    def make(stage: Stage) -> Operation[Any]:
        stage.send(upstreams.declare(KEYS, "api", RULES, now_ms=NOW))
        stage.enqueue("t1", upstream="1 api")
        for each in before[:-1]:
            stage.send(each)
        return before[-1]

    return make


def entered(permit: Any = "own", ticket: str = "guard:1") -> Operation[Any]:
    """Give the call by which a guard asks for leave."""
    return upstreams.acquire_permit(
        KEYS,
        "api",
        ticket=ticket,
        weight=1.0,
        lease_ms=LEASE,
        permit=permit,
        rules=RULES,
        now_ms=NOW,
    )


def left(verdict: str) -> Operation[Any]:
    """Give the call by which a guard says how it went."""
    return upstreams.release_permit(
        KEYS, "api", ticket="guard:1", epoch=0, outcome=verdict, now_ms=NOW + 5
    )


def steered(verb: Any) -> Operation[bool]:
    """Give the call by which a person turns the upstream."""
    return upstreams.set_upstream(KEYS, "api", verb, reason="so", now_ms=NOW + 6)


def claimed(*, late: bool = False) -> Callable[[Stage], Operation[Any]]:
    """Prepare tasks of every sort that a claim meets, and claim them."""

    def make(stage: Stage) -> Operation[Any]:
        stage.send(upstreams.declare(KEYS, "api", RULES, now_ms=NOW))
        stage.enqueue("t1", "t2")
        stage.enqueue("due", delay_ms=5)
        stage.enqueue("expired", expires_ms=5)
        stage.enqueue("c1", "c2", "c3", upstream="1 api")
        return claim(
            KEYS,
            worker="w",
            nonce="1-7",
            slots=100,
            lease_ms=LEASE,
            share=SHARE,
            suspect=True,
            now_ms=LATE if late else NOW,
        )

    return make


def filled(keyspace: dict[str, Any], operation: Operation[Any]) -> Any:
    """Prepare a keyspace by hand, and call *operation*."""

    def make(stage: Stage) -> Operation[Any]:
        stage.fill(keyspace)
        return operation

    return make


def finished(stage: Stage) -> Operation[Any]:
    """Prepare a task that has ended, and forget it."""
    (held,) = stage.claimed("t1")
    stage.send(settle(KEYS, [verbs.complete(held, b"1")], now_ms=NOW))
    return prune(KEYS, KEYS.completed, keep_ms=0, now_ms=NOW)


def keyed(stage: Stage) -> Operation[Any]:
    """Store tasks, one with a key and one whose key is held."""
    options = {"key": "f:k", "key_ttl_ms": 5, "digest": "d"}
    stage.enqueue("t1", **options)
    batch = [submission("t2"), submission("t3", **options), submission("t4")]
    return enqueue(KEYS, batch, now_ms=NOW)


ALIVE = heartbeat(
    KEYS, worker="w", info=b"{}", ttl_ms=60_000, known="", new="d1", now_ms=NOW
)
REPORT = ProgressReport(
    1, b'{"done":1}', {"tokens": 3}, {"a": "1"}, b"7", ("one", "two")
)
NOTHING = DeletedKeys("0", 0, dict.fromkeys((kind.name for kind in KINDS), 0))

CASES = {
    "upsert_schedule": Case(lambda _: announced(), again=[(False, NOW + 10_000)]),
    "heartbeat": Case(lambda _: ALIVE),
    "heartbeat: goodbye": Case(
        filled(
            {"worker:w": {"info": "{}"}, "tasks:workers": {"w": NOW}},
            heartbeat(
                KEYS, worker="w", info=b"", ttl_ms=1, known="", new="d1", now_ms=NOW
            ),
        )
    ),
    "cancel": Case(of_one(lambda each: cancel(KEYS, each, now_ms=NOW))),
    "cancel: a delayed one": Case(
        of_one(lambda each: cancel(KEYS, each, now_ms=NOW), delay_ms=5)
    ),
    "cancel: one that runs": Case(
        of_running(lambda held: cancel(KEYS, held.id, now_ms=NOW))
    ),
    "claim": Case(claimed()),
    "claim: of what is due": Case(claimed(late=True)),
    "delete": Case(
        of_one(lambda each: delete(KEYS, each, force=False, now_ms=NOW)), again=False
    ),
    "delete: one that runs": Case(
        of_running(lambda held: delete(KEYS, held.id, force=True, now_ms=NOW)),
        again=False,
    ),
    "discard": Case(
        of_dead(lambda each: discard(KEYS, [each], now_ms=NOW + 1)), again=0
    ),
    "drain": Case(
        filled({"worker:heartbeat:w": str(NOW)}, drain(KEYS, "w", now_ms=NOW))
    ),
    "edit": Case(
        of_dead(lambda each: edit(KEYS, each, b'{"x":1}', now_ms=NOW)), tells=True
    ),
    "enqueue": Case(
        lambda _: enqueue(KEYS, [submission("t1"), submission("t2")], now_ms=NOW)
    ),
    "enqueue: delayed": Case(
        lambda _: enqueue(KEYS, [submission("t1", delay_ms=5)], now_ms=NOW)
    ),
    "enqueue: with a key": Case(keyed),
    "acquire_permit": Case(of_api(entered())),
    "acquire_permit: a renewal": Case(of_api(entered(), entered("renewed"))),
    "acquire_permit: one that is shut": Case(of_api(steered("open"), entered())),
    "extend": Case(
        of_running(
            lambda held: extend(
                KEYS, [(held.id, held.token)], lease_ms=2 * LEASE, now_ms=NOW
            )
        )
    ),
    "pause_schedule: pause": Case(
        of_schedule(schedules.pause_schedule(KEYS, "ten", "pause", now_ms=NOW)),
        tells=True,
    ),
    "pause_schedule: resume": Case(
        of_schedule(schedules.pause_schedule(KEYS, "ten", "resume", now_ms=NOW)),
        tells=True,
    ),
    "pause_schedule: remove": Case(
        of_schedule(schedules.pause_schedule(KEYS, "ten", "remove", now_ms=NOW)),
        again=ScheduleNotFoundError,
    ),
    "audit_append": Case(
        lambda _: audit_append(KEYS, "reset", actor="ann", facts={}, now_ms=NOW),
        tells=True,
    ),
    "release_permit": Case(of_api(entered(), left("success"))),
    "release_permit: with a failure": Case(of_api(entered(), left("failure"))),
    "repair_record": Case(
        filled(
            {"task:t1": record(crashes="x"), "tasks:pending:primary": ["t1"]},
            repair_record(KEYS, "t1", lease_ms=LEASE, now_ms=NOW),
        ),
        again=[],
    ),
    "repair_record: a task without a token": Case(
        filled(
            {"task:t1": record("ACTIVE", crashes=1), "tasks:active": {"t1": NOW}},
            repair_record(KEYS, "t1", lease_ms=LEASE, now_ms=NOW),
        ),
        again=[],
    ),
    "repair_placement": Case(
        filled({"task:t1": record("ACTIVE")}, repair_placement(KEYS, "t1", now_ms=NOW)),
        again=RepairedPlacement("FINE", "PENDING", ("PENDING:retry",)),
    ),
    "report_progress": Case(
        of_running(
            lambda held: report_progress(KEYS, held.id, held.token, REPORT, now_ms=NOW)
        )
    ),
    "pause": Case(lambda _: pause(KEYS, "retry", paused=True, now_ms=NOW), tells=True),
    "pause: go on": Case(
        lambda _: pause(KEYS, "retry", paused=False, now_ms=NOW), tells=True
    ),
    "promote": Case(
        of_one(lambda _: promote(KEYS, now_ms=NOW + 5), delay_ms=5),
        again=PromoteReply(NOW + 5, 0, 0),
    ),
    "prune": Case(finished, again=0),
    "reap": Case(crashed(0), again=[]),
    "reap: a suspect": Case(crashed(1), again=[]),
    "reap: a pill": Case(crashed(2), again=[]),
    "requeue": Case(
        of_dead(lambda each: requeue(KEYS, [each], nonce="n1", now_ms=NOW + 1))
    ),
    "requeue: a delayed one": Case(
        of_one(lambda each: requeue(KEYS, [each], nonce="n1", now_ms=NOW), delay_ms=5)
    ),
    "settle: complete": Case(settled(lambda held: verbs.complete(held, b"1"))),
    "settle: retry": Case(
        settled(
            lambda held: verbs.retry(held, WHY, delay=2, uses_attempt=True, entry={})
        )
    ),
    "settle: snooze": Case(settled(lambda held: verbs.snooze(held, delay=2, entry={}))),
    "settle: dead": Case(settled(dead)),
    "settle: fail": Case(
        settled(lambda held: verbs.fail(held, WHY, uses_attempt=True, entry={}))
    ),
    "settle: cancel": Case(settled(lambda held: verbs.cancel(held, WHY, entry={}))),
    "settle: release": Case(settled(verbs.release)),
    "settle: crash": Case(
        settled(lambda held: verbs.crash(held, "killed", max_crashes=3, entry={}))
    ),
    "settle: park": Case(
        settled(lambda held: verbs.park(held, WHY, entry={}), upstream="1 api")
    ),
    "settle: with a verdict": Case(settled(failed_call, upstream="1 api")),
    "set_upstream: declare": Case(
        lambda _: upstreams.declare(KEYS, "api", RULES, now_ms=NOW), again=False
    ),
    "set_upstream: name": Case(
        lambda _: upstreams.declare(KEYS, "api", RULES, is_only_named=True, now_ms=NOW),
        again=False,
    ),
    "set_upstream: open": Case(of_api(steered("open")), tells=True),
    "set_upstream: close": Case(of_api(steered("open"), steered("close")), again=False),
    "set_upstream: reset": Case(
        of_api(steered("open"), steered("reset")), again=False, tells=True
    ),
    "delete_keys": Case(
        of_one(lambda _: delete_keys(KEYS, "0", delete=True, count=1000)), again=NOTHING
    ),
    "tick": Case(of_schedule(tick("t1")), again=PASSED),
    "tick: let pass": Case(of_schedule(tick("")), again=PASSED),
    "watch": Case(of_one(lambda each: watch(KEYS, each, now_ms=NOW))),
}
