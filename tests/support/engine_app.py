"""Tasks that try out an engine; a worker process of each engine serves them."""

# ruff: noqa: ASYNC240, EM101, RSE102, TRY003 - bodies that go wrong, as users write them

import asyncio
import contextvars
import os
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from taskflow import (
    Cancel,
    CircuitBreaker,
    Context,
    DeadLetter,
    RateLimit,
    Registry,
    Retry,
    RetryPolicy,
    RetryRule,
    Snooze,
    Upstream,
)

registry = Registry()
ONCE = RetryPolicy(max_retries=0)
AGAIN = RetryPolicy(max_retries=2, wait=[0.05])
PAYLOAD = {"max_payload_bytes": 20_000}


@dataclass
class Point:
    """A value with fields."""

    x: int
    y: float


@registry.task(name="shapes")
def shapes(at: Point, when: datetime, tags: set[str], raw: bytes) -> dict[str, Any]:
    """Give back what came, so that a difference shows."""
    kinds = [type(each).__name__ for each in (at, when, tags, raw)]
    return {"kinds": kinds, "x": at.x, "when": when.isoformat(), "tags": sorted(tags)}


@registry.task(name="point")
async def point(x: int) -> Point:
    """Return a value that JSON does not have."""
    await asyncio.sleep(0)
    return Point(x, 0.5)


class Unpicklable(Exception):  # noqa: N818
    """Cannot be rebuilt from its arguments."""

    def __init__(self, first: str, second: object) -> None:
        super().__init__(first)
        self.second = second


class Odd(Exception):  # noqa: N818
    """Has no text to show."""

    def __str__(self) -> str:
        raise RuntimeError


class Exiting(Exception):  # noqa: N818
    """Ends the program when it is asked for its text."""

    def __str__(self) -> str:
        raise SystemExit("asked")


class Textless(Exception):  # noqa: N818
    """Has a text that isn't one."""

    def __str__(self) -> Any:
        return 7  # noqa: PLE0307


class Nameless(type):
    """A class that doesn't say its name."""

    @property
    def __name__(cls) -> str:
        raise KeyboardInterrupt


class Anonymous(Exception, metaclass=Nameless):  # noqa: N818
    """Can't be named by ordinary means."""


class Evasive(Exception):  # noqa: N818
    """Fails whatever it is asked."""

    @property
    def __class__(self) -> Any:
        raise SystemExit("asked")

    def __bool__(self) -> bool:
        raise SystemExit("asked")

    def __getattribute__(self, name: str) -> Any:
        raise SystemExit(name)


class Loud(str):
    """A text whose own methods fail."""

    __slots__ = ()

    def encode(self, *_: Any) -> bytes:
        """Fail."""
        raise SystemExit("asked")

    strip = splitlines = __len__ = __format__ = encode  # type: ignore[assignment]


class Shouting(Exception):  # noqa: N818
    """Has a text whose own methods fail."""

    def __str__(self) -> str:
        return Loud("loud")


class Secretive(ExceptionGroup[Exception]):
    """A group that doesn't show what is in it."""

    @property
    def exceptions(self) -> Any:
        """Exit."""
        raise SystemExit("asked")


HUGE = type("Huge" * 10_000, (Exception,), {})


def _caused() -> Exception:
    error = Retry(max_retries=0)
    error.__cause__ = Exiting()
    return error


def _deep() -> Exception:
    """Call itself until the interpreter forbids it."""
    return _deep()


def _nested(*errors: BaseException) -> BaseException:
    """Put *errors* in a group, the last of them one level deeper."""
    *first, last = errors
    return BaseExceptionGroup("several", [*first, BaseExceptionGroup("more", [last])])


