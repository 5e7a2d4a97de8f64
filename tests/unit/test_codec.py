"""What is stored comes back as it was, or is refused with the place."""

import collections
import enum
import functools
import json
import sys
import timeit
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import (
    Annotated,
    Any,
    Literal,
    NamedTuple,
    NoReturn,
    Optional,
    TypedDict,
)
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskflow._codec import (
    ArgumentsCodec,
    ResultCodec,
    Spec,
    check_size,
    decode_spec,
    encode_spec,
    from_json,
    to_exact_json,
    to_json,
)
from taskflow.errors import ConfigurationError, PayloadError


class Told:
    """Stands for the context."""


class Colour(enum.Enum):
    """Values that are texts."""

    RED = "red"


class Word(enum.StrEnum):
    """Members that are texts."""

    YES = "yes"


class Level(enum.IntEnum):
    """Members that are numbers."""

    HIGH = 3


class Access(enum.Flag):
    """Members that add up."""

    READ = 1
    WRITE = 2


@dataclass
class Point:
    """A record with defaults."""

    x: float
    y: float = 0.0
    tags: list[str] = field(default_factory=list)


@dataclass
class SpacePoint(Point):
    """A record with more than its base."""

    z: float = 0.0


@dataclass(eq=False)
class Loose:
    """Has no ``==`` of its own, and takes anything."""

    value: Any
    rest: dict[str, Any] = field(default_factory=dict)


@dataclass
class Tree:
    """A record of records of its kind."""

    name: str
    children: "list[Tree]" = field(default_factory=list)


@dataclass
class Positive:
    """A record that checks itself."""

    value: int

    def __post_init__(self) -> None:
        if self.value < 0:
            message = "value must be positive"
            raise ValueError(message)


@attrs.frozen
class Size:
    """An attrs record."""

    width: int
    height: int | None = None


class Page(msgspec.Struct):
    """A struct."""

    number: int
    words: list[str] = []


class Options(TypedDict, total=False):
    """A dict with declared keys."""

    depth: int
    when: datetime


class Pair(NamedTuple):
    """A tuple with names."""

    left: int
    right: str


