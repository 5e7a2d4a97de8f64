"""The page about settings says what the classes say."""

from pathlib import Path

import attrs
import pytest

from taskflow._settings import LogSettings, QueueSettings, RedisSettings, WorkerSettings

PAGE = Path(__file__).parent.parent.parent / "docs" / "reference" / "settings.md"
CLASSES = (RedisSettings, QueueSettings, WorkerSettings, LogSettings)


def documented() -> dict[str, tuple[str, str]]:
    """Read bound and default of each row, by its variables."""
    rows = [
        [cell.strip() for cell in line.strip("| \n").split(" | ")]
        for line in PAGE.read_text("utf-8").splitlines()
        if line.startswith("| `")
    ]
    return {row[0]: (row[1], row[2]) for row in rows}


def shown(default: object) -> str:
    """Write a default as the page does."""
    if default in {None, ""}:
        return "none"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_each_setting_is_on_the_page_with_bound_and_default(cls: type) -> None:
    """So that nobody has to read the code to configure a worker."""
    rows = documented()
    expected = {}
    for field in attrs.fields(cls):
        variables = ", ".join(f"`{name}`" for name in field.metadata["variables"])
        bound = field.metadata["kind"].bound.replace(
            "a duration such as 30, 30s, 5m, 2h or 500ms", "a duration"
        )
        expected[variables] = (bound, shown(getattr(cls(), field.name)))

    assert expected == {name: rows.get(name) for name in expected}


def test_the_page_has_no_setting_that_is_not_there() -> None:
    """What was removed is removed here too."""
    known = sum(len(attrs.fields(cls)) for cls in CLASSES)

    assert known == len(documented())
