"""Upstreams on the server: declare, steer, read; let guarded calls begin and end."""

from datetime import datetime
from functools import partial
from typing import Any, Literal, TypeAlias

from attrs import field, frozen

from taskflow._codec import from_json, to_json
from taskflow._declare.upstream import Upstream
from taskflow._protocol import scripts
from taskflow._protocol.keys import Keys
from taskflow._protocol.lenient import moment, text, whole
from taskflow._protocol.operation import Operation
from taskflow.errors import UpstreamNotFoundError

MOST_UPSTREAMS = 200
"""Upstreams that are listed, about."""

SteerVerb: TypeAlias = Literal["open", "close", "reset"]
EnterWord: TypeAlias = Literal["IN", "SHUT", "WAIT"]
Permit: TypeAlias = Literal["own", "lent", "renewed"]


@frozen
class BreakerDefaults:
    """What a declaration leaves to the settings.

    Attributes:
        failure_rate: ``CIRCUIT_FAILURE_THRESHOLD``.
        min_calls: ``CIRCUIT_VOLUME_THRESHOLD``.
        reset_timeout: ``CIRCUIT_TIMEOUT``, seconds.
    """

    failure_rate: float = 0.5
    min_calls: int = 10
    reset_timeout: float = 60.0


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def pack_rules(upstream: Upstream, defaults: BreakerDefaults) -> bytes:
    """Write what the scripts need to know of *upstream*, as a JSON array.

    Returns:
        Failure rate, least calls, window, reset and longest reset (ms), probes,
        failures in a row, limit, its time (ms), bucket, concurrency; 0 = none.
    """
    rules: list[float] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    breaker, limit = upstream.breaker, upstream.rate_limit
    if breaker is not None:
        reset = breaker.reset_timeout or defaults.reset_timeout
        rules[:7] = [
            breaker.failure_rate or defaults.failure_rate,
            breaker.min_calls or defaults.min_calls,
            _ms(breaker.window),
            _ms(reset),
            _ms(max(reset, breaker.longest_reset or 5 * reset)),
            breaker.probes,
            breaker.consecutive or 0,
        ]
    if limit is not None:
        rules[7:10] = [limit.limit, _ms(limit.per), limit.bucket]
    rules[10] = upstream.concurrency or 0
    return to_json(rules)


@frozen
class UpstreamStatus:
    """How an external service stands, for the whole fleet.

    Attributes:
        name: Of the upstream; ``task:NAME`` for a task that is held back.
        state: ``closed``, ``open`` or ``half-open``.
        shut_by: ``failures``, ``person`` or ``refused`` (our key or credit); empty
            while it is closed.
        reason: For people.
        since: When the state began, or None where it never changed.
        retry_at: When an open one is tried again; None = when a person says so.
        tapped_until: Until when it asked not to be called, or None.
        tap_reason: For people.
        failures: Failed calls in the window.
        calls: Ended calls in the window.
        running: Permits in use: running tasks and guarded calls; counted where the
            concurrency is limited or a guard asked.
        probes: Calls that try it now.
        parked: Tasks that wait for it, by lane: ``primary``, ``retry``,
            ``suspects``.
        tokens: In the bucket; below 0 it is in debt; None without a rate limit.
        limit: Tokens that come back within *per*, or None.
        per: Seconds, or None.
        burst: Tokens that the bucket holds, or None.
        concurrency: Most calls underway, or None.
        failure_rate: Share of failures that opens it, or None without a breaker.
        min_calls: Calls below which it stays closed, or None.
        epoch: Raised at every turn.
    """

    name: str
    state: str
    shut_by: str
    reason: str
    since: datetime | None
    retry_at: datetime | None
    tapped_until: datetime | None
    tap_reason: str
    failures: int
    calls: int
    running: int
    probes: int
    parked: dict[str, int] = field(factory=dict[str, int])
    tokens: float | None = None
    limit: int | None = None
    per: float | None = None
    burst: int | None = None
    concurrency: int | None = None
    failure_rate: float | None = None
    min_calls: int | None = None
    epoch: int = 0

    @property
    def is_admitting(self) -> bool:
        """Whether calls may begin, as far as breaker and tap are concerned."""
        return self.state == "closed" and self.tapped_until is None


_FIELDS = 19
_LANES = ("primary", "retry", "suspects")


