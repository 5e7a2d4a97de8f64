"""What a server wrote of tasks, move by move, as its append-only file has it.

Workers are not asked: also a settle whose reply nobody heard stands in the file, and
so does one that should not have been taken.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from attrs import define, field

from taskflow._protocol.states import LEGAL_MOVES, TaskState


def commands(folder: Path) -> Iterator[list[bytes]]:
    """Read the commands of a server's append-only files, the oldest first.

    Args:
        folder: Has the files; no other server may have rewritten them.

    Yields:
        A command with its arguments. What is half written ends it.
    """
    paths = folder.glob("*.incr.aof")
    for path in sorted(paths, key=lambda each: int(each.name.split(".")[-3])):
        yield from _parsed(path.read_bytes())


def _parsed(data: bytes) -> Iterator[list[bytes]]:
    at = 0
    while (end := data.find(b"\r\n", at)) >= 0:
        head, at = data[at:end], end + 2
        if head.startswith(b"#"):
            continue  # a line for people
        words: list[bytes] = []
        for _ in range(int(head[1:])):
            end = data.find(b"\r\n", at)
            if end < 0:
                return
            first = end + 2
            at = first + int(data[at + 1 : end]) + 2
            words.append(data[first : at - 2])
        if at > len(data):
            return
        yield words


@define
class Moves:
    """What became of tasks, and which of it should not have.

    Attributes:
        handed_out: How often a task was handed to a worker.
        settled: Hand-outs that came to their one end, by the state after it.
        wrong: Moves that there must not be, for people: above all a second end of
            one hand-out.
    """

    handed_out: int = 0
    settled: Counter[str] = field(factory=Counter)
    wrong: list[str] = field(factory=list)
    _states: dict[str, TaskState] = field(factory=dict)
    _deliveries: dict[str, int] = field(factory=dict)

    def take(self, command: Sequence[bytes], prefix: str = "") -> None:
        """Take note of one command of the file."""
        verb, start = command[0].upper(), f"{prefix}task:".encode()
        if verb in {b"DEL", b"UNLINK"}:
            for key in command[1:]:
                self._states.pop(key.removeprefix(start).decode(), None)
        elif verb == b"HSET" and command[1].startswith(start):
            facts = dict(zip(command[2::2], command[3::2], strict=True))
            if b"state" in facts:
                self._move(command[1].removeprefix(start).decode(), facts)

    def _move(self, task_id: str, facts: dict[bytes, bytes]) -> None:
        before, after = self._states.get(task_id), TaskState(facts[b"state"].decode())
        self._states[task_id] = after
        delivery = self._deliveries.get(task_id, 0)
        if (before, after) not in LEGAL_MOVES:
            told = f"{task_id}: from {before} to {after} after hand-out {delivery}"
            self.wrong.append(told)
        elif after is TaskState.ACTIVE:
            self.handed_out += 1
            self._deliveries[task_id] = int(facts[b"token"].partition(b":")[0])
            if self._deliveries[task_id] <= delivery:
                self.wrong.append(f"{task_id}: handed out as {delivery} twice")
        elif before is TaskState.ACTIVE:
            self.settled[str(after)] += 1
            if int(facts.get(b"result", delivery)) != delivery:
                told = f"{task_id}: hand-out {delivery} was settled by another's run"
                self.wrong.append(told)


def moves(written: Iterable[Sequence[bytes]], prefix: str = "") -> Moves:
    """Follow every task through *written*.

    Args:
        written: Commands, the oldest first. Bodies return the number of their
            hand-out, so that a result says whose it is.
        prefix: Of every key.

    Returns:
        What became of them.
    """
    found = Moves()
    for command in written:
        found.take(command, prefix)
    return found
