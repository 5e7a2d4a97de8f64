"""The audit log over HTTP: rare events, and who did what."""

from fastapi import APIRouter

from taskflow_summarize.routers._access import Level
from taskflow_summarize.routers._answers import problems
from taskflow_summarize.routers._problems import refusing
from taskflow_summarize.routers._route import needs
from taskflow_summarize.routers._schemas import AuditBody
from taskflow_summarize.routers._service import ServiceHere
from taskflow_summarize.routers.tasks import Cursor, Limit


@needs(Level.READ)
async def list_audit_log(
    service: ServiceHere, cursor: Cursor = "", limit: Limit = 50
) -> AuditBody:
    """List rare events, the newest first; about 1,000 are kept."""
    with refusing():
        entries = await service.flow.audit_log.alist(cursor=cursor, limit=limit)
    return AuditBody.of(entries, limit)


def add_to(router: APIRouter) -> None:
    """Add this path to *router*."""
    router.get("/api/v1/audit-log/", responses=problems(422))(list_audit_log)
