"""Look into exception groups, which `asyncio.TaskGroup` and others raise."""

import asyncio
from typing import Any, cast

_exceptions: Any = BaseExceptionGroup.exceptions


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
    return [part for part in parts_of(error) if not is_group(part)]


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
        if is_group(part):
            groups.append(part)
            left.extend(reversed(_exceptions_of(part)))
        else:
            leaves.append(part)
    return leaves + groups


def _exceptions_of(group: BaseException) -> tuple[BaseException, ...]:
    # By the descriptor of the base class: a subclass may have its own.
    return cast("tuple[BaseException, ...]", _exceptions.__get__(group))


def is_cancellation(error: BaseException | None) -> bool:
    """Whether *error* is a ``CancelledError``, or a group of nothing else."""
    return error is not None and all(
        issubclass(type(leaf), asyncio.CancelledError) for leaf in leaves_of(error)
    )


def is_group(error: BaseException) -> bool:
    """Whether *error* is an exception group; runs no code of its class."""
    return issubclass(type(error), BaseExceptionGroup)
