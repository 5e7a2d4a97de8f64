"""A server in this process's memory: fakeredis, which runs the same scripts."""

from threading import Lock
from typing import Any

from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from taskflow._servers.redis_runner import ClientServer
from taskflow.errors import ConfigurationError

_named: dict[str, Any] = {}
_guard = Lock()


class MemoryServer(ClientServer):
    """One keyspace in memory; ``memory://NAME`` is shared within the process."""

    shared = False

    def __init__(self, url: str) -> None:
        try:
            import fakeredis
        except ImportError as error:
            problem = (
                f"{url!r} needs fakeredis: pip install 'asynctaskflow[embedded]', "
                "or use redis://HOST"
            )
            raise ConfigurationError(problem) from error
        self.display = url
        name = url.removeprefix("memory://")
        with _guard:
            fresh = fakeredis.FakeServer(version=(7,))
            self._keyspace: Any = _named.setdefault(name, fresh) if name else fresh

    def sync_client(self, *, socket_timeout: float | None = 5.0) -> Redis:
        """Make a blocking client; any thread may use it."""
        import fakeredis

        del socket_timeout
        return fakeredis.FakeRedis(server=self._keyspace, protocol=2)

    def async_client(self, *, socket_timeout: float | None = 5.0) -> AsyncRedis:
        """Make a client for the running event loop."""
        import fakeredis

        del socket_timeout
        return fakeredis.FakeAsyncRedis(server=self._keyspace, protocol=2)

    def close(self) -> None:
        """Nothing to leave: the keyspace goes with the object."""
