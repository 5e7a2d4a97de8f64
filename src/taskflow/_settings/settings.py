"""The settings themselves: one frozen class per concern.

A setting is one `option` line: its default, its kind and the variables that set
it. To add a setting, add that line and its sentence in the class docstring.
"""

from collections.abc import Iterator
from typing import Any, ClassVar, Final

from attrs import Factory, field, fields, frozen

from taskflow._settings.kinds import (
    Address,
    Choice,
    Duration,
    Kind,
    Ratio,
    Text,
    WholeNumber,
)
from taskflow.errors import ConfigurationError

_HOUR: Final = 3600.0
_DAY: Final = 86_400.0
_YEAR: Final = 31_536_000.0
_MIB: Final = 1_048_576

_DEPTH: Final = WholeNumber(1, 10**9)
_LIMIT: Final = Duration(0.01, _YEAR)


def option(default: object, kind: Kind, *variables: str) -> Any:
    """Declare a setting of a `Checked` class.

    Args:
        default: Its value where no variable is set; None = there is none.
        kind: What it may be.
        *variables: The environment variables that set it, the usual one first;
            each may also be written with ``TASKFLOW_`` before it, which wins.

    Returns:
        An attrs field; Any because attrs' own ``field`` answers that too.
    """

    def read_leniently(value: object) -> object:
        try:
            return kind.read(value)
        except ValueError:
            return value  # reported by Checked, together with the others

    return field(
        default=default,
        converter=read_leniently,
        repr=kind.show,
        metadata={"kind": kind, "variables": variables},
    )


@frozen
class Checked:
    """A class of settings that refuses to exist with a mistake in it.

    Attributes:
        read_by: The parts of a system that read it, such as ``worker`` and ``api``;
            none named = all. What contradicts itself here stops those alone.
    """

    read_by: ClassVar[tuple[str, ...]] = ()

    def __attrs_post_init__(self) -> None:
        problems: list[str] = []
        for attribute in fields(type(self)):
            kind: Kind = attribute.metadata["kind"]
            value = getattr(self, attribute.name)
            if value is None and attribute.default is None:
                continue
            try:
                kind.read(value)
            except ValueError as error:
                problems.append(f"{attribute.name}={kind.show(value)}: must be {error}")
        if problems or (problems := list(self._conflicts())):
            raise ConfigurationError(problems)

    def _conflicts(self) -> Iterator[str]:
        """Name the settings that are each right and contradict one another."""
        return iter(())


@frozen
class RedisSettings(Checked):
    """Where Redis is.

    Attributes:
        url: Address of the server, see ``TaskFlow``; None for the embedded one.
            A password in it is masked in ``repr``. ``REDIS_URL``, ``REDIS_TLS_URL``.
        prefix: Stands before every key, at most 128 characters. Default none, the
            plain names; a Cluster needs a hash tag such as ``{myapp}:``.
            ``TASKFLOW_PREFIX``.
        durability: What an enqueue waits for: ``server``, its acknowledgement;
            ``replica``, that of one replica, too, at most one second.
            ``TASKFLOW_DURABILITY``.
    """

    url: str | None = option(
        None,
        Address(
            r"(?si)[a-z][a-z0-9+.-]*://.*",
            "a URL such as redis://localhost:6379/0, rediss://, unix:///PATH, "
            "redis+sentinel://, redis+cluster://, embedded://PATH or memory://",
        ),
        "REDIS_URL",
        "REDIS_TLS_URL",
    )
    prefix: str = option(
        "",
        Text(
            r"(?:[A-Za-z0-9_.:-]|\{[A-Za-z0-9_.:-]+\}){0,128}",
            "letters, digits, '_', '.', ':', '-' and a hash tag in braces, "
            "at most 128 of them",
        ),
        "TASKFLOW_PREFIX",
    )
    durability: str = option(
        "server", Choice(("server", "replica")), "TASKFLOW_DURABILITY"
    )


def _default_critical(queue: "QueueSettings") -> int:
    # A warning depth that is wrong is reported as such, and not a second time here.
    try:
        warning = _DEPTH.read(queue.retry_queue_warning)
    except ValueError:
        return 5000
    return max(5000, 5 * warning)


