"""What is searched, each setting to its end: no order of its calls is left out."""

from typing import Final

from attrs import evolve

from taskflow import CircuitBreaker
from tests.explorer.world import Setting

_API: Final = {"upstream": "1 api"}
_KEYED: Final = {"key": "f:a", "key_ttl_ms": 30_000, "digest": "d"}
_ENDS: Final = ("complete", "retry", "dead", "fail", "cancel", "snooze")
_PRUNES: Final = ("prune completed", "prune failed", "prune cancelled")

_UPSTREAM: Final = Setting(
    "an upstream",
    (_API, _API),
    {"runs": 3, "ticks": 1, "deaths": 1, "deeds": 1},
    workers="v",
    verbs=("complete", "retry", "park"),
    deeds=("open", "close", "cancel", "destroy", "requeue"),
    breaker=CircuitBreaker(consecutive=1, reset_timeout=15.0),
    concurrency=1,
)

SMALL: Final = (
    Setting(
        "lives of one task",
        ({},),
        {"runs": 2, "ticks": 1, "losses": 1, "deaths": 1, "deeds": 1},
        workers="v",
        verbs=(*_ENDS, "release", "crash"),
        deeds=("cancel", "delete", "destroy", "requeue", "discard"),
    ),
    Setting(
        "what a person does",
        ({},),
        {"runs": 3, "ticks": 1, "deeds": 3},
        workers="v",
        verbs=(*_ENDS, "release"),
        deeds=("cancel", "delete", "destroy", "requeue", "discard", *_PRUNES),
    ),
    Setting(
        "two workers",
        ({},),
        {"runs": 3, "ticks": 2, "losses": 1, "deaths": 1},
        verbs=("complete",),
    ),
    Setting(
        "crashes",
        (_KEYED,),
        {"runs": 4, "ticks": 4, "deaths": 1, "deeds": 1},
        workers="v",
        verbs=("complete", "crash"),
        deeds=("cancel", "requeue"),
    ),
    Setting(
        "two tasks",
        ({}, {}),
        {"runs": 2, "ticks": 1, "losses": 1},
        slots=2,
        verbs=("complete",),
    ),
    Setting(
        "claims in parts",
        ({}, {}),
        {"runs": 2, "ticks": 1, "losses": 1, "deeds": 1},
        workers="v",
        slots=2,
        verbs=("complete",),
        deeds=("destroy",),
        in_parts=True,
    ),
    _UPSTREAM,
    evolve(
        _UPSTREAM,
        name="an upstream whose replies are lost",
        left={"runs": 2, "ticks": 1, "losses": 1, "deaths": 1},
        deeds=(),
    ),
    evolve(
        _UPSTREAM,
        name="the data is lost",
        left={"runs": 3, "ticks": 1, "wipes": 1},
        slots=2,
        deeds=(),
    ),
    Setting(
        "one id again and again",
        ({}, {}, {}),
        {"runs": 2, "losses": 1, "deeds": 3},
        workers="v",
        verbs=("complete", "release"),
        deeds=("cancel", "delete", "requeue"),
        ids=("t1", "t1", "t1"),
    ),
    Setting(
        "times and keys",
        ({"delay_ms": 15_000, **_KEYED}, {"expires_ms": 15_000, **_KEYED}),
        {"runs": 3, "ticks": 3, "deaths": 1, "deeds": 1},
        workers="v",
        verbs=("complete", "snooze"),
        deeds=("cancel", "requeue", "prune completed", "delete"),
    ),
    Setting(
        "a key that is taken",
        (_KEYED, {**_KEYED, "key_ttl_ms": 0}),
        {"runs": 2, "ticks": 1, "losses": 1, "deeds": 2},
        workers="v",
        verbs=("complete", "dead", "fail"),
        deeds=("cancel", "requeue", "discard"),
    ),
)

_FURTHER: Final = {
    "lives of one task": {"runs": 3},
    "what a person does": {"ticks": 2},
    "two workers": {"runs": 4, "ticks": 3},
    "crashes": {"losses": 1, "deeds": 0},
    "two tasks": {"deaths": 1},
    "claims in parts": {"runs": 3, "deaths": 1},
    "an upstream": {"runs": 2, "losses": 1, "deaths": 0},
    "an upstream whose replies are lost": {"runs": 3},
    "the data is lost": {"ticks": 2, "wipes": 2},
    "one id again and again": {"ticks": 1, "deaths": 1, "deeds": 2},
    "times and keys": {"losses": 1},
    "a key that is taken": {"runs": 3, "ticks": 3},
}
_ALONE: Final = {
    *("what a person does", "crashes", "claims in parts", "an upstream"),
    "the data is lost",
}
"""Searched further with one worker, so that a run takes minutes."""


def _further(setting: Setting) -> Setting:
    left = setting.left | _FURTHER[setting.name]
    workers = setting.workers if setting.name in _ALONE else "vw"
    return evolve(setting, name=f"{setting.name}, further", left=left, workers=workers)


DEEP: Final = tuple(map(_further, SMALL))
