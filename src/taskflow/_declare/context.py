"""What a running body knows of itself, and how it reports."""

import logging
from collections.abc import MutableMapping
from datetime import datetime
from typing import Any

from taskflow._codec import from_json, to_json
from taskflow._declare.ports import ContextPort
from taskflow.errors import PayloadError

_logger = logging.getLogger("taskflow.task")

MOST_CHUNK_BYTES = 65_536
MOST_FACTS_BYTES = 65_536
MOST_CHECKPOINT_BYTES = 1_048_576


class _TaskLog(logging.LoggerAdapter[logging.Logger]):
    """Adds the task to every line, for formatters that show ``record.facts``."""

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        extra = dict(kwargs.get("extra") or {})
        extra["facts"] = {**(self.extra or {}), **extra.get("facts", {})}
        kwargs["extra"] = extra
        return msg, kwargs


class InertPort:
    """The port of a body that is called in place: remembers nothing."""

    def progress(self, text: bytes) -> None:
        """Drop it."""

    def usage(self, amounts: dict[str, float]) -> None:
        """Drop it."""

    def annotate(self, facts: dict[str, str]) -> None:
        """Drop it."""

    def emit(self, chunk: str) -> None:
        """Drop it."""

    def save(self, checkpoint: bytes) -> None:
        """Drop it."""

    async def flush(self, checkpoint: bytes = b"") -> None:
        """Drop it."""


class Context:
    """Handed to the parameter of a body that is annotated with it.

    Its reports never wait: they are stored a few times a second, and always
    before the task is settled. Only `save` and `asave` return when the server
    has what they were given.

    Attributes:
        id: Of the task; use it as idempotency key in other systems.
        name: Of the declared function.
        attempt: Failed attempts so far + 1.
        max_retries: Failed attempts that are followed by another.
        deliveries: How often the task was handed out; only ever rises. Use
            it as fencing token in other systems.
        deadline: When the hard time limit ends this attempt; aware, None =
            never.
        log: A logger that names the task in every line.
    """

    def __init__(
        self,
        *,
        id: str,  # noqa: A002 - the name that users read
        name: str,
        attempt: int = 1,
        max_retries: int = 0,
        deliveries: int = 1,
        deadline: datetime | None = None,
        checkpoint: Any = None,
        port: ContextPort | None = None,
    ) -> None:
        self.id = id
        self.name = name
        self.attempt = attempt
        self.max_retries = max_retries
        self.deliveries = deliveries
        self.deadline = deadline
        facts = {"id": id, "name": name, "attempt": attempt}
        self.log: logging.LoggerAdapter[logging.Logger] = _TaskLog(_logger, facts)
        self._checkpoint = checkpoint
        self._cancelled = False
        self._port: ContextPort = port or InertPort()

    @property
    def cancelled(self) -> bool:
        """Whether the task shall stop: cancelled, out of time, or taken away.

        A function looks at this now and then; a coroutine is cancelled.
        """
        return self._cancelled

    @property
    def checkpoint(self) -> Any:
        """What was saved last, in this attempt or an earlier one; None at first."""
        return self._checkpoint

    def mark_cancelled(self) -> None:
        """Tell the body to stop; the worker calls this."""
        self._cancelled = True

    def progress(
        self, done: float, total: float | None = None, message: str = ""
    ) -> None:
        """Say how far the task is; the last report stands.

        Args:
            done: Units done.
            total: Units in all, or None when not known.
            message: For people.
        """
        facts: dict[str, Any] = {"done": done, "message": message}
        if total is not None:
            facts["total"] = total
        self._port.progress(_facts(facts))

    def emit(self, chunk: str) -> None:
        """Append to the task's output stream, which readers can resume.

        The newest 500 chunks are kept.

        Args:
            chunk: At most 64 KB of text.

        Raises:
            PayloadError: It is larger, or cannot be encoded.
        """
        _bounded(_facts(chunk), MOST_CHUNK_BYTES)
        self._port.emit(chunk)

    def usage(self, **amounts: float) -> None:
        """Add to what the task has used: tokens, cost, pages.

        Summed over all attempts.

        Args:
            **amounts: By name.
        """
        self._port.usage({name: float(value) for name, value in amounts.items()})

    def annotate(self, **facts: Any) -> None:
        """Attach facts to the task; the last of a name stands.

        Args:
            **facts: What JSON has, at most 64 KB each.

        Raises:
            PayloadError: One is larger, or cannot be encoded.
        """
        self._port.annotate(
            {
                name: _bounded(_facts(value), MOST_FACTS_BYTES).decode()
                for name, value in facts.items()
            }
        )

    def save(self, value: Any) -> None:
        """Save a checkpoint from a function; stored when this returns.

        Args:
            value: What JSON has, at most 1 MiB; the next attempt finds it in
                `checkpoint`.

        Raises:
            PayloadError: It is larger, or cannot be encoded.
            LeaseLostError: The task is another's now; stop.
        """
        data = _bounded(_facts(value), MOST_CHECKPOINT_BYTES)
        self._port.save(data)
        self._checkpoint = from_json(data)

    async def asave(self, value: Any) -> None:
        """Save a checkpoint from a coroutine; see `save`."""
        data = _bounded(_facts(value), MOST_CHECKPOINT_BYTES)
        await self._port.flush(data)
        self._checkpoint = from_json(data)


def _facts(value: Any) -> bytes:
    try:
        return to_json(value)
    except Exception as error:
        raise PayloadError(str(error)) from error


def _bounded(data: bytes, most: int) -> bytes:
    if len(data) > most:
        message = f"{len(data)} bytes of JSON, at most {most} are stored"
        raise PayloadError(message)
    return data
