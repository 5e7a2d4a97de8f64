"""What a command works on: a host's flow or registry, the default, the plugins."""

import importlib
import sys
from pathlib import Path

from attrs import frozen

from taskflow._client.doctor import name_clash
from taskflow._client.flow import TaskFlow
from taskflow._declare.plugins import load_plugins
from taskflow._declare.registry import Registry, default_registry
from taskflow._settings import Settings
from taskflow.errors import ConfigurationError


@frozen
class App:
    """What a worker serves, and where.

    Attributes:
        flow: Where tasks are kept.
        registry: The default registry's tasks, those of every plugin, and
            those of the host.
        plugins: Names of the plugins that were loaded.
    """

    flow: TaskFlow
    registry: Registry
    plugins: tuple[str, ...]


def refuse_name_clash() -> None:
    """Stop when OpenStack's library of the same import name is installed.

    Raises:
        ConfigurationError: It is; one has overwritten files of the other.
    """
    problem = name_clash()
    if problem is not None:
        raise ConfigurationError(problem)


def load_app(
    path: str | None, *, url: str | None, prefix: str | None, settings: Settings
) -> App:
    """Find what *path* names, and add the default registry and the plugins.

    Args:
        path: ``module:attribute`` of a ``TaskFlow`` or a ``Registry``, or
            ``module`` alone; None = no host.
        url: Overrides where tasks are kept.
        prefix: Overrides the prefix of the keys.
        settings: Those in force.

    Returns:
        The flow to use and the tasks to serve.

    Raises:
        ConfigurationError: *path* names nothing of the kind.
        PluginError: A plugin cannot be loaded.
        RegistryError: Two of them claim one name.
    """
    host = load_host(path) if path else None
    registry = Registry()
    registry.include(default_registry)
    plugins = load_plugins(registry)
    flow: TaskFlow | None = None
    if isinstance(host, TaskFlow):
        registry.include(host.registry)
        flow = host
    elif isinstance(host, Registry):
        registry.include(host)
    if flow is None or url is not None or prefix is not None:
        flow = TaskFlow(url, prefix=prefix, registry=registry, settings=settings)
    return App(flow, registry, tuple(plugin.name for plugin in plugins))


def load_host(path: str) -> TaskFlow | Registry | None:
    """Import what *path* names.

    Args:
        path: ``module:attribute``, or ``module`` alone: its one ``TaskFlow``.

    Returns:
        The host's flow or registry; None where a module alone has no one flow.

    Raises:
        ConfigurationError: There is no such module, or nothing of the kind in it.
        ModuleNotFoundError: It is there, and needs one that is not.
    """
    module_name, _, attribute = path.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise
        problem = (
            f"app {path!r}: there is no module {error.name!r} here; name it as "
            "'module:attribute', from a folder in which it can be imported"
        )
        raise ConfigurationError(problem) from error
    candidates = {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, TaskFlow | Registry)
    }
    if not attribute:
        flows = [each for each in candidates.values() if isinstance(each, TaskFlow)]
        return flows[0] if len(flows) == 1 else None
    if attribute not in candidates:
        there = ", ".join(repr(name) for name in sorted(candidates)) or "none"
        problem = (
            f"app {path!r}: {attribute!r} is no TaskFlow or Registry of "
            f"{module_name!r}; there: {there}"
        )
        raise ConfigurationError(problem)
    return candidates[attribute]
