"""A server in this process's memory: fakeredis, which runs the same scripts."""

from importlib.util import find_spec
from threading import Lock
from typing import Any

from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from taskflow._servers.client_server import REPLY_TIMEOUT, ClientServer, new_link
from taskflow._servers.link import AsyncLink, Link
from taskflow.errors import ConfigurationError

_named: dict[str, Any] = {}
_guard = Lock()


class MemoryServer(ClientServer):
    """One keyspace in memory; ``memory://NAME`` is shared within the process.

    Args:
        url: ``memory://`` or ``memory://NAME``.

    Raises:
        ConfigurationError: fakeredis is not installed, or has no Lua.
    """

    shared = False

    def __init__(self, url: str) -> None:
        # Without lupa, fakeredis knows no scripts.
        if not (find_spec("fakeredis") and find_spec("lupa")):
            problem = (
                f"{url!r} needs fakeredis with Lua: pip install "
                "'asynctaskflow[embedded]', or name a server: redis://HOST"
            )
            raise ConfigurationError(problem)
        import fakeredis

        self.display = url
        name = url.removeprefix("memory://")
        with _guard:
            fresh = fakeredis.FakeServer(version=(7,))
            keyspace: Any = _named.setdefault(name, fresh) if name else fresh
        self._client = fakeredis.FakeRedis(server=keyspace, protocol=2)
        self._async_client = fakeredis.FakeAsyncRedis(server=keyspace, protocol=2)
        self._keyspace = keyspace

    def sync_client(self, *, socket_timeout: float | None = REPLY_TIMEOUT) -> Redis:
        """Make a blocking client; any thread may use it."""
        import fakeredis

        del socket_timeout
        return fakeredis.FakeRedis(server=self._keyspace, protocol=2)

    def async_client(
        self, *, socket_timeout: float | None = REPLY_TIMEOUT
    ) -> AsyncRedis:
        """Make a client for the running event loop."""
        import fakeredis

        del socket_timeout
        return fakeredis.FakeAsyncRedis(server=self._keyspace, protocol=2)

    def link(self) -> Link:
        """Make a connection that is not connected yet."""
        link: Link = new_link(self._client.connection_pool)
        return link

    def async_link(self) -> AsyncLink:
        """Make a connection for the running event loop, not connected yet."""
        link: AsyncLink = new_link(self._async_client.connection_pool)
        return link

    def close(self) -> None:
        """Nothing to leave: the keyspace goes with the object."""
