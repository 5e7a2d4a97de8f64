"""Which program runs a script of ours in another process."""

import sys
from pathlib import Path


def python_program() -> str:
    """Return the interpreter; ``sys.executable`` may be a host that embeds it."""
    running = Path(sys.executable or "")
    if running.name.startswith(("python", "pypy")):
        return str(running)
    return str(Path(sys.base_prefix) / "bin" / "python3")
