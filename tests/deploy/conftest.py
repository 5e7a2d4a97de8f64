"""A run of its own, ``nox -s deploy``: these tests need docker-compose."""

from pathlib import Path

import pytest

from tests.deploy.stack import Clone


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    """Give the root of a clone, after ``cp .env.example .env``."""
    root = tmp_path / "clone"
    root.mkdir()
    return Clone(root)