@frozen
class QueueSettings(Checked):
    """How tasks wait, come back and are kept.

    Attributes:
        default_retry_ratio: The retry lane's share of claims while both lanes wait
            and the retry lane is short, 0.01 to 0.99. ``DEFAULT_RETRY_RATIO``.
        retry_queue_warning: Waiting retries from which on that share shrinks,
            1 to a billion. ``RETRY_QUEUE_WARNING``.
        retry_queue_critical: Waiting retries from which on it is smallest; above
            *retry_queue_warning*. Default 5000, or five times the warning where
            that is more. ``RETRY_QUEUE_CRITICAL``.
        max_task_age: Seconds of run time and retry waits, added up since a task's
            first attempt, after which a failed attempt is not retried, 1 s to 10
            years. ``MAX_TASK_AGE``.
        max_retries: Retries of a task that names no number itself, 0 to 1000.
            ``MAX_RETRIES``.
        result_ttl: Seconds for which finished records are kept, 1 s to 10 years,
            or 0: for ever. ``RESULT_TTL``.
        max_payload_bytes: Most bytes of encoded arguments, and of an encoded
            result, 64 to 512 MiB. ``TASKFLOW_MAX_PAYLOAD_BYTES``.
    """

    default_retry_ratio: float = option(0.30, Ratio(0.01, 0.99), "DEFAULT_RETRY_RATIO")
    retry_queue_warning: int = option(1000, _DEPTH, "RETRY_QUEUE_WARNING")
    retry_queue_critical: int = option(
        Factory(_default_critical, takes_self=True),
        WholeNumber(2, 10**10),
        "RETRY_QUEUE_CRITICAL",
    )
    max_task_age: float = option(7200.0, Duration(1.0, 10 * _YEAR), "MAX_TASK_AGE")
    max_retries: int = option(3, WholeNumber(0, 1000), "MAX_RETRIES")
    result_ttl: float = option(
        7 * _DAY, Duration(1.0, 10 * _YEAR, zero="for ever"), "RESULT_TTL"
    )
    max_payload_bytes: int = option(
        _MIB, WholeNumber(64, 512 * _MIB, "bytes"), "TASKFLOW_MAX_PAYLOAD_BYTES"
    )

    def _conflicts(self) -> Iterator[str]:
        if self.retry_queue_critical <= self.retry_queue_warning:
            yield (
                f"retry_queue_critical={self.retry_queue_critical} must be above "
                f"retry_queue_warning={self.retry_queue_warning} "
                "(RETRY_QUEUE_CRITICAL, RETRY_QUEUE_WARNING)"
            )


def _default_soft_limit(worker: "WorkerSettings") -> float:
    try:
        hard = _LIMIT.read(worker.time_limit)
    except ValueError:
        return 600.0
    return min(600.0, hard)


