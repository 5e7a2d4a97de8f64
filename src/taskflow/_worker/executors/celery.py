"""Celery as an engine: its worker runs the pool, ours claims for it.

Celery's worker is started with no broker and one step in its consumer. That step
runs our worker on the main thread: an asyncio loop, in which the hub that the pool
hangs on takes its turns. So Celery gives what it is good at, processes that are
started, recycled and replaced, with its signals and its settings, and nothing of a
task's way depends on a message queue in between.
"""

import asyncio
import contextlib
import logging
import os
import re
import select
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Generator
from pathlib import Path
from random import Random
from typing import Any, NoReturn

from billiard import util as billiard_util
from billiard.exceptions import SoftTimeLimitExceeded
from celery import Celery, bootsteps, current_app
from celery import signals as celery_signals
from celery.exceptions import WorkerShutdown
from celery.worker import WorkController
from celery.worker.consumer import Consumer

from taskflow._client.flow import TaskFlow
from taskflow._declare.registry import Registry
from taskflow._settings import WorkerSettings
from taskflow._worker.executor import Host, Limits
from taskflow._worker.executors.child import ChildSetup, run_message, set_up
from taskflow._worker.executors.prefork import PreforkExecutor
from taskflow.errors import ConfigurationError

MAINTAIN_EVERY = 0.25
"""Seconds between two looks for children that have ended. Celery's 5 s let a task
that was given to a child about to be recycled wait for 1 to 3 s (celery#9579)."""

PATIENCE = 10.0
"""Seconds for which a child is missing that cannot be started; then the worker hands
back what it holds and fails, so that others take it."""

_logger = logging.getLogger("taskflow.worker")

signals: Any = celery_signals  # untyped

_util: Any = billiard_util  # untyped
_POOL_LOG: logging.Logger = _util.get_logger()

_ENDED = re.compile(r"prematurely: (.*?) Job: ")


class SoftLimit(SoftTimeLimitExceeded, TimeoutError):  # type: ignore[misc]  # noqa: N818
    """Raised in a plain function at its soft limit; Celery's error, and a timeout."""


class CeleryEngine:
    """Runs bodies in Celery's prefork pool; see the contract in ``executor.py``.

    Args:
        settings: Of the worker.

    Raises:
        ConfigurationError: The platform cannot run it.
    """

    name = "celery"

    def __init__(self, settings: WorkerSettings) -> None:
        if not hasattr(select, "epoll"):
            problem = (
                "the celery engine needs Linux: its pool forks and is watched with "
                "epoll; use --executor asyncio here"
            )
            raise ConfigurationError(problem)
        self._settings = settings
        self._pool: CeleryPool | None = None
        self._listener: socket.socket | None = None

    def in_hand(self, slots: int) -> int:
        """Hold what runs, and what ``WORKER_PREFETCH_MULTIPLIER`` adds to it."""
        return slots * self._settings.prefetch_multiplier

    def kill(self) -> None:
        """Kill the children; in any thread, right before this process exits."""
        for pid in self._pool.pids() if self._pool else []:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)

    def facts(self) -> dict[str, Any]:
        """Say how the pool is set up, and which processes are in it."""
        return {
            "prefetch_multiplier": self._settings.prefetch_multiplier,
            "max_tasks_per_child": self._settings.max_tasks_per_child,
            "max_memory_per_child": self._settings.max_memory_per_child,
            "children": self._pool.pids() if self._pool else [],
        }

    def executor(self, host: Host, rng: Random) -> PreforkExecutor:
        """Make the executor of *host*; inside of `run` only.

        Returns:
            The executor.

        Raises:
            ConfigurationError: No pool runs.
        """
        if self._pool is None or self._listener is None:
            problem = "a worker with the celery engine is run by CeleryEngine.run"
            raise ConfigurationError(problem)
        executor = PreforkExecutor(host, rng, self._pool, self._listener)
        self._pool.serve(executor)
        return executor

    def run(
        self,
        flow: TaskFlow,
        registry: Registry,
        limits: Limits,
        main: Callable[[], None],
    ) -> None:
        """Start Celery's worker, call *main* while its pool runs, and stop it.

        The pool forks first, while nothing is open and no thread runs.

        Args:
            flow: Where tasks are kept.
            registry: The tasks that the children may run.
            limits: Where a task says nothing itself.
            main: Runs our worker; blocks. What it raises is raised.
        """
        folder = Path(tempfile.mkdtemp(prefix="taskflow-"))
        listener = self._listener = socket.socket(socket.AF_UNIX)
        try:
            address = str(folder / "line")
            listener.bind(address)
            listener.listen(1024)
            listener.settimeout(0)
            max_tasks = self._settings.max_tasks_per_child or None
            set_up(ChildSetup(registry, limits, flow, address, max_tasks, SoftLimit))
            with _logging_left_alone(), _children_set_up():
                self._start(main)
        finally:
            set_up(None)
            listener.close()
            shutil.rmtree(folder, ignore_errors=True)

    def _start(self, main: Callable[[], None]) -> None:
        raised: list[BaseException] = []

        def claim_loop(consumer: Any) -> NoReturn:
            try:
                self._pool = CeleryPool(consumer)
                main()
            except BaseException as error:  # noqa: BLE001 - handed on below
                raised.append((self._pool and self._pool.failure) or error)
            _POOL_LOG.setLevel(logging.CRITICAL)  # that children end is no error now
            raise WorkerShutdown(0)

        _POOL_LOG.propagate = True  # to where all lines go
        _POOL_LOG.setLevel(logging.WARNING)
        worker = _worker(self._settings, claim_loop)
        worker.start()
        if raised:
            raise raised[0]


