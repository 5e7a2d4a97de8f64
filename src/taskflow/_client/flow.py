"""TaskFlow: one server, one prefix, and everything a caller can ask of it."""

import contextlib
import secrets
from collections.abc import Callable, Generator, Iterable
from hashlib import blake2b
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from taskflow._client import results
from taskflow._client.admission import AdmissionControl
from taskflow._client.audit_log import AuditLog
from taskflow._client.batcher import Batcher
from taskflow._client.dead_letters import DeadLetters
from taskflow._client.doctor import diagnose
from taskflow._client.finding import Finding
from taskflow._client.flow_context import (
    Clock,
    FlowContext,
    StandIn,
    server_clock,
    standing_in,
)
from taskflow._client.ids import new_task_id
from taskflow._client.per_loop import PerLoop
from taskflow._client.queues import Queues
from taskflow._client.schedules import Schedules
from taskflow._client.tasks import Tasks
from taskflow._client.upstreams import Upstreams
from taskflow._client.workers import Workers
from taskflow._codec import Spec, check_size, encode_spec
from taskflow._declare import ports
from taskflow._declare.decorator import CronDecorator, EveryDecorator, TaskDecorator
from taskflow._declare.registry import Registry, default_registry
from taskflow._declare.task import Call, TaskHandle, no_call
from taskflow._protocol import enqueue
from taskflow._protocol.enqueue import Stored, Submission, SubmitOptions
from taskflow._protocol.record import TaskRecord
from taskflow._settings import Settings, load_settings
from taskflow.errors import (
    ConfigurationError,
    KeyConflictError,
    NotReplicatedError,
)

R = TypeVar("R")

KEY_TTL = 86_400.0
"""Seconds for which an idempotency key outlives its task, unless said otherwise."""