class Model:
    """Quacks like a pydantic model."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Model) and other.name == self.name

    __hash__ = None  # type: ignore[assignment]

    def model_dump(self, *, mode: str, **_: bool) -> dict[str, str]:
        """Turn into what JSON has."""
        if mode != "json" or self.name == "unwilling":
            message = "cannot be dumped"
            raise RuntimeError(message)
        return {"name": self.name}

    @classmethod
    def model_validate_json(cls, text: bytes, **_: bool) -> "Model":
        """Make one of what JSON had."""
        value = json.loads(text)
        if not value["name"]:
            message = "name is empty"
            raise ValueError(message)
        return cls(**value)


def codec_of(function: Callable[..., Any]) -> ArgumentsCodec:
    """Make the codec of *function* as a task called ``job``."""
    return ArgumentsCodec(function, "job", Told)


def taking(kind: Any) -> ArgumentsCodec:
    """Make the codec of a function with one parameter ``x`` of *kind*."""

    def body(x: Any) -> None:
        """Do nothing."""

    body.__annotations__ = {"x": kind}
    return codec_of(body)


def refusal(codec: ArgumentsCodec, *args: Any, **kwargs: Any) -> tuple[str, str]:
    """Return what was wrong with the arguments, and where."""
    with pytest.raises(PayloadError) as caught:
        codec.encode(args, kwargs)
    assert caught.value.task == "job"
    return caught.value.message, caught.value.path


BERLIN = ZoneInfo("Europe/Berlin")
TWICE = datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN)

KEPT: list[tuple[str, Any, Any]] = [
    ("none", None, None),
    ("true", bool, True),
    ("int", int, -3),
    ("int-of-64-bits", int, 2**63 - 1),
    ("int-beyond-64-bits", int, 2**64 + 7),
    ("int-beyond-64-bits-below-zero", Any, -(2**80) - 1),
    ("int-for-float", float, 3),
    ("float", float, 0.1 + 0.2),
    ("float-smallest", Any, 5e-324),
    ("text", str, 'a\0\n"\\ \u2028 🦉'),
    ("text-enum-for-text", str, Word.YES),
    ("int-enum-for-int", int, Level.HIGH),
    ("bytes", bytes, b"\xff\x00"),
    ("datetime-aware", datetime, datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)),
    ("datetime-naive", datetime, datetime(2026, 1, 2)),  # noqa: DTZ001
    ("datetime-in-a-zone", datetime, datetime(2026, 7, 1, 12, tzinfo=BERLIN)),
    ("datetime-of-an-hour-twice", datetime, TWICE),
    ("datetime-of-an-hour-twice-later", datetime, TWICE.replace(fold=1)),
    ("date", date, date(2026, 1, 2)),
    ("time", time, time(3, 4, 5, 6)),
    ("timedelta", timedelta, timedelta(days=-3, microseconds=1)),
    ("uuid", UUID, UUID(int=7)),
    ("decimal", Decimal, Decimal("1.10")),
    ("enum", Colour, Colour.RED),
    ("enum-of-text", Word, Word.YES),
    ("enum-of-ints", Level, Level.HIGH),
    ("flag", Access, Access.READ | Access.WRITE),
    ("literal", Literal["a", 3], 3),
    ("list", list[int], [1, 2]),
    ("list-of-int-for-float", list[float], [1, 2.5]),
    ("sequence", Sequence[str], ["a"]),
    ("tuple", tuple[int, str], (1, "a")),
    ("tuple-of-any-length", tuple[int, ...], (1, 2, 3)),
    ("set", set[int], {1, 2}),
    ("frozenset", frozenset[str], frozenset({"a"})),
    ("dict", dict[str, int], {"a": 1}),
    ("dict-by-int", dict[int, str], {1: "a"}),
    ("dict-by-uuid", dict[UUID, int], {UUID(int=1): 1}),
    ("dict-by-text-enum", dict[str, int], {Word.YES: 1}),
    ("dict-subclass-for-dict", dict[str, int], collections.OrderedDict(a=1)),
    ("union", int | str | None, "a"),
    ("optional", Optional[int], None),  # noqa: UP045 - the old spelling too
    ("annotated", Annotated[int, "pages"], 3),
    ("dataclass", Point, Point(1.5, tags=["a"])),
    ("dataclass-without-eq", Loose, Loose([1, {"a": None}])),
    ("dataclass-recursive", Tree, Tree("a", [Tree("b", [Tree("c")])])),
    ("attrs", Size, Size(3)),
    ("struct", Page, Page(1, ["a"])),
    ("typed-dict", Options, {"when": datetime(2026, 1, 2, tzinfo=UTC)}),
    ("named-tuple", Pair, Pair(1, "a")),
    ("model", Model, Model("a")),
    ("models", list[Model], [Model("a"), Model("b")]),
    ("any", Any, {"a": [1, 1.5, None, True, "x", {"b": []}]}),
    ("object", object, [1]),
    ("any-of-200-levels", Any, functools.reduce(lambda x, _: [x], range(199), [])),
]


@pytest.mark.parametrize(
    ("kind", "value"), [case[1:] for case in KEPT], ids=[case[0] for case in KEPT]
)
def test_an_argument_comes_back_as_it_was(kind: Any, value: Any) -> None:
    """Equal, and of the annotated type, after the way through JSON."""
    codec = taking(kind)
    payload = codec.encode((value,), {})
    restored = codec.decode(payload)["x"]

    if kind is datetime:
        assert value.utcoffset() == restored.utcoffset()
        assert value.replace(tzinfo=None) == restored.replace(tzinfo=None)
    elif isinstance(value, Loose):
        assert vars(value) == vars(restored)
    else:
        assert value == restored
    assert json.loads(payload).keys() == {"x"}


NAIVE_TWICE = datetime(2024, 10, 27, 2, 30, fold=1)  # noqa: DTZ001

REFUSED: list[tuple[str, Any, Any, str, str]] = [
    ("text-for-int", int, "3", "Expected int, got str", "$.x"),
    ("true-for-int", int, True, "Expected int, got bool", "$.x"),
    ("one-for-bool", bool, 1, "Expected bool, got int", "$.x"),
    ("float-for-int", int, 3.0, "Expected int, got float", "$.x"),
    ("none-for-int", int, None, "Expected int, got null", "$.x"),
    ("inside-a-list", list[int], [1, "2"], "Expected int, got str", "$.x[1]"),
    ("inside-a-class", Point, Point("1"), "Expected float, got str", "$.x.x"),  # type: ignore[arg-type]
    (
        "inside-a-dict",
        dict[str, list[int]],
        {"a": ["b"]},
        "Expected int, got str",
        "$.x[...][0]",
    ),
    (
        "int-that-no-float-can-hold",
        float,
        2**60 + 1,
        "would come back as float 1.152921504606847e+18, was int 1152921504606846977",
        "$.x",
    ),
    ("nan", float, float("nan"), "nan cannot be stored as JSON", "$.x"),
    ("nan-for-any", Any, [1, float("nan")], "nan cannot be stored as JSON", "$.x[1]"),
    (
        "infinity-that-null-would-fit",
        dict[str, float | None],
        {"a b": float("-inf")},
        "-inf cannot be stored as JSON",
        "$.x['a b']",
    ),
    (
        "nan-in-a-class",
        Point,
        Point(1, float("nan")),
        "nan cannot be stored as JSON",
        "$.x.y",
    ),
    (
        "nan-of-decimals",
        Decimal,
        Decimal("NaN"),
        "Decimal('NaN') cannot be stored as JSON",
        "$.x",
    ),
    (
        "surrogate",
        str,
        "a\ud800",
        "text with a lone surrogate, which UTF-8 has not",
        "$.x",
    ),
    (
        "surrogate-inside",
        Any,
        {"a": ["b", {"c": "\udfff"}]},
        "text with a lone surrogate, which UTF-8 has not",
        "$.x.a[1].c",
    ),
    (
        "surrogate-key",
        Any,
        {"a": {"\udfff": 1}},
        "text with a lone surrogate, which UTF-8 has not",
        "$.x.a",
    ),
    (
        "tuple-for-any",
        Any,
        {"a": (1, 2)},
        "would come back as list [1, 2], was tuple (1, 2)",
        "$.x.a",
    ),
    (
        "tuple-for-list",
        list[int],
        (1, 2),
        "would come back as list [1, 2], was tuple (1, 2)",
        "$.x",
    ),
    ("set-for-any", Any, {1}, "would come back as list [1], was set {1}", "$.x"),
    (
        "float-in-a-set-of-any",
        set[Any],
        {Word.YES},
        "would come back as str 'yes', was Word <Word.YES: 'yes'>",
        "$.x",
    ),
    (
        "elements-that-fall-together",
        set[str | int | bool],
        {b"a", "YQ=="},
        "would come back as set {'YQ=='}, was set",
        "$.x",
    ),
    (
        "int-key-for-any",
        Any,
        [{1: "a"}],
        "the key would come back as str '1', was int 1",
        "$.x[0]",
    ),
    (
        "keys-that-fall-together",
        Any,
        {1: "a", "1": "b"},
        "the key would come back as str '1', was int 1",
        "$.x",
    ),
    (
        "text-enum-key-for-any",
        dict[str, Any],
        {Word.YES: 1},
        "the key would come back as str 'yes', was Word <Word.YES: 'yes'>",
        "$.x",
    ),
    (
        "text-enum-for-any",
        Any,
        Word.YES,
        "would come back as str 'yes', was Word <Word.YES: 'yes'>",
        "$.x",
    ),
    (
        "int-enum-for-any",
        list[Any],
        [Level.HIGH],
        "would come back as int 3, was Level <Level.HIGH: 3>",
        "$.x[0]",
    ),
    (
        "dict-subclass-for-any",
        Any,
        collections.Counter("a"),
        "would come back as dict {'a': 1}, was Counter Counter({'a': 1})",
        "$.x",
    ),
    (
        "datetime-for-any",
        Any,
        {"at": date(2026, 1, 2)},
        "would come back as str '2026-01-02', was date datetime.date(2026, 1, 2)",
        "$.x.at",
    ),
    (
        "bytes-for-any",
        Any,
        b"x",
        "would come back as str 'eA==', was bytes b'x'",
        "$.x",
    ),
    (
        "uuid-for-text",
        str,
        UUID(int=7),
        (
            "would come back as str '00000000-0000-0000-0000-000000000007', was UUID "
            "UUID('00000000-0000-0000-0000-000000000007')"
        ),
        "$.x",
    ),
    (
        "naive-hour-that-is-twice",
        datetime,
        NAIVE_TWICE,
        (
            "would come back as datetime datetime.datetime(2024, 10, 27, 2, 30), was "
            "datetime datetime.datetime(2024, 10, 27, 2, 30, fold=1)"
        ),
        "$.x",
    ),
    (
        "subclass-with-more-fields",
        Point,
        SpacePoint(1, z=2),
        (
            "would come back as Point Point(x=1.0, y=0.0, tags=[]), was SpacePoint "
            "SpacePoint(x=1, y=0.0, tags=[], z=2)"
        ),
        "$.x",
    ),
    (
        "tuple-in-a-field",
        Loose,
        Loose(1, {"a": (1,)}),
        "would come back as list [1], was tuple (1,)",
        "$.x.rest.a",
    ),
    (
        "key-a-typed-dict-has-not",
        Options,
        {"depth": 1, "width": 2},
        "the key str 'width' would be lost",
        "$.x",
    ),
    (
        "deque",
        Sequence[Any],
        collections.deque([1]),
        "deque cannot be stored as JSON",
        "$.x",
    ),
    ("literal-of-others", Literal["a"], "b", "Invalid enum value 'b'", "$.x"),
    ("refused-by-the-class", Positive, None, "Expected object, got null", "$.x"),
    (
        "foreign-class",
        Any,
        {"a": [Told]},
        (
            "type cannot be stored as JSON; pass what JSON has, or annotate a type that "
            "can be restored"
        ),
        "$.x.a[0]",
    ),
    ("model-that-fails-to-dump", Model, Model("unwilling"), "cannot be dumped", "$.x"),
    ("model-that-fails-to-load", Model, Model(""), "name is empty", "$.x"),
    (
        "201-levels",
        Any,
        functools.reduce(lambda x, _: [x], range(200), []),
        "nested more than 200 levels deep",
        "$.x" + "[0]" * 65 + "[0...",
    ),
    (
        "100000-levels",
        Any,
        functools.reduce(lambda x, _: [x], range(100_000), []),
        "nested too deeply, or part of itself",
        "$",
    ),
]


@pytest.mark.parametrize(
    ("kind", "value", "message", "path"),
    [case[1:] for case in REFUSED],
    ids=[case[0] for case in REFUSED],
)
def test_an_argument_that_would_not_come_back_is_refused_with_its_place(
    kind: Any, value: Any, message: str, path: str
) -> None:
    """Nothing passes silently; the message shows both values and their types."""
    told, place = refusal(taking(kind), value)

    assert message == told[: len(message)]
    assert path == place


def test_a_value_that_is_part_of_itself_is_refused() -> None:
    """It has no end, and JSON needs one."""
    ring: list[Any] = []
    ring.append(ring)

    assert ("nested too deeply, or part of itself", "$") == refusal(taking(Any), ring)


def test_deep_trees_of_a_class_are_refused_as_deep_lists_are() -> None:
    """Recursion through fields is counted as well."""
    tree = functools.reduce(lambda below, _: Tree("", [below]), range(150), Tree(""))
    message, _ = refusal(taking(Tree), tree)

    assert "nested more than 200 levels deep" == message


def test_a_value_that_cannot_be_compared_is_refused() -> None:
    """An ``==`` that raises proves nothing."""

    class Moody(Model):
        def __eq__(self, other: object) -> bool:
            message = "not today"
            raise RuntimeError(message)

        __hash__ = None  # type: ignore[assignment]

    message, path = refusal(taking(Moody), Moody("a"))

    assert message.endswith("cannot be compared with what comes back: not today")
    assert "$.x" == path


def test_a_value_without_repr_is_refused_all_the_same() -> None:
    """The message does without."""

    class Silent(enum.StrEnum):
        A = "a"

        def __repr__(self) -> str:
            message = "no"
            raise RuntimeError(message)

    assert ("would come back as str 'a', was Silent <no repr>", "$.x[0]") == refusal(
        taking(Any), [Silent.A]
    )


class Watched:
    """Fails as a class of a host may, in whatever way."""

    def model_dump(self, *, mode: str, **_: bool) -> dict[str, str]:
        """Turn into what JSON has."""
        return {"mode": mode}

    @classmethod
    def model_validate_json(cls, text: bytes, **_: bool) -> "Watched":
        """Fail in a way of its own."""
        message = f"no database for {json.loads(text)}"
        raise LookupError(message)


def test_a_class_that_fails_to_restore_is_a_payload_error_of_any_kind() -> None:
    """The worker knows what to do with one; with a stranger it would not."""
    message, path = refusal(taking(Watched), Watched())

    assert "LookupError: no database for {'mode': 'json'}" == message
    assert "$" == path


def test_a_value_is_refused_when_the_stack_ends_before_it_does() -> None:
    """Even by a caller who is deep in recursion already."""
    codec = taking(Any)
    value: Any = functools.reduce(lambda x, _: [x], range(150), [])
    codec.encode(([],), {})

    def deeper(levels: int) -> None:
        if levels:
            deeper(levels - 1)
        else:
            codec.encode((value,), {})

    outcomes = set()
    for levels in range(sys.getrecursionlimit() - 500, sys.getrecursionlimit(), 5):
        try:
            deeper(levels)
            outcomes.add("kept")
        except PayloadError as error:
            outcomes.add(error.message.partition(",")[0])
        except RecursionError:
            outcomes.add("the caller's own")

    assert {"kept", "nested too deeply"} <= outcomes


def test_what_a_class_checks_is_checked_when_it_is_restored() -> None:
    """A stored value that the class of today refuses does not reach the body."""
    with pytest.raises(PayloadError, match=r"value must be positive - at \$\.x"):
        taking(Positive).decode(b'{"x":{"value":-1}}')


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None)
@given(value=JSON_VALUES)
def test_whatever_json_has_is_kept_exactly(value: Any) -> None:
    """Types included: 1 stays an int, 1.0 a float, True a bool."""
    codec = taking(Any)
    restored = codec.decode(codec.encode((value,), {}))["x"]

    assert repr(value) == repr(restored)


@settings(max_examples=200, deadline=None)
@given(
    value=st.recursive(
        JSON_VALUES | st.binary() | st.dates() | st.floats() | st.decimals(),
        lambda inner: (
            st.tuples(inner, inner)
            | st.lists(inner, max_size=3)
            | st.dictionaries(st.integers() | st.text(), inner, max_size=3)
        ),
        max_leaves=10,
    )
)
def test_anything_else_is_kept_exactly_or_refused(value: Any) -> None:
    """There is no third way."""
    codec = taking(Any)
    try:
        payload = codec.encode((value,), {})
    except PayloadError:
        return

    assert repr(value) == repr(codec.decode(payload)["x"])


# --- binding -----------------------------------------------------------------


def test_arguments_are_stored_by_name_and_defaults_are_not() -> None:
    """A default that changes tomorrow applies to what waits today."""

    def body(x: int, y: int = 2, *, z: str = "z") -> None:
        """Do nothing."""

    codec = codec_of(body)
    payloads = [
        codec.encode((1,), {}),
        codec.encode((), {"x": 1, "z": "q"}),
        codec.encode((1, 2), {}),
    ]

    assert [b'{"x":1}', b'{"x":1,"z":"q"}', b'{"x":1,"y":2}'] == payloads
    assert [{"x": 1}, {"x": 1, "z": "q"}, {"x": 1, "y": 2}] == [
        codec.decode(payload) for payload in payloads
    ]


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        pytest.param((), {}, "missing a required argument: 'x'", id="missing"),
        pytest.param((1, 2, 3), {}, "too many positional arguments", id="too-many"),
        pytest.param((1,), {"x": 1}, "multiple values for argument 'x'", id="twice"),
        pytest.param(
            (1,), {"w": 1}, "got an unexpected keyword argument 'w'", id="unknown"
        ),
    ],
)
def test_a_call_that_python_would_refuse_is_refused_in_its_words(
    args: tuple[int, ...], kwargs: dict[str, int], message: str
) -> None:
    """At the call, not later in a worker."""

    def body(x: int, y: int = 2) -> None:
        """Do nothing."""

    assert (message, "$") == refusal(codec_of(body), *args, **kwargs)


def test_names_that_are_not_declared_are_taken_where_the_function_takes_them() -> None:
    """``**kwargs`` are checked against their annotation, each with its place."""

    def body(x: int, **more: int) -> None:
        """Do nothing."""

    codec = codec_of(body)
    payload = codec.encode((1,), {"a": 2})

    assert {"x": 1, "a": 2} == codec.decode(payload)
    assert ("Expected int, got str", "$.a") == refusal(codec, 1, a="2")


def test_keyword_arguments_of_any_type_are_compared_exactly() -> None:
    """A tuple among them is no exception."""

    def body(**more: Any) -> None:
        """Do nothing."""

    assert ("would come back as list [1], was tuple (1,)", "$.a") == refusal(
        codec_of(body), a=(1,)
    )


def test_the_context_is_no_argument() -> None:
    """It may stand anywhere, may be optional, and is never stored."""

    def first(told: Told, x: int) -> None:
        """Do nothing."""

    def last(x: int, told: "Told | None" = None) -> None:
        """Do nothing."""

    def marked(x: int, *, told: Annotated[Told, "the task"]) -> None:
        """Do nothing."""

    def none(x: int) -> None:
        """Do nothing."""

    codecs = [codec_of(each) for each in (first, last, marked, none)]

    assert ["told", "told", "told", None] == [
        codec.context_parameter for codec in codecs
    ]
    assert [("x",)] * 4 == [codec.positional for codec in codecs]
    assert [b'{"x":1}'] * 4 == [codec.encode((1,), {}) for codec in codecs]
    assert "unexpected keyword argument 'told'" in refusal(codecs[0], 1, told=None)[0]


def test_the_context_cannot_be_smuggled_in_by_name() -> None:
    """A function that takes any name still gets the worker's context."""

    def body(told: Told, **more: Any) -> None:
        """Do nothing."""

    with pytest.raises(PayloadError, match="'told' is filled in by the worker"):
        codec_of(body).decode(b'{"told":1}')