def _status(row: list[Any], now_ms: int) -> UpstreamStatus:
    rules: list[float] = from_json(row[1]) if row[1] else [0] * 11
    has_limit, is_shut = bool(rules[7]), row[2] != b"closed"
    retry, tap = int(row[4]), int(row[7])
    is_tapped = tap > now_ms
    return UpstreamStatus(
        name=text(row[0]),
        state=text(row[2]),
        shut_by=text(row[5]) if is_shut else "",
        reason=text(row[6]) if is_shut else "",
        since=moment(row[3]) if whole(row[3]) else None,
        retry_at=moment(retry) if retry and row[2] == b"open" else None,
        tapped_until=moment(tap) if is_tapped else None,
        tap_reason=text(row[8]) if is_tapped else "",
        failures=int(row[9]),
        calls=int(row[10]),
        tokens=float(row[11]) if has_limit else None,
        running=int(row[12]),
        probes=int(row[13]),
        parked=dict(zip(_LANES, map(int, row[14:17]), strict=True)),
        limit=int(rules[7]) if has_limit else None,
        per=rules[8] / 1000 if has_limit else None,
        burst=int(rules[9]) if has_limit else None,
        concurrency=int(rules[10]) or None,
        failure_rate=rules[0] or None,
        min_calls=int(rules[1]) or None,
        epoch=int(row[17]),
    )


def status(
    keys: Keys, name: str = "", *, now_ms: int = 0
) -> Operation[list[UpstreamStatus]]:
    """Describe reading how the upstreams stand; *name* = that one alone.

    Returns:
        An operation whose reply is sorted by name.

    Source:
        ``_protocol/lua/upstreams.lua``; O(u).
    """

    def decode(reply: list[Any]) -> list[UpstreamStatus]:
        now = int(reply[0])
        found = [
            _status(reply[at : at + _FIELDS], now)
            for at in range(1, len(reply), _FIELDS)
        ]
        return sorted(found, key=lambda each: each.name)

    return Operation(
        scripts.load("upstreams"),
        (keys.upstreams,),
        (now_ms, keys.prefix, name),
        decode,
    )


def _set_upstream(
    keys: Keys,
    name: str,
    verb: str,
    detail: str | bytes,
    expires_ms: int,
    now_ms: int,
    *,
    is_first: bool = False,
) -> Operation[bool]:
    return Operation(
        scripts.load("set_upstream"),
        (keys.upstreams, keys.lanes, keys.held),
        (now_ms, keys.prefix, name, verb, detail, expires_ms, int(is_first)),
        partial(_was_set, name=name),
    )


def _was_set(reply: int, *, name: str) -> bool:
    if reply < 0:
        raise UpstreamNotFoundError(name)
    return reply == 1


def declare(
    keys: Keys,
    name: str,
    rules: bytes,
    *,
    is_only_named: bool = False,
    recovery_ms: int = 0,
    is_first: bool = False,
    now_ms: int = 0,
) -> Operation[bool]:
    """Describe making an upstream known, or putting new rules in the place of old.

    Its state stays as it is. A new rate limit begins with an empty bucket.

    Args:
        keys: Of the prefix in use.
        name: Of the upstream.
        rules: As `pack_rules` packs them.
        is_only_named: Whether these rules are mere defaults: those of a worker that
            declares it stay.
        recovery_ms: For which running calls may report the permits that the server
            has lost with its data; 0 = it has lost none. Where it has lost the
            rules too and they limit the concurrency, or are defaults, no call begins
            meanwhile.
        is_first: Whether no call can have been before, as in a test: the bucket of
            a new limit is full.
        now_ms: Time to use instead of the server's, in ms; 0 = the server's.

    Returns:
        An operation whose reply is True when the rules are new.

    Source:
        ``_protocol/lua/set_upstream.lua``; O(1).
    """
    verb = "name" if is_only_named else "declare"
    return _set_upstream(
        keys, name, verb, rules, recovery_ms, now_ms, is_first=is_first
    )


def set_upstream(
    keys: Keys,
    name: str,
    verb: SteerVerb,
    *,
    reason: str = "",
    expires_ms: int = 0,
    now_ms: int = 0,
) -> Operation[bool]:
    """Describe opening, closing or resetting an upstream for the whole fleet.

    Args:
        keys: Of the prefix in use.
        name: Of the upstream, or ``task:NAME``.
        verb: What to do.
        reason: Of an opening, for people.
        expires_ms: Until an opened one is tried again, in ms; 0 = when a person says
            so.
        now_ms: Time to use instead of the server's, in ms; 0 = the server's.

    Returns:
        An operation whose reply says whether something changed; decoding raises
        ``UpstreamNotFoundError``.

    Source:
        ``_protocol/lua/set_upstream.lua``; O(1).
    """
    return _set_upstream(keys, name, verb, reason, expires_ms, now_ms)


