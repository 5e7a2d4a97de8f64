"""Run the Python snippets of every page, top to bottom, sharing names per page.

A page runs in an empty directory of its own and without settings from outside,
so a snippet that says ``TaskFlow()`` gets an embedded server that dies with it.
README.md stands above this folder: ``PYTHONPATH=docs pytest -p conftest README.md``.
"""

import os
from doctest import ELLIPSIS
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sybil import Sybil
from sybil.parsers.myst import PythonCodeBlockParser, SkipParser

_ORIGIN = Path.cwd()
_opened: list[TemporaryDirectory[str]] = []


def _enter(namespace: dict[str, Any]) -> None:
    directory = TemporaryDirectory(prefix="taskflow-docs-")
    _opened.append(directory)
    namespace["_environ"] = dict(os.environ)
    for name in [name for name in os.environ if name.endswith("REDIS_URL")]:
        del os.environ[name]
    os.chdir(directory.name)


def _leave(namespace: dict[str, Any]) -> None:
    os.chdir(_ORIGIN)
    os.environ.clear()
    os.environ.update(namespace["_environ"])
    _opened.pop().cleanup()


_pages = Sybil(
    parsers=[PythonCodeBlockParser(doctest_optionflags=ELLIPSIS), SkipParser()],
    patterns=["*.md"],
    setup=_enter,
    teardown=_leave,
)
# The argument of that name stays ``docs/..``, which matches no file's path.
_pages.path = Path(__file__).parent.parent.absolute()

pytest_collect_file = _pages.pytest()
