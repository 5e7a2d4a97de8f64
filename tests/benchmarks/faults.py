"""Do the same faults to taskflow and to its peers, and print who loses what.

``python tests/benchmarks/faults.py [--only celery,taskflow] [--case kill,freeze]
[--patience 120] [--jobs 1] [--json FILE] [--logs FOLDER]`` installs each peer into a
venv of its own under ``.nox/peers``, gives each case a server of its own, and prints
a table for each case:

* ``kill``: a machine runs as many tasks as it has slots, another is idle, and every
  process of the first is killed. With the peer's time-outs as they are, and cut.
* ``freeze``: every process of the first is stopped until the other has run its tasks
  again, and then goes on. Whose result is stored? Once more, it goes on while the
  other still runs them. With time-outs cut.
* ``replies``: a proxy drops one reply in 25 with its connection; first between the
  producer and the server, then between the worker and the server. With time-outs cut.

While machines are killed and frozen a trifling task is enqueued every two seconds:
some peers look for what was lost only when there is something to do. What ran is read
from a log of the bodies, never asked of the peer. With ``--json`` the figures of
earlier runs in this file are kept, replaced where a case is run again, and printed.

Figures are reported and never gate anything.
"""

import argparse
import contextlib
import itertools
import json
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from peers import PEERS
from stage import (
    BrokenOffError,
    Machine,
    Run,
    Stage,
    install,
    rest,
    staged,
    stopping,
    wait_until,
)

SECONDS = 8.0  # of a body; longest that every peer runs with its time-outs cut
SHORT = 10  # seconds, of the time-outs where they are cut
FROZEN = 10  # tasks of a machine that is frozen, where it has so many slots
LOSS = 1 / 25  # share of the replies that are lost
OUTAGE = 60.0  # seconds for which the worker's replies are lost, at most
PROBE = 2_000_000  # number of the task that asks whether the worker is alive

Figures = dict[str, Any]


def _again(runs: Iterable[list[Run]], at: float) -> list[float]:
    """Give the seconds from *at* until each task began again, if it did."""
    later = [[run.started for run in each if run.started > at] for each in runs]
    return [min(times) - at for times in later if times]


def _interrupted(stage: Stage, at: float) -> set[int]:
    """Give the numbers of what had begun and not ended at *at*."""
    return {
        number
        for number, (first, *_) in stage.runs().items()
        if first.started <= at and (first.ended is None or first.ended > at)
    }


def _busy_and_idle(stage: Stage, tasks: int) -> Machine:
    """Start a machine that runs *tasks*, then one that has nothing to do."""
    busy = stage.work()
    stage.produce(0, tasks)
    assert wait_until(lambda: len(stage.runs()) == tasks, 60.0), "it does not begin"
    stage.work()
    stage.bustle()
    return busy


def kill(stage: Stage, patience: float) -> Figures:
    """Kill a busy machine beside an idle one."""
    tasks = stage.peer.slots * stage.peer.processes
    busy = _busy_and_idle(stage, tasks)
    at = time.monotonic()
    busy.kill()
    lost = _interrupted(stage, at)
    assert len(lost) == tasks, "some ended before the other machine was there"

    def again() -> list[float]:
        return _again((stage.runs()[number] for number in lost), at)

    wait_until(lambda: len(again()) == len(lost), patience)
    back = again()
    wait_until(
        lambda: all(stage.runs()[number][-1].ended for number in lost), SECONDS + 10.0
    )
    return {
        "running": len(lost),
        "back": len(back),
        "last": max(back, default=None),
        "ended": sum(any(run.ended for run in stage.runs()[number]) for number in lost),
        "patience": patience,
    }


def _frozen(stage: Stage) -> tuple[Machine, float, dict[int, str]]:
    """Freeze a busy machine; give it, when, and the names of its runs."""
    tasks = min(FROZEN, stage.peer.slots * stage.peer.processes)
    busy = _busy_and_idle(stage, tasks)
    at = time.monotonic()
    busy.freeze()
    lost = _interrupted(stage, at)
    assert len(lost) == tasks, "some ended before the other machine was there"
    return busy, at, {number: stage.runs()[number][0].name for number in lost}


