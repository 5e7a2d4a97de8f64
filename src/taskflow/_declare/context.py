"""What a running body knows of itself, and how it reports."""

import logging
import math
from collections.abc import MutableMapping
from datetime import datetime
from typing import Any

from taskflow._codec import from_json, to_exact_json
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
        deliveries: How often the task was handed out. Use it as fencing token in
            other systems. It rises as long as the server forgets nothing: a
            hand-out that is lost at a failover, or when the machine crashes with
            ``appendfsync everysec``, is made again with the same number, and its
            first run may still live.
        deadline: When the hard time limit ends this attempt; aware, None =
            never.
        tick: The moment of the schedule that this run is for; aware, None when
            no schedule made it.
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
        tick: datetime | None = None,
        checkpoint: Any = None,
        port: ContextPort | None = None,
    ) -> None:
        self.id = id
        self.name = name
        self.attempt = attempt
        self.max_retries = max_retries
        self.deliveries = deliveries
        self.deadline = deadline
        self.tick = tick
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
            message: For people, at most 64 KB.

        Raises:
            PayloadError: It is larger, or cannot be encoded.
        """
        facts: dict[str, Any] = {"done": done, "message": message}
        if total is not None:
            facts["total"] = total
        self._port.progress(_encoded(facts, MOST_FACTS_BYTES))

    def emit(self, chunk: str) -> None:
        """Append to the task's output stream, which readers can resume.

        The newest 500 chunks are kept.

        Args:
            chunk: At most 64 KB of text.

        Raises:
            PayloadError: It is larger, or cannot be encoded.
        """
        _encoded(chunk, MOST_CHUNK_BYTES)
        self._port.emit(chunk)

    def usage(self, **amounts: float) -> None:
        """Add to what the task has used: tokens, cost, pages.

        Summed over all attempts; no sum grows beyond the largest float.

        Args:
            **amounts: By name; finite numbers.

        Raises:
            PayloadError: One is not a finite number.
        """
        _encoded(list(amounts), MOST_FACTS_BYTES)
        self._port.usage({name: _finite(name, each) for name, each in amounts.items()})

    def annotate(self, **facts: Any) -> None:
        """Attach facts to the task; the last of a name stands.

        Args:
            **facts: What JSON has, at most 64 KB each.

        Raises:
            PayloadError: One is larger, or would not come back as it is.
        """
        _encoded(list(facts), MOST_FACTS_BYTES)
        self._port.annotate(
            {
                name: _encoded(value, MOST_FACTS_BYTES, f"$.{name}").decode()
                for name, value in facts.items()
            }
        )

    def save(self, value: Any) -> None:
        """Save a checkpoint from a function; stored when this returns.

        Args:
            value: What JSON has, at most 1 MiB; the next attempt finds it in
                `checkpoint`.

        Raises:
            PayloadError: It is larger, or would not come back as it is.
            LeaseLostError: The task is another's now; stop.
        """
        data = _encoded(value, MOST_CHECKPOINT_BYTES)
        self._port.save(data)
        self._checkpoint = from_json(data)

    async def asave(self, value: Any) -> None:
        """Save a checkpoint from a coroutine; see `save`."""
        data = _encoded(value, MOST_CHECKPOINT_BYTES)
        await self._port.flush(data)
        self._checkpoint = from_json(data)


def _encoded(value: Any, most: int, path: str = "$") -> bytes:
    data = to_exact_json(value, path)
    if len(data) > most:
        message = f"{len(data)} bytes of JSON, at most {most} are stored"
        raise PayloadError(message, path=path)
    return data


def _finite(name: str, amount: object) -> float:
    # What is not finite can be added to nothing: Redis would refuse it when the
    # task is settled, long after the body has gone on.
    if not isinstance(amount, int | float) or not math.isfinite(amount):
        message = f"an amount must be a finite number, got {amount!r}"
        raise PayloadError(message, path=f"$.{name}")
    return float(amount)
