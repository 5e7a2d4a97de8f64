"""The protocols through which a task reaches what stands above it.

A task can be enqueued and a body can report, yet declaring knows neither client
nor worker: they fulfil these protocols, and imports still run one way.
"""

import contextlib
import threading
from collections.abc import Callable, Generator
from contextvars import ContextVar
from datetime import datetime
from typing import Any, Protocol, TypeVar
from weakref import WeakKeyDictionary, WeakSet

from attrs import field, frozen

from taskflow.errors import ConfigurationError

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

    @property
    def guards(self) -> "GuardPort":
        """Lets guarded calls begin outside of tasks."""
        ...

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


class Admission:
    """What a claim has paid for: one call of its upstream, and a permit.

    Shared by the guards of one body; safe in any thread.

    Attributes:
        upstream: Name.
        task_id: Whose claim it was.
        epoch: Of the upstream when it let the task run.
        is_probe: Whether the task tries an upstream that was shut.
        has_reported: Whether a guard has reported how a call ended.
    """

    def __init__(
        self, upstream: str, task_id: str, epoch: int, *, is_probe: bool, is_paid: bool
    ) -> None:
        self.upstream: str = upstream
        self.task_id: str = task_id
        self.epoch: int = epoch
        self.is_probe: bool = is_probe
        self.has_reported: bool = False
        self._is_paid = is_paid or is_probe
        self._lock = threading.Lock()
        self._is_lent = False

    def spend(self) -> bool:
        """Use the call that is paid for, and the permit; True once."""
        with self._lock:
            spent, self._is_paid = self._is_paid, False
            self._is_lent = self._is_lent or spent
            return spent

    def borrow(self) -> bool:
        """Use the task's permit; False while another call does."""
        with self._lock:
            lent, self._is_lent = self._is_lent, True
            return not lent

    def give_back(self) -> None:
        """The task's permit is free again."""
        self._is_lent = False


@frozen
class Pass:
    """A call that was let begin.

    Attributes:
        port: Who let it, and hears how it ended.
        ticket: Names it to the server; empty = the server was not asked.
        epoch: Of the upstream then.
        admission: Whose permit it uses, or None.
        is_local: Whether the server was away, and this process decided alone.
    """

    port: "GuardPort"
    ticket: str
    epoch: int
    admission: Admission | None = None
    is_local: bool = False


class GuardPort(Protocol):
    """Lets guarded calls begin, and hears how they ended."""

    def enter(self, upstream: Any, weight: float, timeout: float | None) -> Pass:
        """Wait for the call's turn, blocking."""
        ...

    async def aenter(
        self,
        upstream: Any,
        weight: float,
        timeout: float | None,  # noqa: ASYNC109 - the blocking twin has it too
    ) -> Pass:
        """Wait for the call's turn."""
        ...

    def leave(self, upstream: Any, admitted: Pass, error: BaseException | None) -> None:
        """Report how the call ended, blocking."""
        ...

    async def aleave(
        self, upstream: Any, admitted: Pass, error: BaseException | None
    ) -> None:
        """Report how the call ended."""
        ...


@frozen
class Scope:
    """What guards find in the body of a task.

    Attributes:
        port: Of the worker that runs it.
        admission: What its claim has paid for, or None.
    """

    port: GuardPort
    admission: Admission | None = field(default=None)


scope: ContextVar[Scope | None] = ContextVar("taskflow_scope", default=None)
"""Set by the worker around every body."""


def gate() -> GuardPort:
    """Return who lets guarded calls begin here: the worker's, else the flow in use.

    Raises:
        ConfigurationError: The settings are wrong.
    """
    here = scope.get()
    return here.port if here is not None else current().guards


class Container(Protocol):
    """Has tasks; a registry."""

    def has(self, task: Any) -> bool:
        """Whether *task* is one of them."""
        ...


_guard = threading.RLock()  # making the client in use binds it
_bound: WeakKeyDictionary[Container, WeakSet[TaskClient]] = WeakKeyDictionary()
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


def bind(registry: Container, client: TaskClient) -> None:
    """Let the calls of the tasks of *registry* go to *client*."""
    with _guard:
        _bound.setdefault(registry, WeakSet()).add(client)


def unbind(registry: Container, client: TaskClient) -> None:
    """Stop sending the calls of the tasks of *registry* to *client*."""
    with _guard:
        _bound.get(registry, WeakSet[TaskClient]()).discard(client)


def bound_registries() -> list[Container]:
    """Return the registries that have a client now."""
    with _guard:
        return [registry for registry, clients in _bound.items() if clients]


def client_of(task: Any) -> TaskClient:
    """Return where calls of *task* go: to the flow of a registry that has it.

    Among several it is the one in use; if no registry with the task has a flow, it is
    `current`.

    Raises:
        ConfigurationError: There are several, or none.
    """
    with _guard:
        found = {
            client
            for registry, clients in _bound.items()
            if registry.has(task)
            for client in clients
        }
    if not found or _current in found:
        return current()
    if len(found) == 1:
        return found.pop()
    message = (
        f"task {task.name!r} belongs to the registries of {len(found)} flows "
        f"({', '.join(sorted(map(repr, found)))}): choose one with taskflow.use(flow), "
        "or call flow.enqueue(task.call(...))"
    )
    raise ConfigurationError(message)


def current() -> TaskClient:
    """Return the client in use; made from settings on first use.

    Raises:
        ConfigurationError: The settings are wrong, or name no server.
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
