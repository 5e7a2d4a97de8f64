"""Schedules over HTTP: what runs by itself, hold it back, run it now."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict

from taskflow import TaskState
from taskflow_summarize.routers._access import Level
from taskflow_summarize.routers._answers import problems
from taskflow_summarize.routers._route import needs
from taskflow_summarize.routers._schemas import CreatedBody
from taskflow_summarize.routers._service import GrantHere, ServiceHere

Name = Annotated[str, Path(pattern=r"^[A-Za-z0-9_.-]{1,128}$")]


class ScheduleBody(BaseModel):
    """A schedule, as the workers that serve it made it known."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    task: str
    when: str
    missed: str
    next_at: datetime
    last_at: datetime | None
    last_task_id: str
    paused_at: datetime | None


class SchedulesBody(BaseModel):
    """Schedules, the next tick first."""

    schedules: list[ScheduleBody]


class HeldBody(BaseModel):
    """A schedule, and whether it is paused now."""

    name: str
    paused: bool


@needs(Level.READ)
async def list_schedules(service: ServiceHere) -> SchedulesBody:
    """List the schedules, the next tick first."""
    found = await service.flow.schedules.alist()
    return SchedulesBody(
        schedules=[ScheduleBody.model_validate(each) for each in found]
    )


@needs(Level.ADMIN)
async def pause_schedule(
    name: Name, service: ServiceHere, grant: GrantHere
) -> HeldBody:
    """Let the ticks of a schedule pass until it is resumed."""
    await service.flow.schedules.apause(name)
    await service.note(grant, "pause", schedule=name)
    return HeldBody(name=name, paused=True)


@needs(Level.ADMIN)
async def resume_schedule(
    name: Name, service: ServiceHere, grant: GrantHere
) -> HeldBody:
    """Let a schedule go on with its next tick."""
    await service.flow.schedules.aresume(name)
    await service.note(grant, "resume", schedule=name)
    return HeldBody(name=name, paused=False)


@needs(Level.OPERATE)
async def run_schedule(
    name: Name, service: ServiceHere, grant: GrantHere
) -> CreatedBody:
    """Enqueue what a schedule runs, now; its ticks stay as they are."""
    task_id = await service.flow.schedules.arun(name)
    await service.note(grant, "run", schedule=name, task_id=task_id)
    return CreatedBody(task_id=task_id, state=TaskState("PENDING"), created=True)


def add_to(router: APIRouter) -> None:
    """Add these paths to *router*."""
    at = "/api/v1/schedules"
    router.get(f"{at}/", responses=problems())(list_schedules)
    router.post(f"{at}/{{name}}/pause", responses=problems(404, 422))(pause_schedule)
    router.post(f"{at}/{{name}}/resume", responses=problems(404, 422))(resume_schedule)
    router.post(f"{at}/{{name}}/run", status_code=201, responses=problems(404, 422))(
        run_schedule
    )
