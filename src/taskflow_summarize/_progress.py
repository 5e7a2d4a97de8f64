"""What a task keeps and shows while it works: finished pieces, progress, text."""

import asyncio
import json
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from taskflow import Context
from taskflow_summarize._provider import Completion

_VERSION: Final = 1
_MOST_BYTES: Final = 900_000  # of the mebibyte that a checkpoint may have
_EMIT_EVERY: Final = 0.1  # seconds
_UNFINISHED: Final = re.compile(
    r"(?:!?\[[^\]\n]{0,500}(?:\](?:\([^)\n]{0,2000})?)?|!"
    r"|(?<![A-Za-z])(?<!\]\()[A-Za-z]{1,10}(?::\S{0,2000})?)\Z"
)


class Finished:
    """Answers that were paid for, kept so that no attempt pays for them again.

    They are saved one by one, when each is there, under a name made of all that the
    answer depends on. They are summaries, some sixty words and more for each piece,
    so a checkpoint of 64 pieces has some ten kilobytes; were it ever to near the
    mebibyte that the core allows, the oldest would be left out, and paid for again.
    """

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._lock = asyncio.Lock()
        known: object = ctx.checkpoint
        kept = cast("dict[str, Any]", known) if isinstance(known, dict) else {}
        if kept.get("version") != _VERSION:
            kept = {}
        self._answers: dict[str, Any] = dict(kept.get("answers") or {})
        self.spent: Mapping[str, Any] = kept.get("spent") or {"tokens": 0, "cost": 0.0}

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, name: str) -> Completion | None:
        """Return the answer called *name*, with nothing to pay for it."""
        kept = self._answers.get(name)
        if kept is None:
            return None
        text, model, is_truncated = kept
        return Completion(str(text), model, bool(is_truncated))

    async def put(
        self, name: str, answer: Completion, spent: Mapping[str, Any]
    ) -> None:
        """Keep *answer*; it is stored when this returns."""
        async with self._lock:
            kept = [answer.text, answer.model, answer.is_truncated]
            self._answers[name] = kept
            while len(self._answers) > 1 and self._size() > _MOST_BYTES:
                del self._answers[next(iter(self._answers))]
            await self._save(spent)

    async def note(self, spent: Mapping[str, Any]) -> None:
        """Keep what was *spent* for no answer that could be kept."""
        async with self._lock:
            if dict(spent) != dict(self.spent):
                await self._save(spent)

    async def _save(self, spent: Mapping[str, Any]) -> None:
        self.spent = spent
        await self._ctx.asave(
            {"version": _VERSION, "answers": self._answers, "spent": dict(spent)}
        )

    def _size(self) -> int:
        return len(json.dumps(self._answers, ensure_ascii=False).encode())


class Meter:
    """Says how many of the calls are done."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._done = 0
        self._total = 0

    def plan(self, calls: int) -> None:
        """So many calls more are to come."""
        self._total += calls
        self._say("")

    def step(self, message: str) -> None:
        """One call is done."""
        self._done += 1
        self._say(message)

    def _say(self, message: str) -> None:
        if self._total > 1:
            self._ctx.progress(self._done, self._total, message)


class Emitter:
    """Passes on what is written, ten times a second at most.

    What could be the beginning of a link, an image or an address waits for its end:
    only then can it be told whether it may be shown.

    Args:
        ctx: Of the task.
        clean: Makes a piece of text fit to be shown.
    """

    def __init__(self, ctx: Context, clean: Callable[[str], str]) -> None:
        self._ctx = ctx
        self._clean = clean
        self._text = ""
        self._emitted_at = 0.0

    def write(self, text: str) -> None:
        """Take a piece of the text."""
        self._text += text
        if time.monotonic() - self._emitted_at >= _EMIT_EVERY:
            unfinished = _UNFINISHED.search(self._text)
            self._emit(len(self._text) if unfinished is None else unfinished.start())

    def flush(self) -> None:
        """Pass on what has gathered."""
        self._emit(len(self._text))

    def _emit(self, end: int) -> None:
        text, self._text = self._clean(self._text[:end]), self._text[end:]
        self._emitted_at = time.monotonic()
        for start in range(0, len(text), 10_000):
            self._ctx.emit(text[start : start + 10_000])
