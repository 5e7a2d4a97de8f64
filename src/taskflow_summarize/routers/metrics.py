"""The figures for Prometheus over HTTP."""

from importlib.util import find_spec

from fastapi import APIRouter, Response

from taskflow.errors import ConfigurationError
from taskflow_summarize.routers._access import Level
from taskflow_summarize.routers._answers import problems
from taskflow_summarize.routers._route import needs
from taskflow_summarize.routers._service import ServiceHere
from taskflow_summarize.routers.health import look, look_at_upstreams


def is_installed() -> bool:
    """Whether the extra is there."""
    return find_spec("prometheus_client") is not None


@needs(Level.READ)
async def metrics(service: ServiceHere) -> Response:
    """Write the counts of homes, lanes, workers and upstreams, as Prometheus' text."""
    from taskflow.observers import prometheus

    status, workers = await look(service)
    upstreams = await look_at_upstreams(service)
    text = prometheus.exposition(status, workers, upstreams)
    return Response(text, media_type=prometheus.CONTENT_TYPE)


def add_to(router: APIRouter) -> None:
    """Add this path to *router*.

    Raises:
        ConfigurationError: The extra is not installed.
    """
    if not is_installed():
        problem = "the part 'metrics' needs: pip install 'asynctaskflow[metrics]'"
        raise ConfigurationError(problem)
    router.get(
        "/metrics",
        response_class=Response,
        responses=problems()
        | {200: {"content": {"text/plain": {}}, "description": "Metrics."}},
    )(metrics)
