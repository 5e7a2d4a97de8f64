"""Figures for Prometheus, read from the server when they are asked for.

The counts are cardinalities of the homes, so any process can answer for the whole
fleet, and no process has to keep or to share counters. For a host that has a
registry of its own::

    REGISTRY.register(FlowCollector(flow))

=================================  =======  ==========================================
metric                             type     meaning (labels)
=================================  =======  ==========================================
taskflow_tasks                     gauge    tasks in each state (state)
taskflow_lane_waiting              gauge    tasks that wait in a lane (lane)
taskflow_lane_oldest_age_seconds   gauge    age of the head of a lane (lane)
taskflow_lane_served               gauge    claims in the last minute (lane)
taskflow_retry_ratio               gauge    the retry lane's share in force, 0..1
taskflow_lane_paused               gauge    1 while a lane is held back (lane)
taskflow_workers                   gauge    workers by heartbeat (alive)
taskflow_worker_slots              gauge    bodies at a time (worker)
taskflow_worker_running            gauge    bodies that run (worker)
taskflow_worker_bodies_total       counter  bodies since start (worker, outcome)
taskflow_upstream_state            gauge    1 for the state it is in (upstream, state)
taskflow_upstream_tapped           gauge    1 while it wants no calls (upstream)
taskflow_upstream_parked           gauge    tasks that wait for it (upstream, lane)
taskflow_upstream_running          gauge    calls underway (upstream)
taskflow_upstream_window_calls     gauge    ended calls in the window (upstream)
taskflow_upstream_window_failures  gauge    failed ones of them (upstream)
taskflow_upstream_tokens           gauge    calls that may begin at once (upstream)
taskflow_upstream_turns_total      counter  times its state turned (upstream)
=================================  =======  ==========================================
"""

from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from taskflow._client.flow import TaskFlow
from taskflow._protocol.queue_status import QueueStatus, WorkerStatus
from taskflow._protocol.upstreams import UpstreamStatus

CONTENT_TYPE: str = CONTENT_TYPE_LATEST

_LANES = ("primary", "retry")
_STATES = ("closed", "half-open", "open")


class FlowCollector(Collector):
    """Reads the figures of one flow when it is scraped; blocks for three round trips.

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
        flow = self._flow
        yield from families(
            flow.queues.status(), flow.workers.list(), flow.upstreams.status()
        )

    def describe(self) -> list[Metric]:
        """Name no metric ahead, so that registering asks nothing of the server."""
        return []


def exposition(
    status: QueueStatus,
    workers: Sequence[WorkerStatus],
    upstreams: Sequence[UpstreamStatus] = (),
) -> bytes:
    """Write the figures in Prometheus' text format.

    Args:
        status: From ``flow.queues.status()``.
        workers: From ``flow.workers.list()``.
        upstreams: From ``flow.upstreams.status()``.

    Returns:
        The text, to be sent as `CONTENT_TYPE`.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Once(list(families(status, workers, upstreams))))
    return generate_latest(registry)


class _Once(Collector):
    def __init__(self, known: list[Metric]) -> None:
        self._known = known

    def collect(self) -> Iterator[Metric]:
        return iter(self._known)

    def describe(self) -> list[Metric]:
        return []


def families(
    status: QueueStatus,
    workers: Sequence[WorkerStatus],
    upstreams: Sequence[UpstreamStatus] = (),
) -> Iterator[Metric]:
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
    yield from _upstream_families(upstreams)


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


def _upstream_families(upstreams: Sequence[UpstreamStatus]) -> Iterator[Metric]:
    states = GaugeMetricFamily(
        "taskflow_upstream_state",
        "1 for the state that an upstream is in.",
        labels=("upstream", "state"),
    )
    parked = GaugeMetricFamily(
        "taskflow_upstream_parked",
        "Tasks that wait for an upstream.",
        labels=("upstream", "lane"),
    )
    turns = CounterMetricFamily(
        "taskflow_upstream_turns", "Times the state turned.", labels=("upstream",)
    )
    for each in upstreams:
        for state in _STATES:
            states.add_metric((each.name, state), int(each.state == state))
        for lane, count in each.parked.items():
            parked.add_metric((each.name, lane), count)
        turns.add_metric((each.name,), each.epoch)
    yield from (states, parked, turns)
    figures: tuple[tuple[str, str, list[int]], ...] = (
        (
            "tapped",
            "1 while an upstream asks not to be called.",
            [int(each.tapped_until is not None) for each in upstreams],
        ),
        (
            "running",
            "Calls that are underway, where they are limited.",
            [each.running for each in upstreams],
        ),
        (
            "window_calls",
            "Ended calls in the breaker's window.",
            [each.calls for each in upstreams],
        ),
        (
            "window_failures",
            "Failed calls in the breaker's window.",
            [each.failures for each in upstreams],
        ),
    )
    names = [each.name for each in upstreams]
    for name, text, values in figures:
        by_name: dict[str, int] = dict(zip(names, values, strict=True))
        yield _gauge(f"taskflow_upstream_{name}", text, "upstream", by_name)
    tokens = {each.name: each.tokens for each in upstreams if each.tokens is not None}
    yield _gauge(
        "taskflow_upstream_tokens",
        "Calls that the rate lets begin at once; below 0 in debt.",
        "upstream",
        tokens,
    )


def _gauge(
    name: str, text: str, label: str, values: dict[str, int] | dict[str, float]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=(label,))
    for value, number in values.items():
        family.add_metric((value,), number)
    return family
