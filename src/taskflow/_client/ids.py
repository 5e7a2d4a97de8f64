"""Ids of tasks: UUIDs of version 7, so that they sort by time (RFC 9562)."""

import sys

if sys.version_info >= (3, 14):
    from uuid import uuid7
else:
    from uuid_utils import uuid7


def new_task_id() -> str:
    """Make an id; by the caller, so that a repeat is recognised."""
    return str(uuid7())
