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
    found = [
        point("a", "no_such_module:register"),
        point("b", "a_plugin:fails"),
        point("c", "a_plugin:clashes"),
        point("d", "a_plugin:number"),
    ]

    with pytest.raises(
        PluginError, match="'a' failed to load: no_such_module"
    ) as caught:
        load_plugins(Registry(), found=found)

    notes = " | ".join(caught.value.__notes__)
    assert "raised ValueError: no key" in notes
    assert "the task name 'taken' is taken by" in notes
    assert "a_plugin:number is not callable" in notes
