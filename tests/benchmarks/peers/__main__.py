"""``python -m peers VERB NAME ...``: work, produce or read in the venv of a peer.

* ``work NAME SLOTS`` becomes a worker.
* ``produce NAME FIRST COUNT PACE`` enqueues numbers, PACE seconds between two, and
  appends to the file ``FAULTS_SENT`` what each call has come to: ``sent NUMBER NAME``
  or ``failed NUMBER ERROR``. No call is made twice.
* ``results NAME`` prints the stored results of what was sent, as JSON.
* ``versions NAME`` prints the versions installed, as JSON.
"""

import asyncio
import contextlib
import importlib.metadata
import json
import os
import sys
from pathlib import Path

from peers import PEERS, load

PATIENCE = 30.0  # seconds for one call of enqueue


def _work(name: str, slots: str) -> None:
    program, *arguments = load(name).worker(int(slots))
    path = str(Path(sys.executable).parent / program)
    os.execv(path, [path, *arguments])  # noqa: S606


def _sent() -> Path:
    return Path(os.environ["FAULTS_SENT"])


def _tell(line: str) -> None:
    with _sent().open("a", encoding="utf-8") as file:
        file.write(line)


async def _produce(name: str, first: str, count: str, pace: str) -> None:
    async with load(name).producer() as producer:
        for number in range(int(first), int(first) + int(count)):
            try:
                async with asyncio.timeout(PATIENCE):
                    line = f"sent {number} {await producer.enqueue(number)}\n"
            except Exception as error:  # noqa: BLE001  whatever a peer raises
                line = f"failed {number} {type(error).__name__}\n"
            _tell(line)
            await asyncio.sleep(float(pace))


async def _results(name: str, lines: list[str]) -> None:
    found: dict[str, str | None] = {}
    async with load(name).producer() as producer:
        for word, number, handle in map(str.split, lines):
            if word == "sent":
                found[number] = None
                with contextlib.suppress(Exception):  # there is none, or an error
                    found[number] = await producer.result(handle)
    print(json.dumps(found))


def _versions(name: str) -> None:
    shown = PEERS[name].shown
    print(json.dumps({each: importlib.metadata.version(each) for each in shown}))


def main(verb: str, name: str, *arguments: str) -> None:
    """Do what *verb* says."""
    if verb == "work":
        _work(name, *arguments)
    elif verb == "produce":
        asyncio.run(_produce(name, *arguments))
    elif verb == "results":
        asyncio.run(_results(name, _sent().read_text("utf-8").splitlines()))
    else:
        _versions(name)


if __name__ == "__main__":
    main(*sys.argv[1:])
