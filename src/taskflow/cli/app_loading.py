"""What a command works on: a host's flow or registry, the default, the plugins."""

import importlib
import pkgutil
import sys
from collections.abc import Iterator
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
        warning: That the host declares no task, and what to import; empty = it does,
            or there is no host.
    """

    flow: TaskFlow
    registry: Registry
    plugins: tuple[str, ...]
    warning: str = ""


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
        path: ``module:attribute`` of a ``TaskFlow`` or a ``Registry``, or a
            ``module`` or ``package`` alone; None = no host.
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
    flow: TaskFlow | None = None
    if isinstance(host, TaskFlow):
        registry.include(host.registry)
        flow = host
    elif isinstance(host, Registry):
        registry.include(host)
    warning = _lacks_tasks(path) if path and not len(registry) else ""
    plugins = load_plugins(registry)
    if flow is None or url is not None or prefix is not None:
        flow = TaskFlow(url, prefix=prefix, registry=registry, settings=settings)
    return App(flow, registry, tuple(plugin.name for plugin in plugins), warning)


def _lacks_tasks(path: str) -> str:
    module_name = path.partition(":")[0]
    package = module_name.partition(".")[0]
    there = [each for each in task_modules(package) if each != module_name]
    told = f"app {path!r} declares no task: "
    if there:
        return f"{told}import {', '.join(there)} in it, or start with --app {package}"
    return f"{told}import the modules that declare them in {module_name!r}"


def task_modules(package: str) -> list[str]:
    """Find the modules called ``tasks`` in *package* and below, without importing them.

    Args:
        package: Name of a module that is imported already.

    Returns:
        Their names, sorted; none if it is no package.
    """
    folders = getattr(sys.modules.get(package), "__path__", ())
    return sorted(_tasks_below(package, [str(each) for each in folders]))


def _tasks_below(package: str, folders: list[str]) -> Iterator[str]:
    for _, name, is_package in pkgutil.iter_modules(folders):
        full_name = f"{package}.{name}"
        if name == "tasks":
            yield full_name
        elif is_package:
            yield from _tasks_below(full_name, [f"{each}/{name}" for each in folders])


def load_host(path: str) -> TaskFlow | Registry | None:
    """Import what *path* names.

    Args:
        path: ``module:attribute``, or ``module`` alone: its one ``TaskFlow``. Of a
            package the modules called ``tasks`` in it and below are imported too,
            and its flow may be in any of its modules.

    Returns:
        The host's flow or registry; None where there is no flow, and no attribute was
        named.

    Raises:
        ConfigurationError: There is no such module, nothing of the kind in it, or
            several flows.
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
    for each in task_modules(module_name):
        importlib.import_module(each)
    candidates = {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, TaskFlow | Registry)
    }
    if not attribute:
        return _one_flow(module_name)
    if attribute not in candidates:
        there = ", ".join(repr(name) for name in sorted(candidates)) or "none"
        problem = (
            f"app {path!r}: {attribute!r} is no TaskFlow or Registry of "
            f"{module_name!r}; there: {there}"
        )
        raise ConfigurationError(problem)
    return candidates[attribute]


def _one_flow(module_name: str) -> TaskFlow | None:
    """Return the one flow of a module, or of a package's modules that are imported.

    Raises:
        ConfigurationError: There are several.
    """
    found: dict[int, tuple[TaskFlow, str]] = {}
    for name, module in sorted(sys.modules.items()):
        if name == module_name or name.startswith(f"{module_name}."):
            # None stands for a module whose import is blocked.
            for attribute, value in getattr(module, "__dict__", {}).items():
                if isinstance(value, TaskFlow):
                    found.setdefault(id(value), (value, f"{name}:{attribute}"))
    if len(found) > 1:
        paths = ", ".join(path for _, path in found.values())
        problem = f"app {module_name!r} has several flows; name one of {paths}"
        raise ConfigurationError(problem)
    return next((flow for flow, _ in found.values()), None)
