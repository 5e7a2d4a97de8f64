"""A Redis or Valkey server at an address: TCP, TLS or a unix socket."""

import socket
from typing import Any, cast

from redis import BlockingConnectionPool, Redis
from redis.asyncio import BlockingConnectionPool as AsyncBlockingConnectionPool
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from taskflow._servers.redis_runner import ClientServer
from taskflow._settings import mask_url
from taskflow.errors import ConfigurationError

SCHEMES = ("redis", "rediss", "unix")

_POOL_SIZE = 64
_POOL_PATIENCE = 5.0
_CONNECT_TIMEOUT = 2.0
_IDLE_CHECK = 25.0


class RedisServer(ClientServer):
    """Clients for one URL.

    redis-py's own retries are off: the runners re-send, because they know
    which errors are worth it and for how long. RESP2 on the wire: the scripts'
    replies need nothing newer, and a connection with unread data is refused
    (``reference/reliability.md``, 1.6).
    """

    def __init__(self, url: str) -> None:
        self.display = mask_url(url)
        self._url = url
        try:
            self.sync_client().connection_pool.disconnect()
        except ValueError as error:
            problem = f"REDIS_URL={self.display!r} cannot be used: {error}"
            raise ConfigurationError(problem) from error

    def sync_client(self, *, socket_timeout: float | None = 5.0) -> Redis:
        """Make a blocking client; any thread may use it."""
        pool = cast("Any", BlockingConnectionPool).from_url(
            self._url,
            retry=Retry(NoBackoff(), 0),
            **self._options(socket_timeout),
        )
        return Redis.from_pool(pool)

    def async_client(self, *, socket_timeout: float | None = 5.0) -> AsyncRedis:
        """Make a client for the running event loop."""
        pool = cast("Any", AsyncBlockingConnectionPool).from_url(
            self._url,
            retry=AsyncRetry(NoBackoff(), 0),
            **self._options(socket_timeout),
        )
        return AsyncRedis.from_pool(pool)

    def _options(self, socket_timeout: float | None) -> dict[str, Any]:
        options: dict[str, Any] = {
            "protocol": 2,
            "decode_responses": False,
            "max_connections": _POOL_SIZE,
            "timeout": _POOL_PATIENCE,
            "socket_timeout": socket_timeout,
            "socket_connect_timeout": _CONNECT_TIMEOUT,
            "health_check_interval": _IDLE_CHECK,
            "client_name": "taskflow",
        }
        if not self._url.startswith("unix:"):
            options["socket_keepalive"] = True
            options["socket_keepalive_options"] = _keepalive()
        return options

    def close(self) -> None:
        """Nothing to leave: the clients belong to the runners."""


def _keepalive() -> dict[int, int]:
    wanted = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
    return {
        getattr(socket, name): value
        for name, value in wanted.items()
        if hasattr(socket, name)
    }
