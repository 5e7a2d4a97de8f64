"""The HTTP API as routers for a FastAPI application; see `create_router`."""

from collections.abc import Callable, Iterable
from typing import Final

try:
    from fastapi import APIRouter
except ModuleNotFoundError as error:
    message = (
        "taskflow_summarize.routers needs 'fastapi', which is not installed: "
        "pip install 'asynctaskflow[api]'"
    )
    raise ModuleNotFoundError(message, name=error.name) from error

from taskflow import TaskFlow
from taskflow.errors import ConfigurationError
from taskflow_summarize.routers import (
    audit_log,
    dead_letters,
    health,
    metrics,
    queues,
    schedules,
    summarize,
    tasks,
    upstreams,
)
from taskflow_summarize.routers._access import (
    Access,
    Grant,
    KeyEntry,
    Level,
    allow_all,
    key_access,
    make_key,
)
from taskflow_summarize.routers._route import bound_to
from taskflow_summarize.routers._service import Limits, Service

__all__ = [
    "PARTS",
    "Access",
    "Grant",
    "KeyEntry",
    "Level",
    "Limits",
    "allow_all",
    "create_router",
    "key_access",
    "make_key",
]

_ADDERS: Final[dict[str, Callable[[APIRouter], None]]] = {
    # Before what takes any word for a task's id or a queue's name.
    "summarize": summarize.add_to,
    "tasks": tasks.add_to,
    "dlq": dead_letters.add_to,
    "queues": queues.add_to,
    "schedules": schedules.add_to,
    "upstreams": upstreams.add_to,
    "audit-log": audit_log.add_to,
    "health": health.add_to,
    "metrics": metrics.add_to,
}

PARTS: Final = tuple(_ADDERS)
"""The parts that a router can have."""


def create_router(
    flow: TaskFlow,
    *,
    access: Access | None = None,
    parts: Iterable[str] | None = None,
    limits: Limits | None = None,
) -> APIRouter:
    """Make a router that serves *flow* over HTTP.

    Mount it with ``app.include_router``, under a prefix or none. It needs no
    lifespan: connections are made when they are first needed. Errors of these
    routes are problem details; the host's own routes and handlers are untouched.

    Args:
        flow: Where tasks are kept.
        access: Says what a request may do: a function of the request that answers
            a `Level`, its name, or a `Grant`, for example one made by `key_access`;
            `allow_all` must be named.
        parts: Those of `PARTS` to serve. Left out: all, but ``metrics`` only where
            its extra is installed. Leave out ``health`` to keep a ``/health`` of
            your own.
        limits: What a client may ask of the service. Left out: the defaults.

    Returns:
        A router.

    Raises:
        ConfigurationError: *access* is left out, or a part is not known.
    """
    if access is None:
        problem = (
            "create_router needs access=, a function of the request that answers "
            "'none', 'read', 'operate' or 'admin'; access=allow_all lets everybody "
            "who reaches the service do everything"
        )
        raise ConfigurationError(problem)
    chosen = _parts_of(parts)
    service = Service(flow, access, limits or Limits())
    router = APIRouter(route_class=bound_to(service))
    for name, add in _ADDERS.items():
        if name in chosen:
            add(router)
    return router


def _parts_of(parts: Iterable[str] | None) -> frozenset[str]:
    if parts is None:
        missing = set[str]() if metrics.is_installed() else {"metrics"}
        return frozenset(PARTS) - missing
    chosen = frozenset([parts] if isinstance(parts, str) else parts)
    if unknown := sorted(chosen - set(PARTS)):
        problem = f"parts {', '.join(map(repr, unknown))} are none of {PARTS}"
        raise ConfigurationError(problem)
    return chosen
