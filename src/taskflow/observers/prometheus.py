"""Figures for Prometheus, read from the server when they are asked for.

The counts are cardinalities of the homes, so any process can answer for the whole
fleet, and no process has to keep or to share counters. For a host that has a
registry of its own::

    REGISTRY.register(FlowCollector(flow))

================================  =======  ======================================
metric                            type     meaning (labels)
================================  =======  ======================================
taskflow_tasks                    gauge    tasks in each state (state)
taskflow_lane_waiting             gauge    tasks that wait in a lane (lane)
taskflow_lane_oldest_age_seconds  gauge    age of the head of a lane (lane)
taskflow_lane_served              gauge    claims in the last minute (lane)
taskflow_retry_ratio              gauge    the retry lane's share in force, 0..1
taskflow_lane_paused              gauge    1 while a lane is held back (lane)
taskflow_workers                  gauge    workers by heartbeat (alive)
taskflow_worker_slots             gauge    bodies at a time (worker)
taskflow_worker_running           gauge    bodies that run (worker)
taskflow_worker_bodies_total      counter  bodies since start (worker, outcome)
================================  =======  ======================================
"""

from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from taskflow._client.flow import TaskFlow
from taskflow._protocol.overview import QueueStatus, WorkerStatus

CONTENT_TYPE: str = CONTENT_TYPE_LATEST

_LANES = ("primary", "retry")


class FlowCollector(Collector):
    """Reads the figures of one flow when it is scraped; blocks for two round trips.

    Args:
        flow: Whose tasks are counted.
    """

    def __init__(self, flow: TaskFlow) -> None:
        self._flow = flow

    def collect(self) -> Iterator[Metric]:
        """Read the figures.

        Yields:
            One family for each metric.
        """
        yield from families(self._flow.queues.status(), self._flow.workers.list())

    def describe(self) -> list[Metric]:
        """Name no metric ahead, so that registering asks nothing of the server."""
        return []


def exposition(status: QueueStatus, workers: Sequence[WorkerStatus]) -> bytes:
    """Write the figures in Prometheus' text format.

    Args:
        status: From ``flow.queues.status()``.
        workers: From ``flow.workers.list()``.

    Returns:
        The text, to be sent as `CONTENT_TYPE`.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Once(list(families(status, workers))))
    return generate_latest(registry)


class _Once(Collector):
    def __init__(self, known: list[Metric]) -> None:
        self._known = known

    def collect(self) -> Iterator[Metric]:
        return iter(self._known)

    def describe(self) -> list[Metric]:
        return []


def families(status: QueueStatus, workers: Sequence[WorkerStatus]) -> Iterator[Metric]:
    """Turn what was read into families of metrics.

    Yields:
        One family for each metric of the table above.
    """
    yield _gauge(
        "taskflow_tasks",
        "Tasks in each state.",
        "state",
        {state.value: count for state, count in status.states.items()},
    )
    lanes = {
        "waiting": (status.primary, status.retry),
        "served": (status.served_primary, status.served_retry),
        "paused": tuple(int(lane in status.paused) for lane in _LANES),
        "oldest_age_seconds": (
            status.oldest_primary_age or 0,
            status.oldest_retry_age or 0,
        ),
    }
    helps = {
        "waiting": "Tasks that wait in a lane.",
        "served": "Claims from a lane in the last minute.",
        "paused": "1 while a lane is held back.",
        "oldest_age_seconds": "Age of the head of a lane; 0 when it is empty.",
    }
    for name, values in lanes.items():
        by_lane: dict[str, float] = dict(zip(_LANES, values, strict=True))
        yield _gauge(f"taskflow_lane_{name}", helps[name], "lane", by_lane)
    yield GaugeMetricFamily(
        "taskflow_retry_ratio",
        "The retry lane's share in force, 0..1.",
        value=status.retry_ratio,
    )
    alive = [worker for worker in workers if worker.alive]
    counts = {"true": len(alive), "false": len(workers) - len(alive)}
    yield _gauge("taskflow_workers", "Workers by heartbeat.", "alive", counts)
    yield from _worker_families(alive)


def _worker_families(alive: Sequence[WorkerStatus]) -> Iterator[Metric]:
    slots = {each.id: int(each.info.get("concurrency", 0)) for each in alive}
    yield _gauge("taskflow_worker_slots", "Bodies at a time.", "worker", slots)
    running = {each.id: len(each.info.get("running", ())) for each in alive}
    yield _gauge("taskflow_worker_running", "Bodies that run.", "worker", running)
    bodies = CounterMetricFamily(
        "taskflow_worker_bodies",
        "Bodies since the worker's start.",
        labels=("worker", "outcome"),
    )
    for each in alive:
        for outcome in ("done", "failed"):
            bodies.add_metric((each.id, outcome), each.info.get(outcome, 0))
    yield bodies


def _gauge(
    name: str, text: str, label: str, values: dict[str, int] | dict[str, float]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=(label,))
    for value, number in values.items():
        family.add_metric((value,), number)
    return family
