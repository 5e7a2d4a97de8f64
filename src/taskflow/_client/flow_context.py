"""What the parts of the client share: the server, its runners, keys, the time."""

import asyncio
import contextlib
import inspect
import os
import threading
import warnings
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Literal, TypeVar
from weakref import WeakSet

from attrs import frozen

from taskflow._client import sansio as plans
from taskflow._client.per_loop import PerLoop
from taskflow._client.sansio import Plan
from taskflow._client.waiters import AsyncWaiters, Waiters
from taskflow._protocol import inspect as tasks
from taskflow._protocol.claim import LaneShare
from taskflow._protocol.inspect import Ending
from taskflow._protocol.keys import Keys
from taskflow._protocol.operation import Operation
from taskflow._servers.from_url import open_server
from taskflow._servers.runner import AsyncRunner, SyncRunner
from taskflow._servers.server import Server
from taskflow._settings import Settings, load_settings, mask_url
from taskflow.errors import ConfigurationError

_OURS = str(Path(__file__).parents[1])

T = TypeVar("T")

Clock = Callable[[], int]
"""Gives the time in ms since the epoch; 0 means "ask the server"."""


def server_clock() -> int:
    """Let every script read the server's own clock."""
    return 0


@frozen
class StandIn:
    """What is under every connection during a test.

    Attributes:
        url: Of the server.
        prefix: Of its keys.
        clock: Gives the time; None = each connection's own.
    """

    url: str
    prefix: str
    clock: Clock | None = None


@frozen
class _Aside:
    url: str | None
    keys: Keys | None
    clock: Clock
    server: Server | None
    runner: SyncRunner | None
    async_runners: PerLoop[AsyncRunner]
    waiters: Waiters | None
    async_waiters: PerLoop[AsyncWaiters]


_guard = threading.RLock()
_stand_in: StandIn | None = None


