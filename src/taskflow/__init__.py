"""Background tasks that are not lost, and do not take the rest down with them.

Declare a task with `task`, enqueue it through a `TaskFlow`, and run
``taskflow-worker``. Importing this package opens no connection, reads no
configuration and starts no thread.
"""

from taskflow._client.audit_log import AuditLog
from taskflow._client.dead_letters import DeadLetters, Requeued
from taskflow._client.finding import Finding
from taskflow._client.flow import TaskFlow
from taskflow._client.orphans import OrphanReport
from taskflow._client.queues import Queues
from taskflow._client.schedules import Schedules
from taskflow._client.tasks import TaskFilter, Tasks
from taskflow._client.upstreams import Upstreams
from taskflow._client.workers import Workers
from taskflow._declare.context import Context
from taskflow._declare.ports import use
from taskflow._declare.registry import Registry, cron, every, task
from taskflow._declare.retry_policy import RetryPolicy, RetryRule
from taskflow._declare.task import Call, Task, TaskHandle
from taskflow._declare.upstream import CircuitBreaker, Guard, RateLimit, Upstream
from taskflow._protocol.dead_letters import DeadLetterGroup
from taskflow._protocol.inspect import Page
from taskflow._protocol.queue_status import QueueStatus, WorkerStatus
from taskflow._protocol.record import (
    AttemptEntry,
    DeadLetterRecord,
    TaskRecord,
    TaskSummary,
)
from taskflow._protocol.schedules import ScheduleStatus
from taskflow._protocol.states import TaskState
from taskflow._protocol.task_events import AuditEntry, Chunk, TaskNews
from taskflow._protocol.upstreams import UpstreamStatus
from taskflow._worker.worker import Worker
from taskflow.errors import (
    Cancel,
    CircuitBreakerError,
    DeadLetter,
    Retry,
    Snooze,
    TaskFlowError,
)

__all__ = [
    "AttemptEntry",
    "AuditEntry",
    "AuditLog",
    "Call",
    "Cancel",
    "Chunk",
    "CircuitBreaker",
    "CircuitBreakerError",
    "Context",
    "DeadLetter",
    "DeadLetterGroup",
    "DeadLetterRecord",
    "DeadLetters",
    "Finding",
    "Guard",
    "OrphanReport",
    "Page",
    "QueueStatus",
    "Queues",
    "RateLimit",
    "Registry",
    "Requeued",
    "Retry",
    "RetryPolicy",
    "RetryRule",
    "ScheduleStatus",
    "Schedules",
    "Snooze",
    "Task",
    "TaskFilter",
    "TaskFlow",
    "TaskFlowError",
    "TaskHandle",
    "TaskNews",
    "TaskRecord",
    "TaskState",
    "TaskSummary",
    "Tasks",
    "Upstream",
    "UpstreamStatus",
    "Upstreams",
    "Worker",
    "WorkerStatus",
    "Workers",
    "cron",
    "every",
    "task",
    "use",
]
