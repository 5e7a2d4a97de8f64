"""The page about settings says what the classes say.

``python tests/unit/test_settings_page.py`` writes the part that is made of them.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskflow._settings.environment import (
    FOR_PROCESS_POOLS,
    OWN,
    check_settings,
    find_sources,
    plugged_classes,
    spellings,
)
from taskflow.cli.config import Row, rows_of, strangers

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "reference" / "settings.md"
EXAMPLE = ROOT / ".env.example"
MARK = "<!-- written by: python tests/unit/test_settings_page.py -->\n"


def all_rows() -> Iterator[tuple[str, list[Row]]]:
    """Give the settings of each class, ours and those of plugins, by its summary."""
    problems: list[str] = []
    for cls in (*OWN, *plugged_classes(problems)):
        title = (cls.__doc__ or "").splitlines()[0].rstrip(".")
        yield title, list(rows_of(cls, find_sources({}, None, [])))
    assert [] == problems


def written() -> str:
    """Write the part of the page that is made of the classes."""
    parts = []
    for title, rows in all_rows():
        table = [
            "| variable | what it may be | default | effect |",
            "|---|---|---|---|",
        ]
        for row in rows:
            names = ", ".join(f"`{name}`" for name in (row.variable, *row.others))
            default = "none" if row.default == "none" else f"`{row.default}`"
            effect = row.effect.replace("``", "`")
            cells = (names, row.may_be.replace("|", "or"), default, effect)
            table.append(f"| {' | '.join(cells)} |")
        parts.append(f"## {title}\n\n" + "\n".join(table) + "\n")
    return "\n".join(parts)


def test_the_page_is_the_one_that_would_be_written() -> None:
    """Every setting with its names, its bound, its default and its effect."""
    _, _, found = PAGE.read_text("utf-8").partition(MARK)

    assert written() == found.lstrip("\n")


def test_every_setting_says_what_it_does() -> None:
    """In a sentence, without the names of its variables."""
    silent = [row.variable for _, rows in all_rows() for row in rows if not row.effect]

    assert [] == silent


def example() -> dict[str, str]:
    """Read the names and values of the example file, those behind a ``#`` too."""
    text = EXAMPLE.read_text("utf-8")
    return dict(re.findall(r"^(?:# )?([A-Z][A-Z_]+)=(.*)$", text, re.MULTILINE))


def test_every_setting_is_in_the_example_file() -> None:
    """So that a reader finds what there is to set."""
    named = example()

    missing = [
        row.variable
        for _, rows in all_rows()
        for row in rows
        if not {row.variable, *row.others} & named.keys()
    ]
    assert [] == missing


@pytest.mark.parametrize("part", ["worker", "scheduler", "api"])
def test_the_example_file_stops_no_start(part: str) -> None:
    """As it stands, and nothing in it is read by nobody."""
    check_settings(part, {}, dotenv=EXAMPLE)

    sources = find_sources({}, EXAMPLE, [])
    assert [] == list(strangers(sources, [*OWN, *plugged_classes([])]))


def test_a_default_in_the_example_file_is_the_one_in_the_code() -> None:
    """Whoever takes the ``#`` away changes nothing."""
    known = example()
    sources = find_sources(known | dict.fromkeys(FOR_PROCESS_POOLS, ""), None, [])
    told = {
        "CELERY_WORKER_CONCURRENCY",
        "REDIS_URL",
        "TASKFLOW_ACCESS",
        "TASKFLOW_EXECUTOR",
    }
    differing = [
        row.variable
        for title in [*OWN, *plugged_classes([])]
        for row in rows_of(title, sources)
        if row.value != row.default and row.variable not in told
    ]

    assert [] == differing


def test_a_misspelt_variable_is_answered_with_the_right_one() -> None:
    """Names of ours only; what others set is not our business."""
    sources = find_sources({"TASKFLOW_LEESE": "1", "LEESE": "1"}, None, [])

    assert [
        "TASKFLOW_LEESE (environment) is read by nobody; did you mean TASKFLOW_LEASE?"
    ] == list(strangers(sources, OWN))
    assert ["TASKFLOW_LEASE"] == spellings(["TASKFLOW_LEASE"])


if __name__ == "__main__":
    before, _, _ = PAGE.read_text("utf-8").partition(MARK)
    PAGE.write_text(f"{before}{MARK}\n{written()}", "utf-8")