class FlowContext:
    """One server, opened when it is first needed.

    Attributes:
        clock: Gives the time that operations carry.
    """

    def __init__(
        self,
        url: str | None,
        prefix: str | None,
        settings: Settings | None,
        clock: Clock,
        durability: Literal["server", "replica"] | None = None,
    ) -> None:
        self.clock: Clock = clock
        self._durability = durability
        self._url = url
        self._prefix = prefix
        self._settings = settings
        self._server: Server | None = None
        self._runner: SyncRunner | None = None
        self._async_runners: PerLoop[AsyncRunner] = self._new_async_runners()
        self._waiters: Waiters | None = None
        self._async_waiters: PerLoop[AsyncWaiters] = self._new_async_waiters()
        self._keys: Keys | None = None
        self._aside: _Aside | None = None
        self._lock = threading.Lock()
        with _guard:
            _known.add(self)
            if _stand_in is not None:
                self.set_aside(_stand_in)

    @property
    def settings(self) -> Settings:
        """Settings given, else those of the environment."""
        if self._settings is None:
            self._settings = load_settings()
        return self._settings

    @property
    def keys(self) -> Keys:
        """The keys under the prefix in use."""
        if self._keys is None:
            given = self._prefix
            self._keys = Keys(self.settings.redis.prefix if given is None else given)
        return self._keys

    @property
    def replicas(self) -> int:
        """How many replicas must have a task before its enqueue returns."""
        if self._aside is not None:
            return 0
        chosen = self._durability or self.settings.redis.durability
        return int(chosen == "replica")

    @property
    def url(self) -> str | None:
        """The URL given, else that of the settings; None = the embedded default."""
        return self._url or self.settings.redis.url

    @property
    def server(self) -> Server:
        """The server, opened now if it was not."""
        with self._lock:
            if self._server is None:
                server = open_server(self.url, prefix=self.keys.prefix)
                if self.replicas and not server.replicates:
                    problem = (
                        f"durability 'replica' needs a server with a replica, and "
                        f"{server.display!r} has none: use 'server', or redis://"
                    )
                    raise ConfigurationError(problem)
                self._server = server
            return self._server

    @property
    def is_open(self) -> bool:
        """Whether the server has been opened, and not been left."""
        return self._server is not None

    @property
    def share(self) -> LaneShare:
        """How the retry lane's share is found."""
        queue = self.settings.queue
        return LaneShare(
            ratio=queue.default_retry_ratio,
            warning=queue.retry_queue_warning,
            critical=queue.retry_queue_critical,
            max_age_ms=round(queue.max_task_age * 1000),
        )

    @property
    def runner(self) -> SyncRunner:
        """Sends operations and blocks; any thread may use it.

        Warns:
            RuntimeWarning: On an event loop, which is blocked meanwhile.
        """
        server = self.server
        if server.shared:
            warn_on_a_loop()
        with self._lock:
            if self._runner is None:
                self._runner = server.runner()
            return self._runner

    @property
    def async_runner(self) -> AsyncRunner:
        """Sends operations from the running event loop."""
        return self._async_runners.get()

    def _new_async_runners(self) -> PerLoop[AsyncRunner]:
        return PerLoop(self._make_runner, lambda runner: runner.abandon())

    def _make_runner(self) -> AsyncRunner:
        return self.server.async_runner()

    @property
    def waiters(self) -> Waiters:
        """Those that wait for results in threads; none of the parent of a fork."""
        with self._lock:
            if self._waiters is None or self._waiters.pid != os.getpid():
                self._waiters = Waiters(self.keys, self.watch)
            return self._waiters

    @property
    def async_waiters(self) -> AsyncWaiters:
        """Those that wait for results on the running event loop."""
        return self._async_waiters.get()

    def _new_async_waiters(self) -> PerLoop[AsyncWaiters]:
        return PerLoop(
            lambda: AsyncWaiters(self.keys, self.watch),
            lambda waiters: waiters.abandon(),
        )

    def watch(self, task_id: str) -> Operation[Ending]:
        """Describe reading how a task ended, or asking to be told."""
        return tasks.watch(self.keys, task_id, now_ms=self.clock())

    def run(self, plan: Plan[T]) -> T:
        """Carry out *plan*, blocking."""
        return plans.run(plan, self.runner)

    async def arun(self, plan: Plan[T]) -> T:
        """Carry out *plan* on the running event loop."""
        return await plans.arun(plan, self.async_runner)

    @property
    def display(self) -> str:
        """Where tasks are kept, the password masked; opens nothing."""
        if self._server is not None:
            return self._server.display
        return mask_url(str(self._url)) if self._url else "from settings"

    async def aclose(self) -> None:
        """Close what belongs to the running event loop."""
        runner = self._async_runners.pop()
        if runner is not None:
            await runner.aclose()

    def close(self) -> None:
        """Close the blocking connections and leave the server."""
        with self._lock:
            runner, self._runner = self._runner, None
            server, self._server = self._server, None
        if runner is not None:
            runner.close()
        self._async_runners.drop_closed()
        self._async_waiters.drop_closed()
        if server is not None:
            server.close()

    def set_aside(self, stand_in: StandIn) -> None:
        """Use *stand_in* from now on, and keep what is open for later."""
        self._aside = _Aside(
            *(self._url, self._keys, self.clock),
            *(self._server, self._runner, self._async_runners),
            *(self._waiters, self._async_waiters),
        )
        self._url = stand_in.url
        self._keys = Keys(stand_in.prefix)
        self.clock = stand_in.clock or self.clock
        self._server = self._runner = self._waiters = None
        self._async_runners = self._new_async_runners()
        self._async_waiters = self._new_async_waiters()

    def put_back(self) -> None:
        """Close what was used meanwhile, and use again what was set aside."""
        if self._aside is not None:
            self.close()
            aside, self._aside = self._aside, None
            self._url = aside.url
            self._keys = aside.keys
            self.clock = aside.clock
            self._server = aside.server
            self._runner = aside.runner
            self._async_runners = aside.async_runners
            self._waiters = aside.waiters
            self._async_waiters = aside.async_waiters


_known: WeakSet[FlowContext] = WeakSet()


@contextlib.contextmanager
def standing_in(stand_in: StandIn) -> Generator[None]:
    """Put *stand_in* under every connection of this process, those made later too.

    Raises:
        RuntimeError: Another one stands in already.
    """
    global _stand_in  # noqa: PLW0603 - one for the process, so that nothing escapes it
    with _guard:
        if _stand_in is not None:
            message = "flow.testing() is in use already; leave it first"
            raise RuntimeError(message)
        _stand_in = stand_in
        for each in _known:
            each.set_aside(stand_in)
    try:
        yield
    finally:
        with _guard:
            _stand_in = None
            for each in _known:
                each.put_back()


def warn_on_a_loop() -> None:
    """Warn where the host calls, if an event loop runs in this thread.

    A warning and no error: a notebook's cells run on a loop, too.
    """
    if asyncio._get_running_loop() is None:  # noqa: SLF001 # pyright: ignore[reportPrivateUsage, reportUnknownMemberType]
        return
    level, frame = 2, inspect.currentframe()
    while frame is not None and frame.f_code.co_filename.startswith(_OURS):
        level, frame = level + 1, frame.f_back
    message = (
        "a blocking call of taskflow on an event loop, which can run nothing else "
        "meanwhile: await the method with an 'a' before its name, aenqueue() or aresult()"
    )
    warnings.warn(message, RuntimeWarning, stacklevel=level - 1)