class TaskFlow:
    """A client of one server; makes no connection until it is used.

    Safe to share between threads and between event loops: each loop gets
    connections of its own. Close it when done, or use it as a context manager
    (``with`` in threads, ``async with`` on a loop).

    Args:
        url: Where tasks are kept: ``redis://``, ``rediss://``, ``unix://``,
            ``redis+sentinel://HOST,HOST/NAME``, ``redis+cluster://HOST,HOST``,
            ``embedded://PATH`` or ``memory://``. Left out: ``REDIS_URL``; without
            it, using the flow is a `ConfigurationError`.
        prefix: Stands before every key, such as ``{myapp}:``; a cluster needs
            one with such a hash tag. Left out: ``TASKFLOW_PREFIX``, else none.
        registry: The tasks that a worker of this flow serves, and that dead
            letters are checked against. Left out: the default registry.
        settings: Left out: those of the environment.
        clock: Gives the time in ms since the epoch; for tests. Left out: the
            server's clock.
        durability: What an enqueue waits for: ``server``, its acknowledgement;
            ``replica``, that of one replica too, for at most a second. Left out:
            ``TASKFLOW_DURABILITY``, else ``server``.

    Attributes:
        registry: As given.
        queues: The lanes: status, pause, resume.
        tasks: Single tasks and lists of them.
        dlq: The dead-letter queue.
        workers: The workers that beat.
        audit_log: Rare events of the fleet, and what people did.
        schedules: What runs by itself.
        upstreams: The external services that tasks call.
        guards: Lets guarded calls begin; ``Upstream.guard`` is how to use it.

    Example:
        >>> import taskflow
        >>> flow = TaskFlow("memory://", registry=taskflow.Registry())
        >>> @flow.task(name="add")
        ... def add(x: int, y: int) -> int:
        ...     return x + y
        >>> str(add.enqueue(2, 3).info().state)
        'PENDING'
        >>> flow.close()
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        prefix: str | None = None,
        registry: Registry | None = None,
        settings: Settings | None = None,
        clock: Clock = server_clock,
        durability: Literal["server", "replica"] | None = None,
    ) -> None:
        self.registry: Registry = default_registry if registry is None else registry
        self._connection = FlowContext(url, prefix, settings, clock, durability)
        self.queues: Queues = Queues(self._connection)
        self.tasks: Tasks = Tasks(self._connection)
        self.dlq: DeadLetters = DeadLetters(self._connection, self.registry)
        self.workers: Workers = Workers(self._connection)
        self.audit_log: AuditLog = AuditLog(self._connection)
        self.schedules: Schedules = Schedules(self._connection)
        self.upstreams: Upstreams = Upstreams(self._connection)
        self.guards: AdmissionControl = AdmissionControl(self._connection)
        self._batchers: PerLoop[Batcher] = PerLoop(lambda: Batcher(self._asend))
        self.task: TaskDecorator = self.registry.task
        """Declare a function as a task of `registry`; see `taskflow.task`."""
        self.cron: CronDecorator = self.registry.cron
        """Enqueue a task by a cron expression; see `taskflow.cron`."""
        self.every: EveryDecorator = self.registry.every
        """Enqueue a task at an interval; see `taskflow.every`."""
        ports.bind(self.registry, self)

    @property
    def connection(self) -> FlowContext:
        """The server, its keys and its runners; for workers and tests."""
        return self._connection

    def enqueue(self, call: Call[R]) -> TaskHandle[R]:
        """Store a call; it is safe with the server when this returns.

        Args:
            call: What ``Task.call`` made.

        Returns:
            A handle to the stored task, or to the one that already holds its
            key (``created`` is then False).

        Raises:
            PayloadError: The arguments cannot be stored; nothing was.
            KeyConflictError: The key is held by a call with another payload.
            ServerFullError: The server is out of memory; nothing was stored.
            NotReplicatedError: Stored, and no replica has confirmed it in time; only
                with the durability ``replica``.
            ServerUnavailableError: No answer; whether the task was stored is
                not known. With a key, enqueue again; without, it might be
                stored twice.
        """
        submission = self._submission(call)
        stored = self._send([submission])
        return self._handle(call, stored[0])

    async def aenqueue(self, call: Call[R]) -> TaskHandle[R]:
        """Store a call; see `enqueue`.

        Calls made at the same time on one event loop share a round trip.

        Returns:
            A handle, as from `enqueue`.
        """
        batcher = self._batchers.get()
        return self._handle(call, await batcher.store(self._submission(call)))

    def enqueue_many(self, calls: Iterable[Call[R]]) -> list[TaskHandle[R]]:
        """Store many calls, 100 or 1 MiB of arguments to a round trip.

        Each such batch is stored whole or, on a full server, not at all; the
        batches before it are stored.

        Args:
            calls: What ``Task.call`` made; of any tasks.

        Returns:
            Handles, in the order of *calls*.

        Raises:
            KeyConflictError: A key is held by a call with another payload.
                That call was not stored; all others were.
            ServerError: As `enqueue`, for the batch that failed and those
                after it.
        """
        listed = list(calls)
        stored: list[Stored] = []
        for part in enqueue.batches([self._submission(call) for call in listed]):
            stored += self._send(part)
        return self._handles(listed, stored)

    async def aenqueue_many(self, calls: Iterable[Call[R]]) -> list[TaskHandle[R]]:
        """Store many calls, in few round trips; see `enqueue_many`."""
        listed = list(calls)
        stored: list[Stored] = []
        for part in enqueue.batches([self._submission(call) for call in listed]):
            stored += await self._asend(part)
        return self._handles(listed, stored)

    def _submission(self, call: Call[Any]) -> Submission:
        if not isinstance(call, Call):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(no_call(call))
        most = self._connection.settings.queue.max_payload_bytes
        check_size(call.payload, most, call.task.name)
        return _submission(call)

    def _operation(self, part: list[Submission]) -> Any:
        connection = self._connection
        return enqueue.enqueue(
            connection.keys,
            part,
            replicas=connection.replicas,
            now_ms=connection.clock(),
        )

    def _send(self, part: list[Submission]) -> list[Stored]:
        try:
            stored: list[Stored] = self._connection.runner.send(self._operation(part))
        except NotReplicatedError as error:
            error.task_ids = tuple(each.id for each in part)
            raise
        return stored

    async def _asend(self, part: list[Submission]) -> list[Stored]:
        runner = self._connection.async_runner
        try:
            stored: list[Stored] = await runner.send(self._operation(part))
        except NotReplicatedError as error:
            error.task_ids = tuple(each.id for each in part)
            raise
        return stored

    def _handles(
        self, calls: list[Call[R]], stored: list[Stored]
    ) -> list[TaskHandle[R]]:
        conflicts = [
            (call, each)
            for call, each in zip(calls, stored, strict=True)
            if each.conflict
        ]
        if conflicts:
            call, each = conflicts[0]
            error = KeyConflictError(call.options.key or "", each.id)
            stored_count = len(calls) - len(conflicts)
            error.add_note(f"{stored_count} of {len(calls)} calls were stored")
            raise error
        return [
            self._handle(call, each) for call, each in zip(calls, stored, strict=True)
        ]

    def _handle(self, call: Call[R], stored: Stored) -> TaskHandle[R]:
        if stored.conflict:
            raise KeyConflictError(call.options.key or "", stored.id)
        return TaskHandle(self, stored.id, call.task, created=stored.created)

    def handle(self, task_id: str) -> TaskHandle[Any]:
        """Make a handle to a task by its id; asks the server for its name.

        Returns:
            The handle.

        Raises:
            TaskNotFoundError: There is no such task.
            UnknownTaskError: Its function is not in this flow's registry.
        """
        name = self.tasks.get(task_id).name
        return TaskHandle(self, task_id, self.registry.get(name), created=False)

    def result(
        self, task_id: str, decode: Callable[[bytes], R], timeout: float | None
    ) -> R:
        """Block until a task has ended; see ``TaskHandle.result``."""
        return results.result(self._connection, task_id, decode, timeout)

    async def aresult(
        self,
        task_id: str,
        decode: Callable[[bytes], R],
        timeout: float | None,  # noqa: ASYNC109 - the blocking twin has it too
    ) -> R:
        """Wait until a task has ended; see ``TaskHandle.aresult``."""
        return await results.aresult(self._connection, task_id, decode, timeout)

    def info(self, task_id: str) -> TaskRecord:
        """Read a task whole; see ``Tasks.get``."""
        return self.tasks.get(task_id)

    async def ainfo(self, task_id: str) -> TaskRecord:
        """Read a task whole; see ``Tasks.get``."""
        return await self.tasks.aget(task_id)

    def cancel(self, task_id: str) -> bool:
        """Stop a task; see ``Tasks.cancel``."""
        return self.tasks.cancel(task_id)

    async def acancel(self, task_id: str) -> bool:
        """Stop a task; see ``Tasks.cancel``."""
        return await self.tasks.acancel(task_id)

    def doctor(self, *, repair: bool = False) -> tuple[Finding, ...]:
        """Check what loses tasks before it does, and where every record stands.

        Looks at the server's version, role, eviction, persistence, memory and
        clock, at the workers and lanes, and proves in small steps that every
        record stands in exactly one home and agrees with all that is kept beside
        it. Writes nothing without *repair*.

        Args:
            repair: Mend what does not stand in its one home, each task in one step
                with the proof that it is wrong, so that those that move meanwhile
                come to no harm: a task in no home goes to the retry lane, entries
                that are too many or without a record are removed, a record
                without a state becomes a dead letter, and what a record says
                that cannot be is put right. Workers may go on.

        Returns:
            One finding for each check, those that found nothing wrong too. A
            server that does not answer is a finding, not an error.
        """
        return self._connection.run(diagnose(self._connection, repair=repair))

    async def adoctor(self, *, repair: bool = False) -> tuple[Finding, ...]:
        """Check what loses tasks before it does; see `doctor`."""
        return await self._connection.arun(diagnose(self._connection, repair=repair))

    @contextlib.contextmanager
    def testing(
        self, url: str | None = None, *, clock: Clock | None = None
    ) -> Generator[Self]:
        """Put an empty server under every flow of this process, for a test.

        No call can reach the live server meanwhile, whichever flow it goes through:
        one of the application, created at import or later, in any thread.

        Args:
            url: Of the server; left out: a new one in memory. On another one the
                keys have a prefix of this test alone, and stay there.
            clock: Gives the time; left out: each flow's own.

        Yields:
            This flow.

        Raises:
            RuntimeError: Another test does so now.
        """
        token = secrets.token_hex(6)
        stand_in = StandIn(
            url or f"memory://{token}", "" if url is None else f"test-{token}:", clock
        )
        with standing_in(stand_in):
            yield self

    def close(self) -> None:
        """Close the blocking connections and leave the server."""
        ports.unbind(self.registry, self)
        self._connection.close()

    async def aclose(self) -> None:
        """Close the running loop's connections, then as `close`."""
        await self._connection.aclose()
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<TaskFlow {self._connection.display}>"


