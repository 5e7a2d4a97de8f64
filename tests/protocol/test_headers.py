"""Every script says what it does, and the slots it names are those it uses."""

import re
from pathlib import Path

import pytest

from taskflow._protocol import scripts

FOLDER = Path(scripts.__file__).parent / "lua"
NAMES = sorted(path.stem for path in FOLDER.glob("*.lua"))
SLOT = re.compile(r"\b(KEYS|ARGV)\[([^\]]*)\]")
UNBOUNDED = re.compile(
    r"'(?:KEYS|SMEMBERS|LREM|FLUSHALL|FLUSHDB)'|LRANGE'[^\n]*, 0, -1"
)


def parts(source: str) -> tuple[list[str], list[str]]:
    """Part a script into the lines of its header and the lines below."""
    lines = source.splitlines()
    end = next(at for at, line in enumerate(lines) if not line.startswith("--"))
    return lines[:end], [re.sub(r"--.*", "", line) for line in lines[end:]]


def documented(header: list[str]) -> set[str]:
    """Give the slots that a header names."""
    return {
        found[1]
        for line in header
        if (found := re.match(r"-- ((?:KEYS|ARGV)\[\d+\])", line))
    }


def used(body: list[str]) -> set[str]:
    """Give the fixed slots that the lines use; a computed index is no slot."""
    found = [match for line in body for match in SLOT.finditer(line)]
    return {match[0] for match in found if match[2].isdigit()}


@pytest.mark.parametrize("name", NAMES)
def test_the_header_names_the_slots_that_are_used(name):
    """What is documented and what is read below are the same."""
    header, body = parts(scripts.load(name).source)

    # Every operation sends the clock and the prefix, needed or not.
    common = {"ARGV[1]", "ARGV[2]"}
    assert documented(header) == used(body) | common


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("word", ["Moves", "Touches", "Returns", "Cost", "Why"])
def test_the_header_has_its_lines(name, word):
    """Each header says what moves, what is touched, returned and spent, and why."""
    header, _ = parts(scripts.load(name).source)

    assert 1 == sum(line.startswith(f"-- {word} ") for line in header)


@pytest.mark.parametrize("name", NAMES)
def test_the_header_opens_with_the_name_of_the_file(name):
    """A script that was found on a server says which it is."""
    header, _ = parts(scripts.load(name).source)

    assert header[0].startswith(f"-- {name}.lua: ")


@pytest.mark.parametrize("name", NAMES)
def test_slots_are_bound_in_the_first_lines(name):
    """No fixed KEYS[n] or ARGV[n] stands below the first lines of the body."""
    _, body = parts((FOLDER / f"{name}.lua").read_text())
    bound = next(
        at
        for at, line in enumerate(body)
        if "KEYS[" not in line and "ARGV[" not in line
    )

    assert set() == used(body[bound:])


@pytest.mark.parametrize(
    "path",
    sorted(FOLDER.rglob("*.lua")),
    ids=lambda path: f"{path.parent.name}-{path.stem}",
)
def test_no_script_does_unbounded_work(path):
    """No command whose cost is the size of a list or of the keyspace."""
    text = path.read_text()
    if path.stem == "repair_placement":
        # On an operator's request: what was proven to stand where it must not.
        text = text.replace("redis.call('LREM', stray.list, -stray.extra, id)", "")
    assert None is UNBOUNDED.search(text)


@pytest.mark.parametrize(
    "path",
    sorted(FOLDER.rglob("*.lua")),
    ids=lambda path: f"{path.parent.name}-{path.stem}",
)
def test_a_script_can_be_read_at_one_sitting(path):
    """Each file stays below 200 lines."""
    assert len(path.read_text().splitlines()) < 200


def test_a_missing_line_is_noticed():
    """The check above can fail: one slot left out of the header differs."""
    header, body = parts(scripts.load("claim").source)
    less = [line for line in header if not line.startswith("-- KEYS[4]")]

    assert {"KEYS[4]"} == used(body) - documented(less)
