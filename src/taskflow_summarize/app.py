"""The standalone service: the API, its documentation, and nothing of a host's."""

import contextlib
from collections.abc import AsyncGenerator, Iterable
from importlib import resources
from importlib.metadata import version
from typing import Final

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from taskflow import TaskFlow
from taskflow.settings import load
from taskflow_summarize._api_settings import ApiSettings
from taskflow_summarize.routers import (
    Access,
    KeyEntry,
    Limits,
    allow_all,
    create_router,
    key_access,
)
from taskflow_summarize.routers._local import LocalAccess
from taskflow_summarize.routers._problems import ProblemError, problem_of

_DESCRIPTION: Final = (
    "Background tasks that are not lost. Errors are problem details (RFC 9457) with "
    "a stable `code`; lists are paged by `next_cursor`."
)

_DOCS_PAGE: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>taskflow API</title>
<link rel="stylesheet" href="docs/assets/swagger-ui.css">
<div id="swagger-ui"></div>
<script src="docs/assets/swagger-ui-bundle.js"></script>
<script src="docs/assets/start.js"></script>
</html>
"""

_DOCS_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)


def create_app(
    flow: TaskFlow | None = None,
    *,
    access: Access | None = None,
    parts: Iterable[str] | None = None,
    limits: Limits | None = None,
    settings: ApiSettings | None = None,
    root_path: str = "",
) -> FastAPI:
    """Make the service as an application of its own, for any ASGI server.

    Args:
        flow: Where tasks are kept; left out: as the settings say, and closed with
            the application.
        access: Says what a request may do. Left out: as the settings say; where
            they say nothing, requests from this machine to this machine only, which
            may operate.
        parts: Of the API; see `create_router`.
        limits: What a client may ask; left out: as the settings say.
        settings: Of the service; left out: those of the environment.
        root_path: Where a proxy mounts it, if the proxy strips that prefix.

    Returns:
        The application; ``/docs`` is served from our own files.

    Raises:
        ConfigurationError: A setting is wrong.
    """
    known = load(ApiSettings) if settings is None else settings
    served = TaskFlow() if flow is None else flow

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        del app
        yield
        if flow is None:
            await served.aclose()

    app = FastAPI(
        title="taskflow",
        description=_DESCRIPTION,
        version=version("asynctaskflow"),
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        root_path=root_path,
    )
    bounds = Limits(
        body_bytes=known.max_body_bytes,
        streams=known.max_streams,
        streams_per_key=known.max_streams_per_key,
    )
    chosen = access or access_of(known)
    app.include_router(
        create_router(served, access=chosen, parts=parts, limits=limits or bounds)
    )
    app.add_exception_handler(HTTPException, _answer)
    app.add_exception_handler(Exception, _answer)
    app.add_middleware(_PlainHeaders)
    _add_docs(app)
    return app


def access_of(settings: ApiSettings) -> Access:
    """Say who may do what, as the settings have it.

    Returns:
        An access function: everybody, keys, or a `LocalAccess`.
    """
    if settings.access == "open":
        return allow_all
    if settings.keys:
        return key_access(KeyEntry.parse(entry) for entry in settings.keys)
    return LocalAccess()


async def _answer(request: Request, error: Exception) -> Response:
    """Say what is wrong with a request that no route took, or that met a bug."""
    del request
    problem = problem_of(error) or ProblemError(
        500, "internal_error", "a bug; the log of the service has the traceback"
    )
    return problem.response()


def _add_docs(app: FastAPI) -> None:
    assets = resources.files("taskflow_summarize").joinpath("swagger")
    app.mount("/docs/assets", StaticFiles(directory=str(assets)), name="docs-assets")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(
            _DOCS_PAGE, headers={"Content-Security-Policy": _DOCS_POLICY}
        )


class _PlainHeaders:
    """Adds what every answer says to browsers: it is what it says it is."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message["headers"])
                headers.setdefault("X-Content-Type-Options", "nosniff")
                headers.setdefault("Referrer-Policy", "no-referrer")
            await send(message)

        await self._app(scope, receive, sent if scope["type"] == "http" else send)
