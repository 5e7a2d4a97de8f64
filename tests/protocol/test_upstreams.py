"""Upstreams: who may call is decided where tasks are handed out."""

import pytest

from taskflow import CircuitBreaker, RateLimit, Upstream
from taskflow._protocol import upstreams
from taskflow._protocol.actions import cancel, delete, pause
from taskflow._protocol.dead_letters import requeue
from taskflow._protocol.inspect import get
from taskflow._protocol.queue_status import status as queue_status
from taskflow._protocol.record import CallReport, ErrorFacts
from taskflow._protocol.settle import complete, park, release, retry, settle
from taskflow._protocol.task_events import audit_read
from taskflow._protocol.upkeep import reap
from taskflow._protocol.upstreams import BreakerDefaults, UpstreamStatus
from taskflow.errors import UpstreamNotFoundError
from tests.support.keyspace import LEASE, NOW, SHARE

API = "0 api"
WHY = ErrorFacts("TimeoutError", "late")
RESET = 60_000
DAY = 86_400_000


def declare(
    stage,
    *,
    breaker=CircuitBreaker(),  # noqa: B008
    name="api",
    is_only_named=False,
    recovery_ms=0,
    now_ms=NOW - DAY,
    **limits,
):
    """Make the upstream known; a day ago, so that the bucket is full now."""
    rules = upstreams.pack_rules(
        Upstream(name, breaker=breaker, **limits), BreakerDefaults()
    )
    return stage.send(
        upstreams.declare(
            stage.keys,
            name,
            rules,
            is_only_named=is_only_named,
            recovery_ms=recovery_ms,
            now_ms=now_ms,
        )
    )


def look(stage, name="api", now_ms=NOW) -> UpstreamStatus:
    """Read how the upstream stands."""
    (found,) = stage.send(upstreams.status(stage.keys, name, now_ms=now_ms))
    return found


def steer(stage, verb, name="api", now_ms=NOW, **options):
    """Open, close or reset it."""
    return stage.send(
        upstreams.set_upstream(stage.keys, name, verb, now_ms=now_ms, **options)
    )


def end(stage, claims, verdict="success", *, now_ms=NOW, reason="", wait_ms=0):
    """Settle *claims* as completed or retried, with a verdict."""
    outcomes = []
    for each in claims:
        report = CallReport(each.upstream, each.epoch, verdict, reason, wait_ms)
        if verdict == "success":
            outcome = complete(each, b"1")
        elif verdict == "failure" and not each.is_probe:
            outcome = retry(each, WHY, delay=1.0, uses_attempt=True, entry={})
        else:
            outcome = park(each, WHY, entry={})
        outcomes.append(outcome._replace(report=report))
    return stage.send(settle(stage.keys, outcomes, now_ms=now_ms))


def opened(stage, count=10, now_ms=NOW):
    """Let *count* calls fail."""
    stage.enqueue(*[f"bad{at}" for at in range(count)], upstream="1 api", now_ms=now_ms)
    end(stage, stage.claim(count, now_ms=now_ms).claims, "failure", now_ms=now_ms)


def ids(reply) -> list[str]:
    """Give the ids of the claims."""
    return [each.id for each in reply.claims]


def test_a_closed_breaker_lets_tasks_run(stage):
    """The claim says which upstream let the task run."""
    declare(stage)
    stage.enqueue("t1", upstream="1 api")
    (claim,) = stage.claim().claims

    assert ("api", 0, False, 1.0) == claim[10:]


def test_tasks_of_an_upstream_without_rules_wait_until_it_is_declared(stage):
    """The claim names it, so that the worker declares it in its next trip."""
    stage.enqueue("t1", "t2", upstream="1 api")
    stage.enqueue("t3", upstream="1 maps")
    stage.enqueue("other")
    first = stage.claim(5)
    declare(stage, now_ms=NOW)
    second = stage.claim(5)

    assert (["other"], ("api", "maps")) == (ids(first), first.undeclared)
    assert (["t1", "t2"], ()) == (ids(second), second.undeclared)
    assert [] == ids(stage.claim(5))
    assert ("maps",) == stage.claim(5, now_ms=NOW + 1_000).undeclared


def test_parked_tasks_of_an_upstream_that_lost_its_rules_wait_too(stage):
    """As after an eviction of its hash."""
    declare(stage, concurrency=1)
    stage.enqueue("t1", "t2", upstream="1 api")
    (first,) = stage.claim(5).claims
    stage.client.delete("upstream:api")
    end(stage, [first])
    reply = stage.claim(5)

    assert ([], ("api",)) == (ids(reply), reply.undeclared)
    declare(stage, concurrency=1, now_ms=NOW)
    assert ["t2"] == ids(stage.claim(5))


def test_a_limit_that_is_new_begins_with_an_empty_bucket(stage):
    """The server may have forgotten the calls before it: no burst on top of them."""
    declare(stage, rate_limit=RateLimit(10, per=10.0, burst=3), now_ms=NOW)
    stage.enqueue("t1", "t2", "t3", upstream="1 api")
    reply = stage.claim(5)

    assert ([], NOW + 1_000) == (ids(reply), reply.next_due_ms)
    assert ["t1"] == ids(stage.claim(5, now_ms=NOW + 1_000))
    assert ["t2", "t3"] == ids(stage.claim(5, now_ms=NOW + 3_000))


@pytest.mark.parametrize("lost", [False, True])
def test_no_window_has_more_calls_than_the_limit_when_data_is_lost(stage, lost):
    """Whenever it is lost, and whoever declares the upstream then."""
    began: list[int] = []
    declare(stage, rate_limit=RateLimit(10, per=1.0, burst=2))
    for at in range(0, 4_000, 50):
        if lost and at in {500, 1_900}:
            stage.client.flushdb()
        stage.enqueue(f"t{at}a", f"t{at}b", upstream="1 api", now_ms=NOW + at)
        reply = stage.claim(5, now_ms=NOW + at)
        if reply.undeclared:
            declare(stage, rate_limit=RateLimit(10, per=1.0, burst=2), now_ms=NOW + at)
            reply = stage.claim(5, now_ms=NOW + at)
        began += [at] * len(reply.claims)

    assert 35 <= len(began) <= 42
    for place, first in enumerate(began):
        for count, last in enumerate(began[place:], start=1):
            assert count <= 2 + (last - first) / 100 + 0.01


