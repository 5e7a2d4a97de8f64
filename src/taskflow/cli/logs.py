"""The commands' own logging; a library's import never does this."""

import logging
import os
import sys

from taskflow._settings import LogSettings
from taskflow.observers.logging import JsonFormatter, TextFormatter


def configure(settings: LogSettings) -> None:
    """Send log lines to standard error, in the format that the settings name.

    Where the application has given the root logger handlers of its own, those stay
    and decide.
    """
    _enable_ours()
    root = logging.getLogger()
    if root.handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    as_json = settings.format == "json"
    text = TextFormatter(colored=_has_colors())
    handler.setFormatter(JsonFormatter() if as_json else text)
    root.addHandler(handler)
    root.setLevel(settings.level)
    for chatty in ("httpx", "httpcore"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def _enable_ours() -> None:
    """Enable taskflow's loggers, which an application's dictConfig may disable."""
    for name in [*logging.root.manager.loggerDict]:
        if name.partition(".")[0] == "taskflow":
            logging.getLogger(name).disabled = False


def _has_colors() -> bool:
    """Whether a terminal reads standard error; see no-color.org and force-color.org."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or sys.stderr.isatty()