def freeze(stage: Stage, patience: float) -> Figures:
    """Freeze a busy machine until another has run its tasks, and let it go on."""
    busy, at, zombies = _frozen(stage)
    lost = set(zombies)

    def taken() -> set[int]:
        """Give the numbers that another machine has run to the end."""
        runs = stage.runs()
        return {n for n in lost if any(run.ended for run in runs[n][1:])}

    wait_until(lambda: taken() == lost, patience)
    over, last = taken(), _again((stage.runs()[n] for n in lost), at)
    busy.thaw()
    wait_until(lambda: all(stage.runs()[n][0].ended for n in lost), 20.0)
    rest(SECONDS + 5.0)  # a third run may have begun
    results = stage.results()
    return {
        "frozen": len(lost),
        "taken": len(over),
        "last": max(last, default=None),
        "woken": sum(stage.runs()[n][0].ended is not None for n in over),
        "third": sum(len(stage.runs()[n]) > 2 for n in over),
        "accepted": sum(results.get(n) == zombies[n] for n in over),
        "successors": sum(
            results.get(n) in {run.name for run in stage.runs()[n][1:]} for n in over
        ),
        "patience": patience,
    }


def overlap(stage: Stage, patience: float) -> Figures:
    """Freeze a busy machine until another has begun its tasks, and let it go on."""
    busy, _, zombies = _frozen(stage)
    wait_until(lambda: all(len(stage.runs()[n]) > 1 for n in zombies), patience)
    busy.thaw()
    wait_until(lambda: all(stage.runs()[n][0].ended for n in zombies), 20.0)
    rest(2.0)
    results, runs = stage.results(), stage.runs()
    running = {
        n
        for n in zombies
        if len(runs[n]) == 2 and all(r.ended is None for r in runs[n][1:])
    }
    return {
        "running": len(running),
        "accepted": sum(results.get(n) == zombies[n] for n in running),
    }


def _settle(stage: Stage, patience: float) -> None:
    """Wait until all that was acknowledged has ended, and nothing begins any more."""

    def ended() -> set[int]:
        return {n for n, runs in stage.runs().items() if any(r.ended for r in runs)}

    wait_until(lambda: stage.sent()[0] <= ended(), patience)
    count, since = -1, 0.0

    def quiet() -> bool:
        nonlocal count, since
        now = sum(map(len, stage.runs().values()))
        if now != count:
            count, since = now, time.monotonic()
        return time.monotonic() - since > stage.peer.quiet

    wait_until(quiet, patience)


def _told(stage: Stage, side: str) -> Figures:
    """Count what was acknowledged, and what became of it."""
    runs = stage.runs()
    acknowledged, raised = stage.sent()
    ended = {n for n, each in runs.items() if any(run.ended for run in each)}
    return {
        f"{side}_acknowledged": len(acknowledged),
        f"{side}_raised": len(raised),
        f"{side}_raised_ran": len(raised & ended),
        f"{side}_lost": len(acknowledged - ended),
        f"{side}_twice": sum(len(each) > 1 for each in runs.values()),
        f"{side}_dropped": stage.proxy.lost,
    }


def enqueues(stage: Stage, patience: float) -> Figures:
    """Lose replies to a producer; the worker has a good connection."""
    stage.work()
    producer = stage.produce(0, stage.peer.tasks, url=stage.proxy.url)
    assert wait_until(lambda: stage.sent()[0], 60.0), "it enqueues nothing"
    stage.proxy.loss = LOSS
    finished = producer.wait(3 * patience)
    stage.proxy.heal()
    stage.bustle()
    _settle(stage, patience)
    return {**_told(stage, "producer"), "producer_finished": finished}


