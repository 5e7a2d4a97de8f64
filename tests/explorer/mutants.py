"""Change the shipped scripts a little, one change at a time, and see it found.

Every mutant is judged by the explorer first: it is killed when something does not
hold, or when what happens is not what happens without it. One that survives is
judged by the tests of the protocol. ``python -m tests.explorer.mutants`` prints those that
survive both; ``nox -s mutants`` is the same.
"""

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Final, NamedTuple

from tests.explorer.search import BrokenError, Search
from tests.explorer.settings import SMALL
from tests.explorer.store import ScriptError, Store

SCRIPTS: Final = (
    *("enqueue", "claim", "settle", "reap", "extend", "promote"),
    *("cancel", "delete", "discard", "requeue", "prune", "set_upstream"),
)
TESTED: Final = (
    *(
        "repair_placement",
        "repair_record",
        "upsert_schedule",
        "tick",
        "pause_schedule",
        "acquire_permit",
        "release_permit",
        "edit",
    ),
    *(
        "pause",
        "drain",
        "heartbeat",
        "report_progress",
        "audit_append",
        "delete_keys",
        "watch",
    ),
)
"""What nobody calls in the explorer's worlds: the tests alone judge these."""

SHARED: Final = (
    *(
        "admission",
        "dead_letter",
        "crash",
        "ending",
        "list_entries",
        "deliver",
        "history",
    ),
    "idempotency",
    *(
        "indexes",
        "lanes",
        "settle_moves",
        "parking",
        "promote",
        "put_back",
        "quarantine",
    ),
    *(
        "rules",
        "share",
        "snapshot",
        "claim_sources",
        "undo_dead_letter",
        "upstream",
        "outcomes",
        "call_outcomes",
    ),
)
WORLDS: Final = 4_000
ROOT: Final = Path(__file__).parents[2]

_SWAPS: Final = (
    (" == ", " ~= "),
    (" ~= ", " == "),
    (" <= ", " < "),
    (" >= ", " > "),
    (" < ", " <= "),
    (" > ", " >= "),
    (" and ", " or "),
    ("now + ", "now - "),
    ("'PENDING'", "'SCHEDULED'"),
    ("'ACTIVE'", "'PENDING'"),
    ("'COMPLETED'", "'FAILED'"),
    ("'FAILED'", "'COMPLETED'"),
    ("'CANCELLED'", "'FAILED'"),
    ("'SCHEDULED'", "'PENDING'"),
    ("'DLQ'", "'FAILED'"),
    ("'retry'", "'primary'"),
    ("'suspects'", "'retry'"),
)
_CALL: Final = re.compile(r"\s*(?:redis\.p?call|[a-z_]+)\(.*\)\s*")


class Mutant(NamedTuple):
    """One change.

    Attributes:
        file: Stem of the script, or ``_shared/`` and a stem.
        line: Its number, from 1.
        before: The line as it is shipped.
        after: The line as it is tried.
    """

    file: str
    line: int
    before: str
    after: str

    def __str__(self) -> str:
        after = self.after.strip() or "(dropped)"
        return f"{self.file}.lua:{self.line}: {self.before.strip()}  =>  {after}"


@cache
def _text(file: str) -> str:
    folder = resources.files("taskflow._protocol").joinpath("lua")
    return folder.joinpath(f"{file}.lua").read_text(encoding="utf-8")


def mutants() -> Iterator[Mutant]:
    """Give all mutants."""
    for file in (*SCRIPTS, *TESTED, *(f"_shared/{name}" for name in SHARED)):
        for number, line in enumerate(_text(file).splitlines(), start=1):
            code = line.partition(" --")[0]
            if code.lstrip().startswith(("--", "local function", "function")):
                continue
            if _CALL.fullmatch(code) and code.count("(") == code.count(")"):
                yield Mutant(file, number, line, "")
            for old, new in _SWAPS:
                for found in re.finditer(re.escape(old), code):
                    start, end = found.span()
                    yield Mutant(file, number, line, code[:start] + new + code[end:])


def changed(mutant: Mutant) -> dict[str, str]:
    """Give the texts of the scripts that hold the changed line, by name."""
    lines = _text(mutant.file).splitlines()
    lines[mutant.line - 1] = mutant.after
    own = "\n".join(lines)
    shared = mutant.file.removeprefix("_shared/")
    if shared == mutant.file:
        return {mutant.file: _resolved(own, {})}
    mark = f"-- @include {shared}"
    folder = resources.files("taskflow._protocol").joinpath("lua")
    names = (each.name for each in folder.iterdir() if each.name.endswith(".lua"))
    stems = (name.removesuffix(".lua") for name in names)
    return {
        stem: _resolved(_text(stem), {shared: own})
        for stem in stems
        if mark in _text(stem).splitlines()
    }


