"""Who may do what: levels, keys, and the refusal of other sites' requests."""

import hashlib
import hmac
import inspect
import secrets
from collections.abc import Awaitable, Callable, Iterable
from enum import IntEnum
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from attrs import evolve, frozen
from fastapi import Request

from taskflow.errors import ConfigurationError

_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN_SITE: Final = frozenset({"same-origin", "none"})
_KEY_PARTS: Final = 3


class Level(IntEnum):
    """What a request may do; each level may do what those below it may.

    Attributes:
        NONE: Nothing but the health checks.
        READ: Look at everything.
        OPERATE: Create tasks, retry, cancel, requeue.
        ADMIN: Delete, discard, edit, pause.
    """

    NONE = 0
    READ = 1
    OPERATE = 2
    ADMIN = 3

    @classmethod
    def parse(cls, value: "Level | str") -> "Level":
        """Return the level called *value*.

        Raises:
            ConfigurationError: There is none of this name.
        """
        if isinstance(value, Level):
            return value
        known = cls.__members__.get(str(value).upper())
        if known is None:
            names = ", ".join(level.name.lower() for level in cls)
            problem = f"access level {value!r} must be one of {names}"
            raise ConfigurationError(problem)
        return known


@frozen
class Grant:
    """What a request may do, and who makes it.

    Attributes:
        level: What it may do.
        actor: Who, as the audit log names them; empty = the client's address.
        why: What to do for a higher level, for whoever is refused.
    """

    level: Level
    actor: str = ""
    why: str = ""


Granted: TypeAlias = Grant | Level | str
Access: TypeAlias = Callable[[Request], Granted | Awaitable[Granted]]
"""Answers a request's level: a `Grant`, a `Level`, or its name. May be a coroutine
function. It should answer ``none`` and not raise when somebody is not known."""


def allow_all(request: Request) -> Level:
    """Let everybody who reaches the service do everything.

    Args:
        request: Does not matter.

    Returns:
        The highest level.
    """
    del request
    return Level.ADMIN


async def grant_of(access: Access, request: Request) -> Grant:
    """Ask *access* about *request*.

    Returns:
        The grant, with an actor.
    """
    answer = access(request)
    if inspect.isawaitable(answer):
        answer = await answer
    grant = answer if isinstance(answer, Grant) else Grant(Level.parse(answer))
    if grant.actor:
        return grant
    return evolve(grant, actor=request.client.host if request.client else "")


@frozen
class KeyEntry:
    """One key that is let in.

    Attributes:
        name: Of its holder, for the audit log.
        level: What it may do.
        digest: Hexadecimal SHA-256 of the key. Keys are 32 random bytes, so a
            slow hash would add nothing.
    """

    name: str
    level: Level
    digest: str

    @classmethod
    def parse(cls, text: str) -> "KeyEntry":
        """Read ``NAME:LEVEL:SHA256``, as ``TASKFLOW_API_KEYS`` lists them.

        Returns:
            The entry.

        Raises:
            ConfigurationError: It is something else; the text is not repeated.
        """
        parts = text.split(":")
        if len(parts) != _KEY_PARTS:
            problem = "an API key's entry must be NAME:LEVEL:SHA256"
            raise ConfigurationError(problem)
        return cls(parts[0], Level.parse(parts[1]), parts[2].lower())


def make_key(name: str, level: Level) -> tuple[str, str]:
    """Make a key.

    Args:
        name: Of its holder.
        level: What it may do.

    Returns:
        The key, to be handed over once, and the entry for ``TASKFLOW_API_KEYS``.
    """
    key = secrets.token_urlsafe(32)
    return key, f"{name}:{level.name.lower()}:{_digest(key)}"


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def key_access(entries: Iterable[KeyEntry]) -> Access:
    """Let in who shows a key, as ``Authorization: Bearer KEY`` or ``X-API-Key``.

    Several keys may be in force at once, also for one name, so a key is changed
    by adding the new one before the old one is taken out.

    Args:
        entries: The keys.

    Returns:
        An access function.
    """
    known = tuple(entries)

    def access(request: Request) -> Grant:
        shown = _shown_key(request)
        if shown is None:
            return Grant(Level.NONE)
        digest = _digest(shown)
        # All are compared, so that the time tells nothing.
        found = [entry for entry in known if hmac.compare_digest(entry.digest, digest)]
        if not found:
            return Grant(Level.NONE)
        best = max(found, key=lambda entry: entry.level)
        return Grant(best.level, best.name)

    return access


def _shown_key(request: Request) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return request.headers.get("x-api-key") or None


def is_cross_site(request: Request) -> bool:
    """Whether a browser says that another site makes this request, to change things.

    A browser always says so; a shell's request says nothing and is let through.

    Args:
        request: Its method and headers are looked at.

    Returns:
        False for requests that change nothing.
    """
    if request.method in _SAFE_METHODS:
        return False
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site not in _OWN_SITE
    origin = request.headers.get("origin")
    if origin is None:
        return False
    return urlsplit(origin).netloc.lower() != request.headers.get("host", "").lower()
