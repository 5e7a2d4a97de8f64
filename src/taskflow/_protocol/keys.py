"""Every Redis key of the project, each with its type.

The names are the seed's and the design's; nothing else spells a key. A prefix
stands before all of them: empty by default, ``{myapp}:`` on a Redis Cluster or
a shared server.
"""

import re

from attrs import field, frozen

from taskflow._protocol.states import TaskState
from taskflow.errors import ConfigurationError

ID_PATTERN = re.compile(r"[A-Za-z0-9_-]{1,64}")
WORKER_PATTERN = re.compile(r"[A-Za-z0-9_.-]{1,128}")
FINGERPRINT_PATTERN = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PREFIX_PATTERN = re.compile(r"(?:[A-Za-z0-9_.:-]|\{[A-Za-z0-9_.:-]+\}){0,128}")

SIDE_LISTS = ("primary", "retry", "suspects")


@frozen
class Keys:
    """The keys under one prefix.

    Attributes:
        prefix: Stands before every key; letters, digits, ``_ . : -`` and one
            hash tag in braces.
    """

    prefix: str = ""
    primary: str = field(init=False)  # LIST of task ids
    retry: str = field(init=False)  # LIST of task ids
    suspects: str = field(init=False)  # LIST of task ids
    active: str = field(init=False)  # ZSET id -> lease end, ms
    scheduled: str = field(init=False)  # ZSET id -> due time, ms
    completed: str = field(init=False)  # ZSET id -> end time, ms
    failed: str = field(init=False)  # ZSET id -> end time, ms
    cancelled: str = field(init=False)  # ZSET id -> end time, ms
    dlq: str = field(init=False)  # ZSET id -> time of death, ms
    groups: str = field(init=False)  # ZSET fingerprint -> last death, ms
    lanes: str = field(init=False)  # HASH credit, pauses, what was served
    marker: str = field(init=False)  # ZSET that wakes a waiting worker
    events: str = field(init=False)  # STREAM of rare events, capped
    workers: str = field(init=False)  # ZSET worker id -> last beat, ms
    schedules: str = field(init=False)  # ZSET schedule -> next tick, ms
    parked: str = field(init=False)  # ZSET upstream -> when it may admit again, ms
    upstreams: str = field(init=False)  # SET of upstreams' names
    held: str = field(init=False)  # SET of names of tasks that are held back

    def __attrs_post_init__(self) -> None:
        if not _PREFIX_PATTERN.fullmatch(self.prefix):
            problem = (
                f"prefix {self.prefix!r} may hold letters, digits, '_', '.', ':', '-' "
                "and a hash tag such as '{myapp}:'"
            )
            raise ConfigurationError(problem)
        for name, key in _FIXED.items():
            object.__setattr__(self, name, self.prefix + key)

    def task(self, task_id: str) -> str:
        """HASH: the record."""
        return f"{self.prefix}task:{task_id}"

    def emitted(self, task_id: str) -> str:
        """STREAM: what the task's body emitted, capped."""
        return f"{self.prefix}task:{task_id}:events"

    def letter(self, task_id: str) -> str:
        """HASH: cause, fingerprint, error and traceback of a dead letter."""
        return f"{self.prefix}dlq:task:{task_id}"

    def group(self, fingerprint: str) -> str:
        """ZSET id -> time of death, ms: dead letters of one fingerprint."""
        return f"{self.prefix}dlq:group:{fingerprint}"

    def tombstones(self, lane: str) -> str:
        """SET of ids that still stand in a list and must not run."""
        return f"{self.prefix}tasks:tombstones:{lane}"

    def parked_tombstones(self, upstream: str, lane: str) -> str:
        """SET of ids that still stand in a list of parked tasks, likewise."""
        return f"{self.prefix}tasks:tombstones:{upstream}:{lane}"

    def idempotency(self, task_name: str, key: str) -> str:
        """STRING: holder's id and digest of its payload."""
        return f"{self.prefix}tasks:key:{task_name}:{key}"

    def worker(self, worker_id: str) -> str:
        """HASH: info, last claims, wish to drain; expires."""
        return f"{self.prefix}worker:{worker_id}"

    def heartbeat(self, worker_id: str) -> str:
        """STRING: time of the last beat, ms; expires."""
        return f"{self.prefix}worker:heartbeat:{worker_id}"

    def schedule(self, name: str) -> str:
        """HASH: a schedule's definition, its last tick, whether it is paused."""
        return f"{self.prefix}schedule:{name}"

    def upstream(self, upstream: str) -> str:
        """HASH: an upstream's rules and its state."""
        return f"{self.prefix}upstream:{upstream}"

    def permits(self, upstream: str) -> str:
        """ZSET ticket -> when it lapses, ms: calls of an upstream underway."""
        return f"{self.prefix}upstream:{upstream}:permits"

    def probes(self, upstream: str) -> str:
        """ZSET ticket -> when it lapses, ms: calls that try a shut upstream."""
        return f"{self.prefix}upstream:{upstream}:probes"

    def parked_list(self, upstream: str, lane: str) -> str:
        """LIST of task ids: those of a lane that wait for an upstream."""
        return f"{self.prefix}tasks:parked:{upstream}:{lane}"

    def upstreams_channel(self) -> str:
        """CHANNEL: the turns of all upstreams."""
        return f"{self.prefix}taskflow:upstreams"

    def worker_channel(self, worker_id: str) -> str:
        """CHANNEL: the leases of a worker whose tasks were asked to stop."""
        return f"{self.prefix}taskflow:worker:{worker_id}"

    def done_channel(self, task_id: str) -> str:
        """CHANNEL: the state of a watched task, once it has ended."""
        return f"{self.prefix}taskflow:done:{task_id}"

    def home(self, state: TaskState) -> str:
        """ZSET of the tasks in *state*; PENDING has lists instead."""
        return str(getattr(self, _HOMES[state]))

    def waiting(self, lane: str) -> str:
        """LIST of the tasks waiting in *lane*."""
        return str(getattr(self, lane))