def _worker(settings: WorkerSettings, loop: Callable[[Any], NoReturn]) -> Any:
    """Make Celery's worker, whose consumer has one step: *loop*."""

    class ClaimLoop(bootsteps.StartStopStep):  # type: ignore[misc]
        """Runs our worker in the place of Celery's event loop."""

        label = "claims of taskflow"

        def start(self, parent: Any) -> None:
            loop(parent)

    class Claiming(Consumer):  # type: ignore[misc]
        """A consumer of no broker."""

        class Blueprint(Consumer.Blueprint):  # type: ignore[misc]
            default_steps = ()

    app: Any = Celery("taskflow", broker="memory://", set_as_current=False)
    app.conf.update(
        task_ignore_result=True,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_lost_wait=1.0,
        worker_pool_start_method="fork",
        worker_send_task_events=False,
        worker_enable_remote_control=False,
    )
    app.steps["consumer"].add(ClaimLoop)
    return WorkController(
        app=app,
        pool_cls="prefork",
        consumer_cls=Claiming,
        concurrency=settings.concurrency,
        use_eventloop=True,
        optimization="fair",
        max_tasks_per_child=settings.max_tasks_per_child or None,
        max_memory_per_child=settings.max_memory_per_child or None,
    )


@contextlib.contextmanager
def _logging_left_alone() -> Generator[None]:
    """Keep Celery from setting up logging, here and in the children."""

    def leave(**_: Any) -> None:
        return

    signals.setup_logging.connect(leave)
    try:
        yield
    finally:
        signals.setup_logging.disconnect(leave)


def _ignore(signum: int, frame: object) -> None:
    """Do nothing about a signal."""


@contextlib.contextmanager
def _children_set_up() -> Generator[None]:
    """Keep the host's own Celery app the current one in the children.

    Celery makes the worker's app current in each child; a body that calls
    ``shared_task.delay()`` means its own. A terminal that closes sends SIGHUP to
    children too, whose tasks are to finish: the worker stops for it.

    Yields:
        Once.
    """
    current: Any = current_app
    app = current._get_current_object()  # noqa: SLF001 - there is no other way

    def keep(**_: Any) -> None:
        app.set_current()
        app.set_default()
        # No SIG_IGN, which a program that a body starts would inherit.
        signal.signal(signal.SIGHUP, _ignore)

    signals.worker_process_init.connect(keep)
    try:
        yield
    finally:
        signals.worker_process_init.disconnect(keep)


class _Poller:
    """The poller of kombu's hub, which never waits: the asyncio loop does that."""

    def __init__(self) -> None:
        self._epoll = select.epoll()

    def fileno(self) -> int:
        return self._epoll.fileno()

    def register(self, fd: int, events: int) -> int:
        with contextlib.suppress(FileExistsError):
            self._epoll.register(fd, events)
        return fd

    def unregister(self, fd: int) -> None:
        with contextlib.suppress(ValueError, OSError):
            self._epoll.unregister(fd)

    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        del timeout
        return self._epoll.poll(0)

    def close(self) -> None:
        self._epoll.close()


