"""Which implementation a URL stands for."""

from taskflow._servers.address import meant, no_server
from taskflow._servers.server import Server
from taskflow.errors import ConfigurationError


def open_server(url: str | None, *, prefix: str = "") -> Server:
    """Make the server that *url* stands for; connects to nothing yet.

    Args:
        url: ``redis://``, ``rediss://``, ``unix://``, ``redis+sentinel://``,
            ``redis+cluster://``, ``embedded://PATH`` or ``memory://``; None =
            ``embedded://./.taskflow``.
        prefix: Stands before every key; a cluster goes by its hash tag.

    Returns:
        The server.

    Raises:
        ConfigurationError: The URL is of no known kind, or its kind cannot
            run here; says the ways out.
    """
    # Here and not above: redis-py takes 0.2 s to import, and declaring tasks
    # must stay light.
    from taskflow._servers.cluster import CLUSTER_SCHEMES, ClusterServer
    from taskflow._servers.embedded import EmbeddedServer
    from taskflow._servers.memory import MemoryServer
    from taskflow._servers.redis import SCHEMES, RedisServer
    from taskflow._servers.sentinel import SENTINEL_SCHEMES, SentinelServer

    if url is None:
        return EmbeddedServer("embedded://./.taskflow")
    url = meant(url)
    scheme = url.partition("://")[0]
    if scheme in SCHEMES:
        return RedisServer(url)
    if scheme in SENTINEL_SCHEMES:
        return SentinelServer(url)
    if scheme in CLUSTER_SCHEMES:
        return ClusterServer(url, prefix)
    if scheme == "memory":
        return MemoryServer(url)
    if scheme == "embedded":
        return EmbeddedServer(url)
    raise ConfigurationError(no_server(url))
