"""An operation is a value: which script, on which keys, with which arguments.

Nothing here talks to a server. A runner in ``taskflow._servers`` sends the
operation and hands the raw reply to ``decode``; so one description serves the
synchronous and the asynchronous client, and a test can look at it.
"""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from attrs import frozen

T = TypeVar("T")


@frozen
class Script:
    """A Lua script as it is shipped.

    Attributes:
        name: The file's stem, for error messages.
        source: The text that is sent, includes resolved.
        sha: Hexadecimal SHA-1 of *source*: its address on the server, so that
            two versions of this library can share one server.
    """

    name: str
    source: str
    sha: str


@frozen
class Operation(Generic[T]):
    """One atomic step on the server, not yet taken.

    Sending it twice is harmless: every script recognises a repeat by an id,
    a token or a nonce that the caller made.

    Attributes:
        script: What runs.
        keys: The keys it is told about, prefix included.
        args: Its arguments, in the order of the script's header.
        decode: Turns the raw reply (bytes, int, None or lists of them) into
            the answer; may raise a ``ServerError`` that the reply stands for.
        replicas: How many must have what it wrote before its answer counts.
    """

    script: Script
    keys: tuple[str, ...]
    args: tuple[str | int | float | bytes, ...]
    decode: Callable[[Any], T]
    replicas: int = 0