class CeleryPool:
    """Celery's pool, hung into the running event loop; see `prefork.Pool`.

    Attributes:
        failure: Why it had to give up; None as long as it has not.
    """

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self._pool = consumer.pool
        # All ways to it: that of the pool's own timer and of a child's end as well.
        self._replace_ended = self._pool.maintain_pool
        self._pool.maintain_pool = self._pool._pool.maintain_pool = self._maintain  # noqa: SLF001
        self._again_at = 0.0
        self._short_since: float | None = None
        self.failure: Exception | None = None
        self._hub = consumer.hub
        self._poller = _Poller()
        self._hub.poller = self._poller
        consumer.controller.register_with_event_loop(self._hub)
        # Celery gives a message to another child when the one that had it died before
        # its acknowledgement was read; the body may have begun for all that.
        workers = self._pool._pool  # noqa: SLF001 - there is no other way
        self._put_back, workers._put_back = workers._put_back, self._not_again  # noqa: SLF001
        self._numbers: dict[int, int] = {}
        self._hub.call_repeatedly(MAINTAIN_EVERY, self._pool.maintain_pool)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[Any] | None = None
        self._will_turn = self._is_turning = False
        self._executor: PreforkExecutor | None = None

    def serve(self, executor: PreforkExecutor) -> None:
        """Begin to take turns in the running loop, for *executor*."""
        self._executor = executor
        self._loop = asyncio.get_running_loop()
        self._main = asyncio.current_task()
        self._loop.add_reader(self._poller.fileno(), self._turn)
        self._keep_turning()
        signals.worker_ready.send(sender=self._consumer)

    def _keep_turning(self) -> None:
        """Take a turn now and then, for the hub's timers."""
        if self._loop is not None:
            try:
                self._turn()
            finally:
                self._loop.call_later(MAINTAIN_EVERY / 5, self._keep_turning)

    def _turn(self) -> None:
        self._will_turn, self._is_turning = False, True
        try:
            self._hub.run_once()
        finally:
            self._is_turning = False

    def _turn_now(self) -> None:
        """Let the hub write what was submitted, at once where it is not at work."""
        if not self._is_turning:
            self._turn()
        elif not self._will_turn and self._loop is not None:
            self._will_turn = True
            self._loop.call_soon(self._turn)

    def submit(self, number: int, claims: list[tuple[Any, ...]]) -> None:
        """Give a message to a free child."""

        def over(_: Any) -> None:
            self._numbers.pop(job, None)
            if self._executor is not None:
                self._executor.over(number)

        def lost(failure: Any) -> None:
            self._numbers.pop(job, None)
            if self._executor is not None:
                self._executor.over(number, _how(failure.exception))

        made = self._pool.apply_async(
            run_message, (number, claims), callback=over, error_callback=lost
        )
        job: int = made._job  # noqa: SLF001 - Celery's number of it
        self._numbers[job] = number
        self._turn_now()

    def _not_again(self, job: Any) -> None:
        """Take a message for lost whose body had begun when its child died."""
        number = self._numbers.get(job._job)  # noqa: SLF001
        executor = self._executor
        if number is None or executor is None or not executor.has_begun(number):
            self._put_back(job)
            return
        child = job._write_to or job._scheduled_for  # noqa: SLF001
        job._accepted = True  # noqa: SLF001 - and its number is forgotten
        self._pool._pool.mark_as_worker_lost(job, child.exitcode)  # noqa: SLF001

    def _maintain(self) -> None:
        """Replace the children that have ended; where that fails, try again soon."""
        now = time.monotonic()
        if now < self._again_at:
            return
        workers = self._pool._pool  # noqa: SLF001
        problem: Exception | None = None
        try:
            self._replace_ended()
        except Exception as error:
            if self._short_since is None:
                _logger.exception("a child of the pool could not be started")
            problem = error
            self._again_at = now + MAINTAIN_EVERY
            self._forget_unborn(workers)
        if len(workers._pool) == workers._processes:  # noqa: SLF001
            self._short_since = None
        elif self._short_since is None:
            self._short_since = now
        elif now - self._short_since > PATIENCE:
            self._give_up(problem)

    def _forget_unborn(self, workers: Any) -> None:
        """Free what billiard keeps for a process that was never started.

        It would fail on it ever after, and have no queues for another.
        """
        for child in list(workers._pool):  # noqa: SLF001
            if child._popen is None:  # noqa: SLF001
                workers._pool.remove(child)  # noqa: SLF001
                workers._process_cleanup_queues(child)  # noqa: SLF001

    def _give_up(self, problem: Exception | None) -> None:
        """Cancel our worker, which then hands back all that it holds."""
        if self.failure is None and self._main is not None:
            message = f"a child could not be started for {PATIENCE:g} s: {problem}"
            self.failure = RuntimeError(message)
            self._main.cancel()

    def process_events(self) -> None:
        """Find out which children have ended, and replace them."""
        self._pool.maintain_pool()
        self._turn_now()

    def pids(self) -> list[int]:
        """List the children that live."""
        return [pid for pid in self._pool.info["processes"] if pid]


def _how(error: BaseException) -> str:
    """Say how a child ended, as Celery tells it."""
    found = _ENDED.search(str(error))
    return f"its process ended: {found[1] if found else error}"
