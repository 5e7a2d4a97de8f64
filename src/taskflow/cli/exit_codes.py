"""How a command ends: its exit code, and one sentence instead of a traceback."""

import contextlib
import errno
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

import click

from taskflow.cli import text
from taskflow.errors import (
    IllegalMoveError,
    KeyConflictError,
    NotReplicatedError,
    PayloadError,
    ResultTimeoutError,
    ScheduleNotFoundError,
    ServerFullError,
    ServerRefusedError,
    ServerUnavailableError,
    TaskFlowError,
    TaskNotFoundError,
    UnknownTaskError,
    UpstreamNotFoundError,
)

FAILED: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
REFUSED: Final = 4
NO_SERVER: Final = 5
NOT_YET: Final = 6
INTERRUPTED: Final = 130
PIPE_CLOSED: Final = 141

_CODES: Final[tuple[tuple[type[TaskFlowError], int], ...]] = (
    (PayloadError, USAGE),
    (TaskNotFoundError, NOT_FOUND),
    (ScheduleNotFoundError, NOT_FOUND),
    (UpstreamNotFoundError, NOT_FOUND),
    (UnknownTaskError, NOT_FOUND),
    (IllegalMoveError, REFUSED),
    (KeyConflictError, REFUSED),
    (ServerUnavailableError, NO_SERVER),
    (ServerFullError, NO_SERVER),
    (NotReplicatedError, NO_SERVER),
    (ServerRefusedError, NO_SERVER),
    (ResultTimeoutError, NOT_YET),
)


_OUTPUT_ERRORS: Final = {errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EIO}


class EndError(click.ClickException):
    """A command cannot do what was asked; its text says what to do.

    Attributes:
        code: Exit code of the command.
    """

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code

    def format_message(self) -> str:
        """Return the text as it may be shown."""
        return text.block(self.message, indent="")


def code_of(error: TaskFlowError) -> int:
    """Return the exit code that stands for *error*."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), FAILED)


def run(
    command: click.Command, name: str, arguments: Sequence[str] | None = None
) -> None:
    """Run *command* and end the process.

    Args:
        command: What to run.
        name: Of the command, as the person typed it.
        arguments: What follows the name; None = the process's.
    """
    _open_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # What a terminal cannot show is shown as an escape, not an error.
            stream.reconfigure(errors="backslashreplace")
    code = _ended(lambda: command.main(arguments, name, standalone_mode=False), name)
    try:
        sys.stdout.flush()
    except OSError as error:
        code = code or _unwritten(error, name)
    if code:
        # The interpreter flushes once more when it ends, and would complain.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _open_streams() -> None:
    """Open on nothing what the caller has closed, as ``taskflow list >&-`` does.

    Else Python has None for the stream, and the next file that is opened its number.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


def _unwritten(error: OSError, name: str) -> int:
    """Say that the output can't be written; a reader that went away needs no word."""
    if error.errno == errno.EPIPE:
        return PIPE_CLOSED
    with contextlib.suppress(OSError):
        click.echo(f"{name}: the output can't be written: {error.strerror}", err=True)
    return FAILED


def _ended(main: Callable[[], Any], name: str) -> int:
    """Run *main*; an error of ours is one clear sentence."""
    try:
        code = main()
    except TaskFlowError as error:
        # What a task's error says was written by anybody.
        click.echo(text.block(f"{name}: {error}", indent=""), err=True)
        return code_of(error)
    except click.Abort:
        return INTERRUPTED
    except OSError as error:
        if error.errno not in _OUTPUT_ERRORS or error.filename is not None:
            raise
        return _unwritten(error, name)
    except click.ClickException as error:
        error.show()
        return error.code if isinstance(error, EndError) else error.exit_code
    return code if isinstance(code, int) else 0