ERRORS: dict[str, Any] = {
    "value": lambda: ValueError("no 7 for 'x'"),
    "unpicklable": lambda: Unpicklable("twice", threading.Lock()),
    "odd": Odd,
    "exiting": Exiting,
    "textless": Textless,
    "anonymous": Anonymous,
    "evasive": Evasive,
    "shouting": Shouting,
    "huge": lambda: HUGE("x" * 1_000_000),
    "surrogate": lambda: ValueError("\ud800" * 10_000),
    "caused": _caused,
    "grouped": lambda: ExceptionGroup("several", [Shouting(), Exiting()]),
    "secretive": lambda: Secretive("several", [ValueError("one")]),
    "exit": lambda: SystemExit(3),
    "interrupt": KeyboardInterrupt,
    "generator": GeneratorExit,
    "cancelled": asyncio.CancelledError,
    "group": lambda: ExceptionGroup("several", [ValueError("one")]),
    "group of exits": lambda: _nested(SystemExit(3), KeyError("two")),
    "group to cancel": lambda: _nested(ValueError("one"), Cancel("enough")),
    "group to bury": lambda: _nested(Snooze(60), DeadLetter("asked for")),
    "group to retry": lambda: _nested(ValueError("one"), Retry(delay=0.05)),
    "group to snooze": lambda: _nested(Retry(), Snooze(0.05, "later")),
    "deep": _deep,
    "retry": lambda: Retry(delay=0.05),
    "snooze": lambda: Snooze(0.05, "later"),
    "dead": lambda: DeadLetter("asked for"),
    "cancel": lambda: Cancel("enough"),
}


@registry.task(name="raises", retry=ONCE)
def raises(kind: str) -> None:
    """End with the error of this kind."""
    raise ERRORS[kind]()


@registry.task(name="araises", retry=ONCE)
async def araises(kind: str) -> None:
    """End with the error of this kind."""
    await asyncio.sleep(0)
    raise ERRORS[kind]()


async def _raise(kind: str) -> None:
    await asyncio.sleep(0.05)
    raise ERRORS[kind]()


@registry.task(name="child", retry=ONCE)
async def child(how: str, kind: str) -> str:
    """End with the error of an asyncio task that it has started."""
    loop = asyncio.get_running_loop()
    if how == "gather":
        await asyncio.gather(_raise(kind), asyncio.sleep(30))
    elif how == "group":
        async with asyncio.TaskGroup() as group:
            group.create_task(_raise(kind))
    elif how == "thread":
        other = asyncio.run_coroutine_threadsafe
        await asyncio.to_thread(lambda: other(_raise(kind), loop).result())
    else:
        forgotten = loop.create_task(_raise(kind))
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            assert forgotten.done()
            if how != "swallow":
                raise
    return "returned"


@registry.task(name="callback", retry=ONCE)
async def callback(what: str) -> str:
    """Do to the loop what no callback should."""
    loop = asyncio.get_running_loop()
    if what == "stop":
        loop.stop()
    else:
        loop.call_later(0.01, lambda: raises.function(what))
    await asyncio.sleep(0.2)
    return "returned"


_background: list[asyncio.Task[None]] = []


@registry.task(name="leaves_child", retry=ONCE)
async def leaves_child(kind: str) -> str:
    """Return before an asyncio task that it has started raises."""
    _background.append(asyncio.create_task(_raise(kind)))
    return "returned"


@registry.task(name="cancels", retry=ONCE, soft_timeout=1.0, timeout=5.0)
async def cancels(how: str) -> str:
    """Cancel everything on the loop, or wait for it."""
    others = [
        each
        for each in asyncio.all_tasks()
        if how == "all" or each is not asyncio.current_task()
    ]
    if how != "wait":
        for each in others:
            each.cancel()
    if how != "all":
        await asyncio.gather(*others, return_exceptions=True)
    await asyncio.sleep(0)
    return "returned"


@registry.task(name="awaits_child", retry=ONCE)
async def awaits_child(seconds: float) -> str:
    """Sleep in an asyncio task of its own."""
    await asyncio.create_task(asyncio.sleep(seconds))
    return "slept"


@dataclass
class Exploding:
    """Ends the worker's process when it is made there."""

    x: int

    def __post_init__(self) -> None:
        """Exit in a worker."""
        if "URL" in os.environ:
            raise SystemExit("made")


