"""A task is a function that can also be called later; a call is a value."""

import asyncio
import copy
import functools
import inspect
import pickle
import sys
import types
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from taskflow import (
    Call,
    Context,
    Registry,
    RetryPolicy,
    Task,
    TaskFlow,
    TaskHandle,
    Worker,
)
from taskflow._client.flow import flow_from_settings
from taskflow._codec import Spec, decode_spec
from taskflow._declare import ports
from taskflow._declare.ports import TaskClient, TaskInfo
from taskflow._declare.task import PLAIN, CallOptions
from taskflow.errors import ConfigurationError, PayloadError

registry = Registry()


@registry.task(name="add")
def add(x: int, y: int = 2) -> int:
    """Add."""
    return x + y


@registry.task(name="fetch")
async def fetch(url: str) -> bytes:
    """Fetch."""
    return url.encode()


@registry.task(name="report")
def report(rows: int, ctx: Context, *, title: str = "") -> tuple[int, str, bool, int]:
    """Report."""
    return rows, title, ctx.cancelled, ctx.attempt


class Shelf:
    """Holds a task, and one that was declared inside."""

    add = add

    @staticmethod
    @registry.task(name="shelf.count")
    def count(x: int) -> int:
        """Count."""
        return x


class Told:
    """Info as a client gives it."""

    id, name, state, attempts = "1", "add", "PENDING", 0
    created_at = datetime(2026, 1, 2, tzinfo=UTC)


class Remembers:
    """A client that stores nothing, and remembers what it was asked."""

    def __init__(self, stored: bytes = b"3") -> None:
        self.stored = stored
        self.asked: list[tuple[Any, ...]] = []

    def enqueue(self, call: Call[Any]) -> TaskHandle[Any]:
        """Give a handle."""
        self.asked.append(("enqueue", call))
        return TaskHandle(self, "1", call.task, created=True)

    async def aenqueue(self, call: Call[Any]) -> TaskHandle[Any]:
        """Give a handle."""
        self.asked.append(("aenqueue", call))
        return TaskHandle(self, "1", call.task, created=False)

    def result(self, task_id: str, decode: Any, timeout: float | None) -> Any:
        """Give what is stored."""
        self.asked.append(("result", task_id, timeout))
        return decode(self.stored)

    async def aresult(self, task_id: str, decode: Any, timeout: float | None) -> Any:  # noqa: ASYNC109
        """Give what is stored."""
        self.asked.append(("aresult", task_id, timeout))
        return decode(self.stored)

    def info(self, task_id: str) -> TaskInfo:
        """Give the same to all."""
        self.asked.append(("info", task_id))
        return Told()

    async def ainfo(self, task_id: str) -> TaskInfo:
        """Give the same to all."""
        self.asked.append(("ainfo", task_id))
        return Told()

    def cancel(self, task_id: str) -> bool:
        """Say it is done."""
        self.asked.append(("cancel", task_id))
        return True

    async def acancel(self, task_id: str) -> bool:
        """Say it is asked for."""
        self.asked.append(("acancel", task_id))
        return False


@pytest.fixture
def client() -> Any:
    """Let tasks be enqueued through a client that remembers."""
    made = Remembers()
    with ports.using(made):
        yield made


# --- in place ----------------------------------------------------------------


def test_a_task_called_in_place_is_its_function() -> None:
    """Arguments and defaults as ever, and nothing of the codec."""
    assert (5, 3, 5) == (add(2, 3), add(1), add(y=3, x=2))
    assert "ab" == add("a", "b")  # type: ignore[arg-type, comparison-overlap]
    assert b"u" == asyncio.run(fetch("u"))
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'"):
        add()  # type: ignore[call-arg]


def test_a_task_looks_like_its_function() -> None:
    """To ``help``, to documentation tools, to whoever asks for its signature."""
    facts = [getattr(add, name) for name in ("__module__", "__name__", "__qualname__")]

    assert [__name__, "add", "add"] == facts
    assert "Add." == inspect.getdoc(add)
    assert "(x: int, y: int = 2) -> int" == str(inspect.signature(add))
    assert add.function is inspect.unwrap(add)  # type: ignore[arg-type]
    assert repr(add).startswith("Task(function=<function add at ")


def test_a_context_is_made_where_none_is_given() -> None:
    """Wherever its parameter stands; one that is given is passed on."""
    mine = Context(id="7", name="mine", attempt=4)
    mine.mark_cancelled()
    call: Callable[..., Any] = report

    assert (3, "t", False, 1) == call(3, title="t") == call(rows=3, title="t")
    assert (
        (3, "", True, 4) == call(3, mine) == call(3, ctx=mine) == call(ctx=mine, rows=3)
    )
    with pytest.raises(TypeError):
        call(3, "t")


