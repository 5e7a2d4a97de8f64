"""A proxy between a client and a server that delays, chokes, holds, cuts and loses.

It runs on a loop and a thread of its own; every method may be called from any
thread, and holds for what passes from then on.
"""

import asyncio
import random
import re
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from attrs import define, field

Way = Literal["request", "reply"]
Side = Literal["before", "after"]
CALL = re.compile(rb"EVALSHA\r\n\$40\r\n([0-9a-f]{40})\r\n")


@define
class _Trap:
    """Something to be done when a script is called.

    Attributes:
        sha: Of the script.
        side: ``before`` its call has reached the server, or ``after``.
        deed: What to do; the connection is cut afterwards.
    """

    sha: bytes
    side: Side
    deed: Callable[[], None]


@define
class _Line:
    """One connection through the proxy.

    Attributes:
        called: Addresses of the scripts that were called last.
        sprung: What to do when the reply comes.
    """

    called: list[str] = field(factory=list)
    sprung: list[Callable[[], None]] = field(factory=list)


class Proxy:
    """Passes on what comes to a port of its own.

    Args:
        target: Path of the server's socket.
        seed: Of what is lost.

    Attributes:
        port: Where it listens, on 127.0.0.1.
        delay: Seconds that everything takes longer, each way.
        rate: Bytes that pass in a second, each way, over all connections; 0 = any.
        loss: Share of the replies that are lost; their connection is cut.
        lost: How many were.
        calls: Addresses of the scripts that were called, and how often.
        unheard: The same of those that ran and whose reply was lost.
    """

    def __init__(self, target: Path, *, seed: int = 0) -> None:
        self.port = 0
        self.delay = 0.0
        self.rate = 0.0
        self.loss = 0.0
        self.lost = 0
        self.calls: Counter[str] = Counter()
        self.unheard: Counter[str] = Counter()
        self._target = str(target)
        self._random = random.Random(seed)
        self._refuses = False
        self._trap: _Trap | None = None
        self._busy_until: dict[Way, float] = {"request": 0.0, "reply": 0.0}
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._ends = asyncio.Event()
        self._passes = {"request": asyncio.Event(), "reply": asyncio.Event()}
        listening = threading.Event()
        self._thread = threading.Thread(
            target=self._loop.run_until_complete, args=(self._run(listening),)
        )
        self._thread.start()
        assert listening.wait(10.0)

    @property
    def url(self) -> str:
        """By which a client reaches the server through it."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def is_shut(self) -> bool:
        """Whether something does not pass at all, at least one way."""
        return self._refuses or not all(each.is_set() for each in self._passes.values())

    def cut(self) -> None:
        """Cut every connection, and let no new one come to be."""
        self._refuses = True
        self._do(self._abort)

    def hold(self, *ways: Way) -> None:
        """Let nothing pass, both ways or one, with connections left open."""
        for way in ways or ("request", "reply"):
            self._do(self._passes[way].clear)

    def heal(self) -> None:
        """Pass on everything again, what was held too."""
        self.delay = self.rate = self.loss = 0.0
        self._refuses = False
        for event in self._passes.values():
            self._do(event.set)

    def seed(self, seed: int) -> None:
        """Lose from now on what is lost after this seed."""
        self._random.seed(seed)

    def trap(self, sha: str, side: Side, deed: Callable[[], None]) -> None:
        """Do *deed* when the script of this address is called next, then cut."""
        self._trap = _Trap(sha.encode(), side, deed)

    def close(self) -> None:
        """Cut everything and end the thread."""
        self._do(self._abort)
        self._do(self._ends.set)
        self._thread.join(10.0)
        self._loop.close()

    def _do(self, call: Callable[[], None]) -> None:
        self._loop.call_soon_threadsafe(call)

    def _abort(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _run(self, listening: threading.Event) -> None:
        for event in self._passes.values():
            event.set()
        server = await asyncio.start_server(self._meet, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        listening.set()
        await self._ends.wait()
        server.close()
        # Who was let in at the last moment has no task yet.
        await asyncio.sleep(0.01)
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for each in others:
                each.cancel()
            await asyncio.gather(*others, return_exceptions=True)
        # An aborted transport closes its socket in the next turn of the loop.
        await asyncio.sleep(0.01)

    async def _meet(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        pair = [writer]
        try:
            if self._refuses:
                return
            ours, theirs = await asyncio.open_unix_connection(self._target)
            pair.append(theirs)
            self._writers.update(pair)
            line = _Line()
            there = asyncio.ensure_future(self._requests(reader, theirs, line))
            back = asyncio.ensure_future(self._replies(ours, writer, line))
            await asyncio.wait((there, back), return_when=asyncio.FIRST_COMPLETED)
            for each in (there, back):
                each.cancel()
            await asyncio.gather(there, back, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._writers.difference_update(pair)
            for each in pair:
                each.transport.abort()

    async def _requests(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        line: _Line,
    ) -> None:
        while data := await reader.read(self._piece()):
            await self._travel("request", len(data))
            trap = self._trap
            if trap is not None and trap.sha in data:
                self._trap = None
                if trap.side == "before":
                    trap.deed()
                    return
                line.sprung.append(trap.deed)
            line.called = [each.decode() for each in CALL.findall(data)]
            self.calls.update(line.called)
            writer.write(data)
            await writer.drain()

    async def _replies(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        line: _Line,
    ) -> None:
        while data := await reader.read(self._piece()):
            await self._travel("reply", len(data))
            if line.sprung:
                line.sprung.pop()()
                return
            if self.loss and self._random.random() < self.loss:
                self.lost += 1
                if b"-NOSCRIPT" not in data:
                    self.unheard.update(line.called)
                return
            writer.write(data)
            await writer.drain()

    def _piece(self) -> int:
        """Say how much to take at once: little, where connections share a thin line."""
        return max(64, min(1 << 16, round(self.rate / 50))) if self.rate else 1 << 16

    async def _travel(self, way: Way, size: int) -> None:
        if self.delay:
            await asyncio.sleep(self.delay)
        if self.rate:
            now = self._loop.time()
            begin = max(now, self._busy_until[way])
            self._busy_until[way] = begin + size / self.rate
            await asyncio.sleep(self._busy_until[way] - now)
        await self._passes[way].wait()