@registry.task(name="takes_exploding", retry=ONCE)
async def takes_exploding(value: Exploding) -> None:
    """Never begin."""


class Unanswering(type):
    """A class that cannot say what is one of it."""

    def __instancecheck__(cls, instance: object) -> bool:
        raise RuntimeError


class Strange(Exception, metaclass=Unanswering):  # noqa: N818
    """Every rule that is for it fails when it is asked."""


@registry.task(name="unasked", retry=RetryPolicy(rules=[RetryRule(on=Strange)]))
def unasked() -> None:
    """Fail under a policy that cannot be asked."""
    raise ValueError


@registry.task(name="unending", upstream="limited", retry=ONCE)
def unending() -> None:
    """Ask for a wait that is longer than every float."""
    error = ValueError()
    error.retry_after = 10**400  # type: ignore[attr-defined]
    raise error


@registry.task(name="second_time", retry=AGAIN)
def second_time(kind: str, ctx: Context) -> list[int]:
    """End with an error at first, and well when it is handed out again."""
    if ctx.deliveries == 1:
        raise ERRORS[kind]()
    return [ctx.attempt, ctx.deliveries, ctx.max_retries]


@registry.task(name="odd_result", retry=ONCE)
def odd_result() -> Any:
    """Return what cannot be stored."""
    return object()


@registry.task(name="large_result", retry=ONCE)
def large_result(size: int) -> str:
    """Return this many letters."""
    return "x" * size


@registry.task(name="soft", soft_timeout=0.2, timeout=10.0, retry=ONCE)
def soft(trace: str, ctx: Context) -> None:
    """Run until told to stop, in a way that both engines can."""
    try:
        while not ctx.cancelled:
            time.sleep(0.01)
        raise TimeoutError("told to stop")
    finally:
        Path(trace).write_text("cleaned", encoding="utf-8")


@registry.task(name="asoft", soft_timeout=0.2, timeout=10.0, retry=ONCE)
async def asoft(trace: str) -> None:
    """Sleep too long, and clean up."""
    try:
        await asyncio.sleep(30)
    finally:
        Path(trace).write_text("cleaned", encoding="utf-8")


@registry.task(name="late_report", timeout=1.0, retry=ONCE)
def late_report(seconds: float, ctx: Context) -> str:
    """Say how far it is, at the very end."""
    time.sleep(seconds)
    ctx.progress(1, 1)
    return "whole"


@registry.task(name="ahard", soft_timeout=0.1, timeout=0.4, retry=ONCE)
async def ahard() -> None:
    """Refuse to be cancelled."""
    while True:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            continue


@registry.task(name="hard", timeout=0.4, retry=ONCE)
def hard(seconds: float) -> None:
    """Hang."""
    time.sleep(seconds)


@registry.task(name="hard_again", timeout=0.3, retry=AGAIN)
def hard_again(ctx: Context) -> int:
    """Hang at first only."""
    if ctx.attempt == 1:
        time.sleep(3)
    return ctx.attempt


@registry.task(name="asleep", retry=ONCE)
async def asleep(seconds: float) -> str:
    """Sleep on the loop."""
    await asyncio.sleep(seconds)
    return "slept"


@registry.task(name="looks", retry=ONCE)
def looks(answer: str, ctx: Context) -> str:
    """Work until somebody cancels; return what was wished for all the same."""
    ctx.annotate(began=1)
    while not ctx.cancelled:
        time.sleep(0.01)
    if not answer:
        raise RuntimeError("stopped")
    return answer


@registry.task(name="reports", retry=AGAIN)
def reports(ctx: Context) -> dict[str, Any]:
    """Report everything, fail once, and find what was saved."""
    ctx.log.warning("said by the body")
    ctx.usage(tokens=2, cost=0.5)
    for each in range(3):
        ctx.emit(f"{ctx.attempt}-{each}")
    if ctx.attempt == 1:
        ctx.save({"at": 1})
        raise ValueError("once more")
    ctx.progress(3, 4, "nearly")
    ctx.annotate(model="m", parts=[1, 2])
    left = (ctx.deadline - datetime.now(UTC)).total_seconds() if ctx.deadline else 0
    return {
        "checkpoint": ctx.checkpoint,
        "attempt": ctx.attempt,
        "deliveries": ctx.deliveries,
        "retries": ctx.max_retries,
        "left": left > 1,
        "tick": ctx.tick,
    }


