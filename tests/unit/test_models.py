"""Pydantic models survive the queue wherever they survive pydantic's own JSON."""

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypedDict, TypeVar

import pytest

pytest.importorskip("pydantic")

from pydantic import (
    AliasChoices,
    AliasGenerator,
    AliasPath,
    Base64Bytes,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Json,
    PrivateAttr,
    RootModel,
    Tag,
    computed_field,
    field_serializer,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel

from taskflow import Registry
from taskflow.errors import ConfigurationError, PayloadError

T = TypeVar("T")


class Color(Enum):
    """A choice."""

    RED = "red"


class Order(BaseModel):
    """Has an alias, which the caller must use."""

    order_id: int = Field(alias="orderId")


class Camel(BaseModel):
    """Has aliases by rule, others to validate than to serialize."""

    model_config = ConfigDict(
        alias_generator=AliasGenerator(to_camel, to_camel, lambda name: f"out_{name}")
    )
    item_count: int


class Choices(BaseModel):
    """Takes its value from several places."""

    name: str = Field(validation_alias=AliasChoices("Name", AliasPath("names", 0)))


class Named(BaseModel):
    """May be made by name as well."""

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)
    first_name: str = Field(alias="firstName")


class Box(BaseModel):
    """Has a computed field, and forbids what it doesn't know."""

    model_config = ConfigDict(extra="forbid")
    w: int

    @computed_field
    def area(self) -> int:
        """Compute it."""
        return self.w * self.w


class Event(BaseModel):
    """Is strict."""

    model_config = ConfigDict(strict=True)
    id: uuid.UUID
    at: datetime
    lasts: timedelta
    price: Decimal
    tags: set[str]
    pair: tuple[int, str]
    color: Color


class Open(BaseModel):
    """Takes whatever it is given."""

    model_config = ConfigDict(extra="allow")
    a: int = 1


class Frozen(BaseModel):
    """Can't be changed."""

    model_config = ConfigDict(frozen=True)
    a: int


class Encoded(BaseModel):
    """Has fields with texts of their own."""

    settings: Json[list[int]]
    blob: Base64Bytes
    raw: bytes


class Turned(BaseModel):
    """Says itself how its field is written and read."""

    when: datetime

    @field_serializer("when")
    def seconds(self, when: datetime) -> float:
        """Write a number."""
        return when.timestamp()


class Cleaned(BaseModel):
    """Changes what it is given."""

    name: str

    @field_validator("name")
    @classmethod
    def strip(cls, name: str) -> str:
        """Leave out spaces."""
        return name.strip()


class Numbers(RootModel[list[int]]):
    """Is a list."""


class Page(BaseModel, Generic[T]):
    """Holds what it is told to."""

    items: list[T]
    following: "Page[T] | None" = None


class Tree(BaseModel):
    """Holds more of its kind."""

    label: str = Field(alias="Label")
    children: list["Tree"] = []


class Cat(BaseModel):
    """Says what it is."""

    kind: Literal["cat"] = Field(default="cat", alias="Kind")
    lives: int


class Dog(BaseModel):
    """Says what it is."""

    kind: Literal["dog"] = Field(default="dog", alias="Kind")
    tricks: int


class Twin(BaseModel):
    """Has the fields of another."""

    a: int = 1


class Holder(BaseModel):
    """Holds a union."""

    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    others: dict[str, Cat | Dog | int] = {}


@dataclass
class Parcel:
    """Holds models, and is none."""

    order: Order
    boxes: list[Box]
    maybe: Camel | None = None


class Cargo(TypedDict):
    """Holds a model by key."""

    order: Order


class Couple(NamedTuple):
    """Holds two models."""

    left: Order
    right: Box


def kind_tag(value: Any) -> str:
    """Say which member of a union *value* is."""
    return "cat" if "lives" in value or isinstance(value, Cat) else "dog"


Pet = Annotated[Cat | Dog, Field(discriminator="kind")]
Tagged = Annotated[
    Annotated[Cat, Tag("cat")] | Annotated[Dog, Tag("dog")], Discriminator(kind_tag)
]

ORDER = Order(orderId=7)
BOX = Box(w=3)
CAT = Cat(lives=9)
EVENT = Event(
    id=uuid.UUID(int=7),
    at=datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
    lasts=timedelta(seconds=1.5),
    price=Decimal("1.10"),
    tags={"a"},
    pair=(1, "x"),
    color=Color.RED,
)

