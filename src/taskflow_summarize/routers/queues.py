"""The lanes over HTTP: how much waits, what is served, hold back and go on."""

from enum import StrEnum
from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, Path
from sse_starlette import EventSourceResponse

from taskflow import TaskFilter, TaskState
from taskflow_summarize.routers import _streams
from taskflow_summarize.routers._access import Level
from taskflow_summarize.routers._answers import problems
from taskflow_summarize.routers._route import needs
from taskflow_summarize.routers._schemas import PageBody, PausedBody, QueueStatusBody
from taskflow_summarize.routers._service import GrantHere, ServiceHere
from taskflow_summarize.routers.tasks import Cursor, Limit, page

Lane = Annotated[Literal["primary", "retry"], Path()]


class Queue(StrEnum):
    """A place where tasks stand, by the name it has in paths."""

    PRIMARY = "primary"
    RETRY = "retry"
    SCHEDULED = "scheduled"
    ACTIVE = "active"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DLQ = "dlq"
    PARKED = "parked"

    def filter(self) -> TaskFilter:
        """Say which tasks stand here."""
        if self in {Queue.PRIMARY, Queue.RETRY}:
            waiting = TaskState.PENDING
            return TaskFilter(state=waiting, lane=self.value, is_parked=False)
        if self is Queue.PARKED:
            return TaskFilter(state=TaskState.PENDING, is_parked=True)
        return TaskFilter(state=TaskState(self.value.upper()))


@needs(Level.READ)
async def get_status(service: ServiceHere) -> QueueStatusBody:
    """Count every home: cardinalities, nothing is scanned."""
    return QueueStatusBody.of(await service.flow.queues.astatus())


@needs(Level.READ)
async def follow_status(service: ServiceHere, grant: GrantHere) -> EventSourceResponse:
    """Follow the counts: an event `status` at once and whenever they change."""
    events = partial(_streams.status_events, service)
    return _streams.respond(service, grant.actor, events)


@needs(Level.READ)
async def list_queue(
    queue: Queue, service: ServiceHere, cursor: Cursor = "", limit: Limit = 50
) -> PageBody:
    """List the tasks of one place: what waits in its order, what ended newest first."""
    return PageBody.of(await page(service, queue.filter(), cursor, limit))


@needs(Level.ADMIN)
async def pause_lane(lane: Lane, service: ServiceHere, grant: GrantHere) -> PausedBody:
    """Let no worker claim from a lane; what runs goes on."""
    await service.flow.queues.apause(lane)
    await service.note(grant, "pause", lane=lane)
    return PausedBody(paused=list((await service.flow.queues.astatus()).paused))


@needs(Level.ADMIN)
async def resume_lane(lane: Lane, service: ServiceHere, grant: GrantHere) -> PausedBody:
    """Let workers claim from a lane again."""
    await service.flow.queues.aresume(lane)
    await service.note(grant, "resume", lane=lane)
    return PausedBody(paused=list((await service.flow.queues.astatus()).paused))


def add_to(router: APIRouter) -> None:
    """Add these paths to *router*."""
    at = "/api/v1/queues"
    router.get(f"{at}/status", responses=problems())(get_status)
    router.get(
        f"{at}/status/stream",
        response_class=EventSourceResponse,
        responses=problems(429),
    )(follow_status)
    router.get(f"{at}/{{queue}}/tasks", responses=problems(422))(list_queue)
    router.post(f"{at}/{{lane}}/pause", responses=problems(422))(pause_lane)
    router.post(f"{at}/{{lane}}/resume", responses=problems(422))(resume_lane)