@registry.task(name="areports", retry=AGAIN)
async def areports(ctx: Context) -> Any:
    """Save from a coroutine, fail, and find it."""
    if ctx.attempt == 1:
        try:
            ctx.save(0)
        except RuntimeError as error:
            await ctx.asave({"said": str(error)})
        raise ValueError("once more")
    ctx.emit("done")
    return ctx.checkpoint


@registry.task(name="add")
def add(x: int, y: int) -> int:
    """Add."""
    return x + y


@registry.task(name="enqueues")
def enqueues(x: int) -> list[Any]:
    """Enqueue from a function, and wait for the result."""
    handle = add.enqueue(x, 1)
    return [handle.id, handle.result(timeout=20)]


@registry.task(name="aenqueues")
async def aenqueues(x: int) -> list[Any]:
    """Enqueue from a coroutine, and wait for the result."""
    handle = await add.aenqueue(x, 1)
    return [handle.id, await handle.aresult(timeout=20)]


variable: contextvars.ContextVar[str] = contextvars.ContextVar("v", default="clean")


@registry.task(name="leaks")
def leaks() -> str:
    """Say whether another task's variable is seen here, and set it."""
    found = variable.get()
    variable.set("leaked")
    return found


@registry.task(name="aleaks")
async def aleaks() -> str:
    """Say whether another task's variable is seen here, and set it."""
    found = variable.get()
    variable.set("leaked")
    await asyncio.sleep(0)
    return found


_kept: list[asyncio.Future[int]] = []


@registry.task(name="shares")
async def shares() -> list[int]:
    """Use what the task before has left on the loop, and leave something."""
    loop = asyncio.get_running_loop()
    uses = 0
    if _kept:
        left = _kept.pop()
        loop.call_soon(left.set_result, 1)
        uses = await left
    _kept.append(loop.create_future())
    return [os.getpid(), id(loop), uses]


flaky = Upstream(
    "flaky",
    breaker=CircuitBreaker(failure_rate=1.0, min_calls=3, reset_timeout=60.0),
)
limited = Upstream("limited", rate_limit=RateLimit(1000, per=1.0), concurrency=4)
flaky_in_groups = Upstream("flaky_in_groups", breaker=flaky.breaker)
registry.add_upstream(flaky)
registry.add_upstream(flaky_in_groups)
registry.add_upstream(limited)


@registry.task(name="guarded", upstream=limited)
def guarded() -> str:
    """Call in a guard, from a function."""
    with limited.guard():
        return "called"


@registry.task(name="aguarded", upstream=limited)
async def aguarded() -> str:
    """Call in a guard, from a coroutine."""
    async with limited.guard():
        return "called"


@registry.task(name="fails_upstream", upstream="flaky", retry=ONCE)
async def fails_upstream() -> None:
    """Fail as an outage does."""
    raise ConnectionError("nobody there")


@registry.task(name="fails_in_group", upstream="flaky_in_groups", retry=ONCE)
async def fails_in_group() -> None:
    """Fail as an outage does, in several children at once."""

    async def call() -> None:
        raise ConnectionError("nobody there")

    async with asyncio.TaskGroup() as tasks:
        for _ in range(4):
            tasks.create_task(call())


@registry.task(name="ages", retry=RetryPolicy(max_retries=99, wait=0, max_age=0.5))
def ages() -> None:
    """Fail until it is too old for another attempt."""
    time.sleep(0.2)
    raise ValueError("again")


@registry.task(name="generates", retry=ONCE)
def generates() -> Any:
    """Return a generator, which cannot be stored."""
    return (each for each in range(3))
