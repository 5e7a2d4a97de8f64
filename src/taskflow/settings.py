"""Declare settings of your own, read and refused as those of the library are.

A plugin or a host declares a class, and reads it with `load`: the same variables
with ``TASKFLOW_`` before them win, an empty variable counts as not set, durations
may have units, and a wrong value is reported together with all the others, by the
variable's name, the value and the bound, secrets left out.

Example:
    >>> from attrs import frozen
    >>> @frozen
    ... class MailSettings(Checked):
    ...     timeout: float = option(10.0, Duration(0.1, 60.0), "MAIL_TIMEOUT")
    >>> load(MailSettings, {"MAIL_TIMEOUT": "1m"}).timeout
    60.0

An entry point in the group ``taskflow.settings`` that names the class lets every
command list its mistakes with those of the library, and ``taskflow config`` show it.
"""

from taskflow._settings.environment import (
    check_settings,
    export_dotenv,
    load,
    load_settings,
)
from taskflow._settings.kinds import (
    Address,
    Choice,
    Duration,
    Kind,
    Ratio,
    Secret,
    Text,
    WholeNumber,
    Words,
)
from taskflow._settings.settings import Checked, Settings, option

__all__ = [
    "Address",
    "Checked",
    "Choice",
    "Duration",
    "Kind",
    "Ratio",
    "Secret",
    "Settings",
    "Text",
    "WholeNumber",
    "Words",
    "check_settings",
    "export_dotenv",
    "load",
    "load_settings",
    "option",
]
