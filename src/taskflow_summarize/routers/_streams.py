"""Server-sent events: what a stream sends, and when it ends.

sse-starlette sends them, because it ends open streams when the process is asked to
stop (0.3 s after SIGTERM; the framework's own streams kept uvicorn waiting for as
long as a page was open).
"""

import contextlib
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, Final

import anyio
from attrs import frozen
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.types import Receive, Scope, Send

from taskflow.errors import ServerError, TaskNotFoundError
from taskflow_summarize.routers._schemas import QueueStatusBody
from taskflow_summarize.routers._service import Service

KEEP_ALIVE: Final = 15
"""Seconds of silence after which a comment is sent, so that no proxy gives up."""

_SHORTEST: Final = 0.1
_LONGEST: Final = 1.0
_CHUNKS: Final = 200

HEADERS: Final = {
    "Cache-Control": "no-store",
    # nginx would collect the events and send them when its buffer is full.
    "X-Accel-Buffering": "no",
}


def event(name: str, data: Any, event_id: str | None = None) -> ServerSentEvent:
    """Make one event, its data as JSON on one line."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    return ServerSentEvent(text, event=name, id=event_id)


@frozen
class Span:
    """How long a stream goes on: until its time is over, or the process stops.

    Attributes:
        ends_at: By the monotonic clock.
        stop: Set when the process is asked to stop.
    """

    ends_at: float
    stop: anyio.Event

    @property
    def is_over(self) -> bool:
        """Whether the stream should end."""
        return self.stop.is_set() or time.monotonic() >= self.ends_at

    async def wait(self, seconds: float) -> None:
        """Let *seconds* pass, less when the process is asked to stop."""
        with anyio.move_on_after(seconds):
            await self.stop.wait()


class _Stream(EventSourceResponse):
    """One of the streams that may be open; a refusal, where as many are.

    Counted when it begins and not when it is made, so that no other comes between.
    """

    service: Service
    actor: str

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        problem = self.service.crowd(self.actor)
        if problem is not None:
            await problem.response()(scope, receive, send)
            return
        with self.service.stream(self.actor):
            await super().__call__(scope, receive, send)


def respond(
    service: Service,
    actor: str,
    begin: Callable[[Span], AsyncGenerator[ServerSentEvent]],
) -> EventSourceResponse:
    """Answer with events, as one of the streams that may be open.

    Args:
        service: Whose streams are counted.
        actor: Who follows.
        begin: Makes the events of a span.

    Returns:
        The response.
    """
    span = Span(time.monotonic() + service.limits.stream_seconds, anyio.Event())

    async def sent() -> AsyncIterator[ServerSentEvent]:
        async with contextlib.aclosing(begin(span)) as events:
            async for each in events:
                yield each

    stream = _Stream(
        sent(),
        headers=HEADERS,
        ping=KEEP_ALIVE,
        send_timeout=30.0,
        shutdown_event=span.stop,
        shutdown_grace_period=1.0,
    )
    stream.service, stream.actor = service, actor
    return stream


async def status_events(
    service: Service, span: Span
) -> AsyncGenerator[ServerSentEvent]:
    """Tell the counts at once and whenever they have changed.

    Args:
        service: Whose counts.
        span: How long.

    Yields:
        Events ``status``, at most one a second.
    """
    last: dict[str, Any] | None = None
    while True:  # once at least, however late a busy machine begins
        try:
            status = await service.status()
        except ServerError as error:
            yield event("unavailable", {"detail": str(error)})
            last = None
        else:
            body = QueueStatusBody.of(status).model_dump(mode="json")
            # The clock alone is no news.
            compared = {name: body[name] for name in body if name != "now"}
            if compared != last:
                last = compared
                yield event("status", body)
        await span.wait(_LONGEST)
        if span.is_over:
            return


async def task_events(
    service: Service, task_id: str, after: str, span: Span
) -> AsyncGenerator[ServerSentEvent]:
    """Tell how a task goes until it has ended.

    Args:
        service: Where it is kept.
        task_id: Of the task.
        after: The last chunk the client has seen; empty = none.
        span: How long.

    Yields:
        Events ``state`` when state, attempts or progress have changed, ``chunk``
        for each piece of output, and ``end``.
    """
    last: dict[str, Any] | None = None
    wait = _SHORTEST
    while not span.is_over:
        try:
            news = await service.flow.tasks.anews(task_id, after=after, limit=_CHUNKS)
        except TaskNotFoundError:
            yield event("end", {"task_id": task_id, "state": None})
            return
        except ServerError as error:
            yield event("unavailable", {"detail": str(error)})
            await span.wait(_LONGEST)
            continue
        state = {
            "task_id": task_id,
            "state": news.state.value,
            "attempts": news.attempts,
            "progress": news.progress,
        }
        if state != last:
            yield event("state", state)
        for chunk in news.chunks:
            after = chunk.id
            data = {"text": chunk.text, "delivery": chunk.delivery}
            yield event("chunk", data, chunk.id)
        if news.has_more:
            continue
        if news.state.is_final:
            yield event("end", {"task_id": task_id, "state": news.state.value})
            return
        quiet = state == last and not news.chunks
        wait = min(_LONGEST, wait * 1.5) if quiet else _SHORTEST
        last = state
        await span.wait(wait)
