"""Arguments and results to JSON and back, checked against annotations.

Nothing passes silently: a value is encoded, decoded back under the strict
types of the annotations, and compared with what was given. So what a body will
see is what the caller had, or the caller gets a `PayloadError` that says where
it differs, and nothing is stored.

Measured (``python -m timeit``, two ints, Python 3.11): encode 3.1 us, decode
0.5 us; that check costs 1.4 us of the encoding.
"""

import inspect
import math
import typing
from collections.abc import Callable
from typing import Any, cast

import msgspec

from taskflow.errors import ConfigurationError, PayloadError

_SHOWN = 60


class Spec(msgspec.Struct, array_like=True, frozen=True, kw_only=True):
    """The part of a record that never changes, packed into one field.

    Attributes:
        version: Of this format.
        name: Of the declared function.
        max_retries: Chosen for this call, or None.
        timeout: Seconds, chosen for this call, or None.
    """

    version: int = 1
    name: str
    max_retries: int | None = None
    timeout: float | None = None


_encoder = msgspec.json.Encoder()
_spec_decoder = msgspec.json.Decoder(Spec)
_any_decoder = msgspec.json.Decoder()


def encode_spec(spec: Spec) -> bytes:
    """Pack *spec*."""
    return _encoder.encode(spec)


def decode_spec(data: bytes) -> Spec:
    """Unpack a spec; items that a later version added are left out.

    Returns:
        The spec.

    Raises:
        PayloadError: It cannot be read.
    """
    try:
        return _spec_decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        message = f"the record's spec cannot be read: {error}"
        raise PayloadError(message) from error


def to_json(value: Any) -> bytes:
    """Encode a value of our own making."""
    return _encoder.encode(value)


def from_json(data: bytes | str) -> Any:
    """Decode what `to_json` made.

    Returns:
        The value.

    Raises:
        PayloadError: It is no JSON.
    """
    try:
        return _any_decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        message = f"not JSON: {error}"
        raise PayloadError(message) from error


def _encode_foreign(value: Any) -> Any:
    """Encode what msgspec does not know: pydantic models, by their own method."""
    dump = getattr(value, "model_dump", None)
    if dump is None:
        kind = type(value).__name__
        message = f"{kind} cannot be stored; pass what JSON has, or a dataclass"
        raise PayloadError(message)
    return dump(mode="json")


def _decode_foreign(kind: type, value: Any) -> Any:
    validate = getattr(kind, "model_validate", None)
    if validate is None:
        message = f"{kind!r} cannot be restored from JSON"
        raise PayloadError(message)
    try:
        return validate(value)
    except ValueError as error:
        raise PayloadError(str(error)) from error


_checked_encoder = msgspec.json.Encoder(enc_hook=_encode_foreign)


def _encode(value: Any) -> bytes:
    try:
        data = _checked_encoder.encode(value)
    except PayloadError:
        raise
    except RecursionError as error:
        message = "nested too deeply, or part of itself"
        raise PayloadError(message) from error
    except UnicodeEncodeError as error:
        message = f"text with lone surrogates: {error.reason}"
        raise PayloadError(message) from error
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError) as error:
        raise PayloadError(str(error)) from error
    return data


def check_size(data: bytes, most: int, task: str) -> None:
    """Refuse arguments or a result that are too large to be stored.

    Args:
        data: JSON.
        most: Bytes that are stored.
        task: Name of the task, for the message.

    Raises:
        PayloadError: *data* is larger.
    """
    if len(data) > most:
        message = (
            f"{len(data)} bytes of JSON, at most {most} are stored: keep large data "
            "elsewhere and pass where it is"
        )
        raise PayloadError(message, task=task)


