"""Whether a value came back from JSON as it was, and where not.

Same means equal and of the same type, all the way down. Two things are let
through: an ``int`` where ``float`` is annotated, and, where the annotation names
a type, an instance of its subclass (a ``StrEnum`` for ``str``): a body that asks
for the one cannot rely on the other. Where it says ``Any``, it can.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from collections.abc import Set as AbstractSet
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from types import NoneType
from typing import Any, TypeAlias
from uuid import UUID

from taskflow._codec.error_text import LONGEST_REASON_BYTES, class_name, text_of
from taskflow._codec.models import is_model
from taskflow.errors import PayloadError

MOST_LEVELS = 200
"""Nesting that is stored: below what the decoder of any worker can follow,
however deep the stack it is called on."""

ATOMS: frozenset[type[Any]] = frozenset(
    {NoneType, bool, bytes, date, Decimal, float, int, str, timedelta, UUID}
)
"""Types whose ``==`` between two of the same type says all there is to say."""

kind_of: Callable[[Any], Any] = type
"""``type``, without what type checkers make of the type of ``Any``."""

_BUILT_IN: frozenset[Any] = ATOMS | {datetime, dict, frozenset, list, set, time, tuple}

_SHOWN = 60
_LONGEST_PATH = 200

Misfit: TypeAlias = tuple[str, str]
"""Steps from the whole to the place, and what is wrong there."""


def compare(given: Any, restored: Any, path: str, *, exact: bool) -> None:
    """Refuse *restored* unless it is what was *given*.

    Args:
        given: The caller's value.
        restored: What its JSON was decoded to.
        path: Where the value stands in the whole.
        exact: Whether the annotation leaves the type open (``Any``).

    Raises:
        PayloadError: They differ; says where, and shows both.
    """
    try:
        misfit = _differ(given, restored, exact, MOST_LEVELS)
    except RecursionError as error:
        message = "nested too deeply"
        raise PayloadError(message, path=path) from error
    except Exception as error:
        why = text_of(error, LONGEST_REASON_BYTES)
        message = f"{_shown(given)} cannot be compared with what comes back: {why}"
        raise PayloadError(message, path=path) from error
    if misfit is not None:
        raise PayloadError(misfit[1], path=_cut(path + misfit[0], _LONGEST_PATH))


def parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the step to each part of a container or record, and the part.

    Yields:
        Nothing for all other values.
    """
    if isinstance(value, Mapping):
        for key, part in value.items():  # pyright: ignore[reportUnknownVariableType]
            yield _step(key), part
    elif isinstance(value, list | tuple | set | frozenset):
        for place, part in enumerate(value):  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
            yield f"[{place}]", part
    else:
        kind = kind_of(value)
        for name in _fields(kind):
            yield f".{name}", getattr(value, name, None)


def _step(key: Any) -> str:
    if isinstance(key, str) and key.isidentifier():
        return f".{key}"
    return f"[{_repr(key)}]"


def _differ(given: Any, restored: Any, exact: bool, levels: int) -> Misfit | None:  # noqa: FBT001, PLR0911 - one way out for each kind
    kind = kind_of(restored)
    if type(given) is not kind:
        if kind is float and type(given) is int:
            return None if given == restored else _unlike(given, restored)
        if exact or kind not in _BUILT_IN or not _is_subtle(given, kind):
            return _unlike_type(given, restored)
    if kind in ATOMS:
        return None if given == restored else _unlike(given, restored)
    if levels == 0:
        return "", f"nested more than {MOST_LEVELS} levels deep"
    if kind is dict:
        return _differ_by_key(given, restored, exact, levels - 1)
    if issubclass(kind, list | tuple):
        return _differ_in_order(given, restored, exact, levels - 1)
    if issubclass(kind, set | frozenset):
        return _differ_as_sets(given, restored, exact)
    if fields := _fields(kind):
        return _differ_by_field(given, restored, fields, exact, levels - 1)
    return None if _same(given, restored, kind) else _unlike(given, restored)


def _is_subtle(given: Any, kind: type) -> bool:
    """Whether *given* is of a subclass; ``bool`` and ``datetime`` are other things."""
    return isinstance(given, kind) and type(given) not in {bool, datetime}