def test_two_contexts_are_one_too_many() -> None:
    """It is not guessed which was meant."""

    def body(a: Told, b: Told) -> None:
        """Do nothing."""

    with pytest.raises(ConfigurationError, match=r"one context .* \['a', 'b'\]"):
        codec_of(body).check()


def test_calls_that_mean_the_same_have_one_canonical_text() -> None:
    """However the keywords, a dict or a set happened to be ordered."""

    def body(x: float, y: dict[str, int], z: set[str]) -> None:
        """Do nothing."""

    codec = codec_of(body)
    payloads = [
        codec.encode((1, {"a": 1, "b": 2}, {"p", "q"}), {}),
        codec.encode((), {"z": {"q", "p"}, "y": {"b": 2, "a": 1}, "x": 1.0}),
        b'{"z":["q","p"],"x":1,"y":{"b":2,"a":1}}',
        b'{"z":["p","q"],"x":1,"y":{"b":2,"a":1}}',
    ]
    other = codec.encode((1, {"a": 1, "b": 2}, {"p"}), {})
    canonical = {codec.canonical(payload) for payload in payloads}

    assert {b'{"x":1.0,"y":{"a":1,"b":2},"z":["p","q"]}'} == canonical
    assert codec.canonical(other) not in canonical


# --- annotations -------------------------------------------------------------