def test_a_function_that_could_not_be_stored_can_still_be_called() -> None:
    """Its annotations are looked at when it is enqueued, not before."""
    own = Registry()

    @own.task(name="complex")
    def turn(z: complex, ctx: "Context | None" = None) -> complex:
        assert ctx is not None
        return z * 1j

    @own.task(name="nowhere")
    def nowhere(x: "Nowhere") -> Any:  # type: ignore[name-defined]  # noqa: F821
        return x

    assert (1j, 2) == (turn(1 + 0j), nowhere(2))
    with pytest.raises(ConfigurationError, match="'complex', parameter 'z': complex"):
        turn.check()
    with pytest.raises(ConfigurationError, match="'Nowhere' cannot be resolved"):
        nowhere.call(2)


def test_a_result_that_cannot_be_supported_is_refused_by_the_check() -> None:
    """Worker start is early enough; a body that has run is too late."""
    task = Registry().task(name="f")(lambda: None)
    task.function.__annotations__["return"] = complex

    with pytest.raises(ConfigurationError, match="task 'f', result: complex"):
        task.check()


def test_a_task_found_on_an_instance_is_not_bound_to_it() -> None:
    """It has no ``self`` to take."""
    shelf = Shelf()

    assert shelf.add is add
    assert 3 == shelf.add(1) == shelf.count(3)


# --- calls ---------------------------------------------------------------------


def test_a_call_is_a_value() -> None:
    """Task, arguments and options; two alike are equal."""
    call = add.call(1, y=5)

    assert (add, b'{"x":1,"y":5}', PLAIN) == (call.task, call.payload, call.options)
    assert call == add.call(x=1, y=5)
    assert call != add.call(1)
    with pytest.raises(
        PayloadError, match=r"task 'add': Expected int, got str - at \$\.x"
    ):
        add.call("1")  # type: ignore[arg-type]


def test_what_never_changes_is_packed_once() -> None:
    """A plain call stores the packed name and nothing more."""
    assert Spec(name="add") == decode_spec(add.spec)
    assert [True, True, False, False] == [
        options.is_plain
        for options in (
            PLAIN,
            CallOptions(delay=1, key="k"),
            CallOptions(max_retries=0),
            CallOptions(timeout=1),
        )
    ]


def test_options_make_a_task_for_some_calls() -> None:
    """The declared one keeps its own, and the codec is shared."""
    chosen = add.options(
        delay=timedelta(minutes=1),
        key="sum",
        key_ttl=timedelta(hours=1),
        expires=timedelta(days=1),
        max_retries=0,
        timeout=timedelta(seconds=1.5),
    )
    expected = CallOptions(60.0, "sum", 3600.0, 86_400.0, 0, 1.5)

    assert (expected, PLAIN) == (chosen.call(1).options, add.call(1).options)
    assert (add.arguments, add.result) == (chosen.arguments, chosen.result)
    assert (3, CallOptions(delay=5)) == (
        chosen(1),
        chosen.options(delay=5).call(1).options,
    )


@pytest.mark.parametrize(
    ("name", "wrong", "bound"),
    [
        ("delay", -1, "must be seconds or a timedelta, 0 to 315360000"),
        ("delay", float("nan"), "must be seconds or a timedelta, 0 to 315360000"),
        (
            "delay",
            timedelta(seconds=-1),
            "must be seconds or a timedelta, 0 to 315360000",
        ),
        ("key_ttl", float("inf"), "must be seconds or a timedelta, 0 to 315360000"),
        ("expires", 0, "must be seconds or a timedelta, above 0, at most 315360000"),
        ("timeout", "5", "must be seconds or a timedelta, above 0, at most 315360000"),
        ("max_retries", -1, "must be a whole number, at least 0"),
        ("max_retries", 1.0, "must be a whole number, at least 0"),
        ("key", "", "must be 1 to 200 characters, no line break"),
        ("key", "k" * 201, "must be 1 to 200 characters, no line break"),
        ("key", "a\nb", "must be 1 to 200 characters, no line break"),
        ("key", "\ud800", "must be 1 to 200 characters, no line break"),
        ("key", 7, "must be 1 to 200 characters, no line break"),
    ],
)
def test_an_option_out_of_bounds_is_refused_where_it_is_given(
    name: str, wrong: Any, bound: str
) -> None:
    """With its name, its bound and its value."""
    with pytest.raises(ConfigurationError) as caught:
        add.options(**{name: wrong})

    assert f"{name} {bound}" == str(caught.value).partition(", got ")[0]


