"""By which name a worker is known to the server."""

import os
import re
import secrets
import socket

from taskflow._protocol.keys import WORKER_PATTERN
from taskflow.errors import ConfigurationError


def new_worker_id() -> str:
    """Make an id from host, process and chance, in the grammar of keys."""
    host = re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname())[:64] or "host"
    return f"{host}-{os.getpid()}-{secrets.token_hex(4)}"


def checked_worker_id(worker_id: str) -> str:
    """Return *worker_id*.

    Raises:
        ConfigurationError: It does not fit into a key.
    """
    if not WORKER_PATTERN.fullmatch(worker_id):
        problem = f"worker id {worker_id!r} may hold letters, digits, '_', '.', '-'"
        raise ConfigurationError(problem)
    return worker_id
