"""The server, as a standby process reaches it: two scripts over a plain connection.

Not by redis-py, which with its own imports takes 40 MB. What a connection needs comes
from the worker, as a `taskflow._servers.route.Route`.
"""

import json
import socket
from collections.abc import Sequence
from typing import Any

from taskflow._worker.lease_table import Pair
from taskflow._worker.standby_rules import Server

PER_CALL = 100
"""Leases that one call of a script may renew."""


class RedisServer(Server):
    """Calls ``extend.lua`` and ``unrenewed.lua``.

    Args:
        facts: What the worker says of its server: ``route``, ``active`` (a key),
            ``prefix``, ``worker`` (its id), ``lease_ms``, and ``scripts``: the address
            and the source of both, by name.

    Raises:
        OSError: The server cannot be reached.
        ValueError: It refuses the login.
    """

    def __init__(self, facts: dict[str, Any]) -> None:
        self._facts = facts
        self._connection = Connection(facts["route"])

    @classmethod
    def of(cls, facts: bytes) -> "RedisServer":
        """Connect as *facts* say, which are JSON."""
        return cls(json.loads(facts))

    def renew(self, pairs: list[Pair]) -> None:
        """Renew the leases *pairs*; see the contract."""
        firsts = range(0, len(pairs), PER_CALL)
        self._call([self.extend(pairs[first : first + PER_CALL]) for first in firsts])

    def unknown(self, known: list[Pair]) -> list[Pair]:
        """Find leases that the worker has not heard of; see the contract."""
        (found,) = self._call([self.unrenewed()])
        heard_of = set(known)
        pairs: list[Pair] = list(zip(found[::2], found[1::2], strict=True))
        return [pair for pair in pairs if pair not in heard_of]

    def extend(self, pairs: list[Pair]) -> tuple[Any, ...]:
        """Return the command that renews *pairs*, at most 100."""
        flat = [each for pair in pairs for each in pair]
        return self._script("extend", self._facts["lease_ms"], len(pairs), *flat)

    def unrenewed(self) -> tuple[Any, ...]:
        """Return the command that finds leases of the worker that end soon."""
        worker, horizon_ms = self._facts["worker"], self._facts["lease_ms"] // 2
        return self._script("expiring_leases", worker, horizon_ms, PER_CALL)

    def _script(self, name: str, *args: Any) -> tuple[Any, ...]:
        facts = self._facts
        sha = facts["scripts"][name][0]
        return ("EVALSHA", sha, 1, facts["active"], 0, facts["prefix"], *args)

    def _call(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        replies = self._connection.send(commands)
        if any(isinstance(each, ReplyError) and each.is_missing for each in replies):
            scripts = self._facts["scripts"].values()
            loads = [("SCRIPT", "LOAD", source) for _, source in scripts]
            replies = self._connection.send([*loads, *commands])[len(loads) :]
        for each in replies:
            if isinstance(each, ReplyError):
                raise each
        return replies

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class ReplyError(ValueError):
    """An error that the server answered with."""

    @property
    def is_missing(self) -> bool:
        """Whether the server does not hold the script yet."""
        return str(self).startswith("NOSCRIPT")


def packed(command: Sequence[Any]) -> bytes:
    """Write *command* as the server reads it."""
    parts = [
        each if isinstance(each, bytes) else str(each).encode() for each in command
    ]
    body = b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
    return b"*%d\r\n%b" % (len(parts), body)


class Connection:
    """One connection that blocks.

    Args:
        route: See `taskflow._servers.route.Route`, as a dictionary.

    Raises:
        OSError: The server cannot be reached.
        ValueError: It refuses the login.
    """

    def __init__(self, route: dict[str, Any]) -> None:
        self._socket = _connected(route)
        self._replies = self._socket.makefile("rb")
        try:
            for reply in self.send(route["login"]):
                if isinstance(reply, ReplyError):
                    raise reply
        except (OSError, ValueError):
            self.close()
            raise

    def send(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Send *commands* in one trip.

        Returns:
            One reply for each; an error is a reply.

        Raises:
            OSError: The connection broke, or a reply took too long.
        """
        self._socket.sendall(b"".join(map(packed, commands)))
        return [self._reply() for _ in commands]

    def _reply(self) -> Any:
        line = self._replies.readline()
        if not line.endswith(b"\r\n"):
            message = "the server closed the connection"
            raise ConnectionError(message)
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            return ReplyError(rest.decode(errors="replace"))
        if kind == b"+":
            return rest
        number = int(rest)
        if kind == b"$" and number >= 0:
            return self._replies.read(number + 2)[:-2]
        if kind == b"*" and number >= 0:
            return [self._reply() for _ in range(number)]
        return number if kind == b":" else None

    def close(self) -> None:
        """Close the socket."""
        self._replies.close()
        self._socket.close()


def _connected(route: dict[str, Any]) -> Any:
    if route["path"]:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        made.settimeout(route["timeout"])
    else:
        address = route["host"], route["port"]
        made = socket.create_connection(address, route["timeout"])
    try:
        if route["path"]:
            made.connect(route["path"])
        if route["tls"] is not None:
            return _encrypted(made, route["host"], route["tls"])
    except (OSError, ValueError):
        made.close()
        raise
    return made


def _encrypted(plain: Any, host: str, options: dict[str, Any]) -> Any:
    """Wrap a socket as redis-py does for the same options."""
    import ssl  # takes 4 MB

    context = ssl.create_default_context()
    required = options.get("ssl_cert_reqs", "required")
    context.check_hostname = required != "none" and options["ssl_check_hostname"]
    context.verify_mode = getattr(ssl, f"CERT_{required.upper()}")
    for flag in options.get("ssl_include_verify_flags") or ():
        context.verify_flags |= ssl.VerifyFlags(flag)
    for flag in options.get("ssl_exclude_verify_flags") or ():
        context.verify_flags &= ~ssl.VerifyFlags(flag)
    if options.get("ssl_certfile") or options.get("ssl_keyfile"):
        context.load_cert_chain(
            options["ssl_certfile"],
            options.get("ssl_keyfile"),
            options.get("ssl_password"),
        )
    trusted = [options.get(f"ssl_ca_{each}") for each in ("certs", "path", "data")]
    if any(trusted):
        context.load_verify_locations(*trusted)
    if options.get("ssl_ciphers"):
        context.set_ciphers(options["ssl_ciphers"])
    return context.wrap_socket(plain, server_hostname=host)