def test_options_at_their_bounds_are_taken() -> None:
    """Zero delay is none, zero retries is one attempt."""
    options = CallOptions(delay=0, key="k" * 200, key_ttl=0, max_retries=0)

    assert (0, 200, 0, 0) == (
        options.delay,
        len(options.key or ""),
        options.key_ttl,
        options.max_retries,
    )


def test_a_declaration_is_kept_as_it_was_made() -> None:
    """Frozen: a worker can rely on it."""
    policy = RetryPolicy(max_retries=1)
    task = Registry().task(name="f", retry=policy, dead_letter=False)(add.function)

    assert (policy, False, None, None, False) == (
        task.retry,
        task.dead_letter,
        task.timeout,
        task.soft_timeout,
        task.is_async,
    )
    with pytest.raises(AttributeError):
        task.name = "g"  # type: ignore[misc]


# --- pickling --------------------------------------------------------------------


@pytest.mark.parametrize("verb", [copy.copy, copy.deepcopy])
def test_a_copy_of_a_task_is_the_task(verb: Callable[[Any], Any]) -> None:
    """As a copy of a function is the function."""
    assert [add] == verb([add]) and verb(add) is add  # noqa: PT018 - one thing, seen twice


def test_a_task_is_pickled_by_reference() -> None:
    """Its options come along; so does a call."""
    chosen = add.options(delay=5, key="k")
    restored = pickle.loads(pickle.dumps(chosen))  # noqa: S301
    call = pickle.loads(pickle.dumps(chosen.call(1)))  # noqa: S301

    assert pickle.loads(pickle.dumps(add)) is add  # noqa: S301
    assert pickle.loads(pickle.dumps(Shelf.count)) is Shelf.count  # noqa: S301
    assert (chosen.call_options, add.arguments) == (
        restored.call_options,
        restored.arguments,
    )
    assert (chosen.call_options, b'{"x":1}') == (call.options, call.payload)
    assert call.task.function is add.function


def other(x: int) -> int:
    """Stand where a task of the same name does not."""
    return x


def test_a_task_that_cannot_be_imported_is_not_pickled() -> None:
    """It says so where it is pickled, not where it is missed."""
    own = Registry()
    local = own.task(name="local")(lambda: None)
    shadowed = own.task(name="shadowed")(functools.partial(other, 1))

    for task in (local, shadowed, local.options(delay=1)):
        with pytest.raises(pickle.PicklingError, match="cannot be imported as"):
            pickle.dumps(task)


# --- through a client --------------------------------------------------------------


def test_a_task_is_enqueued_through_the_client_in_use(client: Remembers) -> None:
    """And the handle speaks to the same client."""
    handle = add.enqueue(1, y=2)

    assert ("1", "add", True) == (handle.id, handle.name, handle.created)
    assert "<TaskHandle add 1>" == repr(handle)
    assert (3, 3) == (handle.result(timeout=timedelta(seconds=2)), handle.result())
    assert ("PENDING", True) == (handle.info().state, handle.cancel())
    assert [
        ("enqueue", add.call(1, 2)),
        ("result", "1", 2.0),
        ("result", "1", None),
        ("info", "1"),
        ("cancel", "1"),
    ] == client.asked


async def test_a_task_is_enqueued_from_a_coroutine_too(client: Remembers) -> None:
    """Each verb has its ``a`` twin."""
    chosen = add.options(key="k")
    handle = await chosen.aenqueue(1)

    assert handle.created is False
    assert 3 == await handle.aresult(timeout=1)
    assert ("PENDING", False) == ((await handle.ainfo()).state, await handle.acancel())
    assert [
        ("aenqueue", chosen.call(1)),
        ("aresult", "1", 1),
        ("ainfo", "1"),
        ("acancel", "1"),
    ] == client.asked


def test_a_stored_result_is_checked_when_it_is_read(client: Remembers) -> None:
    """Against the annotation of today."""
    client.stored = b'"three"'

    with pytest.raises(PayloadError, match="task 'add': result: Expected int, got str"):
        add.enqueue(1).result()


def test_arguments_that_do_not_fit_reach_no_client(client: Remembers) -> None:
    """Nothing is stored."""
    with pytest.raises(PayloadError):
        add.enqueue("1")  # type: ignore[arg-type]

    assert [] == client.asked