def works(stage: Stage, patience: float) -> Figures:
    """Lose replies to a worker; the producer has a good connection."""
    worker = stage.work(stage.proxy.url)
    stage.produce(0, 20)
    assert wait_until(lambda: len(stage.runs()) == 20, 60.0), "it runs nothing"
    stage.proxy.loss = LOSS
    stage.produce(20, stage.peer.tasks - 20, pace=0.01)
    died, checked = 0, 0.0

    def drained() -> bool:
        nonlocal died, checked
        if time.monotonic() - checked > 1.0:
            died, checked = died + worker.revive(), time.monotonic()
        return len(stage.runs()) == stage.peer.tasks

    wait_until(drained, OUTAGE)
    stage.proxy.heal()
    died += worker.revive()
    stage.produce(PROBE, 1)
    healed = time.monotonic()

    def alive() -> bool:
        runs = [*stage.runs().values(), *stage.runs(extra=True).values()]
        return bool(_again(runs, healed))

    silent = not wait_until(alive, 30.0)
    if silent:
        worker = _replace(stage, worker)
    stage.bustle()
    _settle(stage, patience)
    stuck = _told(stage, "worker")["worker_lost"]
    if stuck:
        _replace(stage, worker)
        _settle(stage, patience)
    told = {"worker_died": died, "worker_silent": silent, "worker_stuck": stuck}
    return {**_told(stage, "worker"), **told}


def _replace(stage: Stage, worker: Machine) -> Machine:
    worker.kill()
    return stage.work()


Case = Callable[[Stage, float], Figures]
# Parts of each case: what is done, how long a body takes, how short time-outs are.
CASES: dict[str, dict[str, tuple[Case, float, int]]] = {
    "kill": {"kill": (kill, SECONDS, 0), "kill_short": (kill, SECONDS, SHORT)},
    "freeze": {
        "freeze": (freeze, SECONDS, SHORT),
        "overlap": (overlap, SECONDS, SHORT),
    },
    "replies": {"enqueues": (enqueues, 0.02, SHORT), "works": (works, 0.02, SHORT)},
}


def measure(name: str, case: str, patience: float, folder: Path) -> Figures:
    """Run the parts of a case with one peer."""
    figures: Figures = {}
    for part, (do, seconds, short) in CASES[case].items():
        inside = folder / f"{name}-{part}"
        try:
            with staged(name, inside, seconds=seconds, short=short) as stage:
                figures[part] = do(stage, patience)
        except BrokenOffError:
            raise
        except Exception as error:  # noqa: BLE001  the others are measured still
            figures[part] = {"error": f"{type(error).__name__}: {error}"}
        print(f"{time.strftime('%H:%M:%S')} {name} {part}: {figures[part]}", flush=True)
    return figures


def _seconds(figures: Figures, whole: str) -> str:
    """Say when the last began again, or how many did not."""
    if "error" in figures:
        return "not measured"
    missing = figures[whole] - figures["back"]
    if not missing:
        return f"{figures['last']:.1f} s"
    return f"{missing} of {figures[whole]} not within {figures['patience']:.0f} s"


def _kill_row(figures: Figures) -> list[str]:
    default, short = figures["kill"], figures["kill_short"]
    return [
        *(str(default.get("running", "")), _seconds(default, "running")),
        *(str(short.get("running", "")), _seconds(short, "running")),
    ]


FREEZE_KEYS = ("frozen", "taken", "accepted", "successors", "third")


def _freeze_row(figures: Figures) -> list[str]:
    told, overlap = figures["freeze"], figures["overlap"]
    if "error" in told or "error" in overlap:
        return ["not measured", *[""] * 6]
    shown = [str(told[key]) for key in FREEZE_KEYS]
    if not told["taken"]:
        shown[2:] = ["not applicable"] * 3
    last = "" if told["last"] is None else f"{told['last']:.1f} s"
    early = f"{overlap['accepted']} of {overlap['running']}"
    if not overlap["running"]:
        early = "none ran then"
    return [*shown[:2], last, *shown[2:], early if told["taken"] else "not applicable"]