_FIXED = {
    "primary": "tasks:pending:primary",
    "retry": "tasks:pending:retry",
    "suspects": "tasks:suspects",
    "active": "tasks:active",
    "scheduled": "tasks:scheduled",
    "completed": "tasks:completed",
    "failed": "tasks:failed",
    "cancelled": "tasks:cancelled",
    "dlq": "dlq:tasks",
    "groups": "dlq:groups",
    "lanes": "tasks:lanes",
    "marker": "tasks:marker",
    "events": "tasks:events",
    "workers": "tasks:workers",
    "schedules": "tasks:schedules",
    "parked": "tasks:parked",
    "upstreams": "tasks:upstreams",
    "held": "tasks:held",
}

_HOMES = {
    TaskState.ACTIVE: "active",
    TaskState.SCHEDULED: "scheduled",
    TaskState.COMPLETED: "completed",
    TaskState.FAILED: "failed",
    TaskState.CANCELLED: "cancelled",
    TaskState.DLQ: "dlq",
}


@frozen
class KeyKind:
    """Keys of one kind, as one recognises them among others on a shared server.

    Attributes:
        name: In words.
        pattern: Lua pattern of the name behind the prefix.
        type: As Redis calls it.
        fields: Names, one of which a hash must have; empty for any other type.
    """

    name: str
    pattern: str
    type: str
    fields: str = ""


_ID = "[%w_%-]+"
_NAME = "[%w_.%-]+"

KINDS = (
    KeyKind("records of tasks", f"^task:{_ID}$", "hash", "state spec payload"),
    KeyKind("output of tasks", f"^task:{_ID}:events$", "stream"),
    KeyKind("waiting lists", "^tasks:pending:primary$", "list"),
    KeyKind("waiting lists", "^tasks:pending:retry$", "list"),
    KeyKind("waiting lists", "^tasks:suspects$", "list"),
    KeyKind("tombstones", "^tasks:tombstones:%a+$", "set"),
    KeyKind("tombstones", f"^tasks:tombstones:{_NAME}:%a+$", "set"),
    KeyKind("tombstones", f"^tasks:tombstones:task:{_NAME}:%a+$", "set"),
    KeyKind("parked tasks", "^tasks:parked$", "zset"),
    KeyKind("parked tasks", f"^tasks:parked:{_NAME}:%a+$", "list"),
    KeyKind("parked tasks", f"^tasks:parked:task:{_NAME}:%a+$", "list"),
    KeyKind("upstreams", "^tasks:upstreams$", "set"),
    KeyKind("upstreams", "^tasks:held$", "set"),
    KeyKind("upstreams", f"^upstream:task:{_NAME}$", "hash", "rules state"),
    KeyKind("upstreams", f"^upstream:task:{_NAME}:permits$", "zset"),
    KeyKind("upstreams", f"^upstream:task:{_NAME}:probes$", "zset"),
    KeyKind("upstreams", f"^upstream:{_NAME}$", "hash", "rules state"),
    KeyKind("upstreams", f"^upstream:{_NAME}:permits$", "zset"),
    KeyKind("upstreams", f"^upstream:{_NAME}:probes$", "zset"),
    KeyKind("homes", "^tasks:active$", "zset"),
    KeyKind("homes", "^tasks:scheduled$", "zset"),
    KeyKind("homes", "^tasks:completed$", "zset"),
    KeyKind("homes", "^tasks:failed$", "zset"),
    KeyKind("homes", "^tasks:cancelled$", "zset"),
    KeyKind("dead-letter queue", "^dlq:tasks$", "zset"),
    KeyKind("dead-letter queue", "^dlq:groups$", "zset"),
    KeyKind("dead-letter queue", "^dlq:group:[%w_%-]+$", "zset"),
    KeyKind("dead-letter queue", f"^dlq:task:{_ID}$", "hash"),
    KeyKind("idempotency keys", "^tasks:key:.", "string"),
    KeyKind("state of the lanes", "^tasks:lanes$", "hash"),
    KeyKind("state of the lanes", "^tasks:marker$", "zset"),
    KeyKind("audit log", "^tasks:events$", "stream"),
    KeyKind("schedules", "^tasks:schedules$", "zset"),
    KeyKind("schedules", f"^schedule:{_NAME}$", "hash", "digest"),
    KeyKind("workers", "^tasks:workers$", "zset"),
    KeyKind("workers", f"^worker:{_NAME}$", "hash", "info drain claim0 claim1 claim2"),
    KeyKind("workers", f"^worker:heartbeat:{_NAME}$", "string"),
)
"""Every kind of key; what has no line here survives a reset."""
