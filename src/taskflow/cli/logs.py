"""The commands' own logging; a library's import never does this."""

import logging
import sys

from taskflow._settings import LogSettings
from taskflow.observers.logging import JsonFormatter, TextFormatter


def configure(settings: LogSettings) -> None:
    """Send log lines to standard error, in the format that the settings name."""
    handler = logging.StreamHandler(sys.stderr)
    as_json = settings.format == "json"
    handler.setFormatter(JsonFormatter() if as_json else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level)
    for chatty in ("httpx", "httpcore"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