def test_annotations_are_resolved_when_first_needed() -> None:
    """A function may name a class that is defined below it."""

    def body(x: "Later") -> "list[Later]":  # noqa: F821
        """Do nothing."""
        return [x]

    codec, result = codec_of(body), ResultCodec(body, "job")
    globals()["Later"] = Size
    try:
        payload = codec.encode((Size(1, 2),), {})
        returned = result.encode([Size(3)])
    finally:
        del globals()["Later"]

    assert {"x": Size(1, 2)} == codec.decode(payload)
    assert [Size(3)] == result.decode(returned)


def varying(*args: int) -> None:
    """Take as many as given."""


def placed(x: int, /) -> None:
    """Take by place only."""


def unresolvable(x: "Nowhere") -> "Nowhere":  # type: ignore[name-defined]  # noqa: F821
    """Name what is not there."""


def unsupported(x: list[complex]) -> complex:
    """Take and give what JSON has not."""
    return x[0]


def ambiguous(x: date | str) -> None:
    """Take two types that are one in JSON."""


def lazy(x: Iterable[int]) -> Iterable[int]:
    """Take what can be read once."""
    return x


@pytest.mark.parametrize(
    ("function", "message"),
    [
        pytest.param(
            varying,
            "task 'job', parameter 'args': arguments are stored by name, so *args "
            "cannot be; take a list, or let the decorator below @task use "
            "functools.wraps",
            id="varying",
        ),
        pytest.param(
            placed,
            "task 'job', parameter 'x': arguments are stored by name, so '/' must go",
            id="placed",
        ),
        pytest.param(
            unresolvable,
            "task 'job', parameter 'x': its annotation 'Nowhere' cannot be resolved: "
            "name 'Nowhere' is not defined",
            id="unresolvable",
        ),
        pytest.param(
            unsupported,
            "task 'job', parameter 'x': complex cannot be stored as JSON; use what "
            "JSON has, Any, a dataclass, an attrs class, a TypedDict or a pydantic "
            "model",
            id="unsupported",
        ),
        pytest.param(
            ambiguous,
            "task 'job', parameter 'x': Type unions may not contain more than one "
            "str-like type",
            id="ambiguous",
        ),
        pytest.param(
            lazy,
            "task 'job', parameter 'x': Iterable cannot be stored as JSON",
            id="lazy",
        ),
    ],
)
def test_an_annotation_that_cannot_be_supported_is_refused_before_any_call(
    function: Callable[..., Any], message: str
) -> None:
    """It says which parameter, and what is wrong with it."""
    with pytest.raises(ConfigurationError) as caught:
        codec_of(function).check()

    assert message == str(caught.value)[: len(message)]


