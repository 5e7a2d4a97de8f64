"""No sequence of operations loses a task, doubles it, or leaves half of it."""

import contextlib
import json
import os
import uuid
from typing import Any

import pytest
from attrs import define
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from taskflow import CircuitBreaker, Upstream
from taskflow._protocol import scripts, upstreams
from taskflow._protocol import settle as verbs
from taskflow._protocol.actions import cancel, delete
from taskflow._protocol.claim import claim
from taskflow._protocol.dead_letters import discard, requeue
from taskflow._protocol.enqueue import enqueue
from taskflow._protocol.keys import Keys
from taskflow._protocol.queue_status import status
from taskflow._protocol.record import Claim
from taskflow._protocol.settle import extend, settle
from taskflow._protocol.upkeep import promote, prune, reap
from taskflow._protocol.upstreams import BreakerDefaults
from taskflow._servers import exchange
from taskflow._servers.memory import MemoryServer
from taskflow._servers.redis import RedisServer
from taskflow.errors import IllegalMoveError, TaskNotFoundError
from tests.support.invariants import broken
from tests.support.keyspace import LEASE, NOW, SHARE, WHY, dump, submission
from tests.support.proxy import Proxy
from tests.support.writing_scripts import NAMES, WRITERS

HOUR = 3_600_000
DEPTH = int(os.environ.get("TASKFLOW_DEPTH", "1"))
KEYS = Keys()
HOMES = {
    "tasks:active": "ACTIVE",
    "tasks:scheduled": "SCHEDULED",
    "tasks:completed": "COMPLETED",
    "tasks:failed": "FAILED",
    "tasks:cancelled": "CANCELLED",
    "dlq:tasks": "DLQ",
}
LISTS = {
    "primary": "tasks:pending:primary",
    "retry": "tasks:pending:retry",
    "suspects": "tasks:suspects",
    "api:primary": "tasks:parked:api:primary",
    "api:retry": "tasks:parked:api:retry",
    "api:suspects": "tasks:parked:api:suspects",
}
API = Upstream("api", breaker=CircuitBreaker(), concurrency=3)
ENTRY = {"attempt": 1}
MOVES = {
    "complete": ("COMPLETED", lambda held: verbs.complete(held, b"1")),
    "retry": (
        "SCHEDULED",
        lambda held: verbs.retry(held, WHY, delay=2, uses_attempt=True, entry=ENTRY),
    ),
    "dead": (
        "DLQ",
        lambda held: verbs.dead_letter(
            held, WHY, cause="permanent", uses_attempt=True, entry=ENTRY
        ),
    ),
    "fail": (
        "FAILED",
        lambda held: verbs.fail(held, WHY, uses_attempt=True, entry=ENTRY),
    ),
    "cancel": ("CANCELLED", lambda held: verbs.cancel(held, WHY, entry=ENTRY)),
    "snooze": ("SCHEDULED", lambda held: verbs.snooze(held, delay=2, entry=ENTRY)),
    "release": ("PENDING", verbs.release),
    "crash": (
        "PENDING",
        lambda held: verbs.crash(held, "killed", max_crashes=3, entry=ENTRY),
    ),
}
COUNTED = {"retry", "dead", "fail"}


@define
class Expected:
    """What the model knows of one task."""

    state: str
    due: int = 0
    lease: int = 0
    expires: int = 0
    attempts: int = 0
    crashes: int = 0
    deliveries: int = 0
    flagged: bool = False
    suspect: bool = False
    calls: bool = False
    key: str = ""
    held: Claim | None = None
    settled_as: str = ""


def _comparable(found: dict[str, Any]) -> dict[str, Any]:
    """Make equal what servers write in ways of their own.

    Numbers in different lengths (0.6, 0.59999999999999998), and the fields of what a
    script encodes as JSON in the order of that server's tables.
    """
    lanes = found.get("tasks:lanes", {})
    if "credit" in lanes:
        lanes["credit"] = str(round(float(lanes["credit"]), 9))
    for value in found.values():
        if isinstance(value, dict) and "error" in value:
            value["error"] = json.loads(value["error"])
    return found


class LockStep:
    """Several servers as one: each is sent everything, and all must agree."""

    loses = False

    def __init__(self, servers: list[Any]) -> None:
        self._servers = servers

    def sync_client(self) -> "Clients":
        """Make a client of each."""
        return Clients([each.sync_client() for each in self._servers])

    def runner(self) -> "Runners":
        """Make a runner of each."""
        clients = [each.sync_client() for each in self._servers]
        return Runners([each.runner() for each in self._servers], clients)