def _decode(decoder: Any, data: bytes | str) -> Any:
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `")
        raise PayloadError(
            message.replace("`", ""), path=path.rstrip("`") or "$"
        ) from error
    except RecursionError as error:
        message = "nested too deeply"
        raise PayloadError(message) from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        message = f"not JSON: {error}"
        raise PayloadError(message) from error


def _same(given: Any, restored: Any) -> bool:
    try:
        if given == restored and type(given) is type(restored):
            return _same_inside(given, restored)
    except Exception:  # noqa: BLE001 - an __eq__ that raises: look inside
        return False
    return _close(given, restored)


def _same_inside(given: Any, restored: Any) -> bool:
    return all(_same(value, restored[place]) for place, value in _parts(given))


def _parts(value: Any) -> list[tuple[Any, Any]]:
    """Return what a container holds, with the place of each; [] for others."""
    if isinstance(value, dict):
        return list(cast("Any", value).items())
    if isinstance(value, list | tuple):
        return list(enumerate(cast("list[Any]", value)))
    return []


def _close(given: Any, restored: Any) -> bool:
    """Whether two values of different types mean the same."""
    if isinstance(given, bool) != isinstance(restored, bool):
        return False
    if isinstance(given, int | float) and isinstance(restored, int | float):
        return given == restored and not math.isnan(given)
    if isinstance(given, str) and isinstance(restored, str):
        return given == restored
    if isinstance(given, type(restored)):
        return bool(given == restored)
    return False


def _compare(given: Any, restored: Any, path: str) -> None:
    """Find where *restored* differs from *given*, and say so."""
    if _same(given, restored):
        return
    if type(given) is type(restored):
        there = dict(_parts(restored))
        for place, value in _parts(given):
            if place in there:
                step = f"[{place}]" if type(given) in {list, tuple} else f".{place}"
                _compare(value, there[place], f"{path}{step}")
    message = (
        f"would come back as {type(restored).__name__} {_short(restored)}, "
        f"was {type(given).__name__} {_short(given)}"
    )
    raise PayloadError(message, path=path)


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a __repr__ that raises
        return "<no repr>"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _check_type(kind: Any, what: str) -> None:
    """Refuse an annotation whose values could not be stored.

    Raises:
        ConfigurationError: It holds a class that nothing can restore.
    """
    try:
        known = msgspec.inspect.type_info(kind)
        msgspec.json.Decoder(kind, dec_hook=_decode_foreign)
    except (TypeError, RecursionError) as error:
        message = f"{what}: {error}"
        raise ConfigurationError(message) from error
    for each in _walk(known, set()):
        if isinstance(each, msgspec.inspect.CustomType) and not hasattr(
            each.cls, "model_validate"
        ):
            message = (
                f"{what}: {each.cls.__name__} cannot be stored as JSON; use what JSON "
                "has, a dataclass, an attrs class, a TypedDict or a pydantic model"
            )
            raise ConfigurationError(message)


def _walk(known: Any, seen: set[int]) -> list[Any]:
    if id(known) in seen:
        return []
    seen.add(id(known))
    found = [known]
    for name in getattr(known, "__struct_fields__", ()):
        value = getattr(known, name)
        for _, part in _parts(value) or [(0, value)]:
            if isinstance(part, msgspec.inspect.Field):
                found += _walk(part.type, seen)
            elif isinstance(part, msgspec.inspect.Type):
                found += _walk(part, seen)
    return found


def _hints(function: Callable[..., Any], name: str) -> dict[str, Any]:
    try:
        return typing.get_type_hints(inspect.unwrap(function), include_extras=True)
    except Exception as error:
        message = f"task {name!r}: its annotations cannot be resolved: {error}"
        raise ConfigurationError(message) from error


class ArgumentsCodec:
    """Binds, checks and encodes the arguments of one function.

    Built on first use, because annotations may name what is defined later.

    Args:
        function: The body.
        name: Of the task, for messages.
        context_type: The class whose parameter is filled in by the worker.
    """

    def __init__(
        self, function: Callable[..., Any], name: str, context_type: type
    ) -> None:
        self._function = function
        self._name = name
        self._context_type = context_type
        self._ready = False
        self.context_name: str | None = None
        self._positional: tuple[str, ...] = ()
        self._signature: inspect.Signature | None = None
        self._type: Any = None
        self._decoder: Any = None
        self._extra: str | None = None

    @property
    def context_parameter(self) -> str | None:
        """The parameter that takes the context, or None."""
        self._prepare()
        return self.context_name

    @property
    def positional(self) -> tuple[str, ...]:
        """Names that may be given by position, in order; not the context."""
        self._prepare()
        return self._positional

    def check(self) -> None:
        """Refuse what cannot be supported, before anything is enqueued.

        Raises:
            ConfigurationError: Names the parameter and what is wrong.
        """
        self._prepare()

    def _prepare(self) -> None:
        if self._ready:
            return
        hints = _hints(self._function, self._name)
        signature = inspect.signature(self._function)
        fields: list[Any] = []
        kept: list[inspect.Parameter] = []
        for parameter in signature.parameters.values():
            what = f"task {self._name!r}, parameter {parameter.name!r}"
            kind = hints.get(parameter.name, Any)
            if kind is self._context_type:
                self.context_name = parameter.name
                continue
            if parameter.kind in {parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY}:
                message = f"{what}: arguments are stored by name, so it needs one"
                raise ConfigurationError(message)
            _check_type(kind, what)
            if parameter.kind is parameter.VAR_KEYWORD:
                self._extra = parameter.name
                continue
            kept.append(parameter)
            required = parameter.default is parameter.empty
            field = (parameter.name, kind)
            fields.append(field if required else (*field, msgspec.UNSET))
        self._positional = tuple(
            each.name for each in kept if each.kind is not each.KEYWORD_ONLY
        )
        self._signature = signature.replace(
            parameters=[
                each
                for each in signature.parameters.values()
                if each.name != self.context_name
            ]
        )
        self._type = msgspec.defstruct(
            "Arguments",
            fields,
            kw_only=True,
            forbid_unknown_fields=self._extra is None,
            omit_defaults=True,
        )
        self._decoder = msgspec.json.Decoder(self._type, dec_hook=_decode_foreign)
        self._ready = True

    def encode(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> bytes:
        """Return the arguments as a JSON object by parameter name.

        Args:
            args: By position; the context is left out.
            kwargs: By name.

        Returns:
            JSON. Defaults of parameters that were not given are not in it.

        Raises:
            PayloadError: They do not fit the signature, are of the wrong
                types, or would not come back as they are.
        """
        self._prepare()
        named = self._bind(args, kwargs)
        try:
            data = _encode(named)
            restored = self.decode(data)
            for name, value in named.items():
                _compare(value, restored[name], f"$.{name}")
        except PayloadError as error:
            if error.task is None:
                raise error.of_task(self._name) from error.__cause__
            raise
        return data

    def _bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        names = self._positional
        if len(args) <= len(names):
            named = dict(zip(names, args, strict=False))
            if not (named.keys() & kwargs.keys()):
                named.update(kwargs)
                return named
        signature = typing.cast("inspect.Signature", self._signature)
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            raise PayloadError(str(error), task=self._name) from error
        message = "arguments do not fit the signature"
        raise PayloadError(message, task=self._name)

    def from_jsonable(self, arguments: dict[str, Any]) -> bytes:
        """Check arguments as JSON has them, by name, and encode them.

        Returns:
            JSON.

        Raises:
            PayloadError: The task would not take them.
        """
        self._prepare()
        data = _encode(arguments)
        self.decode(data)
        return data

    def decode(self, payload: bytes) -> dict[str, Any]:
        """Return keyword arguments for the body.

        Raises:
            PayloadError: The function does not take these.
        """
        if not self._ready:
            self._prepare()
        try:
            restored = _decode(self._decoder, payload)
        except PayloadError as error:
            raise error.of_task(self._name) from error.__cause__
        unset = msgspec.UNSET
        named = {
            name: value
            for name in self._type.__struct_fields__
            if (value := getattr(restored, name)) is not unset
        }
        if self._extra is not None:
            given = from_json(payload)
            named.update({name: given[name] for name in given if name not in named})
        return named


class ResultCodec:
    """Checks and encodes what one function returns.

    Args:
        function: The body.
        name: Of the task, for messages.
    """

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self._function = function
        self._name = name
        self._decoder: Any = None

    def check(self) -> None:
        """Refuse a return annotation that cannot be supported.

        Raises:
            ConfigurationError: Says what is wrong.
        """
        self._prepare()

    def _prepare(self) -> Any:
        if self._decoder is None:
            kind = _hints(self._function, self._name).get("return", Any)
            if kind in {typing.NoReturn, typing.Never}:
                kind = Any
            _check_type(kind, f"task {self._name!r}, result")
            self._decoder = msgspec.json.Decoder(kind, dec_hook=_decode_foreign)
        return self._decoder

    def encode(self, value: Any) -> bytes:
        """Return *value* as JSON.

        Raises:
            PayloadError: It is of another type than annotated, or would not
                come back as it is.
        """
        decoder = self._decoder or self._prepare()
        try:
            data = b"null" if value is None else _encode(value)
            _compare(value, _decode(decoder, data), "$")
        except PayloadError as error:
            raise error.of_task(self._name, "result") from error.__cause__
        return data

    def decode(self, data: bytes) -> Any:
        """Return the result that was stored.

        Raises:
            PayloadError: It is of another type than annotated here.
        """
        return _decode(self._decoder or self._prepare(), data)
