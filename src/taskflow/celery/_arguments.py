"""How arguments given as Celery has them are stored by name, and back."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from taskflow._declare.context import Context
from taskflow.celery import _door

CONTEXT = "taskflow_context"
"""The parameter in which the worker hands over the context."""

_BY_POSITION = {
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
}


class Arguments:
    """The parameters of a Celery task's body.

    Args:
        run: The body, bound to its task where it takes one.
        typed: Whether annotations are kept; else everything is taken as JSON.
        result: The annotation of what is returned.
    """

    def __init__(self, run: Any, *, typed: bool, result: Any) -> None:
        self._signature = inspect.signature(run)
        self._parameters = list(self._signature.parameters.values())
        self._rest = self._name_of(inspect.Parameter.VAR_POSITIONAL)
        self._extra = self._name_of(inspect.Parameter.VAR_KEYWORD)
        self.stored: inspect.Signature = self._stored(typed=typed, result=result)
        """What the task's codec sees: every argument has a name."""

    def _name_of(self, kind: Any) -> str:
        return next((each.name for each in self._parameters if each.kind is kind), "")

    def _stored(self, *, typed: bool, result: Any) -> inspect.Signature:
        kept = [
            self._as_stored(each if typed else each.replace(annotation=Any))
            for each in self._parameters
        ]
        context = inspect.Parameter(
            CONTEXT, inspect.Parameter.KEYWORD_ONLY, annotation=Context
        )
        kept.append(context)
        kept.sort(key=lambda each: each.kind)
        return inspect.Signature(kept, return_annotation=result)

    def _as_stored(self, parameter: inspect.Parameter) -> inspect.Parameter:
        if parameter.kind is parameter.POSITIONAL_ONLY:
            return parameter.replace(kind=parameter.POSITIONAL_OR_KEYWORD)
        if parameter.kind is parameter.VAR_POSITIONAL:
            return inspect.Parameter(
                parameter.name,
                parameter.KEYWORD_ONLY,
                default=(),
                annotation=list[Any],
            )
        return parameter

    def named(self, args: Iterable[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return arguments by the names under which they are stored.

        Args:
            args: By position.
            kwargs: By name.

        Returns:
            Those that were given; defaults are left to the body.

        Raises:
            TypeError: They do not fit, whatever else is given.
        """
        bound = self._signature.bind_partial(*args, **kwargs).arguments
        named = {name: each for name, each in bound.items() if name != self._extra}
        if self._rest in named:
            named[self._rest] = list(named[self._rest])
        return {**named, **bound.get(self._extra, {})}

    def split(self, named: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Return what `named` was given: by position as far as that goes.

        Args:
            named: Arguments as they are stored.

        Returns:
            Those by position, and the others by name.
        """
        kwargs = dict(named)
        args: list[Any] = []
        for each in self._parameters:
            if each.kind not in _BY_POSITION or each.name not in kwargs:
                break
            args.append(kwargs.pop(each.name))
        if self._rest:
            args.extend(kwargs.pop(self._rest, ()))
        return args, kwargs


def is_pydantic(run: Any) -> bool:
    """Whether Celery wraps the body to turn arguments into models."""
    function = inspect.unwrap(run, stop=_is_wrapper)
    return _is_wrapper(function)


def _is_wrapper(function: Any) -> bool:
    names = getattr(getattr(function, "__func__", function), "__globals__", {})
    return names.get("__name__") == _door.PYDANTIC_HOME