@pytest.mark.parametrize("function", [unresolvable, unsupported, lazy])
def test_a_return_annotation_that_cannot_be_supported_is_refused_too(
    function: Callable[..., Any],
) -> None:
    """Before a body has run in vain."""
    with pytest.raises(ConfigurationError, match="task 'job', result: "):
        ResultCodec(function, "job").check()


def test_wrapped_and_partial_functions_are_seen_through() -> None:
    """The annotations of the body count, in its own module's words."""

    def body(x: "Size", y: "int", z: int = 0) -> "Size":
        """Do nothing."""
        return x

    @functools.wraps(body)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return body(*args, **kwargs)

    part = functools.partial(functools.partial(wrapper, y=3), z=1)

    assert {"x": {"width": 1, "height": None}, "y": 2} == from_json(
        codec_of(wrapper).encode((Size(1), 2), {})
    )
    assert {"x": Size(1)} == codec_of(part).decode(b'{"x":{"width":1}}')
    assert {"width": 1, "height": None} == from_json(
        ResultCodec(part, "job").encode(Size(1))
    )


# --- payloads that come from elsewhere -----------------------------------------


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        pytest.param(b"", "task 'job': not JSON: Input data was truncated", id="empty"),
        pytest.param(b'{"x":', "task 'job': not JSON: ", id="half"),
        pytest.param(b'{"x":1}x', "task 'job': not JSON: ", id="trailing"),
        pytest.param(b'{"x":"\xff"}', "task 'job': not JSON: ", id="not-utf-8"),
        pytest.param(b"[1]", "task 'job': Expected object, got array", id="list"),
        pytest.param(b"{}", "task 'job': Object missing required field x", id="none"),
        pytest.param(
            b'{"x":1,"w":2}', "task 'job': Object contains unknown field w", id="more"
        ),
        pytest.param(
            b'{"x":' + b"[" * 100_000, "task 'job': nested too deeply", id="deep"
        ),
    ],
)
def test_a_corrupt_payload_is_refused_by_the_worker(
    payload: bytes, message: str
) -> None:
    """Whatever stands in the record, the answer is a clear error."""
    kind = Any if b"[[" in payload or b"\xff" in payload else int
    with pytest.raises(PayloadError) as caught:
        taking(kind).decode(payload)

    assert message == str(caught.value)[: len(message)]


