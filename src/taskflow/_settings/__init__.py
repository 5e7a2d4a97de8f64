"""Settings: defaults, bounds and units, and the only reader of the environment."""

from taskflow._settings.address import mask_url
from taskflow._settings.environment import (
    check_settings,
    export_dotenv,
    ignored_settings,
    load_settings,
)
from taskflow._settings.kinds import read_duration
from taskflow._settings.settings import (
    LogSettings,
    QueueSettings,
    RedisSettings,
    Settings,
    UpstreamSettings,
    WorkerSettings,
)

__all__ = [
    "LogSettings",
    "QueueSettings",
    "RedisSettings",
    "Settings",
    "UpstreamSettings",
    "WorkerSettings",
    "check_settings",
    "export_dotenv",
    "ignored_settings",
    "load_settings",
    "mask_url",
    "read_duration",
]