def _submission(call: Call[Any]) -> Submission:
    task, options = call.task, call.options
    spec = (
        task.spec
        if options.is_plain
        else encode_spec(
            Spec(
                name=task.name,
                max_retries=options.max_retries,
                timeout=options.timeout,
            )
        )
    )
    packed = b""
    upstream = call.upstream if task.upstream else ""
    if options.delay or options.expires or options.key is not None or upstream:
        packed = SubmitOptions(
            delay_ms=_to_ms(options.delay),
            expires_ms=_to_ms(options.expires),
            key="" if options.key is None else f"{task.name}:{options.key}",
            key_ttl_ms=_to_ms(KEY_TTL if options.key_ttl is None else options.key_ttl),
            # Of the meaning, not of the text: the order in which a caller named
            # the arguments makes no other call.
            digest=""
            if options.key is None
            else blake2b(
                task.arguments.canonical(call.payload), digest_size=12
            ).hexdigest(),
            upstream=upstream,
        ).pack()
    return Submission(new_task_id(), call.payload, spec, packed)


def _to_ms(seconds: float | None) -> int:
    return 0 if not seconds else max(1, round(seconds * 1000))


def flow_from_settings() -> TaskFlow:
    """Make the flow of tasks that no flow has, where the environment names a server.

    Returns:
        A flow of the default registry.

    Raises:
        ConfigurationError: It names none.
    """
    settings = load_settings()
    if settings.redis.url is None:
        message = (
            "there is no flow to enqueue to: create flow = taskflow.TaskFlow("
            "'redis://localhost:6379/0'), with registry= if the task has one of its "
            "own; or set REDIS_URL"
        )
        raise ConfigurationError(message)
    return TaskFlow(settings=settings)


ports.set_default_factory(flow_from_settings)
