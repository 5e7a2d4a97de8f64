"""The commands: ``taskflow`` and ``taskflow-worker``."""

from taskflow.cli.commands import main, worker

__all__ = ["main", "worker"]
