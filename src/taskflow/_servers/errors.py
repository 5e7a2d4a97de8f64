"""Foreign errors stop here: what redis-py raises becomes one of ours."""

import contextlib
import re
from collections.abc import Generator, Iterable
from typing import TypeAlias

from redis import exceptions as foreign

from taskflow.errors import (
    ScriptError,
    ServerError,
    ServerFullError,
    ServerRefusedError,
    ServerUnavailableError,
)

FOREIGN = (foreign.RedisError, foreign.RedisClusterException, OSError)
"""What a connection may raise; the builtin ``TimeoutError`` is an ``OSError``."""

FAILURES = (*FOREIGN, ServerError)
"""The same, and what making the server listen may raise."""

_Kind: TypeAlias = type[ServerError]

KINDS: dict[str, _Kind] = {
    # By name and not by class, because redis-py adds some with every release.
    # A test walks the classes of the installed one and asks for a row for each.
    "OSError": ServerUnavailableError,
    "RedisError": ScriptError,
    "ConnectionError": ServerUnavailableError,
    "TimeoutError": ServerUnavailableError,
    "BusyLoadingError": ServerUnavailableError,
    "MaxConnectionsError": ServerUnavailableError,
    "InvalidResponse": ServerUnavailableError,  # half a reply; a new link helps
    "ReadOnlyError": ServerUnavailableError,
    "ClusterDownError": ServerUnavailableError,
    "MasterDownError": ServerUnavailableError,
    "TryAgainError": ServerUnavailableError,
    "SlotNotCoveredError": ServerUnavailableError,
    "NoScriptError": ServerUnavailableError,  # lost again between load and use
    "OutOfMemoryError": ServerFullError,
    "AuthenticationError": ServerRefusedError,
    "AuthenticationWrongNumberOfArgsError": ServerRefusedError,
    "AuthorizationError": ServerRefusedError,
    "ExternalAuthProviderError": ServerRefusedError,
    "NoPermissionError": ServerRefusedError,
    # Keys that live on another node, where no cluster is expected: an address to
    # be mended. See `departure` for where one is.
    "AskError": ServerRefusedError,
    "MovedError": ServerRefusedError,
    "ClusterCrossSlotError": ServerRefusedError,
    "CrossSlotTransactionError": ServerRefusedError,
    # What follows cannot come of anything sent here; if it does, it is a bug.
    "ResponseError": ScriptError,
    "DataError": ScriptError,
    "PubSubError": ScriptError,
    "WatchError": ScriptError,
    "ExecAbortError": ScriptError,
    "ModuleError": ScriptError,
    "NoSuchFieldsetError": ScriptError,
    "LockError": ScriptError,
    "LockNotOwnedError": ScriptError,
    "ClusterError": ScriptError,
    "RedisClusterException": ScriptError,
    "InvalidPipelineStack": ScriptError,
    "ChildDeadlockedError": ScriptError,
    "IncorrectPolicyType": ScriptError,
}
"""Which of our errors stands for a class of redis-py, or of the socket."""

# An error inside a script arrives as the text of a plain ResponseError: on
# Redis 7 the code leads it, on 6.2 it follows "@user_script: 12: -".
_AWAY = re.compile(
    r"(?:^|[\s-])(?:LOADING|READONLY|MASTERDOWN|MISCONF|NOREPLICAS|BUSY|CLUSTERDOWN"
    r"|TRYAGAIN|UNBLOCKED)\s|max number of clients"
)
_FULL = re.compile(r"(?:^|[\s-])OOM\s")
_REFUSED = re.compile(
    r"(?:^|[\s-])(?:NOAUTH|WRONGPASS|NOPERM|DENIED|MOVED|ASK|CROSSSLOT)\s"
    r"|[Uu]nknown (?:Redis |Valkey )?command"
    r"|user executing the script can't|ACL failure in script"
    r"|DB index is out of range"
)
_ELSEWHERE = (
    foreign.ReadOnlyError,
    foreign.AskError,
    foreign.ClusterDownError,
    foreign.MasterDownError,
)
_LEFT = re.compile(
    r"(?:^|[\s-])(?:READONLY|MOVED|ASK|CLUSTERDOWN|MASTERDOWN|UNBLOCKED)\s"
    r"|access a non local key"
)
_CERTIFICATE = "CERTIFICATE_VERIFY_FAILED"
_OTHER_NAME = "mismatch"
_TLS = re.compile(
    r"WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE|record layer failure"
    r"|UNSUPPORTED_PROTOCOL|HANDSHAKE_FAILURE|NO_SHARED_CIPHER|_ALERT_"
)
_HINTS = (
    (
        _CERTIFICATE,
        (
            "; name the authority in the address, rediss://HOST?ssl_ca_certs=PATH, or "
            "where the service signs for itself, as Heroku's does, trust the network "
            "instead: rediss://HOST?ssl_cert_reqs=none"
        ),
    ),
    (
        "WRONG_VERSION_NUMBER|ecord layer failure",
        "; the server may have no TLS at this port (redis://HOST)",
    ),
    (
        "Authentication required|NOAUTH",
        "; put the password into the address: REDIS_URL=redis://:PASSWORD@HOST",
    ),
    (
        "without any password configured",
        "; the server has no password: leave it out of the address",
    ),
    (
        "WRONGPASS|username-password pair|invalid password",
        "; check the user and the password in the address (REDIS_URL)",
    ),
    (
        "DB index is out of range|invalid DB index",
        "; the number at the end of the address is too high",
    ),
)
"""What to do about a refusal, by what is in its text."""

