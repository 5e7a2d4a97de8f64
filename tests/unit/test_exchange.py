"""Which trips are made until each operation has its answer."""

import hashlib

import pytest
from redis.exceptions import (
    BusyLoadingError,
    NoPermissionError,
    NoScriptError,
    ResponseError,
)
from redis.exceptions import (
    ConnectionError as BrokenError,
)

from taskflow._protocol.operation import Operation, Script
from taskflow._servers import resp
from taskflow._servers.exchange import Pause, Trip, exchange
from taskflow.errors import (
    ScriptError,
    ServerRefusedError,
    ServerUnavailableError,
    TaskNotFoundError,
)

PATIENT = 60.0  # seconds; no test waits


def script(source):
    """Give a script."""
    sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
    return Script(source, source, sha)


def operation(source, decode=str):
    """Give an operation without keys."""
    return Operation(script(source), (), (), decode)


def trip(*operations, loads=()):
    """Give the trip that is made for *operations*."""
    packed = resp.load(each.script for each in loads) + resp.evalshas(operations)
    return Trip(packed, len(loads) + len(operations))


A, B, C = operation("a"), operation("b"), operation("c")
LOST = NoScriptError("No matching script.")


def play(steps, *replies):
    """Give the conversation each of *replies* in turn; return what it asked for."""
    asked = [next(steps)]
    for reply in replies:
        throws = isinstance(reply, Exception)
        try:
            asked.append(steps.throw(reply) if throws else steps.send(reply))
        except StopIteration as stop:
            return asked, stop.value
    return asked, None


def test_all_operations_travel_together():
    """One trip there and back, the answers in order."""
    asked, answers = play(exchange([A, B], patience=0), [1, 2])

    assert [trip(A, B)] == asked
    assert ["1", "2"] == answers


def test_a_missing_script_is_loaded_and_only_its_operations_are_sent_again():
    """Those that were answered are not."""
    steps = exchange([A, B, A, C], patience=0)
    asked, answers = play(steps, [LOST, 2, LOST, LOST], ["sha", "sha", 1, 3, 4])

    assert [trip(A, B, A, C), trip(A, A, C, loads=[A, C])] == asked
    assert ["1", "2", "3", "4"] == answers


def test_a_script_that_may_not_be_loaded_says_why():
    """And not that it is missing, which is what follows."""
    refused = NoPermissionError("no permissions to run the 'script|load' command")
    steps = exchange([A], patience=PATIENT)
    asked, (answer,) = play(steps, [LOST], [refused, LOST])

    assert 2 == len(asked)
    assert ServerRefusedError is type(answer)
    assert refused is answer.__cause__


def test_a_script_that_is_lost_again_is_sent_again():
    """Behind a proxy, two trips may reach two servers."""
    steps = exchange([A], patience=PATIENT)
    asked, answers = play(steps, [LOST], ["sha", LOST], None, [1])

    assert [trip(A), trip(A, loads=[A]), trip(A)] == [asked[0], asked[1], asked[3]]
    assert ["1"] == answers


def test_a_trip_that_fails_is_made_again_after_a_pause():
    """Every operation recognises a repeat."""
    steps = exchange([A, B], patience=PATIENT)
    asked, answers = play(steps, BrokenError("closed"), None, [1, 2])

    assert [trip(A, B), trip(A, B)] == [asked[0], asked[2]]
    assert isinstance(asked[1], Pause)
    assert ["1", "2"] == answers


def test_only_what_got_no_answer_is_sent_again():
    """A server may be loading for one and not for the other."""
    steps = exchange([A, B], patience=PATIENT)
    asked, answers = play(steps, [1, BusyLoadingError("loading")], None, [2])

    assert [trip(A, B), trip(B)] == [asked[0], asked[2]]
    assert ["1", "2"] == answers


def test_without_patience_there_is_one_attempt():
    """The error stands in place of each answer."""
    broken = BrokenError("closed")
    asked, answers = play(exchange([A, B], patience=0), broken)

    assert [trip(A, B)] == asked
    assert [ServerUnavailableError] * 2 == [type(answer) for answer in answers]
    assert [broken] * 2 == [answer.__cause__ for answer in answers]


@pytest.mark.parametrize(
    "error",
    [ResponseError("WRONGTYPE"), NoPermissionError("no"), ResponseError("OOM x")],
)
def test_what_will_not_pass_is_not_sent_again(error):
    """Neither a wrong type nor a missing permission mends itself."""
    asked, answers = play(exchange([A, B], patience=PATIENT), [1, error])

    assert [trip(A, B)] == asked
    assert "1" == answers[0]
    assert error is answers[1].__cause__


def test_pauses_grow_and_are_never_regular():
    """A crowd of clients does not come back together."""
    steps = exchange([A], patience=PATIENT)
    failures = [BrokenError("closed"), None] * 8
    asked, _ = play(steps, *failures)
    pauses = [step.seconds for step in asked if isinstance(step, Pause)]
    caps = [min(0.3, 0.02 * 2**number) for number in range(8)]

    assert len(caps) == len(pauses)
    assert all(cap / 2 <= pause <= cap for pause, cap in zip(pauses, caps, strict=True))
    assert len(set(pauses)) == len(pauses)


def test_an_error_that_a_reply_stands_for_is_the_answer():
    """A decoder may say that there is no such task."""

    def decode(reply):
        raise TaskNotFoundError(reply)

    _, (answer,) = play(exchange([operation("a", decode)], patience=0), ["t1"])

    assert TaskNotFoundError is type(answer)


def test_an_answer_that_cannot_be_read_is_the_scripts_fault():
    """A bug or a version skew; the reply is shown, as far as it is short."""
    _, (answer,) = play(exchange([operation("a", int)], patience=0), ["x" * 999])

    assert ScriptError is type(answer)
    assert ValueError is type(answer.__cause__)
    assert 600 > len(str(answer))
