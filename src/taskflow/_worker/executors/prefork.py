"""Run bodies in the children of a pool of processes; the worker's side of it.

What waits for a child waits here and not in the pool, so that it can be handed
back; the pool is given one message for each free child. Where more waits than there
are children, and bodies are short, several tasks share a message.

A child says on its line what becomes of each task, at once; that its message is
over, which the pool tells, only makes it free. A line that ends without that is a
child that died: the task it was at has crashed, and what it had not begun is given
to another.
"""

import asyncio
import contextlib
import itertools
import logging
import socket
import time
from collections import deque
from collections.abc import Iterable
from random import Random
from typing import Any

from taskflow import _events
from taskflow._events import Event, TaskCompleted, TaskStarted
from taskflow._protocol import settle
from taskflow._protocol.record import Claim, Outcome, Verb
from taskflow._worker.executor import Host
from taskflow._worker.executors.execution import Executions
from taskflow._worker.executors.ipc import Frame
from taskflow._worker.executors.ipc_batch import Batch, ChildPipe, Packer, Pool
from taskflow._worker.executors.job import Execution

_logger = logging.getLogger("taskflow.worker")

WATCH_EVERY = 0.05
"""Seconds between two looks at the limits of all running bodies."""

STOP_GRACE = 0.75
"""Seconds that a body has to end once it was cancelled; then its child is killed."""

STUCK = 0.25
"""Seconds that a task may keep those waiting that share its message."""

_LAST_WORDS = 0.1
"""Seconds from the death of a child to the end of its line, at most."""

_LOOKS = (0.0, 0.01, 0.05, 0.25, 0.5)
"""Seconds, one after the other, to find out how a child ended."""


