"""A Redis or Valkey server at an address: TCP, TLS or a unix socket."""

import socket
from pathlib import Path
from typing import Any, cast

from redis import BlockingConnectionPool, ConnectionPool, Redis
from redis.asyncio import ConnectionPool as AsyncConnectionPool
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from taskflow._servers.address import checked
from taskflow._servers.connection import AsyncConnection, Connection
from taskflow._servers.redis_base import (
    MOST_LINKS,
    REPLY_TIMEOUT,
    RedisBase,
    new_link,
)
from taskflow._servers.route import Route, route_by
from taskflow._settings import mask_url
from taskflow.errors import ConfigurationError, ServerRefusedError

SCHEMES = ("redis", "rediss", "unix")

_CONNECT_TIMEOUT = 2.0
_CLIENT_NAME = "taskflow"

_NOT_HEARD = frozenset(
    {
        # The scripts' replies need nothing newer than RESP2, and on RESP3 redis-py 8
        # takes a connection with unread data for a good one.
        "protocol",
        "decode_responses",
        # The runners lend connections and send again by rules of their own.
        "timeout",
        "retry_on_timeout",
        "retry_on_error",
    }
)
"""Options of redis-py that a URL cannot change."""


class RedisServer(RedisBase):
    """Clients and connections for one URL.

    The query of the URL may hold options, by redis-py's names. ``socket_timeout``
    (seconds, 5), ``max_connections`` (64) and ``socket_connect_timeout``
    (seconds, 2) are the ones with a meaning here; with TLS the certificate and
    the host's name are checked unless the URL says otherwise.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``.
        shown_as: Stands for *url* where it is shown; its password is masked.

    Raises:
        ConfigurationError: The URL cannot be understood.
    """

    replicates = True

    def __init__(self, url: str, *, shown_as: str | None = None) -> None:
        self.display = mask_url(shown_as or url)
        retry, async_retry = Retry(NoBackoff(), 0), AsyncRetry(NoBackoff(), 0)
        try:
            self._url = checked(url, _NOT_HEARD)
            self._pool: Any = self._read(ConnectionPool, retry)
            self._async_pool: Any = self._read(AsyncConnectionPool, async_retry)
            # Only an attempt shows whether the connection knows every option.
            new_link(self._pool)
            self._missing = _missing_file(new_link(self._async_pool))
        except (ValueError, TypeError, OSError, RedisError) as error:
            problem = f"the address {self.display!r} cannot be used: {error}"
            raise ConfigurationError(problem) from None
        # The asynchronous runner limits the whole trip by itself, which is
        # cheaper than redis-py's limit of each read and write.
        self._async_pool.connection_kwargs["socket_timeout"] = None

    def _read(self, kind: Any, retry: Any) -> Any:
        pool = kind.from_url(self._url, retry=retry, **self._options())
        self.reply_timeout = pool.connection_kwargs["socket_timeout"]
        self.most_links = pool.max_connections
        return pool

    def _options(self) -> dict[str, Any]:
        options: dict[str, Any] = {
            "protocol": 2,
            "decode_responses": False,
            "max_connections": MOST_LINKS,
            "socket_timeout": REPLY_TIMEOUT,
            "socket_connect_timeout": _CONNECT_TIMEOUT,
            "client_name": _CLIENT_NAME,
        }
        if not self._url.startswith("unix:"):
            options["socket_keepalive"] = True
            options["socket_keepalive_options"] = _keepalive()
        if self._url.startswith("rediss:"):
            options["ssl_check_hostname"] = True
        if "ssl_certfile=" in self._url or "ssl_keyfile=" in self._url:
            # Without one, OpenSSL would ask a person for that of an encrypted key.
            options["ssl_password"] = ""
        return options

    def sync_client(self, *, socket_timeout: float | None = REPLY_TIMEOUT) -> Redis:
        """Make a blocking client; any thread may use it."""
        return self._client(self._address(), socket_timeout)

    def _address(self) -> str:
        return self._url

    def _client(self, url: str, socket_timeout: float | None) -> Redis:
        options = {**self._options(), "socket_timeout": socket_timeout}
        pool = cast("Any", BlockingConnectionPool).from_url(
            url, retry=Retry(NoBackoff(), 0), **options
        )
        return Redis.from_pool(pool)

    def link(self) -> Connection:
        """Make a connection that is not connected yet."""
        link: Connection = self._new_link(self._pool)
        return link

    def async_link(self) -> AsyncConnection:
        """Make a connection for the running event loop, not connected yet."""
        link: AsyncConnection = self._new_link(self._async_pool)
        return link

    def _new_link(self, pool: Any, **options: Any) -> Any:
        if self._missing and not Path(self._missing).exists():
            # redis-py would say that the server cannot be reached.
            message = (
                f"{self.display!r} names a file that is not there: {self._missing}"
            )
            raise ServerRefusedError(message)
        return new_link(pool, **options)

    def route(self) -> Route | None:
        """Tell how another process reaches the server without this library."""
        encrypted = self._url.startswith("rediss:")
        return route_by(self._pool.connection_kwargs, encrypted=encrypted)

    def close(self) -> None:
        """Nothing to leave: the connections belong to the runners."""


def _missing_file(link: Any) -> str:
    """Read the files and values of TLS now, and not at the first connection.

    Args:
        link: A connection of asyncio, the kind that keeps what it has read.

    Returns:
        The file that is not there, which it may be later; empty if there is none.

    Raises:
        OSError: A file cannot be read, or is no certificate.
        ValueError: A value is none of TLS.
    """
    tls = getattr(link, "ssl_context", None)
    if tls is None:
        return ""
    for file in (tls.ca_certs, tls.ca_path, tls.certfile, tls.keyfile):
        if file and not Path(file).exists():
            return str(file)
    tls.get()
    return ""


def _keepalive() -> dict[int, int]:
    """Notice within half a minute that the other end is gone, also when idle."""
    wanted = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
    return {
        getattr(socket, name): value
        for name, value in wanted.items()
        if hasattr(socket, name)
    }
