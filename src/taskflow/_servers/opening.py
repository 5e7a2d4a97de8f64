"""Which implementation a URL stands for."""

from taskflow._servers.server import Server
from taskflow._settings import mask_url
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
    scheme, separator, _ = url.partition("://")
    if separator and scheme in SCHEMES:
        return RedisServer(url)
    if separator and scheme in SENTINEL_SCHEMES:
        return SentinelServer(url)
    if separator and scheme in CLUSTER_SCHEMES:
        return ClusterServer(url, prefix)
    if separator and scheme == "memory":
        return MemoryServer(url)
    if separator and scheme == "embedded":
        return EmbeddedServer(url)
    problem = (
        f"{mask_url(url)!r} is no server: use redis://HOST:PORT/DB, rediss://, "
        "unix:///PATH, redis+sentinel://HOST:PORT,HOST:PORT/NAME, "
        "redis+cluster://HOST:PORT, embedded://PATH or memory://"
    )
    raise ConfigurationError(problem)
