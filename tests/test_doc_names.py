"""The pages name nothing of the packages that isn't there."""

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAME = re.compile(r"(?<![\w./-])(taskflow(?:_summarize)?(?:\.[A-Za-z]\w*)+)")
# Files, loggers and groups of entry points.
OTHERS = {
    *("taskflow.rdb", "taskflow.env", "taskflow.target", "taskflow.audit"),
    *("taskflow.worker", "taskflow.plugins", "taskflow.commands", "taskflow.settings"),
}


def exists(name: str) -> bool:
    """Whether *name* can be imported, or found as an attribute of what can."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found: Any = import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            declared = getattr(found, "__annotations__", {})
            if not hasattr(found, part) and part not in declared:
                return False
            found = getattr(found, part, None)
        return True
    return False


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_name_on_a_page_exists(page: Path) -> None:
    """Modules, classes, functions, methods and attributes."""
    named = set(NAME.findall(page.read_text("utf-8"))) - OTHERS

    assert [] == sorted(name for name in named if not exists(name))
