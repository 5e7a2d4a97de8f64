"""Find plugins by their entry points, and load them."""

from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint, entry_points

from attrs import frozen

from taskflow._declare.registry import Registry
from taskflow.errors import PluginError, TaskflowError

GROUP = "taskflow.plugins"


@frozen
class LoadedPlugin:
    """A plugin that was loaded.

    Attributes:
        name: Of its entry point.
        version: Of its distribution; empty when not known.
        tasks: Names it registered, sorted.
    """

    name: str
    version: str
    tasks: tuple[str, ...]


def load_plugins(
    registry: Registry, *, found: Iterable[EntryPoint] | None = None
) -> list[LoadedPlugin]:
    """Let every installed plugin register its tasks.

    An entry of the group ``taskflow.plugins`` is a callable
    ``register(registry)``. Loading is this call, never an import's side effect.

    Args:
        registry: Where the tasks go.
        found: Entry points to load; None = those installed.

    Returns:
        What was loaded, by name.

    Raises:
        PluginError: One failed, by whatever exception; names it, and the
            others that failed too.
    """
    loaded: list[LoadedPlugin] = []
    failures: list[PluginError] = []
    points = entry_points(group=GROUP) if found is None else found
    for point in sorted(points, key=lambda each: each.name):
        before = set(registry.names())
        try:
            _register(point, registry)
        except PluginError as failure:
            failures.append(failure)
            continue
        version = point.dist.version if point.dist else ""
        new = tuple(sorted(set(registry.names()) - before))
        loaded.append(LoadedPlugin(point.name, version, new))
    if failures:
        first, *others = failures
        for other in others:
            first.add_note(str(other))
        raise first
    return loaded


def _register(point: EntryPoint, registry: Registry) -> None:
    try:
        register: Callable[[Registry], object] = point.load()
    except Exception as error:
        whose = f" (of {point.dist.name})" if point.dist else ""
        reason = (
            f"{point.value}{whose}: {type(error).__name__}: {error}; "
            "mend or uninstall the distribution that brings it"
        )
        raise PluginError(point.name, reason) from error
    if not callable(register):
        raise PluginError(point.name, f"{point.value} is not callable")
    try:
        register(registry)
    except TaskflowError as error:
        raise PluginError(point.name, str(error)) from error
    except Exception as error:
        reason = f"{point.value} raised {type(error).__name__}: {error}"
        raise PluginError(point.name, reason) from error
