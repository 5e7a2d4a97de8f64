"""What is searched: small settings to their end, and the same ones further."""

from typing import Final

from attrs import evolve

from explorer.world import Setting
from taskflow import CircuitBreaker

_API: Final = {"upstream": "1 api"}
_KEYED: Final = {"key": "f:a", "key_ttl_ms": 30_000, "digest": "d"}

SMALL: Final = (
    Setting(
        "lives of one task",
        ({},),
        {"ticks": 1, "losses": 1, "deeds": 1},
        workers="v",
        verbs=(
            *("complete", "retry", "dead", "fail", "cancel", "snooze"),
            *("release", "crash"),
        ),
        deeds=("cancel", "delete", "destroy", "requeue", "discard", "prune"),
    ),
    Setting(
        "two workers", ({},), {"ticks": 2, "losses": 1}, verbs=("complete",)
    ),
    Setting("crashes", (_KEYED,), {"ticks": 4, "deeds": 1}, workers="v", verbs=("complete", "crash"), deeds=("cancel", "requeue")),
    Setting("two tasks", ({}, {}), {"ticks": 1}, slots=2, verbs=("complete",)),
    Setting(
        "an upstream",
        (_API, _API),
        {"ticks": 1, "deeds": 1},
        workers="v",
        verbs=("complete", "retry", "park"),
        deeds=("open", "close", "cancel", "destroy", "requeue"),
        breaker=CircuitBreaker(consecutive=1, reset_timeout=15.0),
        concurrency=1,
    ),
    Setting(
        "one id again and again",
        ({}, {}, {}),
        {"deeds": 3},
        workers="v",
        verbs=("complete", "release"),
        deeds=("cancel", "delete", "requeue"),
        ids=("t1", "t1", "t1"),
    ),
    Setting(
        "times and keys",
        ({"delay_ms": 15_000, **_KEYED}, {"expires_ms": 15_000, **_KEYED}),
        {"ticks": 3, "deeds": 1},
        workers="v",
        verbs=("complete", "snooze"),
        deeds=("cancel", "requeue", "prune", "delete"),
    ),
)  # fmt: skip


def _further(setting: Setting) -> Setting:
    left = {name: count + 1 for name, count in setting.left.items()}
    return evolve(setting, name=f"{setting.name}, further", left=left, workers="vw")


DEEP: Final = tuple(map(_further, SMALL))