@pytest.mark.parametrize("concurrency", [None, 3])
def test_rules_that_leave_the_limit_as_it_is_leave_its_debt(stage, concurrency):
    """A heavy call is paid for, whatever else a deploy changes."""
    limit = RateLimit(10, per=10.0, burst=5)
    declare(stage, rate_limit=limit)
    stage.enqueue("heavy", upstream="8 api")
    stage.enqueue("light", upstream="1 api")
    assert ["heavy"] == ids(stage.claim(5))
    declare(stage, rate_limit=limit, concurrency=concurrency, now_ms=NOW)

    assert "recovery_ms" not in stage.dump()["upstream:api"]
    assert [] == ids(stage.claim(5, now_ms=NOW + 3_999))
    assert ["light"] == ids(stage.claim(5, now_ms=NOW + 4_000))


def test_running_calls_get_their_permits_back_before_another_begins(stage):
    """After a loss of data, by the worker that declares the upstream again."""
    declare(stage, concurrency=2)
    enter(stage, "guard:1")
    enter(stage, "guard:2")
    stage.client.flushdb()
    stage.enqueue("t1", "t2", upstream="1 api")
    assert ("api",) == stage.claim(5).undeclared
    declare(stage, concurrency=2, recovery_ms=5_000, now_ms=NOW)
    during = stage.claim(5, now_ms=NOW + 10)
    words = [
        enter(stage, ticket, permit="renewed", now_ms=NOW + 4_999).word
        for ticket in ("guard:1", "guard:2")
    ]
    full = stage.claim(5, now_ms=NOW + 5_000)
    leave(stage, "guard:1", "neutral", now_ms=NOW + 6_000)

    assert ([], NOW + 5_000) == (ids(during), during.next_due_ms)
    assert ["IN", "IN"] == words
    assert [] == ids(full)
    assert ["t1"] == ids(stage.claim(5, now_ms=NOW + 6_000))


def test_a_declaration_wakes_a_worker_for_what_was_parked(stage):
    """Only then is there something to claim."""
    stage.enqueue("t1", upstream="1 api")
    stage.claim()
    stage.client.delete("tasks:marker")
    declare(stage, name="maps", now_ms=NOW)
    assert "tasks:marker" not in stage.dump()
    declare(stage, now_ms=NOW)

    assert {"work": 0} == stage.dump()["tasks:marker"]
    assert {"api": NOW} == stage.dump()["tasks:parked"]


def test_a_recovery_holds_up_no_upstream_without_a_limit_on_concurrency(stage):
    """A rate limit holds by itself, and without any limit there is nothing to hold."""
    declare(stage, recovery_ms=5_000, now_ms=NOW)
    limit = RateLimit(10, per=1.0)
    declare(stage, name="maps", rate_limit=limit, recovery_ms=5_000, now_ms=NOW)

    assert None is look(stage).tapped_until
    assert None is look(stage, "maps").tapped_until
    assert "tat" not in stage.dump()["upstream:api"]


def test_a_permit_that_is_lost_otherwise_is_not_given_back(stage):
    """It lapsed, or an operator reset the upstream."""
    declare(stage, concurrency=1)

    assert "WAIT" == enter(stage, "guard:1", permit="renewed").word


def test_a_second_worker_recovers_what_a_new_one_declared(stage):
    """Its calls still run, though a worker that just started knew nothing of them."""
    declare(stage, concurrency=2, now_ms=NOW)
    declare(stage, concurrency=2, recovery_ms=5_000, now_ms=NOW)
    word = enter(stage, "guard:1", permit="renewed").word
    stage.enqueue("t1", "t2", upstream="1 api")

    assert ("IN", ["t1"]) == (word, ids(stage.claim(5)))


def test_defaults_admit_nothing_until_the_recovery_is_over(stage):
    """A worker that only names the upstream leaves others time to declare it."""
    stage.enqueue("t1", "t2", upstream="1 api")
    stage.claim(5)
    declare(stage, is_only_named=True, recovery_ms=5_000, now_ms=NOW)
    early = stage.claim(5, now_ms=NOW + 4_999)
    declare(stage, concurrency=1, now_ms=NOW + 4_999)

    assert ([], NOW + 5_000) == (ids(early), early.next_due_ms)
    assert ["t1"] == ids(stage.claim(5, now_ms=NOW + 5_000))


def test_a_guard_that_knew_the_upstream_waits_for_the_others(stage):
    """It finds no rules, so the data is lost; one that is new enters at once."""
    known = enter(stage, "guard:1", recovery_ms=5_000)
    again = enter(stage, "guard:1", recovery_ms=5_000, now_ms=NOW + 5_000)
    stage.client.flushdb()

    assert ("WAIT", 5.0, "IN") == (known.word, known.wait, again.word)
    assert "IN" == enter(stage, "guard:2").word


def test_who_only_names_an_upstream_leaves_its_rules(stage):
    """A worker that has no declaration has defaults, and others know better."""
    new = [
        declare(stage, is_only_named=True),
        declare(stage, concurrency=3),
        declare(stage, is_only_named=True),
    ]

    assert ([True, True, False], 3) == (new, look(stage).concurrency)


def test_failures_open_the_breaker(stage):
    """Ten of ten failed: no more task of it starts, others go on."""
    declare(stage)
    opened(stage)
    stage.enqueue("t1", "t2", upstream="1 api")
    stage.enqueue("other")

    assert ["other"] == ids(stage.claim(5))
    found = look(stage)
    assert ("open", "failures", "10 of 10 calls failed") == (
        found.state,
        found.shut_by,
        found.reason,
    )
    assert {"primary": 2, "retry": 0, "suspects": 0} == found.parked


def test_parked_tasks_used_nothing(stage):
    """They are PENDING, and counted as parked."""
    declare(stage)
    opened(stage)
    stage.enqueue("t1", upstream="1 api")
    stage.claim(5)
    record = stage.dump()["task:t1"]
    counts = stage.send(queue_status(stage.keys, SHARE, now_ms=NOW))

    assert ("PENDING", None) == (record["state"], record.get("attempts"))
    assert (1, 0) == (counts.parked, counts.primary)
    assert counts.states["PENDING"] == 1


