"""Whatever text is given for a name, an id or a cursor, no key is made of it.

Every public call of the control surface is found by looking, and so is each of its
parameters that takes a text: a new one is tried from its first day.
"""

import asyncio
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given

from taskflow import Registry, TaskFilter, TaskFlow, TaskFlowError, Upstream, Worker
from taskflow.errors import ScriptError
from tests.support import fuzz_strings
from tests.support.fuzz_strings import NASTY, foreign_keys, is_printable, is_same, texts
from tests.support.keyspace import dump
from tests.support.population import WORKER, add, populate, registry

PREFIX = "hostile:"
SURFACES = ("tasks", "dlq", "queues", "upstreams", "workers", "schedules", "audit_log")
NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")


def surface_of(flow: TaskFlow, name: str) -> Any:
    """Give the flow itself, or one of its parts."""
    return getattr(flow, name) if name else flow


def found_parameters() -> list[tuple[str, str, str]]:
    """Find each part, verb and parameter that takes a text."""
    flow = TaskFlow("memory://never-opened")
    found = []
    for part in ("", *SURFACES):
        surface = surface_of(flow, part)
        for verb in (name for name in dir(surface) if not name.startswith("_")):
            call = getattr(surface, verb)
            if verb in {"task", "cron", "every"}:
                continue  # they declare, and send nothing
            # Their twins for coroutines carry out the same plans.
            if not inspect.ismethod(call) or "async" in inspect.getsource(call)[:12]:
                continue
            for name, parameter in inspect.signature(call).parameters.items():
                takes_any = parameter.kind is parameter.VAR_KEYWORD
                kind = str(parameter.annotation)
                if takes_any or "str" in kind or "Literal" in kind:
                    found.append((part, verb, name))
    return found


PARAMETERS = found_parameters()


@pytest.fixture(scope="module")
def given_ids() -> dict[str, str]:
    """Give the ids of the tasks that `flow` holds."""
    return {}


@pytest.fixture(scope="module")
def flow(redis_url: str, given_ids: dict[str, str]) -> Iterator[TaskFlow]:
    """Give a flow in which something of every kind stands."""
    with TaskFlow(redis_url, prefix=PREFIX, registry=registry) as made:
        given_ids.update(asyncio.run(populate(made)))
        yield made


@pytest.fixture(scope="module")
def client(flow: TaskFlow) -> Iterator[Any]:
    """Give a plain client of the same server."""
    made = flow.connection.server.sync_client()
    yield made
    made.flushdb()
    made.close()


