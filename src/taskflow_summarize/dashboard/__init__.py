"""The dashboard: a page over the API, served as it is written, with no build step.

The page holds no data and trusts none that it shows: its policy lets it run our
scripts only and talk to where it came from only, and what strangers wrote becomes
text. It asks the API beside it for everything, as its reader.
"""

import hashlib
import html
from importlib import resources
from typing import Final

from attrs import frozen
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from taskflow_summarize.routers import Access
from taskflow_summarize.routers._access import grant_of
from taskflow_summarize.routers._local import LocalAccess

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)

_HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    # Kept, and asked for again each time: a new release is seen at once, and what
    # has not changed is not sent again.
    "Cache-Control": "no-cache",
}
_TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


@frozen
class _File:
    """One file of the page.

    Attributes:
        content: What is sent.
        media_type: What it is.
        etag: Changes with the content.
    """

    content: bytes
    media_type: str
    etag: str

    @classmethod
    def of(cls, name: str, content: bytes) -> "_File":
        """Make the file *name*."""
        etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        return cls(content, _TYPES[name.rpartition(".")[2]], etag)

    def answer(self, request: Request) -> Response:
        """Send the file, or say that *request*'s sender has it."""
        headers = {**_HEADERS, "ETag": self.etag}
        if self.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(self.content, headers=headers, media_type=self.media_type)


def create_dashboard(*, access: Access, api_prefix: str = "") -> APIRouter:
    """Make a router that serves the page, for an application with `create_router`.

    Mount it with ``app.include_router``, under a prefix or none; the page is at the
    prefix and a slash. Every address in it is relative, so it also works behind a
    proxy that strips a part of the path. It needs no lifespan.

    Args:
        access: Says what a request may do, so that the page offers that and no
            more; the one that `create_router` was given. The API decides about
            each request all the same.
        api_prefix: The prefix under which the same application includes the router
            of the API.

    Returns:
        A router; nothing of it is in the OpenAPI document.
    """
    files = _read_files()
    page = files.pop("index.html").decode()
    served = {name: _File.of(name, content) for name, content in files.items()}
    router = APIRouter()

    async def index(request: Request) -> Response:
        if isinstance(access, LocalAccess) and (answer := access.sign_in(request)):
            return answer
        way = html.escape(_way_to(request, api_prefix))
        text = page.replace("{{api}}", way)
        return _File.of("index.html", text.encode()).answer(request)

    async def session(request: Request) -> Response:
        grant = await grant_of(access, request)
        told = {"level": grant.level.name.lower(), "actor": grant.actor}
        if grant.why:
            told["why"] = grant.why
        return JSONResponse(told, headers={**_HEADERS, "Cache-Control": "no-store"})

    async def asset(name: str, request: Request) -> Response:
        found = served.get(name)
        if found is None:
            return Response("no such file", 404, _HEADERS, "text/plain")
        return found.answer(request)

    methods = ["GET", "HEAD"]
    for path, handler in (
        ("/", index),
        ("/dashboard/session", session),
        ("/dashboard/{name}", asset),
    ):
        router.add_api_route(path, handler, methods=methods, include_in_schema=False)
    return router


def _read_files() -> dict[str, bytes]:
    folder = resources.files("taskflow_summarize.dashboard") / "page"
    return {
        each.name: each.read_bytes()
        for each in folder.iterdir()
        if each.name.rpartition(".")[2] in _TYPES
    }


def _way_to(request: Request, api_prefix: str) -> str:
    """Lead from the page that *request* asks for to the root of the API.

    What stands before the application's own path, be it a mount or a proxy's
    prefix, is above both, so a relative way is right without knowing it.

    Returns:
        Such as ``./`` or ``../../api/``, with a slash at the end.
    """
    path, root = request.scope["path"], request.scope.get("root_path", "")
    inner = path.removeprefix(root) if path.startswith(f"{root}/") else path
    up = "../" * (inner.count("/") - 1)
    down = api_prefix.strip("/")
    return f"{up or './'}{down}{'/' if down else ''}"
