"""Workers and producers of the peers, for `faults`: one file per peer.

Each file but this, ``body`` and ``command`` is imported in an environment of the peer's
own, by its worker and, as ``python -m peers.NAME``, by its producer. What it needs to
know stands in the environment: ``FAULT_URL``, ``RUN_LOG``, ``WORKER_NAME``, and
``FAULT_SHORT`` where time-outs are to be as short as the peer allows.
"""

from typing import Final, NamedTuple


class Peer(NamedTuple):
    """What is known of a peer without importing it.

    Attributes:
        requires: What to install, with versions; empty: what is installed here.
        command: Of a worker, the program first.
        slots: Bodies that it runs at a time.
        recovers: What brings back the tasks of a dead worker, and when, by default.
        shortened: What is set for the case in which time-outs are short.
    """

    requires: tuple[str, ...]
    command: tuple[str, ...]
    slots: int
    recovers: str
    shortened: str


PEERS: Final = {
    "taskflow": Peer(
        (),
        ("taskflow-worker", "--app", "peers.taskflow:flow", "--concurrency", "20"),
        20,
        "a lease of 15 s",
        "`TASKFLOW_LEASE=5`",
    ),
    "celery": Peer(
        ("celery[redis]==5.7.*",),
        ("celery", "-A", "peers.celery:app", "worker", "-c", "8", "-l", "WARNING"),
        8,
        "`acks_late`, a visibility timeout of 3,600 s",
        "`visibility_timeout` 5 s",
    ),
    "dramatiq": Peer(
        ("dramatiq[redis]==2.2.*",),
        ("dramatiq", "peers.dramatiq", "-p", "1", "-t", "8"),
        8,
        "a heartbeat of 60 s, looked at in one command of a thousand",
        "`heartbeat_timeout` 5 s, looked at in every command",
    ),
    "rq": Peer(
        ("rq==3.0.*",),
        (
            "rq",
            "worker-pool",
            "-n",
            "4",
            "-q",
            "-c",
            "peers.rq",
            "-w",
            "peers.rq.Sweeper",
        ),
        4,
        "`Retry(max=3)`, and maintenance every 600 s",
        "maintenance every 2 s",
    ),
    "huey": Peer(
        ("huey==3.5.*", "redis>=5"),
        ("huey_consumer", "peers.huey.huey", "-w", "8", "-k", "thread", "-q"),
        8,
        "nothing: a task leaves Redis when it is handed out",
        "nothing to set",
    ),
    "arq": Peer(
        ("arq==0.28.*",),
        ("arq", "peers.arq.WorkerSettings"),
        20,
        "the longest `job_timeout` (300 s) and 10 s",
        "`job_timeout` 5 s",
    ),
    "saq": Peer(
        ("saq[redis]==0.26.*", "hiredis", "typing-extensions"),
        ("saq", "peers.saq.settings", "--quiet"),
        20,
        "a job's `timeout` (10 s), swept every 60 s",
        "`timeout` 5 s, swept every 2 s",
    ),
    "taskiq": Peer(
        ("taskiq==0.13.*", "taskiq-redis==1.2.*"),
        (
            *("taskiq", "worker", "peers.taskiq:broker", "--workers", "1"),
            *("--max-async-tasks", "20", "--log-level", "WARNING"),
        ),
        20,
        "a stream's `idle_timeout` of 600 s",
        "`idle_timeout` 5 s",
    ),
    "streaq": Peer(
        ("streaq==7.2.*",),
        ("streaq", "run", "peers.streaq:worker"),
        20,
        "an `idle_timeout` of 60 s",
        "`idle_timeout` 5 s",
    ),
}
