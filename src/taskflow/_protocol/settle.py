"""Give finished runs their one move, and renew or report what still runs."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

from attrs import frozen

from taskflow._codec import to_json
from taskflow._protocol import scripts
from taskflow._protocol.keys import Keys
from taskflow._protocol.operation import Operation
from taskflow._protocol.record import CallReport, Claim, ErrorFacts, Outcome

MOST_PER_CALL = 100

SettleWord = Literal["OK", "STALE", "GONE"]
"""Accepted (or a repeat); another holds the task, or none; deleted."""

ExtendWord = Literal["OK", "CANCEL", "STALE", "GONE"]
"""Renewed; renewed and asked to stop; another holds the task; deleted."""

_SETTLE_WORDS: dict[bytes, SettleWord] = {
    b"OK": "OK",
    b"STALE": "STALE",
    b"GONE": "GONE",
}
_EXTEND_WORDS: dict[bytes, ExtendWord] = {
    b"OK": "OK",
    b"CANCEL": "CANCEL",
    b"STALE": "STALE",
    b"GONE": "GONE",
}


def complete(claim: Claim, result: bytes, report: CallReport | None = None) -> Outcome:
    """Say that the task ended with *result* (JSON), and what of its upstream."""
    stored = b"" if result == b"null" else result
    return Outcome(claim.id, claim.token, "complete", stored, report)


@lru_cache(maxsize=1024)
def report_of(
    upstream: str, epoch: int, outcome: str, reason: str = "", wait_ms: int = 0
) -> CallReport:
    """Say of a call how it ended; one value for all that say the same."""
    return CallReport(upstream, epoch, outcome, reason, wait_ms)


def release(claim: Claim) -> Outcome:
    """Hand the task back unharmed, to the head of its lane."""
    return Outcome(claim.id, claim.token, "release", b"")


def park(claim: Claim, error: ErrorFacts, *, entry: Mapping[str, Any]) -> Outcome:
    """Say that its upstream would not have it: it waits, with no attempt used."""
    detail: dict[str, Any] = {"error": error.to_json(), "entry": _line("park", entry)}
    if claim.is_probe:
        detail["at_end"] = 1
    return Outcome(claim.id, claim.token, "park", to_json(detail))


def retry(
    claim: Claim,
    error: ErrorFacts,
    *,
    delay: float,
    uses_attempt: bool,
    entry: Mapping[str, Any],
    ran: float = 0.0,
) -> Outcome:
    """Say that the attempt failed and the next may start after *delay* seconds.

    Args:
        claim: Of the task.
        error: Why the attempt failed.
        delay: Seconds before the next attempt.
        uses_attempt: Whether the attempt is counted.
        entry: The line of its history.
        ran: Seconds that the attempt took; they and *delay* add to the task's age.

    Returns:
        The outcome.
    """
    detail = {
        "delay": _to_ms(delay),
        "counts": int(uses_attempt),
        "age": claim.age_ms + _to_ms(ran) + _to_ms(delay),
        "error": error.to_json(),
        "entry": _line("retry", entry),
    }
    return Outcome(claim.id, claim.token, "retry", to_json(detail))


def snooze(
    claim: Claim, *, delay: float, entry: Mapping[str, Any], once: bool = False
) -> Outcome:
    """Say that the task is to run after *delay* seconds; no attempt is used.

    Args:
        claim: Of the task.
        delay: Seconds before it may be claimed.
        entry: The line of its history.
        once: Whether the line replaces an equal one that is the last.

    Returns:
        The outcome.
    """
    detail: dict[str, Any] = {"delay": _to_ms(delay), "entry": _line("snooze", entry)}
    if once:
        detail["once"] = 1
    return Outcome(claim.id, claim.token, "snooze", to_json(detail))


def dead_letter(
    claim: Claim,
    error: ErrorFacts,
    *,
    cause: str,
    uses_attempt: bool,
    entry: Mapping[str, Any],
) -> Outcome:
    """Say that the task shall wait for a person."""
    detail = {
        "counts": int(uses_attempt),
        "cause": cause,
        "fingerprint": error.fingerprint,
        "error": error.to_json(),
        "traceback": error.traceback,
        "entry": _line("dead", entry),
    }
    return Outcome(claim.id, claim.token, "dead", to_json(detail))


def fail(
    claim: Claim, error: ErrorFacts, *, uses_attempt: bool, entry: Mapping[str, Any]
) -> Outcome:
    """Say that the task ended badly and wants no dead letter."""
    detail = {
        "counts": int(uses_attempt),
        "error": error.to_json(),
        "entry": _line("fail", entry),
    }
    return Outcome(claim.id, claim.token, "fail", to_json(detail))


def cancel(claim: Claim, error: ErrorFacts, *, entry: Mapping[str, Any]) -> Outcome:
    """Say that the task stopped on request."""
    detail = {"error": error.to_json(), "entry": _line("cancel", entry)}
    return Outcome(claim.id, claim.token, "cancel", to_json(detail))


def crash(
    claim: Claim, how: str, *, max_crashes: int, entry: Mapping[str, Any]
) -> Outcome:
    """Say that its process died of the task, while the worker lives.

    Args:
        claim: Of the task.
        how: The process ended, for people.
        max_crashes: At which the task is poison, from 1.
        entry: The line of its history.

    Returns:
        An outcome that goes the way of a lost lease.
    """
    error = ErrorFacts("Crashed", how)
    detail = {
        "how": how,
        "max_crashes": max_crashes,
        "error": error.to_json(),
        "entry": _line("crash", entry),
    }
    return Outcome(claim.id, claim.token, "crash", to_json(detail))


def _line(outcome: str, entry: Mapping[str, Any]) -> str:
    return to_json({"outcome": outcome, **entry}).decode()


def _to_ms(seconds: float) -> int:
    return max(0, -int(-seconds * 1000 // 1))


def settle(
    keys: Keys, outcomes: Sequence[Outcome], *, now_ms: int = 0
) -> Operation[list[SettleWord]]:
    """Describe giving each of *outcomes* its move, if its token still holds.

    Sent again, it answers the same words and writes nothing more.

    Args:
        keys: Of the prefix in use.
        outcomes: 1 to 100.
        now_ms: Time to use instead of the server's, in ms; 0 = the server's.

    Returns:
        An operation whose reply holds one word per outcome: ``OK``, ``STALE``
        (the lease was lost; nothing was written) or ``GONE`` (deleted).

    Raises:
        ValueError: *outcomes* is empty or longer than 100.

    Source:
        ``_protocol/lua/settle.lua``; O(n log m).
    """
    if not 1 <= len(outcomes) <= MOST_PER_CALL:
        message = f"1 to {MOST_PER_CALL} outcomes, got {len(outcomes)}"
        raise ValueError(message)
    args: list[str | int | float | bytes] = [now_ms, keys.prefix, len(outcomes)]
    reports: dict[int, list[int]] = {}
    for place, outcome in enumerate(outcomes, start=1):
        args += outcome[:4]
        if outcome[4] is not None:
            # By identity: they are made once for all that say the same.
            reports.setdefault(id(outcome[4]), []).append(place)
    for places in reports.values():
        args += outcomes[places[0] - 1].report or ()
        is_all = len(places) == len(outcomes)
        args += (0,) if is_all else (len(places), *places)
    count = len(outcomes)

    def decode(reply: Any) -> list[SettleWord]:
        if isinstance(reply, int):
            return ["OK"] * count
        return [_SETTLE_WORDS[word] for word in reply]

    return Operation(
        scripts.load("settle"),
        (
            keys.active,
            keys.completed,
            keys.scheduled,
            keys.failed,
            keys.cancelled,
            keys.marker,
        ),
        tuple(args),
        decode,
    )


def extend(
    keys: Keys, leases: Sequence[tuple[str, str]], *, lease_ms: int, now_ms: int = 0
) -> Operation[list[ExtendWord]]:
    """Describe renewing *leases*.

    Args:
        keys: Of the prefix in use.
        leases: Pairs of task id and token, 1 to 100.
        lease_ms: From now, in ms.
        now_ms: Time to use instead of the server's, in ms; 0 = the server's.

    Returns:
        An operation whose reply holds one word per lease: ``OK``, ``CANCEL``
        (renewed, and the task is asked to stop), ``STALE`` or ``GONE``.

    Raises:
        ValueError: *leases* is empty or longer than 100.

    Source:
        ``_protocol/lua/extend.lua``; O(n log m).
    """
    if not 1 <= len(leases) <= MOST_PER_CALL:
        message = f"1 to {MOST_PER_CALL} leases, got {len(leases)}"
        raise ValueError(message)
    args: list[str | int | float | bytes] = [now_ms, keys.prefix, lease_ms, len(leases)]
    for lease in leases:
        args.extend(lease)
    count = len(leases)

    def decode(reply: Any) -> list[ExtendWord]:
        if isinstance(reply, int):
            return ["OK"] * count
        return [_EXTEND_WORDS[word] for word in reply]

    return Operation(scripts.load("extend"), (keys.active,), tuple(args), decode)


def expiring_leases(
    keys: Keys, *, worker: str, horizon_ms: int, limit: int = 100, now_ms: int = 0
) -> Operation[list[tuple[str, str]]]:
    """Describe finding leases of *worker* that end within *horizon_ms*.

    A worker that renews all it knows of is left with those it does not.

    Returns:
        An operation whose reply holds pairs of task id and token.

    Source:
        ``_protocol/lua/expiring_leases.lua``; O(log m + limit).
    """

    def decode(reply: list[bytes]) -> list[tuple[str, str]]:
        texts = [item.decode() for item in reply]
        return list(zip(texts[::2], texts[1::2], strict=True))

    return Operation(
        scripts.load("expiring_leases"),
        (keys.active,),
        (now_ms, keys.prefix, worker, horizon_ms, limit),
        decode,
    )


@frozen
class ProgressReport:
    """What a running task reports about itself.

    Attributes:
        number: Of the report within the claim, from 1; a repeat is dropped.
        progress: JSON object, or empty.
        usage: Amounts to add up.
        annotations: JSON text by name.
        checkpoint: JSON text, or empty.
        chunks: Emitted texts, in order.
    """

    number: int
    progress: bytes = b""
    usage: Mapping[str, float] | None = None
    annotations: Mapping[str, str] | None = None
    checkpoint: bytes = b""
    chunks: tuple[str, ...] = ()


def report_progress(
    keys: Keys, task_id: str, token: str, report: ProgressReport, *, now_ms: int = 0
) -> Operation[SettleWord]:
    """Describe storing *report*, if the token still holds.

    Returns:
        An operation whose reply is ``OK``, ``STALE`` or ``GONE``.

    Source:
        ``_protocol/lua/report_progress.lua``; O(n) for n chunks.
    """
    return Operation(
        scripts.load("report_progress"),
        (keys.task(task_id), keys.emitted(task_id)),
        (
            now_ms,
            keys.prefix,
            token,
            report.number,
            report.progress,
            to_json(dict(report.usage)) if report.usage else b"",
            to_json(dict(report.annotations)) if report.annotations else b"",
            report.checkpoint,
            len(report.chunks),
            *report.chunks,
        ),
        _SETTLE_WORDS.__getitem__,
    )
