"""End the worker's process when its grace period is over, whatever still runs in it.

Python waits without a bound for threads and exit hooks of task functions, and for an
event loop that a coroutine blocks. So a thread watches the time from the first request
to stop. Near its end it releases what the worker still holds, logs what still runs and
calls `os._exit`. Should even this thread not get the interpreter lock, faulthandler
ends the process from C code.
"""

import contextlib
import faulthandler
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Final

from taskflow._events import WorkerStopping
from taskflow._worker.executor import Engine
from taskflow._worker.executors.threads import NAME
from taskflow._worker.shutdown import LEAST, WITHOUT_GRACE, margin_of
from taskflow._worker.worker import Worker
from taskflow.cli import exit_codes

_logger = logging.getLogger("taskflow.worker")

LAST_RESORT: Final = 4.0
"""Seconds after the guard's turn at which faulthandler ends the process: Python may be
tearing down its modules then, which no thread of Python can watch."""

_LIBRARY: Final = f"{Path(threading.__file__).parent}{os.sep}"
_OURS: Final = f"{Path(__file__).parent.parent}{os.sep}"

_WATCHER: Final = "taskflow-exit-guard"


class ExitGuard:
    """Handles the signals of a worker's command, and bounds the time to its end.

    Args:
        worker: To stop.
        engine: Its engine, whose processes end with this one.
        grace: Seconds from the request to stop to the end of the process.
    """

    def __init__(self, worker: Worker, engine: Engine, grace: float) -> None:
        self._worker = worker
        self._engine = engine
        margin = margin_of(grace)
        self._last = max(LEAST, margin / 4)
        self._seconds = max(2 * LEAST, (grace or WITHOUT_GRACE) - margin / 4)
        self._seconds_now = max(2 * LEAST, margin * 0.75)
        self._signals = 0
        self._ends_at = float("inf")
        self._is_watched = False
        # Its put is safe in a signal handler, unlike the set of an event.
        self._deadlines: SimpleQueue[float] = SimpleQueue()
        self.code = exit_codes.FAILED
        worker.events.subscribe(lambda _: self.begin(), WorkerStopping)

    def install(self) -> None:
        """Handle signals from now on; on the main thread, after pools have forked."""
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, self._on_signal)
        # nohup ignores it, and means that the worker goes on.
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            signal.signal(signal.SIGHUP, self._on_signal)
        # Celery's signal for a cold shutdown.
        signal.signal(signal.SIGQUIT, self._on_signal)
        self._watch()

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        del frame
        self._signals += 1
        self.stop(now=self._signals > 1 or signum == signal.SIGQUIT)

    def stop(self, *, now: bool = False) -> None:
        """Stop the worker, and the process with it; safe in any thread.

        Args:
            now: Release at once what still runs.
        """
        self._worker.stop(now=now)
        self.begin(now=now)

    def begin(self, *, now: bool = False) -> None:
        """Let the time run from now, unless it runs already.

        Args:
            now: Nothing is to finish any more: there is only time to release.
        """
        seconds = self._seconds_now if now else self._seconds
        ends_at = time.monotonic() + seconds
        if ends_at >= self._ends_at:
            return
        self._ends_at = ends_at
        self._deadlines.put(ends_at)
        # The guard's thread needs the interpreter lock, this does not.
        with contextlib.suppress(Exception):  # standard error may be closed
            faulthandler.dump_traceback_later(seconds + LAST_RESORT, exit=True)
        self._watch()

    def _watch(self) -> None:
        if not self._is_watched:
            self._is_watched = True
            threading.Thread(target=self._run, name=_WATCHER, daemon=True).start()

    def _run(self) -> None:
        deadline = float("inf")
        while True:
            left = deadline - time.monotonic()
            timeout = None if deadline == float("inf") else max(0.0, left)
            try:
                deadline = min(deadline, self._deadlines.get(timeout=timeout))
            except Empty:
                break
        self.end_now()

    def end_now(self) -> None:
        """End the process: release what is held, say what still runs, flush the logs."""
        last = threading.Thread(target=self._last_words, name=_WATCHER, daemon=True)
        last.start()
        # A log handler, or the server, may be what does not answer.
        last.join(self._last)
        self._engine.kill()
        os._exit(self.code)

    def _last_words(self) -> None:
        with contextlib.suppress(Exception):
            self._worker.release_from_thread()
        running = [*self._worker.still_running, *_threads()]
        if running:
            facts = {"worker": self._worker.id, "still_running": running}
            _logger.error("process ended by force", extra={"facts": facts})
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()


def _threads() -> list[str]:
    """Describe the threads that Python would wait for, and what each is at."""
    frames = sys._current_frames()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
    found: list[str] = []
    for thread in threading.enumerate():
        place = _place(frames.get(thread.ident or 0))
        is_ours = thread is threading.main_thread() or thread.name.startswith(NAME)
        if not thread.daemon and (place or not is_ours):
            found.append(f"thread: {thread.name}" + (f" in {place}" if place else ""))
    return found


def _place(frame: FrameType | None) -> str:
    """Name the innermost function of neither the standard library nor this package."""
    while frame is not None:
        file = frame.f_code.co_filename
        is_library = file.startswith((_LIBRARY, "<")) and "site-packages" not in file
        if file.startswith(_OURS):
            break  # it runs no code of a task
        if not is_library:
            return f"{frame.f_code.co_qualname} ({file}:{frame.f_lineno})"
        frame = frame.f_back
    return ""