class PreforkExecutor:
    """Feeds a pool of processes; see the contract in ``executor.py``.

    Args:
        host: The worker.
        rng: Source of the jitter of retries.
        pool: The processes.
        listener: On which the children ring up.
    """

    can_prefetch = False

    def __init__(
        self, host: Host, rng: Random, pool: Pool, listener: socket.socket
    ) -> None:
        self._host = host
        self._executions = Executions(host.registry, host.limits, rng)
        self._pool = pool
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._ready: deque[Execution] = deque()
        self._numbers = itertools.count(1)
        self._messages: dict[int, Batch] = {}
        self._in_pool: set[int] = set()
        self._lines: set[ChildPipe] = set()
        self._packer = Packer(host.slots)
        self._is_over = False
        self._loop.add_reader(listener.fileno(), self._accept)
        self._watcher = self._loop.create_task(self._watch())

    # What the worker asks.

    @property
    def running(self) -> int:
        """Tasks that were given to a child."""
        return sum(len(each.jobs) - each.ended for each in self._messages.values())

    @property
    def ready(self) -> int:
        """Tasks that wait for a free child."""
        return len(self._ready)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tasks that run now."""
        return tuple(sorted({job.name for job in self._current()}))

    def _current(self) -> list[Execution]:
        jobs = (message.current for message in list(self._messages.values()))
        return [job for job in jobs if job is not None]

    def underway(self) -> list[Claim]:
        """Give the claims whose functions run, those that were abandoned too."""
        return [job.claim for job in self._current()]

    def describe(self) -> list[dict[str, object]]:
        """Say of each running body what it is, where, and for how long it has run."""
        now = time.monotonic()
        return [
            {
                "id": job.claim.id,
                "name": job.name,
                "attempt": job.claim.attempts + 1,
                "seconds": round(now - job.started, 1),
                "pid": message.line.pid,
            }
            for message in list(self._messages.values())[:100]
            if message.line is not None and (job := message.current) is not None
        ]

    def start(self, claims: Iterable[Claim]) -> None:
        """Run *claims*, in their order, as children get free."""
        for claim in claims:
            job = self._executions.open(claim)
            if isinstance(job, Execution):
                self._ready.append(job)
            else:
                self._tell(claim, *job)
        self._fill()

    def cancel(self, task_id: str, token: str) -> None:
        """Ask a body to stop; its child is killed if it has not in `STOP_GRACE`."""
        self._stop((task_id, token), "cancel")

    def abandon(self, task_id: str, token: str) -> bool:
        """Stop a body whose lease is lost; it gives no outcome."""
        return self._stop((task_id, token), "abandoned")

    def _stop(self, which: tuple[str, str], why: str) -> bool:
        for job in self._ready:
            if (job.claim.id, job.claim.token) == which:
                self._ready.remove(job)
                job.stop = why
                self._drop(job)
                return True
        for message in self._messages.values():
            for job in message.jobs[message.ended :]:
                if (job.claim.id, job.claim.token) == which:
                    self._interrupt(message, job, why)
                    return True
        return False

    def _interrupt(self, message: Batch, job: Execution, why: str) -> None:
        if why == "abandoned":
            job.abandoned = True
        elif job.stop in {"cancel", "hard"}:
            return
        if job is message.current and message.ending is not None:
            return  # its body has ended
        job.stop = why
        if message.line is None:
            return  # as soon as it has begun
        if job is message.current and why != "soft":
            job.hard_at = min(job.hard_at, time.monotonic() + STOP_GRACE)
        kind = "soft" if why == "soft" else "cancel"
        message.line.alert((kind, job.claim.token))

    def release_ready(self) -> list[Claim]:
        """Give up the claims that wait for a free child."""
        claims = [job.claim for job in self._ready]
        self._ready.clear()
        return claims

    def release_running(self) -> list[Claim]:
        """Kill the children and give up what they had not ended."""
        self._is_over = True
        # A child that the pool still starts finds nobody, and runs nothing.
        self._loop.remove_reader(self._listener.fileno())
        self._listener.close()
        # All of them: a message may be on its way to a child that has not begun it.
        lines = list(self._lines)
        for line in lines:
            line.kill()
        deadline = time.monotonic() + 1.0
        for line in lines:
            while line.is_open and time.monotonic() < deadline:
                self._take(line.receive(), line)
                time.sleep(0.001)
        for message in self._messages.values():
            if message.ending is not None:
                self._settle(message, *message.ending)
        claims = [
            job.claim
            for message in self._messages.values()
            for job in message.jobs[message.ended :]
            if not job.abandoned
        ]
        self._messages.clear()
        return [*claims, *self.release_ready()]

    @property
    def unstopped(self) -> tuple[str, ...]:
        """Nothing: a child that does not stop is killed."""
        return ()

    async def aclose(self) -> None:
        """Hang up; the pool is stopped by who started it."""
        self._watcher.cancel()
        await asyncio.gather(self._watcher, return_exceptions=True)
        if not self._is_over:
            self._is_over = True
            self._loop.remove_reader(self._listener.fileno())
            self._listener.close()
        for line in self._lines:
            self._loop.remove_reader(line.sock.fileno())
            line.close()
        self._lines.clear()

    # Giving out.

    def _fill(self) -> None:
        while (
            self._ready and not self._is_over and len(self._in_pool) < self._host.slots
        ):
            jobs = self._packer.take(self._ready)
            message = Batch(next(self._numbers), jobs)
            self._messages[message.number] = message
            self._in_pool.add(message.number)
            claims = [tuple(job.claim) for job in message.jobs]
            self._pool.submit(message.number, claims)

    def over(self, number: int, how: str = "") -> None:
        """The pool has done with a message: its child is free, or has died.

        Args:
            number: Of the message.
            how: In which way the child died; empty when it did not.
        """
        self._in_pool.discard(number)
        message = self._messages.get(number)
        if message is not None and how:
            message.how = how
            # Not at once: what the child said last may be on its way still.
            self._loop.call_later(_LAST_WORDS, self._lost, message)
        self._fill()

    def has_begun(self, number: int) -> bool:
        """Tell whether a child has said that it began a message.

        All that children have said by now is heard before.

        Args:
            number: Of the message.

        Returns:
            True as well of one that has ended, or was given up.
        """
        self._accept()
        for line in list(self._lines):
            self._take(line.receive(), line)
        message = self._messages.get(number)
        return message is None or message.line is not None

    def _lost(self, message: Batch) -> None:
        # A busy loop comes here before it has heard that the body began.
        if self.has_begun(message.number) and message.line is not None:
            # Something that its body has started may hold the line open.
            self._hang_up(message.line)
            self._find_out(message, 0)
        elif self._messages.pop(message.number, None):
            self._put_back(message.jobs)

    def _put_back(self, jobs: list[Execution]) -> None:
        for job in reversed(jobs):
            if job.stop in {"cancel", "abandoned"}:
                self._drop(job)
            else:
                job.stop = ""
                job.soft_at = job.hard_at = float("inf")
                self._ready.appendleft(job)
        self._fill()

    def _drop(self, job: Execution) -> None:
        """Give an outcome to a task that shall not begin any more."""
        if job.stop == "cancel":
            job.abandoned = False
            error = asyncio.CancelledError()
            self._tell(job.claim, *self._executions.judge(job, error, 0.0))

    # What children say.

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while not self._is_over:
                sock, _ = self._listener.accept()
                line = ChildPipe(sock)
                self._lines.add(line)
                self._loop.add_reader(sock.fileno(), self._read, line)

    def _read(self, line: ChildPipe) -> None:
        self._take(line.receive(), line)
        if not line.is_open:
            self._hang_up(line)

    def _hang_up(self, line: ChildPipe) -> None:
        if line not in self._lines:
            return
        self._lines.discard(line)
        self._loop.remove_reader(line.sock.fileno())
        line.close()
        if line.message is not None:
            self._find_out(line.message, 0)

    def _take(self, frames: list[Frame], line: ChildPipe) -> None:
        for kind, number, *rest in frames:
            message = self._messages.get(number)
            if message is None:
                continue  # given up meanwhile
            if kind == "begin":
                message.line, line.message = line, message
                self._begin(message)
                for job in message.jobs:
                    if job.stop:
                        line.alert(("cancel", job.claim.token))
            elif kind == "ended":
                self._ended(message, rest)
            elif kind == "done":
                self._done(message, rest)
            else:
                (begun,) = rest
                given_back = message.jobs[begun:]
                del message.jobs[begun:]
                self._close(message)
                self._put_back(given_back)

    def _begin(self, message: Batch) -> None:
        job = message.current
        if job is None:
            return
        self._executions.start(job)
        self._host.limited(job.claim, job.hard_at)
        if job.stop:  # before it began
            job.hard_at = min(job.hard_at, job.started + STOP_GRACE)
        if self._host.events.wants(TaskStarted):
            claim = job.claim
            self._host.events.emit(
                TaskStarted(
                    claim.id, job.name, claim.attempts + 1, claim.lane, claim.delivery
                )
            )

    def _ended(self, message: Batch, ending: list[Any]) -> None:
        job = message.current
        if job is not None:
            # The server may be away; limits are for the body, which is over.
            job.soft_at = job.hard_at = float("inf")
            message.ending = ending

    def _done(self, message: Batch, ending: list[Any]) -> None:
        self._settle(message, *(ending or message.ending or ()))
        self._begin(message)
        self._close(message)

    def _settle(
        self,
        message: Batch,
        outcome: tuple[Verb, bytes, tuple[Any, ...] | None],
        event: tuple[str, tuple[Any, ...]] | None,
        seconds: float,
    ) -> None:
        job = message.current
        if job is None:
            return
        message.ended += 1
        message.ending = None
        claim = job.claim
        self._packer.learn(job.name, seconds)
        if not job.abandoned:
            if event is not None:
                self._host.events.emit(getattr(_events, event[0])(*event[1]))
            elif self._host.events.wants(TaskCompleted):
                attempt = claim.attempts + 1
                self._host.events.emit(
                    TaskCompleted(claim.id, job.name, attempt, seconds)
                )
            verb, detail, report = outcome
            said = None if report is None else settle.report_of(*report)
            self._host.done(claim, Outcome(claim.id, claim.token, verb, detail, said))

    def _close(self, message: Batch) -> None:
        if message.ended == len(message.jobs):
            self._messages.pop(message.number, None)
            if message.line is not None:
                message.line.message = None

    # Children that die.

    def _find_out(self, message: Batch, looks: int) -> None:
        """Give the task that a dead child was at its outcome, with the cause."""
        if message.number not in self._messages:
            return
        if not message.how:
            try:
                self._pool.process_events()
            except Exception:
                _logger.exception("the pool could not look for children that ended")
        if message.how or looks == len(_LOOKS):
            self._bury(message)
        else:
            self._loop.call_later(_LOOKS[looks], self._find_out, message, looks + 1)

    def _bury(self, message: Batch) -> None:
        del self._messages[message.number]
        job = message.current
        rest = message.jobs[message.ended + 1 :]
        if message.ending is not None:
            self._settle(message, *message.ending)
        elif job is not None and not job.abandoned:
            self._tell(job.claim, *self._executions.died(job, message.how))
        self._put_back(rest)

    def _tell(self, claim: Claim, outcome: Outcome, event: Event) -> None:
        self._host.events.emit(event)
        self._host.done(claim, outcome)

    # Limits.

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_EVERY)
            now = time.monotonic()
            for message in list(self._messages.values()):
                job, line = message.current, message.line
                if job is None or line is None or not line.is_open or message.how:
                    continue
                if now >= job.hard_at:
                    if job.stop in {"", "soft"}:
                        job.stop = "hard"
                    line.kill()
                elif now >= job.soft_at and not job.stop:
                    self._interrupt(message, job, "soft")
                is_last = message.ended + 1 == len(message.jobs)
                if now - job.started > STUCK and not is_last and not message.is_cut:
                    message.is_cut = True
                    line.alert(("cut", message.number))