class Clients:
    """Reads from the first, empties all."""

    def __init__(self, clients: list[Any]) -> None:
        self._clients = clients

    def __getattr__(self, name: str) -> Any:
        """Give what the first client has."""
        return getattr(self._clients[0], name)

    def flushdb(self) -> None:
        """Empty all."""
        for each in self._clients:
            each.flushdb()

    def close(self) -> None:
        """Close all."""
        for each in self._clients:
            each.close()


class Runners:
    """Sends to all, and compares what they answer and what they hold then."""

    def __init__(self, runners: list[Any], clients: list[Any]) -> None:
        self._runners = runners
        self._clients = clients

    def send(self, operation: Any) -> Any:
        """Send *operation* to all; give the answer of all, or raise it."""
        answers = [each.send_all([operation])[0] for each in self._runners]
        first, *others = answers
        assert [repr(first)] * len(others) == [repr(each) for each in others]
        held, *copies = [_comparable(dump(each)) for each in self._clients]
        for copy in copies:
            assert held == copy
        if isinstance(first, Exception):
            raise first
        return first

    def close(self) -> None:
        """Close all."""
        for each in (*self._runners, *self._clients):
            each.close()


class Lossy:
    """A server whose replies get lost, a third of them."""

    loses = True

    def __init__(self, server: Any, proxy: Proxy) -> None:
        self._server = server
        self._proxied = RedisServer(proxy.url)
        self._proxy = proxy
        proxy.loss = 1 / 3

    def sync_client(self) -> Any:
        """Make a client whose replies arrive."""
        return self._server.sync_client()

    def runner(self) -> Any:
        """Make a runner that has the patience for it, and the same replies lost."""
        self._proxy.seed(1)
        return self._proxied.runner(patience=60.0)

    def close(self) -> None:
        """Let go of the connections."""
        self._proxied.close()