@frozen
class WorkerSettings(Checked):
    """How a worker works.

    Attributes:
        concurrency: Bodies that run at once in one process, 1 to 10,000.
            ``CELERY_WORKER_CONCURRENCY``, ``WORKER_CONCURRENCY``.
        processes: Worker processes under one supervisor, 1 to 512.
            ``TASKFLOW_PROCESSES``.
        time_limit: Seconds after which an attempt is ended, 10 ms to 1 year.
            ``CELERY_TASK_TIME_LIMIT``.
        soft_time_limit: Seconds after which a body is told to end, 10 ms to 1 year,
            at most *time_limit*. Default 600 s, or *time_limit* where that is
            less. ``CELERY_TASK_SOFT_TIME_LIMIT``.
        stop_grace_period: Seconds from the request to stop until the platform
            kills, 10 ms to 1 day, or 0: hand back at once.
            ``WORKER_STOP_GRACE_PERIOD``.
        lease: Seconds a worker holds a task without renewing, 100 ms to 1 hour. It
            renews three times as often. ``TASKFLOW_LEASE``.
        max_crashes: Lost leases after which a task is dead-lettered as poison,
            1 to 1000. ``TASKFLOW_MAX_CRASHES``.
        executor: What runs the bodies: ``asyncio``, on one event loop and in
            threads, or ``celery``, in the processes of Celery's prefork pool.
            ``TASKFLOW_EXECUTOR``.
        prefetch_multiplier: Tasks in hand for each process of the pool, running and
            waiting, 1 to 1000; 1 = those that run and no other.
            ``WORKER_PREFETCH_MULTIPLIER``; celery alone.
        max_tasks_per_child: Tasks after which a process of the pool is replaced, 1
            to a billion, or 0: never. ``WORKER_MAX_TASKS_PER_CHILD``; celery alone.
        max_memory_per_child: Resident memory of a process of the pool, in
            kilobytes, above which it is replaced after its task, 1 to 10 billion,
            or 0: none. ``WORKER_MAX_MEMORY_PER_CHILD``; celery alone.
        app: A host's ``TaskFlow`` or ``Registry`` as ``module:attribute``; None for
            the default registry and the plugins only. ``TASKFLOW_APP``.
        health_dir: Folder of the files that ``taskflow health worker`` looks at, one
            for each worker; None for ``taskflow-UID`` below the folder for temporary
            files. ``TASKFLOW_HEALTH_DIR``.
    """

    read_by: ClassVar[tuple[str, ...]] = ("worker", "scheduler")

    concurrency: int = option(
        10,
        WholeNumber(1, 10_000),
        "CELERY_WORKER_CONCURRENCY",
        "WORKER_CONCURRENCY",
    )
    processes: int = option(1, WholeNumber(1, 512), "TASKFLOW_PROCESSES")
    time_limit: float = option(900.0, _LIMIT, "CELERY_TASK_TIME_LIMIT")
    soft_time_limit: float = option(
        Factory(_default_soft_limit, takes_self=True),
        _LIMIT,
        "CELERY_TASK_SOFT_TIME_LIMIT",
    )
    stop_grace_period: float = option(
        30.0,
        Duration(0.01, _DAY, zero="hand back at once"),
        "WORKER_STOP_GRACE_PERIOD",
    )
    lease: float = option(15.0, Duration(0.1, _HOUR), "TASKFLOW_LEASE")
    max_crashes: int = option(3, WholeNumber(1, 1000), "TASKFLOW_MAX_CRASHES")
    executor: str = option(
        "asyncio", Choice(("asyncio", "celery")), "TASKFLOW_EXECUTOR"
    )
    prefetch_multiplier: int = option(
        1, WholeNumber(1, 1000), "WORKER_PREFETCH_MULTIPLIER"
    )
    max_tasks_per_child: int = option(
        0, WholeNumber(0, 10**9), "WORKER_MAX_TASKS_PER_CHILD"
    )
    max_memory_per_child: int = option(
        0, WholeNumber(0, 10**10, "kilobytes"), "WORKER_MAX_MEMORY_PER_CHILD"
    )
    app: str | None = option(
        None,
        Text(
            r"[^\W\d][\w.]*:[^\W\d][\w.]*",
            "module:attribute, such as shop.tasks:flow",
        ),
        "TASKFLOW_APP",
    )
    health_dir: str | None = option(
        None, Text(r"/[^\x00]{0,4000}", "an absolute path"), "TASKFLOW_HEALTH_DIR"
    )

    def _conflicts(self) -> Iterator[str]:
        if self.soft_time_limit > self.time_limit:
            yield (
                f"soft_time_limit={self.soft_time_limit} must not be above "
                f"time_limit={self.time_limit} "
                "(CELERY_TASK_SOFT_TIME_LIMIT, CELERY_TASK_TIME_LIMIT)"
            )


@frozen
class UpstreamSettings(Checked):
    """When the breaker of an upstream opens, where its declaration does not say.

    Attributes:
        failure_rate: Share of failed calls at which it opens, 0.01 to 1.
            ``CIRCUIT_FAILURE_THRESHOLD``.
        min_calls: Calls within a minute below which it stays closed, 1 to 1,000,000.
            ``CIRCUIT_VOLUME_THRESHOLD``.
        reset_timeout: Seconds until an open one lets a call try, 10 ms to 1 day.
            ``CIRCUIT_TIMEOUT``.
    """

    failure_rate: float = option(0.5, Ratio(0.01, 1.0), "CIRCUIT_FAILURE_THRESHOLD")
    min_calls: int = option(10, WholeNumber(1, 1_000_000), "CIRCUIT_VOLUME_THRESHOLD")
    reset_timeout: float = option(60.0, Duration(0.01, _DAY), "CIRCUIT_TIMEOUT")


@frozen
class LogSettings(Checked):
    """What the commands log; the import configures nothing.

    Attributes:
        level: Least severity that is shown, a name of the standard library's.
            ``LOG_LEVEL``.
        format: ``text`` for people, ``json`` for machines: one object per line.
            ``TASKFLOW_LOG_FORMAT``.
    """

    level: str = option(
        "INFO",
        Choice(("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")),
        "LOG_LEVEL",
    )
    format: str = option("text", Choice(("text", "json")), "TASKFLOW_LOG_FORMAT")


@frozen
class Settings:
    """All settings of one process.

    Attributes:
        redis: Where Redis is.
        queue: How tasks wait, come back and are kept.
        worker: How a worker works.
        upstream: When breakers open.
        log: What the commands log.
    """

    redis: RedisSettings = field(factory=RedisSettings)
    queue: QueueSettings = field(factory=QueueSettings)
    worker: WorkerSettings = field(factory=WorkerSettings)
    upstream: UpstreamSettings = field(factory=UpstreamSettings)
    log: LogSettings = field(factory=LogSettings)
