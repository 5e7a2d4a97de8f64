"""Run a worker on an event loop of its own, and end it whatever task functions left.

`asyncio.run` waits without a bound for asyncio tasks that ignore their cancellation
and for threads of the default executor, and it ends at a SystemExit in any callback.
"""

import asyncio
import contextlib
import logging
import math
import signal
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextvars import Context
from pathlib import Path
from types import FrameType
from typing import Any

from taskflow._codec import continued, traceback_of
from taskflow._protocol.record import LONGEST_ERROR_BYTES
from taskflow._worker.containment import MAIN, contain, running_on

_logger = logging.getLogger("taskflow.worker")

BLOCKED = 1.0
"""Seconds for which the loop may be blocked before the worker reports it."""

_OURS = str(Path(__file__).parents[1])

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def run(
    main: Callable[[], Coroutine[Any, Any, None]],
    *,
    wait_for: Callable[[set[asyncio.Task[Any]]], Coroutine[Any, Any, None]],
    loop_factory: LoopFactory | None = None,
) -> None:
    """Run *main* to its end on a new event loop; Ctrl-C cancels it, as in asyncio.

    Args:
        main: What it raises is raised.
        wait_for: Waits for asyncio tasks that remain when *main* has ended, which are
            cancelled; for a bounded time.
        loop_factory: Makes the loop; None = `asyncio.new_event_loop`.

    Raises:
        RuntimeError: An event loop runs in this thread.
        KeyboardInterrupt: Ctrl-C was pressed, and *main* has ended.
    """
    _refuse_running_loop()
    loop = (loop_factory or asyncio.new_event_loop)()
    asyncio.set_event_loop(loop)
    try:
        contain(loop)
        task = loop.create_task(main(), name=MAIN)
        with _interruptible(loop, task) as interrupts:
            complete(loop, task, interrupts)
        if interrupts:
            raise KeyboardInterrupt
        task.result()
    finally:
        _close(loop, wait_for)


async def in_thread(function: Callable[[], object]) -> None:
    """Call *function* in a thread of its own, and wait until it has returned.

    Task functions may keep every thread of the loop's default executor.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def tell(error: BaseException | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def call() -> None:
        error: BaseException | None = None
        try:
            function()
        except BaseException as raised:  # noqa: BLE001 - raised to the caller
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(tell, error)

    threading.Thread(target=call, name="taskflow-call", daemon=True).start()
    await done


class LagWatch:
    """Reports that the event loop was blocked, and by which task.

    A thread looks at the loop while it is blocked; afterwards its stack is gone.

    Args:
        pulse: Called four times a second on the loop.
        blocked: Called on the loop when it runs again, with the seconds it was late,
            the task that ran then, and the place in its code; both empty if unknown.
    """

    def __init__(
        self, pulse: Callable[[], None], blocked: Callable[[float, str, str], None]
    ) -> None:
        self._pulse = pulse
        self._blocked = blocked
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._due = math.inf
        self._seen = "", ""
        self._is_over = threading.Event()

    async def run(self) -> None:
        """Watch until cancelled."""
        threading.Thread(target=self._look, name="taskflow-lag", daemon=True).start()
        try:
            while True:
                self._seen = "", ""
                self._due = time.monotonic() + 0.25
                await asyncio.sleep(0.25)
                late, self._due = time.monotonic() - self._due, math.inf
                self._pulse()
                if late > BLOCKED:
                    self._blocked(late, *self._seen)
        finally:
            self._is_over.set()

    def _look(self) -> None:
        while not self._is_over.wait(0.25):
            if time.monotonic() - self._due > BLOCKED / 2 and not any(self._seen):
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    frames = sys._current_frames()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
                    frame = frames.get(self._thread)
                    place = "" if frame is None else _place(frame)
                    self._seen = running_on(self._loop), place


def _place(frame: FrameType) -> str:
    """Name file, line and function, of the host's code where there is any."""
    shown = frame
    # Not at import, which it would make a millisecond slower.
    libraries = (*map(sysconfig.get_path, ("stdlib", "purelib", "platlib")), "<")
    while shown.f_code.co_filename.startswith(libraries) and shown.f_back is not None:
        shown = shown.f_back
    if shown.f_code.co_filename.startswith(_OURS):
        shown = frame
    code = shown.f_code
    return f"{code.co_filename}:{shown.f_lineno} in {code.co_qualname}"


def _refuse_running_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    problem = "an event loop runs in this thread; await Worker.arun() on it"
    raise RuntimeError(problem)


@contextlib.contextmanager
def _interruptible(
    loop: asyncio.AbstractEventLoop, task: asyncio.Task[None]
) -> Generator[list[int]]:
    """Let Ctrl-C cancel *task*, and a second one interrupt.

    Yields:
        The interrupts that there were.
    """
    interrupts: list[int] = []

    def interrupt(signum: int, frame: object) -> None:
        del frame
        interrupts.append(signum)
        if len(interrupts) > 1:
            raise KeyboardInterrupt
        # In a context of nobody's: this may interrupt a task function.
        loop.call_soon_threadsafe(task.cancel, context=Context())

    is_ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if is_ours:
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield interrupts
    finally:
        if is_ours and signal.getsignal(signal.SIGINT) is interrupt:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def complete(
    loop: asyncio.AbstractEventLoop,
    task: asyncio.Future[Any],
    interrupts: Sequence[int] = (),
) -> None:
    """Run *loop* until *task* is done, whatever callbacks on it raise.

    Args:
        loop: Not running.
        task: Its result isn't looked at.
        interrupts: Grows with each Ctrl-C; the second one is raised.
    """
    while not task.done():
        try:
            loop.run_until_complete(task)
        except BaseException as error:
            if task.done():
                return  # what it has raised itself is told by its result
            # RuntimeError: a callback has stopped the loop.
            ends = (SystemExit, KeyboardInterrupt, RuntimeError)
            if not isinstance(error, ends) or len(interrupts) > 1 or loop.is_closed():
                raise
            told = continued(traceback_of(error, LONGEST_ERROR_BYTES))
            _logger.error("a callback tried to end the event loop\n%s", told)  # noqa: TRY400 - formatting may run its code


def _close(
    loop: asyncio.AbstractEventLoop,
    wait_for: Callable[[set[asyncio.Task[Any]]], Coroutine[Any, Any, None]],
) -> None:
    """Cancel the remaining asyncio tasks, wait for them, and close *loop*."""

    def wait(tasks: set[asyncio.Task[Any]]) -> None:
        complete(loop, loop.create_task(wait_for(tasks), name=MAIN))

    try:
        remaining = asyncio.all_tasks(loop)
        for task in remaining:
            task.cancel()
        if remaining:
            wait(remaining)
        wait({loop.create_task(loop.shutdown_asyncgens(), name=MAIN)})
    finally:
        asyncio.set_event_loop(None)
        loop.close()