@pytest.fixture
def no_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin as a process does."""
    monkeypatch.setattr(ports, "_current", None)
    monkeypatch.setattr(ports, "_factory", None)


@pytest.mark.usefixtures("no_client")
def test_the_client_is_made_on_first_use_and_once() -> None:
    """From the factory that the client package has left."""
    made: list[TaskClient] = []

    def factory() -> TaskClient:
        made.append(Remembers())
        return made[-1]

    ports.set_default_factory(factory)
    used = [ports.current(), ports.current()]
    ports.use(None)
    used.append(ports.current())

    assert [made[0], made[0], made[1]] == used


@pytest.mark.usefixtures("no_client")
def test_without_a_factory_there_is_no_client() -> None:
    """Half a package says so."""
    with pytest.raises(RuntimeError, match="import taskflow before"):
        ports.current()


@pytest.mark.usefixtures("no_client")
def test_the_client_before_is_in_use_again_after() -> None:
    """Even when the block fails."""
    first, second = Remembers(), Remembers()
    ports.use(first)

    def fail_within() -> None:
        with ports.using(second):
            message = f"used {ports.current() is second}"
            raise ValueError(message)

    with pytest.raises(ValueError, match="used True"):
        fail_within()

    assert first is ports.current()


@pytest.fixture
def no_url(no_client: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Any:
    """Use no flow, in a folder of its own, with no server in the environment."""
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    ports.set_default_factory(flow_from_settings)
    return tmp_path


def declared(registry: Registry) -> Any:
    """Declare a task."""

    @registry.task(name="declared")
    def body() -> None: ...

    return body


def ids_in(flow: TaskFlow) -> list[str]:
    """Name what waits."""
    return [each.id for each in flow.tasks.list().items]


async def test_a_task_goes_to_the_flow_of_its_registry(no_url: Any) -> None:
    """Also if another flow is in use, and if a registry of the flow includes it."""
    registry, outer = Registry(), Registry()
    task = declared(registry)
    outer.include(registry)
    with (
        TaskFlow("memory://a", registry=outer) as flow,
        TaskFlow("memory://b", registry=Registry()) as other,
    ):
        ports.use(other)
        ids = [task.enqueue().id, task.options(delay=0).enqueue().id]
        ids.append((await task.aenqueue()).id)

        assert sorted(ids) == sorted(ids_in(flow))
        assert [] == ids_in(other)


def test_of_several_flows_the_one_in_use_takes_a_task(no_url: Any) -> None:
    """If none is in use, that is an error that names them."""
    registry = Registry()
    task = declared(registry)
    with (
        TaskFlow("memory://first", registry=registry) as first,
        TaskFlow("memory://second", registry=registry) as second,
    ):
        with pytest.raises(
            ConfigurationError, match=r"2 flows .*taskflow\.use\(flow\)"
        ):
            task.enqueue()
        ports.use(second)
        handle = task.enqueue()

        assert ([], [handle.id]) == (ids_in(first), ids_in(second))
        ports.use(None)
        second.close()
        assert [task.enqueue().id] == ids_in(first)


def test_a_task_without_a_flow_is_refused_and_starts_no_server(
    no_url: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says what to do; with REDIS_URL there is somewhere to go."""
    task = declared(Registry())
    with pytest.raises(ConfigurationError, match=r"create flow = taskflow\.TaskFlow"):
        task.enqueue()
    assert [] == list(no_url.iterdir())

    monkeypatch.setenv("REDIS_URL", "memory://from-the-environment")
    handle = task.enqueue()
    with TaskFlow("memory://from-the-environment", registry=Registry()) as flow:
        assert [handle.id] == ids_in(flow)


def test_a_task_in_a_module_of_another_name_is_found_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was moved away since is missed when it is pickled."""
    moved = types.ModuleType("moved_module")
    monkeypatch.setitem(sys.modules, "moved_module", moved)

    def body() -> None:
        """Do nothing."""

    body.__module__, body.__qualname__ = "moved_module", "body"
    task: Task[Any, Any, Any] = Registry().task(body)
    moved.body = task  # type: ignore[attr-defined]

    assert pickle.loads(pickle.dumps(task)) is task  # noqa: S301
    moved.body = body  # type: ignore[attr-defined]
    with pytest.raises(pickle.PicklingError, match=r"imported as moved_module\.body"):
        pickle.dumps(task)


def test_a_flow_declares_tasks_of_its_registry_and_runs_them() -> None:
    """``@flow.task`` is ``@registry.task``, and a bare enqueue goes to that flow."""
    with TaskFlow("memory://flow-task", registry=Registry()) as flow:

        @flow.every(3600, arguments={"x": 1})
        @flow.task(name="double")
        def double(x: int) -> int:
            return 2 * x

        handle = double.enqueue(4)
        Worker(flow).run_until_idle()

        assert 8 == handle.result(timeout=5)
        assert ["double"] == [each.name for each in flow.registry.schedules()]