class Tasks(RuleBasedStateMachine):
    """A model in a dictionary beside a server."""

    server: Any

    def __init__(self) -> None:
        super().__init__()
        self.client = self.server.sync_client()
        self.client.flushdb()
        self.runner = self.server.runner()
        self.now = NOW
        self.number = 0
        self.tasks: dict[str, Expected] = {}
        self.holders: dict[str, str] = {}
        self.old: list[Claim] = []
        self.last: Any = None
        self.is_shut = self.has_lost_data = False
        rules = upstreams.pack_rules(API, BreakerDefaults())
        self.runner.send(upstreams.declare(KEYS, "api", rules, now_ms=self.now))
        self.enqueue(delay=0, expires=0, key="", count=3, upstream="")
        self.enqueue(delay=0, expires=0, key="", count=5, upstream="1 api")

    def teardown(self) -> None:
        """Close what was opened."""
        self.runner.close()
        self.client.close()

    def send(self, operation: Any) -> Any:
        """Send *operation*, and remember it for a replay."""
        self.last = operation
        return self.runner.send(operation)

    def of(self, *states: str) -> list[str]:
        """Give the ids of the tasks in *states*."""
        return [each for each, task in self.tasks.items() if task.state in states]

    def pick(self, data: Any, ids: list[str]) -> str:
        """Choose one of *ids*."""
        return data.draw(st.sampled_from(ids))

    @rule(
        delay=st.sampled_from([0, 0, 1000]),
        expires=st.sampled_from([0, 0, 5000]),
        key=st.sampled_from(["", "", "f:a", "f:b"]),
        count=st.integers(1, 3),
        upstream=st.sampled_from(["", "1 api"]),
    )
    def enqueue(self, delay, expires, key, count, upstream):
        """Store tasks; a held key answers with its holder."""
        ids = [f"t{self.number + each}" for each in range(count)]
        self.number += count
        options = {"delay_ms": delay, "expires_ms": expires, "upstream": upstream}
        if key:
            options |= {"key": key, "key_ttl_ms": HOUR, "digest": "d"}
        batch = [submission(each, **options) for each in ids]
        replies = self.send(enqueue(KEYS, batch, now_ms=self.now))
        for task_id, reply in zip(ids, replies, strict=True):
            holder = self.holder(key)
            assert (holder or task_id, holder is None) == (reply.id, reply.created)
            if holder is None:
                self.tasks[task_id] = Expected(
                    "SCHEDULED" if delay else "PENDING",
                    due=self.now + delay,
                    expires=self.now + expires if expires else 0,
                    calls=bool(upstream),
                    key=key,
                )
                if key:
                    self.holders[key] = task_id

    def holder(self, key: str) -> str | None:
        """Return the task that holds *key*; one that failed or was cancelled doesn't."""
        holder = self.holders.get(key)
        task = self.tasks.get(holder or "")
        return None if task and task.state in {"FAILED", "CANCELLED"} else holder

    def promoted(self) -> None:
        """Let what is due wait for a worker."""
        for task in self.tasks.values():
            if task.state == "SCHEDULED" and task.due <= self.now:
                task.state = "PENDING"

    @precondition(lambda self: self.of("PENDING", "SCHEDULED"))
    @rule(slots=st.sampled_from([1, 2, 100]), worker=st.sampled_from("vw"))
    def claim(self, slots, worker):
        """Hand tasks out: all that wait, if there are slots for them."""
        self.number += 1
        operation = claim(
            KEYS,
            worker=worker,
            nonce=f"1-{self.number}",
            slots=slots,
            lease_ms=LEASE,
            share=SHARE,
            suspect=True,
            now_ms=self.now,
        )
        reply = self.send(operation)
        self.promoted()
        suspects = 0
        for held in reply.claims:
            task = self.tasks[held.id]
            assert "PENDING" == task.state
            assert not task.expires or task.expires > self.now
            assert not (task.calls and self.is_shut)
            suspects += task.suspect
            task.state, task.held, task.lease = "ACTIVE", held, self.now + LEASE
            task.deliveries += 1
            expected = (task.deliveries, task.attempts, task.crashes)
            assert expected == (held.delivery, held.attempts, held.crashes)
            self.old.append(held)
        assert suspects <= 1
        for task_id in self.of("PENDING"):
            task = self.tasks[task_id]
            if task.expires and task.expires <= self.now:
                state = self.client.hget(f"task:{task_id}", "state")
                if state == b"FAILED":
                    task.state = "FAILED"
        if slots == 100:
            waiting = [self.tasks[each] for each in self.of("PENDING")]
            assert [] == [each for each in waiting if not (each.suspect or each.calls)]

    def settle(self, data, verb):
        """Give a running task its move."""
        task = self.tasks[self.pick(data, self.of("ACTIVE"))]
        state, move = MOVES[verb]
        assert ["OK"] == self.send(settle(KEYS, [move(task.held)], now_ms=self.now))
        # Asked to stop while it ran, it does not go on.
        is_stopped = task.flagged and verb in {"retry", "snooze", "release"}
        task.state = "CANCELLED" if is_stopped else state
        task.attempts += verb in COUNTED and not is_stopped
        task.due = self.now + 2000

    @precondition(lambda self: self.of("ACTIVE"))
    @rule(data=st.data(), verb=st.sampled_from(["complete", "fail", "cancel"]))
    def end(self, data, verb):
        """A run ends for good."""
        self.settle(data, verb)

    @precondition(lambda self: self.of("ACTIVE"))
    @rule(data=st.data(), verb=st.sampled_from(["retry", "snooze", "release"]))
    def go_on_later(self, data, verb):
        """A run ends and another is to follow."""
        self.settle(data, verb)

    @precondition(lambda self: self.of("ACTIVE"))
    @rule(data=st.data())
    def die(self, data):
        """A run ends in the dead letters."""
        self.settle(data, "dead")

    @precondition(lambda self: self.of("ACTIVE"))
    @rule(data=st.data())
    def crash(self, data):
        """A body takes its process with it, and the worker lives."""
        task_id = self.pick(data, self.of("ACTIVE"))
        outcome = MOVES["crash"][1](self.tasks[task_id].held)
        assert ["OK"] == self.send(settle(KEYS, [outcome], now_ms=self.now))
        self.crashed(self.tasks[task_id])

    def crashed(self, task):
        """Count a crash of *task*; say where it goes."""
        task.crashes += 1
        if task.flagged:
            where, task.state = "cancelled", "CANCELLED"
        elif task.crashes >= 3:
            where, task.state = "poison", "DLQ"
        else:
            where = "suspects" if task.crashes == 2 else "retry"
            task.state = "PENDING"
        task.suspect = where == "suspects"
        return where

    @precondition(lambda self: self.of("ACTIVE"))
    @rule()
    def kill_workers(self):
        """Nobody renews any more, and the leases end."""
        self.now += LEASE + 1000
        self.reap()

    @precondition(lambda self: self.old)
    @rule(data=st.data(), verb=st.sampled_from(sorted(MOVES)))
    def settle_late(self, data, verb):
        """A claim that is over settles nothing."""
        held = data.draw(st.sampled_from(self.old))
        task = self.tasks.get(held.id)
        if task and task.state == "ACTIVE" and task.held == held:
            return
        before = dump(self.client)
        outcome = MOVES[verb][1](held)
        (word,) = self.runner.send(settle(KEYS, [outcome], now_ms=self.now))
        assert word in ({"OK", "STALE"} if task else {"GONE"})
        assert before == dump(self.client)

    @rule(verb=st.sampled_from(["open", "close"]))
    def steer(self, verb):
        """Somebody shuts the upstream, or lets calls begin again."""
        self.runner.send(upstreams.set_upstream(KEYS, "api", verb, now_ms=self.now))
        self.is_shut = verb == "open"

    @precondition(lambda self: self.of("PENDING"))
    @rule()
    def catch_up(self):
        """All that waits is run, three calls at a time, once the upstream is open."""
        self.steer(verb="close")
        for _ in range(4 + len(self.tasks)):
            self.now += 11_000
            self.reap()
            if not self.of("PENDING", "SCHEDULED"):
                return
            self.claim(slots=100, worker="v")
            for task_id in self.of("ACTIVE"):
                task = self.tasks[task_id]
                done = verbs.complete(task.held, b"1")
                self.send(settle(KEYS, [done], now_ms=self.now))
                task.state = "COMPLETED"
        assert [] == self.of("PENDING", "SCHEDULED")

    @rule(seconds=st.sampled_from([1, 3, 16]))
    def advance(self, seconds):
        """Let time pass; renewals that do not come are dead workers."""
        self.now += seconds * 1000

    @precondition(lambda self: self.of("ACTIVE"))
    @rule(data=st.data())
    def extend(self, data):
        """Renew a lease."""
        task = self.tasks[self.pick(data, self.of("ACTIVE"))]
        lease = [(task.held.id, task.held.token)]
        (word,) = self.send(extend(KEYS, lease, lease_ms=LEASE, now_ms=self.now))
        assert ("CANCEL" if task.flagged else "OK") == word
        task.lease = self.now + LEASE

    @precondition(lambda self: self.of("ACTIVE"))
    @rule()
    def reap(self):
        """Take back exactly the leases that have ended."""
        ended = {
            each for each in self.of("ACTIVE") if self.tasks[each].lease <= self.now
        }
        reply = self.send(reap(KEYS, max_crashes=3, now_ms=self.now))
        told = {task_id: where for task_id, where, _ in reply}
        assert told.keys() == ended or self.server.loses
        for task_id in ended:
            where = self.crashed(self.tasks[task_id])
            assert told.get(task_id, where) == where

    @precondition(lambda self: self.of("SCHEDULED"))
    @rule()
    def promote(self):
        """Bring all that is due to the lanes."""
        self.send(promote(KEYS, now_ms=self.now))
        self.promoted()

    @precondition(lambda self: self.tasks)
    @rule(data=st.data())
    def cancel(self, data):
        """Stop a task, whatever it does."""
        task_id = self.pick(data, sorted(self.tasks))
        task = self.tasks[task_id]
        operation = cancel(KEYS, task_id, now_ms=self.now)
        if task.state in {"COMPLETED", "FAILED", "DLQ"}:
            with pytest.raises(IllegalMoveError):
                self.send(operation)
            return
        assert (task.state != "ACTIVE") is self.send(operation)
        if task.state == "ACTIVE":
            task.flagged = True
        else:
            task.state = "CANCELLED"

    @precondition(lambda self: self.of("DLQ", "FAILED", "CANCELLED", "SCHEDULED"))
    @rule(data=st.data())
    def requeue(self, data):
        """Bring tasks back, where that is allowed."""
        ids = data.draw(
            st.lists(st.sampled_from(sorted(self.tasks)), max_size=3, min_size=1)
        )
        self.number += 1
        operation = requeue(KEYS, ids, nonce=f"n{self.number}", now_ms=self.now)
        moved: set[str] = set()
        for task_id, word in zip(ids, self.send(operation), strict=True):
            task = self.tasks[task_id]
            has_ended = task.state in {"DLQ", "FAILED", "CANCELLED"}
            holder = self.holder(task.key)
            if has_ended and holder not in {None, task_id}:
                assert f"HELD {holder} {task.key}" == word
                continue
            if has_ended:
                if task.key:
                    self.holders[task.key] = task_id
                task.attempts = task.crashes = task.expires = 0
                task.flagged = False
                task.suspect = (
                    task.suspect and task.state == "CANCELLED" and self.lists(task_id)
                )
            if task_id in moved or task.state in {
                "DLQ",
                "FAILED",
                "CANCELLED",
                "SCHEDULED",
            }:
                assert "OK" == word
                moved.add(task_id)
                task.state = "PENDING"
            else:
                assert task.state == word

    def lists(self, task_id: str) -> bool:
        """Tell whether the task stands among the suspects."""
        return any(
            task_id.encode() in self.client.lrange(LISTS[lane], 0, -1)
            for lane in ("suspects", "api:suspects")
        )

    @precondition(lambda self: self.of("DLQ"))
    @rule(data=st.data())
    def discard(self, data):
        """Drop a dead letter."""
        task_id = self.pick(data, self.of("DLQ"))
        dropped = self.send(discard(KEYS, [task_id], now_ms=self.now))
        assert dropped == 1 or self.server.loses
        self.tasks[task_id].state = "FAILED"

    def forget(self, task_id: str) -> None:
        """Take a task out of the model with its key."""
        del self.tasks[task_id]
        self.holders = {
            key: holder for key, holder in self.holders.items() if holder != task_id
        }

    @precondition(lambda self: len(self.tasks) > 3)
    @rule(data=st.data(), force=st.booleans())
    def delete(self, data, force):
        """Remove a task; a running one by force only."""
        task_id = self.pick(data, sorted(self.tasks))
        operation = delete(KEYS, task_id, force=force, now_ms=self.now)
        if self.tasks[task_id].state == "ACTIVE" and not force:
            with pytest.raises(IllegalMoveError):
                self.send(operation)
            return
        # Sent again after a lost reply, it finds nothing any more.
        assert self.send(operation) is True or self.server.loses
        self.forget(task_id)

    @precondition(lambda self: self.of("COMPLETED", "FAILED", "CANCELLED"))
    @rule(home=st.sampled_from(["completed", "failed", "cancelled"]))
    def prune(self, home):
        """Forget all that has ended in one way; their keys hold for an hour."""
        ended = self.of(home.upper())
        operation = prune(KEYS, getattr(KEYS, home), keep_ms=0, now_ms=self.now)
        assert self.send(operation) == len(ended) or self.server.loses
        for task_id in ended:
            if home == "completed":
                del self.tasks[task_id]
            else:
                self.forget(task_id)

    @precondition(lambda self: len(self.tasks) > 9 and not self.has_lost_data)
    @rule()
    def lose_data(self):
        """The server restarts empty; a claim says that the upstream has no rules."""
        self.client.flushdb()
        self.tasks.clear()
        self.holders.clear()
        self.has_lost_data, self.is_shut = True, False
        self.enqueue(delay=0, expires=0, key="", count=2, upstream="1 api")
        asked = claim(
            KEYS,
            worker="v",
            nonce=f"7-{self.number}",
            slots=9,
            lease_ms=LEASE,
            share=SHARE,
            suspect=True,
            now_ms=self.now,
        )
        reply = self.send(asked)
        # Sent again after its reply was lost, the name is told a second later.
        told = ("api",) if reply.undeclared or not self.server.loses else ()
        assert ([], told) == (reply.claims, reply.undeclared)
        rules = upstreams.pack_rules(API, BreakerDefaults())
        self.send(upstreams.declare(KEYS, "api", rules, now_ms=self.now))

    @precondition(lambda self: self.last is not None)
    @rule()
    def replay(self):
        """The last call, sent again, writes nothing."""
        before = self.still()
        with contextlib.suppress(IllegalMoveError, TaskNotFoundError):
            self.runner.send(self.last)
        assert before == self.still()
        self.last = None

    def still(self) -> dict[str, Any]:
        """Read the keyspace without the marker, which any call may set again."""
        found = dump(self.client)
        found.pop("tasks:marker", None)
        return found

    @invariant()
    def every_task_has_one_home_and_agrees_with_the_model(self):
        """State, home, counts and tokens are those of the model."""
        found = dump(self.client)
        homes: dict[str, list[str]] = {}
        for key, state in HOMES.items():
            for task_id in found.get(key, {}):
                homes.setdefault(task_id, []).append(state)
        for lane, key in LISTS.items():
            buried = found.get(f"tasks:tombstones:{lane}", set())
            listed = found.get(key, [])
            assert len(listed) == len(set(listed))
            assert buried <= set(listed)
            for task_id in set(listed) - buried:
                homes.setdefault(task_id, []).append("PENDING")
        expected = {each: [task.state] for each, task in self.tasks.items()}
        assert expected == homes
        records = {
            key.removeprefix("task:"): value
            for key, value in found.items()
            if key.startswith("task:")
        }
        assert expected == {each: [it["state"]] for each, it in records.items()}
        for task_id, task in self.tasks.items():
            record = records[task_id]
            delivery, _, owner = record.get("token", "0").partition(":")
            counts = (task.attempts, task.crashes, task.deliveries)
            stored = (record.get("attempts", 0), record.get("crashes", 0), delivery)
            assert counts == tuple(map(int, stored))
            if task.state == "ACTIVE":
                assert task.held.token == f"{delivery}:{owner}"
        letters = {
            key.removeprefix("dlq:task:")
            for key in found
            if key.startswith("dlq:task:")
        }
        groups = [key for key in found if key.startswith("dlq:group:")]
        grouped = [each for key in groups for each in found[key]]
        assert sorted(letters) == sorted(grouped) == sorted(found.get("dlq:tasks", {}))
        assert {key.removeprefix("dlq:group:") for key in groups} == set(
            found.get("dlq:groups", {})
        )

    @invariant()
    def every_invariant_holds(self):
        """The checker that all tests use finds nothing."""
        found = dump(self.client)
        assert [] == broken(found, now_ms=self.now, lease_ms=LEASE)

    @invariant()
    def permits_are_those_of_running_calls(self):
        """None is held by a task that runs no more, and there are three."""
        held = {
            each.decode() for each in self.client.zrange("upstream:api:permits", 0, -1)
        }
        assert held == {each for each in self.of("ACTIVE") if self.tasks[each].calls}
        assert len(held) <= 3

    @invariant()
    def counts_equal_the_model(self):
        """The status counts each task once."""
        found = self.runner.send(status(KEYS, SHARE, now_ms=self.now))
        assert {state: len(self.of(state)) for state in found.states} == dict(
            found.states
        )