def test_too_few_calls_do_not_open_it(stage):
    """Nine failures of nine are below the volume."""
    declare(stage)
    opened(stage, 9)

    assert "closed" == look(stage).state


def test_a_rate_below_the_threshold_does_not_open_it(stage):
    """Nine of twenty failed."""
    declare(stage)
    stage.enqueue(*[f"g{at}" for at in range(20)], upstream="1 api")
    claims = stage.claim(20).claims
    end(stage, claims[:11])
    end(stage, claims[11:], "failure")
    found = look(stage)

    assert ("closed", 9, 20) == (found.state, found.failures, found.calls)


def test_calls_before_the_window_are_forgotten(stage):
    """Five failures a minute ago and five now are not ten."""
    declare(stage)
    opened(stage, 5)
    later = NOW + 64_000
    stage.enqueue(*[f"g{at}" for at in range(5)], upstream="1 api", now_ms=later)
    claims = list(stage.claim(20, now_ms=later).claims)
    end(
        stage,
        [each for each in claims if each.id.startswith("g")],
        "failure",
        now_ms=later,
    )

    assert ("closed", 5) == (
        look(stage, now_ms=later).state,
        look(stage, now_ms=later).calls,
    )


def test_consecutive_failures_open_it_when_asked_to(stage):
    """Three in a row, and no success between."""
    declare(stage, breaker=CircuitBreaker(consecutive=3))
    stage.enqueue(*[f"g{at}" for at in range(6)], upstream="1 api")
    claims = stage.claim(6).claims
    end(stage, claims[:2], "failure")
    end(stage, claims[2:3])
    end(stage, claims[3:5], "failure")
    assert "closed" == look(stage).state
    end(stage, claims[5:], "failure")

    assert ("open", "3 calls in a row failed") == (
        look(stage).state,
        look(stage).reason,
    )


def test_after_the_reset_timeout_one_task_tries(stage):
    """Exactly one, however many claim."""
    declare(stage)
    opened(stage)
    stage.enqueue("t1", "t2", "t3", upstream="1 api")
    assert [] == ids(stage.claim(5))
    early = stage.claim(5, now_ms=NOW + 1_001 - 1_001)
    assert NOW + 1_000 == early.next_due_ms
    (probe,) = stage.claim(50, now_ms=NOW + RESET).claims

    assert probe.is_probe
    assert [] == ids(stage.claim(50, now_ms=NOW + RESET, worker="v"))
    assert "half-open" == look(stage, now_ms=NOW + RESET).state


def test_a_probe_that_succeeds_closes_it(stage):
    """The parked come back, slowly at first, in their order."""
    declare(stage)
    opened(stage)
    names = [f"t{at:02}" for at in range(40)]
    stage.enqueue(*names, upstream="1 api")
    stage.claim(99)
    stage.client.delete("tasks:scheduled")
    probe = stage.claim(50, now_ms=NOW + RESET).claims
    end(stage, probe, now_ms=NOW + RESET)
    first = ids(stage.claim(50, now_ms=NOW + RESET))
    second = ids(stage.claim(50, now_ms=NOW + RESET + 1_000))
    third = ids(stage.claim(50, now_ms=NOW + RESET + 2_000))

    assert "closed" == look(stage).state
    assert names == ids_of(probe) + first + second + third
    assert (1, 14, 24) == (len(first), len(second), len(third))


def ids_of(claims) -> list[str]:
    """Give the ids of *claims*."""
    return [each.id for each in claims]


def test_a_probe_that_fails_opens_it_for_longer(stage):
    """No attempt is used, and another tries next; twice as long, then capped."""
    declare(stage)
    opened(stage)
    stage.enqueue("t1", "t2", upstream="1 api")
    stage.claim(5)
    stage.client.delete("tasks:scheduled")
    now, waits = NOW + RESET, []
    for name in ("t1", "t2", "t1", "t2", "t1"):
        (probe,) = stage.claim(5, now_ms=now).claims
        assert name == probe.id
        end(stage, [probe], "failure", now_ms=now)
        found = look(stage, now_ms=now)
        until = round(found.retry_at.timestamp() * 1000)
        waits.append(until - now)
        now = until

    assert [120_000, 240_000, 300_000, 300_000, 300_000] == waits
    assert None is stage.dump()["task:t1"].get("attempts")


@pytest.mark.parametrize("how", ["settle", "reap", "delete", "release"])
def test_a_probe_that_says_nothing_frees_its_place(stage, how):
    """Neutral, dead, deleted or handed back: another may try."""
    declare(stage)
    opened(stage)
    stage.enqueue("t1", "t2", upstream="1 api")
    stage.claim(5)
    stage.client.delete("tasks:scheduled")
    now = NOW + RESET
    (probe,) = stage.claim(5, now_ms=now).claims
    if how == "settle":
        stage.send(settle(stage.keys, [complete(probe, b"1")], now_ms=now))
    elif how == "release":
        stage.send(settle(stage.keys, [release(probe)], now_ms=now))
    elif how == "delete":
        stage.send(delete(stage.keys, probe.id, force=True, now_ms=now))
    else:
        now += LEASE + 1
        stage.send(reap(stage.keys, max_crashes=3, now_ms=now))
    (other,) = stage.claim(5, now_ms=now).claims

    assert other.is_probe
    assert ("t1" if how == "release" else "t2") == other.id


def test_what_began_before_the_breaker_opened_is_not_heard(stage):
    """Late failures of the old epoch neither open it again nor close it."""
    declare(stage)
    stage.enqueue(*[f"old{at}" for at in range(20)], upstream="1 api")
    claims = stage.claim(20).claims
    end(stage, claims[:10], "failure")
    epoch = look(stage).epoch
    end(stage, claims[10:15], "failure")
    end(stage, claims[15:], "success")
    found = look(stage)

    assert ("open", epoch, 0) == (found.state, found.epoch, found.calls)


def test_a_settle_sent_again_is_heard_once(stage):
    """A lost reply does not make two calls of one."""
    declare(stage)
    stage.enqueue("t1", upstream="1 api")
    claims = stage.claim().claims
    end(stage, claims)
    end(stage, claims)

    assert 1 == look(stage).calls


