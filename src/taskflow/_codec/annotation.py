"""What a function's annotations mean, and whether JSON can carry it."""

import inspect
import typing
from collections.abc import Callable, Iterator
from functools import partial
from types import NoneType, SimpleNamespace, UnionType
from typing import Annotated, Any, Union

import msgspec

from taskflow._codec.models import adapted, is_model
from taskflow._codec.text import make_decoder
from taskflow.errors import ConfigurationError

_HINT = (
    "use what JSON has, Any, a dataclass, an attrs class, a TypedDict or a pydantic "
    "model"
)

_UNION_HINT = (
    "make the class that holds the union a pydantic model, which can tell its members "
    "apart, or give them a tag (dataclasses: msgspec.Struct with tag=True)"
)


def unwrap(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the innermost function: below decorators, partials and methods."""
    for layer in layers(function):
        function = layer
    return function


def layers(function: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """Yield *function*, then what it wraps, down to the body.

    Yields:
        At least *function*.
    """
    seen: set[int] = set()
    layer: Any = function
    while layer is not None and id(layer) not in seen:
        seen.add(id(layer))
        yield layer
        if isinstance(layer, partial):
            layer = layer.func  # pyright: ignore[reportUnknownMemberType]
        else:
            layer = getattr(layer, "__wrapped__", getattr(layer, "__func__", None))


def resolve(annotation: Any, function: Callable[..., Any]) -> Any:
    """Turn an annotation into a type, one that is text included.

    Args:
        annotation: As it stands in the signature.
        function: Where it stands; its module knows the names.

    Returns:
        The type; Any when there is no annotation.
    """
    if annotation is inspect.Parameter.empty:
        return Any
    holder = SimpleNamespace(__annotations__={"it": annotation})
    names = getattr(unwrap(function), "__globals__", {})
    kind = typing.get_type_hints(holder, names, include_extras=True)["it"]
    return Any if kind is object else kind


def is_for(kind: Any, wanted: type) -> bool:
    """Whether *kind* is *wanted*, or ``wanted | None``, or annotates it."""
    if typing.get_origin(kind) is Annotated:
        kind = typing.get_args(kind)[0]
    if typing.get_origin(kind) in {Union, UnionType}:
        return set(typing.get_args(kind)) == {wanted, NoneType}
    return kind is wanted


def resolve_or_refuse(annotation: Any, function: Callable[..., Any], what: str) -> Any:
    """Resolve an annotation; see `resolve`.

    Returns:
        The type, with what decodes unions of pydantic models in place of them.

    Raises:
        ConfigurationError: It names what the module does not have, or pydantic can't
            decode a union.
    """
    try:
        kind = resolve(annotation, function)
    except Exception as error:
        message = f"{what}: its annotation {annotation!r} cannot be resolved: {error}"
        raise ConfigurationError(message) from error
    try:
        return adapted(kind)
    except ConfigurationError as error:
        message = f"{what}: {error}"
        raise ConfigurationError(message) from error


def leaves_open(kind: Any, what: str) -> bool:
    """Whether *kind* leaves some type open, as ``Any`` and ``list[Any]`` do.

    Args:
        kind: A resolved annotation.
        what: Whose, for the message.

    Returns:
        True when values of one JSON type may have been of several types.

    Raises:
        ConfigurationError: It holds a class that nothing can restore.
    """
    try:
        known = msgspec.inspect.type_info(kind)
        make_decoder(kind)
    except Exception as error:
        message = f"{what}: {error}".replace("`", "")
        if "may not contain more than one" in message:
            message += f"; {_UNION_HINT}"
        raise ConfigurationError(message) from error
    found = list(_walk(known, set()))
    for each in found:
        if isinstance(each, msgspec.inspect.CustomType) and not is_model(each.cls):
            message = f"{what}: {each.cls.__name__} cannot be stored as JSON; {_HINT}"
            raise ConfigurationError(message)
    return any(isinstance(each, msgspec.inspect.AnyType) for each in found)


def _walk(known: Any, seen: set[int]) -> Iterator[msgspec.inspect.Type]:
    if id(known) in seen:
        return
    seen.add(id(known))
    if isinstance(known, msgspec.inspect.Type):
        yield known
    elif not isinstance(known, msgspec.inspect.Field):
        return
    for name in known.__struct_fields__:
        value = getattr(known, name)
        for part in value if isinstance(value, tuple) else (value,):  # pyright: ignore[reportUnknownVariableType]
            yield from _walk(part, seen)