def run(server: Any, *, examples: int, steps: int = 40) -> None:
    """Let the model and *server* go through sequences of steps."""
    bounded = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        # What is lost is not the same again when a sequence is shortened.
        phases=[Phase.generate] if server.loses else list(Phase),
        suppress_health_check=list(HealthCheck),
    )
    machine = type("TasksOnServer", (Tasks,), {"server": server})
    run_state_machine_as_test(machine, settings=bounded)


@pytest.mark.timeout(300)
def test_no_sequence_loses_or_doubles_a_task(redis_server, embedded_server):
    """The model and three servers agree after every step of any sequence."""
    memory = MemoryServer(f"memory://{uuid.uuid4().hex}")
    try:
        run(LockStep([redis_server, embedded_server, memory]), examples=6 * DEPTH)
    finally:
        memory.close()


@pytest.mark.timeout(600)
def test_a_reply_that_is_lost_doubles_nothing(redis_server, redis_socket, monkeypatch):
    """One reply in three is dropped with its connection; the model still agrees."""
    monkeypatch.setattr(exchange, "_FIRST_PAUSE", 0.001)
    monkeypatch.setattr(exchange, "_LONGEST_PAUSE", 0.001)
    proxy = Proxy(redis_socket)
    server = Lossy(redis_server, proxy)
    names = {scripts.load(name).sha: name for name in NAMES}
    called: set[str] = set()
    dropped: dict[str, int] = {}
    try:
        # A deep run goes on until each script that the model calls was unheard once.
        for _ in range(4):
            run(server, examples=6 * DEPTH)
            called = {names[sha] for sha in proxy.calls} & WRITERS
            dropped = {names[sha]: count for sha, count in proxy.unheard.most_common()}
            if DEPTH < 8 or called <= dropped.keys():
                break
    finally:
        server.close()
        proxy.close()
    print("replies dropped", proxy.lost, dropped)  # noqa: T201 - for the docs
    assert sum(dropped.values()) > 50
    # Those of the other scripts are lost one by one, in
    # tests/protocol/test_lost_replies.py.
    assert DEPTH < 8 or called <= dropped.keys()
