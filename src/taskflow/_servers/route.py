"""How another process reaches a server without this library, in plain values."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import frozen


@frozen
class Route:
    """Where to connect, and what to send first.

    Attributes:
        path: Of a unix socket; empty for TCP.
        host: Name or address.
        port: Of TCP.
        tls: Options of redis-py that begin with ``ssl_``; None = no TLS.
        login: Commands to send before any other.
    """

    path: str
    host: str
    port: int
    tls: dict[str, Any] | None
    login: tuple[tuple[str, ...], ...]


def route_by(options: Mapping[str, Any], *, encrypted: bool) -> Route:
    """Make the route of a connection of redis-py.

    Args:
        options: Of the connection.
        encrypted: Whether it uses TLS.

    Returns:
        The route; all in it can be written as JSON.
    """
    # Among the values are flags of the module ``ssl``, which JSON writes as numbers.
    tls = {name: options[name] for name in options if name.startswith("ssl_")}
    login: list[tuple[str, ...]] = []
    user, password = options.get("username"), options.get("password")
    if user or password:
        login.append(("AUTH", *([user] if user else ()), password or ""))
    if options.get("db"):
        login.append(("SELECT", str(options["db"])))
    if options.get("client_name"):
        login.append(("CLIENT", "SETNAME", options["client_name"]))
    path = options.get("path")
    return Route(
        str(Path(path).absolute()) if path else "",
        options.get("host", "localhost"),
        int(options.get("port", 6379)),
        tls if encrypted else None,
        tuple(login),
    )
