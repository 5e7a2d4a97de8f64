"""Addresses of servers as they may be shown: with every password masked.

An address that is shown is often one that is wrong, because that is when it is in an
error. So nothing here relies on it being a URL: what is not known to be harmless is
masked, and in doubt too much is.
"""

import re
from typing import Final
from urllib.parse import unquote

MASK: Final = "***"

HARMLESS_OPTIONS: Final = frozenset(
    {
        "client_name",
        "db",
        "decode_responses",
        "health_check_interval",
        "max_connections",
        "protocol",
        "retry_on_error",
        "retry_on_timeout",
        "sentinel_username",
        "socket_connect_timeout",
        "socket_keepalive",
        "socket_timeout",
        "ssl_ca_certs",
        "ssl_ca_path",
        "ssl_cert_reqs",
        "ssl_certfile",
        "ssl_check_hostname",
        "ssl_ciphers",
        "ssl_exclude_verify_flags",
        "ssl_include_verify_flags",
        "ssl_keyfile",
        "ssl_min_version",
        "timeout",
        "username",
        "virtual_host",
    }
)
"""Options of an address whose values are shown."""

_FILES: Final = frozenset({"unix", "embedded", "memory", "redis+socket", "socket"})
_NETWORK: Final = frozenset({"redis", "rediss", "valkey", "valkeys", "sentinel"})
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):([/\\]*)")
_USER: Final = re.compile(r"[\w.+-]{0,64}")
_HOST: Final = re.compile(r"(?:\[[\w:.%]*\]|[\w.-]+)(?::\d{0,5})?|")
_PATH: Final = re.compile(r"[\w./{}-]*")
_FILE_ENDS: Final = re.compile(r"[?&;=]|%(?:3f|3d|3b|26)", re.IGNORECASE)
_NAME: Final = re.compile(r"[\w.%-]{1,60}")
_SEPARATORS: Final = re.compile(r"[&;]")


def mask_url(url: str) -> str:
    """Rewrite *url* so that it can be shown: passwords become ``***``.

    Everything from the first ``:`` of the user part to the last ``@`` is taken for the
    password, and a user part without a colon as well. Of the rest, hosts, ports that
    are numbers, the path and the values of `HARMLESS_OPTIONS` are shown.

    Args:
        url: A server's address, right or wrong.

    Returns:
        The address without passwords and without characters that cannot be printed.

    Example:
        >>> mask_url("redis://worker:s3cret@db:6379/0")
        'redis://worker:***@db:6379/0'
    """
    text = "".join(char if char.isprintable() else "?" for char in url.strip())
    scheme, rest, is_file = _split_scheme(text)
    address, query = _split_query(rest)
    login, at, place = address.rpartition("@")
    if is_file and ":" not in login and login.startswith(("/", ".", "~")):
        login, at, place = "", "", address  # part of a file's name
    masked = _masked_file(place) if is_file else _masked_place(place)
    return f"{scheme}{_masked_login(login) if at else ''}{at}{masked}{query}"


def name_of_option(text: str) -> str:
    """Return the name of an option as it is meant, however often it was encoded."""
    for _ in range(3):
        text = unquote(text)
    return text.strip().lower()


def _split_scheme(text: str) -> tuple[str, str, bool]:
    found = _SCHEME.match(text)
    if found is None:
        return "", text, False
    name, slashes = found[1].lower(), found[2]
    if not slashes and name not in _FILES | _NETWORK:
        return "", text, False
    is_file = name in _FILES
    end = found.start(2) + (min(2, len(slashes)) if is_file else len(slashes))
    return text[:end], text[end:], is_file


def _split_query(text: str) -> tuple[str, str]:
    """Return what stands before the query, and the query, masked."""
    address, mark, query = text.partition("?")
    first = name_of_option(re.split("[=&;]", query, maxsplit=1)[0])
    if "@" in query and first not in HARMLESS_OPTIONS and "password" not in first:
        # The question mark is part of a password.
        end = text.find("?", text.rfind("@"))
        cut = len(text) if end < 0 else end
        address, mark, query = text[:cut], text[cut : cut + 1], text[cut + 1 :]
    return address, mark + _masked_query(query)


def _masked_login(login: str) -> str:
    user, colon, password = login.partition(":")
    # Without a password, what stands for the user may be it.
    is_user = password and _USER.fullmatch(user)
    return f"{user if is_user else MASK}{colon}{MASK if password else ''}"


def _masked_file(place: str) -> str:
    end = _FILE_ENDS.search(place)
    return f"{place[: end.start()]}{MASK}" if end else place


def _masked_place(place: str) -> str:
    hosts, slash, path = place.partition("/")
    are_hosts = all(map(_HOST.fullmatch, re.split("[,;]", hosts)))
    if are_hosts and _PATH.fullmatch(path):
        return place
    if not are_hosts:
        host, colon, _ = hosts.partition(":")
        hosts = f"{host}{colon}{MASK}" if _USER.fullmatch(host) and colon else MASK
    return f"{hosts}{slash}{MASK if path else ''}"


def _masked_query(query: str) -> str:
    shown: list[str] = []
    is_secret = False
    for part in _SEPARATORS.split(query):
        name, equals, value = part.partition("=")
        known = name_of_option(name)
        plain = name_of_option(value)
        if known in HARMLESS_OPTIONS and equals and not set("&=@?;") & set(plain):
            shown.append(part)
            continue
        # What follows a password without a name may be the rest of it.
        is_name = _NAME.fullmatch(name) and equals and not is_secret
        told = name if is_name or "password" in known else MASK
        shown.append(f"{told}={MASK}" if equals else MASK if part else "")
        is_secret = is_secret or known not in HARMLESS_OPTIONS
    return "&".join(shown)
