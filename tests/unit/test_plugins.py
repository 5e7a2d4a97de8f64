"""Plugins by their entry points: loaded by a call, and clear when they fail."""

import sys
import types
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from taskflow import Registry
from taskflow._declare.plugins import load_plugins
from taskflow.errors import PluginError


def point(name: str, value: str) -> EntryPoint:
    """Give an entry point of the plugins' group."""
    return EntryPoint(name, value, "taskflow.plugins")


@pytest.fixture
def module() -> Iterator[types.ModuleType]:
    """Give a module that entry points can name."""
    made = types.ModuleType("a_plugin")
    sys.modules["a_plugin"] = made
    yield made
    del sys.modules["a_plugin"]


def registers(name: str) -> Callable[[Registry], None]:
    """Give a plugin that brings one task."""

    def register(registry: Registry) -> None:
        @registry.task(name=name)
        def body() -> None: ...

    return register


def test_plugins_bring_their_tasks_in_the_order_of_their_names(
    module: Any,
) -> None:
    """And say what each brought."""
    module.first, module.second = registers("one"), registers("two")
    registry = Registry()

    loaded = load_plugins(
        registry, found=[point("b", "a_plugin:second"), point("a", "a_plugin:first")]
    )

    assert ("one", "two") == registry.names()
    assert [("a", ("one",), ""), ("b", ("two",), "")] == [
        (each.name, each.tasks, each.version) for each in loaded
    ]


def test_those_installed_are_found(module: Any) -> None:
    """Ours is one of them."""
    assert "summarize" in [each.name for each in load_plugins(Registry())]


def test_a_broken_plugin_is_named_and_the_others_that_broke_too(module: Any) -> None:
    """One sentence for each, whatever it raised."""

    def fails(registry: Registry) -> None:
        message = "no key"
        raise ValueError(message)

    def clashes(registry: Registry) -> None:
        registers("taken")(registry)
        registry.task(name="taken")(test_those_installed_are_found)

    module.fails, module.clashes, module.number = fails, clashes, 3
    module.good = registers("good")
    found = [
        point("a", "no_such_module:register"),
        point("b", "a_plugin:fails"),
        point("c", "a_plugin:clashes"),
        point("d", "a_plugin:number"),
        point("e", "a_plugin:good"),
    ]

    registry = Registry()
    with pytest.raises(PluginError) as caught:
        load_plugins(registry, found=found)

    told = str(caught.value)
    assert told.startswith(
        "plugin 'a' failed to load: no_such_module:register: ModuleNotFoundError: No "
        "module named 'no_such_module'; install what brings the module "
        "'no_such_module', or remove the entry point; plugin 'b' failed to load: "
        "a_plugin:fails: ValueError: no key; mend it, or remove the entry point; "
        "plugin 'c' failed to load: a_plugin:clashes: TaskNameTakenError: the task "
        "name 'taken' is taken by "
    )
    assert "'int' object is not callable" in told
    assert "a" == caught.value.entry_point
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)
    assert ("good",) == registry.names()


def test_a_plugin_that_ends_the_process_is_a_broken_plugin(module: Any) -> None:
    """A worker does not vanish because an import calls ``sys.exit``."""
    module.leaves = lambda registry: sys.exit(3)

    with pytest.raises(PluginError, match=r"'a' failed to load: .* SystemExit: 3"):
        load_plugins(Registry(), found=[point("a", "a_plugin:leaves")])


def test_a_plugin_whose_names_are_taken_brings_nothing(module: Any) -> None:
    """Not even the tasks that would have fitted."""

    def brings_two(registry: Registry) -> None:
        registers("fits")(registry)
        registers("taken")(registry)

    registry = Registry()
    registry.task(name="taken")(test_those_installed_are_found)
    module.brings_two = brings_two

    with pytest.raises(PluginError, match="TaskNameTakenError"):
        load_plugins(registry, found=[point("a", "a_plugin:brings_two")])

    assert ("taken",) == registry.names()


def test_a_plugin_may_be_loaded_twice(module: Any) -> None:
    """It brings the same again, and says so."""
    module.first = registers("one")
    registry = Registry()
    found = [point("a", "a_plugin:first")]

    assert load_plugins(registry, found=found) == load_plugins(registry, found=found)
    assert ("one",) == registry.names()


class Installed(EntryPoint):
    """An entry point that knows whose it is."""

    @property
    def dist(self) -> Any:
        """Say which distribution brings it."""
        return types.SimpleNamespace(name="a-plugin", version="1.2")


def test_the_distribution_is_named_with_what_to_do(module: Any) -> None:
    """Whoever reads the message knows what to install or remove."""
    module.first = registers("one")
    good = Installed("a", "a_plugin:first", "taskflow.plugins")
    bad = Installed("b", "no_such_module:x", "taskflow.plugins")

    assert ["1.2"] == [each.version for each in load_plugins(Registry(), found=[good])]
    with pytest.raises(PluginError, match=r"of a-plugin: .* or uninstall a-plugin$"):
        load_plugins(Registry(), found=[bad])
