"""Read the address of a server strictly: nothing in it is ignored or guessed.

redis-py takes the address apart, and takes ``/abc`` for database 0, drops what follows
a ``#``, and fails at the first connection where an option is wrong. So an address is
checked here first, written as redis-py understands it, and refused in a sentence that
quotes no piece of a password.
"""

import difflib
import ipaddress
import re
from collections.abc import Callable
from typing import Final, TypeAlias
from urllib.parse import parse_qsl, unquote, urlencode

from taskflow._settings import mask_url
from taskflow.errors import ConfigurationError

Place: TypeAlias = tuple[str, int]
"""A host and a port."""

PORT: Final = 6379

_ALIASES: Final = {
    "valkey": "redis",
    "valkeys": "rediss",
    # Celery's names for a unix socket.
    "redis+socket": "unix",
    "socket": "unix",
}
_OTHERS: Final = {
    "sentinel": (
        "Celery's address of sentinels says nowhere which primary: use "
        "redis+sentinel://HOST:PORT,HOST:PORT/NAME/DB"
    ),
    "redis-sentinel": "use redis+sentinel://HOST:PORT,HOST:PORT/NAME/DB",
    "redis-cluster": "use redis+cluster://HOST:PORT,HOST:PORT",
    "rediscluster": "use redis+cluster://HOST:PORT,HOST:PORT",
    "redis+ssl": "for TLS use rediss://",
    "redis+tls": "for TLS use rediss://",
    "tls": "for TLS use rediss://",
}
_KINDS: Final = (
    "use redis://HOST:PORT/DB, rediss://, unix:///PATH, redis+sentinel://HOST:PORT,"
    "HOST:PORT/NAME, redis+cluster://HOST:PORT, embedded://PATH or memory://"
)
_QUOTE: Final = (
    "quote what is special in the password, such as %40 for @, %2F for /, %23 for # "
    "and %3F for ?"
)
_DATABASE: Final = re.compile(r"/?(\d{0,9})/?", re.ASCII)
_NAME: Final = re.compile(r"[\w.-]{1,253}")
_MOST_SECONDS: Final = 86_400.0
_TRUE: Final = frozenset({"1", "true", "yes", "on", "t", "y"})
_FALSE: Final = frozenset({"0", "false", "no", "off", "f", "n"})


def meant(url: object) -> str:
    """Return *url* with its scheme as the servers here know it.

    Args:
        url: What was given as the address of a server.

    Returns:
        The address; schemes are in lower case, and those of Celery and Valkey are
        replaced.

    Raises:
        ConfigurationError: It is no text, or of a kind that is written differently.
    """
    if not isinstance(url, str):
        problem = f"an address must be text, not {type(url).__name__}: {_KINDS}"
        raise ConfigurationError(problem)
    text = url.strip()
    scheme, separator, rest = text.partition("://")
    name = scheme.lower()
    if not separator or name in _OTHERS:
        raise ConfigurationError(no_server(text, _OTHERS.get(name, _KINDS)))
    if not text.isprintable():
        problem = f"{mask_url(text)!r} has a character that cannot be printed"
        raise ConfigurationError(problem)
    if name in {"redis+socket", "socket"}:
        rest = re.sub(r"([?&])virtual_host=", r"\1db=", rest)
    return f"{_ALIASES.get(name, name)}://{rest}"


def no_server(url: str, way_out: str = _KINDS) -> str:
    """Say that *url* is no address of a server."""
    return f"{mask_url(url)!r} is no server: {way_out}"


def checked(url: str, ignored: frozenset[str]) -> str:
    """Check every part of an address, and write it as redis-py understands it.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``.
        ignored: Options that are left out.

    Returns:
        The address, its options in the one form that redis-py takes.

    Raises:
        ValueError: What is wrong, without a piece of the address.
    """
    scheme, _, rest = url.partition("://")
    address, _, query = rest.partition("?")
    login, at, place = address.rpartition("@")
    if scheme != "unix" and login.startswith("/"):
        message = "write two slashes before the user, redis://:PASSWORD@HOST"
        raise ValueError(message)
    if scheme == "unix" and login.startswith("/"):
        login, at, place = "", "", address  # part of a file's name
    if "#" in rest or "@" in query or re.search(r"[/\[\]]", login):
        raise ValueError(_QUOTE)
    if scheme == "unix":
        _check_path(place)
    else:
        host, slash, path = place.partition("/")
        read_place(host, PORT)
        if not _DATABASE.fullmatch(path):
            message = "the path must be the number of a database, such as /0"
            raise ValueError(message)
        place = f"{host}{slash}{path.strip('/')}"
    options = dict(_options(query, ignored, is_tls=scheme == "rediss"))
    shown = f"?{urlencode(options)}" if options else ""
    return f"{scheme}://{login}{at}{place}{shown}"


