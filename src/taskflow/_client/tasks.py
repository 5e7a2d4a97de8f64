"""Single tasks, and lists of them."""

import builtins
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Literal
from uuid import uuid4

from attrs import frozen

from taskflow._client.flow_context import FlowContext
from taskflow._client.ids import checked
from taskflow._client.orphans import OrphanReport, requeue_orphans
from taskflow._client.sansio import Plan, one
from taskflow._client.waiting_lists import WaitingList, waiting_lists
from taskflow._protocol import actions, dead_letters, inspect, task_events
from taskflow._protocol.inspect import Page
from taskflow._protocol.record import TaskRecord, TaskSummary
from taskflow._protocol.states import TaskState
from taskflow._protocol.task_events import TaskNews
from taskflow.errors import IllegalMoveError, TaskNotFoundError

MOST_EXAMINED = 1000

_ORDER = (
    TaskState.ACTIVE,
    TaskState.PENDING,
    TaskState.SCHEDULED,
    TaskState.DLQ,
    TaskState.FAILED,
    TaskState.CANCELLED,
    TaskState.COMPLETED,
)


@frozen
class TaskFilter:
    """Which tasks a list shall hold; what is None does not matter.

    Attributes:
        state: Where they stand.
        name: Of the declared function.
        lane: ``primary`` or ``retry``.
        error: Part of the last error's type or message, in any case.
        since: Stored at this time or later; aware.
        until: Stored before this time; aware.
        is_parked: Whether they wait for an upstream; False = for a worker alone.
    """

    state: TaskState | None = None
    name: str | None = None
    lane: str | None = None
    error: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    is_parked: bool | None = None

    def batch(self, missing: int) -> int:
        """How many entries to look at when *missing* tasks are still wanted."""
        picky = (self.name, self.lane, self.error, self.since, self.until)
        return missing if picky == (None,) * 5 else inspect.MOST_PER_PAGE

    def accepts(self, task: TaskSummary) -> bool:
        """Whether *task* belongs in the list."""
        text = f"{task.error_type} {task.error_message}".lower()
        return (
            (self.state is None or task.state is self.state)
            and (self.name is None or task.name == self.name)
            and (self.lane is None or task.lane == self.lane)
            and (self.error is None or self.error.lower() in text)
            and (self.since is None or task.created_at >= self.since)
            and (self.until is None or task.created_at < self.until)
        )


@frozen
class _Section:
    name: str
    home: str
    kind: Literal["list", "newest", "oldest"]


