"""A server that is found by asking others where it is, and may be elsewhere next.

Two kinds: one that sentinels watch, and the node of a cluster that holds our slot.
The runners need to know of neither: they see a server that has to be made ready
before it is connected to, and doubt it when a connection fails.
"""

from abc import abstractmethod
from collections.abc import Iterable
from threading import Lock
from typing import Any
from urllib.parse import parse_qs

from attrs import evolve, frozen

from taskflow._servers.address import Place, read_place
from taskflow._servers.connection import AsyncConnection, Connection
from taskflow._servers.errors import FAILURES, connecting, translate
from taskflow._servers.redis import RedisServer
from taskflow._servers.route import Route
from taskflow._settings import mask_url
from taskflow.errors import (
    ConfigurationError,
    ServerError,
    ServerRefusedError,
    ServerUnavailableError,
)

ASK_TIMEOUT = 1.0
"""Seconds that one of those who are asked has to connect, and to answer."""


def shown(place: Place) -> str:
    """Write *place* as it stands in a URL.

    Args:
        place: A host, which may be an address of IPv6, and a port.

    Returns:
        Such as ``db:6379`` or ``[::1]:6379``.
    """
    host, port = place
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@frozen
class Addresses:
    """What a URL with several hosts says.

    Attributes:
        scheme: ``redis``, or ``rediss`` for TLS.
        login: User and password of the server, with the ``@``; may be empty.
        places: Whom to ask, at least one.
        path: Parts of the path.
        query: Options, without the ``?``.
    """

    scheme: str
    login: str
    places: tuple[Place, ...]
    path: tuple[str, ...]
    query: str

    @classmethod
    def read(cls, url: str, port: int) -> "Addresses":
        """Take *url* apart.

        Args:
            url: ``redis+KIND://USER:PASSWORD@HOST:PORT,HOST:PORT/PATH?OPTIONS``.
            port: Where a host has none.

        Returns:
            Its parts.

        Raises:
            ConfigurationError: It names no host, or a port that is none.
        """
        kind, _, rest = url.partition("://")
        rest, _, query = rest.partition("?")
        login, at, address = rest.rpartition("@")
        hosts, _, path = address.partition("/")
        try:
            places = tuple(_place(each, port) for each in hosts.split(","))
        except ValueError as error:
            problem = (
                f"the address {mask_url(url)!r} cannot be read: {error}; write HOST:PORT,"
                " with a comma between two of them"
            )
            raise ConfigurationError(problem) from None
        parts = tuple(part for part in path.split("/") if part)
        return cls(kind.partition("+")[0], login + at, places, parts, query)

    def url(self, place: Place, db: str = "") -> str:
        """Write the URL of one server at *place*."""
        query = f"?{self.query}" if self.query else ""
        return f"{self.scheme}://{self.login}{shown(place)}/{db}{query}"

    def option(self, name: str) -> str | None:
        """Return the option *name* of the query, unquoted."""
        return parse_qs(self.query).get(name, [None])[-1]

    def without(self, *names: str) -> "Addresses":
        """Leave out the options called *names*."""
        parts = self.query.split("&")
        query = "&".join(each for each in parts if each.partition("=")[0] not in names)
        return Addresses(self.scheme, self.login, self.places, self.path, query)


def _place(text: str, port: int) -> Place:
    if not text:
        message = "a host is missing"
        raise ValueError(message)
    return read_place(text, port)


class DiscoveredServer(RedisServer):
    """Connects to where the server is now; asks anew once that is in doubt.

    Args:
        url: As it was given; for messages.
        addresses: Its parts.
        db: Number of the database, as text; empty for none.

    Raises:
        ConfigurationError: The URL cannot be understood.
    """

    moves = True

    def __init__(self, url: str, addresses: Addresses, db: str = "") -> None:
        super().__init__(addresses.url(addresses.places[0], db), shown_as=url)
        self.prepared = False
        self._addresses = addresses
        self._db = db
        self._place: Place | None = None
        self._helper: Place = addresses.places[0]
        self._finding = Lock()

    @property
    def place(self) -> str:
        """Where the server was when it was last found; empty before that."""
        return shown(self._place) if self._place else ""

    def prepare(self) -> None:
        """Find out where the server is.

        Raises:
            ServerUnavailableError: Nobody can say, for now.
            ServerRefusedError: All who were asked refuse.
        """
        with self._finding:
            if not self.prepared:
                self._place = self._found()
                self.prepared = True

    def doubt(self) -> None:
        """Ask anew before the next connection."""
        self.prepared = False

    def leads(self, link: Any) -> bool:
        """Whether *link* goes to where the server was last found."""
        return (link.host, link.port) == self._place

    def link(self) -> Connection:
        """Make a connection that is not connected yet."""
        link: Connection = self._new_link(self._pool, **self._goal())
        return link

    def async_link(self) -> AsyncConnection:
        """Make a connection for the running event loop, not connected yet."""
        link: AsyncConnection = self._new_link(self._async_pool, **self._goal())
        return link

    def route(self) -> Route | None:
        """Tell how another process reaches where the server was last found."""
        known, place = super().route(), self._place
        if known is None or place is None:
            return None
        return evolve(known, host=place[0], port=place[1])

    def _goal(self) -> dict[str, Any]:
        host, port = self._now()
        return {"host": host, "port": port}

    def _now(self) -> Place:
        if self._place is None:
            self.prepare()
        if self._place is None:
            message = f"{self.display!r} was not found"
            raise ServerUnavailableError(message)
        return self._place

    def _address(self) -> str:
        self.prepare()
        return self._addresses.url(self._now(), self._db)

    def _found(self) -> Place:
        problems: dict[Place, ServerError] = {}
        # First whoever knew it last: one that is dead may cost a whole timeout.
        for helper in dict.fromkeys((self._helper, *self._helpers())):
            try:
                place = self._place_by(helper)
            except FAILURES as error:
                problems[helper] = translate(error, self._question)
            else:
                self._helper = helper
                return place
        told = "; ".join(f"{shown(each)}: {why}" for each, why in problems.items())
        message = f"nobody says where {self.display!r} is now: {told}"
        refused = all(isinstance(why, ServerRefusedError) for why in problems.values())
        raise (
            ServerRefusedError(message) if refused else ServerUnavailableError(message)
        )

    def _ask(self, place: Place, *words: str | int, **options: Any) -> Any:
        """Send one command to *place*, on a connection of its own.

        Args:
            place: Whom to ask.
            *words: The command.
            **options: Of the connection, where they differ from the server's.

        Returns:
            The reply as it came; errors are raised.
        """
        timeouts = {
            "socket_timeout": ASK_TIMEOUT,
            "socket_connect_timeout": ASK_TIMEOUT,
        }
        host, port = place
        link = self._new_link(self._pool, **timeouts, **options, host=host, port=port)
        try:
            with connecting():
                link.connect()
            link.send_command(*words)
            return link.read_response()
        finally:
            link.disconnect()

    _question: str
    """The command that asks, for messages."""

    @abstractmethod
    def _helpers(self) -> Iterable[Place]:
        """Give those who can be asked."""

    @abstractmethod
    def _place_by(self, helper: Place) -> Place:
        """Ask *helper* where the server is, and look whether it is there.

        Args:
            helper: One of `_helpers`.

        Raises:
            ServerError: It does not know, or what it says is not so.
        """
