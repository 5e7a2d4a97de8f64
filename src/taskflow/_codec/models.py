"""Pydantic models as pydantic itself has them in JSON, without importing pydantic.

They are dumped by field name, without computed fields, and validated in JSON mode by
name or alias: so aliases, strict models and models that forbid extra fields all come
back (``by_name`` needs pydantic 2.11).
"""

import sys
import typing
from types import NoneType, UnionType
from typing import Annotated, Any, Union

import msgspec

from taskflow.errors import ConfigurationError


def is_model(kind: Any) -> bool:
    """Whether *kind* brings its own way to JSON and back, as pydantic models do."""
    return hasattr(kind, "model_validate_json") and hasattr(kind, "model_dump")


def dump(value: Any) -> Any:
    """Return the fields of a model as JSON has them."""
    return value.model_dump(mode="json", by_alias=False, round_trip=True)


def load(kind: Any, value: Any) -> Any:
    """Make a model of what JSON has.

    Args:
        kind: The class of the model, or what `adapted` made of a union.
        value: As it was decoded from JSON.

    Returns:
        The model; in JSON mode, so that strict models take a UUID from a text.
    """
    text = msgspec.json.encode(value)
    return kind.model_validate_json(text, by_alias=True, by_name=True)


class _AnyInstance(type):
    """Takes what the adapter returned for an instance."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return True


def adapted(kind: Any) -> Any:
    """Replace unions with a model in *kind* by types that pydantic's adapter decodes.

    Args:
        kind: A resolved annotation.

    Returns:
        The same annotation if no model is part of a union in it.

    Raises:
        ConfigurationError: Pydantic can't decode the union.
    """
    if hasattr(kind, "__value__"):  # the alias of a ``type`` statement
        kind = kind.__value__
    origin, given = typing.get_origin(kind), typing.get_args(kind)
    if not given or not _has_model(kind):
        return kind
    if _is_union_with_model(given[0] if origin is Annotated else kind):
        return _decoded_by_adapter(kind)
    if origin is Annotated:
        return Annotated[adapted(given[0]), *given[1:]]
    parts = tuple(map(adapted, given))
    return Union[parts] if origin in {Union, UnionType} else origin[parts]  # noqa: UP007 - made of values


def _has_model(kind: Any) -> bool:
    if is_model(kind):
        return True
    return any(map(_has_model, typing.get_args(kind)))


def _is_union_with_model(kind: Any) -> bool:
    if typing.get_origin(kind) not in {Union, UnionType}:
        return False
    members = [each for each in typing.get_args(kind) if each is not NoneType]
    return len(members) > 1 and _has_model(kind)


def _decoded_by_adapter(kind: Any) -> Any:
    try:
        adapter: Any = sys.modules["pydantic"].TypeAdapter(kind)
    except Exception as error:
        shown = str(kind).removeprefix("typing.")
        message = f"pydantic can't decode the union {shown}: {error}"
        raise ConfigurationError(message) from error
    shape = {
        "model_validate_json": staticmethod(adapter.validate_json),
        "model_dump": None,
    }
    return _AnyInstance("Union", (), shape)