def _replies_row(figures: Figures) -> list[str]:
    row: list[str] = []
    for side, part in (("producer", "enqueues"), ("worker", "works")):
        told = figures[part]
        keys = ("dropped", "acknowledged", "raised", "raised_ran", "lost", "twice")
        if side == "worker":
            keys = ("dropped", "acknowledged", "stuck", "lost", "twice")
        row += [str(told.get(f"{side}_{key}", "?")) for key in keys]
    works = figures["works"]
    if "error" in works:
        return [*row, "not measured"]
    told = [f"ended {works['worker_died']} times"] * bool(works["worker_died"])
    told += ["went silent"] * works["worker_silent"]
    return [*row, ", ".join(told) or "yes"]


TABLES: dict[str, tuple[list[str], Callable[[Figures], list[str]]]] = {
    "kill": (
        [
            *("running when killed", "the last began again after"),
            *(f"running, time-outs of {SHORT} s", "the last began again after"),
        ],
        _kill_row,
    ),
    "freeze": (
        [
            *("frozen while running", "run again by another", "the last began after"),
            *("stored result is the zombie's", "the successor's"),
            *("run a third time", "zombie's stored while the successor runs"),
        ],
        _freeze_row,
    ),
    "replies": (
        [
            *("producer: replies lost", "acknowledged", "raised", "of these ran"),
            *("lost", "one call, two runs"),
            *("worker: replies lost", "acknowledged"),
            *("stuck until it is replaced", "lost then", "run twice"),
            "survived",
        ],
        _replies_row,
    ),
}


def report(found: Figures) -> str:
    """Draw a table for each case."""
    parts = []
    for case, (heads, row) in TABLES.items():
        lines = ["| system | " + " | ".join(heads) + " |"]
        lines.append("|---" * (len(heads) + 1) + "|")
        for name in PEERS:
            told = found.get(name, {})
            if case in told:
                version = told["versions"]
                shown = next(iter(version.values()))
                lines.append(
                    f"| {name} {shown} | " + " | ".join(row(told[case])) + " |"
                )
        if len(lines) > 2:
            parts.append(f"### {case}\n\n" + "\n".join(lines))
    versions = {
        name: ", ".join(f"{each} {number}" for each, number in told["versions"].items())
        for name, told in found.items()
    }
    parts.append("\n".join(f"* {name}: {told}" for name, told in versions.items()))
    return "\n\n".join(parts)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Who loses what, and who does not")
    here = [name for name in PEERS if name != "bullmq" or shutil.which("npm")]
    parser.add_argument("--only", default=",".join(here), help="names, with commas")
    parser.add_argument("--case", default=",".join(CASES), help="names, with commas")
    parser.add_argument("--patience", type=float, default=120.0, help="seconds")
    parser.add_argument("--jobs", type=int, default=1, help="systems at a time")
    parser.add_argument("--json", type=Path, help="keep the figures in this file")
    parser.add_argument("--logs", type=Path, help="keep what was written here")
    return parser.parse_args()


def _stop(number: int, frame: object) -> None:
    stopping.set()


def main() -> None:
    """Measure, and print the tables."""
    chosen = _arguments()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    found: Figures = {}
    if chosen.json and chosen.json.exists():
        found = json.loads(chosen.json.read_text("utf-8"))
    names = chosen.only.split(",")
    for name in names:
        found.setdefault(name, {})["versions"] = install(name)
    with contextlib.ExitStack() as ends:
        temporary = tempfile.TemporaryDirectory(
            prefix="tf-", ignore_cleanup_errors=True
        )
        folder = chosen.logs or Path(ends.enter_context(temporary))
        run = folder.resolve() / time.strftime("%H%M%S")
        pool = ends.enter_context(ThreadPoolExecutor(chosen.jobs))
        asked = {
            pair: pool.submit(measure, *pair, chosen.patience, run)
            for pair in itertools.product(names, chosen.case.split(","))
        }
        pairs = {future: pair for pair, future in asked.items()}
        for future in as_completed(pairs):
            name, case = pairs[future]
            with contextlib.suppress(BrokenOffError):
                found[name][case] = future.result()
            if chosen.json:
                chosen.json.write_text(json.dumps(found, indent=1), "utf-8")
    print(report(found))
    if stopping.is_set():
        raise SystemExit(1)


if __name__ == "__main__":
    main()
