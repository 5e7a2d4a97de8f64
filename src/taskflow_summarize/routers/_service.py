"""What every handler works with: the flow, who may do what, and the limits."""

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Generator
from typing import Annotated, Any, Final

from attrs import frozen
from fastapi import Depends, Request

from taskflow import QueueStatus, TaskFlow, TaskFlowError
from taskflow_summarize.routers._access import (
    Access,
    Grant,
    Level,
    grant_of,
    is_cross_site,
)
from taskflow_summarize.routers._problems import ProblemError

_audit = logging.getLogger("taskflow.audit")

STATUS_AGE: Final = 0.5
"""Seconds for which one reading of the counts serves every stream."""


@frozen
class Limits:
    """What a client may ask of the service.

    Attributes:
        body_bytes: Largest body of a request.
        body_seconds: Within which the body of a request must have come.
        streams: Streams that may be open at once.
        streams_per_key: Of these, those of one actor.
        stream_seconds: After which a stream ends; its client comes back.
        patience: Seconds that a health check waits for the server.
    """

    body_bytes: int = 4 * 1_048_576
    body_seconds: float = 60.0
    streams: int = 200
    streams_per_key: int = 20
    stream_seconds: float = 300.0
    patience: float = 2.0


class Service:
    """One flow, served over HTTP.

    Attributes:
        flow: Where tasks are kept.
        limits: What a client may ask.
    """

    def __init__(self, flow: TaskFlow, access: Access, limits: Limits) -> None:
        self.flow: TaskFlow = flow
        self.limits: Limits = limits
        self._access = access
        self._streams: Counter[str] = Counter()
        self._status: tuple[float, QueueStatus] | None = None
        self._reading: asyncio.Future[QueueStatus] | None = None
        self._chores: set[asyncio.Task[Any]] = set()

    async def admit(self, request: Request, level: Level) -> Grant:
        """Let *request* in, or say why not.

        Args:
            request: Its body has not been read.
            level: What it needs.

        Returns:
            What it was granted.

        Raises:
            ProblemError: It comes from another site, nobody is known, or they may
                not do this.
        """
        if is_cross_site(request):
            detail = "a page of another site may not make this request"
            raise ProblemError(403, "cross_site", detail)
        grant = await grant_of(self._access, request) if level else Grant(Level.NONE)
        if grant.level >= level:
            return grant
        if grant.level is Level.NONE:
            detail = grant.why or (
                "show a key: Authorization: Bearer KEY, or X-API-Key: KEY"
            )
            raise ProblemError(
                401, "unauthorized", detail, headers={"WWW-Authenticate": "Bearer"}
            )
        needed, given = level.name.lower(), grant.level.name.lower()
        detail = f"this needs the level {needed!r}, and yours is {given!r}"
        detail = f"{detail}: {grant.why}" if grant.why else detail
        raise ProblemError(403, "forbidden", detail, needed=needed, given=given)

    async def note(self, grant: Grant, event: str, **facts: Any) -> None:
        """Write down who did what; the deed is done, so this never fails it."""
        _audit.info(
            "%s by %r: %s",  # quoted: whoever asks may choose the name
            event,
            grant.actor or "somebody",
            facts,
            extra={"event": event, "actor": grant.actor, **facts},
        )
        try:
            await self.flow.audit_log.arecord(event, actor=grant.actor, **facts)
        except TaskFlowError as error:
            _audit.warning("%s could not be written to the audit log: %s", event, error)

    async def status(self) -> QueueStatus:
        """Count every home; one reading serves all who ask within half a second."""
        now = time.monotonic()
        if self._status is not None and now - self._status[0] <= STATUS_AGE:
            return self._status[1]
        if self._reading is None or self._reading.done():
            reading = self.flow.queues.astatus()
            self._reading = asyncio.ensure_future(reading)
        # One who goes away must not take the answer of the others along.
        status = await asyncio.shield(self._reading)
        self._status = now, status
        return status

    def crowd(self, actor: str) -> ProblemError | None:
        """Say why *actor* may not open a stream now; None where they may."""
        name = "TASKFLOW_API_MAX_STREAMS"
        if self._streams[actor] >= self.limits.streams_per_key:
            count, whose, name = (
                self._streams[actor],
                f" for {actor!r}",
                f"{name}_PER_KEY",
            )
        elif self._streams.total() >= self.limits.streams:
            count, whose = self._streams.total(), ""
        else:
            return None
        detail = (
            f"{count} streams are open{whose}, which is the limit ({name}): close one, "
            "or ask every few seconds without a stream"
        )
        return ProblemError(
            429, "too_many_streams", detail, headers={"Retry-After": "5"}
        )

    @contextlib.contextmanager
    def stream(self, actor: str) -> Generator[None]:
        """Count a stream of *actor* while it is open."""
        self._streams[actor] += 1
        try:
            yield
        finally:
            self._streams[actor] -= 1
            if not self._streams[actor]:
                del self._streams[actor]

    def start(self, chore: Any) -> None:
        """Go on with *chore*, a coroutine, after the answer has been given."""
        task = asyncio.get_running_loop().create_task(chore)
        self._chores.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._chores.discard(task)
        if not task.cancelled() and (error := task.exception()):
            _audit.error("what was begun could not be finished: %s", error)


def current_service(request: Request) -> Service:
    """Return the service that the request came to."""
    service: Service = request.state.taskflow_service
    return service


def current_grant(request: Request) -> Grant:
    """Return what the request was granted."""
    grant: Grant = request.state.taskflow_grant
    return grant


ServiceHere = Annotated[Service, Depends(current_service)]
GrantHere = Annotated[Grant, Depends(current_grant)]
