"""Which problems a path may answer with, for the OpenAPI document."""

from typing import Any, Final

from taskflow_summarize.routers._problems import MEDIA_TYPE
from taskflow_summarize.routers._schemas import Problem

_MEANINGS: Final = {
    401: "Nobody is known by this request.",
    403: "They may not do this, or another site's page asks.",
    404: "There is no such task.",
    408: "The body has not come in time.",
    409: "The task's state, or the holder of the key, forbids it.",
    413: "The body is too large.",
    422: "The request makes no sense; `errors` says where.",
    429: "Too many streams are open, or too many of this key.",
    503: "The server that keeps the tasks does not answer, or is full.",
}


def problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Describe the problems that a path may answer with, by status.

    Returns:
        What the framework takes as *responses*; 401, 403 and 503 are always in it.
    """
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        code: {
            "description": _MEANINGS[code],
            "model": Problem,
            "content": {MEDIA_TYPE: {"schema": schema}},
        }
        for code in sorted({401, 403, 503, *codes})
    }
