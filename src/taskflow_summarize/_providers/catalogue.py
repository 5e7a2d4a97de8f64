"""What the service's list of models says of one of them.

A convenience: what cannot be learnt is None, and never fails a task.
"""

from typing import Final

from attrs import frozen

from taskflow_summarize._providers._json import (
    Json,
    as_count,
    as_list,
    as_number,
    as_object,
)

_WINDOWS: Final = ("context_length", "max_model_len", "context_window")


@frozen
class ModelFacts:
    """What is known of one model, or of the dearest and smallest of several.

    Attributes:
        context_tokens: Tokens of its window.
        prices: US dollars for a token read and for a token written.
    """

    context_tokens: int | None = None
    prices: tuple[float, float] | None = None


def read_models(data: Json, ids: tuple[str, ...]) -> ModelFacts:
    """Find models in a list.

    Args:
        data: The list, as ``GET /models`` gives it.
        ids: Of the models. Any of them may answer, so the smallest window and the
            highest prices count.

    Returns:
        What is known of all of them.
    """
    listed: dict[str, Json] = {}
    for each in as_list(data.get("data")):
        model = as_object(each)
        listed[str(model.get("id"))] = model
    found = [_facts(listed, name) for name in ids]
    windows = [each.context_tokens for each in found if each.context_tokens]
    prices = [each.prices for each in found if each.prices is not None]
    is_priced = len(prices) == len(found) > 0
    return ModelFacts(
        min(windows) if len(windows) == len(found) > 0 else None,
        (max(p[0] for p in prices), max(p[1] for p in prices)) if is_priced else None,
    )


def _facts(listed: dict[str, Json], name: str) -> ModelFacts:
    model = listed.get(name)
    if model is not None:
        return ModelFacts(_window(model), _prices(model))
    # A variant such as ":nitro" has the window of its model, and prices of its own.
    base = listed.get(name.partition(":")[0])
    return ModelFacts() if base is None else ModelFacts(_window(base))


def _window(model: Json) -> int | None:
    top = as_object(model.get("top_provider"))
    said = [as_count(model.get(name)) for name in _WINDOWS]
    said.append(as_count(top.get("context_length")))
    return min((window for window in said if window), default=None)


def _prices(model: Json) -> tuple[float, float] | None:
    pricing = as_object(model.get("pricing"))
    read = _price(pricing, "prompt")
    written = _price(pricing, "completion")
    return None if read is None or written is None else (read, written)


def _price(pricing: Json, name: str) -> float | None:
    """Read a price; where a long text costs more, the higher one."""
    first = _amount(pricing.get(name))
    if first is None:
        return None
    overrides = [as_object(each) for each in as_list(pricing.get("overrides"))]
    others = [_amount(each.get(name)) for each in overrides]
    return max([first, *(other for other in others if other is not None)])


def _amount(value: object) -> float | None:
    """Read US dollars; below 0 stands for a price that depends."""
    if not isinstance(value, str):
        return as_number(value)
    try:
        return as_number(float(value))
    except ValueError:
        return None