def test_a_claim_sent_again_says_when_parked_tasks_may_go_on(stage):
    """Whoever lost the first answer must not doze through their time."""
    declare(stage)
    stage.enqueue("t1", "t2", "t3", upstream="1 api")
    (first,) = stage.claim().claims
    end(stage, [first], "tap", reason="429", wait_ms=3_000)
    stage.claim(5)  # parks what is left
    stage.enqueue("other")
    replies = [stage.claim(5, nonce="1-9") for _ in range(2)]

    assert [["other"], ["other"]] == [ids(each) for each in replies]
    assert [NOW + 3_000] * 2 == [each.next_due_ms for each in replies]


def test_too_many_requests_close_the_tap(stage):
    """Until the Retry-After is over; the task keeps its place and its attempts."""
    declare(stage)
    stage.enqueue("t1", "t2", "t3", upstream="1 api")
    (first,) = stage.claim().claims
    end(stage, [first], "tap", reason="429", wait_ms=3_000)
    found = look(stage)
    reply = stage.claim(5, now_ms=NOW + 2_999)

    assert ("closed", "429", 0) == (found.state, found.tap_reason, found.calls)
    assert ([], NOW + 3_000) == (ids(reply), reply.next_due_ms)
    assert ["t1"] == ids(stage.claim(5, now_ms=NOW + 3_000))


def test_a_refused_key_shuts_it_with_a_reason(stage):
    """One task tries after a while, and until then none."""
    declare(stage)
    stage.enqueue("t1", "t2", upstream="1 api")
    end(stage, stage.claim().claims, "refused", reason="the key", wait_ms=300_000)
    found = look(stage)

    assert ("open", "refused", "the key") == (found.state, found.shut_by, found.reason)
    assert [] == ids(stage.claim(5, now_ms=NOW + 299_999))
    assert [True] == [e.is_probe for e in stage.claim(5, now_ms=NOW + 300_000).claims]


def test_a_person_opens_and_closes_it(stage):
    """Held open it does not try by itself; closed, all goes on."""
    declare(stage)
    stage.enqueue("t1", upstream="1 api")
    steer(stage, "open", reason="they asked us")
    day = NOW + 86_400_000

    assert [] == ids(stage.claim(5, now_ms=day))
    assert ("open", "person", "they asked us") == (
        look(stage).state,
        look(stage).shut_by,
        look(stage).reason,
    )
    assert steer(stage, "close", now_ms=day)
    assert not steer(stage, "close", now_ms=day)
    assert ["t1"] == ids(stage.claim(5, now_ms=day))


def test_a_person_may_open_it_for_a_time(stage):
    """Then one task tries."""
    declare(stage)
    stage.enqueue("t1", "t2", upstream="1 api")
    steer(stage, "open", expires_ms=5_000)

    assert [] == ids(stage.claim(5, now_ms=NOW + 4_999))
    assert ["t1"] == ids(stage.claim(5, now_ms=NOW + 5_000))


def test_a_reset_forgets_what_was_counted(stage):
    """Window, bucket and openings are as new."""
    declare(stage, rate_limit=RateLimit(10, per=10.0, burst=10))
    opened(stage)
    steer(stage, "reset")
    found = look(stage)

    assert ("closed", 0, 10.0) == (found.state, found.calls, found.tokens)


def test_a_reset_frees_every_permit(stage):
    """Also those of calls that nobody will end: it is a person's way out."""
    declare(stage, concurrency=1)
    stage.enqueue("t1", "t2", upstream="1 api")
    stage.claim(5)
    assert [] == ids(stage.claim(5))
    steer(stage, "reset")

    assert ["t2"] == ids(stage.claim(5))


def test_a_refusal_of_an_old_call_shuts_nothing(stage):
    """Its key may have been changed since: a person has closed it after that."""
    declare(stage)
    stage.enqueue("t1", upstream="1 api")
    (before,) = stage.claim(5).claims
    steer(stage, "open")
    steer(stage, "close")
    end(stage, [before], "refused", reason="wrong key", wait_ms=RESET)

    assert "closed" == look(stage).state


def test_an_unknown_upstream_cannot_be_steered(stage):
    """A typing mistake is no hold on nothing."""
    with pytest.raises(UpstreamNotFoundError, match="apo"):
        steer(stage, "open", name="apo")


def test_a_worker_is_woken_when_an_open_upstream_may_be_tried_again(stage):
    """At that time, and not before: what is parked waits for nothing else."""
    declare(stage)
    stage.enqueue("t1", upstream="1 api")
    steer(stage, "open")
    assert [] == ids(stage.claim(5))
    stage.client.delete("tasks:marker")
    steer(stage, "open", expires_ms=5_000)

    assert {"due": NOW + 5_000} == stage.dump()["tasks:marker"]


def test_a_task_can_be_held_back_by_its_name(stage):
    """The upstream task:NAME is open: tasks of that name wait, others do not."""
    stage.enqueue("t1", "t2")
    steer(stage, "open", name="task:f")
    assert [] == ids(stage.claim(5))
    assert 2 == look(stage, "task:f").parked["primary"]
    steer(stage, "close", name="task:f")

    assert ["t1"] == ids(stage.claim(5))
    assert ["t2"] == ids(stage.claim(5, now_ms=NOW + 500))