_ARGUMENTS = re.compile(r",? with args beginning with.*", re.DOTALL)


def is_missing_script(reply: object) -> bool:
    """Whether the server says that it does not hold the script yet."""
    return isinstance(reply, foreign.NoScriptError)


def departure(replies: Iterable[object]) -> foreign.ConnectionError | None:
    """Look for the news that the server is not in charge of our keys any more.

    Args:
        replies: Of one trip.

    Returns:
        What to raise where another server may be; None if there is no such news.
    """
    for reply in replies:
        # A class that redis-py knows has lost the code from its text.
        if isinstance(reply, _ELSEWHERE) or (
            isinstance(reply, foreign.ResponseError) and _LEFT.search(str(reply))
        ):
            return foreign.ConnectionError(f"it is not in charge any more: {reply}")
    return None


def _text_of(error: BaseException) -> str:
    text = str(error)
    if _ARGUMENTS.search(text):
        # A server without AUTH repeats what was sent: the password. The error itself
        # loses it too, because it is shown as the cause.
        text = _ARGUMENTS.sub("", text)
        error.args = (text,)
    return text or type(error).__name__


def _kind(error: BaseException, text: str) -> _Kind:
    if _CERTIFICATE in text or _TLS.search(text):
        return ServerRefusedError
    kind = next(
        (
            KINDS[each.__name__]
            for each in type(error).__mro__
            if each.__name__ in KINDS
        ),
        ScriptError,
    )
    if kind is ScriptError:
        if _REFUSED.search(text):
            return ServerRefusedError
        if _FULL.search(text):
            return ServerFullError
        if _AWAY.search(text):
            return ServerUnavailableError
    return kind


def translate(error: BaseException, doing: str) -> ServerError:
    """Return our error for *error*, which came of sending *doing*.

    Args:
        error: Of redis-py, or of the socket.
        doing: Name of the script, or of what else was sent.

    Returns:
        ``ServerUnavailableError`` when trying again can help, and otherwise
        what has to be mended. *error* becomes its cause. An error of ours
        comes back as it is.
    """
    if isinstance(error, ServerError):
        return error
    wrapped = error.args[0] if error.args else None
    if isinstance(wrapped, Exception):
        # What went wrong after connecting to a unix socket, such as the login.
        return translate(wrapped, doing)
    text = _text_of(error)
    kind = _kind(error, text)
    ours: ServerError
    if kind is ServerUnavailableError:
        ours = ServerUnavailableError(f"the server gave no answer: {text}")
    elif kind is ServerRefusedError:
        if isinstance(error, foreign.AskError):
            text = f"it is a node of a cluster (redis+cluster://HOST:PORT): {text}"
        hint = _hint(text)
        # A refused connection says nothing about the command that came first.
        what = "the connection" if hint else repr(doing)
        reason = text.rstrip(".") if hint else text
        ours = ServerRefusedError(f"the server refused {what}: {reason}{hint}")
    elif kind is ServerFullError:
        ours = ServerFullError(
            f"the server is out of memory and refused {doing!r}; nothing was stored"
        )
    else:
        ours = ScriptError(doing, text)
    ours.__cause__ = error
    return ours


def _hint(text: str) -> str:
    """Say the way out of a refusal, where the server does not."""
    if _CERTIFICATE in text and _OTHER_NAME in text:
        return "; the certificate is for another name (ssl_check_hostname=false)"
    found = (hint for pattern, hint in _HINTS if re.search(pattern, text))
    return next(found, "")


@contextlib.contextmanager
def connecting() -> Generator[None]:
    """Let nothing out of connecting and logging in but `FAILURES`.

    Raises:
        ServerRefusedError: Instead of what TLS, the resolver or redis-py tripped over,
            and of a refusal that `translate` would take for one of a script.
    """
    try:
        yield
    except Exception as error:
        known = isinstance(error, FAILURES)
        if known and not isinstance(translate(error, "connecting"), ScriptError):
            raise
        message = f"the server cannot be connected to: {_text_of(error)}"
        raise ServerRefusedError(message) from error


def is_broken(error: BaseException) -> bool:
    """Whether the connection is to blame, and neither the login nor the command."""
    # A reply that took too long: a new connection would not be faster.
    if isinstance(error, (foreign.TimeoutError, TimeoutError)):
        return False
    return isinstance(translate(error, ""), ServerUnavailableError)
