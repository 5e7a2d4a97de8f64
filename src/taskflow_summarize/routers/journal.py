"""The journal over HTTP: rare events, and who did what."""

from fastapi import APIRouter

from taskflow_summarize.routers._access import Level
from taskflow_summarize.routers._answers import problems
from taskflow_summarize.routers._problems import refusing
from taskflow_summarize.routers._route import needs
from taskflow_summarize.routers._schemas import JournalBody
from taskflow_summarize.routers._service import ServiceHere
from taskflow_summarize.routers.tasks import Cursor, Limit


@needs(Level.READ)
async def list_journal(
    service: ServiceHere, cursor: Cursor = "", limit: Limit = 50
) -> JournalBody:
    """List rare events, the newest first; about 1,000 are kept."""
    with refusing():
        entries = await service.flow.journal.alist(cursor=cursor, limit=limit)
    return JournalBody.of(entries, limit)


def add_to(router: APIRouter) -> None:
    """Add this path to *router*."""
    router.get("/api/v1/journal/", responses=problems(422))(list_journal)