def test_arguments_as_json_has_them_are_taken_for_the_types_they_mean() -> None:
    """What arrives by HTTP or is edited in a dead letter is checked as strictly."""
    codec = taking(datetime)
    payload = codec.from_jsonable({"x": "2026-01-02T00:00:00Z"})

    assert {"x": datetime(2026, 1, 2, tzinfo=UTC)} == codec.decode(payload)
    for wrong in ({"x": 3}, {"x": "soon"}, {"y": 1}, {"x": float("nan")}):
        with pytest.raises(PayloadError, match="task 'job': "):
            codec.from_jsonable(wrong)


# --- results -----------------------------------------------------------------


def returning(kind: Any) -> ResultCodec:
    """Make the codec of a function that returns *kind*."""

    def body() -> Any:
        """Do nothing."""

    body.__annotations__ = {"return": kind}
    return ResultCodec(body, "job")


@pytest.mark.parametrize(
    ("kind", "value"), [case[1:] for case in KEPT], ids=[case[0] for case in KEPT]
)
def test_a_result_comes_back_as_it_was(kind: Any, value: Any) -> None:
    """The caller of ``result`` gets what the body returned."""
    codec = returning(kind)
    restored = codec.decode(codec.encode(value))

    assert codec.encode(value) == codec.encode(restored) or value == restored


