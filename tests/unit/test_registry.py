"""Declaring tasks: names, clashes, refusals; nothing is touched."""

import sys
import types
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from functools import partial, wraps
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


def plain() -> None:
    """Do nothing."""


class Shop:
    """Has methods, which are no tasks."""

    def sell(self) -> None:
        """Do nothing."""

    @classmethod
    def open(cls) -> None:
        """Do nothing."""

    @staticmethod
    def close(day: int) -> int:
        """Do next to nothing."""
        return day


def local() -> Callable[[], None]:
    """Give a function that no other process could find."""

    def inner() -> None: ...

    return inner


@pytest.mark.parametrize(
    ("declare", "told"),
    [
        (lambda registry: registry.task(generator), "is a generator"),
        (lambda registry: registry.task(async_generator), "is a generator"),
        (lambda registry: registry.task(name="a b")(print), "'a b' may hold"),
        (lambda registry: registry.task(lambda: None), "<lambda>"),
        (lambda registry: registry.task(name="x")(object()), "is no function"),
        (
            lambda registry: registry.task(timeout=0)(plain),
            "timeout must be seconds or a timedelta, above 0, at most 315360000, got 0",
        ),
        (
            lambda registry: registry.task(soft_timeout=float("nan"))(plain),
            "soft_timeout must be seconds or a timedelta, above 0, at most 315360000, got nan",
        ),
        (lambda registry: registry.task(name="")(plain), "task name '' may hold"),
        (lambda registry: registry.task(retry=3)(plain), "retry must be a RetryPolicy"),
        (
            lambda registry: registry.task(partial(plain)),
            "plain .* is a partial, and has no name",
        ),
        (
            lambda registry: registry.task(Shop().sell),
            "Shop.sell .* is a method of an object, and has no name",
        ),
        (
            lambda registry: registry.task(Shop.sell),
            "Shop.sell .* is a method, and a worker has no object to call it on",
        ),
        (
            lambda registry: registry.task(name="sell")(vars(Shop)["open"]),
            "is no function; declare one made with def",
        ),
        (lambda registry: registry.task(Shop), "is no function"),
        (lambda registry: registry.task(registry.task(plain)), "is a task already"),
        (
            lambda registry: registry.task(name="x")(iter),
            "builtins.iter does not say what it takes",
        ),
        (
            lambda registry: registry.task(local()),
            "is local or a lambda, and has no name that another process knows; give",
        ),
    ],
    ids=[
        *("generator", "async-generator", "name", "lambda", "no-function", "limit"),
        *("soft-limit", "no-name", "no-policy", "partial", "bound-method", "method"),
        *("class-method", "class", "task", "builtin", "local"),
    ],
)
def test_what_cannot_be_a_task_is_refused(
    declare: Callable[[Registry], Any], told: str
) -> None:
    """At the declaration, in words."""
    with pytest.raises(RegistryError, match=told):
        declare(Registry())


@pytest.mark.parametrize(
    "function",
    [partial(Shop.close, 1), lambda: 1, Shop().close, local(), Shop.close],
    ids=["partial", "lambda", "of-an-object", "local", "static"],
)
def test_what_has_no_name_of_its_own_can_be_given_one(function: Any) -> None:
    """Whoever names it sees to it that every process does."""
    registry = Registry()
    task = registry.task(name="given")(function)

    assert (task, ("given",)) == (registry.get("given"), registry.names())


def test_a_static_method_is_a_function_with_a_long_name() -> None:
    """It needs no object."""
    registry = Registry()

    assert 3 == registry.task(Shop.close)(3)
    assert (f"{__name__}.Shop.close",) == registry.names()


def test_two_lambdas_on_two_lines_are_two_functions() -> None:
    """They share a name, and still do not replace each other."""
    registry = Registry()
    registry.task(name="f")(lambda: 1)

    with pytest.raises(TaskNameTakenError):
        registry.task(name="f")(lambda: 2)


def test_options_are_kept_when_the_function_comes_with_them() -> None:
    """``task(function, name=...)`` works as a plain call, too."""
    declare: Any = Registry().task

    assert "given" == declare(plain, name="given").name


def test_limits_may_be_timedeltas() -> None:
    """They are kept as seconds."""
    task = Registry().task(
        timeout=timedelta(minutes=2), soft_timeout=timedelta(seconds=90)
    )(plain)

    assert (120.0, 90.0) == (task.timeout, task.soft_timeout)


async def answer() -> int:
    """Answer."""
    return 42


def test_a_decorated_coroutine_function_is_one() -> None:
    """However many layers lie above it."""

    @wraps(answer)
    def logged(*args: Any) -> Any:
        return answer(*args)

    registry = Registry()

    assert [True, True, True, False] == [
        registry.task(name=f"t{number}")(each).is_async
        for number, each in enumerate((answer, logged, partial(logged), plain))
    ]


def test_a_script_and_its_import_are_one_home(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """``python job.py`` that imports ``job`` again declares nothing twice."""
    registry = Registry()
    names = []
    for module in ("__main__", "__mp_main__", "job"):
        made = types.ModuleType(module)
        made.__file__ = "/srv/job.py"
        monkeypatch.setitem(sys.modules, module, made)

        def f() -> None: ...

        f.__module__, f.__qualname__ = module, "f"
        names.append(registry.task(f).name)

    assert ["job.f"] * 3 == names


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
