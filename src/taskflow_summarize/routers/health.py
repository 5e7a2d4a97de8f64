"""Health over HTTP: does this process live, is it ready, how are the workers.

Workers describe themselves with every beat, so nothing is broadcast, nothing is
scanned, and a frozen worker delays no answer: it is shown stale.
"""

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel

from taskflow import QueueStatus, UpstreamStatus, WorkerStatus
from taskflow.errors import ServerError, ServerUnavailableError
from taskflow_summarize.routers._access import Level
from taskflow_summarize.routers._answers import problems
from taskflow_summarize.routers._route import needs
from taskflow_summarize.routers._schemas import LaneAges, LaneCounts
from taskflow_summarize.routers._service import GrantHere, Service, ServiceHere
from taskflow_summarize.routers.upstreams import (
    NameOrAll,
    OpenBody,
    SteeredBody,
    UpstreamBody,
    steer_open,
    steer_reset,
)

Word = Literal["healthy", "stale", "draining"]


class LiveBody(BaseModel):
    """That this process answers."""

    status: Literal["alive"]


class Component(BaseModel):
    """One thing that the service needs.

    Attributes:
        status: In one word.
        detail: A sentence, where something is wrong.
    """

    status: Literal["healthy", "degraded", "unhealthy"]
    detail: str = ""


class HealthBody(BaseModel):
    """How this process and what it needs are."""

    status: Literal["healthy", "degraded", "unhealthy", "ready", "not_ready"]
    components: dict[str, Component]
    timestamp: datetime


class WorkerBody(BaseModel):
    """One worker, as its last beat described it; durations in seconds."""

    id: str
    status: Word
    kind: str
    last_beat_at: datetime
    polled_ago: float | None
    concurrency: int
    running: int
    done: int
    failed: int
    host: str
    pid: int
    version: str
    executor: str


class WorkersBody(BaseModel):
    """The workers that beat within the last hour, the latest beat first."""

    status: Literal["healthy", "degraded"]
    total: int
    healthy: int
    stale: int
    workers: list[WorkerBody]


class RunningBody(BaseModel):
    """A body that runs."""

    id: str
    name: str
    attempt: int
    seconds: float


class DiagnosticsItem(WorkerBody):
    """One worker in detail."""

    running_tasks: list[RunningBody]
    tasks: list[str]
    lease: float
    python: str
    server: str
    prefix: str


class DiagnosticsBody(BaseModel):
    """The workers in detail, what the lanes give them, and what holds tasks up.

    Attributes:
        upstreams: Those that may not be called now, or for which tasks are parked.
    """

    workers: list[DiagnosticsItem]
    retry_ratio: float
    served_ratio: float | None
    served: LaneCounts
    oldest_age: LaneAges
    upstreams: list[UpstreamBody]
    timestamp: datetime


class ResetBody(BaseModel):
    """Which circuit breakers were reset."""

    reset: list[str]
    message: str


async def look(service: Service) -> tuple[QueueStatus, list[WorkerStatus]]:
    """Read counts and workers, within the patience of a probe.

    Returns:
        Both; the time is that of the first.

    Raises:
        ServerUnavailableError: There was no answer in time.
    """
    flow = service.flow
    try:
        async with asyncio.timeout(service.limits.patience):
            return await asyncio.gather(flow.queues.astatus(), flow.workers.alist())
    except TimeoutError:
        message = f"no answer within {service.limits.patience:g} s"
        raise ServerUnavailableError(message) from None


async def look_at_upstreams(service: Service) -> list[UpstreamStatus]:
    """Read how the upstreams stand, within the patience of a probe.

    Returns:
        All that are known.

    Raises:
        ServerUnavailableError: There was no answer in time.
    """
    try:
        async with asyncio.timeout(service.limits.patience):
            return await service.flow.upstreams.astatus()
    except TimeoutError:
        message = f"no answer within {service.limits.patience:g} s"
        raise ServerUnavailableError(message) from None


def facts_of(worker: WorkerStatus, now: datetime) -> dict[str, Any]:
    """Put what a list shows of *worker* together."""
    info = worker.info
    return {
        "id": worker.id,
        "status": worker.condition(now),
        "kind": worker.kind,
        "last_beat_at": worker.last_beat_at,
        "polled_ago": worker.polled_ago(now),
        "concurrency": info.get("concurrency", 0),
        "running": len(info.get("running", ())),
        "done": info.get("done", 0),
        "failed": info.get("failed", 0),
        "host": info.get("host", ""),
        "pid": info.get("pid", 0),
        "version": info.get("version", ""),
        "executor": info.get("executor", ""),
    }


@needs(Level.NONE)
async def live() -> LiveBody:
    """Answer; whether this process lives, and nothing else."""
    return LiveBody(status="alive")


@needs(Level.NONE)
async def ready(
    service: ServiceHere,
    response: Response,
    workers: Annotated[bool, Query()] = True,  # noqa: FBT002 - a query's flag
) -> HealthBody:
    """Say whether work sent here would be done.

    503 when the server that keeps the tasks does not answer, or when no worker has
    asked for work lately; with `workers=false` the workers do not matter, for
    fleets that are scaled to none when nothing waits.
    """
    body = await _health(service)
    is_ready = body.components["redis"].status == "healthy" and (
        not workers or body.components["workers"].status == "healthy"
    )
    response.status_code = 200 if is_ready else 503
    body.status = "ready" if is_ready else "not_ready"
    return body


