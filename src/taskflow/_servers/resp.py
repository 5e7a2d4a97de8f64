"""Operations as the bytes that a server reads; no socket here.

redis-py packs an asynchronous command argument by argument in Python, which
costs 1.6 ms for the 2,000 arguments of a full batch; this costs 0.44 ms, and
0.25 ms where hiredis is installed (``tests/benchmarks/runners.py``).
"""

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any, TypeAlias

from taskflow._protocol.operation import Operation, Script
from taskflow.errors import PayloadError

Argument: TypeAlias = str | int | float | bytes


def _encoded(argument: Argument) -> bytes:
    if isinstance(argument, bytes):
        return argument
    if isinstance(argument, str):
        return argument.encode()
    if isinstance(argument, int):
        return b"%d" % argument
    return float.__repr__(argument).encode()


def pack_plainly(arguments: tuple[Argument, ...]) -> bytes:
    r"""Write one command without the help of C; see `pack`.

    Args:
        arguments: The command's name, and what follows it.

    Returns:
        The command as RESP has it.

    Example:
        >>> pack_plainly(("ECHO", 12))
        b'*2\r\n$4\r\nECHO\r\n$2\r\n12\r\n'
    """
    parts = [
        argument if type(argument) is bytes else _encoded(argument)
        for argument in arguments
    ]
    body = b"".join([b"$%d\r\n%b\r\n" % (len(part), part) for part in parts])
    return b"*%d\r\n%b" % (len(arguments), body)


def _in_c() -> Callable[[tuple[Argument, ...]], bytes] | None:
    try:
        # Not by a statement: hiredis types its argument as a tuple of one.
        hiredis: Any = import_module("hiredis")
    except ImportError:
        return None
    packer: Callable[[tuple[Argument, ...]], bytes] = hiredis.pack_command
    return packer


_pack_in_c = _in_c()


def pack(arguments: tuple[Argument, ...]) -> bytes:
    """Write one command, by C where it is there; see `pack_plainly`.

    Returns:
        The command as RESP has it.

    Raises:
        PayloadError: Some text cannot be sent.
    """
    try:
        if _pack_in_c is not None:
            try:
                return _pack_in_c(arguments)
            except TypeError:
                # It knows str and int, but not what is derived of them.
                pass
        return pack_plainly(arguments)
    except UnicodeEncodeError as error:
        message = "text with a lone surrogate, which UTF-8 has not"
        raise PayloadError(message) from error


def evalsha(operation: Operation[Any]) -> bytes:
    """Write the command that runs the script of *operation* by its address."""
    keys = operation.keys
    return pack(("EVALSHA", operation.script.sha, len(keys), *keys, *operation.args))


def evalshas(operations: Iterable[Operation[Any]]) -> bytes:
    """Write one such command for each operation, in order."""
    return b"".join([evalsha(operation) for operation in operations])


def wait(replicas: int, milliseconds: int) -> bytes:
    """Write the command that waits until *replicas* have all that was written.

    Also what was written by another connection before: Redis waits for the place
    in the stream of replication that was reached when the command before it ended.

    Returns:
        The command as RESP has it; its reply is how many have it.

    Source:
        https://redis.io/docs/latest/commands/wait/
    """
    return pack(("WAIT", replicas, milliseconds))


def load(scripts: Iterable[Script]) -> bytes:
    """Write the commands that make the server hold *scripts*."""
    return b"".join([pack(("SCRIPT", "LOAD", script.source)) for script in scripts])
