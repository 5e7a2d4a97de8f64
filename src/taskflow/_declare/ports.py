"""The protocols through which a task reaches what stands above it.

A task can be enqueued and a body can report, yet declaring knows neither client
nor worker: they fulfil these protocols, and imports still run one way.
"""

import contextlib
import threading
from collections.abc import Callable, Generator
from datetime import datetime
from typing import Any, Protocol, TypeVar

R = TypeVar("R")


class TaskInfo(Protocol):
    """What a handle can tell of its task; the client's record has more."""

    @property
    def id(self) -> str:
        """Of the task."""
        ...

    @property
    def name(self) -> str:
        """Of the declared function."""
        ...

    @property
    def state(self) -> str:
        """Where it stands."""
        ...

    @property
    def attempts(self) -> int:
        """Attempts that failed."""
        ...

    @property
    def created_at(self) -> datetime:
        """When it was stored."""
        ...


class TaskClient(Protocol):
    """Stores calls and knows what became of them."""

    def enqueue(self, call: Any) -> Any:
        """Store a call; returns its handle."""
        ...

    async def aenqueue(self, call: Any) -> Any:
        """Store a call; returns its handle."""
        ...

    def result(
        self, task_id: str, decode: Callable[[bytes], R], timeout: float | None
    ) -> R:
        """Block until the task has ended; returns its result."""
        ...

    async def aresult(
        self,
        task_id: str,
        decode: Callable[[bytes], R],
        timeout: float | None,  # noqa: ASYNC109 - the blocking twin has it too
    ) -> R:
        """Wait until the task has ended; returns its result."""
        ...

    def info(self, task_id: str) -> TaskInfo:
        """Read the task."""
        ...

    async def ainfo(self, task_id: str) -> TaskInfo:
        """Read the task."""
        ...

    def cancel(self, task_id: str) -> bool:
        """Stop the task; False when it runs and was asked to."""
        ...

    async def acancel(self, task_id: str) -> bool:
        """Stop the task; False when it runs and was asked to."""
        ...


class ContextPort(Protocol):
    """Takes what a running body reports; every method is safe in any thread."""

    def progress(self, text: bytes) -> None:
        """Replace the progress, a JSON object."""

    def usage(self, amounts: dict[str, float]) -> None:
        """Add to the usage."""

    def annotate(self, facts: dict[str, str]) -> None:
        """Attach facts, JSON texts by name."""

    def emit(self, chunk: str) -> None:
        """Append to the output."""

    def save(self, checkpoint: bytes) -> None:
        """Store a checkpoint, from a thread."""

    async def flush(self, checkpoint: bytes = b"") -> None:
        """Store what was reported, and a checkpoint, from the loop."""


_guard = threading.Lock()
_current: TaskClient | None = None
_factory: Callable[[], TaskClient] | None = None


def use(client: TaskClient | None) -> None:
    """Let ``Task.enqueue`` use *client*; None = one made from settings again."""
    global _current  # noqa: PLW0603 - the host's one choice
    _current = client


@contextlib.contextmanager
def using(client: TaskClient) -> Generator[None]:
    """Let ``Task.enqueue`` use *client* while the context lasts."""
    before = _current
    use(client)
    try:
        yield
    finally:
        use(before)


def current() -> TaskClient:
    """Return what ``Task.enqueue`` uses; made from settings on first use.

    Raises:
        ConfigurationError: The settings are wrong.
        RuntimeError: Only a part of the package was imported.
    """
    global _current  # noqa: PLW0603 - made once
    with _guard:
        if _current is None:
            if _factory is None:
                message = "import taskflow before a task is enqueued"
                raise RuntimeError(message)
            _current = _factory()
        return _current


def set_default_factory(factory: Callable[[], TaskClient]) -> None:
    """Say how to make the client that is used when none was chosen."""
    global _factory  # noqa: PLW0603 - the client package says it once
    _factory = factory