def _same(given: Any, restored: Any, kind: type) -> bool:
    if issubclass(kind, datetime):
        # Not ==, which is never true of an hour that a zone has twice (PEP 495).
        # The name of the zone is lost, its offset is not.
        return (
            given.replace(tzinfo=None, fold=0) == restored.replace(tzinfo=None, fold=0)
            and given.utcoffset() == restored.utcoffset()
            and (given.tzinfo is not None or given.fold == restored.fold)
        )
    if issubclass(kind, Enum):
        return given is restored
    return bool(given == restored)


def _differ_in_order(
    given: Collection[Any],
    restored: Collection[Any],
    exact: bool,  # noqa: FBT001
    levels: int,
) -> Misfit | None:
    # In C where the list holds only numbers or texts: 36 us for 1,000 of them
    # (timeit), 71 us by the loop below.
    kinds = list(map(type, given))
    if (
        kinds == list(map(type, restored))
        and ATOMS.issuperset(kinds)
        and given == restored
    ):
        return None
    for place, (part, there) in enumerate(zip(given, restored, strict=True)):
        misfit = _differ(part, there, exact, levels)
        if misfit is not None:
            return f"[{place}]{misfit[0]}", misfit[1]
    return None


def _differ_by_key(
    given: Mapping[Any, Any],
    restored: Mapping[Any, Any],
    exact: bool,  # noqa: FBT001
    levels: int,
) -> Misfit | None:
    if len(given) != len(restored) or list(map(type, given)) != list(
        map(type, restored)
    ):
        misfit = _differ_in_keys(given, restored, exact)
        if misfit is not None:
            return misfit
    for key, part in given.items():
        there = restored[key]
        kind = kind_of(there)
        if kind is type(part) and kind in ATOMS and part == there:
            continue
        misfit = _differ(part, there, exact, levels)
        if misfit is not None:
            return f"{_step(key)}{misfit[0]}", misfit[1]
    return None


def _differ_in_keys(
    given: Mapping[Any, Any],
    restored: Mapping[Any, Any],
    exact: bool,  # noqa: FBT001
) -> Misfit | None:
    there = {key: key for key in restored}
    for key in given:
        if key in there:
            misfit = _differ(key, there[key], exact, 1)
            if misfit is not None:
                return "", f"the key {misfit[1]}"
        elif str(key) in there:
            return "", f"the key {_unlike(key, str(key))[1]}"
        else:
            return "", f"the key {_shown(key)} would be lost"
    return None if len(given) == len(restored) else _unlike(given, restored)


def _differ_as_sets(
    given: AbstractSet[Any],
    restored: AbstractSet[Any],
    exact: bool,  # noqa: FBT001
) -> Misfit | None:
    there = {part: part for part in restored}
    if len(given) != len(restored) or not there.keys() >= given:
        return _unlike(given, restored)
    for part in given:
        misfit = _differ(part, there[part], exact, 1)
        if misfit is not None:
            return misfit
    return None


def _differ_by_field(
    given: Any,
    restored: Any,
    fields: tuple[str, ...],
    exact: bool,  # noqa: FBT001
    levels: int,
) -> Misfit | None:
    # Not ==: a class may leave a field out of its own, or have none.
    for name in fields:
        part, there = getattr(given, name, None), getattr(restored, name, None)
        misfit = _differ(part, there, exact, levels)
        if misfit is not None:
            return f".{name}{misfit[0]}", misfit[1]
    return None


@lru_cache(maxsize=1000)
def _fields(kind: Any) -> tuple[str, ...]:
    """Name the fields of a dataclass, an attrs class or a struct; () of others."""
    for made_by in ("__dataclass_fields__", "__struct_fields__"):
        names = getattr(kind, made_by, None)
        if names is not None:
            return tuple(names)
    return tuple(field.name for field in getattr(kind, "__attrs_attrs__", ()))


def _unlike(given: Any, restored: Any) -> Misfit:
    return "", f"would come back as {_shown(restored)}, was {_shown(given)}"


def _unlike_type(given: Any, restored: Any) -> Misfit:
    step, told = _unlike(given, restored)
    kinds = kind_of(given), kind_of(restored)
    if all(map(is_model, kinds)) and not any(map(issubclass, kinds, kinds[::-1])):
        told += (
            "; for pydantic to tell them apart, give each model a field such as "
            "kind: Literal['a'] and the union Field(discriminator='kind')"
        )
    return step, told


def _shown(value: Any) -> str:
    return f"{class_name(value)} {_repr(value)}"


def _repr(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a __repr__ that raises
        return "<no repr>"
    return _cut(text, _SHOWN)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}..."
