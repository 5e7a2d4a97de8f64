"""Upstreams over HTTP: how they stand; open, close and reset them for the fleet."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from taskflow import TaskFlow
from taskflow_summarize.routers._access import Grant, Level
from taskflow_summarize.routers._answers import problems
from taskflow_summarize.routers._requests import Body
from taskflow_summarize.routers._route import needs
from taskflow_summarize.routers._service import GrantHere, Service, ServiceHere

_NAME = r"^(task:)?[A-Za-z0-9_.-]{1,128}$"
Name = Annotated[str, Path(pattern=_NAME)]
NameOrAll = Annotated[str | None, Query(pattern=_NAME)]


class UpstreamBody(BaseModel):
    """An upstream, as the whole fleet sees it."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    state: Literal["closed", "open", "half-open"]
    shut_by: str
    reason: str
    since: datetime | None
    retry_at: datetime | None
    tapped_until: datetime | None
    tap_reason: str
    failures: int
    calls: int
    running: int
    probes: int
    parked: dict[str, int]
    tokens: float | None
    limit: int | None
    per: float | None
    burst: int | None
    concurrency: int | None
    failure_rate: float | None
    min_calls: int | None
    epoch: int


class UpstreamsBody(BaseModel):
    """Upstreams, by name."""

    upstreams: list[UpstreamBody]


class OpenBody(Body):
    """Why an upstream is shut, and for how long."""

    reason: str = Field(default="", max_length=500)
    expires: float | None = Field(
        default=None,
        gt=0,
        le=31_536_000,
        description="Seconds until a call may try it again; none: until it is closed.",
    )


class SteeredBody(BaseModel):
    """Which upstreams were steered."""

    upstreams: list[str]
    message: str


@needs(Level.READ)
async def list_upstreams(service: ServiceHere) -> UpstreamsBody:
    """List the upstreams: whether they may be called, and what waits for them."""
    found = await service.flow.upstreams.astatus()
    return UpstreamsBody(
        upstreams=[UpstreamBody.model_validate(each) for each in found]
    )


@needs(Level.READ)
async def get_upstream(name: Name, service: ServiceHere) -> UpstreamBody:
    """Read how one upstream stands."""
    return UpstreamBody.model_validate(await service.flow.upstreams.aget(name))


@needs(Level.OPERATE)
async def open_upstream(
    name: Name, service: ServiceHere, grant: GrantHere, body: OpenBody | None = None
) -> SteeredBody:
    """Let no call of an upstream begin; its tasks wait, unharmed."""
    return await steer_open(service, grant, name, body or OpenBody())


@needs(Level.OPERATE)
async def close_upstream(
    name: Name, service: ServiceHere, grant: GrantHere
) -> SteeredBody:
    """Let an upstream be called again; what is parked comes back slowly at first."""
    changed = await service.flow.upstreams.aforce_close(name)
    return await _noted(service, grant, "close", changed, "may be called")


@needs(Level.OPERATE)
async def reset_upstream(
    name: Name, service: ServiceHere, grant: GrantHere
) -> SteeredBody:
    """Close it, and forget what was counted: failures, tokens, permits."""
    return await steer_reset(service, grant, name)


async def steer_open(
    service: Service, grant: Grant, name: str | None, body: OpenBody
) -> SteeredBody:
    """Open one upstream, or all.

    Returns:
        Which.
    """
    flow: TaskFlow = service.flow
    changed = await flow.upstreams.aforce_open(
        name, reason=body.reason, expires=body.expires
    )
    return await _noted(service, grant, "open", changed, "shut", reason=body.reason)


async def steer_reset(service: Service, grant: Grant, name: str | None) -> SteeredBody:
    """Reset one upstream, or all.

    Returns:
        Which.
    """
    changed = await service.flow.upstreams.areset(name)
    return await _noted(service, grant, "reset", changed, "as new")


async def _noted(
    service: Service,
    grant: Grant,
    verb: str,
    changed: tuple[str, ...],
    words: str,
    **facts: str,
) -> SteeredBody:
    for each in changed:
        await service.note(grant, f"upstream_{verb}", upstream=each, **facts)
    message = f"{words}: {', '.join(changed)}" if changed else "nothing to do"
    return SteeredBody(upstreams=list(changed), message=message)


def add_to(router: APIRouter) -> None:
    """Add these paths to *router*."""
    at = "/api/v1/upstreams"
    router.get(f"{at}/", responses=problems())(list_upstreams)
    router.get(f"{at}/{{name}}", responses=problems(404, 422))(get_upstream)
    for verb, endpoint in (
        ("open", open_upstream),
        ("close", close_upstream),
        ("reset", reset_upstream),
    ):
        router.post(f"{at}/{{name}}/{verb}", responses=problems(404, 422))(endpoint)
