"""The dead-letter queue: see, group, edit, bring back, drop, export."""

import builtins
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any
from uuid import uuid4

from attrs import frozen

from taskflow._client.flow_context import FlowContext
from taskflow._client.ids import checked
from taskflow._client.sansio import Pause, Plan, one
from taskflow._client.tasks import MOST_EXAMINED, check_limit
from taskflow._codec import check_size, from_json, to_json
from taskflow._declare.registry import Registry
from taskflow._protocol import dead_letters, inspect
from taskflow._protocol.dead_letters import DeadLetterGroup
from taskflow._protocol.inspect import Page
from taskflow._protocol.keys import FINGERPRINT_PATTERN
from taskflow._protocol.record import TaskRecord, TaskSummary
from taskflow._protocol.states import TaskState
from taskflow.errors import KeyConflictError, TaskNotFoundError


@frozen
class Selection:
    """Which dead letters an action is for.

    Attributes:
        ids: Just these; None = not chosen by id.
        fingerprint: Those of this group; None = of any.
        name: Those of this task; None = of any.
    """

    ids: tuple[str, ...] | None = None
    fingerprint: str | None = None
    name: str | None = None

    def __attrs_post_init__(self) -> None:
        mark = self.fingerprint
        if mark is not None and not FINGERPRINT_PATTERN.fullmatch(mark):
            message = f"fingerprint {mark!r} is none that a dead letter can have"
            raise ValueError(message)

    def accepts(self, letter: TaskSummary) -> bool:
        """Whether *letter* is chosen."""
        return self.name is None or letter.name == self.name


def select(
    ids: str | Sequence[str] | None,
    fingerprint: str | None,
    name: str | None,
    *,
    everything: bool,
) -> Selection:
    """Make a selection of what a caller named.

    Returns:
        The selection.

    Raises:
        ValueError: Nothing was named, or ids beside something else; an action
            on all dead letters has to be said.
    """
    chosen = [
        each
        for each, given in (
            ("ids", ids is not None),
            ("fingerprint or name", fingerprint is not None or name is not None),
            ("everything", everything),
        )
        if given
    ]
    if len(chosen) != 1:
        got = " and ".join(chosen) or "nothing"
        message = f"name ids, or fingerprint and/or name, or everything=True; got {got}"
        raise ValueError(message)
    if ids is None:
        return Selection(None, fingerprint, name)
    listed = (ids,) if isinstance(ids, str) else tuple(ids)
    return Selection(tuple(checked(task_id) for task_id in listed))


@frozen
class Requeued:
    """What `DeadLetters.requeue` did.

    Attributes:
        count: Tasks that wait for a worker again.
        held: Dead letters that stay because another task has taken their
            idempotency key: their ids, each with the id of that task.
    """

    count: int
    held: dict[str, str]


