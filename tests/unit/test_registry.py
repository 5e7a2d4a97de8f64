"""Declaring tasks: names, clashes, refusals; nothing is touched."""

import sys
import types
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from taskflow import Context, Registry, Task
from taskflow.errors import (
    ConfigurationError,
    RegistryError,
    TaskNameTakenError,
    UnknownTaskError,
)


def test_the_default_name_is_module_and_function() -> None:
    """As people would look for it."""
    registry = Registry()

    def body() -> None: ...

    body.__module__, body.__qualname__ = "shop.mail", "send"
    registry.task(body)

    assert ("shop.mail.send",) == registry.names()


@pytest.mark.parametrize(
    ("attributes", "name"),
    [({"__file__": "/srv/job.py"}, "job.f"), ({}, "__main__.f")],
    ids=["script", "interpreter"],
)
def test_a_script_gives_its_stem_as_module(
    monkeypatch: pytest.MonkeyPatch, attributes: dict[str, str], name: str
) -> None:
    """The worker imports the same file under that name."""
    main = types.ModuleType("__main__")
    vars(main).update(attributes, __spec__=None)
    monkeypatch.setitem(sys.modules, "__main__", main)

    def f() -> None: ...

    f.__module__, f.__qualname__ = "__main__", "f"
    registry = Registry()
    registry.task(f)

    assert (name,) == registry.names()


def test_a_module_run_by_name_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """``python -m shop.job`` and ``import shop.job`` agree."""
    main = types.ModuleType("__main__")
    main.__spec__ = types.SimpleNamespace(name="shop.__main__")  # type: ignore[assignment]
    monkeypatch.setitem(sys.modules, "__main__", main)

    def f() -> None: ...

    f.__module__, f.__qualname__ = "__main__", "f"
    registry = Registry()
    registry.task(f)

    assert ("shop.f",) == registry.names()


def test_a_taken_name_says_where_both_are() -> None:
    """So that the person can choose which to rename."""
    registry = Registry()

    @registry.task(name="mail")
    def first() -> None: ...

    with pytest.raises(TaskNameTakenError, match="'mail' is taken by") as caught:

        @registry.task(name="mail")
        def second() -> None: ...

    assert "first" in caught.value.first
    assert "second" in caught.value.second
    assert __file__ in caught.value.second


def test_the_same_function_again_replaces_as_after_a_reload() -> None:
    """And the same task object is no clash at all."""
    registry, other = Registry(), Registry()

    def declare() -> Task[[], None, None]:
        @registry.task(name="f")
        def f() -> None: ...

        return f

    declare()
    second = declare()
    other.include(registry)
    other.include(registry)

    assert second is registry.get("f")
    assert [second] == list(other)
    assert (1, True, False) == (len(other), "f" in other, "g" in other)


def test_an_unknown_task_is_answered_with_those_there_are() -> None:
    """The names are in the error."""
    registry = Registry()
    registry.task(name="a")(lambda: None)

    with pytest.raises(
        UnknownTaskError, match="unknown task 'b'; registered here: 'a'"
    ):
        registry.get("b")


def generator() -> Iterator[int]:
    """Give one."""
    yield 1


async def async_generator() -> AsyncIterator[int]:
    """Give one."""
    yield 1


@pytest.mark.parametrize(
    ("declare", "told"),
    [
        (lambda registry: registry.task(generator), "is a generator"),
        (lambda registry: registry.task(async_generator), "is a generator"),
        (lambda registry: registry.task(name="a b")(print), "'a b' may hold"),
        (lambda registry: registry.task(lambda: None), "<lambda>"),
        (lambda registry: registry.task(name="x")(object()), "has no name"),
        (
            lambda registry: registry.task(timeout=0)(
                test_the_same_function_again_replaces_as_after_a_reload
            ),
            "timeout must be",
        ),
    ],
    ids=["generator", "async-generator", "name", "lambda", "no-function", "limit"],
)
def test_what_cannot_be_a_task_is_refused(
    declare: Callable[[Registry], Any], told: str
) -> None:
    """At the declaration, in words."""
    with pytest.raises(RegistryError, match=told):
        declare(Registry())


def test_a_task_is_still_a_function() -> None:
    """Called in place, it runs; a context that is not given is inert."""
    registry = Registry()

    @registry.task(name="report")
    def report(ctx: Context, rows: int) -> str:
        """Report."""
        ctx.progress(1, 2)
        ctx.usage(tokens=1)
        ctx.annotate(a=1)
        ctx.emit("x")
        ctx.save({"a": 1})
        return f"{ctx.name} {rows} {ctx.attempt} {ctx.checkpoint}"

    assert "report 3 1 {'a': 1}" == report(3) == report(rows=3)
    assert "mine 3 1 {'a': 1}" == report(Context(id="1", name="mine"), 3)  # type: ignore[arg-type, call-arg]
    assert "Report." == report.__doc__


async def test_a_coroutine_called_in_place_saves_in_place() -> None:
    """The inert context takes the coroutine's verbs too."""
    registry = Registry()

    @registry.task(name="saves")
    async def saves(ctx: Context) -> Any:
        await ctx.asave([1])
        ctx.log.info("saved")
        return ctx.checkpoint

    assert [1] == await saves()


def test_options_make_a_task_of_their_own() -> None:
    """The declared one is unchanged, and every mistake is told at once."""
    registry = Registry()

    @registry.task(name="f")
    def f() -> None: ...

    chosen = f.options(delay=1, key="k", key_ttl=2, expires=3, max_retries=4, timeout=5)

    assert f is registry.get("f")
    assert (None, 1) == (f.call().options.delay, chosen.call().options.delay)
    assert "f" == chosen.name
    with pytest.raises(ConfigurationError, match="3 problems"):
        f.options(max_retries=-1, timeout=0, key="a\nb")
