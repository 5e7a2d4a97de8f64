"""The way of a request: who is it, is it small enough, what did it come to.

All of it happens in the route, before the framework reads the body and outside of
any middleware, so that a host that mounts the router keeps its own handlers for
its own routes.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar, Final, TypeVar

from fastapi import Request, Response, Security
from fastapi.routing import APIRoute
from fastapi.security import APIKeyHeader, HTTPBearer
from starlette.types import Message, Receive

from taskflow_summarize.routers._access import Level
from taskflow_summarize.routers._problems import ProblemError, problem_of
from taskflow_summarize.routers._service import Limits, Service

HandlerT = TypeVar("HandlerT", bound=Callable[..., Any])
_BEARER: Final = HTTPBearer(scheme_name="bearer", auto_error=False)
_HEADER: Final = APIKeyHeader(name="X-API-Key", scheme_name="key", auto_error=False)
_LEVEL: Final = "__taskflow_level__"


def needs(level: Level) -> Callable[[HandlerT], HandlerT]:
    """Say which level a handler's callers need.

    Returns:
        A decorator.
    """

    def mark(handler: HandlerT) -> HandlerT:
        setattr(handler, _LEVEL, level)
        return handler

    return mark


def level_of(handler: Callable[..., Any]) -> Level:
    """Return the level that callers of *handler* need; the highest if none is said."""
    level: Level = getattr(handler, _LEVEL, Level.ADMIN)
    return level


class ServiceRoute(APIRoute):
    """A route of one service; see `bound_to`."""

    service: ClassVar[Service]

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        if level_of(endpoint) > Level.NONE:
            # For the OpenAPI document; who is let in is decided below.
            shown = [Security(_BEARER), Security(_HEADER)]
            options["dependencies"] = [*(options.get("dependencies") or ()), *shown]
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler, guarded."""
        handle = super().get_route_handler()
        service, level = self.service, level_of(self.endpoint)

        async def guarded(request: Request) -> Response:
            try:
                request.state.taskflow_service = service
                request.state.taskflow_grant = await service.admit(request, level)
                bounded = _bounded(request.receive, service.limits)
                return await handle(Request(request.scope, bounded))
            except Exception as error:
                problem = problem_of(error)
                if problem is None:
                    raise
                return problem.response()

        return guarded


def bound_to(service: Service) -> type[ServiceRoute]:
    """Return the class of routes that lead to *service*."""
    return type("BoundRoute", (ServiceRoute,), {"service": service})


def _bounded(receive: Receive, limits: Limits) -> Receive:
    """Stop reading a body that is too long, whatever its header says, or too slow."""
    read = 0
    deadline = asyncio.get_running_loop().time() + limits.body_seconds
    is_whole = False

    async def counted() -> Message:
        nonlocal read, is_whole
        if is_whole:
            return await receive()  # that the client has gone, at some time
        try:
            async with asyncio.timeout_at(deadline):
                message = await receive()
        except TimeoutError:
            detail = f"the body has not come within {limits.body_seconds:g} s"
            raise ProblemError(
                408, "request_timeout", detail, headers={"Connection": "close"}
            ) from None
        is_whole = not message.get("more_body", False)
        read += len(message.get("body", b""))
        if read > limits.body_bytes:
            detail = f"the body has more than {limits.body_bytes} bytes"
            raise ProblemError(413, "body_too_large", detail, limit=limits.body_bytes)
        return message

    return counted