@pytest.mark.parametrize("weight", ["1", "3"])
def test_the_rate_is_a_token_bucket(stage, weight):
    """Burst first, then one as tokens come back; the rest is parked in order."""
    declare(stage, rate_limit=RateLimit(10, per=10.0, burst=6))
    names = [f"t{at}" for at in range(12)]
    stage.enqueue(*names, upstream=f"{weight} api")
    size = int(weight)
    burst = stage.claim(50)

    assert names[: 6 // size] == ids(burst)
    assert NOW + size * 1_000 == burst.next_due_ms
    assert [] == ids(stage.claim(50, now_ms=NOW + size * 1_000 - 1))
    assert names[6 // size : 6 // size + 1] == ids(
        stage.claim(50, now_ms=NOW + size * 1_000)
    )


def test_a_call_heavier_than_the_bucket_waits_for_a_full_one(stage):
    """It leaves the bucket in debt."""
    declare(stage, rate_limit=RateLimit(10, per=10.0, burst=5))
    stage.enqueue("heavy", upstream="8 api")
    stage.enqueue("light", upstream="1 api")

    assert ["heavy"] == ids(stage.claim(5))
    assert [] == ids(stage.claim(5, now_ms=NOW + 3_999))
    assert ["light"] == ids(stage.claim(5, now_ms=NOW + 4_000))


def test_calls_of_different_weight_share_the_bucket(stage):
    """What the lighter ones leave is what the heavier ones find, within one claim."""
    declare(stage, rate_limit=RateLimit(10, per=10.0, burst=10))
    for at in range(4):
        stage.enqueue(f"a{at}", f"b{at}", upstream="1 api")
        stage.enqueue(f"c{at}", upstream="3 api")
    claimed = ids(stage.claim(50))

    assert ["a0", "b0", "c0", "a1", "b1", "c1"] == claimed
    assert 0.0 == look(stage).tokens


def test_a_weightless_task_needs_no_token(stage):
    """It is let run while the upstream is not shut."""
    declare(stage, rate_limit=RateLimit(1, per=1000.0, burst=1))
    stage.enqueue("t1", "t2", upstream=API)

    assert ["t1", "t2"] == ids(stage.claim(5))


@pytest.mark.parametrize("how", ["settle", "reap", "delete", "release"])
def test_no_more_than_the_concurrency_run(stage, how):
    """Each that ends, or dies, lets another begin."""
    declare(stage, concurrency=2)
    names = [f"t{at}" for at in range(5)]
    stage.enqueue(*names, upstream="1 api")
    first, _ = stage.claim(50).claims
    assert [] == ids(stage.claim(50))
    assert 2 == look(stage).running
    now = NOW
    if how == "settle":
        stage.send(settle(stage.keys, [complete(first, b"1")], now_ms=now))
    elif how == "release":
        stage.send(settle(stage.keys, [release(first)], now_ms=now))
    elif how == "delete":
        stage.send(delete(stage.keys, first.id, force=True, now_ms=now))
    else:
        now += LEASE + 1
        stage.send(reap(stage.keys, max_crashes=3, now_ms=now))
    claimed = ids(stage.claim(50, now_ms=now))

    assert {"release": ["t0"], "reap": ["t2", "t3"]}.get(how, ["t2"]) == claimed


def test_a_permit_whose_task_is_gone_frees_itself(stage):
    """Even if a record went by a way that told nobody."""
    declare(stage, concurrency=1)
    stage.enqueue("t1", "t2", upstream="1 api")
    stage.claim(5)
    stage.client.delete("task:t1")

    assert [] == ids(stage.claim(5, now_ms=NOW + LEASE - 1))
    assert ["t2"] == ids(stage.claim(5, now_ms=NOW + LEASE))


def test_a_permit_holds_for_as_long_as_its_task_runs(stage):
    """Nobody has to renew it."""
    declare(stage, concurrency=1)
    stage.enqueue("t1", "t2", upstream="1 api")
    stage.claim(5)

    assert [] == ids(stage.claim(5, now_ms=NOW + 10 * LEASE))
    assert 1 == look(stage).running


def test_a_parked_task_can_be_cancelled_and_brought_back(stage):
    """Its place in the line is kept, once."""
    declare(stage)
    stage.enqueue("t1", "t2", upstream="1 api")
    steer(stage, "open")
    stage.claim(5)
    stage.send(cancel(stage.keys, "t1", now_ms=NOW))
    assert 1 == look(stage).parked["primary"]
    stage.send(requeue(stage.keys, ["t1"], nonce="n", now_ms=NOW))
    assert 2 == look(stage).parked["primary"]
    stage.send(cancel(stage.keys, "t2", now_ms=NOW))
    steer(stage, "reset")
    later = NOW + 5_000

    assert ["t1"] == ids(stage.claim(5, now_ms=later))
    assert {} == {
        key: value for key, value in stage.dump().items() if "tombstones" in key
    }


def test_new_tasks_wait_behind_the_parked(stage):
    """Order is kept while something is parked, and new ones go there at once."""
    declare(stage, concurrency=1)
    stage.enqueue("t1", "t2", upstream="1 api")
    (running,) = stage.claim(5).claims
    stage.enqueue("t3", upstream="1 api")
    assert 2 == look(stage).parked["primary"]
    stage.send(settle(stage.keys, [complete(running, b"1")], now_ms=NOW))

    assert ["t2"] == ids(stage.claim(5))


def test_parked_and_other_tasks_take_turns(stage):
    """A million parked ones do not keep the others of their lane waiting."""
    declare(stage)
    stage.enqueue(*[f"p{at}" for at in range(50)], upstream="1 api")
    steer(stage, "open")
    stage.claim(100)
    steer(stage, "close", now_ms=NOW)
    later = NOW + 20_000
    stage.enqueue(*[f"o{at}" for at in range(50)], now_ms=later)
    claimed = ids(stage.claim(20, now_ms=later))

    assert 10 == sum(each.startswith("p") for each in claimed)


def test_time_that_a_task_was_parked_does_not_make_it_older(stage):
    """So that an outage longer than the longest age kills nothing."""
    declare(stage)
    stage.enqueue("t1", upstream="1 api")
    steer(stage, "open")
    stage.claim(5, now_ms=NOW + 10)
    steer(stage, "close")
    (claim,) = stage.claim(5, now_ms=NOW + 99_000_000).claims

    assert 0 == claim.age_ms


def test_guards_share_the_limits_of_tasks(stage):
    """A call that enters takes a permit; the task waits for it."""
    declare(stage, concurrency=1)
    entered = enter(stage, "guard:1")
    again = enter(stage, "guard:1")
    stage.enqueue("t1", upstream="1 api")

    assert ("IN", "IN") == (entered.word, again.word)
    assert "WAIT" == enter(stage, "guard:2").word
    assert [] == ids(stage.claim(5))
    leave(stage, "guard:1", "success")
    assert ["t1"] == ids(stage.claim(5))
    assert 1 == look(stage).calls


def enter(stage, ticket, *, now_ms=NOW, permit="own", weight=1, recovery_ms=0):
    """Ask for leave to call."""
    return stage.send(
        upstreams.acquire_permit(
            stage.keys,
            "api",
            ticket=ticket,
            weight=weight,
            lease_ms=LEASE,
            permit=permit,
            rules=upstreams.pack_rules(Upstream("api"), BreakerDefaults()),
            recovery_ms=recovery_ms,
            now_ms=now_ms,
        )
    )


def leave(stage, ticket, verdict, *, now_ms=NOW, epoch=0, **details):
    """Report how a call ended."""
    return stage.send(
        upstreams.release_permit(
            stage.keys,
            "api",
            ticket=ticket,
            epoch=epoch,
            outcome=verdict,
            now_ms=now_ms,
            **details,
        )
    )


def test_a_guards_permit_holds_for_a_lease_from_its_last_renewal(stage):
    """A call that takes long keeps it; that of a killed process is free again."""
    declare(stage, concurrency=1)
    enter(stage, "guard:1")
    later = NOW + LEASE - 1
    renewed = enter(stage, "guard:1", permit="renewed", now_ms=later)
    held = enter(stage, "guard:2", now_ms=later + LEASE - 1)
    free = enter(stage, "guard:2", now_ms=later + LEASE)

    assert ("IN", "WAIT", "IN") == (renewed.word, held.word, free.word)


def test_a_renewal_takes_no_permit_that_was_lost(stage):
    """One that comes late, or after the call's end, holds nothing."""
    declare(stage, concurrency=1)
    enter(stage, "guard:1")
    leave(stage, "guard:1", "success")
    late = enter(stage, "guard:1", permit="renewed")

    assert ("WAIT", 0) == (late.word, look(stage).running)


def test_an_upstream_that_a_guard_is_the_first_to_name_is_listed(stage):
    """Nobody has declared it, and a person can see and steer it all the same."""
    assert "IN" == enter(stage, "guard:1").word

    assert {"api"} == stage.dump()["tasks:upstreams"]


def test_a_guard_that_leaves_wakes_a_worker_for_what_is_parked(stage):
    """Once: where it was to look already, it needs no other word."""
    declare(stage, concurrency=1)
    enter(stage, "guard:1")
    stage.enqueue("t1", upstream="1 api")
    assert [] == ids(stage.claim())
    stage.client.delete("tasks:marker")
    leave(stage, "guard:1", "success", now_ms=NOW + 1)
    woken = stage.dump().get("tasks:marker")
    assert ["t1"] == ids(stage.claim(now_ms=NOW + 1))

    enter(stage, "guard:2", now_ms=NOW + 2)
    stage.client.delete("tasks:marker")
    leave(stage, "guard:2", "success", now_ms=NOW + 3)
    assert ({"work": 0}, None) == (woken, stage.dump().get("tasks:marker"))


def test_a_guards_permit_is_not_kept_by_a_task_that_runs_again(stage):
    """Else the calls of its second run would wait for those of its first, for ever."""
    declare(stage, concurrency=1)
    stage.enqueue("t1")
    stage.claim()
    enter(stage, "guard:t1:old")

    assert "IN" == enter(stage, "guard:t1:new", now_ms=NOW + LEASE).word


def test_failing_guards_open_the_breaker(stage):
    """Calls in bodies count as tasks do."""
    declare(stage)
    for at in range(10):
        enter(stage, f"guard:{at}")
        reply = leave(stage, f"guard:{at}", "failure")

    assert ("open", 60.0) == (reply.state, reply.retry)
    refused = enter(stage, "guard:x")
    assert ("SHUT", 60.0, "10 of 10 calls failed") == (
        refused.word,
        refused.wait,
        refused.reason,
    )


def test_a_guard_report_sent_again_is_heard_once(stage):
    """Its ticket is gone."""
    declare(stage)
    enter(stage, "guard:1")
    leave(stage, "guard:1", "failure")
    leave(stage, "guard:1", "failure")

    assert 1 == look(stage).calls


def test_rules_that_change_are_in_force_at_once(stage):
    """A limit does not live on in the bucket that it left."""
    declare(stage, rate_limit=RateLimit(1, per=100.0, burst=1))
    stage.enqueue("t1", "t2", "t3", upstream="1 api")
    assert ["t1"] == ids(stage.claim(5))
    declare(stage, rate_limit=RateLimit(1000, per=1.0, burst=1000))

    found = look(stage)
    assert (1000, 1.0) == (found.limit, found.per)
    steer(stage, "reset")
    assert ["t2"] == ids(stage.claim(5))


def test_what_is_parked_for_nothing_does_not_go_round_and_round(stage):
    """A run that was refused by a closed upstream waits a second at least."""
    declare(stage)
    stage.enqueue("t1", upstream="1 api")
    (claim,) = stage.claim().claims
    stage.send(settle(stage.keys, [park(claim, WHY, entry={})], now_ms=NOW))
    assert NOW + 1_000 == stage.dump()["tasks:marker"]["due"]
    assert "TimeoutError" in stage.dump()["task:t1"]["error"]
    reply = stage.claim(5, now_ms=NOW + 999)

    assert ([], NOW + 1_000) == (ids(reply), reply.next_due_ms)
    assert ["t1"] == ids(stage.claim(5, now_ms=NOW + 1_000))


def test_a_task_says_for_what_it_is_parked(stage):
    """And what it needs at any time."""
    declare(stage)
    stage.enqueue("t1", upstream="1 api")
    steer(stage, "open")
    stage.claim(5)
    parked = stage.send(get(stage.keys, "t1", now_ms=NOW))
    steer(stage, "close")
    stage.claim(5)
    running = stage.send(get(stage.keys, "t1", now_ms=NOW))

    assert ("api", "api") == (parked.upstream, parked.parked_for)
    assert ("api", "") == (running.upstream, running.parked_for)


def test_permits_of_guards_that_died_do_not_gather(stage):
    """Where nobody counts them they are removed after an hour."""
    declare(stage)
    enter(stage, "guard:-:1")
    enter(stage, "guard:-:2", now_ms=NOW + 3_600_000 + LEASE + 1)

    assert 1 == look(stage).running


def test_a_thousand_races_for_the_probe_have_one_winner_each(stage):
    """Whoever claims, and guards too: one, never none, never two."""
    declare(stage)
    opened(stage)
    stage.client.delete("tasks:scheduled")
    stage.enqueue(*[f"t{at}" for at in range(40)], upstream="1 api")
    now = NOW
    for trial in range(1_000 // 4):
        now += 400_000
        winners = []
        for racer in range(4):
            winners += stage.claim(9, now_ms=now, worker=f"w{racer}").claims
            if enter(stage, f"guard:-:{trial}-{racer}", now_ms=now).word == "IN":
                winners.append(None)
        assert 1 == len(winners)
        end(stage, winners, "failure", now_ms=now)


@pytest.mark.parametrize("broken", ["api", "", "x api", "1  "])
def test_a_need_that_cannot_be_read_is_none(stage, broken):
    """A foreign hand in one record stops no worker, and loses no task."""
    declare(stage)
    stage.enqueue("t1", "t2")
    stage.client.hset("task:t1", "upstream", broken)
    claims = stage.claim(5).claims

    assert ["t1", "t2"] == ids_of(claims)
    stage.send(settle(stage.keys, [park(claims[0], WHY, entry={})], now_ms=NOW))
    stage.send(settle(stage.keys, [release(claims[1])], now_ms=NOW))
    again = stage.claim(5, now_ms=NOW + 2_000)
    assert {"t1", "t2"} == set(ids(again))
    stage.send(delete(stage.keys, "t1", force=True, now_ms=NOW))


@pytest.mark.parametrize("broken", ["", "{", "[]", "null", "[1,2,3]", '["a"]'])
@pytest.mark.parametrize("is_only_named", [False, True])
def test_rules_that_cannot_be_read_are_declared_again(stage, broken, is_only_named):
    """As those that are lost: nothing is handed out without a limit."""
    declare(stage, concurrency=1)
    stage.client.hset("upstream:api", "rules", broken)
    stage.enqueue("t1", "t2", upstream="1 api")
    reply = stage.claim(5)
    declare(stage, concurrency=1, is_only_named=is_only_named, now_ms=NOW)

    assert ([], ("api",)) == (ids(reply), reply.undeclared)
    assert ["t1"] == ids(stage.claim(5))


def test_an_upstream_of_another_type_stops_nobody(stage):
    """It is declared again."""
    declare(stage)
    stage.client.delete("upstream:api")
    stage.client.set("upstream:api", "x")
    assert "closed" == look(stage).state
    stage.enqueue("t1", upstream="1 api")
    assert ("api",) == stage.claim(5).undeclared
    declare(stage)
    claims = stage.claim(5).claims

    assert ["t1"] == ids_of(claims)
    stage.send(settle(stage.keys, [complete(claims[0], b"1")], now_ms=NOW))


def test_a_clock_that_is_set_back_stops_nobody(stage):
    """A bucket that was emptied tomorrow is empty now, and not until then."""
    declare(stage, rate_limit=RateLimit(10, per=10.0, burst=2))
    day = 86_400_000
    stage.enqueue("t1", "t2", upstream="1 api")
    assert ["t1", "t2"] == ids(stage.claim(5, now_ms=NOW + day))
    stage.enqueue("t3", upstream="1 api")

    assert [] == ids(stage.claim(5, now_ms=NOW + 60_000))
    assert ["t3"] == ids(stage.claim(5, now_ms=NOW + 61_000))


@pytest.mark.parametrize("breaker", [CircuitBreaker(probes=1), None])
def test_new_rules_leave_nothing_half_open_for_ever(stage, breaker):
    """Fewer probes than have passed, or no breaker at all: it is closed."""
    declare(stage, breaker=CircuitBreaker(probes=3))
    opened(stage)
    stage.client.delete("tasks:scheduled")
    stage.enqueue("t1", "t2", "t3", "t4", "t5", upstream="1 api")
    now = NOW + RESET
    first, *_ = stage.claim(5, now_ms=now).claims
    end(stage, [first], now_ms=now)
    assert "half-open" == look(stage, now_ms=now).state
    declare(stage, breaker=breaker)

    assert [] != ids(stage.claim(5, now_ms=now + 2_000))
    assert "closed" == look(stage, now_ms=now).state


def test_a_new_rate_keeps_the_tokens_that_were_taken_and_not_the_debt(stage):
    """One a day became a hundred a second: the call that was made is one of those."""
    declare(stage, rate_limit=RateLimit(1, per=86_400.0, burst=1))
    stage.enqueue("t1", "t2", upstream="1 api")
    assert ["t1"] == ids(stage.claim(5))
    declare(stage, rate_limit=RateLimit(100, per=1.0), now_ms=NOW)

    assert 4.0 == look(stage).tokens


def test_a_parked_task_too_heavy_for_now_keeps_its_place(stage):
    """It goes back to the head, with those behind it, and is not lost."""
    declare(stage, rate_limit=RateLimit(10, per=10.0, burst=3))
    for name, weight in (("light", 1), ("heavy", 3), ("last", 1)):
        stage.enqueue(name, upstream=f"{weight} api")
    steer(stage, "open")
    stage.claim(5)
    steer(stage, "close")
    later = NOW + 20_000

    assert ["light"] == ids(stage.claim(5, now_ms=later))
    assert ["heavy", "last"] == stage.dump()["tasks:parked:api:primary"]
    assert ["heavy"] == ids(stage.claim(5, now_ms=later + 1_000))
    assert ["last"] == ids(stage.claim(5, now_ms=later + 2_000))
    assert "tasks:parked" not in stage.dump()


def test_each_call_of_a_claim_pays_its_own_weight(stage):
    """A light one after a heavy one, too."""
    declare(stage, rate_limit=RateLimit(10, per=10.0, burst=8))
    for name, weight in zip("abcdefg", (1, 3, 1, 1, 1, 1, 1), strict=True):
        stage.enqueue(name, upstream=f"{weight} api")

    assert list("abcdef") == ids(stage.claim(9))


def test_slow_start_without_a_rate_keeps_no_debt(stage):
    """What is stored of the bucket is a time, also where there is no bucket."""
    declare(stage)
    steer(stage, "open")
    steer(stage, "close")
    stage.enqueue("t1", "t2", "t3", upstream="1 api")
    assert ["t1", "t2", "t3"] == ids(stage.claim(5, now_ms=NOW + 500))

    assert "0.000" == stage.dump()["upstream:api"]["tat"]


def test_a_crashed_task_is_parked_beside_the_others_of_its_upstream(stage):
    """At the head of the retry lane's, so that it is not lost and not served first."""
    declare(stage, concurrency=1)
    stage.enqueue("t1", "t2", upstream="1 api")
    assert ["t1"] == ids(stage.claim(5))
    late = NOW + LEASE + 1
    stage.send(reap(stage.keys, max_crashes=3, now_ms=late))

    assert ["t1"] == stage.dump()["tasks:parked:api:retry"]
    assert "api" in stage.dump()["task:t1"]["parked"]


def test_a_struck_parked_task_forgets_that_it_was_parked(stage):
    """Its entry is dropped when it is met, and the record says so."""
    declare(stage)
    stage.enqueue("t1", upstream="1 api")
    steer(stage, "open")
    stage.claim(5)
    stage.send(cancel(stage.keys, "t1", now_ms=NOW))
    steer(stage, "close")

    assert [] == ids(stage.claim(5, now_ms=NOW + 20_000))
    assert "parked" not in stage.dump()["task:t1"]


def test_parked_tasks_of_a_paused_lane_are_looked_at_once_a_second(stage):
    """An upstream that would let them run keeps no worker awake."""
    declare(stage)
    stage.enqueue("t1", upstream="1 api")
    steer(stage, "open")
    stage.claim(5)
    steer(stage, "close")
    stage.send(pause(stage.keys, "primary", paused=True, now_ms=NOW))
    later = NOW + 20_000
    stage.client.delete("tasks:marker")

    assert [] == ids(stage.claim(5, now_ms=later))
    assert {"api": later + 1_000} == stage.dump()["tasks:parked"]
    assert "work" not in stage.dump().get("tasks:marker", {})


def test_a_person_who_closes_it_opens_the_tap_too(stage):
    """The wait that a 429 asked for is over then."""
    declare(stage)
    stage.enqueue("t1", "t2", upstream="1 api")
    (first,) = stage.claim(1).claims
    end(stage, [first], "tap", wait_ms=60_000)
    assert [] == ids(stage.claim(5, now_ms=NOW + 1))
    steer(stage, "close", now_ms=NOW + 2)

    assert "tap_ms" not in stage.dump()["upstream:api"]
    assert "t2" in ids(stage.claim(5, now_ms=NOW + 20_000))


def test_a_guards_probe_that_says_nothing_wakes_a_worker(stage):
    """The place is free for a task that waits for it."""
    declare(stage)
    opened(stage)
    stage.enqueue("t1", upstream="1 api", now_ms=NOW)
    stage.claim(5)
    later = NOW + RESET
    guard = enter(stage, "guard:1", now_ms=later)
    assert "IN" == guard.word
    stage.claim(5, now_ms=later)
    stage.client.delete("tasks:marker")
    leave(stage, "guard:1", "neutral", epoch=guard.epoch, now_ms=later)

    assert "work" in stage.dump()["tasks:marker"]
    assert [True] == [each.is_probe for each in stage.claim(5, now_ms=later).claims]


def test_the_audit_log_tells_which_way_it_turned(stage):
    """What opened it, and what closed it again."""
    declare(stage)
    steer(stage, "open", reason="they asked us")
    steer(stage, "close")
    closed, opened_before = stage.send(audit_read(stage.keys))[:2]

    assert ("upstream_closed", "") == (closed.event, closed.facts["reason"])
    assert ("upstream_opened", "they asked us") == (
        opened_before.event,
        opened_before.facts["reason"],
    )


def test_a_refused_settle_says_nothing_of_its_upstream(stage):
    """Only what was accepted is heard, beside others of the same call."""
    declare(stage)
    stage.enqueue("late", upstream="1 api")
    (late,) = stage.claim(1).claims
    stage.send(reap(stage.keys, max_crashes=3, now_ms=NOW + LEASE + 1))
    now = NOW + LEASE + 2
    claims = {each.id: each for each in stage.claim(5, now_ms=now).claims}
    tap = complete(late, b"1")._replace(
        report=CallReport("api", late.epoch, "tap", "429", 60_000)
    )
    good = complete(claims["late"], b"1")._replace(
        report=CallReport("api", claims["late"].epoch, "success", "", 0)
    )

    assert ["STALE", "OK"] == stage.send(settle(stage.keys, [tap, good], now_ms=now))
    assert "tap_ms" not in stage.dump()["upstream:api"]


def test_every_permit_of_a_claim_holds_for_a_lease(stage):
    """The first one's and those that follow at its price."""
    declare(stage, concurrency=5)
    stage.enqueue("t1", "t2", "t3", upstream="1 api")
    stage.claim(5)

    assert (
        dict.fromkeys(("t1", "t2", "t3"), NOW + LEASE)
        == (stage.dump()["upstream:api:permits"])
    )


def test_a_suspect_that_was_parked_is_served(stage):
    """From its own list, once the upstream may be called."""
    declare(stage)
    stage.enqueue("t1", upstream="1 api")
    now = NOW
    for _ in range(2):
        assert ["t1"] == ids(stage.claim(5, now_ms=now))
        now += LEASE + 1
        stage.send(reap(stage.keys, max_crashes=3, now_ms=now))
    steer(stage, "open", now_ms=now)
    assert [] == ids(stage.claim(5, now_ms=now))
    assert ["t1"] == stage.dump()["tasks:parked:api:suspects"]
    steer(stage, "close", now_ms=now)

    assert ["t1"] == ids(stage.claim(5, now_ms=now + 20_000))


def test_an_upstream_that_is_only_named_is_known(stage):
    """People see it among the others, and may steer it."""
    declare(stage, name="named", is_only_named=True)

    assert {"named"} == stage.dump()["tasks:upstreams"]


def test_a_task_brought_back_after_its_upstream_opened_is_parked_no_more(stage):
    """Its entry among the parked is gone, so it goes to the retry lane."""
    declare(stage)
    stage.enqueue("t1", upstream="1 api")
    steer(stage, "open")
    stage.claim(5)
    stage.send(cancel(stage.keys, "t1", now_ms=NOW))
    stage.client.delete("tasks:parked:api:primary", "tasks:tombstones:api:primary")
    stage.send(requeue(stage.keys, ["t1"], nonce="n", now_ms=NOW))

    assert ["t1"] == stage.dump()["tasks:pending:retry"]
    assert "parked" not in stage.dump()["task:t1"]