def _resolved(source: str, changes: Mapping[str, str]) -> str:
    def included(found: re.Match[str]) -> str:
        name = found[1].strip()
        return changes.get(name) or _text(f"_shared/{name}").rstrip("\n")

    return re.sub(r"^-- @include (.*)$", included, source, flags=re.MULTILINE) + "\n"


@cache
def _usual() -> tuple[frozenset[str], ...]:
    found = []
    for setting in SMALL:
        search = Search(setting, Store(), most=WORLDS, drained=7)
        search.run()
        found.append(frozenset(search.happened))
    return tuple(found)


def is_spared(mutant: Mutant) -> bool:
    """Tell whether `spared.txt` has a reason why nobody could see the change."""
    known = Path(__file__).with_name("spared.txt").read_text("utf-8")
    change = f"{mutant.before.strip()}  =>  {mutant.after.strip() or '(dropped)'}"
    return f"{mutant.file}: {change}" in known.splitlines()


def explored(mutant: Mutant) -> str:
    """Judge *mutant* by the explorer.

    Returns:
        What was found; empty when it survives.
    """
    texts = changed(mutant)
    if not texts.keys() & set(SCRIPTS):
        return ""
    for setting, usual in zip(SMALL, _usual(), strict=True):
        search = Search(setting, Store(texts), most=WORLDS, drained=7)
        try:
            search.run()
        except (BrokenError, ScriptError, SyntaxError) as error:
            return str(error).partition("\n")[0][:100]
        if search.happened != usual:
            return f"other things happen: {sorted(search.happened ^ usual)[:2]}"
    return ""


def tested(mutant: Mutant) -> str:
    """Judge *mutant* by the tests of the protocol, on a server in memory.

    Returns:
        The test that fails; empty when it survives.
    """
    texts = changed(mutant)
    # Those that bear the script's name are the likeliest to find it.
    first = [
        f"tests/protocol/{path.name}"
        for path in sorted((ROOT / "tests" / "protocol").glob("test_*.py"))
        if any(name in path.stem for name in texts)
    ]
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(texts, file)
        file.flush()
        ran = subprocess.run(
            [
                *(
                    sys.executable,
                    "-m",
                    "pytest",
                    "-x",
                    "-q",
                    "-p",
                    "tests.explorer.mutated",
                ),
                *("-p", "no:cacheprovider", "-k", "memory and not test_faults"),
                *(*first, "tests/protocol"),
            ],
            cwd=ROOT,
            env=os.environ | {"TASKFLOW_MUTANT": file.name, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", ran.stdout, re.MULTILINE)
    return failed[1] if failed else "" if ran.returncode == 0 else "the run ended"


def judged(mutant: Mutant) -> tuple[str, str]:
    """Judge *mutant*.

    Returns:
        By what it was killed, and how; both empty when it survives.
    """
    found = explored(mutant)
    if found:
        return "explorer", found
    found = tested(mutant)
    return ("tests", found) if found else ("", "")


def main() -> None:
    """Judge all mutants, or some, and print those that survive."""
    parser = argparse.ArgumentParser(description="Mutants of the scripts")
    parser.add_argument("--sample", type=int, default=0, help="only so many")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--file", default="", help="only of this script")
    parser.add_argument("--verbose", action="store_true")
    chosen = parser.parse_args()
    made = [
        each for each in mutants() if chosen.file in each.file and not is_spared(each)
    ]
    if chosen.sample:
        made = random.Random(chosen.seed).sample(made, min(chosen.sample, len(made)))
    killed: Counter[str] = Counter()
    survivors: list[Mutant] = []
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for mutant, (by, how) in zip(made, pool.map(judged, made), strict=True):
            killed[by] += 1
            if chosen.verbose or not by:
                print(f"{by or 'SURVIVES'}: {mutant}: {how}", flush=True)  # noqa: T201
            if not by:
                survivors.append(mutant)
    print(f"{len(made)} mutants, {dict(killed)}")  # noqa: T201
    sys.exit(bool(survivors))


if __name__ == "__main__":
    main()
