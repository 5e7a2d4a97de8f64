"""Each script in ``examples/`` prints what the end of its docstring says."""

import ast
import doctest
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))


def documented_output(script: Path) -> str:
    """Read the block below the line ``Output:``, which ends the docstring."""
    text = ast.get_docstring(ast.parse(script.read_text("utf-8"))) or ""
    _, _, block = text.partition("\nOutput:\n")
    lines = [line.removeprefix("    ") for line in block.strip("\n").splitlines()]
    return "\n".join(lines) + "\n"


def test_there_are_examples_to_run() -> None:
    """The test below does not pass because it found nothing."""
    assert {"quickstart.py", "retries_and_dlq.py"} <= {path.name for path in SCRIPTS}


@pytest.mark.parametrize("script", SCRIPTS, ids=[path.stem for path in SCRIPTS])
def test_an_example_prints_what_its_docstring_says(
    script: Path, tmp_path: Path
) -> None:
    """In an empty folder, without settings, with every warning an error."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("TASKFLOW_") and name != "REDIS_URL"
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", script],
        cwd=tmp_path,
        env={**clean, "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        timeout=25,
    )
    expected = documented_output(script)
    same = doctest.OutputChecker().check_output(expected, done.stdout, doctest.ELLIPSIS)

    assert (0, "") == (done.returncode, done.stderr)
    assert same, f"printed\n{done.stdout}\nand not\n{expected}"


def test_the_readme_shows_the_quickstart_and_its_output() -> None:
    """Whoever copies from the front page gets what the script prints."""
    script = EXAMPLES / "quickstart.py"
    _, _, body = script.read_text("utf-8").partition('"""\n\n')
    readme = (EXAMPLES.parent / "README.md").read_text("utf-8")

    assert f"```python\n{body}```\n" in readme
    assert f"```text\n{documented_output(script)}```\n" in readme
