"""The page that goes through what was asked for names nothing that is not there."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "seed-coverage.md").read_text("utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE)))
LINKS = sorted(set(re.findall(r"\]\(([\w/-]+\.md)\)", PAGE)))


@cache
def functions_in(path: str) -> frozenset[str]:
    """Give the names of the functions of a file."""
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, kinds))


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_a_test_that_is_named_as_proof_exists(path: str, name: str) -> None:
    """Whoever renames one mends the page."""
    assert (ROOT / path).exists()
    assert not name or name in functions_in(path)


@pytest.mark.parametrize("link", LINKS)
def test_a_page_that_is_named_exists(link: str) -> None:
    """Beside this one, or below it."""
    assert (ROOT / "docs" / link).exists()


def test_every_line_without_a_proof_says_why() -> None:
    """It comes later, is another program's, or is a page to be read."""
    rows = re.findall(r"^\| (.+?) \| (.+?) \|\s*\|$", PAGE, re.MULTILINE)

    assert 0 < len(rows) < 10
    for asked, here in rows:
        assert re.search(r"later|\]\(|MIT|docker", asked + here), asked
