"""Run the long suites one after the other, and report: ``nox -s deep``.

A suite that has passed for the same commit, with no change since, is not run again, so
a run that was stopped goes on where it was. Each suite has a limit, and its output is
kept below ``.nox/deep``; ``report.md`` there has one line per suite.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from attrs import asdict, field, frozen

from tests.support import ROOT

FOLDER: Final = ROOT / ".nox" / "deep"
WAITING: Final = ("-n", "4", "--dist", "worksteal")
"""Where tests wait for leases and processes more than they compute."""

_COUNTS: Final = re.compile(r"(\d+) (passed|failed|error|errors|skipped)\b")


@frozen
class Suite:
    """A command that proves something at length.

    Attributes:
        proves: What it shows, for the report and for ``--list``.
        arguments: Of ``pytest``; or of ``nox`` if *in_session*.
        environment: Set for it.
        minutes: Its limit. It is ended then, and has failed.
        in_session: Whether it needs an environment of its own.
        program: Without which it cannot run on this machine.
    """

    proves: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(factory=dict)
    minutes: float = 15.0
    in_session: bool = False
    program: str = ""


def _acceptance(*names: str) -> tuple[str, ...]:
    return tuple(f"tests/acceptance/test_{name}.py" for name in names)


_SUITES_ON_ONE_SERVER: Final = ("tests/protocol", "tests/property")

SUITES: Final = {
    "timing": Suite(
        "bounds of wall time, beside a calibration of the machine",
        ("-m", "deep", "tests/summarize", "tests/integration", "tests/http"),
    ),
    "acceptance": Suite(
        "real processes: upstreams, held locks, the embedded server, pools, documents",
        (
            *("-m", "deep", *WAITING),
            *_acceptance("crash_safety", "upstreams", "held_lock", "embedded", "exits"),
            *("tests/commands", *_acceptance("documents", "schedules")),
        ),
    ),
    "slow links": Suite(
        "claims and settles shrink until they pass a slow link",
        ("-m", "deep", "-n", "2", *_acceptance("slow_links")),
    ),
    "chaos": Suite(
        "random faults of workers and servers, both engines, judged by an outside log",
        ("-s", "-m", "", *_acceptance("chaos")),
        {"TASKFLOW_MINUTES": "2", "TASKFLOW_KILLS": "60"},
        minutes=25.0,
    ),
    "pools": Suite(
        "random kills of the Celery engine's children and workers",
        ("-s", "-m", "", *_acceptance("celery_chaos")),
        {"TASKFLOW_KILLS": "60"},
    ),
    "poison": Suite(
        "each way in which a task can end its process is three crashes, then poison",
        ("-m", "", *WAITING, *_acceptance("poison")),
    ),
    "clocks": Suite(
        "clocks of servers, workers and clients that are wrong or set",
        ("-m", "", *WAITING, *_acceptance("clocks")),
        program="faketime",
    ),
    "disk": Suite("full disks", ("-m", "", *_acceptance("disk"))),
    "partitions": Suite(
        "networks that are cut or lose packets",
        ("-m", "", *_acceptance("partitions")),
        program="iptables",
    ),
    "sentinel": Suite(
        "failovers of a sentinel set", ("-m", "", *_acceptance("sentinel"))
    ),
    "cluster": Suite(
        "nodes that die, slots that move", ("-m", "", *_acceptance("cluster"))
    ),
    "model": Suite(
        "long random sequences on three servers, every third reply lost",
        ("-m", "", "-n", "2", "tests/property", "tests/integration/test_repair.py"),
        {"TASKFLOW_DEPTH": "8"},
        minutes=20.0,
    ),
    "hostile input": Suite(
        "made-up text and values through every door",
        (
            *("-m", "", "-n", "2", "tests/http/test_hostile.py"),
            *("tests/integration/test_hostile.py", "tests/protocol/test_foreign.py"),
            "tests/integration/test_hostile_commands.py",
        ),
        {"TASKFLOW_DEPTH": "8"},
    ),
    "explorer": Suite(
        "every world of eleven small settings and of eleven larger ones",
        ("-s", "-m", "", "tests/explorer"),
        {"TASKFLOW_EXPLORE": "further"},
        minutes=40.0,
    ),
    "contract": Suite(
        "some 10,000 made-up requests against the OpenAPI document",
        ("-s", "tests/contract"),
        {"TASKFLOW_CONTRACT_REQUESTS": "120"},
        minutes=20.0,
    ),
    "deployment": Suite(
        "the image's steps are done, and each profile and the reset are run",
        ("-m", "deep", "tests/deploy"),
    ),
    "restricted users": Suite(
        "the protocol as the users of the ACL file, who may do least",
        ("-n", "2", *_SUITES_ON_ONE_SERVER, *_acceptance("acl")),
        {"TASKFLOW_TEST_SERVERS": "redis", "TASKFLOW_TEST_ACL": "api"},
    ),
    "oldest server": Suite(
        "the protocol, the model and whole workers on Redis 6.2",
        (
            *("-s", "oldest", "--", "-m", "", "tests/property"),
            *_acceptance("acl", "durability"),
        ),
        in_session=True,
    ),
    "other Pythons": Suite(
        "the fast suites on the other Pythons that are installed",
        ("-s", "pythons"),
        in_session=True,
        minutes=30.0,
    ),
    "older Celerys": Suite(
        "the Celery engine on 5.4, 5.5 and 5.6",
        ("-s", "celery"),
        in_session=True,
        minutes=20.0,
    ),
    "shuffled": Suite(
        "the order of the tests does not matter",
        ("-s", "shuffled"),
        in_session=True,
    ),
}


@frozen
class Outcome:
    """What became of a suite.

    Attributes:
        status: ``passed``, ``failed``, ``out of time`` or ``not here``.
        seconds: How long it took.
        counts: What pytest counted: ``31 passed, 2 skipped``.
    """

    status: str
    seconds: float
    counts: str


def run(suite: Suite, log: Path) -> Outcome:
    """Run *suite*, and write what it prints to *log*."""
    if suite.program and shutil.which(suite.program) is None:
        return Outcome("not here", 0.0, f"needs {suite.program}")
    module = "nox" if suite.in_session else "pytest"
    began = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *suite.arguments],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "NO_COLOR": "1", **suite.environment},
            start_new_session=True,
        )
        try:
            code = process.wait(60 * suite.minutes)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    seconds = time.monotonic() - began
    text = log.read_text("utf-8", errors="replace")
    counts = ", ".join(f"{number} {what}" for number, what in _counted(text))
    status = "out of time" if code is None else "failed" if code else "passed"
    if status == "passed" and "passed" not in counts:
        status, counts = "failed", counts or "no test ran"
    return Outcome(status, round(seconds, 1), counts)


def _counted(text: str) -> list[tuple[int, str]]:
    found: dict[str, int] = {}
    for line in text.splitlines():
        if re.search(r" in \d[\d.]*s\b", line):
            for number, what in _COUNTS.findall(line):
                found[what] = found.get(what, 0) + int(number)
    return [(number, what) for what, number in found.items()]


def _git(*arguments: str, **environment: str) -> str:
    return subprocess.run(
        ["git", *arguments],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    ).stdout.strip()


def tree() -> str:
    """Name what is tested: the hash of the files, whether they are committed or not."""
    index = str(FOLDER / "index")
    _git("read-tree", "HEAD", GIT_INDEX_FILE=index)
    _git("add", "--all", GIT_INDEX_FILE=index)
    return _git("write-tree", GIT_INDEX_FILE=index)


def report(outcomes: Mapping[str, Outcome], commit: str) -> str:
    """Write one line per suite as a Markdown table."""
    lines = [
        f"Commit {commit}, {os.cpu_count()} cores, Python {sys.version.split()[0]}.",
        "",
        "| suite | proves | outcome | minutes | tests |",
        "|---|---|---|---:|---|",
    ]
    for name, suite in SUITES.items():
        if name in outcomes:
            each = outcomes[name]
            lines.append(
                f"| {name} | {suite.proves} | {each.status} "
                f"| {each.seconds / 60:.1f} | {each.counts} |"
            )
    total = sum(each.seconds for each in outcomes.values()) / 60
    lines.append(f"| all | | | {total:.1f} | |")
    return "\n".join(lines) + "\n"


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="nox -s deep --", description=__doc__)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help="by default all")
    parser.add_argument("--list", action="store_true", help="print the suites and end")
    parser.add_argument(
        "--again", action="store_true", help="run also what has passed already"
    )
    parser.add_argument(
        "--minutes", type=float, default=120.0, help="start no suite after this long"
    )
    parsed = parser.parse_args(arguments)
    unknown = set(parsed.suites) - set(SUITES)
    if unknown:
        known = ", ".join(SUITES)
        parser.error(
            f"no such suite: {', '.join(sorted(unknown))} (there are: {known})"
        )
    return parsed


def main(arguments: Sequence[str]) -> int:
    """Run what is asked for; return 0 if every suite has passed or cannot run here."""
    parsed = _parsed(arguments)
    if parsed.list:
        for name, suite in SUITES.items():
            print(f"{name:18} {suite.proves}")  # noqa: T201
        return 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    state, key = FOLDER / "state.json", tree()
    known = json.loads(state.read_text("utf-8")) if state.exists() else {}
    outcomes = {
        name: Outcome(**found)
        for name, found in known.get(key, {}).items()
        if found["status"] == "passed" and not parsed.again and name in SUITES
    }
    ends = time.monotonic() + 60 * parsed.minutes
    for name in parsed.suites or SUITES:
        if name in outcomes:
            print(f"{name}: passed before", flush=True)  # noqa: T201
            continue
        if time.monotonic() > ends:
            print(f"{name}: not started, the time is over", flush=True)  # noqa: T201
            outcomes[name] = Outcome("not started", 0.0, "")
            continue
        print(f"{name}: {SUITES[name].proves} ...", flush=True)  # noqa: T201
        log = FOLDER / f"{name.replace(' ', '-')}.log"
        outcomes[name] = run(SUITES[name], log)
        told = outcomes[name]
        where = "" if told.status == "passed" else f" (see {log.relative_to(ROOT)})"
        print(  # noqa: T201
            f"{name}: {told.status}, {told.seconds:.0f} s, {told.counts}{where}",
            flush=True,
        )
        kept = {key: {each: asdict(made) for each, made in outcomes.items()}}
        state.write_text(json.dumps(kept, indent=1), "utf-8")
        commit = _git("rev-parse", "--short", "HEAD")
        (FOLDER / "report.md").write_text(report(outcomes, commit), "utf-8")
    print((FOLDER / "report.md").read_text("utf-8"))  # noqa: T201
    return int(
        any(each.status not in {"passed", "not here"} for each in outcomes.values())
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
