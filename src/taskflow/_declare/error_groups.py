"""Look into exception groups, which `asyncio.TaskGroup` and others raise."""

import asyncio
from typing import cast


def leaves_of(error: BaseException) -> list[BaseException]:
    """List the exceptions in *error* that are not groups, in order.

    Args:
        error: A group, nested to any depth, or any other exception.

    Returns:
        The leaves of a group; *error* itself if it is not one.

    Example:
        >>> group = ExceptionGroup("", [ValueError(), ExceptionGroup("", [KeyError()])])
        >>> leaves_of(group)
        [ValueError(), KeyError()]
    """
    return [part for part in parts_of(error) if not _is_group(part)]


def parts_of(error: BaseException) -> list[BaseException]:
    """List the leaves of *error*, then its groups from the outermost inwards.

    Rules are compared with both, leaves first, so that a rule for a class of groups
    is found too.

    Returns:
        At least one exception; of one that is not a group, itself.
    """
    leaves: list[BaseException] = []
    groups: list[BaseException] = []
    left = [error]
    while left:
        part = left.pop()
        if isinstance(part, BaseExceptionGroup):
            group = cast("BaseExceptionGroup[BaseException]", part)
            groups.append(group)
            left.extend(reversed(group.exceptions))
        else:
            leaves.append(part)
    return leaves + groups


def is_cancellation(error: BaseException | None) -> bool:
    """Whether *error* is a ``CancelledError``, or a group of nothing else."""
    return error is not None and all(
        isinstance(leaf, asyncio.CancelledError) for leaf in leaves_of(error)
    )


def _is_group(error: BaseException) -> bool:
    return isinstance(error, BaseExceptionGroup)
