"""The pages that name tests as proofs name nothing that is not there."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from taskflow._protocol import invariants

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "seed-coverage.md").read_text("utf-8")
RULES = (ROOT / "docs" / "concepts" / "invariants.md").read_text("utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE + RULES)))
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


def test_every_rule_names_a_test_that_judges_it() -> None:
    """From the first to the last; those in bold are those of the one checker."""
    rows = re.findall(r"^\| (\**)I(\d+)\** \| .+? \| (.+) \|$", RULES, re.MULTILINE)

    assert list(range(1, 25)) == [int(number) for _, number, _ in rows]
    assert all("::test_" in judges for *_, judges in rows)
    assert {f"I{number}" for bold, number, _ in rows if bold} == set(
        re.findall(r"^(I\d+) ", invariants.__doc__ or "", re.MULTILINE)
    )