SURVIVES = [
    ("alias", Order, ORDER),
    ("aliases by rule", Camel, Camel(itemCount=2)),
    ("alias choices", Choices, Choices(Name="x")),
    ("by name", Named, Named(first_name="Ann")),
    ("computed", Box, BOX),
    ("strict", Event, EVENT),
    ("extra", Open, Open(a=2, b=[1, {"c": None}])),
    ("frozen", Frozen, Frozen(a=1)),
    ("encoded", Encoded, Encoded(settings="[1]", blob=b"YQ==", raw=b"x")),
    ("serializer", Turned, Turned(when=datetime(2026, 1, 1, tzinfo=UTC))),
    ("validator", Cleaned, Cleaned(name=" x ")),
    ("root", Numbers, Numbers([1, 2])),
    ("generic", Page[Order], Page[Order](items=[ORDER])),
    ("recursive", Tree, Tree(Label="a", children=[Tree(Label="b")])),
    ("large int", Open, Open(a=2**70)),
    ("in a list", list[Order], [ORDER, ORDER]),
    ("in a dict", dict[str, Box], {"a": BOX}),
    ("in a tuple", tuple[Order, Box], (ORDER, BOX)),
    ("optional", Order | None, ORDER),
    ("none", Order | None, None),
    ("in a dataclass", Parcel, Parcel(ORDER, [BOX], Camel(itemCount=1))),
    ("in a TypedDict", Cargo, {"order": ORDER}),
    ("in a NamedTuple", Couple, Couple(ORDER, BOX)),
    ("annotated", Annotated[Order, "mine"], ORDER),
    ("union", Order | Box, BOX),
    ("union with others", Order | int | None, 7),
    ("union with none", Order | Box | None, None),
    ("discriminated", Pet, Dog(tricks=1)),
    ("tagged", Tagged, CAT),
    ("list of unions", list[Cat | Dog], [CAT, Dog(tricks=2)]),
    ("dict of unions", dict[str, Pet | None], {"a": CAT, "b": None}),
    ("model with unions", Holder, Holder(pet=CAT, others={"a": 1, "b": CAT})),
    ("union with a dataclass", Box | Parcel, Parcel(ORDER, [])),
]


@pytest.mark.parametrize(
    ("kind", "value"),
    [each[1:] for each in SURVIVES],
    ids=[each[0] for each in SURVIVES],
)
def test_a_model_comes_back_as_it_was(kind: Any, value: Any) -> None:
    """As an argument, as a result, and beside other arguments."""
    registry = Registry()

    def body(x: Any, others: Any) -> Any: ...

    body.__annotations__ = {"x": kind, "others": list[kind], "return": kind}
    task = registry.task(name="body")(body)
    task.check()
    payload = task.call(value, others=[value]).payload
    arguments = task.arguments.decode(payload)

    assert {"x": value, "others": [value]} == arguments
    assert type(value) is type(arguments["x"])
    assert value == task.result.decode(task.result.encode(value))


LOST = [
    ("twins", Open | Twin, Twin(a=5), "give each model a field such as kind:"),
    ("subclass", Open, type("Sub", (Open,), {})(a=1), "would come back as Open"),
]


@pytest.mark.parametrize(
    ("kind", "value", "told"),
    [each[1:] for each in LOST],
    ids=[each[0] for each in LOST],
)
def test_a_model_that_would_come_back_as_another_is_refused(
    kind: Any, value: Any, told: str
) -> None:
    """Where it is enqueued, with the way out."""

    def body(x: Any) -> None: ...

    body.__annotations__ = {"x": kind}
    task = Registry().task(name="body")(body)
    with pytest.raises(PayloadError, match=told):
        task.call(value)


class Hides(BaseModel):
    """Leaves a field out of its JSON, and keeps another to itself."""

    secret: int = Field(default=0, exclude=True)
    _own: int = PrivateAttr(default=0)


class Unwilling(BaseModel):
    """Takes nothing."""

    a: int

    @model_validator(mode="after")
    def refuse(self) -> "Unwilling":
        """Refuse."""
        message = "not today"
        raise ValueError(message)


def test_what_a_model_leaves_out_is_refused() -> None:
    """Unless it is what it would be anyway."""
    task = Registry().task(name="body")(lambda x: None)
    task.function.__annotations__ = {"x": Hides}
    task.call(Hides())
    own = Hides()
    own._own = 5

    for lost in (Hides(secret=5), own):
        with pytest.raises(PayloadError, match="would come back as"):
            task.call(lost)
    with pytest.raises(PayloadError, match="not today"):
        Registry().task(name="b")(_takes(Unwilling)).call(
            Unwilling.model_construct(a=1)
        )


def _takes(kind: Any) -> Any:
    def body(x: Any) -> None: ...

    body.__annotations__ = {"x": kind}
    return body


@pytest.mark.parametrize("given", [{"orderId": 7}, {"order_id": 7}])
def test_arguments_from_json_take_name_and_alias(given: dict[str, int]) -> None:
    """As the command line and the HTTP API pass them."""
    task = Registry().task(name="body")(_takes(Order))
    call = task.call_from_json({"x": given})

    assert {"x": ORDER} == task.arguments.decode(call.payload)


class Plain:
    """Is nothing that pydantic knows."""


@dataclass
class Kept:
    """Holds a union that msgspec would have to tell apart."""

    pet: Cat | Dog


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (Order | Plain, "pydantic can't decode the union"),
        (Kept, "make the class that holds the union a pydantic model"),
    ],
)
def test_a_union_that_nobody_can_tell_apart_is_refused(kind: Any, told: str) -> None:
    """Where the worker starts, with the way out."""
    task = Registry().task(name="body")(_takes(kind))
    with pytest.raises(ConfigurationError, match=told):
        task.check()