@frozen
class PermitReply:
    """What became of a wish to call.

    Attributes:
        word: ``IN``; ``SHUT``: the breaker is open; ``WAIT``: for the rate, a permit
            or the end of a tap.
        wait: Seconds until asking again makes sense.
        epoch: Of the upstream.
        shut_by: Why it is shut, in one word, or empty.
        reason: For people.
        state: Of the breaker.
    """

    word: EnterWord
    wait: float
    epoch: int
    shut_by: str
    reason: str
    state: str


def _acquired(reply: list[Any]) -> PermitReply:
    wait = max(0, int(float(reply[1])) - int(reply[2])) / 1000
    word: Any = reply[0].decode()
    shut_by, reason, state = (each.decode() for each in reply[4:7])
    return PermitReply(word, wait, int(reply[3]), shut_by, reason, state)


def acquire_permit(
    keys: Keys,
    name: str,
    *,
    ticket: str,
    weight: float,
    lease_ms: int,
    permit: Permit,
    rules: bytes,
    recovery_ms: int = 0,
    now_ms: int = 0,
) -> Operation[PermitReply]:
    """Describe asking for leave to call.

    Args:
        keys: Of the prefix in use.
        name: Of the upstream.
        ticket: ``guard:<nonce>``; sent again, it is answered again, and holds for
            another lease. Or the id of the task that lends its permit.
        weight: Tokens that the call takes.
        lease_ms: For which the permit holds.
        permit: The call's own; lent by its task; or the call's own, which it must
            hold already.
        rules: Of the upstream, used where nobody has declared it.
        recovery_ms: As of `declare`, for a caller that knew the upstream before.
        now_ms: Time to use instead of the server's, in ms; 0 = the server's.

    Returns:
        The operation.

    Source:
        ``_protocol/lua/acquire_permit.lua``; O(log p) for p permits.
    """
    return Operation(
        scripts.load("acquire_permit"),
        (keys.upstreams,),
        (
            now_ms,
            keys.prefix,
            name,
            ticket,
            f"{weight:.15g}",
            lease_ms,
            permit,
            rules,
            recovery_ms,
        ),
        _acquired,
    )


@frozen
class ReleaseReply:
    """How an upstream stands after a report.

    Attributes:
        state: ``closed``, ``open`` or ``half-open``.
        epoch: Raised at every turn.
        retry: Seconds until an open one is tried again; None = when a person says so.
        reason: Why it is shut, for people.
    """

    state: str
    epoch: int
    retry: float | None
    reason: str


def _released(reply: list[Any]) -> ReleaseReply:
    retry, now = int(float(reply[2])), int(reply[3])
    left = max(0, retry - now) / 1000 if retry else None
    return ReleaseReply(reply[0].decode(), int(reply[1]), left, reply[4].decode())


def release_permit(
    keys: Keys,
    name: str,
    *,
    ticket: str,
    epoch: int,
    outcome: str,
    reason: str = "",
    wait_ms: int = 0,
    count: int = 1,
    now_ms: int = 0,
) -> Operation[ReleaseReply]:
    """Describe reporting how calls ended, and giving the permit back.

    Args:
        keys: Of the prefix in use.
        name: Of the upstream.
        ticket: As it entered; the id of the task whose claim paid; empty for calls
            that asked for no leave.
        epoch: In which the calls began.
        outcome: ``success``, ``failure``, ``neutral``, ``tap`` or ``refused``.
        reason: For people.
        wait_ms: For which it shall not be called.
        count: Of calls that ended so.
        now_ms: Time to use instead of the server's, in ms; 0 = the server's.

    Returns:
        The operation.

    Source:
        ``_protocol/lua/release_permit.lua``; O(log p) for p permits.
    """
    return Operation(
        scripts.load("release_permit"),
        (keys.parked,),
        (
            now_ms,
            keys.prefix,
            name,
            ticket,
            epoch,
            outcome,
            reason,
            wait_ms,
            count,
        ),
        _released,
    )
