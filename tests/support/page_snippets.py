"""Run the Python snippets of pages, and compare what they print with the page.

``python -m tests.support.page_snippets PAGE...`` needs no package except the extras
that the pages name; ``nox -s pages`` runs it with exactly these.
"""

import contextlib
import io
import re
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Final

QUICKSTART: Final = "embedded"

_SNIPPET: Final = re.compile(
    r"```python\n(.*?)```\n(?:\n```text\n(.*?)```)?", re.DOTALL
)
_INSTALL: Final = re.compile(
    r"""pip install ["']asynctaskflow\[([\w,]+)\]["']((?: [a-z][\w-]*)*)"""
)


def snippets(text: str) -> list[tuple[str, str]]:
    """Return the snippets of a page, each with what it prints."""
    return _SNIPPET.findall(text)


def requirements(text: str) -> tuple[str, tuple[str, ...]]:
    """Return what a reader of the page has installed.

    Returns:
        The extras, separated by commas: that of the quickstart, which comes before
        every page, and those that the page names. Then the other packages that it
        names beside them, such as ``httpx``.
    """
    found = _INSTALL.findall(text)
    named = {each for extras, _ in found for each in extras.split(",")}
    others = {each for _, names in found for each in names.split()}
    return ",".join(sorted({QUICKSTART, *named})), tuple(sorted(others))


def run(page: Path) -> str:
    """Run the snippets of *page*, top to bottom, as one program in an empty folder.

    Returns:
        What is wrong; empty if every snippet prints what the page shows.
    """
    text = page.read_text("utf-8")
    with (
        tempfile.TemporaryDirectory(prefix="page-") as folder,
        contextlib.chdir(folder),
    ):
        return _wrong_with(snippets(text), page.name)


def _wrong_with(parts: list[tuple[str, str]], page: str) -> str:
    names: dict[str, object] = {"__name__": "page"}
    for code, shown in parts:
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):
                exec(compile(code, page, "exec"), names)  # noqa: S102
        except Exception:  # noqa: BLE001 - a page's mistake, of any type
            return traceback.format_exc()
        if printed.getvalue() != shown:
            return f"the page shows\n{shown}\nthe snippet prints\n{printed.getvalue()}"
    return ""


def main(paths: list[str]) -> int:
    """Run each page; report those that fail.

    Returns:
        How many failed.
    """
    failed = 0
    for path in paths:
        wrong = run(Path(path).absolute())
        failed += bool(wrong)
        sys.stdout.write(f"{path}: {wrong or 'as it says'}\n")
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
