"""How operations are sent until each has its answer; written once, no socket.

A conversation is a generator. It yields a `Trip` and is given the raw replies,
or has the client's error thrown at it; or it yields a `Pause` and is resumed
after it. What it returns are the answers. The two runners differ in nothing but
how they make a trip and how they wait.

A script is sent by its address, and loaded when the server does not hold it.
What got no answer is sent again while patience lasts: every operation
recognises a repeat. One that failed does not hide the answers of the others.
"""

import random
import time
from collections.abc import Generator, Sequence
from typing import Any, TypeAlias

from attrs import frozen

from taskflow._protocol.operation import Operation
from taskflow._servers import resp
from taskflow._servers.errors import FAILURES, is_missing_script, translate
from taskflow.errors import (
    NotReplicatedError,
    ScriptError,
    ServerUnavailableError,
    TaskFlowError,
)

_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 0.3

REPLICATED_WITHIN_MS = 1_000
"""How long replicas have to confirm what they must have; less than a reply may take."""


@frozen
class Trip:
    """There and back, once.

    Attributes:
        command: One command or several, packed.
        replies: How many.
    """

    command: bytes
    replies: int


@frozen
class Pause:
    """Let time pass.

    Attributes:
        seconds: At least 0.
    """

    seconds: float


Replies: TypeAlias = list[Any]
Conversation: TypeAlias = Generator[Trip | Pause, Any, list[Any]]


def exchange(operations: Sequence[Operation[Any]], *, patience: float) -> Conversation:
    """Send *operations* and return one answer or `TaskFlowError` for each.

    Args:
        operations: At least one; sent together, in order, not as a transaction.
        patience: Seconds for which what got no answer is sent again; 0 = once.

    Yields:
        What to do next.

    Returns:
        The answers, in the order of *operations*.
    """
    answers: list[Any] = [None] * len(operations)
    waiting = list(range(len(operations)))
    deadline = time.monotonic() + patience
    pause = _FIRST_PAUSE
    while True:
        sent = [operations[number] for number in waiting]
        try:
            replies = yield from _attempt(sent)
        except FAILURES as error:
            replies = [error] * len(sent)
        for number, operation, reply in zip(waiting, sent, replies, strict=True):
            answers[number] = _answer(operation, reply)
        waiting = [
            number
            for number in waiting
            if isinstance(answers[number], ServerUnavailableError)
        ]
        if not waiting:
            return answers
        left = deadline - time.monotonic()
        if left <= 0:
            return answers
        yield Pause(min(random.uniform(pause / 2, pause), left))  # noqa: S311
        pause = min(_LONGEST_PAUSE, pause * 2)


def _attempt(operations: Sequence[Operation[Any]]) -> Generator[Trip, Any, Replies]:
    """Send all once, and those whose script was missing once more."""
    replies = yield from _trip(b"", 0, operations)
    missing = [
        number for number, reply in enumerate(replies) if is_missing_script(reply)
    ]
    if not missing:
        return replies
    again = [operations[number] for number in missing]
    scripts = {operation.script.sha: operation.script for operation in again}
    second = yield from _trip(resp.load(scripts.values()), len(scripts), again)
    loads = dict(zip(scripts, second, strict=False))
    for number, reply in zip(missing, second[len(scripts) :], strict=True):
        load = loads[operations[number].script.sha]
        # A refused load says more than the script's absence that follows.
        replies[number] = load if isinstance(load, Exception) else reply
    return replies


def _trip(
    before: bytes, count: int, operations: Sequence[Operation[Any]]
) -> Generator[Trip, Any, Replies]:
    """Send *count* commands and *operations*; wait for replicas where one asks to."""
    command = before + resp.evalshas(operations)
    wanted = max(operation.replicas for operation in operations)
    if not wanted:
        replies: Replies = yield Trip(command, count + len(operations))
        return replies
    command += resp.wait(wanted, REPLICATED_WITHIN_MS)
    *replies, confirmed = yield Trip(command, count + len(operations) + 1)
    for number, operation in enumerate(operations, count):
        if isinstance(replies[number], Exception) or not operation.replicas:
            continue
        if isinstance(confirmed, Exception):
            replies[number] = confirmed
        elif confirmed < operation.replicas:
            replies[number] = NotReplicatedError(confirmed, operation.replicas)
    return replies


def _answer(operation: Operation[Any], reply: Any) -> Any:
    name = operation.script.name
    if isinstance(reply, TaskFlowError):
        return reply
    if isinstance(reply, Exception):
        return translate(reply, name)
    try:
        return operation.decode(reply)
    except TaskFlowError as error:
        return error
    except Exception as error:  # noqa: BLE001 - whatever a decoder trips over
        unreadable = ScriptError(name, f"unreadable answer {reply!r:.200}: {error!r}")
        unreadable.__cause__ = error
        return unreadable
