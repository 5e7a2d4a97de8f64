"""A server that sentinels watch: they say which one is the primary now."""

from typing import Any

from redis.exceptions import NoPermissionError

from taskflow._servers.address import Place
from taskflow._servers.discovery import Addresses, DiscoveredServer, shown
from taskflow.errors import (
    ConfigurationError,
    ServerRefusedError,
    ServerUnavailableError,
)

SENTINEL_SCHEMES = ("redis+sentinel", "rediss+sentinel")

_PORT = 26379
_USERNAME = "sentinel_username"
_PASSWORD = "sentinel_password"  # noqa: S105 - the name of an option


class SentinelServer(DiscoveredServer):
    """The primary of one name, wherever it is.

    Args:
        url: ``redis+sentinel://HOST:PORT,HOST:PORT/NAME/DB``, the addresses those
            of sentinels; with ``rediss+`` both they and the server use TLS. User
            and password before the hosts are the server's, the options
            ``sentinel_username`` and ``sentinel_password`` the sentinels'.

    Attributes:
        login: How connections to sentinels differ from those to the server.

    Raises:
        ConfigurationError: The URL cannot be understood, or names no primary.
    """

    _question = "SENTINEL get-master-addr-by-name"

    def __init__(self, url: str) -> None:
        addresses = Addresses.read(url, _PORT)
        self.login: dict[str, Any] = {
            "username": addresses.option(_USERNAME),
            "password": addresses.option(_PASSWORD),
            "db": 0,
        }
        name, db, *more = (*addresses.path, "", "")
        super().__init__(url, addresses.without(_USERNAME, _PASSWORD), db)
        if any(more) or not (db or "0").isdecimal():
            problem = f"the address {self.display!r} cannot be used: write /NAME/DB"
            raise ConfigurationError(problem)
        if not name:
            problem = (
                f"the address {self.display!r} does not say which primary: end it with "
                "the name that the sentinels know it by, such as /mymaster"
            )
            raise ConfigurationError(problem)
        self._name = name

    def _helpers(self) -> tuple[Place, ...]:
        return self._addresses.places

    def _place_by(self, helper: Place) -> Place:
        words = ("SENTINEL", "get-master-addr-by-name", self._name)
        told = self._ask(helper, *words, **self.login)
        if told is None:
            message = f"no primary is called {self._name!r} there"
            raise ServerRefusedError(message)
        place = (told[0].decode(), int(told[1]))
        self._confirm(place)
        return place

    def _confirm(self, place: Place) -> None:
        """Ask the server itself: a sentinel may be the last to hear of a failover.

        Raises:
            ServerUnavailableError: It is a replica.
        """
        try:
            role = self._ask(place, "ROLE")[0]
        except NoPermissionError:
            return  # a replica will refuse the first write
        if role != b"master":
            message = f"{shown(place)} is a {role.decode()}"
            raise ServerUnavailableError(message)
