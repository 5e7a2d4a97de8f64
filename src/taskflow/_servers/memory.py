"""A server in this process's memory: fakeredis, which runs the same scripts."""

import asyncio
from importlib import import_module
from threading import Lock
from typing import Any

from redis import Redis

from taskflow._servers.connection import AsyncConnection, Connection
from taskflow._servers.redis_base import REPLY_TIMEOUT, RedisBase, new_link
from taskflow._servers.resp import pack
from taskflow.errors import ConfigurationError

_named: dict[str, Any] = {}
_guard = Lock()


class MemoryServer(RedisBase):
    """One keyspace in memory; ``memory://NAME`` is shared within the process.

    Args:
        url: ``memory://`` or ``memory://NAME``.

    Raises:
        ConfigurationError: fakeredis is not installed, or has no Lua.
    """

    shared = False

    def __init__(self, url: str) -> None:
        try:
            import fakeredis

            import_module("lupa")  # without it, fakeredis knows no scripts
        except ImportError as error:
            problem = (
                f"{url!r} needs fakeredis with Lua: pip install "
                "'asynctaskflow[embedded]', or name a server: redis://HOST"
            )
            raise ConfigurationError(problem) from error
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

    def link(self) -> Connection:
        """Make a connection that is not connected yet."""
        link: Connection = new_link(self._client.connection_pool)
        return link

    def async_link(self) -> AsyncConnection:
        """Make a connection for the running event loop, not connected yet."""
        return _MemoryConnection(
            new_link(self._async_client.connection_pool), self._client
        )

    def hang_up(self, link: Any) -> None:
        """End the connection of *link*, whose event loop was closed before it."""
        link.hang_up()

    def close(self) -> None:
        """Nothing to leave: the keyspace goes with the object."""


class _MemoryConnection:
    """A connection that behaves as a real one where fakeredis does not.

    It ends its wait when it is closed: fakeredis goes on waiting, and the next
    marker would wake nobody (200 of 200 cancelled waits; ``tests/integration``).
    """

    def __init__(self, link: AsyncConnection, client: Redis) -> None:
        self._link = link
        self._client: Any = client
        self._id = 0

    async def connect(self) -> None:
        await self._link.connect()
        await self._link.send_packed_command([pack(("CLIENT", "ID"))])
        self._id = await self._link.read_response()

    async def send_packed_command(
        self,
        command: Any,
        check_health: bool = True,  # noqa: FBT001, FBT002 - redis-py's
    ) -> None:
        await self._link.send_packed_command(command, check_health)

    async def read_response(self, *, timeout: float | None = None) -> Any:  # noqa: ASYNC109 - redis-py's
        # Others get their turn, as they do while a real reply is on its way;
        # fakeredis has its own at once, and a loop of calls would never yield.
        await asyncio.sleep(0)
        return await self._link.read_response(timeout=timeout)

    async def disconnect(self, nowait: bool = False) -> None:  # noqa: FBT001, FBT002 - redis-py's
        self.hang_up()
        await self._link.disconnect(nowait)

    def hang_up(self) -> None:
        if self._id:
            self._client.client_unblock(self._id)
            # Or fakeredis keeps it, and its event loop with it.
            self._client.client_kill_filter(_id=self._id)
            self._id = 0
