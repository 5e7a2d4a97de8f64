"""The application's own path: create a summary."""

from fastapi import APIRouter, Response

from taskflow_summarize._content import MOST_WORDS, check_content, check_options
from taskflow_summarize._settings import current_settings
from taskflow_summarize._tasks import cache_key, needs_upstream, summarize_text
from taskflow_summarize.routers._access import Level
from taskflow_summarize.routers._answers import problems
from taskflow_summarize.routers._requests import SummarizeBody
from taskflow_summarize.routers._route import needs
from taskflow_summarize.routers._schemas import CreatedBody
from taskflow_summarize.routers._service import ServiceHere
from taskflow_summarize.routers.tasks import IdempotencyKey, store


@needs(Level.OPERATE)
async def create_summary(
    body: SummarizeBody,
    service: ServiceHere,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> CreatedBody:
    """Create a task that summarises a text; its result is the summary."""
    settings = current_settings()
    check_content(body.content, max_bytes=settings.max_content_bytes)
    check_options(
        max_words=body.max_words or MOST_WORDS, language=body.language or "auto"
    )
    arguments = body.model_dump(exclude_none=True)
    key, key_ttl = idempotency_key, None
    if key is None and settings.cache_ttl:
        key, key_ttl = cache_key(arguments), settings.cache_ttl
    task = summarize_text.options(
        key=key, key_ttl=key_ttl, upstream=needs_upstream(body.provider)
    )
    created, response.status_code = await store(service, task, arguments)
    return created


def add_to(router: APIRouter) -> None:
    """Add this path to *router*, with and without the last slash."""
    for path, shown in (
        ("/api/v1/tasks/summarize/", True),
        ("/api/v1/tasks/summarize", False),
    ):
        router.post(
            path,
            status_code=201,
            include_in_schema=shown,
            responses=problems(408, 409, 413, 422)
            | {200: {"model": CreatedBody, "description": "The key was held."}},
        )(create_summary)