@needs(Level.NONE)
async def health(service: ServiceHere, response: Response) -> HealthBody:
    """Say how the parts are: 503 when Redis is away.

    Degraded without a worker, and while an upstream is shut.
    """
    body = await _health(service)
    response.status_code = 503 if body.status == "unhealthy" else 200
    return body


async def _health(service: Service) -> HealthBody:
    try:
        status, workers = await look(service)
        upstreams = await look_at_upstreams(service)
    except ServerError as error:
        # Anybody may ask; where the server is, is in the log.
        redis = Component(status="unhealthy", detail=type(error).__name__)
        unknown = Component(status="unhealthy", detail="cannot be asked for")
        components = {"redis": redis, "workers": unknown, "upstreams": unknown}
        return HealthBody(
            status="unhealthy", components=components, timestamp=datetime.now(UTC)
        )
    able = [
        worker
        for worker in workers
        if worker.kind == "worker" and worker.condition(status.now) == "healthy"
    ]
    detail = "" if able else "no worker has asked for work lately"
    workers_now = Component(status="healthy" if able else "degraded", detail=detail)
    upstreams_now = _of_upstreams(upstreams)
    both = {workers_now.status, upstreams_now.status}
    return HealthBody(
        status="degraded" if "degraded" in both else "healthy",
        components={
            "redis": Component(status="healthy"),
            "workers": workers_now,
            "upstreams": upstreams_now,
        },
        timestamp=status.now,
    )


def _of_upstreams(upstreams: list[UpstreamStatus]) -> Component:
    # Anybody may ask: how many, and not which. Tasks that are held back by name, and
    # a service that asked for a pause, are no trouble of this one's.
    shut = sum(
        each.state != "closed" and not each.name.startswith("task:")
        for each in upstreams
    )
    if not shut:
        return Component(status="healthy")
    detail = f"{shut} shut; what needs them waits"
    return Component(status="degraded", detail=detail)


@needs(Level.READ)
async def list_workers(service: ServiceHere) -> WorkersBody:
    """List the workers that beat within the last hour."""
    status, known = await look(service)
    workers = [WorkerBody(**facts_of(worker, status.now)) for worker in known]
    working = [worker for worker in workers if worker.kind == "worker"]
    healthy = sum(worker.status == "healthy" for worker in working)
    return WorkersBody(
        status="healthy" if healthy else "degraded",
        total=len(working),
        healthy=healthy,
        stale=sum(worker.status == "stale" for worker in working),
        workers=workers,
    )


@needs(Level.READ)
async def diagnose(service: ServiceHere) -> DiagnosticsBody:
    """Say what each worker runs, which share each lane gets, and what is held up."""
    status, known = await look(service)
    upstreams = await look_at_upstreams(service)
    return DiagnosticsBody(
        workers=[_detail(worker, status.now) for worker in known],
        retry_ratio=status.retry_ratio,
        served_ratio=status.served_ratio,
        served=LaneCounts(primary=status.served_primary, retry=status.served_retry),
        oldest_age=LaneAges(
            primary=status.oldest_primary_age, retry=status.oldest_retry_age
        ),
        upstreams=[
            UpstreamBody.model_validate(each)
            for each in upstreams
            if not each.is_admitting or any(each.parked.values())
        ],
        timestamp=status.now,
    )


@needs(Level.OPERATE)
async def reset_breakers(
    service: ServiceHere, grant: GrantHere, name: NameOrAll = None
) -> ResetBody:
    """Close every circuit breaker of the fleet, or that of one upstream.

    What was counted is forgotten, and every worker's next claim sees it.
    """
    done = await steer_reset(service, grant, name)
    return ResetBody(reset=done.upstreams, message=done.message)


@needs(Level.OPERATE)
async def open_breakers(
    service: ServiceHere,
    grant: GrantHere,
    name: NameOrAll = None,
    body: OpenBody | None = None,
) -> SteeredBody:
    """Open every circuit breaker of the fleet, or that of one upstream."""
    return await steer_open(service, grant, name, body or OpenBody())


def _detail(worker: WorkerStatus, now: datetime) -> DiagnosticsItem:
    info = worker.info
    return DiagnosticsItem(
        **facts_of(worker, now),
        running_tasks=info.get("running", []),
        tasks=info.get("tasks", []),
        lease=info.get("lease", 0.0),
        python=info.get("python", ""),
        server=info.get("server", ""),
        prefix=info.get("prefix", ""),
    )


def add_to(router: APIRouter) -> None:
    """Add these paths to *router*."""
    router.get("/live")(live)
    away: dict[int | str, dict[str, Any]] = {
        503: {"model": HealthBody, "description": "Redis, or a worker, is away."}
    }
    router.get("/ready", responses={**away, 422: problems(422)[422]})(ready)
    router.get("/health", responses={**away})(health)
    router.get("/health/workers", responses=problems())(list_workers)
    router.get("/health/workers/diagnostics", responses=problems())(diagnose)
    router.post("/health/workers/reset-circuit-breaker", responses=problems(404, 422))(
        reset_breakers
    )
    router.post("/health/workers/open-circuit-breaker", responses=problems(404, 422))(
        open_breakers
    )