def test_a_function_without_annotation_may_return_what_json_has() -> None:
    """Any of it, and nothing else."""

    def body():  # type: ignore[no-untyped-def]
        """Do nothing."""

    codec = ResultCodec(body, "job")

    assert (b"null", b'{"a":[1]}') == (codec.encode(None), codec.encode({"a": [1]}))
    with pytest.raises(PayloadError, match=r"task 'job': result: .* was tuple"):
        codec.encode((1,))


def test_a_function_that_never_returns_may_still_be_stored() -> None:
    """It ends by an exception or a signal; there is nothing to check."""
    assert b"null" == returning(NoReturn).encode(None)


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        pytest.param(
            int, None, "task 'job': result: Expected int, got null - at $", id="none"
        ),
        pytest.param(
            None, 3, "task 'job': result: Expected null, got int - at $", id="not-none"
        ),
        pytest.param(
            list[float],
            [1.0, float("inf")],
            "task 'job': result: inf cannot be stored as JSON - at $[1]",
            id="infinity",
        ),
        pytest.param(
            dict[str, int],
            {"a": "b"},
            "task 'job': result: Expected int, got str - at $[...]",
            id="inside",
        ),
    ],
)
def test_a_result_of_another_type_than_annotated_is_refused(
    kind: Any, value: Any, message: str
) -> None:
    """Here, and not in whoever waits for it."""
    with pytest.raises(PayloadError) as caught:
        returning(kind).encode(value)

    assert message == str(caught.value)


