"""Find plugins by their entry points, and load them."""

from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint, entry_points

from attrs import frozen

from taskflow._declare.registry import Registry
from taskflow.errors import PluginError, TaskFlowError

GROUP = "taskflow.plugins"


@frozen
class LoadedPlugin:
    """A plugin that was loaded.

    Attributes:
        name: Of its entry point.
        version: Of its distribution; empty when not known.
        tasks: Names it registers, sorted; those it registered before too.
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
    A plugin that fails half-way registers nothing; those that work are loaded
    even when others fail.

    Args:
        registry: Where the tasks go.
        found: Entry points to load; None = those installed.

    Returns:
        What was loaded, by name.

    Raises:
        PluginError: One failed, by whatever exception; says of each that did
            which it is, why, and what to do.
    """
    loaded: list[LoadedPlugin] = []
    failures: list[PluginError] = []
    points = entry_points(group=GROUP) if found is None else found
    for point in sorted(points, key=lambda each: each.name):
        try:
            brought = _register(point)
            registry.include(brought)
        except PluginError as failure:
            failures.append(failure)
        except TaskFlowError as error:
            failures.append(_failure(point, error))
        else:
            version = point.dist.version if point.dist else ""
            loaded.append(LoadedPlugin(point.name, version, brought.names()))
    if failures:
        first, *others = failures
        reason = "; ".join((first.reason, *(str(other) for other in others)))
        raise PluginError(first.entry_point, reason) from first.__cause__
    return loaded


def _register(point: EntryPoint) -> Registry:
    # A registry of its own, so that half a plugin is no plugin.
    brought = Registry()
    try:
        register: Callable[[Registry], object] = point.load()
        register(brought)
    except (Exception, SystemExit) as error:
        raise _failure(point, error) from error
    return brought


def _failure(point: EntryPoint, error: BaseException) -> PluginError:
    owner = point.dist.name if point.dist else None
    whose = f" of {owner}" if owner else ""
    remove = f"uninstall {owner}" if owner else "remove the entry point"
    if isinstance(error, ModuleNotFoundError):
        do = f"install what brings the module {error.name!r}, or {remove}"
    else:
        do = f"mend it, or {remove}"
    reason = f"{point.value}{whose}: {type(error).__name__}: {error}; {do}"
    made = PluginError(point.name, reason)
    made.__cause__ = error
    return made
