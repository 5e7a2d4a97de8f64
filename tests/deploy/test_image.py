"""The commands of the Dockerfile, run without an engine.

What this does not show: that the base images are there, and that they hold what
their names promise.
"""

import itertools
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from attrs import define, field

from tests.deploy.stack import CREATE, FILES, ROOT, Clone
from tests.deploy.topology import topology
from tests.support.service import curl, wait_for_state

pytestmark = [pytest.mark.deep, pytest.mark.timeout(300)]

# A directory of the image; all of them are below the test's own here.
_PLACE = re.compile(r"(?<![\w.])/(opt/taskflow|wheels|build|app)\b")
# The caches of pip are kept here: they would be empty in an image anyway.
_LEFT_OUT = {"PIP_NO_CACHE_DIR"}


def _instructions() -> Iterator[tuple[str, str]]:
    text = (FILES / "Dockerfile").read_text("utf-8")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            word, _, rest = line.strip().partition(" ")
            yield word, rest.strip()


@define
class Built:
    """What the instructions of the stages have made so far.

    Attributes:
        root: Holds the directories of the image.
        environment: The variables that the current stage sets.
        work: The current working directory.
    """

    root: Path
    environment: dict[str, str] = field(factory=dict)
    work: Path = Path()

    def here(self, text: str) -> str:
        """Put the directories that *text* names below the root."""
        return _PLACE.sub(lambda found: f"{self.root}/{found[1]}", text)

    def run(self, script: str) -> str:
        """Run *script* by a shell, as the current stage would."""
        python = str(Path(sys.executable).parent)
        own = {name: self.here(text) for name, text in self.environment.items()}
        path = own.pop("PATH", "").replace("$PATH", "")
        ended = subprocess.run(
            ["sh", "-ec", self.here(script)],
            cwd=self.work,
            env={
                **own,
                "PATH": f"{path}{python}:/usr/local/bin:/usr/bin:/bin",
                "HOME": str(Path.home()),
            },
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert 0 == ended.returncode, f"{script}\n{ended.stdout}\n{ended.stderr}"
        return ended.stdout

    def follow(self, word: str, rest: str) -> None:
        """Carry out one instruction."""
        if word in {"ENV", "ARG"}:
            for name, _, text in (pair.partition("=") for pair in shlex.split(rest)):
                if name not in _LEFT_OUT:
                    self.environment[name] = text
        elif word == "WORKDIR":
            self.work = Path(self.here(rest))
            self.work.mkdir(parents=True, exist_ok=True)
        elif word == "COPY" and not rest.startswith("--from"):
            *sources, target = rest.split()
            for name in sources:
                self._copy(ROOT / name, self.work / target)
        elif word == "RUN":
            self.run(rest)

    def _copy(self, source: Path, target: Path) -> None:
        if source.is_dir():
            left_out = shutil.ignore_patterns("__pycache__", "_build", ".env")
            shutil.copytree(source, target, ignore=left_out)
        else:
            shutil.copy(source, target)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Follow the instructions of the stages that every image has."""
    image = Built(tmp_path_factory.mktemp("image"))
    for word, rest in itertools.takewhile(_is_of_all, _instructions()):
        image.follow(word, rest)
    return image


def _is_of_all(instruction: tuple[str, str]) -> bool:
    return instruction != ("FROM", "base AS test")


def test_every_command_of_the_image_starts(built: Built) -> None:
    """With the extras of the image and nothing that the build left."""
    commands = [
        "taskflow-worker",
        *(f"taskflow {name}" for name in ("api", "scheduler", "dashboard", "reset")),
        *(f"taskflow health {name}" for name in ("api", "worker")),
    ]

    for command in commands:
        assert "Usage:" in built.run(f"{command} --help")


def test_the_image_holds_no_tool_that_builds(built: Built) -> None:
    """Neither pip nor a build backend is beside what runs."""
    installed = set(built.run("ls /opt/taskflow/lib/python*/site-packages").split())

    assert {"taskflow", "taskflow_summarize", "fastapi", "hiredis"} <= installed
    assert installed.isdisjoint({"hatchling", "pip", "setuptools", "wheel"})


def test_what_is_in_the_image_does_the_work(
    built: Built, clone: Clone, tmp_path: Path
) -> None:
    """Its own environment serves and works; no extra is missing."""
    scripts = built.root / "opt/taskflow/bin"
    with topology(
        clone.profile("development"), tmp_path / "up", scripts=scripts
    ) as stack:
        stack.wait_until_healthy(stack.start("redis"))
        names = ("api", "worker", "scheduler", "frontend")
        stack.wait_until_healthy([each for name in names for each in stack.start(name)])

        made = curl(CREATE, stack.address("api")).json()
        ended = wait_for_state(stack.address("api"), made["task_id"], "COMPLETED")
        metrics = httpx.get(f"{stack.address('api')}/metrics")

    assert "This is a test document to summarize." == ended["result"]
    assert 'taskflow_tasks{state="COMPLETED"} 1.0' in metrics.text


def test_the_tests_can_be_run_in_the_test_image(built: Built) -> None:
    """``docker compose exec api python -m pytest`` finds all of them."""
    for word, rest in itertools.dropwhile(_is_of_all, _instructions()):
        built.follow(word, rest)

    printed = built.run("cd /app && python -m pytest --collect-only -q tests")

    assert re.search(r"\d{3,} tests collected", printed)