def test_a_stored_result_that_no_longer_fits_is_refused_when_it_is_read() -> None:
    """The annotation may have changed since."""
    with pytest.raises(PayloadError, match="task 'job': result: Expected int, got str"):
        returning(int).decode(b'"a"')


def test_a_result_that_is_part_of_itself_is_refused() -> None:
    """As an argument is."""
    ring: dict[str, Any] = {}
    ring["ring"] = ring

    with pytest.raises(PayloadError, match="nested too deeply, or part of itself"):
        returning(Any).encode(ring)


# --- the rest ----------------------------------------------------------------


def test_what_is_too_large_is_refused_with_both_sizes() -> None:
    """A limit that is reached exactly is kept."""
    check_size(b"12345", 5, "job")

    with pytest.raises(
        PayloadError, match="task 'job': 6 bytes of JSON, at most 5 are stored"
    ):
        check_size(b"123456", 5, "job")


def test_internal_values_survive_json() -> None:
    """What we write ourselves we can read, and foreign text is refused."""
    assert {"a": [1]} == from_json(to_json({"a": [1]}))
    assert "é" == from_json('"é"')
    with pytest.raises(PayloadError, match="not JSON"):
        from_json(b"{")


def test_exact_json_is_what_json_has_and_nothing_else() -> None:
    """The place is told from where the value stands."""
    assert b'{"a":[1,null]}' == to_exact_json({"a": [1, None]})
    for wrong, path in (
        ({"a": (1,)}, "$.facts.a"),
        ({"a": float("nan")}, "$.facts.a"),
        ({1: 2}, "$.facts"),
    ):
        with pytest.raises(PayloadError) as caught:
            to_exact_json(wrong, "$.facts")
        assert path == caught.value.path


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(Spec(name="mail.send"), id="plain"),
        pytest.param(Spec(name="é" * 128, max_retries=0, timeout=1.5), id="chosen"),
    ],
)
def test_a_spec_is_packed_and_unpacked(spec: Spec) -> None:
    """It is small, and nothing of it is lost."""
    assert spec == decode_spec(encode_spec(spec))


def test_a_spec_of_a_later_version_is_read_as_far_as_it_is_known() -> None:
    """During a rolling deploy, old workers read what new clients stored."""
    packed = b'[2,"mail.send",5,null,null,"new",{"newer":1}]'

    assert Spec(version=2, name="mail.send", max_retries=5) == decode_spec(packed)


@pytest.mark.parametrize(
    "data",
    [b"", b"[", b"[]", b"[1]", b'{"name":"a"}', b"[1,2]", b"\xff", b'["1","a"]'],
)
def test_a_spec_that_cannot_be_read_is_an_error_of_its_own(data: bytes) -> None:
    """A corrupt record is recognised."""
    with pytest.raises(PayloadError, match="the record's spec cannot be read: "):
        decode_spec(data)


def test_the_hot_path_inspects_nothing() -> None:
    """After the first call, no annotation is looked at again."""

    def body(x: int, y: int) -> int:
        """Do nothing."""
        return x + y

    codec, result = codec_of(body), ResultCodec(body, "job")
    payload = codec.encode((1, 2), {})
    result.encode(3)
    body.__annotations__ = {"x": "Nowhere", "y": "Nowhere", "return": "Nowhere"}
    del body.__annotations__

    assert payload == codec.encode((1, 2), {})
    assert {"x": 1, "y": 2} == codec.decode(payload)
    assert b"3" == result.encode(3)


@pytest.mark.skipif(sys.gettrace() is not None, reason="a tracer multiplies the time")
def test_a_small_payload_costs_a_few_microseconds() -> None:
    """Far from the budget of 40 us for a whole task; ten times what was measured."""

    def body(x: int, y: int) -> int:
        """Do nothing."""
        return x + y

    codec, result = codec_of(body), ResultCodec(body, "job")
    payload = codec.encode((1, 2), {})

    def trip() -> None:
        codec.encode((1, 2), {})
        codec.decode(payload)
        result.encode(3)

    best = min(timeit.repeat(trip, number=2_000, repeat=5)) / 2_000

    assert best < 20e-6