class DeadLetters:
    """Dead letters are kept until a person acts; these are the acts."""

    def __init__(self, connection: FlowContext, registry: Registry) -> None:
        self._connection = connection
        self._registry = registry

    def _home(self, fingerprint: str | None) -> str:
        keys = self._connection.keys
        return keys.dlq if fingerprint is None else keys.group(fingerprint)

    def _page(self, home: str, after: str, limit: int) -> Plan[Page]:
        connection = self._connection
        return one(
            inspect.page(
                connection.keys,
                home,
                kind="newest",
                after=after,
                limit=limit,
                now_ms=connection.clock(),
            )
        )

    def _list(self, chosen: Selection, cursor: str, limit: int) -> Plan[Page]:
        home, examined = self._home(chosen.fingerprint), 0
        items: builtins.list[TaskSummary] = []
        positions: builtins.list[str] = []
        while True:
            batch = limit - len(items) if chosen.name is None else inspect.MOST_PER_PAGE
            page = yield from self._page(home, cursor, batch)
            examined += page.examined
            for item, position in zip(page.items, page.positions, strict=True):
                if chosen.accepts(item):
                    items.append(item)
                    positions.append(position)
                    if len(items) == limit:
                        return Page(tuple(items), tuple(positions), position, examined)
            cursor = page.next_cursor
            if not cursor or examined >= MOST_EXAMINED:
                return Page(tuple(items), tuple(positions), cursor, examined)

    def _chosen(self, chosen: Selection) -> "Plan[builtins.list[str]]":
        """Collect the ids of *chosen*, as they are at the start of the action."""
        if chosen.ids is not None:
            return builtins.list(chosen.ids)
        ids: builtins.list[str] = []
        home, cursor = self._home(chosen.fingerprint), ""
        while True:
            page = yield from self._page(home, cursor, inspect.MOST_PER_PAGE)
            ids.extend(item.id for item in page.items if chosen.accepts(item))
            cursor = page.next_cursor
            if not cursor:
                return ids

    def _count(self, chosen: Selection) -> Plan[int]:
        return len((yield from self._chosen(chosen)))

    def _requeue(self, chosen: Selection, rate: float | None) -> Plan[Requeued]:
        if rate is not None and rate <= 0:
            message = f"rate must be above 0 tasks per second, got {rate}"
            raise ValueError(message)
        connection, count = self._connection, 0
        conflicts: builtins.list[KeyConflictError] = []
        ids = yield from self._chosen(chosen)
        size = dead_letters.MOST_PER_CALL
        if rate is not None:
            size = max(1, min(size, round(rate)))
        for first in range(0, len(ids), size):
            if first and rate is not None:
                yield Pause(size / rate)
            batch = ids[first : first + size]
            words = yield dead_letters.requeue(
                connection.keys,
                batch,
                nonce=uuid4().hex,
                only=TaskState.DLQ,
                now_ms=connection.clock(),
            )
            count += words.count("OK")
            found = map(dead_letters.key_conflict, batch, words)
            conflicts += [each for each in found if each is not None]
        if conflicts and not count:
            raise conflicts[0]
        return Requeued(count, {each.requeued: each.task_id for each in conflicts})

    def _discard(self, chosen: Selection) -> Plan[int]:
        connection, discarded = self._connection, 0
        ids = yield from self._chosen(chosen)
        size = dead_letters.MOST_PER_CALL
        for first in range(0, len(ids), size):
            discarded += yield dead_letters.discard(
                connection.keys, ids[first : first + size], now_ms=connection.clock()
            )
        return discarded

    def _groups(self, skip: int, limit: int) -> "Plan[builtins.list[DeadLetterGroup]]":
        connection = self._connection
        return one(
            dead_letters.groups(
                connection.keys, skip=skip, limit=limit, now_ms=connection.clock()
            )
        )

    def _get(self, task_id: str) -> Plan[TaskRecord]:
        connection = self._connection
        record: TaskRecord = yield inspect.get(
            connection.keys, checked(task_id), now_ms=connection.clock()
        )
        if record.dead_letter is None:
            raise TaskNotFoundError(task_id)
        return record

    def _edit(self, task_id: str, arguments: dict[str, Any]) -> Plan[None]:
        connection = self._connection
        record = yield from self._get(task_id)
        merged: dict[str, Any] = from_json(record.payload) if record.payload else {}
        merged.update(arguments)
        if record.name in self._registry:
            payload = self._registry.get(record.name).arguments.from_jsonable(merged)
        else:
            payload = to_json(merged)
        check_size(payload, connection.settings.queue.max_payload_bytes, record.name)
        yield dead_letters.edit(
            connection.keys, task_id, payload, now_ms=connection.clock()
        )

    def list(
        self,
        *,
        fingerprint: str | None = None,
        name: str | None = None,
        cursor: str = "",
        limit: int = 50,
    ) -> Page:
        """List dead letters, the newest first.

        Args:
            fingerprint: Only those of this group.
            name: Only those of this task.
            cursor: ``next_cursor`` of the page before.
            limit: Most to return, 1 to 200.

        Returns:
            A page; examines about 1,000 entries at most.

        Raises:
            ValueError: *limit* is out of bounds, *cursor* is foreign, or no dead
                letter can have this fingerprint.
        """
        check_limit(limit)
        chosen = Selection(None, fingerprint, name)
        return self._connection.run(self._list(chosen, cursor, limit))

    async def alist(
        self,
        *,
        fingerprint: str | None = None,
        name: str | None = None,
        cursor: str = "",
        limit: int = 50,
    ) -> Page:
        """List dead letters; see `list`."""
        check_limit(limit)
        chosen = Selection(None, fingerprint, name)
        return await self._connection.arun(self._list(chosen, cursor, limit))

    def groups(
        self, *, skip: int = 0, limit: int = 50
    ) -> "builtins.list[DeadLetterGroup]":
        """List dead letters grouped by error fingerprint.

        Args:
            skip: Groups to leave out, from the one with the latest death.
            limit: Most groups to return, 1 to 200.

        Returns:
            Groups, the latest death first.
        """
        check_limit(limit)
        return self._connection.run(self._groups(skip, limit))

    async def agroups(
        self, *, skip: int = 0, limit: int = 50
    ) -> "builtins.list[DeadLetterGroup]":
        """List dead letters grouped by error fingerprint; see `groups`."""
        check_limit(limit)
        return await self._connection.arun(self._groups(skip, limit))

    def get(self, task_id: str) -> TaskRecord:
        """Read one dead letter with its task.

        Returns:
            The record.

        Raises:
            TaskNotFoundError: There is no dead letter under this id.
        """
        return self._connection.run(self._get(task_id))

    async def aget(self, task_id: str) -> TaskRecord:
        """Read one dead letter with its task; see `get`."""
        return await self._connection.arun(self._get(task_id))

    def edit(self, task_id: str, /, **arguments: Any) -> None:
        """Replace arguments of a dead letter; the others stay.

        Checked against the task's annotations when the task is known here.

        Args:
            task_id: Of the dead letter.
            **arguments: New values by name, as JSON has them.

        Raises:
            TaskNotFoundError: There is no dead letter under this id.
            PayloadError: The task would not take these; nothing was stored.
        """
        self._connection.run(self._edit(task_id, arguments))

    async def aedit(self, task_id: str, /, **arguments: Any) -> None:
        """Replace arguments of a dead letter; see `edit`."""
        await self._connection.arun(self._edit(task_id, arguments))

    def count(self, *, fingerprint: str | None = None, name: str | None = None) -> int:
        """Say how many dead letters an action would touch now."""
        return self._connection.run(self._count(Selection(None, fingerprint, name)))

    async def acount(
        self, *, fingerprint: str | None = None, name: str | None = None
    ) -> int:
        """Say how many dead letters an action would touch; see `count`."""
        plan = self._count(Selection(None, fingerprint, name))
        return await self._connection.arun(plan)

    def requeue(
        self,
        ids: str | Sequence[str] | None = None,
        *,
        fingerprint: str | None = None,
        name: str | None = None,
        everything: bool = False,
        rate: float | None = None,
    ) -> Requeued:
        """Bring dead letters back to the retry lane, with fresh counts.

        Those that are there when the call begins; 100 at a time, so a call
        that is cut short has moved whole tasks and may be repeated.

        Args:
            ids: One id, or several.
            fingerprint: Those of this group.
            name: Those of this task.
            everything: All of them; has to be said.
            rate: Tasks per second; None = as fast as it goes.

        Returns:
            How many were requeued, and which were not because another task has
            taken their idempotency key.

        Raises:
            KeyConflictError: That is so for all of them.
            ValueError: Nothing was named, or too much, or no dead letter can have
                this fingerprint.
        """
        chosen = select(ids, fingerprint, name, everything=everything)
        return self._connection.run(self._requeue(chosen, rate))

    async def arequeue(
        self,
        ids: str | Sequence[str] | None = None,
        *,
        fingerprint: str | None = None,
        name: str | None = None,
        everything: bool = False,
        rate: float | None = None,
    ) -> Requeued:
        """Bring dead letters back to the retry lane; see `requeue`."""
        chosen = select(ids, fingerprint, name, everything=everything)
        return await self._connection.arun(self._requeue(chosen, rate))

    def discard(
        self,
        ids: str | Sequence[str] | None = None,
        *,
        fingerprint: str | None = None,
        name: str | None = None,
        everything: bool = False,
    ) -> int:
        """Drop dead letters; each is FAILED from then on, and kept as long.

        Args:
            ids: One id, or several.
            fingerprint: Those of this group.
            name: Those of this task.
            everything: All of them; has to be said.

        Returns:
            How many were dropped.

        Raises:
            ValueError: Nothing was named, or too much, or no dead letter can have
                this fingerprint.
        """
        chosen = select(ids, fingerprint, name, everything=everything)
        return self._connection.run(self._discard(chosen))

    async def adiscard(
        self,
        ids: str | Sequence[str] | None = None,
        *,
        fingerprint: str | None = None,
        name: str | None = None,
        everything: bool = False,
    ) -> int:
        """Drop dead letters; see `discard`."""
        chosen = select(ids, fingerprint, name, everything=everything)
        return await self._connection.arun(self._discard(chosen))

    def export(
        self, *, fingerprint: str | None = None, name: str | None = None
    ) -> Iterator[TaskRecord]:
        """Read dead letters whole, one after the other.

        Those that are there when the first is read; one that is gone when its
        turn comes is left out.

        Args:
            fingerprint: Only those of this group.
            name: Only those of this task.

        Yields:
            Records with their dead letters, the newest first.
        """
        chosen = Selection(None, fingerprint, name)
        for task_id in self._connection.run(self._chosen(chosen)):
            try:
                yield self._connection.run(self._get(task_id))
            except TaskNotFoundError:
                continue

    async def aexport(
        self, *, fingerprint: str | None = None, name: str | None = None
    ) -> AsyncIterator[TaskRecord]:
        """Read dead letters whole; see `export`."""
        chosen = Selection(None, fingerprint, name)
        for task_id in await self._connection.arun(self._chosen(chosen)):
            try:
                yield await self._connection.arun(self._get(task_id))
            except TaskNotFoundError:
                continue
