"""Several failures at once: find one in an exception group, or choose what decides."""

from collections.abc import Sequence
from typing import TypeVar, cast

from taskflow_summarize.errors import SummarizeError

ErrorT = TypeVar("ErrorT", bound=Exception)


def find_error(error: BaseException, kind: type[ErrorT]) -> ErrorT | None:
    """Return the first exception of *kind* in *error*, which may be a group.

    Args:
        error: What was raised.
        kind: A class of exceptions that are not groups.

    Returns:
        *error* itself or one of its leaves; None if there is none of *kind*.
    """
    if isinstance(error, kind):
        return error
    if not isinstance(error, BaseExceptionGroup):
        return None
    group = cast("BaseExceptionGroup[BaseException]", error)
    found = (find_error(part, kind) for part in group.exceptions)
    return next((each for each in found if each is not None), None)


def choose_error(errors: Sequence[Exception]) -> Exception:
    """Choose which of several failures decides what becomes of a summary.

    Args:
        errors: At least one, in the order in which they happened.

    Returns:
        The first permanent one; else the one that asks for the longest wait; else the
        first.
    """
    for error in errors:
        if isinstance(error, SummarizeError) and not error.is_retryable:
            return error
    return max(errors, key=lambda each: getattr(each, "retry_after", None) or 0.0)