class Tasks:
    """Look at tasks, and act on one."""

    def __init__(self, connection: FlowContext) -> None:
        self._connection = connection

    def _sections(
        self, wanted: TaskFilter, waiting: Iterable[WaitingList]
    ) -> Iterator[_Section]:
        keys = self._connection.keys
        for state in _ORDER:
            if wanted.state not in {None, state}:
                continue
            if wanted.is_parked and state is not TaskState.PENDING:
                continue
            if state is TaskState.PENDING:
                for each in waiting:
                    if wanted.is_parked in {None, bool(each.upstream)}:
                        yield _Section(f"PENDING-{each.name}", each.key, "list")
            elif state in {TaskState.ACTIVE, TaskState.SCHEDULED}:
                yield _Section(state.value, keys.home(state), "oldest")
            else:
                yield _Section(state.value, keys.home(state), "newest")

    def _list(self, wanted: TaskFilter, cursor: str, limit: int) -> Plan[Page]:
        connection = self._connection
        waiting: Iterable[WaitingList] = ()
        if wanted.state in {None, TaskState.PENDING}:
            waiting = yield from waiting_lists(connection)
        sections = builtins.list(self._sections(wanted, waiting))
        section_name, _, after = cursor.partition("|")
        names = [section.name for section in sections]
        if section_name and section_name not in names:
            message = f"cursor {cursor!r} does not belong to this list"
            raise ValueError(message)
        remaining = sections[names.index(section_name) if section_name else 0 :]
        items: builtins.list[TaskSummary] = []
        positions: builtins.list[str] = []
        examined = 0
        for section in remaining:
            while True:
                here = f"{section.name}|{after}"
                if len(items) >= limit or examined >= MOST_EXAMINED:
                    return Page(tuple(items), tuple(positions), here, examined)
                page: Page = yield inspect.page(
                    connection.keys,
                    section.home,
                    kind=section.kind,
                    after=after,
                    limit=wanted.batch(limit - len(items)),
                    now_ms=connection.clock(),
                )
                examined += page.examined
                for item, position in zip(page.items, page.positions, strict=True):
                    if not wanted.accepts(item):
                        continue
                    items.append(item)
                    positions.append(f"{section.name}|{position}")
                    if len(items) == limit:
                        return Page(
                            tuple(items), tuple(positions), positions[-1], examined
                        )
                after = page.next_cursor
                if not after:
                    break
        return Page(tuple(items), tuple(positions), "", examined)

    def _get(self, task_id: str) -> Plan[TaskRecord]:
        connection = self._connection
        return one(
            inspect.get(connection.keys, checked(task_id), now_ms=connection.clock())
        )

    def _news(self, task_id: str, after: str, limit: int) -> Plan[TaskNews]:
        connection = self._connection
        return one(
            task_events.task_events(
                connection.keys,
                checked(task_id),
                after=after,
                limit=limit,
                now_ms=connection.clock(),
            )
        )

    def _retry(self, task_id: str) -> Plan[None]:
        connection = self._connection
        words = yield dead_letters.requeue(
            connection.keys,
            [checked(task_id)],
            nonce=uuid4().hex,
            now_ms=connection.clock(),
        )
        if words[0] == "GONE":
            raise TaskNotFoundError(task_id)
        conflict = dead_letters.key_conflict(task_id, words[0])
        if conflict is not None:
            raise conflict
        if words[0] != "OK":
            raise IllegalMoveError(task_id, words[0], "retry", to_state="PENDING")

    def _cancel(self, task_id: str) -> Plan[bool]:
        connection = self._connection
        return one(
            actions.cancel(connection.keys, checked(task_id), now_ms=connection.clock())
        )

    def _delete(self, task_id: str, *, force: bool) -> Plan[bool]:
        connection = self._connection
        return one(
            actions.delete(
                connection.keys,
                checked(task_id),
                force=force,
                now_ms=connection.clock(),
            )
        )

    def get(self, task_id: str) -> TaskRecord:
        """Read one task whole.

        Args:
            task_id: As the handle has it.

        Returns:
            The record, with history and, while it is dead, its dead letter.

        Raises:
            TaskNotFoundError: There is no such task.
        """
        return self._connection.run(self._get(task_id))

    async def aget(self, task_id: str) -> TaskRecord:
        """Read one task whole; see `get`."""
        return await self._connection.arun(self._get(task_id))

    def news(self, task_id: str, *, after: str = "", limit: int = 100) -> TaskNews:
        """Read how a task stands and what its body emitted.

        Args:
            task_id: As the handle has it.
            after: ``id`` of the last chunk seen; empty = from the first that is
                kept (about 500 are).
            limit: Most chunks to return, 1 to 500; fewer are returned when they
                reach 1 MiB.

        Returns:
            State, progress and chunks of one moment, and whether there may be more
            chunks.

        Raises:
            TaskNotFoundError: There is no such task.
            ValueError: *after* is no chunk's id, or *limit* is out of bounds.
        """
        return self._connection.run(self._news(task_id, after, limit))

    async def anews(
        self, task_id: str, *, after: str = "", limit: int = 100
    ) -> TaskNews:
        """Read how a task stands and what it emitted; see `news`."""
        return await self._connection.arun(self._news(task_id, after, limit))

    def list(
        self, wanted: TaskFilter | None = None, *, cursor: str = "", limit: int = 50
    ) -> Page:
        """List tasks, without payloads and results.

        Examines at most about 1,000 entries a call, so a page can hold fewer
        than *limit* and still have a next one. Tasks that move while one
        pages may be seen twice or not at all.

        Args:
            wanted: Which tasks; all when left out.
            cursor: ``next_cursor`` of the page before.
            limit: Most tasks to return, 1 to 200.

        Returns:
            A page: running, waiting, scheduled, dead, failed, cancelled,
            completed tasks, in this order.

        Raises:
            ValueError: *limit* is out of bounds, or *cursor* is foreign.
        """
        check_limit(limit)
        return self._connection.run(self._list(wanted or TaskFilter(), cursor, limit))

    async def alist(
        self, wanted: TaskFilter | None = None, *, cursor: str = "", limit: int = 50
    ) -> Page:
        """List tasks; see `list`."""
        check_limit(limit)
        plan = self._list(wanted or TaskFilter(), cursor, limit)
        return await self._connection.arun(plan)

    def retry(self, task_id: str) -> None:
        """Bring a task back to work.

        From DLQ, FAILED and CANCELLED it enters the retry lane with fresh
        counts (a task cancelled while it waited takes its old place again);
        from SCHEDULED it runs now, its counts kept.

        Args:
            task_id: As the handle has it.

        Raises:
            TaskNotFoundError: There is no such task.
            IllegalMoveError: It waits, runs, or has completed; nothing moved.
            KeyConflictError: Another task has taken its key; nothing moved.
        """
        self._connection.run(self._retry(task_id))

    async def aretry(self, task_id: str) -> None:
        """Bring a task back to work; see `retry`."""
        await self._connection.arun(self._retry(task_id))

    def cancel(self, task_id: str) -> bool:
        """Stop a task: at once while it waits, on request while it runs.

        Args:
            task_id: As the handle has it.

        Returns:
            True when it is CANCELLED now; False when it runs and was asked:
            within 5 s its coroutine is cancelled, or its function sees
            ``Context.cancelled``. A result returned all the same wins.

        Raises:
            TaskNotFoundError: There is no such task.
            IllegalMoveError: It has ended already.
        """
        return self._connection.run(self._cancel(task_id))

    async def acancel(self, task_id: str) -> bool:
        """Stop a task; see `cancel`."""
        return await self._connection.arun(self._cancel(task_id))

    def delete(self, task_id: str, *, force: bool = False) -> bool:
        """Remove a task with everything that belongs to it.

        Args:
            task_id: As the handle has it.
            force: Also while it runs; its worker's settle is then refused.

        Returns:
            False when there was no such task.

        Raises:
            IllegalMoveError: It runs and *force* is false; nothing was removed.
        """
        return self._connection.run(self._delete(task_id, force=force))

    async def adelete(self, task_id: str, *, force: bool = False) -> bool:
        """Remove a task; see `delete`."""
        return await self._connection.arun(self._delete(task_id, force=force))

    def requeue_orphaned(self) -> OrphanReport:
        """Reap ended leases, then bring back tasks that stand in no home.

        Looks at every record in small steps; what is queued or running is
        never queued twice. Where a worker has not beaten lately, or none is known,
        it waits for a third of the longest lease and a second more (6 s with
        the defaults): after an outage, or when the server's clock was set, the
        living renew their leases. Where that is more than twenty seconds, it
        leaves the leases to the upkeep of the workers and says so.

        Returns:
            What was found and brought back.
        """
        return self._connection.run(requeue_orphans(self._connection))

    async def arequeue_orphaned(self) -> OrphanReport:
        """Reap and bring back orphans; see `requeue_orphaned`."""
        return await self._connection.arun(requeue_orphans(self._connection))


def check_limit(limit: int) -> None:
    """Refuse a page size out of bounds.

    Raises:
        ValueError: *limit* is outside 1..200.
    """
    if not 1 <= limit <= inspect.MOST_PER_PAGE:
        message = f"limit must be 1..{inspect.MOST_PER_PAGE}, got {limit}"
        raise ValueError(message)
