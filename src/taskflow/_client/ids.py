"""Ids of tasks: UUIDs of version 7, so that they sort by time (RFC 9562)."""

import sys

from taskflow._client.flow_context import FlowContext
from taskflow._client.sansio import Plan
from taskflow._protocol import inspect
from taskflow._protocol.keys import ID_PATTERN
from taskflow.errors import TaskNotFoundError

if sys.version_info >= (3, 14):
    from uuid import uuid7
else:
    from uuid_utils import uuid7


def new_task_id() -> str:
    """Make an id; by the caller, so that a repeat is recognised."""
    return str(uuid7())


def checked(task_id: str) -> str:
    """Return *task_id*; an id no task can have is not worth a round trip.

    Raises:
        TaskNotFoundError: No task can have this id.
    """
    if not ID_PATTERN.fullmatch(task_id):
        raise TaskNotFoundError(task_id)
    return task_id


def find_ids(connection: FlowContext, part: str) -> Plan[list[str]]:
    """Find the tasks whose id begins or ends with *part*.

    Looks at every key of the prefix, about 1,000 at a time.

    Yields:
        Operations.

    Returns:
        Their ids, sorted.
    """
    found: set[str] = set()
    cursor = "0"
    while True:
        cursor, ids = yield inspect.find_ids(
            connection.keys, part, cursor, now_ms=connection.clock()
        )
        found.update(ids)  # a scan may show a key twice
        if cursor == "0":
            return sorted(found)