def arguments(
    call: Callable[..., Any], chosen: str, text: str, good: dict[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """Fill in what *call* needs, and *text* for the chosen parameter."""
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for name, parameter in inspect.signature(call).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            kwargs |= {text: text} if name == chosen else {}
        elif name == chosen or parameter.default is parameter.empty:
            value = text if name == chosen else good[name]
            if parameter.kind is parameter.POSITIONAL_ONLY:
                args.append(value)
            else:
                kwargs[name] = value
    return args, kwargs


def refused(deed: Callable[[], Any]) -> bool:
    """Do it, and tell whether it was refused in words of ours that can be told."""
    error: Exception | None = None
    try:
        answer = deed()
        if inspect.isgenerator(answer):
            list(answer)
    except (TaskFlowError, ValueError) as caught:
        error = caught
    assert not isinstance(error, (UnicodeError, ScriptError)), error
    assert error is None or is_printable(error), type(error)
    return error is not None


@pytest.mark.parametrize(
    ("part", "verb", "parameter"),
    PARAMETERS,
    ids=[".".join(each) for each in PARAMETERS],
)
def test_a_text_for_a_parameter_makes_no_key(
    flow: TaskFlow,
    client: Any,
    given_ids: dict[str, str],
    part: str,
    verb: str,
    parameter: str,
) -> None:
    """It is taken for what it is, or refused with nothing written."""
    call = getattr(surface_of(flow, part), verb)
    good = {
        "task_id": given_ids["dead"],
        "name": "api",
        "lane": "retry",
        "worker_id": WORKER,
        "event": "looked",
        "decode": bytes.decode,
        "timeout": 0,
    }
    known = dump(client)

    def attempt(text: str) -> None:
        nonlocal known
        if verb == "open" and parameter == "reason":
            flow.upstreams.force_close("api")
            known = dump(client)
        args, kwargs = arguments(call, parameter, text, good)
        was_refused = refused(lambda: call(*args, **kwargs))
        after = dump(client)

        assert not was_refused or is_same(known, after), text
        assert [] == foreign_keys(after, PREFIX), text
        known = after

    for text in NASTY:
        attempt(text)

    @fuzz_strings.examples(20)
    @given(texts())
    def any_text(text: str) -> None:
        attempt(text)

    any_text()


def test_the_calls_are_found() -> None:
    """The search is no search of an empty room."""
    known = {
        ("", "handle", "task_id"),
        ("tasks", "get", "task_id"),
        ("tasks", "list", "cursor"),
        ("dlq", "requeue", "fingerprint"),
        ("dlq", "edit", "arguments"),
        ("queues", "pause", "lane"),
        ("upstreams", "force_open", "reason"),
        ("workers", "drain", "worker_id"),
        ("schedules", "run", "name"),
        ("audit_log", "record", "facts"),
    }

    assert known <= set(PARAMETERS)


DECLARED: dict[str, Callable[[TaskFlow, str], Any]] = {
    "task": lambda _, text: Registry().task(name=text)(add.function),
    "schedule": lambda _, text: Registry().every(60.0, name=text)(add),
    "upstream": lambda _, text: Upstream(text),
    # Empty, it is left out.
    "worker": lambda flow, text: Worker(flow, worker_id=text or "?"),
}


@pytest.mark.parametrize("kind", DECLARED)
def test_a_declared_name_keeps_to_the_grammar(flow: TaskFlow, kind: str) -> None:
    """Letters, digits, underscore, dot and hyphen: nothing that a key is made of."""

    def attempt(text: str) -> None:
        was_refused = refused(lambda: DECLARED[kind](flow, text))

        assert was_refused is not bool(NAME.fullmatch(text)), text

    for text in (*NASTY, "a-b_c.D9", "x" * 128, "x" * 129):
        attempt(text)

    @fuzz_strings.examples(50)
    @given(texts())
    def any_text(text: str) -> None:
        attempt(text)

    any_text()


def test_a_prefix_stands_before_every_key_or_is_refused(redis_url: str) -> None:
    """It may not end a hash tag, nor be taken for a pattern."""

    def attempt(text: str) -> None:
        with TaskFlow(redis_url, prefix=text, registry=registry) as made:
            if refused(lambda: made.enqueue(add.call(1))):
                return
            client = made.connection.server.sync_client()
            found = [key for key in dump(client) if not key.startswith(PREFIX)]
            client.delete(*found)
            client.close()

        assert [] == foreign_keys(found, text), text

    for text in (*NASTY, "{app}:", "a.b_c-1:"):
        attempt(text)

    @fuzz_strings.examples(20)
    @given(texts())
    def any_text(text: str) -> None:
        attempt(text)

    any_text()


def test_an_idempotency_key_of_any_text_is_found_again_and_leaves_nothing(
    flow: TaskFlow, client: Any
) -> None:
    """Or is refused: what can be printed may be a key, and it ends with its task."""
    known = dump(client)

    def attempt(text: str) -> None:
        def store() -> None:
            call = add.options(key=text).call(1)
            first, again = flow.enqueue(call), flow.enqueue(call)
            assert (first.id, False) == (again.id, again.created)
            assert f"add:{text}" == flow.tasks.get(first.id).key
            assert [] == foreign_keys(dump(client), PREFIX)
            flow.queues.pause("primary")
            assert flow.tasks.delete(first.id)

        refused(store)
        left = dump(client)

        assert {key for key in left if "tasks:key:" in key} == {
            key for key in known if "tasks:key:" in key
        }, text

    for text in (*NASTY, "x" * 200, "order 7: ümläut {a} * ?"):
        attempt(text)

    @fuzz_strings.examples(50)
    @given(texts())
    def any_text(text: str) -> None:
        attempt(text)

    any_text()


def test_arguments_by_any_name_are_kept_exactly_or_refused(flow: TaskFlow) -> None:
    """Also those that a script or the codec has a meaning for."""
    taking = registry.get("anything")

    def attempt(text: str) -> None:
        def store() -> None:
            handle = flow.enqueue(taking.call_from_json({text: text}))
            payload = flow.tasks.get(handle.id).payload
            assert {text: text} == taking.arguments.decode(payload)

        refused(store)

    for text in (*NASTY, "ctx", "self", "state", "payload"):
        attempt(text)

    @fuzz_strings.examples(50)
    @given(texts())
    def any_text(text: str) -> None:
        attempt(text)

    any_text()


def test_a_filter_of_any_text_finds_or_does_not_find(flow: TaskFlow) -> None:
    """It is compared, and goes nowhere else."""
    for text in NASTY:
        wanted = TaskFilter(name=text, error=text, lane=text)

        assert () == flow.tasks.list(wanted).items
