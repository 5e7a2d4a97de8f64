"""Tasks over HTTP: create, list, read, follow, retry, cancel, delete."""

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Response
from sse_starlette import EventSourceResponse

from taskflow import Page, Task, TaskFilter, TaskState
from taskflow.errors import TaskNotFoundError
from taskflow_summarize.routers import _streams
from taskflow_summarize.routers._access import Level
from taskflow_summarize.routers._answers import problems
from taskflow_summarize.routers._problems import ProblemError, refusing
from taskflow_summarize.routers._requests import CallBody, Moment, StateName
from taskflow_summarize.routers._route import needs
from taskflow_summarize.routers._schemas import (
    CancelledBody,
    CreatedBody,
    DeletedBody,
    MovedBody,
    OrphansBody,
    PageBody,
    TaskBody,
)
from taskflow_summarize.routers._service import GrantHere, Service, ServiceHere

TaskId = Annotated[str, Path(min_length=1, max_length=64)]
Cursor = Annotated[str, Query(max_length=200)]
Limit = Annotated[int, Query(ge=1, le=200)]
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=200,
        description="The same key and body again, within 24 h after the task has completed, "
        "is the same task.",
    ),
]


async def store(
    service: Service, task: Task[..., Any, Any], arguments: dict[str, Any]
) -> tuple[CreatedBody, int]:
    """Store a call of *task*.

    Returns:
        The answer, and its status: 201, or 200 when its key was held already.
    """
    handle = await service.flow.aenqueue(task.call_from_json(arguments))
    if handle.created:
        name = "SCHEDULED" if task.call_options.delay else "PENDING"
        state = TaskState(name)
        return CreatedBody(task_id=handle.id, state=state, created=True), 201
    state = (await service.flow.tasks.aget(handle.id)).state
    return CreatedBody(task_id=handle.id, state=state, created=False), 200


@needs(Level.OPERATE)
async def create_task(
    body: CallBody,
    service: ServiceHere,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> CreatedBody:
    """Store a call of any task that this service has registered."""
    options = body.options.model_dump(exclude_none=True)
    if idempotency_key is not None:
        if options.get("key", idempotency_key) != idempotency_key:
            detail = "options.key and the header Idempotency-Key differ"
            raise ProblemError(422, "invalid_arguments", detail, errors=[])
        options["key"] = idempotency_key
    task = service.flow.registry.get(body.name)
    if options:
        task = task.options(**options)
    created, response.status_code = await store(service, task, body.args)
    return created


@needs(Level.READ)
async def list_tasks(  # noqa: PLR0917 - the framework passes them by name
    service: ServiceHere,
    status: Annotated[StateName | None, Query()] = None,
    name: Annotated[str | None, Query(max_length=128)] = None,
    lane: Annotated[str | None, Query(pattern="^(primary|retry)$")] = None,
    error: Annotated[str | None, Query(max_length=200)] = None,
    since: Annotated[Moment | None, Query()] = None,
    until: Annotated[Moment | None, Query()] = None,
    cursor: Cursor = "",
    limit: Limit = 50,
) -> PageBody:
    """List tasks without payloads; about 1,000 entries are examined a page."""
    wanted = TaskFilter(status, name, lane, error, since, until)
    return PageBody.of(await page(service, wanted, cursor, limit))


async def page(service: Service, wanted: TaskFilter, cursor: str, limit: int) -> Page:
    """Read one page of a list.

    Returns:
        The page.
    """
    with refusing():
        return await service.flow.tasks.alist(wanted, cursor=cursor, limit=limit)


@needs(Level.READ)
async def get_task(task_id: TaskId, service: ServiceHere) -> TaskBody:
    """Read one task whole: arguments, result, attempts, timeline, dead letter."""
    return TaskBody.of_record(await service.flow.tasks.aget(task_id))


@needs(Level.READ)
async def follow_task(
    task_id: TaskId,
    service: ServiceHere,
    grant: GrantHere,
    last_event_id: Annotated[str | None, Header(max_length=64)] = None,
) -> EventSourceResponse:
    """Follow a task: `state`, `chunk` and `end`, as server-sent events."""
    after = last_event_id or ""
    with refusing():
        await service.flow.tasks.anews(task_id, after=after, limit=1)
    events = partial(_streams.task_events, service, task_id, after)
    return _streams.respond(service, grant.actor, events)


@needs(Level.OPERATE)
async def retry_task(
    task_id: TaskId, service: ServiceHere, grant: GrantHere
) -> MovedBody:
    """Bring a task back to work.

    From DLQ, FAILED and CANCELLED it enters the retry lane with fresh counts; a
    SCHEDULED one runs now. Any other state is a conflict.
    """
    await service.flow.tasks.aretry(task_id)
    await service.note(grant, "retry", task_id=task_id)
    return MovedBody(task_id=task_id, state=TaskState.PENDING)


@needs(Level.OPERATE)
async def cancel_task(
    task_id: TaskId, service: ServiceHere, grant: GrantHere
) -> CancelledBody:
    """Stop a task: at once while it waits, within seconds while it runs."""
    gone = await service.flow.tasks.acancel(task_id)
    await service.note(grant, "cancel", task_id=task_id)
    state = TaskState.CANCELLED if gone else TaskState.ACTIVE
    return CancelledBody(task_id=task_id, state=state, requested=not gone)


@needs(Level.ADMIN)
async def delete_task(
    task_id: TaskId,
    service: ServiceHere,
    grant: GrantHere,
    force: Annotated[bool, Query()] = False,  # noqa: FBT002 - a query's flag
) -> DeletedBody:
    """Remove a task with everything that belongs to it; a running one by force."""
    if not await service.flow.tasks.adelete(task_id, force=force):
        raise TaskNotFoundError(task_id)
    await service.note(grant, "delete", task_id=task_id)
    return DeletedBody(task_id=task_id, deleted=True)


@needs(Level.OPERATE)
async def requeue_orphaned(service: ServiceHere, grant: GrantHere) -> OrphansBody:
    """Take back what dead workers held, and tasks that stand in no home.

    What waits or runs is never queued twice.
    """
    report = await service.flow.tasks.arequeue_orphaned()
    await service.note(grant, "requeue_orphaned", requeued=report.requeued)
    message = (
        f"{report.requeued} of {report.found} orphaned tasks wait again"
        if report.found
        else "no task is orphaned"
    )
    return OrphansBody(
        found=report.found,
        requeued=report.requeued,
        errors=list(report.errors),
        message=message,
    )


def add_to(router: APIRouter) -> None:
    """Add these paths to *router*."""
    at = "/api/v1/tasks"
    for path, shown in ((f"{at}/", True), (at, False)):
        router.post(
            path,
            status_code=201,
            include_in_schema=shown,
            responses=problems(408, 409, 413, 422)
            | {200: {"model": CreatedBody, "description": "The key was held."}},
        )(create_task)
        router.get(path, include_in_schema=shown, responses=problems(422))(list_tasks)
    router.post(f"{at}/requeue-orphaned", responses=problems())(requeue_orphaned)
    router.get(f"{at}/{{task_id}}", responses=problems(404, 422))(get_task)
    router.get(
        f"{at}/{{task_id}}/events",
        response_class=EventSourceResponse,
        responses=problems(404, 422, 429),
    )(follow_task)
    router.post(f"{at}/{{task_id}}/retry", responses=problems(404, 409, 422))(
        retry_task
    )
    router.post(f"{at}/{{task_id}}/cancel", responses=problems(404, 409, 422))(
        cancel_task
    )
    router.delete(f"{at}/{{task_id}}", responses=problems(404, 409, 422))(delete_task)
