"""The dead-letter queue over HTTP: see, group, edit, bring back, drop, export."""

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from taskflow.errors import KeyConflictError, ServerError
from taskflow_summarize.routers._access import Grant, Level
from taskflow_summarize.routers._answers import problems
from taskflow_summarize.routers._problems import refusing
from taskflow_summarize.routers._requests import EditBody, RequeueBody, Selection
from taskflow_summarize.routers._route import needs
from taskflow_summarize.routers._schemas import (
    DiscardedBody,
    GroupsBody,
    LettersBody,
    RequeuedBody,
    TaskBody,
)
from taskflow_summarize.routers._service import GrantHere, Service, ServiceHere
from taskflow_summarize.routers.tasks import Cursor, Limit, TaskId

Fingerprint = Annotated[str | None, Query(pattern="^[a-z0-9_]{1,64}$")]
Name = Annotated[str | None, Query(max_length=128)]


@needs(Level.READ)
async def list_letters(
    service: ServiceHere,
    fingerprint: Fingerprint = None,
    name: Name = None,
    cursor: Cursor = "",
    limit: Limit = 50,
) -> LettersBody:
    """List dead letters, the newest first."""
    with refusing():
        page = await service.flow.dlq.alist(
            fingerprint=fingerprint, name=name, cursor=cursor, limit=limit
        )
    return LettersBody.of(page, total=(await service.flow.queues.astatus()).dlq)


@needs(Level.READ)
async def list_groups(
    service: ServiceHere,
    skip: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    limit: Limit = 50,
) -> GroupsBody:
    """List dead letters grouped by the kind of their error, the latest death first."""
    return GroupsBody.of(await service.flow.dlq.agroups(skip=skip, limit=limit))


@needs(Level.OPERATE)
async def requeue(
    body: RequeueBody, service: ServiceHere, grant: GrantHere
) -> RequeuedBody:
    """Bring dead letters back to the retry lane, with fresh counts.

    `preview` only counts. With a `rate` this answers at once and goes on in the
    background; what it has not come to when the service stops stays a dead letter.
    """
    chosen = _chosen(body)
    matched = await _count(service, body)
    if body.preview:
        return RequeuedBody(matched=matched, requeued=0)
    if body.rate is not None:
        service.start(_requeue_slowly(service, grant, chosen, body.rate))
        return RequeuedBody(matched=matched, requeued=0)
    done = await service.flow.dlq.arequeue(**chosen)
    await service.note(grant, "requeue", **_facts(body), count=done.count)
    return RequeuedBody(matched=matched, requeued=done.count, held=done.held)


async def _requeue_slowly(
    service: Service, grant: Grant, chosen: dict[str, Any], rate: float
) -> None:
    await service.note(grant, "requeue_begun", rate=rate)
    count = 0
    with contextlib.suppress(KeyConflictError):  # every one is held: none came back
        count = (await service.flow.dlq.arequeue(**chosen, rate=rate)).count
    await service.note(grant, "requeue", count=count, rate=rate)


@needs(Level.ADMIN)
async def discard(
    body: Selection, service: ServiceHere, grant: GrantHere
) -> DiscardedBody:
    """Drop dead letters: each is FAILED from then on. `preview` only counts."""
    matched = await _count(service, body)
    if body.preview:
        return DiscardedBody(matched=matched, discarded=0)
    discarded = await service.flow.dlq.adiscard(**_chosen(body))
    await service.note(grant, "discard", **_facts(body), count=discarded)
    return DiscardedBody(matched=matched, discarded=discarded)


def _chosen(body: Selection) -> dict[str, Any]:
    return body.model_dump(include={"ids", "fingerprint", "name", "everything"})


def _facts(body: Selection) -> dict[str, Any]:
    facts = {"fingerprint": body.fingerprint, "task": body.name}
    return {name: fact for name, fact in facts.items() if fact is not None}


async def _count(service: Service, body: Selection) -> int:
    if body.ids is not None:
        return len(set(body.ids))
    return await service.flow.dlq.acount(fingerprint=body.fingerprint, name=body.name)


@needs(Level.ADMIN)
async def edit(
    task_id: TaskId, body: EditBody, service: ServiceHere, grant: GrantHere
) -> TaskBody:
    """Replace arguments of a dead letter; the others stay."""
    await service.flow.dlq.aedit(task_id, **body.arguments)
    await service.note(grant, "edit", task_id=task_id, arguments=sorted(body.arguments))
    return TaskBody.of_record(await service.flow.dlq.aget(task_id))


@needs(Level.READ)
async def export(
    service: ServiceHere, fingerprint: Fingerprint = None, name: Name = None
) -> StreamingResponse:
    """Write dead letters whole, one JSON object a line, the newest first."""
    records = service.flow.dlq.aexport(fingerprint=fingerprint, name=name)
    first = await anext(records, None)

    async def lines() -> AsyncIterator[str]:
        if first is None:
            return
        yield TaskBody.of_record(first).model_dump_json() + "\n"
        try:
            async for record in records:
                yield TaskBody.of_record(record).model_dump_json() + "\n"
        except ServerError as error:
            # The status has been sent; a last line says that this is not all.
            yield json.dumps({"incomplete": True, "detail": str(error)}) + "\n"

    return StreamingResponse(lines(), media_type="application/x-ndjson")


def add_to(router: APIRouter) -> None:
    """Add these paths to *router*."""
    at = "/api/v1/queues/dlq"
    router.get(at, responses=problems(422))(list_letters)
    router.get(f"{at}/groups", responses=problems(422))(list_groups)
    router.get(
        f"{at}/export",
        response_class=StreamingResponse,
        responses=problems(422)
        | {200: {"content": {"application/x-ndjson": {}}, "description": "Lines."}},
    )(export)
    router.post(f"{at}/requeue", responses=problems(408, 409, 413, 422))(requeue)
    router.post(f"{at}/discard", responses=problems(408, 413, 422))(discard)
    router.patch(f"{at}/{{task_id}}", responses=problems(404, 408, 409, 413, 422))(edit)