def read_place(text: str, port: int) -> Place:
    """Read ``HOST:PORT``.

    Args:
        text: A name, an address of IPv4, or one of IPv6 in brackets; empty =
            ``localhost``.
        port: Where *text* has none.

    Returns:
        Host and port.

    Raises:
        ValueError: What is wrong, without a piece of it.
    """
    if re.search("[,;]", text):
        message = (
            "it names several hosts: use redis+sentinel://HOST,HOST/NAME or "
            "redis+cluster://HOST,HOST"
        )
        raise ValueError(message)
    host, colon, number = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, number = text, ""
    if number and not (re.fullmatch(r"\d{1,5}", number, re.ASCII)):
        message = f"the port must be a number from 1 to 65535; or {_QUOTE}"
        raise ValueError(message)
    if number and not 1 <= int(number) <= 65_535:  # noqa: PLR2004 - of TCP
        message = "the port must be a number from 1 to 65535"
        raise ValueError(message)
    return _read_host(host), int(number or port)


def _read_host(text: str) -> str:
    if text.startswith("[") and text.endswith("]"):
        inner = text[1:-1]
        try:
            ipaddress.IPv6Address(inner)
        except ValueError:
            message = "what is in brackets must be an address of IPv6, such as [::1]"
            raise ValueError(message) from None
        return inner
    if ":" in text:
        message = "an address of IPv6 must be in brackets, such as redis://[::1]:6379/0"
        raise ValueError(message)
    if not text:
        return "localhost"
    try:
        text.encode("idna")  # what the resolver does, with an error of its own
    except UnicodeError:
        is_name = False
    else:
        is_name = bool(_NAME.fullmatch(text))
    if not is_name:
        message = f"the host must be a name or an address; or {_QUOTE}"
        raise ValueError(message)
    return text


def _check_path(place: str) -> None:
    if not place.startswith("/") or place == "/" or "\0" in unquote(place):
        message = "a socket needs its whole path, such as unix:///run/redis.sock"
        raise ValueError(message)


def _options(
    query: str, ignored: frozenset[str], *, is_tls: bool
) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for part in filter(None, query.split("&")):
        name, equals, _ = part.partition("=")
        ((name, value),) = parse_qsl(part, keep_blank_values=True) or ((name, ""),)
        if name in ignored or (equals and not value):
            continue
        if not is_tls and name in {"ssl", "tls"}:
            message = "for TLS use rediss://"
            raise ValueError(message)
        read = _READERS.get(name) if equals else None
        if read is None:
            raise ValueError(_unknown(name if equals else ""))
        if name.startswith("ssl_") and not is_tls:
            message = f"the option {name!r} needs TLS: use rediss://"
            raise ValueError(message)
        try:
            found.append((name, read(value)))
        except ValueError as error:
            message = f"the option {name!r} must be {error}"
            raise ValueError(message) from None
    return found


def _unknown(name: str) -> str:
    close = difflib.get_close_matches(name, _READERS, 1)
    if close:
        return f"there is no option {name!r}; did you mean {close[0]!r}?"
    # Nothing else is quoted: it may be the rest of a password.
    return f"it has an option that is none of {', '.join(_READERS)}; or {_QUOTE}"


def _whole(low: int, high: int) -> Callable[[str], str]:
    def read(value: str) -> str:
        if re.fullmatch(r"\d{1,10}", value, re.ASCII) and low <= int(value) <= high:
            return str(int(value))
        message = f"a whole number from {low} to {high}"
        raise ValueError(message)

    return read


def _seconds(value: str) -> str:
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not 0 < number <= _MOST_SECONDS:
        message = f"seconds, above 0 and at most {_MOST_SECONDS:.0f}"
        raise ValueError(message)
    return str(number)


def _flag(value: str) -> str:
    if value.lower() in _TRUE:
        return "true"
    if value.lower() in _FALSE:
        return "false"
    message = "true or false"
    raise ValueError(message)


def _text(value: str) -> str:
    return value


def _client_name(value: str) -> str:
    if re.fullmatch(r"[!-~]+", value):
        return value
    message = "printable characters of ASCII without a space"
    raise ValueError(message)


def _cert_reqs(value: str) -> str:
    folded = value.lower().removeprefix("ssl.").removeprefix("cert_")
    if folded in {"none", "optional", "required"}:
        return folded
    message = "none, optional or required (CERT_NONE and so on in Celery)"
    raise ValueError(message)


def _tls_version(value: str) -> str:
    number = {"1.2": "771", "771": "771", "1.3": "772", "772": "772"}.get(
        value.lower().removeprefix("tlsv").replace("_", ".")
    )
    if number is None:
        message = "TLSv1.2 or TLSv1.3"
        raise ValueError(message)
    return number


_READERS: Final[dict[str, Callable[[str], str]]] = {
    "db": _whole(0, 2**31 - 1),
    "username": _text,
    "password": _text,
    "client_name": _client_name,
    "socket_timeout": _seconds,
    "socket_connect_timeout": _seconds,
    "socket_keepalive": _flag,
    "max_connections": _whole(1, 100_000),
    "health_check_interval": _whole(0, 86_400),
    "ssl_cert_reqs": _cert_reqs,
    "ssl_check_hostname": _flag,
    "ssl_ca_certs": _text,
    "ssl_ca_path": _text,
    "ssl_ca_data": _text,
    "ssl_certfile": _text,
    "ssl_keyfile": _text,
    "ssl_password": _text,
    "ssl_min_version": _tls_version,
    "ssl_ciphers": _text,
    "ssl_include_verify_flags": _text,
    "ssl_exclude_verify_flags": _text,
}
"""What an option may be; each is returned as redis-py takes it."""
