"""The door to pybreaker: its error, its listeners, the names of its states.

Its breaker is not used: its decorator does not see a coroutine fail, its ``call``
holds a lock while the call runs, its Redis storage blocks and knows no half-open
probe (measured on 1.4.1). What people know of it stays: the states, the listeners,
and an ``except pybreaker.CircuitBreakerError`` that they have written.

It is loaded when it is first needed: it loads every part of redis-py.
"""

import logging
from functools import cache
from typing import Any

from attrs import frozen

from taskflow._declare.classification import CallOutcome
from taskflow._declare.upstream import Upstream
from taskflow.errors import CircuitBreakerError

_logger = logging.getLogger("taskflow.upstream")


@frozen
class BreakerState:
    """A state, as listeners see it.

    Attributes:
        name: ``closed``, ``open`` or ``half-open``.
    """

    name: str


@frozen
class BreakerView:
    """A breaker, as listeners see it.

    Attributes:
        name: Of the upstream.
        current_state: Name of the state, as this process knows it.
    """

    name: str
    current_state: str


@cache
def _raised() -> type[CircuitBreakerError]:
    import pybreaker

    class RaisedCircuitBreakerError(CircuitBreakerError, pybreaker.CircuitBreakerError):
        """Ours, and pybreaker's at once."""

        def __reduce__(self) -> Any:
            return refusal, (self.name, self.retry_after, self.reason)

    RaisedCircuitBreakerError.__name__ = CircuitBreakerError.__name__
    RaisedCircuitBreakerError.__qualname__ = CircuitBreakerError.__qualname__
    return RaisedCircuitBreakerError


def refusal(name: str, retry_after: float, reason: str) -> CircuitBreakerError:
    """Make the error of a call that was not let begin."""
    return _raised()(name, retry_after, reason)


def _tell(upstream: Upstream, method: str, *args: Any) -> None:
    for listener in upstream.listeners:
        try:
            getattr(listener, method)(*args)
        except KeyboardInterrupt:
            raise
        except BaseException:
            _logger.exception("a listener of upstream %r failed", upstream.name)


def tell_before(upstream: Upstream) -> None:
    """Tell the listeners that a call begins."""
    if upstream.listeners:
        _tell(upstream, "before_call", BreakerView(upstream.name, "closed"), None)


def tell_end(
    upstream: Upstream, outcome: CallOutcome, error: BaseException | None, state: str
) -> None:
    """Tell the listeners how a call ended; of a neutral end they hear nothing."""
    if not upstream.listeners:
        return
    view = BreakerView(upstream.name, state)
    if outcome.kind == "success":
        _tell(upstream, "success", view)
    elif outcome.kind == "failure":
        _tell(upstream, "failure", view, error)


def on_state_change(upstream: Upstream, old: str, new: str) -> None:
    """Tell the listeners that the breaker turned."""
    if upstream.listeners and old != new:
        view = BreakerView(upstream.name, new)
        _tell(upstream, "state_change", view, BreakerState(old), BreakerState(new))
