"""Foreign errors stop here: what redis-py raises becomes one of ours."""

from redis import exceptions as foreign

from taskflow.errors import (
    ScriptError,
    ServerError,
    ServerFullError,
    ServerRefusedError,
    ServerUnavailableError,
)

_AWAY = (
    "LOADING",
    "READONLY",
    "MASTERDOWN",
    "MISCONF",
    "NOREPLICAS",
    "BUSY",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "MOVED",
    "ASK",
    "max number of clients reached",
)
_REFUSED = ("NOAUTH", "WRONGPASS", "NOPERM", "unknown command", "DENIED")

FOREIGN = (foreign.RedisError, OSError, TimeoutError)
"""What a client may raise."""


def is_missing_script(error: BaseException) -> bool:
    """Whether the server does not hold the script yet."""
    return isinstance(error, foreign.NoScriptError) or "NOSCRIPT" in str(error)


def is_read_only(error: BaseException) -> bool:
    """Whether the server is a replica now, and connections to it are useless."""
    return isinstance(error, foreign.ReadOnlyError) or "READONLY" in str(error)


def translate(error: BaseException, script: str) -> ServerError:
    """Return our error for *error*, which came of sending *script*.

    Args:
        error: Of redis-py, or of the socket.
        script: The script's name.

    Returns:
        ``ServerUnavailableError`` when trying again can help, and otherwise
        what has to be mended.
    """
    text = str(error) or type(error).__name__
    authentication = (
        foreign.AuthenticationError,
        foreign.AuthorizationError,
        foreign.NoPermissionError,
    )
    if isinstance(error, authentication) or any(word in text for word in _REFUSED):
        return ServerRefusedError(f"the server refused {script!r}: {text}")
    if isinstance(error, foreign.OutOfMemoryError) or "OOM " in text:
        return ServerFullError(
            f"the server is out of memory and refused {script!r}; nothing was stored"
        )
    away = (
        foreign.ConnectionError,
        foreign.TimeoutError,
        foreign.ReadOnlyError,
        foreign.ClusterDownError,
        foreign.TryAgainError,
        OSError,
    )
    if isinstance(error, away) or any(word in text for word in _AWAY):
        return ServerUnavailableError(f"the server gave no answer: {text}")
    return ScriptError(script, text)
