"""The codecs of one function: of its arguments, and of its result.

Measured by timeit on two ints, Python 3.11: arguments are encoded in 1.1 us and
decoded in 0.26 us, a result is encoded in 0.17 us. Half of the encoding is
the proof that it comes back as it was.
"""

import contextlib
import inspect
import typing
from collections.abc import Callable
from typing import Any

import msgspec

from taskflow._codec.annotation import (
    is_for,
    leaves_open,
    resolve,
    resolve_or_refuse,
)
from taskflow._codec.comparison import ATOMS, compare, kind_of
from taskflow._codec.text import (
    decode,
    encode,
    encode_canonically,
    make_decoder,
    refuse_not_finite,
    to_exact_json,
)
from taskflow.errors import ConfigurationError, PayloadError

_raw_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


class ArgumentsCodec:
    """Binds, checks and encodes the arguments of one function.

    Annotations are resolved on first use, because they may name what is
    defined below the function.

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
        self._context: tuple[str | None] | None = None
        self._ready = False
        self._positional: tuple[str, ...] = ()
        self._signature = inspect.Signature()
        self._open: dict[str, bool] = {}
        self._decoder: Any = None
        self._optional = False
        self._extra_decoder: Any = None
        self._extra_open = False

    @property
    def context_parameter(self) -> str | None:
        """The parameter that takes the context, or None.

        Known without the other annotations, so that a function which cannot be
        enqueued can still be called.
        """
        if self._context is None:
            self._context = (self._find_context(),)
        return self._context[0]

    @property
    def positional(self) -> tuple[str, ...]:
        """Names that may be given by position, in order; not the context."""
        wanted = self.context_parameter
        return tuple(
            name
            for name, each in inspect.signature(self._function).parameters.items()
            if name != wanted
            and each.kind in {each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD}
        )

    def _find_context(self) -> str | None:
        found: list[str] = []
        for name, each in inspect.signature(self._function).parameters.items():
            # One that cannot be resolved is no context; `check` says so.
            with contextlib.suppress(Exception):
                kind = resolve(each.annotation, self._function)
                if is_for(kind, self._context_type):
                    found.append(name)
        if found[1:]:
            message = f"task {self._name!r}: one context is enough, not {found}"
            raise ConfigurationError(message)
        return found[0] if found else None

    def check(self) -> None:
        """Refuse what cannot be supported, before anything is enqueued.

        Raises:
            ConfigurationError: Names the parameter and what is wrong.
        """
        if not self._ready:
            self._prepare()

    def _prepare(self) -> None:
        wanted = self.context_parameter
        signature = inspect.signature(self._function)
        kept = [each for name, each in signature.parameters.items() if name != wanted]
        fields: list[Any] = []
        for each in kept:
            what = f"task {self._name!r}, parameter {each.name!r}"
            _refuse_nameless(each, what)
            kind = resolve_or_refuse(each.annotation, self._function, what)
            is_open = leaves_open(kind, what)
            if each.kind is each.VAR_KEYWORD:
                self._extra_decoder = make_decoder(kind)
                self._extra_open = is_open
                continue
            self._open[each.name] = is_open
            required = each.default is each.empty
            self._optional = self._optional or not required
            field = (each.name, kind)
            fields.append(field if required else (*field, msgspec.UNSET))
        self._positional = tuple(
            each.name for each in kept if each.kind is each.POSITIONAL_OR_KEYWORD
        )
        self._signature = signature.replace(parameters=kept)
        arguments = msgspec.defstruct(
            "Arguments",
            fields,
            kw_only=True,
            gc=False,
            forbid_unknown_fields=self._extra_decoder is None,
        )
        self._decoder = make_decoder(arguments)
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
        if not self._ready:
            self._prepare()
        named = self._bind(args, kwargs)
        try:
            data = encode(named)
            restored = self._decode(data)
            for name, value in named.items():
                there = restored[name]
                kind = kind_of(there)
                # Spares the call for what is most often passed: 0.3 us each.
                if kind is not type(value) or kind not in ATOMS or value != there:
                    exact = self._open.get(name, self._extra_open)
                    compare(value, there, f"$.{name}", exact=exact)
        except PayloadError as error:
            raise self._explained(error, args, kwargs) from error.__cause__
        return data

    def _bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        names = self._positional
        if not args:
            return kwargs
        if len(args) <= len(names):
            named = dict(zip(names, args, strict=False))
            if not kwargs:
                return named
            if named.keys().isdisjoint(kwargs):
                named.update(kwargs)
                return named
        message = "the arguments do not fit the signature"
        raise self._explained(PayloadError(message), args, kwargs)

    def _explained(
        self, error: PayloadError, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> PayloadError:
        """Say it as Python would, where Python would have refused as well."""
        try:
            self._signature.bind(*args, **kwargs)
            bound = dict(zip(self._positional, args, strict=False)) | kwargs
            refuse_not_finite(bound)
        except TypeError as misfit:
            return PayloadError(str(misfit), task=self._name)
        except PayloadError as not_finite:
            return not_finite.of_task(self._name)
        except RecursionError:
            pass
        return error.of_task(self._name)

    def from_jsonable(self, arguments: dict[str, Any]) -> bytes:
        """Check arguments as JSON has them, by name, and encode them.

        Returns:
            JSON.

        Raises:
            PayloadError: The task would not take them.
        """
        try:
            data = to_exact_json(arguments)
        except PayloadError as error:
            raise error.of_task(self._name) from error.__cause__
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
            return self._decode(payload)
        except PayloadError as error:
            raise error.of_task(self._name) from error.__cause__

    def canonical(self, payload: bytes) -> bytes:
        """Return a text that is the same for all payloads that mean the same.

        Neither the order of keyword arguments, nor that of a dict, nor that in
        which a process happens to walk a set makes a difference.

        Returns:
            JSON; to compare payloads by, not to be stored.

        Raises:
            PayloadError: The function does not take these arguments.
        """
        return encode_canonically(self.decode(payload))

    def _decode(self, payload: bytes) -> dict[str, Any]:
        named = msgspec.structs.asdict(decode(self._decoder, payload))
        if self._optional:
            unset = msgspec.UNSET
            named = {name: value for name, value in named.items() if value is not unset}
        if self._extra_decoder is not None:
            self._add_extra(named, payload)
        return named

    def _add_extra(self, named: dict[str, Any], payload: bytes) -> None:
        for name, raw in decode(_raw_decoder, payload).items():
            if name in self._open:
                continue
            if name == self.context_parameter:
                message = f"{name!r} is filled in by the worker"
                raise PayloadError(message)
            try:
                named[name] = decode(self._extra_decoder, raw)
            except PayloadError as error:
                path = f"$.{name}"
                raise error.below(path) from error.__cause__


def _refuse_nameless(parameter: inspect.Parameter, what: str) -> None:
    if parameter.kind is parameter.VAR_POSITIONAL:
        message = (
            f"{what}: arguments are stored by name, so *{parameter.name} cannot be; "
            "take a list, or let the decorator below @task use functools.wraps"
        )
        raise ConfigurationError(message)
    if parameter.kind is parameter.POSITIONAL_ONLY:
        message = f"{what}: arguments are stored by name, so '/' must go"
        raise ConfigurationError(message)


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
        self._open = False
        self._takes_none = False

    def check(self) -> None:
        """Refuse a return annotation that cannot be supported.

        Raises:
            ConfigurationError: Says what is wrong.
        """
        self._prepare()

    def _prepare(self) -> Any:
        if self._decoder is None:
            what = f"task {self._name!r}, result"
            given = inspect.signature(self._function).return_annotation
            kind = resolve_or_refuse(given, self._function, what)
            if kind in {typing.NoReturn, typing.Never}:
                kind = Any
            self._open = leaves_open(kind, what)
            decoder = make_decoder(kind)
            with contextlib.suppress(PayloadError):
                self._takes_none = decode(decoder, b"null") is None
            self._decoder = decoder
        return self._decoder

    def encode(self, value: Any) -> bytes:
        """Return *value* as JSON.

        Raises:
            PayloadError: It is of another type than annotated, or would not
                come back as it is.
        """
        decoder = self._decoder or self._prepare()
        if value is None and self._takes_none:  # as most tasks return
            return b"null"
        try:
            data = encode(value)
            restored = decode(decoder, data)
            kind = kind_of(restored)
            if kind is not type(value) or kind not in ATOMS or value != restored:
                compare(value, restored, "$", exact=self._open)
        except PayloadError as error:
            told = _explained_result(error, value)
            raise told.of_task(self._name, "result") from error.__cause__
        return data

    def decode(self, data: bytes) -> Any:
        """Return the result that was stored.

        Raises:
            PayloadError: It is of another type than annotated here.
        """
        try:
            return decode(self._decoder or self._prepare(), data)
        except PayloadError as error:
            raise error.of_task(self._name, "result") from error.__cause__


def _explained_result(error: PayloadError, value: Any) -> PayloadError:
    try:
        refuse_not_finite(value)
    except PayloadError as not_finite:
        return not_finite
    except RecursionError:
        pass
    return error
