"""The entry point in the group ``taskflow.plugins``."""

from taskflow import Registry
from taskflow_summarize import _tasks
from taskflow_summarize._settings import current_settings
from taskflow_summarize._upstream import upstream_of


def register(registry: Registry) -> None:
    """Add the tasks of this plugin to *registry*; doing so twice is fine.

    The settings are read here, so that a wrong one stops the start of a worker
    and not its first task; and so are the limits of the service.

    Args:
        registry: Where the tasks go.

    Raises:
        ConfigurationError: A setting of the plugin is wrong; nothing is added.
    """
    limits = upstream_of(current_settings())
    registry.include(_tasks.registry)
    registry.add_upstream(limits)
