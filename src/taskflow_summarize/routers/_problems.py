"""Errors as problem details (RFC 9457): one shape, a stable code, the facts."""

import contextlib
from collections.abc import Generator, Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from taskflow import TaskFlowError
from taskflow.errors import (
    ConfigurationError,
    IllegalMoveError,
    KeyConflictError,
    NotReplicatedError,
    PayloadError,
    ScheduleNotFoundError,
    ServerError,
    ServerFullError,
    TaskNotFoundError,
    UnknownTaskError,
    UpstreamNotFoundError,
)
from taskflow_summarize.errors import ContentError, OptionError

MEDIA_TYPE: Final = "application/problem+json"

_BAD_REQUEST: Final = 400
_AWAY: Final = 503

_CODES: Final = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "body_too_large",
    415: "unsupported_media_type",
    422: "invalid_arguments",
    429: "too_many_requests",
    503: "server_unavailable",
}


class ProblemError(Exception):
    """A refusal by the service itself.

    Attributes:
        status: Of HTTP.
        code: Stable, for programs.
        detail: A sentence, for people.
        facts: Further members of the answer.
        headers: Further headers of the answer.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        **facts: Any,
    ) -> None:
        self.status = status
        self.code = code
        self.detail = detail
        self.facts = facts
        self.headers = dict(headers or {})
        super().__init__(detail)

    def response(self) -> JSONResponse:
        """Return the answer that says so."""
        body = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            **self.facts,
        }
        return JSONResponse(body, self.status, self.headers, MEDIA_TYPE)


def problem_of(error: Exception) -> ProblemError | None:
    """Say what *error* is over HTTP.

    Args:
        error: What a handler let out.

    Returns:
        The problem; None when it is none of ours, but a bug.
    """
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, RequestValidationError):
        return _invalid(error)
    if isinstance(error, HTTPException):
        return _of_framework(error)
    if isinstance(error, TaskFlowError):
        return _of_taskflow(error)
    return None


def _of_framework(error: HTTPException) -> ProblemError:
    cause = error.__cause__
    if isinstance(cause, ProblemError):
        return cause  # met by the framework while it read the body
    if cause is not None and error.status_code == _BAD_REQUEST:
        detail = "body: it cannot be read as JSON"
        return ProblemError(422, "invalid_arguments", detail, errors=[])
    code = _CODES.get(error.status_code, "refused")
    return ProblemError(
        error.status_code, code, str(error.detail), headers=error.headers
    )


@contextlib.contextmanager
def refusing() -> Generator[None]:
    """Let a ``ValueError`` of the library be the caller's: a cursor, a limit.

    Raises:
        ProblemError: Instead of it.
    """
    try:
        yield
    except ValueError as error:
        raise ProblemError(422, "invalid_arguments", str(error), errors=[]) from error


def _invalid(error: RequestValidationError) -> ProblemError:
    # The input is left out: it may be large, or secret.
    errors = [
        {
            "at": ".".join(str(part) for part in each["loc"]),
            "message": str(each["msg"]),
        }
        for each in error.errors()[:20]
    ]
    first = errors[0] if errors else {"at": "body", "message": "is wrong"}
    detail = f"{first['at']}: {first['message']}"
    return ProblemError(422, "invalid_arguments", detail, errors=errors)


def _of_taskflow(error: TaskFlowError) -> ProblemError | None:
    for kind, status, code in _KINDS:
        if isinstance(error, kind):
            headers = {"Retry-After": "1"} if status == _AWAY else {}
            facts = _facts_of(error)
            return ProblemError(status, code, str(error), headers=headers, **facts)
    return None


# The first that fits.
_KINDS: Final = (
    (TaskNotFoundError, 404, "task_not_found"),
    (ScheduleNotFoundError, 404, "schedule_not_found"),
    (UpstreamNotFoundError, 404, "upstream_not_found"),
    (IllegalMoveError, 409, "illegal_move"),
    (KeyConflictError, 409, "key_conflict"),
    (UnknownTaskError, 422, "unknown_task"),
    (PayloadError, 422, "invalid_arguments"),
    (ContentError, 422, "invalid_arguments"),
    (OptionError, 422, "invalid_arguments"),
    (ConfigurationError, 422, "invalid_arguments"),
    (ServerFullError, 503, "server_full"),
    (NotReplicatedError, 503, "not_replicated"),
    (ServerError, 503, "server_unavailable"),
)


def _facts_of(error: TaskFlowError) -> dict[str, Any]:
    match error:
        case TaskNotFoundError() | KeyConflictError():
            return {"task_id": error.task_id}
        case IllegalMoveError():
            facts = {"from_state": error.from_state, "move": error.move}
            return {"task_id": error.task_id, **facts}
        case UnknownTaskError() | ScheduleNotFoundError() | UpstreamNotFoundError():
            return {"name": error.name}
        case PayloadError():
            return {"errors": [{"at": error.path, "message": error.message}]}
        case ContentError() | OptionError() | ConfigurationError():
            return {"errors": []}
        case _:
            return {}
